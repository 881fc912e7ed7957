"""Scores of a column of class probabilities, row by row: what query engines call."""

# The functions of pyarrow.compute are made when it is imported.
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from dagster_active_learning.acquisition.class_probs import class_prob_matrix, list_lengths
from dagster_active_learning.acquisition.functions import row_functions
from dagster_active_learning.acquisition.matrices import score_matrix
from dagster_active_learning.acquisition.validity import Validity, describe_fault
from dagster_active_learning.rules import Rules


def row_scores(class_probs: pa.Array | pa.ChunkedArray, function: str) -> pa.Array:
    """The score of every row under one acquisition function.

    A row's score depends on that row alone: rows may have different numbers of classes.

    Args:
        class_probs: A column of lists or arrays of numbers, K >= 2 class probabilities in each.
        function: One of ``row_functions``.

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
    functions = [row_functions()[function]]
    lengths = list_lengths(column)
    scores = np.full(len(column), np.nan)
    validity = np.full(len(column), Validity.VALID, np.uint8)
    for n_classes in np.unique(lengths[lengths >= 0]):
        rows = np.flatnonzero(lengths == n_classes)
        if n_classes < 2:
            validity[rows] = Validity.TOO_FEW_CLASSES
            continue
        lists = column if len(rows) == len(column) else column.take(rows)
        matrix = class_prob_matrix(_numbers(lists).reshape(len(rows), n_classes))
        (scores[rows],), validity[rows] = score_matrix(matrix, functions, Rules())
    if validity.any():
        row = int(np.flatnonzero(validity)[0])
        fault = describe_fault(_numbers(column[row : row + 1]), int(validity[row]))
        raise ValueError(f"class_probs: row {row} of {len(column):,} is {fault}")
    return pa.array(scores, mask=lengths < 0)


def _numbers(lists: Any) -> npt.NDArray[Any]:
    # A null among the numbers becomes NaN, which is then a value that is not finite.
    return lists.flatten().to_numpy(zero_copy_only=False)
