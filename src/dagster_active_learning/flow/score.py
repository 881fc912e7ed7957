"""Predictions -> image scores."""

from __future__ import annotations

import numpy as np
import polars as pl

from dagster_active_learning.acquisition.functions import ACQUISITION_FUNCTIONS
from dagster_active_learning.acquisition.kernels import add_by_image
from dagster_active_learning.acquisition.scoring import (
    class_prob_matrix,
    image_frame,
    prediction_scores,
)
from dagster_active_learning.flow.progress import Progress, Report
from dagster_active_learning.readers.stream import rows_for
from dagster_active_learning.rules import Rules
from dagster_active_learning.store import PoolStore, PredictionSet

_BEFORE_THE_FIRST = {"mean": 0.0, "sum": 0.0, "max": -np.inf, "min": np.inf}


def score_prediction_set(
    store: PoolStore,
    prediction_set: str,
    *,
    rules: Rules,
    in_manifest: bool,
    report: Report,
    batch_rows: int | None = None,
) -> PredictionSet:
    """Compute the scores of every image of a prediction set, in place of those it had.

    Memory holds one batch and the scores of all images.

    Args:
        store: The pool.
        prediction_set: Name of the set.
        rules: How predictions are scored.
        in_manifest: Whether the pool's images are those of its manifest; otherwise they are those
            that the model has seen.
        report: Told how many predictions have been scored.
        batch_rows: How many predictions a batch has; the scores are the same for every value.

    Raises:
        PoolStateError: If the prediction set is not in the database.
    """
    stored = store.prediction_set(prediction_set)
    progress = Progress("scored", report)
    with store.transaction():
        store.index_images(prediction_set)
        shape = (len(ACQUISITION_FUNCTIONS), stored.image_count)
        totals = np.full(shape, _BEFORE_THE_FIRST[rules.aggregation])
        counts = np.zeros(stored.image_count, dtype=np.int64)
        rows = batch_rows or rows_for(len(stored.class_names) * 8)
        for batch in store.indexed_predictions(stored, rows):
            class_probs = batch.column("class_probs")
            has_probs = class_probs.is_valid().to_numpy(zero_copy_only=False)
            whole = bool(has_probs.all())
            scores = prediction_scores(
                class_prob_matrix(class_probs if whole else class_probs.drop_null()),
                None if whole else has_probs,
                batch.column("score").to_numpy(zero_copy_only=False),
                independent=rules.inputs == "independent",
                binary=rules.score_only == "binary",
            )
            image_index = batch.column("image_index").to_numpy()
            keep = "sum" if rules.aggregation == "mean" else rules.aggregation
            add_by_image(scores, image_index, totals, counts, keep=keep)
            progress.add(batch.num_rows)
        if rules.aggregation == "mean":
            totals /= counts
        images = image_frame(counts, totals).fill_nan(None)
        if not rules.objects:
            images = images.with_columns(mean_object_score=pl.lit(None, pl.Float64))
        store.replace_image_scores(
            prediction_set,
            images.with_row_index("image_index"),
            in_manifest=in_manifest,
            objects=rules.objects,
        )
    progress.finish()
    return stored
