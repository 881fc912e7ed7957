"""The process that drives the tasks of a set is killed: what readers see, and what is done again."""

import os
import signal
import subprocess
import sys

import numpy as np
import pytest

from dagster_active_learning import LocalWorkers
from in_place import assert_equal, commit, copied, pool_store, random_probs, scored, tables, write

KILLED = """
import os, signal, sys
from in_place import scored
from dagster_active_learning import LocalWorkers

class Killed:
    def run(self, function, tasks):
        for number, result in enumerate(LocalWorkers(1).run(function, tasks)):
            yield result
            if number == 1:
                os.kill(os.getpid(), signal.SIGKILL)

scored(sys.argv[1], sys.argv[2], engine=Killed())
"""


@pytest.mark.parametrize("spread", [False, True])
def test_a_run_that_was_killed_goes_on_where_it_was(tmp_path, spread):
    rng = np.random.default_rng(0)
    path, storage = str(tmp_path / "*.parquet"), tmp_path / "storage"
    for file in range(4):
        ids = [f"{file}-{row:04d}" for row in range(200)]
        if spread:
            ids = [f"image {number}" for number in rng.integers(500, size=200)]
        write(tmp_path / f"p{file}.parquet", ids, random_probs(rng, 200))
    database = tmp_path / "pool.duckdb"
    with pool_store(database).connection as connection:
        connection.execute("CREATE TABLE mine AS SELECT 1")
    before = database.read_bytes()
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, "-c", KILLED, path, str(storage)]
    killed = subprocess.run(command, env=environment, timeout=300, check=False)
    assert killed.returncode == -signal.SIGKILL
    assert database.read_bytes() == before
    files = scored(path, storage, engine=LocalWorkers(1))
    assert sum(not file.is_new for file in files.files) in (2, 3), "another may have been finished"
    store = pool_store(database)
    commit(store, files)
    assert_equal(tables(store), tables(copied(path)))
