"""Scores of a column of class probabilities, row by row: what query engines call."""

# The functions of pyarrow.compute are made when it is imported.
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from dagster_active_learning.acquisition.functions import ACQUISITION_FUNCTIONS
from dagster_active_learning.acquisition.kernels import Validity, score_class_probs
from dagster_active_learning.acquisition.scoring import class_prob_matrix

ROW_FUNCTIONS = tuple(
    name for name, function in ACQUISITION_FUNCTIONS.items() if function.level == "image"
)
"""The functions of one row of class probabilities. The mean object score is about the objects of
an image, and has nothing to compute in a row: it is the detector's score, or the largest value."""

_EXPECTED = {
    Validity.NOT_FINITE: "finite numbers",
    Validity.NEGATIVE: "at least 0",
    Validity.ABOVE_ONE: "at most 1",
    Validity.WRONG_SUM: "a sum of 1",
}
_TOO_FEW_CLASSES = 255
"""Beside the codes of ``Validity``."""


def row_scores(class_probs: pa.Array | pa.ChunkedArray, function: str) -> pa.Array:
    """The score of every row under one acquisition function.

    A row's score depends on that row alone: rows may have different numbers of classes.

    Args:
        class_probs: A column of lists or arrays of numbers, K >= 2 class probabilities in each.
        function: One of ``ROW_FUNCTIONS``.

    Returns:
        float64, null where the row is null.

    Raises:
        TypeError: If it is not a column of lists of numbers.
        ValueError: If a row is not a probability distribution; the message names the first such
            row. An engine may hand over its rows in batches, and leave out those it has filtered:
            the row is counted from 0 in what it handed over.
    """
    column: Any = class_probs
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
    if pa.types.is_null(column.type):
        return pa.nulls(len(column), pa.float64())
    try:
        lengths = pc.fill_null(pc.list_value_length(column), -1).to_numpy(zero_copy_only=False)
    except pa.ArrowNotImplementedError as error:
        raise TypeError(
            f"class_probs is a column of {column.type}, expected lists of numbers"
        ) from error
    scores = np.full(len(column), np.nan)
    validity = np.zeros(len(column), dtype=np.uint8)
    for n_classes in np.unique(lengths[lengths >= 0]):
        rows = np.flatnonzero(lengths == n_classes)
        if n_classes < 2:
            validity[rows] = _TOO_FEW_CLASSES
            continue
        matrix = _matrix(column if len(rows) == len(column) else column.take(rows), int(n_classes))
        all_scores, validity[rows] = score_class_probs(matrix)
        scores[rows] = all_scores[list(ACQUISITION_FUNCTIONS).index(function)]
    if validity.any():
        row = int(np.flatnonzero(validity)[0])
        raise ValueError(_fault(column[row].as_py(), int(validity[row]), row, len(column)))
    return pa.array(scores, mask=lengths < 0)


def _matrix(lists: Any, n_classes: int) -> npt.NDArray[Any]:
    # A null among the numbers becomes NaN, which is then found as a value that is not finite.
    values = lists.flatten().to_numpy(zero_copy_only=False)
    return class_prob_matrix(values.reshape(len(lists), n_classes))


def _fault(values: list[Any], code: int, row: int, n_rows: int) -> str:
    where = f"class_probs: row {row} of {n_rows:,}"
    if code == _TOO_FEW_CLASSES:
        return f"{where} is {values}, expected 2 class probabilities or more"
    shown = np.array2string(np.array(values, np.float64), threshold=10)
    total = sum(value for value in values if value is not None)
    return f"{where} is {shown}, which sums to {total:.6g}; expected {_EXPECTED[Validity(code)]}"
