"""Files that stay in place, scored by workers: beside DuckDB on its own, and rows per second."""

from __future__ import annotations

import itertools
import resource
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from dagster_active_learning import ACQUISITION_FUNCTIONS, LocalWorkers, flow
from dagster_active_learning.files.in_place import Storage
from dagster_active_learning.readers.in_place import open_in_place
from dagster_active_learning.rules import Rules
from dagster_active_learning.store.pool_store import PoolStore
from measuring import Settings, Table, Times, in_fresh_process
from pipeline_benchmarks import COMPARED, N_CLASSES, compared, connect

FILES = 8
WORKERS = 2
RULES = Rules(sum_tolerance=0.01)  # float16 has three digits.
ROWS_A_GROUP = 10_000
NUMBERS_A_FILE = 100_000_000

PAPER_ROWS = 10_000_000_000
PAPER_CLASSES = 1_000
PAPER_CORES = 64 * 16
PAPER_GBITS = 64 * 25


def tables(settings: Settings) -> Iterator[Table]:
    n_images = min(settings.rows, 10_000_000)
    runs = 1 if settings.quick else 3
    files = write_files(settings.folder, n_images)
    copy, in_place = in_fresh_process(_beside_bare_copy, files, runs)
    yield Table(
        f"In place: {n_images:,} images x {N_CLASSES} in {FILES} files, {WORKERS} workers",
        f"CPU s are those of the workers, too. In turn, medians of {runs} runs. A worker takes "
        "about two seconds to start.",
        COMPARED,
        [
            compared(
                "judge, score, commit, rank by four functions", in_place,
                "`CREATE TABLE AS SELECT *`", copy, "<= 0.8x",
            )
        ],
    )  # fmt: skip
    numbers = NUMBERS_A_FILE // 100 if settings.quick else NUMBERS_A_FILE
    rates = {
        (n_classes, kind): in_fresh_process(_rate, settings.folder, numbers, n_classes, kind)
        for n_classes in (10, 80, 1000)
        for kind in ("float16", "float32")
    }
    yield Table(
        "In place: one worker",
        f"One task in one process that is warm, the file in memory: it reads, judges, scores and "
        f"writes. {numbers:,} class probabilities, random; SHA-256 of the file included.",
        ("classes", "type", "rows per CPU s", "us per row", "bytes per row in the file"),
        [
            [str(n_classes), kind, f"{rate:,.0f}", f"{1e6 / rate:.2f}", f"{size:,.0f}"]
            for (n_classes, kind), (rate, size) in rates.items()
        ],
    )
    rate, size = rates[PAPER_CLASSES, "float16"]
    core_seconds, size = PAPER_ROWS / rate, PAPER_ROWS * size
    yield Table(
        f"On paper: {PAPER_ROWS:,} images x {PAPER_CLASSES} in float16",
        "From the rate of one worker above: no measurement.",
        ("what", "how much"),
        [
            ["Parquet", f"{size / 1e12:,.1f} TB"],
            ["core-hours", f"{core_seconds / 3600:,.0f}"],
            [f"minutes on {PAPER_CORES:,} cores", f"{core_seconds / PAPER_CORES / 60:,.1f}"],
            [
                f"minutes to read at {PAPER_GBITS:,} Gbit/s",
                f"{size * 8 / (PAPER_GBITS * 1e9) / 60:,.1f}",
            ],
        ],
    )


def write_files(folder: Path, n_images: int) -> str:
    """Random class probabilities in some files, an image a row, made once in the folder."""
    folder = folder / f"{n_images}_images_in_files"
    if not folder.exists():
        incomplete = folder.with_suffix(".incomplete")
        incomplete.mkdir()
        ends = np.linspace(0, n_images, FILES + 1, dtype=np.int64)
        for place, (start, end) in enumerate(itertools.pairwise(ends)):
            write_file(incomplete / f"{place}.parquet", int(start), int(end), N_CLASSES, "float32")
        incomplete.rename(folder)
    return str(folder / "*.parquet")


def write_file(path: Path, start: int, end: int, n_classes: int, kind: str) -> None:
    number = pa.from_numpy_dtype(np.dtype(kind))
    schema = pa.schema([("image_id", pa.string()), ("class_probs", pa.list_(number))])
    rng = np.random.default_rng(start)
    with pq.ParquetWriter(path, schema, use_dictionary=["image_id"]) as writer:
        for first in range(start, end, ROWS_A_GROUP):
            rows = min(ROWS_A_GROUP, end - first)
            weights = rng.standard_exponential((rows, n_classes), np.float32)
            probs = (weights / weights.sum(axis=1, keepdims=True)).astype(kind)
            ids = pa.array([f"image_{number:09d}" for number in range(first, first + rows)])
            offsets = pa.array(np.arange(rows + 1, dtype=np.int32) * n_classes)
            lists = pa.ListArray.from_arrays(offsets, pa.array(probs.ravel()))
            writer.write_table(pa.table([ids, lists], schema=schema))


def _beside_bare_copy(files: str, runs: int) -> list[Times]:
    """Median times of a bare copy and of the way in place."""
    measured: list[list[Times]] = [[], []]
    for _ in range(runs):
        for way, function in zip(measured, (_copy, _in_place), strict=True):
            with tempfile.TemporaryDirectory() as folder:
                way.append(_times(lambda way=function, at=Path(folder): way(files, at)))
    return [
        Times(statistics.median(one.wall for one in way), statistics.median(one.cpu for one in way))
        for way in measured
    ]


def _copy(files: str, folder: Path) -> None:
    with connect(folder / "copy.duckdb") as connection:
        connection.execute(
            "CREATE TABLE predictions AS FROM read_parquet($files)", {"files": files}
        )


def _in_place(files: str, folder: Path) -> None:
    scored = _score(files, folder, LocalWorkers(WORKERS))
    with connect(folder / "pool.duckdb") as connection:
        store = PoolStore(connection, "pool")
        flow.ingest_in_place(
            store, scored, prediction_set="set", model=None, run_id="run", report=_ignore
        )
        flow.score_in_place(store, "set", rules=RULES, run_id="run")
        names = ("entropy", "least_confidence", "margin", "variance")
        flow.rank_candidates(
            store,
            "set",
            [ACQUISITION_FUNCTIONS[name] for name in names],
            rules=RULES,
            limit=1_000,
            seed=0,
            run_id="run",
        )


def _rate(folder: Path, numbers: int, n_classes: int, kind: str) -> tuple[float, float]:
    """Rows per CPU second of one task, and bytes per row."""
    pa.set_cpu_count(1)
    n_rows = numbers // n_classes
    sizes = {"warm": min(n_rows, 1_000), f"{n_rows}": n_rows}
    seconds = size = 0.0
    for name, rows in sizes.items():
        path = folder / f"{name}_{n_classes}_{kind}.parquet"
        if not path.exists():
            write_file(path, 0, rows, n_classes, kind)
        path.read_bytes()
        with tempfile.TemporaryDirectory() as storage:
            seconds = _times(lambda at=path, to=Path(storage): _score(str(at), to, _Here())).cpu
        size = path.stat().st_size / rows
    return n_rows / seconds, size


class _Here:
    """An engine that runs tasks in this process."""

    def run(self, function, tasks):
        return map(function, tasks)


def _score(files: str, folder: Path, engine) -> flow.ScoredFiles:
    return flow.score_files(
        open_in_place(files),
        prediction_set="set",
        rules=RULES,
        storage=Storage(str(folder / "storage")),
        engine=engine,
        run_id="run",
        report=_ignore,
    )


def _ignore(_: str) -> None:
    pass


def _times(function: Callable[[], object]) -> Times:
    """The times of one call, with those of the processes that it starts and ends."""
    wall, cpu = time.perf_counter(), _cpu()
    function()
    return Times(time.perf_counter() - wall, _cpu() - cpu)


def _cpu() -> float:
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime
