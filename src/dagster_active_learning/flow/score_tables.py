"""Tables of scores in a set's folder: what is in them, and how they are written."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from dagster_active_learning.acquisition.batches import PredictionScores, adjacent_images
from dagster_active_learning.acquisition.functions import ACQUISITION_FUNCTIONS
from dagster_active_learning.acquisition.schemas import image_score_schema
from dagster_active_learning.files.storage import Storage
from dagster_active_learning.flow.beside_scores import BesideScores, kept_beside
from dagster_active_learning.flow.best_images import BestImages
from dagster_active_learning.flow.sorted_rows import kept_functions
from dagster_active_learning.limits import DEFAULT_BATCH_ROWS
from dagster_active_learning.rules import Rules
from dagster_active_learning.store.set_columns import BOX_COUNT, BOX_REACH, CLASS_POSITION

ROWS_LOOKED_UP = 10_240
"""Rows of a row group of scores: whoever looks for one image reads as many."""

HARDLY_DIFFERENT = ("prediction_count", BOX_COUNT, CLASS_POSITION.name)
"""Columns with few different values."""


def scored_functions(rules: Rules) -> list[str]:
    """The acquisition functions of which scores are written."""
    return [name for name, one in ACQUISITION_FUNCTIONS.items() if one.applies_to(rules)]


def counted_columns(rules: Rules) -> list[str]:
    """The columns of scores of images that are counted."""
    return ["prediction_count", *scored_functions(rules)]


def scores_kept(rules: Rules) -> tuple[str, ...]:
    """Names of the scores of predictions that those of images are made of."""
    return ("entropy",) if rules.committee else tuple(scored_functions(rules))


def image_scores(
    scored: Iterable[PredictionScores], rules: Rules, first_index: int = 0
) -> Iterator[pa.Table]:
    """Scores of images, and what is kept beside them: ``beside_scores``.

    Args:
        scored: Scores of predictions, those of an image side by side.
        rules: How predictions are scored.
        first_index: What to add to the position of a prediction.
    """
    names = ["image_id", "prediction_count", *scored_functions(rules)]
    of_images = image_score_schema()
    # What may be null takes half as long again to be written.
    never_null = [
        "image_id",
        "prediction_count",
        *(scores_kept(rules) if kept_functions(rules) else []),
    ]
    schema = pa.schema(
        [
            *(of_images.field(name).with_nullable(name not in never_null) for name in names),
            *kept_beside(rules),
        ]
    )
    beside = BesideScores(rules, first_index)

    def noted() -> Iterator[PredictionScores]:
        for batch in scored:
            beside.add(batch.predictions)
            yield batch

    for images in adjacent_images(noted(), rules):
        counts = images.column("prediction_count").to_numpy()
        columns = [*images.select(names).columns, *beside.of_images(counts)]
        yield pa.table(columns, names=schema.names).cast(schema)


def scores_alone(images: pa.Table) -> pa.Table:
    """Images without what is kept beside their scores, but for the position of a prediction."""
    others = {CLASS_POSITION.name, BOX_COUNT, *BOX_REACH}
    return images.select([name for name in images.column_names if name not in others])


def write_table(
    storage: Storage, name: str, tables: Iterable[pa.Table], row_group_size: int = ROWS_LOOKED_UP
) -> None:
    """Write tables of one schema as row groups of some size; no table is no file."""
    with ExitStack() as closing:
        writer: pq.ParquetWriter | None = None
        for part in joined(tables, DEFAULT_BATCH_ROWS):
            if writer is None:
                file = closing.enter_context(storage.writing(name))
                writer = closing.enter_context(_writer(file, part.schema))
            writer.write_table(part, row_group_size=row_group_size)


def _writer(file: Any, schema: pa.Schema) -> pq.ParquetWriter:
    """A writer for columns of which most hardly repeat.

    With pyarrow's defaults it took as long as reading and scoring together: dictionaries of what
    is there once, compression that finds nothing, bounds of scores that no reader asks for.
    """
    numbers = [field.name for field in schema if pa.types.is_float64(field.type)]
    settings: dict[str, Any] = {
        "use_dictionary": [name for name in schema.names if name in HARDLY_DIFFERENT],
        "compression": {name: "none" if name in numbers else "snappy" for name in schema.names},
        "column_encoding": {
            name: "DELTA_BINARY_PACKED" for name in schema.names if name == "prediction_index"
        },
        "write_statistics": [name for name in schema.names if name not in numbers],
        "write_batch_size": ROWS_LOOKED_UP,
    }
    return pq.ParquetWriter(file, schema, **settings)


def write_best(storage: Storage, name: str, best: BestImages) -> None:
    """Write the best images of a file or a bucket, if there are any."""
    table = best.table()
    if table is not None:
        write_table(storage, f"best/{name}.parquet", [table])


def joined(tables: Iterable[pa.Table], rows: int) -> Iterator[pa.Table]:
    """Tables joined until they have a number of rows, or more."""
    waiting: list[pa.Table] = []
    for table in tables:
        waiting.append(table)
        if sum(one.num_rows for one in waiting) >= rows:
            yield pa.concat_tables(waiting)
            waiting = []
    if waiting:
        yield pa.concat_tables(waiting)
