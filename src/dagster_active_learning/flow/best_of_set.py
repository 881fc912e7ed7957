"""The best images of all files or buckets -> those of the set, and the predictions of the first."""

# The functions of pyarrow.compute are made when it is imported.
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from dagster_active_learning.files.answers import answers
from dagster_active_learning.files.storage import Storage
from dagster_active_learning.flow.best_images import (
    BestImages,
    images_with_predictions,
    one_row_per_prediction,
)
from dagster_active_learning.flow.bucket_scores import BucketCounts
from dagster_active_learning.flow.file_scores import FileCounts
from dagster_active_learning.flow.score_tables import scored_functions, write_table
from dagster_active_learning.rules import Rules
from dagster_active_learning.store.kept_predictions import ROWS_OF_IMAGES

BEST = "best.parquet"
"""The file with the images that come first by each function, of the whole set."""

PREDICTIONS = "predictions.parquet"
"""The file with the predictions of the first of them."""

Part = FileCounts | BucketCounts


def join_best(
    folder: Storage, parts: Sequence[Part], rules: Rules
) -> tuple[str | None, dict[str, float]]:
    """Put the best images of all parts into one file; returns its name and the cuts."""
    best = BestImages(scored_functions(rules), rules)

    def read(part: Part) -> pa.Table:
        with folder.reading(f"best/{part.name}.parquet") as opened:
            return pq.read_table(opened, use_threads=False)

    for part, images in zip(parts, answers(read, parts), strict=True):
        best.add(images.filter(pa.array(best.wanted(images))), part.cuts)
    table = best.table()
    if table is None:
        return None, {}
    write_table(folder, BEST, [table])
    return BEST, best.cuts


def join_predictions(folder: Storage, parts: Sequence[Part], rules: Rules) -> str:
    """Put the predictions of the first images of all files into one file; returns its name."""
    first = images_with_predictions(scored_functions(rules), rules)
    with folder.reading(BEST) as opened:
        best = pq.read_table(opened, use_threads=False)
    first.add(best)
    first.table()  # of which the cuts are known then
    wanted = best.filter(pa.array(first.wanted(best))).column("prediction_index")

    def read(part: Part) -> pa.Table:
        with (
            folder.reading(f"predictions/{part.name}.parquet") as opened,
            pq.ParquetFile(opened) as file,
        ):
            # Not whole: that of each file may be as long as those of the set.
            batches = (
                batch.filter(pc.is_in(batch.column("prediction_index"), wanted))
                for batch in file.iter_batches(ROWS_OF_IMAGES, use_threads=False)
            )
            return pa.Table.from_batches(batches, file.schema_arrow)

    images = pa.concat_tables(answers(read, parts))
    write_table(folder, PREDICTIONS, [one_row_per_prediction(images)], ROWS_OF_IMAGES)
    return PREDICTIONS
