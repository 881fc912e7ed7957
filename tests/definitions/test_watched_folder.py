"""A real `dagster dev` on a folder: prediction files become candidates without a hand."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import dagster as dg
import duckdb
import numpy as np
import pytest
from dagster._core.definitions.run_request import InstigatorType

FILES = "signs__prediction_files"

LOCATION = """
import dagster as dg
from dagster_duckdb import DuckDBResource
from dagster_active_learning import (
    PredictionFiles, PredictionFileSensor, active_learning_definitions,
)

defs = dg.Definitions.merge(
    active_learning_definitions(
        pool="signs",
        predictions=PredictionFiles(
            "inbox/{partition_key}.csv", "csv", class_column_prefix="p_"
        ),
        partitions_def=dg.DynamicPartitionsDefinition(name="models"),
        acquisition_functions=["margin"],
        sensor=PredictionFileSensor(
            minimum_interval_seconds=3, default_status=dg.DefaultSensorStatus.RUNNING
        ),
        automation=True,
    ),
    dg.Definitions(
        resources={"duckdb": DuckDBResource(database="labeling.duckdb")},
        executor=dg.in_process_executor,
        sensors=[
            dg.AutomationConditionSensorDefinition(
                "automation",
                target="*",
                default_status=dg.DefaultSensorStatus.RUNNING,
                minimum_interval_seconds=3,
            )
        ],
    ),
)
"""


def in_session(session):
    """The ids of the processes that were started in a session."""
    for status in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = status.read_text().rpartition(")")[2].split()
            if int(fields[3]) == session and fields[0] != "Z":
                yield int(status.parent.name)


@pytest.fixture
def instance(tmp_path, monkeypatch):
    """The instance of a `dagster dev` that runs as long as the test."""
    (tmp_path / "inbox").mkdir()
    (tmp_path / "location.py").write_text(LOCATION)
    (tmp_path / "dagster.yaml").write_text(
        "telemetry: {enabled: false}\nconcurrency: {pools: {default_limit: 1}}\n"
    )
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    with dg.DagsterInstance.get() as instance, (tmp_path / "dev.log").open("w") as log:
        # Makes the databases, which two processes cannot at the same time.
        instance.get_runs()
        instance.all_instigator_state()
        instance.get_dynamic_partitions("models")
        dev = subprocess.Popen(
            [sys.executable, "-m", "dagster", "dev", "-f", "location.py", "--port", "0"],
            cwd=tmp_path, stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
        try:
            yield instance
        finally:
            dev.send_signal(signal.SIGINT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                dev.wait(30)
            for process in in_session(dev.pid):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process, signal.SIGKILL)
            dev.wait(10)
            print((tmp_path / "dev.log").read_text())


def lines(count, seed):
    class_probs = np.random.default_rng(seed).dirichlet(np.ones(3), count)
    return [f"image{row},{','.join(map(str, probs))}\n" for row, probs in enumerate(class_probs)]


def write(path, count, seed, pause=0.0):
    """Write a file, part by part if there is a pause, which takes longer than several ticks."""
    with path.open("w") as out:
        out.write("image_id,p_a,p_b,p_c\n")
        for line in lines(count, seed):
            out.write(line)
            out.flush()
            time.sleep(pause)


def wait_until(condition, seconds=180):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "not in time"
        time.sleep(0.5)


@pytest.mark.slow
def test_files_that_are_dropped_into_a_folder_become_partitions_with_candidates(instance, tmp_path):
    inbox, database = tmp_path / "inbox", tmp_path / "labeling.duckdb"

    def started():
        """The runs of the files' sensor.

        The other one may rank a partition once more: Dagster looks first whether what is upstream
        is new and then whether a run has just this to do, which can have ended meanwhile.
        """
        return instance.get_runs(dg.RunsFilter(tags={"dagster/sensor_name": FILES}))

    def finished():
        return [run.tags["dagster/partition"] for run in started() if run.is_finished]

    def ticks(name):
        return [
            tick
            for state in instance.all_instigator_state(instigator_type=InstigatorType.SENSOR)
            if state.instigator_name == name
            for tick in instance.get_ticks(state.instigator_origin_id, state.selector_id)
        ]

    def wait_for_ticks(count):
        """Wait for so many ticks more, of both sensors."""
        for name in (FILES, "automation"):
            before = len(ticks(name))
            wait_until(lambda name=name, before=before: len(ticks(name)) >= before + count)

    def candidates():
        with duckdb.connect(str(database), read_only=True) as connection:
            return dict(
                connection.execute(
                    "SELECT prediction_set, count(*) FROM signs.labeling_candidates GROUP BY ALL"
                ).fetchall()
            )

    wait_for_ticks(1)
    write(inbox / "may.csv", 5, seed=1)
    wait_until(lambda: finished() == ["may"])
    write(inbox / "june.csv", 20, seed=2, pause=0.7)
    write(inbox / "july.csv", 7, seed=3)
    wait_until(lambda: len(finished()) == 3)
    wait_for_ticks(3)
    assert sorted(finished()) == ["july", "june", "may"], "one run each, the slow one too"
    assert [run.status for run in started()] == [dg.DagsterRunStatus.SUCCESS] * 3
    assert sorted(instance.get_dynamic_partitions("models")) == ["july", "june", "may"]
    assert candidates() == {"may": 5, "june": 20, "july": 7}

    os.utime(inbox / "may.csv")
    (inbox / "july.csv").unlink()
    wait_for_ticks(2)
    write(inbox / "july.csv", 7, seed=3)
    wait_for_ticks(4)
    assert len(started()) == 3, "the same content, touched and dropped again"

    write(inbox / "may.csv", 6, seed=4)
    wait_until(lambda: len(finished()) == 4)
    wait_for_ticks(3)
    assert sorted(finished()) == ["july", "june", "may", "may"]
    assert candidates() == {"may": 6, "june": 20, "july": 7}

    write(inbox / "may.csv", 5, seed=1)
    wait_until(lambda: len(finished()) == 5)
    assert candidates() == {"may": 5, "june": 20, "july": 7}, "what it was at first"
    failed = [tick for name in (FILES, "automation") for tick in ticks(name) if tick.is_failure]
    assert failed == []
