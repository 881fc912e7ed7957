"""Files that stay in place beside the same files copied: equal bit for bit, and what each takes."""

from __future__ import annotations

import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from dagster_active_learning import (
    ACQUISITION_FUNCTIONS,
    LocalWorkers,
    RayTasks,
    flow,
    read_predictions,
)
from dagster_active_learning.files.storage import Storage
from dagster_active_learning.readers.in_place import open_in_place
from dagster_active_learning.rules import Rules
from dagster_active_learning.store.pool_store import PoolStore
from measuring import Settings, Table, in_fresh_process, peak_mib
from pipeline_benchmarks import N_CLASSES, connect
from scale_benchmarks import FILES, write_files

sys.path.append(str(Path(__file__).parents[1]))

from fingerprints import fingerprints
from two_nodes import two_nodes

RULES = Rules()
WORKERS = (1, 2, 8)


def tables(settings: Settings) -> Iterator[Table]:
    files = write_files(settings.folder, settings.rows)
    expected, row = in_fresh_process(_measured, files, _copy, None)
    rows = [["copied", *row]]
    ways = {f"{workers} workers": workers for workers in WORKERS} | {"Ray, two nodes": 0}
    for name, workers in ways.items():
        found, row = in_fresh_process(_measured, files, _in_place, workers)
        if found != expected:
            raise AssertionError(f"{name}: {found}, expected what is copied: {expected}")
        rows.append([name, *row])
    counts = ", ".join(f"{name} ({columns['rows']:,})" for name, columns in expected.items())
    yield Table(
        f"In place and copied: {settings.rows:,} images x {N_CLASSES} in {FILES} files, all equal",
        f"Equal in each bit and in order: {counts}. Once each. A worker has at least what the step "
        "had when it began it.",
        (
            "what",
            "judge, score",
            "commit, rank by four functions",
            "the step, at most",
            "a worker, at most",
            "database",
        ),
        rows,
    )


def _measured(
    files: str, way: Callable[..., PoolStore], workers: int | None
) -> tuple[dict[str, Any], list[str]]:
    """The fingerprints of all tables, and what it took to have them."""
    marks = [time.perf_counter()]
    cluster = two_nodes() if workers == 0 else nullcontext()
    with tempfile.TemporaryDirectory() as folder, cluster as nodes:
        marks = [time.perf_counter()]
        engine = RayTasks(nodes.address) if nodes else LocalWorkers(workers)
        store = way(files, Path(folder), engine, marks)
        flow.rank_candidates(
            store,
            "set",
            [one for one in ACQUISITION_FUNCTIONS.values() if one.applies_to(RULES)],
            rules=RULES,
            limit=1_000,
            seed=0,
            run_id="run",
        )
        store.connection.execute("CHECKPOINT")
        marks.append(time.perf_counter())
        step, worker = peak_mib(), _largest_child()
        size = (Path(folder) / "pool.duckdb").stat().st_size / 2**20
        found = fingerprints(store)
        store.connection.close()
    begun, scored, ranked = marks
    return found, [
        f"{scored - begun:.1f} s",
        f"{ranked - scored:.1f} s",
        f"{step:,.0f} MiB",
        f"{worker:,.0f} MiB" if workers else "not measured",
        f"{size:,.1f} MiB",
    ]


def _store(folder: Path) -> PoolStore:
    return PoolStore(connect(folder / "pool.duckdb"), "pool")


def _copy(files: str, folder: Path, _: object, marks: list[float]) -> PoolStore:
    store = _store(folder)
    flow.ingest_predictions(
        store,
        read_predictions(files, format="parquet"),
        prediction_set="set",
        model=None,
        run_id="run",
        rules=RULES,
        report=_ignore,
    )
    flow.score_prediction_set(store, "set", rules=RULES, run_id="run", report=_ignore)
    marks.append(time.perf_counter())
    return store


def _in_place(
    files: str, folder: Path, engine: LocalWorkers | RayTasks, marks: list[float]
) -> PoolStore:
    scored = flow.score_files(
        open_in_place(files),
        prediction_set="set",
        rules=RULES,
        storage=Storage(str(folder / "storage")),
        engine=engine,
        run_id="run",
        report=_ignore,
    )
    marks.append(time.perf_counter())
    store = _store(folder)
    flow.ingest_in_place(
        store, scored, prediction_set="set", model=None, run_id="run", report=_ignore
    )
    flow.score_in_place(store, "set", rules=RULES, run_id="run")
    return store


def _ignore(_: str) -> None:
    pass


def _largest_child() -> float:
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
