"""A bucket of the scores of predictions -> the scores of its images: wave 2 of a set in place.

Rows are added up in the order of the set: sums of floats in another order have other bits.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from dagster_active_learning.acquisition.batches import PredictionScores
from dagster_active_learning.files.in_place import Storage
from dagster_active_learning.flow.best_images import BestImages, without_classes
from dagster_active_learning.flow.runs import Runs
from dagster_active_learning.flow.score_tables import (
    image_scores,
    scored_functions,
    scores_kept,
    write_best,
    write_table,
)
from dagster_active_learning.limits import DEFAULT_BATCH_ROWS
from dagster_active_learning.rules import Rules


@dataclass(frozen=True)
class BucketTask:
    """The images of one bucket.

    Attributes:
        folder: The set's folder.
        bucket: Number of the bucket.
        parts: Names of the files in ``rows/`` that have predictions of it, in the order of the set,
            each with the row groups that they are in.
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
class BucketCounts:
    """What is known of a bucket once its images are scored."""

    name: str
    image_count: int
    row_count: int
    cuts: dict[str, float]
    is_new: bool = True


def score_bucket(task: BucketTask) -> BucketCounts:
    """Add up the scores of predictions to scores of images, or find that this was done."""
    storage = Storage(task.folder)
    done = storage.read(f"done/{task.name}.json")
    if done is not None:
        known: dict[str, Any] = json.loads(done)
        known["is_new"] = False
        return BucketCounts(**known)
    tables: list[pa.Table] = []
    for name, groups in task.parts:
        with storage.reading(f"rows/{name}.parquet") as opened, pq.ParquetFile(opened) as file:
            tables.append(file.read_row_groups(list(groups)))
    rows = pa.concat_tables(tables)
    rows = rows.sort_by([("image_id", "ascending"), ("prediction_index", "ascending")])
    runs = Runs(0, keep_ids=False)
    best = BestImages(scored_functions(task.rules), task.rules)

    def images() -> Iterator[pa.Table]:
        for table in image_scores(_scores_of_rows(rows, task.rules, runs), task.rules, runs):
            kept = table.filter(pa.array(best.wanted(table)))
            best.add(without_classes(kept))
            yield table

    write_table(storage, f"scores/{task.name}.parquet", images())
    write_best(storage, task.name, best)
    counts = BucketCounts(task.name, runs.run_count, rows.num_rows, best.cuts)
    storage.write(f"done/{task.name}.json", json.dumps(asdict(counts)).encode())
    return counts


def _scores_of_rows(rows: pa.Table, rules: Rules, runs: Runs) -> Iterator[PredictionScores]:
    """The scores of predictions as wave 1 has kept them."""
    for batch in rows.combine_chunks().to_batches(max_chunksize=DEFAULT_BATCH_ROWS):
        runs.add(batch)
        names = scores_kept(rules)
        scores = np.stack([batch.column(name).to_numpy(zero_copy_only=False) for name in names])
        validity = np.zeros(batch.num_rows, np.uint8)
        yield PredictionScores(batch, names, scores, validity)
