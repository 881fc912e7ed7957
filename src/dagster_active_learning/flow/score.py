"""Predictions -> image scores."""

# The functions of pyarrow.compute are made when it is imported.
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from dagster_active_learning.acquisition.kernels import add_by_image
from dagster_active_learning.acquisition.scoring import (
    class_prob_matrix,
    object_scores,
    prediction_scores,
)
from dagster_active_learning.errors import PoolStateError
from dagster_active_learning.flow.progress import Progress, Report
from dagster_active_learning.flow.read_ahead import read_ahead
from dagster_active_learning.limits import rows_for
from dagster_active_learning.rules import Rules
from dagster_active_learning.store import prediction_sets
from dagster_active_learning.store.image_scores import (
    add_images_without_predictions,
    image_score_schema,
    replace_image_scores,
)
from dagster_active_learning.store.pool_store import PoolStore
from dagster_active_learning.store.prediction_sets import PredictionSet
from dagster_active_learning.store.predictions import predictions_by_image

_Scores = npt.NDArray[np.float64]

_BEFORE_THE_FIRST = {"mean": 0.0, "sum": 0.0, "max": -np.inf, "min": np.inf}


def score_prediction_set(
    store: PoolStore,
    prediction_set: str,
    *,
    rules: Rules,
    report: Report,
    batch_rows: int | None = None,
) -> PredictionSet:
    """Compute the scores of every image of a prediction set, in place of those it had.

    The predictions are read once; memory holds a few batches of them, whatever their number.

    Args:
        store: The pool.
        prediction_set: Name of the set.
        rules: How predictions are scored, and whether the pool's images are those of its manifest;
            otherwise they are those that the model has seen.
        report: Told how many predictions have been scored.
        batch_rows: How many predictions a batch has; the scores are the same for every value.

    Raises:
        PoolStateError: If the prediction set is not in the database, or is replaced while it is
            read.
    """
    stored = prediction_sets.prediction_set(store, prediction_set)
    progress = Progress("scored", report)
    rows = batch_rows or rows_for(len(stored.class_names) * 8)
    predictions = predictions_by_image(store, stored, rows)

    def scored() -> Iterator[tuple[pa.Array, _Scores]]:
        for batch in read_ahead(predictions):
            yield batch.column("image_id"), _prediction_scores(batch, rules)
            progress.add(batch.num_rows)

    with store.transaction():
        one_each = stored.image_count == stored.prediction_count
        replace_image_scores(
            store, prediction_set, _one_each(scored()) if one_each else _by_image(scored(), rules)
        )
        if progress.rows != stored.prediction_count:
            raise PoolStateError(
                f"prediction set {prediction_set!r} of pool {store.pool!r} was replaced while it "
                "was scored: materialize its scores again"
            )
        add_images_without_predictions(store, prediction_set, rules)
        prediction_sets.set_scoring(
            store, prediction_set, inputs=rules.inputs, aggregation=rules.aggregation
        )
    progress.finish()
    return stored


def _prediction_scores(batch: pa.RecordBatch, rules: Rules) -> _Scores:
    """Scores (4, n_predictions), of objects (5, n_predictions)."""
    class_probs = batch.column("class_probs")
    independent = rules.inputs == "independent"
    if not rules.objects:
        return prediction_scores(
            class_prob_matrix(class_probs), objects=False, independent=independent
        )
    return object_scores(
        class_prob_matrix(class_probs.drop_null()),
        class_probs.is_valid().to_numpy(zero_copy_only=False),
        batch.column("score").to_numpy(zero_copy_only=False),
        independent=independent,
        binary=rules.score_only == "binary",
    )


def _one_each(scored: Iterator[tuple[pa.Array, _Scores]]) -> Iterator[pa.RecordBatch]:
    """Scores of images that have one prediction each: those of their predictions."""
    for image_ids, scores in scored:
        yield _batch(image_ids, np.ones(len(image_ids), np.int64), scores)


def _by_image(scored: Iterator[tuple[pa.Array, _Scores]], rules: Rules) -> Iterator[pa.RecordBatch]:
    """Scores of images whose predictions stand together, also across the ends of batches."""
    keep = "sum" if rules.aggregation == "mean" else rules.aggregation
    n_scores = 5 if rules.objects else 4
    # The last image of a batch stays open: the next batch may go on with it.
    open_id = pa.array([], pa.string())
    open_totals = np.empty((0, n_scores))
    open_count = np.empty(0, np.int64)
    for image_ids, scores in scored:
        ids = pa.concat_arrays([open_id, image_ids])
        is_other = pc.not_equal(ids[1:], ids[:-1]).to_numpy(zero_copy_only=False)
        starts = np.concatenate([[True], is_other])
        image_index = np.cumsum(starts) - 1
        n_images = int(image_index[-1]) + 1
        totals = np.full((n_images, n_scores), _BEFORE_THE_FIRST[rules.aggregation])
        counts = np.zeros(n_images, np.int64)
        totals[: len(open_count)], counts[: len(open_count)] = open_totals, open_count
        add_by_image(
            np.ascontiguousarray(scores), image_index[len(open_count) :], totals, counts, keep=keep
        )
        images = ids.filter(pa.array(starts))
        open_id, open_totals, open_count = images[-1:], totals[-1:], counts[-1:]
        yield _image_batch(images[:-1], counts[:-1], totals[:-1], rules)
    if len(open_count):
        yield _image_batch(open_id, open_count, open_totals, rules)


def _image_batch(
    image_ids: pa.Array, counts: npt.NDArray[np.int64], totals: _Scores, rules: Rules
) -> pa.RecordBatch:
    if rules.aggregation == "mean":
        totals = totals / counts[:, None]
    return _batch(image_ids, counts, np.ascontiguousarray(totals.T))


def _batch(image_ids: pa.Array, counts: npt.NDArray[np.int64], scores: _Scores) -> pa.RecordBatch:
    """What the store takes; NaN is a score that there is not."""
    schema = image_score_schema()
    columns: list[Any] = [pa.array(row, from_pandas=True) for row in scores]
    columns += [pa.nulls(len(counts), pa.float64())] * (len(schema) - 2 - len(columns))
    return pa.RecordBatch.from_arrays([image_ids, pa.array(counts), *columns], schema=schema)
