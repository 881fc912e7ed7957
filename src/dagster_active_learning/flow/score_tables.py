"""Tables of scores in a set's folder: what is in them, and how they are written."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack

import pyarrow as pa
import pyarrow.parquet as pq

from dagster_active_learning.acquisition.batches import PredictionScores, adjacent_images
from dagster_active_learning.acquisition.functions import ACQUISITION_FUNCTIONS
from dagster_active_learning.files.in_place import Storage
from dagster_active_learning.flow.best_images import BestImages
from dagster_active_learning.flow.runs import Runs
from dagster_active_learning.limits import DEFAULT_BATCH_ROWS
from dagster_active_learning.rules import Rules

ROWS_LOOKED_UP = 10_240
"""Rows of a row group of scores: whoever looks for one image reads as many."""


def scored_functions(rules: Rules) -> list[str]:
    """The acquisition functions of which scores are written."""
    return [name for name, one in ACQUISITION_FUNCTIONS.items() if one.applies_to(rules)]


def scores_kept(rules: Rules) -> tuple[str, ...]:
    """Names of the scores of predictions that those of images are made of."""
    return ("entropy",) if rules.committee else tuple(scored_functions(rules))


def image_scores(
    scored: Iterator[PredictionScores], rules: Rules, runs: Runs
) -> Iterator[pa.Table]:
    """Scores of images with the position of the first prediction of each."""
    names = ["image_id", "prediction_count", *scored_functions(rules)]
    for images in adjacent_images(scored, rules):
        first = pa.array(runs.take(images.num_rows))
        yield pa.Table.from_batches([images.select(names).append_column("prediction_index", first)])


def write_table(storage: Storage, name: str, tables: Iterable[pa.Table]) -> None:
    """Write tables of one schema as row groups of some size; no table is no file."""
    with ExitStack() as closing:
        writer: pq.ParquetWriter | None = None
        for part in joined(tables, DEFAULT_BATCH_ROWS):
            if writer is None:
                file = closing.enter_context(storage.writing(name))
                # Ids and scores hardly repeat: to look for what does took as long as the kernels.
                writer = closing.enter_context(
                    pq.ParquetWriter(file, part.schema, use_dictionary=False)
                )
            writer.write_table(part, row_group_size=ROWS_LOOKED_UP)


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
