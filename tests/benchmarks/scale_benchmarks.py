"""Files that stay in place, scored by workers: beside DuckDB on its own, and rows per second."""

from __future__ import annotations

import itertools
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from dagster_active_learning import (
    ACQUISITION_FUNCTIONS,
    LocalWorkers,
    explain_candidate,
    flow,
    load_candidates,
)
from dagster_active_learning.files.storage import Storage
from dagster_active_learning.readers.in_place import open_in_place
from dagster_active_learning.rules import Rules
from dagster_active_learning.store.pool_store import PoolStore
from measuring import Settings, Table, Times, in_fresh_process, peak_mib
from pipeline_benchmarks import COMPARED, N_CLASSES, compared, connect

FILES = 8
WORKERS = 2
RULES = Rules(sum_tolerance=0.01)  # float16 has three digits.
ROWS_A_GROUP = 10_000
MEMBERS = 4
NUMBERS_A_FILE = 100_000_000

EXPLAINED = 10
ROWS_OF_DUCKDB = 122_880
"""Rows of a row group where nobody chooses them."""

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
        "about one second to start.",
        COMPARED,
        [
            compared(
                "judge, score, commit, rank by four functions", in_place,
                "`CREATE TABLE AS SELECT *`", copy, "<= 0.8x",
            )
        ],
    )  # fmt: skip
    yield _sizes(settings.folder, n_images)
    yield _explanations(settings.folder, n_images)
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


def _sizes(folder: Path, n_images: int) -> Table:
    sources = {
        f"{rows:,} x {N_CLASSES}": (write_files(folder, rows), RULES)
        for rows in (n_images // 5, n_images, 5 * n_images)
    }
    votes = n_images // 50
    sources[f"{votes:,} x {PAPER_CLASSES:,}, a committee of {MEMBERS}"] = (
        write_files(folder, votes, PAPER_CLASSES, MEMBERS),
        replace(RULES, committee=True),
    )
    return Table(
        f"In place: what it takes, {FILES} files in float32, {WORKERS} workers",
        "Once each. The tasks with the start of the workers; the step with the commit, the view "
        "of the scores and four rankings. Memory is the most that a process had. Each image of "
        "the committee has its votes in as many files.",
        (
            "rows", "files", "tasks", "the step", "a worker has", "the step has", "database",
            "storage",
        ),
        [[name, *in_fresh_process(_size, *source)] for name, source in sources.items()],
    )  # fmt: skip


def _size(files: str, rules: Rules) -> list[str]:
    """What a set takes: bytes, CPU seconds of the tasks and of the step, memory, bytes."""
    engine = _Measured()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with connect(folder / "pool.duckdb") as connection:
            PoolStore(connection, "pool")
        before = (folder / "pool.duckdb").stat().st_size
        start = time.process_time()
        _in_place(files, folder, rules, engine)
        step = time.process_time() - start
        grown = (folder / "pool.duckdb").stat().st_size - before
        stored = _bytes((folder / "storage").rglob("*"))
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return [
        f"{_bytes(Path(files).parent.glob('*')) / 2**20:,.0f} MiB",
        f"{children.ru_utime + children.ru_stime:,.1f} s",
        f"{step:,.1f} s",
        f"{engine.peak_mib:,.0f} MiB",
        f"{peak_mib():,.0f} MiB",
        f"+{grown / 2**20:,.1f} MiB",
        f"{stored / 2**20:,.0f} MiB",
    ]


def _bytes(files: Iterable[Path]) -> int:
    return sum(file.stat().st_size for file in files if file.is_file())


class _Measured:
    """Local workers that tell how much memory they had."""

    def __init__(self) -> None:
        self.peak_mib = 0.0

    def run(self, function, tasks, *report):
        for result, peak in LocalWorkers(WORKERS).run(
            partial(_with_peak, function), tasks, *report
        ):
            self.peak_mib = max(self.peak_mib, peak)
            yield result


def _with_peak(function, task):
    return function(task), peak_mib()


def _explanations(folder: Path, n_images: int) -> Table:
    sources = [
        (place, rows, rows_a_group)
        for place, rows in (("a disk", n_images), ("S3", n_images // 5))
        for rows_a_group in (ROWS_A_GROUP, ROWS_OF_DUCKDB)
    ]
    read = [in_fresh_process(_explained, folder, *source) for source in sources]
    return Table(
        f"In place: {EXPLAINED} candidates explained",
        "Bytes read of all files, those of the package included, counted by a filesystem of "
        "fsspec; those of S3 by moto on this machine, as sent.",
        ("files on", "rows", "rows per row group", "files", "read", "of the files", "target"),
        [
            [
                place, f"{rows:,}", f"{rows_a_group:,}", f"{size / 2**20:,.0f} MiB",
                f"{bytes_read / 2**20:,.2f} MiB", f"{bytes_read / size:.2%}", "< 1 %",
            ]
            for (place, rows, rows_a_group), (bytes_read, size) in zip(sources, read, strict=True)
        ],
    )  # fmt: skip


def _explained(folder: Path, place: str, n_images: int, rows_a_group: int) -> tuple[int, int]:
    """The bytes that explanations of candidates read, and those of the files of predictions."""
    files = write_files(folder, n_images, rows_a_group=rows_a_group)
    # The filesystems of the tests.
    sys.path.append(str(Path(__file__).parents[1]))
    with ExitStack() as closing:
        local = closing.enter_context(tempfile.TemporaryDirectory())
        if place == "S3":
            s3 = import_module("object_store")
            sent = s3.ObjectStore()
            bucket = closing.enter_context(s3.object_store(application=sent))
            bucket.put(files, "bucket/predictions/")
            addresses, storage = "s3://bucket/predictions/*.parquet", "s3://bucket/scores"
        else:
            counted = import_module("counted_files").CountedFiles
            addresses, storage = f"counted://{files}", f"counted://{local}/scores"
        _in_place(addresses, Path(local), engine=_Here(), storage=storage)
        database = f"{local}/pool.duckdb"
        candidates = load_candidates(database, pool="pool", limit=EXPLAINED)
        first = candidates.filter(pl.col("acquisition_function") == "margin")["image_id"]

        def bytes_read() -> int:
            return sent.bytes_of("") if place == "S3" else counted.read.total()

        before = bytes_read()
        for image_id in first:
            explain_candidate(database, image_id, pool="pool")
        return bytes_read() - before, _bytes(Path(files).parent.glob("*"))


def write_files(
    folder: Path,
    n_rows: int,
    n_classes: int = N_CLASSES,
    rows_an_image: int = 1,
    rows_a_group: int = ROWS_A_GROUP,
) -> str:
    """Random class probabilities in some files, made once in the folder.

    Where an image has several rows, they are in different files.
    """
    n_images = n_rows // rows_an_image
    folder = folder / f"{n_rows}_rows_by_{rows_a_group}_{n_classes}_classes_{n_images}_images"
    if not folder.exists():
        incomplete = folder.with_suffix(".incomplete")
        incomplete.mkdir()
        ends = np.linspace(0, n_rows, FILES + 1, dtype=np.int64)
        for place, (start, end) in enumerate(itertools.pairwise(ends)):
            path = incomplete / f"{place}.parquet"
            rows = range(int(start), int(end))
            write_file(path, rows, n_classes, "float32", n_images, rows_a_group)
        incomplete.rename(folder)
    return str(folder / "*.parquet")


def write_file(
    path: Path,
    rows: range,
    n_classes: int,
    kind: str,
    n_images: int | None = None,
    rows_a_group: int = ROWS_A_GROUP,
) -> None:
    """Write random class probabilities of rows of a set; by default each image has one."""
    n_images = rows.stop if n_images is None else n_images
    number = pa.from_numpy_dtype(np.dtype(kind))
    schema = pa.schema([("image_id", pa.string()), ("class_probs", pa.list_(number))])
    rng = np.random.default_rng(rows.start)
    with pq.ParquetWriter(path, schema, use_dictionary=["image_id"]) as writer:
        for group in (rows[first:][:rows_a_group] for first in range(0, len(rows), rows_a_group)):
            weights = rng.standard_exponential((len(group), n_classes), np.float32)
            probs = (weights / weights.sum(axis=1, keepdims=True)).astype(kind)
            ids = pa.array([f"image_{number % n_images:09d}" for number in group])
            offsets = pa.array(np.arange(len(group) + 1, dtype=np.int32) * n_classes)
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


def _in_place(
    files: str,
    folder: Path,
    rules: Rules = RULES,
    engine: Any = None,
    storage: str | Path | None = None,
) -> None:
    storage = storage or folder / "storage"
    scored = _score(files, storage, engine or LocalWorkers(WORKERS), rules)
    with connect(folder / "pool.duckdb") as connection:
        store = PoolStore(connection, "pool")
        flow.ingest_in_place(
            store, scored, prediction_set="set", model=None, run_id="run", report=_ignore
        )
        flow.score_in_place(store, "set", rules=rules, run_id="run")
        names = ("entropy", "least_confidence", "margin", "variance")
        flow.rank_candidates(
            store,
            "set",
            [ACQUISITION_FUNCTIONS[name] for name in names],
            rules=rules,
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
            write_file(path, range(rows), n_classes, kind)
        path.read_bytes()
        with tempfile.TemporaryDirectory() as storage:
            seconds = _times(lambda at=path, to=Path(storage): _score(str(at), to, _Here())).cpu
        size = path.stat().st_size / rows
    return n_rows / seconds, size


class _Here:
    """An engine that runs tasks in this process."""

    def run(self, function, tasks, *_):
        return map(function, tasks)


def _score(files: str, storage: str | Path, engine: Any, rules: Rules = RULES) -> flow.ScoredFiles:
    return flow.score_files(
        open_in_place(files),
        prediction_set="set",
        rules=rules,
        storage=Storage(str(storage)),
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
