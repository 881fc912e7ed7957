"""Scores of predictions on their way to their images: ``rows/`` of a set's folder, in buckets.

A file per source file, whose batches have the predictions of one bucket each. They are Arrow files
and not Parquet: each is read once, and encoding took longer than scoring.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack

import numpy as np
import pyarrow as pa

from dagster_active_learning.acquisition.batches import PredictionScores
from dagster_active_learning.acquisition.class_probs import class_prob_matrix
from dagster_active_learning.files.storage import Storage
from dagster_active_learning.flow.beside_scores import beside_predictions
from dagster_active_learning.flow.id_hashes import id_hashes
from dagster_active_learning.flow.repeated_predictions import prediction_contents
from dagster_active_learning.flow.score_tables import joined, scores_kept
from dagster_active_learning.limits import DEFAULT_BATCH_ROWS
from dagster_active_learning.rules import Rules

ROWS_BETWEEN_BUCKETS = 4 * DEFAULT_BATCH_ROWS
"""Predictions that are put into buckets together: a bucket gets a batch of each such part."""

PART_BYTES = 32 * 2**20
"""Class probabilities of them at the most, where there are any: those of a committee."""

BUCKET_BYTES = 128 * 2**20
"""Class probabilities of a bucket at the most, as far as buckets are of one size."""

CONTENTS = ("content_of_classes", "content")
"""The columns with the hashes of predictions, as ``prediction_contents`` gives them."""


def rows_within(size: int, rules: Rules, class_names: Sequence[str] | None, value_type: str) -> int:
    """The number of predictions whose class probabilities take some bytes; without any, `size`.

    Args:
        size: The number of bytes.
        rules: How predictions are scored.
        class_names: Names of the classes of the set, None where it has no class probabilities.
        value_type: The set's precision, ``float`` or ``double``.
    """
    if not rules.committee or class_names is None:
        return size
    return max(1, size // (len(class_names) * (8 if value_type == "double" else 4)))


def write_rows(
    storage: Storage,
    name: str,
    predictions: Iterable[PredictionScores],
    *,
    first_index: int,
    rules: Rules,
    buckets: int,
    part_rows: int,
) -> tuple[int, ...]:
    """Write scores of predictions in buckets; returns the bucket of each batch.

    Args:
        storage: The set's folder.
        name: The name of the file.
        predictions: The predictions with their scores.
        first_index: What to add to the position of a prediction.
        rules: How they were scored.
        buckets: The number of buckets.
        part_rows: How many predictions are put into buckets together.
    """
    groups: list[int] = []
    with ExitStack() as closing:
        writer: pa.RecordBatchFileWriter | None = None
        for part in joined(_rows(predictions, first_index, rules), part_rows):
            if writer is None:
                file = closing.enter_context(storage.writing(_file(name)))
                writer = closing.enter_context(pa.ipc.new_file(file, part.schema))
            whole = part.combine_chunks()
            hashes = id_hashes(whole.column("image_id").chunk(0))
            bucket = (hashes % np.uint64(buckets)).astype(np.int64)
            ordered = whole.take(pa.array(np.argsort(bucket, kind="stable")))
            ends = np.cumsum(np.bincount(bucket, minlength=buckets))
            for place, (start, end) in enumerate(zip([0, *ends[:-1]], ends, strict=True)):
                if end > start:
                    writer.write_table(ordered.slice(start, end - start))
                    groups.append(place)
    return tuple(groups)


def read_rows(storage: Storage, name: str, groups: Sequence[int]) -> pa.Table:
    """Some batches of a file that ``write_rows`` has written."""
    with storage.reading(_file(name)) as opened, pa.ipc.open_file(opened) as file:
        return pa.Table.from_batches([file.get_batch(group) for group in groups])


def _file(name: str) -> str:
    return f"rows/{name}.arrow"


def _rows(
    predictions: Iterable[PredictionScores], first_index: int, rules: Rules
) -> Iterator[pa.Table]:
    for scored in predictions:
        batch = scored.predictions
        if not batch.num_rows:
            continue
        columns = {
            "image_id": batch.column("image_id"),
            "prediction_index": pa.array(batch.column("prediction_index").to_numpy() + first_index),
            **{name: pa.array(scored.under(name)) for name in scores_kept(rules)},
            **beside_predictions(batch, rules),
        }
        contents = prediction_contents(batch, objects=rules.objects)
        columns |= dict(zip(CONTENTS, map(pa.array, contents.T), strict=True))
        if rules.committee:
            matrix = class_prob_matrix(batch.column("class_probs"))
            values = pa.array(matrix.reshape(-1))
            # Of lists of one length rows are taken twenty times as fast.
            columns["class_probs"] = pa.FixedSizeListArray.from_arrays(values, matrix.shape[1])
        yield pa.table(columns)
