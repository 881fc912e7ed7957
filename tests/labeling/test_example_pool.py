"""The example pool that is wired to Label Studio, as its README says, with the real server."""

import os
import re
import subprocess
import sys
from pathlib import Path

import duckdb
import polars as pl
import pytest

from label_studio import LEGACY, annotate

pytestmark = pytest.mark.slow

PROJECT = Path(__file__).parents[2]
README = PROJECT / "pipelines" / "labeling" / "defs" / "labeled_digits" / "README.md"
BIN = Path(sys.executable).parent


def test_the_commands_of_the_readme(server, tmp_path):
    address, launch = re.findall(r"^(?:export|dg launch) .*$", README.read_text(), re.M)
    address = address.replace("http://127.0.0.1:8080", server).replace("<your token>", LEGACY)
    environment = os.environ | {
        "LABELING_DATA_FOLDER": str(tmp_path),
        "DAGSTER_DISABLE_TELEMETRY": "true",
        "DAGSTER_HOME": str(tmp_path),
        "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
    }

    def run():
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", f"{address}\n{launch}"],
            cwd=PROJECT / "pipelines", env=environment, capture_output=True, text=True, timeout=300, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr

    run()
    sent = "SELECT task_id, image_id, batch FROM labeled_digits.labeling_tasks WHERE state = 'sent' ORDER BY batch, position"
    with duckdb.connect(str(tmp_path / "labeling.duckdb")) as connection:
        ((task, image_id, _), *others) = connection.execute(sent).fetchall()
    assert len(others) == 19
    annotate(server, task, "3")
    run()
    labels = pl.read_csv(
        tmp_path / "labeled_digits" / "labels.csv", schema_overrides={"label": pl.String}
    )
    assert labels.filter(pl.col("image_id") == image_id)["label"].to_list() == ["3"]
    assert labels.height == 51
    with duckdb.connect(str(tmp_path / "labeling.duckdb")) as connection:
        assert [batch for *_, batch in connection.execute(sent).fetchall()] == [1] * 20 + [2] * 20
