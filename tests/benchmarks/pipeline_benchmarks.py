"""Ingest, score and rank from Parquet beside DuckDB on its own, and what memory they take."""

from __future__ import annotations

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
from measuring import Settings, Table, in_fresh_process, in_turn, peak_mib, timed

N_CLASSES = 10
N_OBJECT_CLASSES = 80
OBJECTS_AN_IMAGE = 5
MEMORY_LIMIT = "1GiB"
RULES = Rules()
ROWS_A_WRITE = 1_000_000

# The same table as the pool's own, with the same columns uncompressed.
SQL_TABLE = """
CREATE OR REPLACE TABLE sql_scores (
    prediction_set VARCHAR NOT NULL,
    image_id VARCHAR NOT NULL USING COMPRESSION uncompressed,
    prediction_count BIGINT NOT NULL,
    entropy DOUBLE USING COMPRESSION uncompressed,
    least_confidence DOUBLE USING COMPRESSION uncompressed,
    margin DOUBLE USING COMPRESSION uncompressed,
    variance DOUBLE USING COMPRESSION uncompressed,
    mean_object_score DOUBLE USING COMPRESSION uncompressed
)
"""

# For images with one prediction each, so that nothing has to be grouped.
SQL_SCORES = """
SELECT
    prediction_set,
    image_id,
    1::BIGINT AS prediction_count,
    -list_sum(list_transform(class_probs, lambda p: CASE WHEN p > 0 THEN p * log2(p) ELSE 0 END))
        AS entropy,
    1 - largest[1] AS least_confidence,
    largest[1] - largest[2] AS margin,
    list_var_pop(class_probs) AS variance,
    NULL::DOUBLE AS mean_object_score
FROM (
    SELECT *, list_aggregate(class_probs, 'max', 2) AS largest
    FROM pool.predictions WHERE prediction_set = 'set'
)
"""

SQL_DIFFERENCE = """
SELECT max(greatest(
    abs(s.entropy - o.entropy), abs(s.least_confidence - o.least_confidence),
    abs(s.margin - o.margin), abs(s.variance - o.variance)
)), count(*)
FROM sql_scores s JOIN pool.image_scores o USING (image_id)
"""


def tables(settings: Settings) -> Iterator[Table]:
    sizes = [settings.rows // 10, settings.rows]
    if settings.rows >= 100_000_000:
        sizes.insert(0, settings.rows // 100)
    runs = 1 if settings.quick else 3
    # The rows against DuckDB are for 10 million images, also where larger inputs are measured.
    compared = min(settings.rows, 10_000_000)
    for n_images in sizes:
        write_predictions(settings.folder, n_images)
    yield _beside_duckdb(settings.folder, compared, runs)
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
    copy, pool = in_fresh_process(beside_bare_copy, parquet, runs)
    plain_sql, sql, scoring = in_fresh_process(beside_sql, parquet, runs)
    return Table(
        f"Pipeline: {n_images:,} images x {N_CLASSES} from Parquet",
        f"Database files, each with a limit of {MEMORY_LIMIT}; each pair in one process of its own, "
        f"in turn, medians of {runs} runs. The SQL makes a table of the same columns with DuckDB's list "
        "functions: as DuckDB stores it by itself, and as the pool's own, whose scores are not "
        "compressed. Its scores are compared with the package's.",
        ("what", "seconds", "against", "seconds", "ratio", "target"),
        [
            [
                "ingest, validate, score and rank by four functions", f"{pool:.2f}",
                "`CREATE TABLE AS SELECT *`", f"{copy:.2f}",
                f"{pool / copy:.2f}x as long", "<= 2.0x",
            ],
            *(
                ["the scoring step", f"{scoring:.2f}", what, f"{took:.2f}",
                f"{took / scoring:.2f}x as fast", ">= 3x"]
                for what, took in (
                    ("the same in SQL", plain_sql), ("the same in SQL, uncompressed", sql),
                )
            ),
        ],
    )  # fmt: skip


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
    database = _new_database(parquet)
    seconds = [
        timed(partial(_with_store, database, partial(step, parquet, rules=rules))) for step in STEPS
    ]
    _new_database(parquet)
    return seconds, peak_mib()


def beside_bare_copy(parquet: Path, runs: int) -> list[float]:
    """Median seconds of DuckDB's bare copy of the file, and of ingest, score and rank."""

    def copy() -> None:
        with _connect(_new_database(parquet)) as connection:
            connection.execute(
                "CREATE TABLE predictions AS SELECT * FROM read_parquet($file)",
                {"file": str(parquet)},
            )

    _warm_up(parquet.parent)
    seconds = in_turn([copy, partial(_pool, parquet)], runs)
    _new_database(parquet)
    return seconds


def beside_sql(parquet: Path, runs: int) -> list[float]:
    """Median seconds of scoring in SQL, of the same uncompressed, and of the scoring step."""
    _warm_up(parquet.parent)
    database = _new_database(parquet)
    _with_store(database, partial(_ingest, parquet))

    def plain_sql() -> None:
        with _connect(database) as connection:
            connection.execute(f"CREATE OR REPLACE TABLE sql_scores AS {SQL_SCORES}")

    def sql() -> None:
        with _connect(database) as connection:
            connection.execute(SQL_TABLE)
            connection.execute(f"INSERT INTO sql_scores {SQL_SCORES}")

    scoring = partial(_with_store, database, partial(_score, parquet))
    seconds = in_turn([plain_sql, sql, scoring], runs)
    with _connect(database) as connection:
        row: Any = connection.execute(SQL_DIFFERENCE).fetchone()
    if row[0] > 1e-5 or row[1] != pq.read_metadata(parquet).num_rows:
        raise AssertionError(f"the scores of {row[1]} images differ by up to {row[0]}")
    _new_database(parquet)
    return seconds


def _warm_up(folder: Path, rules: Rules = RULES) -> None:
    """Import and compile everything, so that neither is counted."""
    parquet = write_predictions(folder, 1000)
    _pool(parquet, rules)
    _new_database(parquet)


def _pool(parquet: Path, rules: Rules = RULES) -> None:
    database = _new_database(parquet)
    for step in STEPS:
        _with_store(database, partial(step, parquet, rules=rules))


def _connect(database: Path) -> duckdb.DuckDBPyConnection:
    connection = duckdb.connect(str(database), config={"memory_limit": MEMORY_LIMIT})
    # DuckDB takes a spawned process for an interactive one and would draw a progress bar.
    connection.execute("SET enable_progress_bar = false")
    return connection


def _new_database(parquet: Path) -> Path:
    """Where this process has its database; what was there is removed."""
    database = parquet.with_name(f"benchmark_{os.getpid()}.duckdb")
    for file in (database, database.with_name(f"{database.name}.wal")):
        file.unlink(missing_ok=True)
    return database


def _with_store(database: Path, step: Callable[[PoolStore], object]) -> None:
    """Run a step as an asset does: on a connection of its own, which is closed at the end."""
    with _connect(database) as connection:
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
