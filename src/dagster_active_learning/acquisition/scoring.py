"""Scores of images from arrays: the kernels behind NumPy, polars and Arrow."""

# The functions of pyarrow.compute are made when it is imported.
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from dagster_active_learning.acquisition.functions import ACQUISITION_FUNCTIONS
from dagster_active_learning.acquisition.kernels import (
    PROBABILITY_TOLERANCE,
    Validity,
    add_by_image,
    score_class_probs,
)

ClassProbs: TypeAlias = "npt.NDArray[np.floating[Any]] | pl.Series | pa.Array | pa.ChunkedArray"
"""``(n_predictions, n_classes)`` class probabilities, or a column of lists of K of them."""

Column: TypeAlias = "npt.NDArray[Any] | pl.Series | pa.Array | pa.ChunkedArray | list[Any]"

_ROWS_AT_A_TIME = 1 << 16

_EXPECTED = {
    Validity.NOT_FINITE: "finite numbers",
    Validity.NEGATIVE: f"at least 0 (within {PROBABILITY_TOLERANCE})",
    Validity.ABOVE_ONE: f"at most 1 (within {PROBABILITY_TOLERANCE})",
    Validity.WRONG_SUM: f"a sum of 1 (within {PROBABILITY_TOLERANCE})",
}


def score_images(
    class_probs: ClassProbs | None,
    image_ids: Column | None = None,
    *,
    scores: Column | None = None,
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

    Returns:
        The columns image_id, prediction_count, entropy (bits), least_confidence, margin, variance
        and mean_object_score, one row an image in order of first appearance. Without ``image_ids``
        image_id is the row position and mean_object_score is null.

    Raises:
        TypeError: If an argument is not an array or column of the kind described.
        ValueError: If the lengths differ, an id is null, or a row is not a probability
            distribution: every value finite and in 0..1 and their sum 1, both within 1e-3. The
            message names the first such row.

    Example:
        >>> score_images(np.array([[0.5, 0.5], [0.9, 0.1]]))["margin"].to_list()
        [0.0, 0.8]
    """
    if class_probs is None and scores is None:
        raise TypeError("score_images needs class_probs, or scores of a detector without them")
    if scores is not None and image_ids is None:
        raise ValueError("scores are averaged over the objects of an image: image_ids are missing")
    matrix = None if class_probs is None else class_prob_matrix(class_probs)
    own = None if scores is None else _object_scores(scores)
    n_predictions = len(own) if matrix is None else len(matrix)  # pyright: ignore[reportArgumentType]
    if own is not None:
        _check_length("scores", len(own), n_predictions)
    if image_ids is None and matrix is not None:
        per_image, validity = score_class_probs(matrix)
        _check(matrix, validity)
        frame = _image_frame(pl.lit(1, pl.Int64), per_image)
        return frame.select(pl.row_index("image_id"), pl.all())

    ids, image_index = _image_index(image_ids, n_predictions)
    totals = np.zeros((len(ids), len(ACQUISITION_FUNCTIONS)))
    counts = np.zeros(len(ids), dtype=np.int64)
    # A few rows at a time, whose scores then stay in the processor's cache.
    for start in range(0, n_predictions, _ROWS_AT_A_TIME):
        rows = slice(start, min(start + _ROWS_AT_A_TIME, n_predictions))
        if matrix is None:
            per_object = np.full((len(ACQUISITION_FUNCTIONS), rows.stop - rows.start), np.nan)
        else:
            per_object, validity = score_class_probs(matrix[rows], objects=True)
            _check(matrix[rows], validity, start)
        if own is not None:
            per_object[-1] = own[rows]
        add_by_image(per_object, image_index[rows], totals, counts)
    frame = _image_frame(counts, (totals / counts[:, None]).T).fill_nan(None)
    return frame.select(ids, pl.all())


def _image_frame(
    counts: npt.NDArray[np.int64] | pl.Expr, scores: npt.NDArray[np.float64]
) -> pl.DataFrame:
    """Scores ``(4, n_images)`` or, of objects, ``(5, n_images)`` as columns, behind the counts."""
    given = dict(zip(ACQUISITION_FUNCTIONS, scores, strict=False))
    without = [name for name in ACQUISITION_FUNCTIONS if name not in given]
    return pl.DataFrame(given).select(
        (counts if isinstance(counts, pl.Expr) else pl.Series(counts)).alias("prediction_count"),
        pl.all(),
        *[pl.lit(None, pl.Float64).alias(name) for name in without],
    )


def prediction_scores(
    class_probs: npt.NDArray[Any],
    *,
    objects: bool,
    independent: bool,
) -> npt.NDArray[np.float64]:
    """The scores of valid predictions.

    Args:
        class_probs: ``(n_predictions, n_classes)`` class probabilities.
        objects: Whether a prediction is an object, whose score is the largest class probability.
        independent: Whether the class probabilities do not exclude each other; the entropy is
            then the sum of the classes' binary entropies.

    Returns:
        ``(4, n_predictions)``, of objects ``(5, n_predictions)``, in the order of
        ``ACQUISITION_FUNCTIONS``.
    """
    if not independent:
        return score_class_probs(class_probs, objects=objects)[0]
    scores, _ = score_class_probs(class_probs, objects=objects, sum_tolerance=np.inf)
    # A value that is legal just outside 0..1 must not make its complement illegal.
    complement = (1 - class_probs).clip(0, 1)
    scores[0] += score_class_probs(complement, sum_tolerance=np.inf)[0][0]
    return scores


def object_scores(
    class_probs: npt.NDArray[Any],
    has_class_probs: npt.NDArray[np.bool_],
    given: npt.NDArray[np.float64],
    *,
    independent: bool,
    binary: bool,
) -> npt.NDArray[np.float64]:
    """The scores of valid predictions of objects, some of which may have no class probabilities.

    Args:
        class_probs: ``(m, n_classes)`` class probabilities of the objects that have them.
        has_class_probs: ``(n_predictions,)`` which m those are.
        given: ``(n_predictions,)`` the detector's own scores, NaN where it gives none; then the
            largest class probability is the object's score.
        independent: Whether the class probabilities do not exclude each other.
        binary: Whether a given score s without class probabilities stands for [s, 1-s].

    Returns:
        ``(5, n_predictions)`` in the order of ``ACQUISITION_FUNCTIONS``, NaN where there is no
        score.
    """
    if has_class_probs.all():
        scores = prediction_scores(class_probs, objects=True, independent=independent)
    else:
        scores = np.full((len(ACQUISITION_FUNCTIONS), len(given)), np.nan)
        if len(class_probs):
            scores[:, has_class_probs] = prediction_scores(
                class_probs, objects=True, independent=independent
            )
        if binary:
            alone = given[~has_class_probs]
            pairs = np.column_stack([alone, 1 - alone])
            scores[:, ~has_class_probs], _ = score_class_probs(pairs, objects=True)
    own = ~np.isnan(given)
    scores[-1, own] = given[own]
    return scores


def softmax(logits: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Class probabilities of logits ``(n_predictions, n_classes)``, in the logits' precision.

    A row that is not finite gives NaN.
    """
    with np.errstate(invalid="ignore", over="ignore"):
        powers = np.exp(logits - logits.max(axis=1, keepdims=True, initial=-np.inf))
        return powers / powers.sum(axis=1, keepdims=True)


def class_prob_matrix(class_probs: ClassProbs) -> npt.NDArray[Any]:
    """Class probabilities as the kernels take them: ``(n_predictions, n_classes)``, contiguous.

    float32 and float64 that are contiguous are not copied; float16 is widened to float32, other
    numbers to float64.

    Raises:
        TypeError: If it is not an array or column of numbers.
        ValueError: If a row is null, has a null, or has another length than the others.
    """
    column: Any = class_probs.to_arrow() if isinstance(class_probs, pl.Series) else class_probs
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
    if isinstance(column, pa.Array):
        matrix = _matrix_of_lists(column)
    elif isinstance(column, np.ndarray):
        matrix = column
    else:
        raise TypeError(
            f"class_probs is a {type(class_probs).__name__}, expected a NumPy array of shape "
            "(n_predictions, n_classes) or a polars or Arrow column of lists"
        )
    if matrix.ndim != 2 or matrix.dtype.kind not in "fiu":
        raise TypeError(
            f"class_probs has shape {matrix.shape} and type {matrix.dtype}, expected shape "
            "(n_predictions, n_classes) and numbers"
        )
    if matrix.dtype.kind != "f" or matrix.dtype.itemsize > 8:
        dtype = np.float64
    else:
        dtype = np.float64 if matrix.dtype.itemsize == 8 else np.float32
    return np.ascontiguousarray(matrix, dtype=dtype)


def _matrix_of_lists(column: pa.Array) -> npt.NDArray[Any]:
    try:
        lengths = pc.list_value_length(column).to_numpy(zero_copy_only=False)
    except pa.ArrowNotImplementedError as error:
        raise TypeError(
            f"class_probs is a column of {column.type}, expected lists of numbers"
        ) from error
    if column.null_count:
        row = int(np.flatnonzero(column.is_null().to_numpy(zero_copy_only=False))[0])
        raise ValueError(f"class_probs: row {row} is null, expected a list of class probabilities")
    if len(column) and (lengths != lengths[0]).any():
        row = int(np.flatnonzero(lengths != lengths[0])[0])
        raise ValueError(
            f"class_probs: row {row} has {lengths[row]} class probabilities, expected {lengths[0]} "
            "as in row 0"
        )
    values = column.flatten()
    n_classes = int(lengths[0]) if len(column) else 2
    if values.null_count:
        position = int(np.flatnonzero(values.is_null().to_numpy(zero_copy_only=False))[0])
        raise ValueError(
            f"class_probs: row {position // n_classes} has a null, expected {n_classes} numbers"
        )
    return values.to_numpy(zero_copy_only=False).reshape(len(column), n_classes)


def _check(matrix: npt.NDArray[Any], validity: npt.NDArray[np.uint8], rows_before: int = 0) -> None:
    if not validity.any():
        return
    row = int(np.flatnonzero(validity)[0])
    expected = _EXPECTED[Validity(int(validity[row]))]
    shown = np.array2string(matrix[row], threshold=10)
    total = matrix[row].sum(dtype=np.float64)
    raise ValueError(
        f"class_probs: row {rows_before + row} is {shown}, which sums to {total:.6g}; "
        f"expected {expected}"
    )


def _check_length(name: str, length: int, expected: int) -> None:
    if length != expected:
        raise ValueError(f"{name} has {length} rows, expected {expected} as in class_probs")


def _image_index(
    image_ids: Column | None, n_predictions: int
) -> tuple[pl.Series, npt.NDArray[np.int64]]:
    """The different ids in order of first appearance, and each prediction's place among them."""
    column = _arrow(image_ids)
    _check_length("image_ids", len(column), n_predictions)
    if column.null_count:
        row = int(np.flatnonzero(column.is_null().to_numpy(zero_copy_only=False))[0])
        raise ValueError(f"image_ids: row {row} is null, expected the id of an image")
    encoded = column.dictionary_encode()
    ids = pl.Series("image_id", encoded.dictionary)
    return ids, encoded.indices.to_numpy().astype(np.int64)


def _object_scores(scores: Column) -> npt.NDArray[np.float64]:
    column = _arrow(scores)
    try:
        values = column.cast(pa.float64()).to_numpy(zero_copy_only=False)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise TypeError(f"scores is a column of {column.type}, expected numbers") from error
    outside = ~((values >= 0) & (values <= 1))
    if outside.any():
        row = int(np.flatnonzero(outside)[0])
        raise ValueError(f"scores: row {row} is {column[row]}, expected a number in 0..1")
    return values


def _arrow(values: Column | None) -> pa.Array:
    column: Any = values.to_arrow() if isinstance(values, pl.Series) else values
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
    if not isinstance(column, pa.Array):
        column = pa.array(column)
    return column.dictionary_decode() if pa.types.is_dictionary(column.type) else column
