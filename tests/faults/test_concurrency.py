"""Many processes and one database file: none fails, and the rows are those of a serial run."""

import time
from pathlib import Path

import dagster as dg
import duckdb
import pytest
from dagster_duckdb import DuckDBResource

from dagster_active_learning import PredictionFiles, active_learning_definitions
from faults.children import Child, read_until, run_often, run_partitions
from faults.pool import broken_copy, differing_rows, many_pools, state, write_set

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
    stored = state(serial)
    assert stored
    assert stored["prediction_sets"][0] == n_partitions


def test_steps_of_the_multiprocess_executor_take_turns(long, tmp_path, monkeypatch):
    monkeypatch.setenv("FAULTS_FOLDER", str(tmp_path))
    # Where the processes of the steps find the job.
    monkeypatch.chdir(Path(__file__).parents[1])
    n_pools = 4 if long else 2
    for number in range(n_pools):
        write_set(tmp_path / f"pool{number}.parquet", 20_000 + number, 10, seed=number)
    (tmp_path / "home").mkdir()
    with dg.DagsterInstance.local_temp(str(tmp_path / "home")) as instance:
        config = {
            "execution": {"config": {"multiprocess": {"max_concurrent": n_pools}}},
            "loggers": {"console": {"config": {"log_level": "CRITICAL"}}},
        }
        job = dg.reconstructable(many_pools)
        result = dg.execute_job(job, instance=instance, run_config=config)
        assert result.success
        assert result.run_id
        logs = instance.all_logs(result.run_id)
        waited = [entry for entry in logs if "waiting for the database" in entry.user_message]
    print(f"\n{n_pools} pools, multiprocess executor: {len(waited)} of {3 * n_pools} steps waited")
    with duckdb.connect(str(tmp_path / "many.duckdb"), read_only=True) as connection:
        for number in range(n_pools):
            rows = connection.execute(f"""
                SELECT (SELECT count(*) FROM pool{number}.predictions),
                    (SELECT count(*) FROM pool{number}.image_scores),
                    (SELECT count(*) FROM pool{number}.labeling_candidates),
                    (SELECT count(*) FROM pool{number}.quarantined_predictions)
            """).fetchall()
            stored = 20_000 + number - 20
            assert rows == [(stored, stored, 4 * stored, 20)]


def test_checks_and_exports_run_beside_readers(long, processes, tmp_path):
    database, n_readers, times = tmp_path / "read.duckdb", 4 if long else 2, 20 if long else 2
    write_set(tmp_path / "p.parquet", 20_000, 10, seed=0)
    definitions = active_learning_definitions(
        pool="pool",
        predictions=PredictionFiles(tmp_path / "p.parquet", "parquet"),
        export=tmp_path / "candidates.csv",
        lock_timeout_seconds=0,
    )

    def run(selection=None):
        return dg.materialize(
            [*(definitions.assets or []), *(definitions.asset_checks or [])],
            selection=selection,
            resources={"duckdb": DuckDBResource(database=str(database))},
            run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
        )

    assert run().success
    ready, stop = processes.Semaphore(0), processes.Event()
    readers = [Child(processes, read_until, database, ready, stop) for _ in range(n_readers)]
    for _ in readers:
        ready.acquire()
    only_read = dg.AssetSelection.all_asset_checks() | dg.AssetSelection.assets(
        ["pool", "exported_candidates"]
    )
    for _ in range(times):
        # Nobody waits: the deadline is now.
        result = run(only_read)
        assert all(one.passed for one in result.get_asset_check_evaluations())
        assert len(result.get_asset_materialization_events()) == 1
    stop.set()
    assert [reader.rest() for reader in readers] == [[{(4_000,)}]] * n_readers
    print(f"\n{n_readers} readers hold the database: {times} runs of all checks and the export")


def test_one_process_stays_level(long, processes, tmp_path):
    times = 500 if long else 30
    write_set(tmp_path / "good", 2_000, 10, seed=0)
    broken_copy(tmp_path / "good", tmp_path / "broken")
    samples = Child(processes, run_often, tmp_path, tmp_path / "often.duckdb", times).rest()
    print(f"\n{times} materializations in one process, every tenth fails")
    print("| materializations | file descriptors | threads | memory, MiB |\n|---|---|---|---|")
    for sample in samples:
        print("|", *" | ".join(map(str, sample)).split(), "|")
    # The first ones load libraries and fill caches; pools of threads grow when they are busy. What
    # is lost in every run would be hundreds.
    half = len(samples) // 2
    early, late = (
        [max(values) for values in zip(*part, strict=True)]
        for part in (samples[:half], samples[half:])
    )
    assert late[1] <= early[1]
    assert late[2] <= early[2] + 4
    assert late[3] <= early[3] + 30
