"""Predictions -> image scores."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa

from dagster_active_learning.acquisition.batches import (
    PredictionScores,
    adjacent_images,
    score_predictions,
    single_images,
)
from dagster_active_learning.acquisition.functions import ACQUISITION_FUNCTIONS
from dagster_active_learning.errors import PoolStateError
from dagster_active_learning.flow.progress import Progress, Report
from dagster_active_learning.flow.read_ahead import read_ahead
from dagster_active_learning.flow.sorted_rows import kept_functions
from dagster_active_learning.limits import rows_for
from dagster_active_learning.rules import Rules
from dagster_active_learning.store import prediction_sets
from dagster_active_learning.store.image_scores import (
    add_image_scores,
    images_without_predictions,
    replace_image_scores,
)
from dagster_active_learning.store.in_place_sets import forget_scores
from dagster_active_learning.store.kept_scores import (
    has_kept_scores,
    show_kept_scores,
    store_kept_scores,
)
from dagster_active_learning.store.pool_store import PoolStore
from dagster_active_learning.store.prediction_sets import PredictionSet
from dagster_active_learning.store.predictions import predictions_by_image
from dagster_active_learning.store.scorings import replace_scoring
from dagster_active_learning.store.set_tables import renew_views


def score_prediction_set(
    store: PoolStore,
    prediction_set: str,
    *,
    rules: Rules,
    run_id: str,
    report: Report,
    batch_rows: int | None = None,
) -> PredictionSet:
    """Give every image of a prediction set its scores, in place of those it had.

    They are those that were kept when the predictions were read, where each image has one. Other
    predictions are read once; memory holds a few batches of them, whatever their number.

    Args:
        store: The pool.
        prediction_set: Name of the set.
        rules: How predictions are scored, and whether the pool's images are those of its manifest;
            otherwise they are those that the model has seen.
        run_id: What scores them, for the record.
        report: Told how many predictions have been scored.
        batch_rows: How many predictions a batch has; the scores are the same for every value.

    Raises:
        PoolStateError: If the prediction set is not in the database, was read under other rules,
            or is replaced while it is read.
    """
    with store.transaction():
        # The record first: predictions that are replaced after it have another generation.
        stored = prediction_sets.prediction_set(store, prediction_set)
        prediction_sets.check_reading(store, stored, rules)
        forget_scores(store, prediction_set)
        kept = _kept_functions(store, stored, rules)
        if kept:
            show_kept_scores(store, stored.tables, kept)
            report(f"scored {stored.prediction_count:,} predictions when they were read")
        else:
            _score(store, stored, rules, batch_rows, report)
        others = images_without_predictions(store, stored.tables, rules)
        if others.num_rows:
            if kept:
                store_kept_scores(store, stored.tables, kept)
            add_image_scores(store, stored.tables, others)
        renew_views(store.connection)
        replace_scoring(store, prediction_set, rules, run_id)
    return stored


def _kept_functions(store: PoolStore, stored: PredictionSet, rules: Rules) -> dict[str, str]:
    """The acquisition functions with their kernel rows, if the scores were kept, else none."""
    kernel_rows = [str(one.scores) for one in kept_functions(rules)]
    if not has_kept_scores(store, stored, kernel_rows):
        return {}
    return {
        one.name: str(one.scores) for one in ACQUISITION_FUNCTIONS.values() if one.applies_to(rules)
    }


def _score(
    store: PoolStore, stored: PredictionSet, rules: Rules, batch_rows: int | None, report: Report
) -> None:
    progress = Progress("scored", report)

    def scored(predictions: pa.RecordBatchReader) -> Iterator[PredictionScores]:
        for batch in read_ahead(predictions):
            yield score_predictions(batch, rules)
            progress.add(batch.num_rows)

    rows = batch_rows or rows_for(len(stored.class_names) * 8)
    scores = scored(predictions_by_image(store, stored, rows))
    # The mean of a committee is in float64, also where it has one member.
    one_each = stored.image_count == stored.prediction_count and not rules.committee
    images = map(single_images, scores) if one_each else adjacent_images(scores, rules)
    replace_image_scores(store, stored.tables, images)
    if progress.rows != stored.prediction_count:
        raise PoolStateError(
            f"prediction set {stored.prediction_set!r} of pool {store.pool!r} was replaced while "
            "it was scored: materialize its scores again"
        )
    progress.finish()
