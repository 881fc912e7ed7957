"""A step that is ended while its tasks run: nothing of them is left, and the database is as before."""

import os
import signal
import subprocess
import sys
import time

import duckdb
import pytest

from dagster_active_learning import RayTasks
from in_place import write

pytestmark = pytest.mark.slow

DEFINITIONS = """
import os
from pathlib import Path
import dagster as dg
from dagster_duckdb import DuckDBResource
from dagster_active_learning import (
    LocalWorkers, PredictionFiles, RayTasks, active_learning_definitions
)
from worker_tasks import note_process

ENGINE = {engine}

class Waiting:
    def run(self, *_):
        Path({folder!r}, "step").write_text(str(os.getpid()))
        yield from ENGINE.run(note_process, [{processes!r}] * 2)

files = PredictionFiles({folder!r} + "/*.parquet", "parquet", in_place=True)
defs = dg.Definitions.merge(
    active_learning_definitions(
        pool="pool", predictions=files, storage={folder!r} + "/storage", engine=Waiting()
    ),
    dg.Definitions(
        resources={{"duckdb": DuckDBResource(database={folder!r} + "/pool.duckdb")}}
    ),
)
"""


FILLED = """
SELECT table_name FROM duckdb_tables()
WHERE schema_name = 'pool' AND table_name LIKE '%prediction%' AND estimated_size > 0
"""


def is_running(process):
    try:
        with open(f"/proc/{process}/stat", encoding="utf-8") as status:
            return status.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def wait_until(holds):
    while not holds():
        time.sleep(0.1)


def end_by_keys(run, folder):
    """Ctrl-C reaches all processes of the terminal."""
    os.killpg(run.pid, signal.SIGINT)


def end_as_dagster_does(run, folder):
    run.send_signal(signal.SIGTERM)


def kill_the_step(run, folder):
    os.kill(int((folder / "step").read_text()), signal.SIGKILL)


@pytest.fixture
def ray_cluster():
    from ray import cluster_utils

    head = {"num_cpus": 2, "include_dashboard": False, "object_store_memory": 80 * 2**20}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join(filter(None, sys.path)))
        patch.setenv("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
        cluster = cluster_utils.Cluster(initialize_head=True, head_node_args=head)
        yield cluster
        cluster.shutdown()


WAYS = [
    ("local", end_by_keys),
    ("local", end_as_dagster_does),
    ("local", kill_the_step),
    ("ray", end_by_keys),
    ("ray", end_as_dagster_does),
    ("ray", kill_the_step),
]


@pytest.mark.parametrize(("kind", "end"), WAYS)
def test_no_task_is_left(tmp_path, request, kind, end):
    engine = "LocalWorkers(2)"
    if kind == "ray":
        engine = repr(RayTasks(request.getfixturevalue("ray_cluster").address))
    processes = tmp_path / "processes"
    for folder in (processes, tmp_path / "home"):
        folder.mkdir()
    write(tmp_path / "may.parquet", ["a"], [[0.5, 0.5]])
    code = DEFINITIONS.format(engine=engine, folder=str(tmp_path), processes=str(processes))
    (tmp_path / "definitions.py").write_text(code)
    environment = {
        **os.environ,
        "DAGSTER_HOME": str(tmp_path / "home"),
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
    }
    command = [sys.executable, "-m", "dagster", "asset", "materialize"]
    command += ["--select", "pool/predictions", "-f", str(tmp_path / "definitions.py")]
    with (tmp_path / "output.txt").open("w") as output:
        run = subprocess.Popen(
            command, env=environment, stdout=output, stderr=output, start_new_session=True
        )
        wait_until(lambda: run.poll() is not None or len([*processes.iterdir()]) == 2)
        workers = [int(path.name) for path in processes.iterdir()]
        assert len(workers) == 2, (tmp_path / "output.txt").read_text()
        end(run, tmp_path)
        assert run.wait(timeout=120) != 0
    # A task waits for a minute, and is looked at before that.
    began = time.monotonic()
    wait_until(lambda: not any(map(is_running, workers)) or time.monotonic() - began > 20)
    assert not any(map(is_running, workers))
    output = (tmp_path / "output.txt").read_text()
    assert ("DagsterExecutionInterruptedError" in output) == (end is not kill_the_step)
    assert "SystemError" not in output
    with duckdb.connect(str(tmp_path / "pool.duckdb")) as connection:
        filled = connection.execute(FILLED).fetchall()
    assert not filled
