"""Class probabilities of NumPy and Arrow as the kernels take them."""

# The functions of pyarrow.compute are made when it is imported.
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc


def class_prob_matrix(
    class_probs: npt.NDArray[Any] | pa.Array | pa.ChunkedArray,
) -> npt.NDArray[Any]:
    """Class probabilities as the kernels take them: ``(n_predictions, n_classes)``, contiguous.

    float32 and float64 that are contiguous are not copied; float16 is widened to float32, other
    numbers to float64.

    Raises:
        TypeError: If it is not an array or column of numbers.
        ValueError: If a row is null, has a null, or has another length than the others.
    """
    column: Any = class_probs
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
    if isinstance(column, pa.Array):
        matrix = _matrix_of_lists(column)
    elif isinstance(column, np.ndarray):
        _check_mask(column)
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
    if matrix.dtype == np.float16:
        from dagster_active_learning.acquisition.half_precision import widen_half

        return widen_half(matrix)
    if matrix.dtype.kind != "f" or matrix.dtype.itemsize > 8:
        dtype = np.float64
    else:
        dtype = np.float64 if matrix.dtype.itemsize == 8 else np.float32
    return np.ascontiguousarray(matrix, dtype=dtype)


def _check_mask(matrix: npt.NDArray[Any]) -> None:
    """Raise ValueError if values are masked: they are there, but are not meant."""
    if np.ma.is_masked(matrix):
        masked = np.ma.getmaskarray(matrix).reshape(len(matrix), -1).any(axis=1)
        row = int(masked.argmax())
        raise ValueError(f"class_probs: row {row} has a masked value, expected numbers")


def _matrix_of_lists(column: pa.Array) -> npt.NDArray[Any]:
    if column.null_count:
        row = int(np.flatnonzero(column.is_null().to_numpy(zero_copy_only=False))[0])
        raise ValueError(f"class_probs: row {row} is null, expected a list of class probabilities")
    n_classes = _common_length(column)
    values = column.flatten()
    if values.null_count:
        position = int(np.flatnonzero(values.is_null().to_numpy(zero_copy_only=False))[0])
        raise ValueError(
            f"class_probs: row {position // n_classes} has a null, expected {n_classes} numbers"
        )
    return values.to_numpy(zero_copy_only=False).reshape(len(column), n_classes)


def _common_length(column: pa.Array) -> int:
    """The number of class probabilities of every row; 2 if there is no row to say it."""
    if pa.types.is_fixed_size_list(column.type):
        return column.type.list_size
    lengths = list_lengths(column)
    if not len(lengths):
        return 2
    if (lengths != lengths[0]).any():
        row = int(np.flatnonzero(lengths != lengths[0])[0])
        raise ValueError(
            f"class_probs: row {row} has {lengths[row]} class probabilities, expected {lengths[0]} "
            "as in row 0"
        )
    return int(lengths[0])


def list_lengths(column: pa.Array) -> npt.NDArray[np.integer[Any]]:
    """The number of class probabilities of each row, -1 where the row is null.

    Raises:
        TypeError: If it is not a column of lists.
    """
    try:
        lengths = pc.list_value_length(column)
    except pa.ArrowNotImplementedError as error:
        raise TypeError(
            f"class_probs is a column of {column.type}, expected lists of numbers"
        ) from error
    return pc.fill_null(lengths, -1).to_numpy(zero_copy_only=False)


def softmax(logits: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Class probabilities of logits ``(n_predictions, n_classes)``, in the logits' precision.

    A row that is not finite gives NaN.
    """
    with np.errstate(invalid="ignore", over="ignore"):
        powers = np.exp(logits - logits.max(axis=1, keepdims=True, initial=-np.inf))
        return powers / powers.sum(axis=1, keepdims=True)
