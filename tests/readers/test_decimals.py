"""Decimal numbers that a kernel reads: what it knows is what Python's ``float`` gives."""

import struct

import numba
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dagster_active_learning.readers.decimals import parse_decimal


@numba.njit
def parse_all(text, ends):
    numbers = np.empty(len(ends))
    known = np.empty(len(ends), np.bool_)
    start = 0
    for position in range(len(ends)):
        numbers[position], known[position] = parse_decimal(text, start, ends[position])
        start = ends[position]
    return numbers, known


def parse(texts):
    joined = np.frombuffer("".join(texts).encode() or b" ", np.uint8)
    return parse_all(joined, np.cumsum([len(text) for text in texts]))


def check(texts):
    """Numbers that are known have the bits of Python's; returns how many are known."""
    numbers, known = parse(texts)
    for text, number, is_known in zip(texts, numbers.tolist(), known.tolist(), strict=True):
        if is_known:
            assert struct.pack("d", number) == struct.pack("d", float(text)), text
    return known.mean()


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1))
@settings(deadline=None)
def test_any_float_that_python_writes(numbers):
    check([repr(number) for number in numbers])


@given(
    st.lists(
        st.tuples(st.integers(0, 10**19 - 1), st.integers(-340, 310), st.sampled_from("eE")),
        min_size=1,
    )
)
@settings(deadline=None)
def test_any_digits_with_any_exponent(numbers):
    check([f"{digits}{letter}{exponent}" for digits, exponent, letter in numbers])


def test_numbers_between_two_floats():
    odd = [2**53 + 2 * step + 1 for step in range(500)]
    check([f"{number}e{exponent}" for number in odd for exponent in range(-6, 7)])


def test_nearly_all_scores_are_known():
    scores = np.random.default_rng(0).random(20_000)
    assert check([repr(score) for score in scores.tolist()]) > 0.999
    assert check([repr(float(score)) for score in scores.astype(np.float32)]) > 0.99


@pytest.mark.parametrize(
    "text",
    ["", "-", "+", ".", "-.", "e5", ".e1", "1e", "1e+", "1..2", "1.2.3", "1 ", " 1", "0x1", "nan", "inf",
     "1_0", "--1", "1e12345", "1e400", "1e-400", "5e-324", "1" * 20, "1-", "1e5.0", "1,5"],
)  # fmt: skip
def test_what_is_no_such_number_is_not_known(text):
    assert parse([text])[1].tolist() == [False]


@pytest.mark.parametrize(
    ("text", "number"),
    [("-0", 0.0), ("-0.0", -0.0), ("-0e5", -0.0), ("+.5", 0.5), ("1.", 1.0), ("007", 7.0), ("00.50", 0.5)],
)  # fmt: skip
def test_zeros_and_points(text, number):
    numbers, known = parse([text])
    assert known.all()
    assert struct.pack("d", numbers[0]) == struct.pack("d", number)
