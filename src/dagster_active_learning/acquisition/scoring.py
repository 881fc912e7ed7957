"""Scores of images from NumPy arrays and columns of polars and Arrow."""

# The functions of pyarrow.compute are made when it is imported.
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

from dataclasses import replace
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from dagster_active_learning.acquisition.batches import (
    PredictionScores,
    check_validity,
    score_batch,
    score_predictions,
)
from dagster_active_learning.acquisition.class_probs import class_prob_matrix
from dagster_active_learning.acquisition.functions import ACQUISITION_FUNCTIONS
from dagster_active_learning.limits import PROBABILITY_TOLERANCE
from dagster_active_learning.rules import Rules

ClassProbs: TypeAlias = "npt.NDArray[np.floating[Any]] | pl.Series | pa.Array | pa.ChunkedArray"
"""``(n_predictions, n_classes)`` class probabilities, or a column of lists of K of them."""

Column: TypeAlias = "npt.NDArray[Any] | pl.Series | pa.Array | pa.ChunkedArray | list[Any]"


def score_images(
    class_probs: ClassProbs | None,
    image_ids: Column | None = None,
    *,
    scores: Column | None = None,
    sum_tolerance: float = PROBABILITY_TOLERANCE,
    committee: bool = False,
) -> pl.DataFrame:
    """Score images under every acquisition function in one pass over the class probabilities.

    An image's score is the mean over its predictions; the formulas and their sources are those of
    ``ACQUISITION_FUNCTIONS``.

    Args:
        class_probs: ``(n_predictions, n_classes)`` array of float16, float32 or float64, or a
            polars or Arrow column of lists or arrays of equal length; K >= 2. float32 is computed
            in float32 with wide sums, float16 is widened to it. None where a detector gives only
            ``scores``: then the first four functions are null.
        image_ids: ``(n_predictions,)`` text or integers: the image of each prediction. Predictions
            with the same id are averaged, wherever they stand. Without it every row is an image.
        scores: ``(n_predictions,)`` the detector's own score of each object, in 0..1; without it
            the largest class probability is the object's score. It needs ``image_ids``.
        sum_tolerance: How far from 1 a row's sum may be, and how far outside 0..1 a value: more
            where low precision has rounded them.
        committee: Whether the rows with the same id are votes about it, of several models or of
            one: then the mean of their class probabilities is scored, in float64, instead of the
            mean of their scores taken, and mutual information and vote entropy compare them. It
            needs ``image_ids``.

    Returns:
        The columns image_id, prediction_count, and one per acquisition function: entropy (bits),
        least_confidence, margin, variance, mean_object_score, and of a committee
        mutual_information and vote_entropy (bits); one row per image in order of first
        appearance. Without ``image_ids`` image_id is the row position; then, and of a
        committee, mean_object_score is null.

    Raises:
        TypeError: If an argument is not an array or column of the kind described.
        ValueError: If the lengths differ, an id is null, or a row is not a probability
            distribution: every value finite and in 0..1 and their sum 1, both within
            ``sum_tolerance``. The message names the first such row.

    Example:
        >>> score_images(np.array([[0.5, 0.5], [0.9, 0.1]]))["margin"].to_list()
        [0.0, 0.8]
    """
    if class_probs is None and scores is None:
        raise TypeError("score_images needs class_probs, or scores of a detector without them")
    if scores is not None and image_ids is None:
        raise ValueError("scores are averaged over the objects of an image: image_ids are missing")
    if committee and (scores is not None or image_ids is None):
        raise ValueError(
            "committee: the votes are class probabilities of the same image, expected image_ids "
            "and no scores of objects"
        )
    matrix = None if class_probs is None else class_prob_matrix(_without_polars(class_probs))
    rules = Rules(sum_tolerance=sum_tolerance, committee=committee)
    object_scores = None if scores is None else _object_scores(scores, sum_tolerance)
    n_predictions = len(object_scores) if matrix is None else len(matrix)  # pyright: ignore[reportArgumentType]
    lists = _lists(matrix, n_predictions)
    if image_ids is None:
        scored = score_predictions(pa.record_batch({"class_probs": lists}), rules)
        check_validity(scored, rules)
        return _images_of_rows(scored)
    ids = _arrow(image_ids)
    _check_length("image_ids", len(ids), n_predictions)
    if object_scores is None:
        object_scores = pa.nulls(n_predictions, pa.float64())
    _check_length("scores", len(object_scores), n_predictions)
    predictions = pa.record_batch({"image_id": ids, "class_probs": lists, "score": object_scores})
    if not committee:
        rules = replace(rules, task="detection")
    images = pl.DataFrame(score_batch(predictions, rules))
    return images if committee else images.drop(_of_committees())


def _of_committees() -> list[str]:
    """The functions that compare members, which nothing but a committee has."""
    return [name for name, one in ACQUISITION_FUNCTIONS.items() if one.level == "committee"]


def _images_of_rows(scored: PredictionScores) -> pl.DataFrame:
    """The scores of valid predictions as scores of images that have one each.

    A kernel gives a valid prediction no NaN, so its scores are not searched for it, and a column of
    one value is not written out: both took a fifth of the kernel's time for 10 classes.
    """
    n_images = len(scored.validity)
    columns: list[pl.Series | pl.Expr] = [
        pl.int_range(n_images, dtype=pl.UInt32, eager=True).alias("image_id"),
        pl.lit(1, pl.Int64).alias("prediction_count"),
    ]
    for name, function in ACQUISITION_FUNCTIONS.items():
        if function.level == "committee":
            continue
        if name not in scored.functions:
            columns.append(pl.lit(None, pl.Float64).alias(name))
            continue
        scores = pl.Series(name, pa.array(scored.under(name)))
        columns.append(scores if isinstance(function.scores, str) else scores.fill_nan(None))
    return pl.select(columns)


def _lists(matrix: npt.NDArray[Any] | None, n_predictions: int) -> pa.Array:
    """The rows of a matrix as lists, not copied; null if there is no matrix."""
    if matrix is None:
        return pa.nulls(n_predictions, pa.list_(pa.float64()))
    if matrix.shape[1] < 2:
        raise ValueError(f"class_probs has shape {matrix.shape}, expected 2 classes or more")
    return pa.FixedSizeListArray.from_arrays(pa.array(matrix.reshape(-1)), matrix.shape[1])


def _check_length(name: str, length: int, expected: int) -> None:
    if length != expected:
        raise ValueError(f"{name} has {length} rows, expected {expected} as in class_probs")


def _object_scores(scores: Column, tolerance: float) -> pa.Array:
    column = _arrow(scores)
    try:
        values = column.cast(pa.float64())
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise TypeError(f"scores is a column of {column.type}, expected numbers") from error
    numbers = values.to_numpy(zero_copy_only=False)
    outside = ~((numbers >= -tolerance) & (numbers <= 1 + tolerance))
    if outside.any():
        row = int(np.flatnonzero(outside)[0])
        value = column[row] if column[row].is_valid else "null"
        raise ValueError(f"scores: row {row} is {value}, expected a number in 0..1")
    return values


def _arrow(values: Column) -> pa.Array:
    column: Any = _without_polars(values)
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
    if not isinstance(column, pa.Array):
        column = pa.array(column)
    return column.dictionary_decode() if pa.types.is_dictionary(column.type) else column


def _without_polars(values: Any) -> Any:
    return values.to_arrow() if isinstance(values, pl.Series) else values
