"""Scores counted in bins and summed in whole numbers, in one pass."""

import numpy as np
import numpy.typing as npt

from dagster_active_learning.acquisition.compilation import compiled

# Numba has no types, and the bodies of its kernels are not ordinary Python.
# ruff: noqa: ANN001, ANN202
# pyright: reportMissingParameterType=false


def count_and_sum(
    scores: npt.NDArray[np.float64],
    *,
    bins_in_one: float,
    first_bin: int,
    n_bins: int,
    scales: npt.NDArray[np.float64],
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """Count scores in bins, and add up whole parts of them.

    Args:
        scores: (n_scores,) finite numbers.
        bins_in_one: Bins between 0 and 1.
        first_bin: The number of the bin that is counted first.
        n_bins: How many are counted; each score is in one of them.
        scales: (n_parts,) by what a score is multiplied, then what its whole part leaves of it.

    Returns:
        How many scores are in each bin, shape (n_bins,), and the sums of whole parts, shape
        (n_parts,), without an error as long as they are below 2**53.
    """
    bins, sums = np.zeros(n_bins, np.int64), np.zeros(len(scales))
    read_only = np.ascontiguousarray(scores).view()
    read_only.flags.writeable = False
    _count_and_sum(read_only, bins_in_one, first_bin, scales, bins, sums)
    return bins, sums


@compiled
def _count_and_sum(scores, bins_in_one, first_bin, scales, bins, sums):
    for score in scores:
        bins[np.int64(np.floor(score * bins_in_one)) - first_bin] += 1
        rest = score
        for part in range(scales.size):
            rest *= scales[part]
            whole = np.floor(rest)
            sums[part] += whole
            rest -= whole
