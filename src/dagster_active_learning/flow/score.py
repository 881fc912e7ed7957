"""Predictions -> image scores."""

from __future__ import annotations

from collections.abc import Iterator

from dagster_active_learning.acquisition.batches import (
    PredictionScores,
    adjacent_images,
    score_predictions,
    single_images,
)
from dagster_active_learning.errors import PoolStateError
from dagster_active_learning.flow.progress import Progress, Report
from dagster_active_learning.flow.read_ahead import read_ahead
from dagster_active_learning.limits import rows_for
from dagster_active_learning.rules import Rules
from dagster_active_learning.store import prediction_sets
from dagster_active_learning.store.image_scores import (
    add_images_without_predictions,
    replace_image_scores,
)
from dagster_active_learning.store.pool_store import PoolStore
from dagster_active_learning.store.prediction_sets import PredictionSet
from dagster_active_learning.store.predictions import predictions_by_image


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

    def scored() -> Iterator[PredictionScores]:
        for batch in read_ahead(predictions):
            yield score_predictions(batch, rules)
            progress.add(batch.num_rows)

    with store.transaction():
        one_each = stored.image_count == stored.prediction_count
        images = map(single_images, scored()) if one_each else adjacent_images(scored(), rules)
        replace_image_scores(store, prediction_set, images)
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
