"""A bucket of the scores of predictions -> the scores of its images: wave 2 of a set in place.

Rows are added up in the order of the set: sums of floats in another order have other bits.
"""

# The functions of pyarrow.compute are made when it is imported.
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dagster_active_learning.acquisition.batches import PredictionScores
from dagster_active_learning.files.storage import Storage
from dagster_active_learning.flow.best_images import BestImages, without_classes
from dagster_active_learning.flow.bucket_rows import CONTENTS, read_rows
from dagster_active_learning.flow.finished_tasks import Finished, finish, finished
from dagster_active_learning.flow.repeated_predictions import RepeatedPredictions
from dagster_active_learning.flow.score_tables import (
    counted_columns,
    image_scores,
    scored_functions,
    scores_alone,
    scores_kept,
    write_best,
    write_table,
)
from dagster_active_learning.limits import rows_for
from dagster_active_learning.rules import Rules
from dagster_active_learning.store.score_counts import Counts, count_scores, join_counts


@dataclass(frozen=True)
class BucketTask:
    """The images of one bucket.

    Attributes:
        folder: The set's folder.
        bucket: Number of the bucket.
        parts: Names of the files in ``rows/`` that have predictions of it, in the order of the set,
            each with the batches that they are in.
        rules: How predictions are scored.
    """

    folder: str
    bucket: int
    parts: tuple[tuple[str, tuple[int, ...]], ...]
    rules: Rules

    @property
    def name(self) -> str:
        """The name of what is written about it."""
        return f"bucket-{self.bucket:06d}"

    def __str__(self) -> str:
        return f"bucket {self.bucket} of {self.folder}"


@dataclass(frozen=True)
class BucketCounts(Finished):
    """What is known of a bucket once its images are scored."""

    name: str
    image_count: int
    row_count: int
    cuts: dict[str, float]
    scores: Counts
    repeated: Sequence[Any]


def score_bucket(task: BucketTask) -> BucketCounts:
    """Add up the scores of predictions to scores of images, or find that this was done."""
    storage = Storage(task.folder)
    known = finished(storage, task.name, BucketCounts)
    if known is not None:
        return known
    parts = (read_rows(storage, name, groups) for name, groups in task.parts)
    # Rows of one piece are taken sixty times as fast.
    rows = pa.concat_tables(parts).combine_chunks()
    best = BestImages(scored_functions(task.rules), task.rules)
    counts: list[Counts] = []
    repeated = RepeatedPredictions()
    image_count = 0

    def counted() -> Iterator[PredictionScores]:
        for scored in _in_order(rows, task.rules):
            batch = scored.predictions
            hashes = np.stack([batch.column(name).to_numpy() for name in CONTENTS], axis=1)
            index = batch.column("prediction_index").to_numpy()
            repeated.add(batch.column("image_id"), index, lambda start, own=hashes: own[start:])
            yield scored

    def images() -> Iterator[pa.Table]:
        nonlocal image_count
        for table in image_scores(counted(), task.rules):
            image_count += table.num_rows
            counts.append(count_scores(table, counted_columns(task.rules)))
            alone = scores_alone(table)
            best.add(without_classes(alone.filter(pa.array(best.wanted(alone)))))
            yield table

    write_table(storage, f"scores/{task.name}.parquet", images())
    write_best(storage, task.name, best)
    done = BucketCounts(
        name=task.name,
        image_count=image_count,
        row_count=rows.num_rows,
        cuts=best.cuts,
        scores=join_counts(counts),
        repeated=repeated.found(),
        files=storage.written,
    )
    finish(storage, task.name, done)
    return done


def _in_order(rows: pa.Table, rules: Rules) -> Iterator[PredictionScores]:
    """Scores of predictions, image by image and in the order of the set.

    Class probabilities are put in order batch by batch: all at once they would be there twice.
    """
    keys = [("image_id", "ascending"), ("prediction_index", "ascending")]
    order = pc.sort_indices(rows, sort_keys=keys)
    names = scores_kept(rules)
    step = rows_for(4 * rows.nbytes // rows.num_rows)
    for start in range(0, len(order), step):
        (batch,) = rows.take(order[start : start + step]).to_batches()
        scores = np.stack([batch.column(name).to_numpy(zero_copy_only=False) for name in names])
        yield PredictionScores(batch, names, scores, np.zeros(batch.num_rows, np.uint8))
