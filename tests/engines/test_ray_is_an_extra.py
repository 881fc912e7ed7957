"""Ray is loaded by tasks alone, and its absence says what to install."""

import subprocess
import sys

import pytest

from dagster_active_learning import RayTasks
from dagster_active_learning.errors import EngineError, SettingError
from worker_tasks import square


def test_definitions_do_not_load_ray():
    code = """
import sys
from dagster_active_learning import PredictionFiles, RayTasks, active_learning_definitions
files = PredictionFiles("p.parquet", "parquet", in_place=True)
active_learning_definitions(pool="pool", predictions=files, storage="s", engine=RayTasks())
sys.exit("ray" in sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_without_ray_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(EngineError, match=r"dagster-active-learning\[ray\]"):
        list(RayTasks().run(square, [1]))


@pytest.mark.parametrize(
    ("settings", "fault"),
    [({"address": ""}, "ray://host"), ({"environment": "AWS_PROFILE"}, "list of names")],
)
def test_wrong_settings_are_refused(settings, fault):
    with pytest.raises(SettingError, match=fault):
        RayTasks(**settings)
