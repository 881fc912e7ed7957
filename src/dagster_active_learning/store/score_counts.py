"""Scores in numbers that add up, in whatever order they are counted, to those of all scores.

Bins are as wide as a power of two, with edges at its multiples: those of wider bins are edges of
narrower ones, so that scores that were counted apart have the bins of scores counted at once. Sums
are whole numbers, for sums of floats depend on the order.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

MOST_BINS = 60
"""Bins of a histogram: it has 31 at the least, where the scores are not all the same."""

PART_DIGITS = (22, 34, 34)
"""Binary digits behind the point that are summed at a time, of scores below 2**14."""

PARTS_OF_ONE = 2 ** sum(PART_DIGITS)
"""Scores are summed in this many parts of 1, and what is less is cut off."""

SAME_DIGITS = 40
"""Scores that are alike in as many binary digits are the same in a picture."""


@dataclass(frozen=True)
class ScoreBins:
    """A histogram of scores, as ``numpy.histogram`` counts them between the edges.

    Attributes:
        counts: Images in each bin, shape (n_bins,).
        edges: The bins' edges, rising, shape (n_bins + 1,).
    """

    counts: npt.NDArray[np.int64]
    edges: npt.NDArray[np.float64]


class ScoreCounts(NamedTuple):
    """Some scores in numbers, which JSON keeps as a list.

    Attributes:
        number: How many they are, 1 at the least.
        parts: Their sum, in ``PARTS_OF_ONE``.
        lowest: The lowest.
        highest: The highest.
        bins: How many are in each bin, from that of the lowest to that of the highest.
    """

    number: int
    parts: int
    lowest: float
    highest: float
    bins: Sequence[int]

    @property
    def mean(self) -> float:
        """The mean of the scores."""
        return self.parts / PARTS_OF_ONE / self.number

    @property
    def total(self) -> int:
        """The sum of whole numbers."""
        return self.parts // PARTS_OF_ONE

    @property
    def whole_numbers(self) -> dict[int, int] | None:
        """How often each of some whole numbers is there; None where bins have several of them."""
        exponent = bin_exponent(self.lowest, self.highest)
        if exponent > 0:
            return None
        return {place >> -exponent: count for place, count in self.places(exponent) if count}

    @property
    def histogram(self) -> ScoreBins:
        """The scores in at most ``MOST_BINS`` bins."""
        return self.histogram_without(None)

    def histogram_without(self, others: ScoreCounts | None) -> ScoreBins:
        """The scores but for some of them, in the bins of all."""
        exponent = bin_exponent(self.lowest, self.highest)
        places = Counter(dict(self.places(exponent)))
        for place, count in others.places(exponent) if others is not None else []:
            places[place] -= count
        return histogram(self.lowest, self.highest, places)

    def places(self, exponent: int) -> list[tuple[int, int]]:
        """The scores in bins that are not narrower: each bin's number, and how many are in it."""
        own = bin_exponent(self.lowest, self.highest)
        first = _place(self.lowest, own)
        return [((first + n) >> (exponent - own), count) for n, count in enumerate(self.bins)]

    def joined(self, other: ScoreCounts) -> ScoreCounts:
        """These scores and others."""
        lowest, highest = min(self.lowest, other.lowest), max(self.highest, other.highest)
        exponent = bin_exponent(lowest, highest)
        first = _place(lowest, exponent)
        bins = [0] * (_place(highest, exponent) - first + 1)
        for place, count in chain(self.places(exponent), other.places(exponent)):
            bins[place - first] += count
        number, parts = self.number + other.number, self.parts + other.parts
        return ScoreCounts(number, parts, lowest, highest, bins)

    def without(self, other: ScoreCounts) -> ScoreCounts | None:
        """These scores without some of them; None where the lowest or highest may be one of those.

        The bins stay those of all.
        """
        if other.lowest <= self.lowest or other.highest >= self.highest:
            return None
        exponent = bin_exponent(self.lowest, self.highest)
        first = _place(self.lowest, exponent)
        bins = list(self.bins)
        for place, count in other.places(exponent):
            bins[place - first] -= count
        number, parts = self.number - other.number, self.parts - other.parts
        return ScoreCounts(number, parts, self.lowest, self.highest, bins)


Counts = Mapping[str, Sequence[Any]]
"""``ScoreCounts`` by the names of functions, or as JSON has kept them."""


def join_counts(parts: Iterable[Counts]) -> dict[str, ScoreCounts]:
    """The numbers of all scores from those of parts, which may be in any order."""
    joined: dict[str, ScoreCounts] = {}
    for part in parts:
        for name, values in part.items():
            counts = ScoreCounts(*values)
            joined[name] = joined[name].joined(counts) if name in joined else counts
    return joined


def count_scores(images: pa.Table, functions: Iterable[str]) -> dict[str, ScoreCounts]:
    """The scores of images in numbers, by those of the functions that have any.

    Args:
        images: A column for each function, null where an image has no score.
        functions: Names of the functions.
    """
    counted: dict[str, ScoreCounts] = {}
    for name in functions:
        column = images.column(name).drop_null()
        if len(column):
            counted[name] = _counted(column.cast(pa.float64()).to_numpy())
    return counted


def _counted(scores: npt.NDArray[np.float64]) -> ScoreCounts:
    # Who only reads counts does not wait for the compiler.
    from dagster_active_learning.acquisition.score_sums import count_and_sum

    lowest, highest = float(scores.min()), float(scores.max())
    size, times = scores.size, 1
    if lowest == highest:  # as numbers of predictions mostly are
        times, scores = size, scores[:1]
    exponent = bin_exponent(lowest, highest)
    first = _place(lowest, exponent)
    # Of whole numbers, floats have the sum of 100,000 without an error.
    bins, sums = count_and_sum(
        scores,
        bins_in_one=2.0**-exponent,
        first_bin=first,
        n_bins=_place(highest, exponent) - first + 1,
        scales=2.0 ** np.array(PART_DIGITS),
    )
    parts = 0
    for digits, whole in zip(PART_DIGITS, sums.tolist(), strict=True):
        parts = (parts << digits) + int(whole)
    return ScoreCounts(size, times * parts, lowest, highest, (times * bins).tolist())


def bin_exponent(lowest: float, highest: float) -> int:
    """The power of two that is the width of the bins of scores.

    It is not less where there are more scores.
    """
    exponent = _least_exponent(lowest, highest)
    if highest > lowest:
        # Narrower ones would be 64 and more.
        exponent = max(exponent, math.frexp(highest - lowest)[1] - 6)
    while _end(highest, exponent) - _place(lowest, exponent) > MOST_BINS:
        exponent += 1
    return exponent


def histogram(lowest: float, highest: float, places: Mapping[int, int]) -> ScoreBins:
    """Bins from a lowest to a highest score, of images that may be some of those between.

    Args:
        lowest: The lowest score.
        highest: The highest.
        places: How many images are in which bin of ``bin_exponent``, by its number from 0.
    """
    exponent = bin_exponent(lowest, highest)
    if exponent == _least_exponent(lowest, highest):
        # All scores are the same, or nearly.
        counts = np.zeros(MOST_BINS - 1, np.int64)  # of an odd number one is in the middle
        counts[counts.size // 2] = sum(places.values())
        return ScoreBins(counts, np.linspace(lowest - 0.5, highest + 0.5, counts.size + 1))
    first, end = _place(lowest, exponent), _end(highest, exponent)
    counts = np.zeros(end - first, np.int64)
    for place, count in places.items():
        # The highest score may be at the last edge, which belongs to the bin before.
        counts[min(place, end - 1) - first] += count
    return ScoreBins(counts, np.ldexp(np.arange(first, end + 1, dtype=np.float64), exponent))


def _least_exponent(lowest: float, highest: float) -> int:
    largest = max(abs(lowest), abs(highest))
    least = np.finfo(np.float64).minexp
    return max(math.frexp(largest)[1] - SAME_DIGITS, least) if largest else least


def _place(score: float, exponent: int) -> int:
    """The number of the bin that a score is in."""
    return math.floor(math.ldexp(score, -exponent))


def _end(score: float, exponent: int) -> int:
    """The number of the first bin that is above a score."""
    return math.ceil(math.ldexp(score, -exponent))
