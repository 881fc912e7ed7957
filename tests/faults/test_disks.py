"""A full disk and a read-only one: the error says what to do, and the former state is there."""

import os
import random
import shutil
import subprocess
from collections import Counter

import pytest

from faults.pool import state, write_set

pytestmark = pytest.mark.faults

STEPS = ("ingest", "score", "rank")
MEBIBYTE = 2**20


@pytest.fixture
def disk(tmp_path):
    """A small file system in memory, and a function that mounts it anew with other options."""
    folder = tmp_path / "disk"
    folder.mkdir()

    def mount(options):
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder]
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        if done.returncode:
            pytest.skip(f"no file system can be mounted: {done.stderr}")

    mount("size=64m")
    yield folder, lambda options: mount(f"remount,{options}")
    # As soon as nobody uses it: the process that ran the steps keeps a descriptor of the database.
    subprocess.run(["umount", "--lazy", folder], check=True)


@pytest.fixture(scope="module")
def stages(worker, tmp_path_factory):
    """A function that runs a step and returns its error, and the state before and after each."""
    folder = tmp_path_factory.mktemp("stages")
    old, new, made = folder / "old.parquet", folder / "new.parquet", folder / "made.duckdb"
    write_set(old, 40_000, 10, seed=1)
    write_set(new, 50_000, 12, seed=2)

    def run(database, step, predictions=new):
        return worker.step(predictions, database, step)[0]

    for step in STEPS:
        assert run(made, step, old) is None
    before = {}
    for step in STEPS:
        before[step] = folder / f"before_{step}.duckdb"
        shutil.copy(made, before[step])
        assert run(made, step) is None
    after = {"ingest": before["score"], "score": before["rank"], "rank": made}
    return run, before, after


@pytest.mark.parametrize("step", STEPS)
def test_a_full_disk(long, disk, stages, step):
    folder, _ = disk
    run, before, after = stages
    former, wanted = state(before[step]), state(after[step])
    assert former != wanted
    database, filler = folder / "full.duckdb", folder / "filler"
    chance = random.Random(step)
    count = Counter()
    times = 30 if long else 4
    for turn in range(times):
        shutil.copy(before[step], database)
        left = 0 if not turn else int(chance.expovariate(1 / (2 * MEBIBYTE)))
        room = shutil.disk_usage(folder).free
        with filler.open("wb") as file:
            file.truncate(0)
            file.write(bytes(max(room - left, 0)))
        error = run(database, step)
        filler.unlink()
        count["failed" if error else "done"] += 1
        if error:
            for words in (str(database), "a disk is full", "No space left", "make room"):
                assert words in error
        # What was done is there, what failed is not.
        assert state(database) == (former if error else wanted)
        assert run(database, step) is None
        assert state(database) == wanted
        for file in [one for one in folder.rglob("*") if one.is_file()]:
            # The process that ran the step keeps a descriptor, which would keep the room as well.
            os.truncate(file, 0)
            file.unlink()
    print(f"\n{step} on a full disk: {dict(count)} of {times}, the rest of the room was random")
    assert count["failed"]


@pytest.mark.parametrize("step", STEPS)
def test_a_read_only_disk(disk, stages, step):
    folder, remount = disk
    run, before, after = stages
    database = folder / "read_only.duckdb"
    shutil.copy(before[step], database)
    remount("ro")
    error = run(database, step)
    for words in (str(database), "cannot be written", "Read-only file system", "right to write"):
        assert words in error
    assert state(database) == state(before[step])
    remount("rw")
    assert run(database, step) is None
    assert state(database) == state(after[step])


def test_a_database_that_cannot_be_made(disk, stages):
    folder, remount = disk
    run, _, _ = stages
    remount("ro")
    error = run(folder / "new.duckdb", "ingest")
    assert "cannot be written" in error
    assert not list(folder.iterdir())
