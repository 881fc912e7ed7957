"""Draws that a seed decides: numbers, and rows by their weights."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from dagster_active_learning.ranking.kernels import hash_ids

_NUMBERS_AT_A_TIME = 256


def uniform_numbers(name: str, seed: int) -> Iterator[float]:
    """Numbers from 0 to below 1 without end: of the name and the seed alone, on any machine."""
    for first in count(0, _NUMBERS_AT_A_TIME):
        names = [f"{name} {number}" for number in range(first, first + _NUMBERS_AT_A_TIME)]
        # The upper 53 bits: as many as a float of 64 bits tells apart.
        yield from ((hash_ids(pa.array(names), seed) >> np.uint64(11)) * 2.0**-53).tolist()


def drawn_row(weights: npt.NDArray[np.float64], uniform: float) -> int | None:
    """The row that a number draws, with probabilities that are proportional to the weights.

    Args:
        weights: (n_rows,) of at least 0. They are added up one after the other: the same bits
            everywhere.
        uniform: From 0 to below 1.

    Returns:
        The row; None if no weight is above 0.
    """
    sums = np.cumsum(weights)
    if not sums[-1] > 0:
        return None
    # A row without weight has the sum of the row before: the first above is not such a row. Rounded
    # up, the product may be the last sum itself, which no row is above.
    below_end = min(uniform * sums[-1], np.nextafter(sums[-1], 0))
    return int(np.searchsorted(sums, below_end, side="right"))
