"""Scores in numbers that are added up from parts are those of all scores at once."""

import math
from fractions import Fraction
from itertools import chain

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dagster_active_learning.store.score_counts import (
    MOST_BINS,
    PARTS_OF_ONE,
    count_scores,
    join_counts,
)

# Functions give nothing below zero but by an error, which is not less than floats of 1 have.
SCORES = st.one_of(
    st.none(),
    st.floats(0, 1, allow_subnormal=False),
    st.floats(0, 1e4, allow_subnormal=False),
    st.integers(-4, 4).map(float),
    st.integers(-(2**20), 2**20).map(lambda score: score / 2**50),
)
PARTS = st.lists(st.lists(SCORES, max_size=30), min_size=1, max_size=5)


def counted(scores):
    return count_scores(pa.table({"score": pa.array(scores, pa.float64())}), ["score"])


def there(scores):
    return [score for score in scores if score is not None]


@settings(deadline=None)
@given(parts=PARTS, data=st.data())
def test_the_order_of_parts_does_not_matter(parts, data):
    ordered = data.draw(st.permutations(parts))
    assert join_counts(map(counted, ordered)) == counted([*chain(*parts)])


@settings(deadline=None)
@given(scores=st.lists(SCORES, max_size=60))
def test_counts_and_sums_are_exact(scores):
    known = there(scores)
    if not known:
        assert counted(scores) == {}
        return
    found = counted(scores)["score"]
    assert (found.number, found.lowest, found.highest) == (len(known), min(known), max(known))
    expected = sum(math.floor(Fraction(score) * PARTS_OF_ONE) for score in known)
    assert found.parts == expected
    assert found.mean == pytest.approx(math.fsum(known) / len(known), rel=1e-15, abs=2**-89)


@settings(deadline=None)
@given(scores=st.lists(SCORES, min_size=1, max_size=60))
def test_bins_are_those_of_numpy_between_their_edges(scores):
    known = there(scores)
    if not known:
        return
    bins = counted(scores)["score"].histogram
    counts, _ = np.histogram(known, bins.edges)
    np.testing.assert_array_equal(bins.counts, counts)
    assert bins.counts.sum() == len(known)
    width = bins.edges[1] - bins.edges[0]
    if not math.isclose(width, 1 / (MOST_BINS - 1), rel_tol=1e-6):
        assert 31 <= bins.counts.size <= MOST_BINS
        assert math.frexp(width)[0] == 0.5, "a power of two"
        assert (bins.edges % width == 0).all()
    assert bins.edges[0] <= min(known)
    assert max(known) <= bins.edges[-1]


@pytest.mark.parametrize("scores", [[0.5], [0.5, np.nextafter(0.5, 1)], [0.0, 0.0], [-3.0]])
def test_scores_that_are_all_the_same_are_in_one_bin(scores):
    bins = counted(scores)["score"].histogram
    assert bins.counts.sum() == bins.counts.max() == len(scores)
    assert bins.edges[0] < scores[0] - 0.4
    assert bins.edges[-1] > scores[0] + 0.4


def test_numbers_that_json_has_kept_can_be_joined():
    kept = {"score": list(counted([0.25, 0.5])["score"])}
    assert join_counts([kept, counted([1.0])]) == counted([0.25, 0.5, 1.0])


def test_a_hundred_thousand_scores_are_summed_exactly():
    scores = np.random.default_rng(0).random(100_000)
    assert counted(scores)["score"].mean == math.fsum(scores) / scores.size
