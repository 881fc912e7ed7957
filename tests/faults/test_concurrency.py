"""Many processes and one database file: none fails, and the rows are those of a serial run."""

import time

import pytest

from faults.children import Child, run_often, run_partitions
from faults.pool import differing_rows, state, write_set

pytestmark = pytest.mark.faults


def test_partitions_by_concurrent_processes_are_those_of_a_serial_run(long, processes, tmp_path):
    n_partitions, n_processes, times, rows = (32, 8, 3, 20_000) if long else (8, 4, 1, 5_000)
    keys = [f"p{number:02d}" for number in range(n_partitions)]
    for number, key in enumerate(keys):
        write_set(tmp_path / f"{key}.parquet", rows + 10 * number, 10, seed=number)

    def run(database, shares):
        start = time.perf_counter()
        children = [Child(processes, run_partitions, tmp_path, database, share) for share in shares]
        errors = [error for child in children for (errors,) in [child.rest()] for error in errors]
        return time.perf_counter() - start, errors

    serial = tmp_path / "serial.duckdb"
    seconds, errors = run(serial, [keys])
    assert not errors
    print(f"\n{n_partitions} partitions of {rows:,} predictions and more, all steps")
    print("| processes | seconds | failures | rows that differ |\n|---|---|---|---|")
    print(f"| 1 | {seconds:.1f} | 0 | |", flush=True)
    for turn in range(times):
        database = tmp_path / f"concurrent{turn}.duckdb"
        seconds, errors = run(database, [keys[one::n_processes] for one in range(n_processes)])
        differing = differing_rows(serial, database)
        print(f"| {n_processes} | {seconds:.1f} | {len(errors)} | {sum(differing.values())} |")
        assert (errors, set(differing.values())) == ([], {0})
    found = state(serial)
    assert found is not None
    assert found["prediction_sets"][0] == n_partitions


def test_one_process_stays_level(long, processes, tmp_path):
    times = 500 if long else 30
    write_set(tmp_path / "good", 2_000, 10, seed=0)
    (tmp_path / "broken").write_bytes((tmp_path / "good").read_bytes()[:-1_000])
    samples = Child(processes, run_often, tmp_path, tmp_path / "often.duckdb", times).rest()
    print(f"\n{times} materializations in one process, every tenth fails")
    print("| materializations | file descriptors | threads | memory, MiB |\n|---|---|---|---|")
    for sample in samples:
        print("|", *" | ".join(map(str, sample)).split(), "|")
    # The first ones load libraries and fill caches.
    early, late = samples[len(samples) // 5], samples[-1]
    assert late[1] <= early[1]
    assert late[2] <= early[2]
    assert late[3] <= early[3] + 30
