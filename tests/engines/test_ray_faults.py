"""What ends, waits or fails on a Ray cluster: what is told, what is left, what is done again."""

import os
import signal
import subprocess
import sys

import numpy as np
import pytest

from dagster_active_learning import RayTasks
from dagster_active_learning.engines import ray_tasks
from dagster_active_learning.errors import EngineError, PredictionReadError
from dagster_active_learning.flow import scored_files
from in_place import assert_equal, commit, copied, pool_store, random_probs, scored, tables, write
from two_nodes import two_nodes
from worker_tasks import always_killed, cannot_be_sent, note_node, note_process, refuse_and_note

pytestmark = pytest.mark.slow

BUCKET_ROWS = 300


@pytest.fixture(scope="module")
def cluster():
    with two_nodes() as running:
        yield running


@pytest.fixture
def engine(cluster):
    return RayTasks(cluster.address)


KILLED = """
import os, signal, sys
from dagster_active_learning import RayTasks
from dagster_active_learning.flow import scored_files
from in_place import scored

path, storage, address, wave = sys.argv[1:]
scored_files.ROWS_PER_BUCKET = {rows}

class Killed:
    waves = 0

    def run(self, *wave_of_tasks):
        self.waves += 1
        for result in RayTasks(address).run(*wave_of_tasks):
            yield result
            if self.waves == int(wave):
                os.kill(os.getpid(), signal.SIGKILL)

scored(path, storage, engine=Killed())
"""


@pytest.mark.parametrize(("spread", "wave"), [(False, 1), (True, 2)])
def test_a_step_that_was_killed_goes_on_where_it_was(tmp_path, engine, monkeypatch, spread, wave):
    rng = np.random.default_rng(0)
    for file in range(4):
        ids = [f"{file}-{row:03d}" for row in range(200)]
        if spread:
            ids = [f"image {number}" for number in rng.integers(500, size=200)]
        write(tmp_path / f"p{file}.parquet", ids, random_probs(rng, 200))
    path, storage, said = tmp_path / "*.parquet", tmp_path / "storage", []
    arguments = [str(path), str(storage), engine.address, str(wave)]
    command = [sys.executable, "-c", KILLED.format(rows=BUCKET_ROWS), *arguments]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    killed = subprocess.run(command, env=environment, check=False)
    assert killed.returncode == -signal.SIGKILL
    monkeypatch.setattr(scored_files, "ROWS_PER_BUCKET", BUCKET_ROWS)
    files = scored(path, storage, engine=engine, report=said.append)
    done_before = sum(not file.is_new for file in files.files)
    assert done_before == 4 if wave == 2 else done_before >= 1
    assert any("buckets" in line and "were done before" in line for line in said) == (wave == 2)
    store = pool_store()
    commit(store, files)
    assert_equal(tables(store), tables(copied(path)))


def test_a_file_that_is_refused_is_read_once(tmp_path, engine):
    with pytest.raises(PredictionReadError, match="is no file"):
        list(engine.run(refuse_and_note, [str(tmp_path)]))
    assert len([*tmp_path.iterdir()]) == 1


def test_a_task_that_ends_every_worker_is_named(engine, monkeypatch):
    monkeypatch.setattr(ray_tasks, "RETRIES", 1)
    words = "^workers were lost again and again over one task: the task; the last one so: "
    with pytest.raises(EngineError, match=words):
        list(engine.run(always_killed, ["the task"]))


def test_an_error_that_cannot_be_sent_is_no_lost_worker(engine):
    with pytest.raises(EngineError, match="^NeedsTwo: one and two\nin a worker, over two:\n"):
        list(engine.run(cannot_be_sent, ["two"]))


def test_it_is_said_that_no_task_ends(tmp_path, engine, monkeypatch):
    monkeypatch.setattr(ray_tasks, "SECONDS_OF_SILENCE", 2)
    said = []

    def report(text):
        said.append(text)
        raise KeyboardInterrupt

    waiting = engine.run(note_process, [str(tmp_path)] * 3, report)
    with pytest.raises(KeyboardInterrupt):
        next(waiting)
    (text,) = said
    assert text.startswith("3 tasks run or wait on Ray, none has ended for 2 seconds: ")
    assert text.endswith("the cluster has 2 processors, of which 0 are free; a task takes one")


def test_a_task_that_takes_all_memory_is_named(tmp_path, monkeypatch):
    """Ray itself begins it again, forever."""
    monkeypatch.setattr(ray_tasks, "RETRIES", 1)
    monkeypatch.delenv(ray_tasks.OUT_OF_MEMORY_RETRIES, raising=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_memory_usage_threshold", "0.001")
        patch.setenv("RAY_memory_monitor_refresh_ms", "100")
        words = "over one task: .*running low on memory"
        with two_nodes() as running, pytest.raises(EngineError, match=words):
            list(RayTasks(running.address).run(note_process, [str(tmp_path)]))
    assert len([*tmp_path.iterdir()]) <= 2


def test_a_session_folder_that_is_too_long_is_named(tmp_path, monkeypatch):
    (tmp_path / ("x" * 90)).mkdir()
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path / ("x" * 90)))
    with pytest.raises(EngineError, match="at 'local' cannot be used: .*107 bytes: .*xxx"):
        list(RayTasks("local").run(note_node, [str(tmp_path / "note")]))
