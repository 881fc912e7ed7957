"""Ingest, score and rank from Parquet beside DuckDB on its own, and what memory they take."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from dagster_active_learning import ACQUISITION_FUNCTIONS, flow, read_predictions
from dagster_active_learning.rules import Rules
from dagster_active_learning.store.pool_store import PoolStore
from measuring import (
    Settings,
    Table,
    Times,
    in_fresh_process,
    peak_mib,
    timed,
    times_in_turn,
)

N_CLASSES = 10
N_OBJECT_CLASSES = 80
OBJECTS_AN_IMAGE = 5
MEMORY_LIMIT = "1GiB"
RULES = Rules()
ROWS_A_WRITE = 1_000_000


def tables(settings: Settings) -> Iterator[Table]:
    sizes = [settings.rows // 10, settings.rows]
    if settings.rows >= 100_000_000:
        sizes.insert(0, settings.rows // 100)
    runs = 1 if settings.quick else 3
    # The rows against DuckDB are for 10 million images, also where larger inputs are measured.
    n_images = min(settings.rows, 10_000_000)
    for size in sizes:
        write_predictions(settings.folder, size)
    yield _beside_duckdb(settings.folder, n_images, runs)
    yield _materialized(settings.folder, n_images, 200_000 if settings.quick else 2_000_000, runs)
    yield _by_size(settings.folder, sizes)
    yield _objects(settings.folder, 50_000 if settings.quick else 5_000_000)


def write_predictions(folder: Path, n_images: int) -> Path:
    """Random class probabilities as Parquet, an image a row, made once in the folder."""
    path = folder / f"{n_images}_images.parquet"
    if not path.exists():
        _write(path, np.arange(n_images), N_CLASSES)
    return path


def write_objects(folder: Path, n_objects: int, *, spread: bool) -> Path:
    """The same of objects, five an image: one after the other, or spread over the file."""
    path = folder / f"{n_objects}_{'spread_' if spread else ''}objects.parquet"
    if not path.exists():
        image_of_row = np.arange(n_objects) // OBJECTS_AN_IMAGE
        if spread:
            image_of_row = np.random.default_rng(0).permutation(image_of_row)
        _write(path, image_of_row, N_OBJECT_CLASSES)
    return path


def _write(path: Path, image_of_row: np.ndarray, n_classes: int) -> None:
    schema = pa.schema([("image_id", pa.string()), ("class_probs", pa.list_(pa.float32()))])
    rows_a_write = ROWS_A_WRITE * N_CLASSES // n_classes
    weights = np.random.default_rng(0).standard_exponential((rows_a_write, n_classes), np.float32)
    class_probs = weights / weights.sum(axis=1, keepdims=True)
    incomplete = path.with_suffix(".incomplete")
    with pq.ParquetWriter(incomplete, schema) as writer:
        for start in range(0, len(image_of_row), rows_a_write):
            images = image_of_row[start : start + rows_a_write]
            ids = pa.array([f"image_{number:09d}" for number in images])
            # Other numbers in every write: what is written twice would compress too well.
            values = np.roll(class_probs[: len(images)], start // rows_a_write, axis=1).ravel()
            offsets = pa.array(np.arange(len(images) + 1, dtype=np.int32) * n_classes)
            lists = pa.ListArray.from_arrays(offsets, pa.array(values))
            writer.write_table(pa.table([ids, lists], schema=schema))
    incomplete.rename(path)


def _beside_duckdb(folder: Path, n_images: int, runs: int) -> Table:
    parquet = write_predictions(folder, n_images)
    copy, uncompressed, pool = in_fresh_process(beside_bare_copy, parquet, runs)
    return Table(
        f"Pipeline: {n_images:,} images x {N_CLASSES} from Parquet",
        f"Database files, each with a limit of {MEMORY_LIMIT}; in one process, in turn, medians of "
        f"{runs} runs. Uncompressed: the columns that the pool does not compress either.",
        COMPARED,
        [
            compared("ingest, validate, score and rank by four functions", pool, what, base, target)
            for what, base, target in (
                ("`CREATE TABLE AS SELECT *`", copy, "<= 1.3x"),
                ("the same into uncompressed columns", uncompressed, "<= 1.8x"),
            )
        ],
    )


COMPARED = ("what", "seconds", "CPU s", "beside", "seconds", "CPU s", "ratio", "CPU", "target")


def compared(what: str, times: Times, other: str, base: Times, target: str) -> list[str]:
    """A row of a table with the columns ``COMPARED``."""
    return [
        what, f"{times.wall:.2f}", f"{times.cpu:.2f}", other, f"{base.wall:.2f}", f"{base.cpu:.2f}",
        f"{times.wall / base.wall:.2f}x", f"{times.cpu / base.cpu:.2f}x", target,
    ]  # fmt: skip


def _materialized(folder: Path, n_images: int, n_objects: int, runs: int) -> Table:
    parquet = write_predictions(folder, n_images)
    copy, assets, checks = in_fresh_process(materialized, parquet, "classification", runs)
    objects = write_objects(folder, n_objects, spread=False)
    copy_of_objects, *of_objects = in_fresh_process(materialized, objects, "detection", runs)
    ctas = "`CREATE TABLE AS SELECT *`"
    images = f"{n_images:,} images"
    return Table(
        f"`dg.materialize` of {images} x {N_CLASSES} and {n_objects:,} objects x {N_OBJECT_CLASSES}",
        f"All assets, and all their checks, in one process, in turn with the copy, medians of {runs} "
        f"runs; a limit of {MEMORY_LIMIT} for DuckDB.",
        COMPARED,
        [
            compared(f"{images}, assets and checks", assets + checks, ctas, copy, "<= 3x"),
            compared(f"{images}, checks", checks, "assets", assets, "<= 0.15x"),
            compared(
                f"{n_objects:,} objects, assets and checks", of_objects[0] + of_objects[1], ctas,
                copy_of_objects, "",
            ),
        ],
    )  # fmt: skip


def materialized(parquet: Path, task: Any, runs: int) -> list[Times]:
    """Median times of DuckDB's bare copy, of the assets of a pool, and of their checks."""
    import dagster as dg
    from dagster_duckdb import DuckDBResource

    from dagster_active_learning import PredictionFiles, active_learning_definitions

    _warm_up(parquet.parent, Rules(task=task))
    database = new_database(parquet)
    resource = DuckDBResource(
        database=str(database),
        connection_config={"memory_limit": MEMORY_LIMIT},
    )
    definitions = active_learning_definitions(
        pool="pool",
        predictions=PredictionFiles(parquet, "parquet"),
        task=task,
    )
    jobs = {
        name: dg.define_asset_job(name, selection)
        for name, selection in (
            ("assets", dg.AssetSelection.all().without_checks()),
            ("checks", dg.AssetSelection.all_asset_checks()),
        )
    }
    whole = dg.Definitions.merge(
        definitions, dg.Definitions(jobs=list(jobs.values()), resources={"duckdb": resource})
    )

    def execute(name: str, instance: dg.DagsterInstance) -> None:
        result = whole.resolve_job_def(name).execute_in_process(instance=instance)
        if not result.success:
            raise AssertionError(f"the {name} failed")

    logging.getLogger("dagster").setLevel(logging.WARNING)
    with dg.DagsterInstance.ephemeral() as instance:
        return times_in_turn(
            [
                partial(_copy, parquet),
                lambda: (new_database(parquet), execute("assets", instance)),
                partial(execute, "checks", instance),
            ],
            runs,
        )


def _by_size(folder: Path, sizes: list[int]) -> Table:
    rows: list[list[str]] = []
    first_rate = first_peak = 0.0
    for n_images in sizes:
        parquet = write_predictions(folder, n_images)
        seconds, peak = in_fresh_process(steps, parquet)
        total = sum(seconds)
        rate = total / n_images
        first_rate, first_peak = first_rate or rate, first_peak or peak
        rows.append(
            [
                f"{n_images:,}", *(f"{one:.2f}" for one in seconds), f"{total:.2f}",
                f"{rate * 1e6:.2f}", f"{rate / first_rate:.2f}x",
                f"{peak:,.0f} MiB", f"{peak / first_peak:.2f}x",
            ]
        )  # fmt: skip
    return Table(
        "Pipeline: time and memory by size",
        f"A fresh process each, one run, a limit of {MEMORY_LIMIT} for DuckDB; the peak is the whole "
        "process's. Targets: time a row within 15 %, the peak at 10 and at 100 million rows within "
        "10 % and under 2 GiB.",
        (
            "images", "ingest, s", "score, s", "rank, s", "all, s", "s a million",
            "beside the first", "peak memory", "beside the first",
        ),
        rows,
    )  # fmt: skip


def _objects(folder: Path, n_objects: int) -> Table:
    rows: list[list[str]] = []
    for spread in (False, True):
        parquet = write_objects(folder, n_objects, spread=spread)
        seconds, peak = in_fresh_process(steps, parquet, Rules(task="detection"))
        rows.append(
            [
                "spread over the file" if spread else "one after the other",
                *(f"{one:.1f}" for one in seconds), f"{n_objects / seconds[1]:,.0f}",
                f"{peak:,.0f} MiB",
            ]
        )  # fmt: skip
    return Table(
        f"Pipeline: {n_objects:,} objects x {N_OBJECT_CLASSES} on "
        f"{n_objects // OBJECTS_AN_IMAGE:,} images from Parquet",
        f"A fresh process each, one run, a limit of {MEMORY_LIMIT} for DuckDB, which sorts what is "
        "spread; the peak is the whole process's.",
        (
            "an image's objects", "ingest, s", "score, s", "rank by five functions, s",
            "objects scored a second", "peak memory",
        ),
        rows,
    )  # fmt: skip


def steps(parquet: Path, rules: Rules = RULES) -> tuple[list[float], float]:
    """Seconds of ingest, score and rank, and the process's peak memory in MiB."""
    _warm_up(parquet.parent, rules)
    database = new_database(parquet)
    seconds = [
        timed(partial(_with_store, database, partial(step, parquet, rules=rules))) for step in STEPS
    ]
    new_database(parquet)
    return seconds, peak_mib()


def beside_bare_copy(parquet: Path, runs: int) -> list[Times]:
    """Median times of DuckDB's bare copy, of one that is not compressed, and of the pool."""
    _warm_up(parquet.parent)
    steps = [
        partial(_copy, parquet), partial(_copy, parquet, UNCOMPRESSED_TABLE), partial(_pool, parquet)
    ]  # fmt: skip
    measured = times_in_turn(steps, runs)
    new_database(parquet)
    return measured


UNCOMPRESSED_TABLE = """
CREATE TABLE predictions (
    image_id VARCHAR USING COMPRESSION uncompressed,
    class_probs FLOAT[] USING COMPRESSION uncompressed
)
"""


def _copy(parquet: Path, table: str | None = None) -> None:
    """DuckDB's bare copy of a file, into a table of its own or one that is made for it."""
    with connect(new_database(parquet)) as connection:
        if table:
            connection.execute(table)
        statement = "INSERT INTO predictions" if table else "CREATE TABLE predictions AS"
        connection.execute(f"{statement} SELECT * FROM read_parquet($file)", {"file": str(parquet)})


def _warm_up(folder: Path, rules: Rules = RULES) -> None:
    """Import and compile everything, so that neither is counted."""
    parquet = write_predictions(folder, 1000)
    _pool(parquet, rules)
    new_database(parquet)


def _pool(parquet: Path, rules: Rules = RULES) -> None:
    database = new_database(parquet)
    for step in STEPS:
        _with_store(database, partial(step, parquet, rules=rules))


def connect(database: Path) -> duckdb.DuckDBPyConnection:
    connection = duckdb.connect(str(database), config={"memory_limit": MEMORY_LIMIT})
    # DuckDB takes a spawned process for an interactive one and would draw a progress bar.
    connection.execute("SET enable_progress_bar = false")
    return connection


def new_database(parquet: Path) -> Path:
    """Where this process has its database; what was there is removed."""
    database = parquet.with_name(f"benchmark_{os.getpid()}.duckdb")
    for file in (database, database.with_name(f"{database.name}.wal")):
        file.unlink(missing_ok=True)
    return database


def _with_store(database: Path, step: Callable[[PoolStore], object]) -> None:
    """Run a step as an asset does: on a connection of its own, which is closed at the end."""
    with connect(database) as connection:
        step(PoolStore(connection, "pool"))


def _ingest(parquet: Path, store: PoolStore, *, rules: Rules = RULES) -> None:
    flow.ingest_predictions(
        store,
        read_predictions(parquet, format="parquet"),
        prediction_set="set",
        model=None,
        run_id="benchmark",
        rules=rules,
        report=lambda _: None,
    )


def _score(_: Path, store: PoolStore, *, rules: Rules = RULES) -> None:
    flow.score_prediction_set(store, "set", rules=rules, run_id="benchmark", report=lambda _: None)


def _rank(_: Path, store: PoolStore, *, rules: Rules) -> None:
    flow.rank_candidates(
        store,
        "set",
        [one for one in ACQUISITION_FUNCTIONS.values() if one.level == "image" or rules.objects],
        rules=rules,
        limit=1000,
        seed=0,
        run_id="benchmark",
    )


STEPS = (_ingest, _score, _rank)
