"""SIGKILL at any moment leaves the former state or the new one, and a re-run makes it the new."""

import random
import shutil
import statistics
import time
from collections import Counter

import pytest

from faults.children import Child, run_steps
from faults.pool import state, write_set

pytestmark = pytest.mark.faults


def test_a_killed_step_leaves_the_former_state_or_the_new_one(long, processes, worker, tmp_path):
    kills, rows = (50, 300_000) if long else (5, 100_000)
    old, new, work = tmp_path / "old.parquet", tmp_path / "new.parquet", tmp_path / "work.duckdb"
    # Another number of images and of classes, other ids and other rows in quarantine.
    write_set(old, rows, 10, seed=1)
    write_set(new, rows * 3 // 4, 12, seed=2)

    # Each step from where the one before has ended; the first in a database that is not there yet.
    made = {name: tmp_path / f"{name}.duckdb" for name in ("old", "ingested", "scored", "ranked")}
    for name in ("ingest", "score", "rank"):
        assert worker.step(old, made["old"], name)[0] is None
    stages = [
        ("first ingest", "ingest", None, None),
        ("ingest", "ingest", "old", "ingested"),
        ("score", "score", "ingested", "scored"),
        ("rank", "rank", "scored", "ranked"),
    ]

    def step(predictions, database, name):
        error, seconds = worker.step(predictions, database, name)
        assert error is None
        return seconds

    chance = random.Random(0)
    print(f"\nkilled {kills} times each, {rows:,} predictions x 10 classes, then x 12")
    print("| step | undisturbed, s | killed at work | former state | new state | re-runs equal |")
    print("|---|---|---|---|---|---|")
    for title, name, before, after in stages:

        def begin(before=before):
            for file in tmp_path.glob("work.duckdb*"):
                file.unlink()
            if before:
                shutil.copy(made[before], work)

        durations = []
        for _ in range(3):
            begin()
            durations.append(step(new, work, name))
        seconds = statistics.median(durations)
        former, wanted = state(made[before]) if before else None, state(work)
        assert former != wanted
        if after:
            shutil.copy(work, made[after])
        count = Counter()
        ready = Child(processes, run_steps)
        for _ in range(kills):
            begin()
            # The next one gets ready while this one's work is judged.
            child, ready = ready, Child(processes, run_steps)
            child.begin(new, work, name)
            time.sleep(chance.uniform(0, seconds))
            at_work = child.kill()
            count["at work"] += at_work
            found = state(work)
            assert found in (former, wanted), "a partial state"
            assert at_work or found == wanted, "what was reported as done is lost"
            count["former" if found == former else "new"] += 1
            step(new, work, name)
            assert state(work) == wanted, "the re-run is not equal"
            count["equal"] += 1
        ready.kill()
        print(
            f"| {title} | {seconds:.2f} | {count['at work']} of {kills} | {count['former']} | "
            f"{count['new']} | {count['equal']} of {kills} |",
            flush=True,
        )
        assert count["at work"] >= max(kills // 4, 1), "the kills came too late to show anything"
