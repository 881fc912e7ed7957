"""Scores of columns, row by row, against the formulas in plain float64 NumPy."""

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dagster_active_learning.acquisition.functions import row_functions
from dagster_active_learning.engines.row_scores import row_scores
from reference import ROW_SCORES, prediction_scores


def test_the_functions_are_those_of_a_row_of_class_probabilities():
    assert list(ROW_SCORES[:4]) == list(row_functions())


@st.composite
def distributions(draw):
    weights = draw(st.lists(st.floats(0, 1), min_size=2, max_size=6))
    weights[0] += 0.01
    return [weight / sum(weights) for weight in weights]


@settings(deadline=None)  # the first call compiles
@given(rows=st.lists(st.none() | distributions(), max_size=30))
@pytest.mark.parametrize(
    ("kind", "tolerance"),
    [
        (pa.list_(pa.float64()), 1e-12),
        (pa.large_list(pa.float64()), 1e-12),
        (pa.list_(pa.float32()), 2e-6),
    ],
)
def test_rows_of_different_lengths_and_nulls(rows, kind, tolerance):
    column = pa.array(rows, kind)
    for function in row_functions():
        scores = row_scores(column, function)
        assert scores.type == pa.float64()
        assert len(scores) == len(rows)
        for row, score in zip(column.to_pylist(), scores.to_pylist(), strict=True):
            if row is None:
                assert score is None
            else:
                expected = prediction_scores([row])[function][0]
                assert score == pytest.approx(expected, abs=tolerance)


def test_arrays_slices_chunks_and_a_column_without_a_type():
    rows = [[0.25, 0.75], None, [0.5, 0.5], [1.0, 0.0]]
    margins = [0.5, None, 0.0, 1.0]
    fixed = pa.array(rows, pa.list_(pa.float64(), 2))
    assert row_scores(fixed, "margin").to_pylist() == margins
    assert row_scores(fixed[1:3], "margin").to_pylist() == margins[1:3]
    assert row_scores(pa.array([None, *rows])[1:], "margin").to_pylist() == margins
    chunked = pa.chunked_array([rows[:1], rows[1:]])
    assert row_scores(chunked, "margin").to_pylist() == margins
    assert row_scores(pa.nulls(2), "margin").to_pylist() == [None, None]
    assert row_scores(pa.chunked_array([], pa.list_(pa.float32())), "margin").to_pylist() == []


GOOD = [0.5, 0.5]


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ([0.5, 0.25], r"row 3 of 5 is \[0.5  0.25\], which sums to 0.75; expected a sum of 1"),
        ([0.5, float("nan")], r"row 3 of 5 is .*expected finite numbers"),
        ([0.5, None], r"row 3 of 5 is \[0.5 nan\].*expected finite numbers"),
        ([float("inf"), 0.5], "row 3 of 5 .*finite numbers"),
        ([1.5, -0.5], "row 3 of 5 .*expected at least 0"),
        ([1.5, 0.0], "row 3 of 5 .*expected at most 1"),
        ([1.0], r"row 3 of 5 is \[1.0\], expected 2 class probabilities or more"),
        ([], r"row 3 of 5 is \[\], expected 2 class probabilities or more"),
    ],
)
def test_the_first_row_that_cannot_be_scored_is_named(row, words):
    # A null and another length before it: the row is counted in the column as it came.
    column = pa.array([None, GOOD, [0.5, 0.25, 0.25], row, [9.0, 9.0]])
    with pytest.raises(ValueError, match=words):
        row_scores(column, "entropy")


@pytest.mark.parametrize(
    ("column", "words"),
    [
        (pa.array([0.5]), "column of double, expected lists"),
        (pa.array([["a", "b"]]), "and numbers"),
    ],
)
def test_what_is_no_list_of_numbers(column, words):
    with pytest.raises(TypeError, match=words):
        row_scores(column, "entropy")
