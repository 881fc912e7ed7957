"""A process of a set in place is killed: what readers see, and what is done again."""

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from functools import partial

import duckdb
import numpy as np
import pytest

from dagster_active_learning import LocalWorkers
from dagster_active_learning.store.pool_store import PoolStore
from in_place import assert_equal, commit, copied, pool_store, random_probs, scored, tables, write
from worker_tasks import killed_at_its_end

KILLED = """
import os, signal, sys
from in_place import scored
from dagster_active_learning import LocalWorkers

class Killed:
    def run(self, function, tasks, *report):
        for number, result in enumerate(LocalWorkers(1).run(function, tasks, *report)):
            yield result
            if number == 1:
                os.kill(os.getpid(), signal.SIGKILL)

scored(sys.argv[1], sys.argv[2], engine=Killed())
"""


def write_files(folder, *, spread, seed=0):
    rng = np.random.default_rng(seed)
    for file in range(4):
        ids = [f"{file}-{row:04d}" for row in range(200)]
        if spread:
            ids = [f"image {number}" for number in rng.integers(500, size=200)]
        write(folder / f"p{file}.parquet", ids, random_probs(rng, 200))
    return str(folder / "*.parquet")


def run(script, *arguments):
    """Begin a process; the arguments are those of its script."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    return subprocess.Popen([sys.executable, "-c", script, *map(str, arguments)], env=environment)


@pytest.mark.parametrize("spread", [False, True])
def test_a_run_that_was_killed_goes_on_where_it_was(tmp_path, spread):
    path, storage = write_files(tmp_path, spread=spread), tmp_path / "storage"
    database = tmp_path / "pool.duckdb"
    with pool_store(database).connection as connection:
        connection.execute("CREATE TABLE mine AS SELECT 1")
    before = database.read_bytes()
    assert run(KILLED, path, storage).wait(300) == -signal.SIGKILL
    assert database.read_bytes() == before
    files = scored(path, storage, engine=LocalWorkers(1))
    assert sum(not file.is_new for file in files.files) in (2, 3), "another may have been finished"
    store = pool_store(database)
    commit(store, files)
    assert_equal(tables(store), tables(copied(path)))


KILLED_AT_ITS_COMMIT = """
import os, signal, sys, time
from pathlib import Path
from dagster_active_learning.flow import commit_in_place
from in_place import InThisProcess, commit, pool_store, scored

path, storage, database, folder = sys.argv[1:]

class Waiting(InThisProcess):
    def run(self, function, tasks, *report):
        for result in super().run(function, tasks, *report):
            Path(folder, "at work").touch()
            while not Path(folder, "go on").exists():
                time.sleep(0.01)
            yield result

def killed(*_):
    os.kill(os.getpid(), signal.SIGKILL)

commit_in_place.add_predicted_classes = killed
files = scored(path, storage, engine=Waiting())
commit(pool_store(database), files)
"""


@pytest.mark.parametrize("spread", [False, True])
def test_until_the_commit_readers_see_the_former_set_and_what_was_scored_is_not_read_again(
    tmp_path, spread
):
    """All is in the transaction when the process is killed; its files are others than before."""
    path, storage = write_files(tmp_path, spread=spread, seed=1), tmp_path / "storage"
    database, query = tmp_path / "labeling.duckdb", "FROM pool.image_scores ORDER BY image_id"
    with duckdb.connect(str(database)) as connection:
        commit(PoolStore(connection, "pool"), scored(path, storage))
        former = connection.execute(query).fetchall()
    write_files(tmp_path, spread=spread, seed=2)
    killed = run(KILLED_AT_ITS_COMMIT, path, storage, database, tmp_path)
    while not (tmp_path / "at work").exists():
        assert killed.poll() is None
        time.sleep(0.05)
    with duckdb.connect(str(database), read_only=True) as reader:
        assert reader.execute(query).fetchall() == former
    (tmp_path / "go on").touch()
    assert killed.wait(300) == -signal.SIGKILL
    with duckdb.connect(str(database)) as connection:
        assert connection.execute(query).fetchall() == former
        files = scored(path, storage)
        assert [file.is_new for file in files.files] == [False] * 4
        store = PoolStore(connection, "pool")
        commit(store, files)
        assert_equal(tables(store), tables(copied(path)))


class OneKilled:
    """Workers of which one is killed at the end of a task."""

    def __init__(self, notes, name):
        self.notes, self.name = notes, name

    def run(self, function, tasks, *report):
        killing = partial(killed_at_its_end, function, self.notes, self.name)
        yield from LocalWorkers(2).run(killing, tasks, *report)


@pytest.mark.slow
@pytest.mark.parametrize(("spread", "name"), [(False, "00000001"), (True, "00000001"), (True, "bucket-000000")])  # fmt: skip
def test_a_set_of_which_a_worker_is_killed_is_equal_and_one_task_is_done_again(
    tmp_path, spread, name
):
    path, notes = write_files(tmp_path, spread=spread), tmp_path / "notes"
    notes.mkdir()
    store = pool_store()
    commit(store, scored(path, tmp_path / "storage", engine=OneKilled(str(notes), name)))
    assert_equal(tables(store), tables(copied(path)))
    begun = Counter(note.name.partition(" ")[0] for note in notes.iterdir())
    expected = [f"{place:08d}" for place in range(4)] + ["bucket-000000"] * spread
    assert begun == Counter([*expected, name])
