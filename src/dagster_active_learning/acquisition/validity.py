"""Validity of predictions: which can be scored, and the words for those that cannot."""

from __future__ import annotations

from enum import IntEnum
from typing import Any

import numpy as np
import numpy.typing as npt

from dagster_active_learning.limits import PROBABILITY_TOLERANCE


class Validity(IntEnum):
    """Valid, or the first reason why a prediction cannot be scored, in this order.

    The kernels give the codes up to ``WRONG_SUM``. The others are about the number of class
    probabilities, which is the same for all rows of a kernel's matrix.
    """

    VALID = 0
    NOT_FINITE = 1
    NEGATIVE = 2
    ABOVE_ONE = 3
    WRONG_SUM = 4
    TOO_FEW_CLASSES = 5
    OTHER_CLASS_COUNT = 6


EXPECTED = {
    Validity.NOT_FINITE: "finite numbers",
    Validity.NEGATIVE: "at least 0 (within {tolerance:g})",
    Validity.ABOVE_ONE: "at most 1 (within {tolerance:g})",
    Validity.WRONG_SUM: "a sum of 1 (within {tolerance:g})",
    Validity.TOO_FEW_CLASSES: "2 class probabilities or more",
    Validity.OTHER_CLASS_COUNT: "as many class probabilities as there are classes",
}
"""The expected class probabilities in words, for each reason why others are not valid."""


def describe_fault(
    class_probs: npt.NDArray[Any], validity: int, tolerance: float = PROBABILITY_TOLERANCE
) -> str:
    """Class probabilities (n_classes,) that are not valid, and those expected, in words."""
    expected = EXPECTED[Validity(validity)].format(tolerance=tolerance)
    if validity in (Validity.TOO_FEW_CLASSES, Validity.OTHER_CLASS_COUNT):
        return f"{class_probs.tolist()}, expected {expected}"
    shown = np.array2string(class_probs, threshold=10)
    total = class_probs.sum(dtype=np.float64)
    return f"{shown}, which sums to {total:.6g}; expected {expected}"
