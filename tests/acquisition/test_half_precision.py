"""float16 as float32: the numbers of NumPy."""

import numpy as np
import pyarrow as pa
import pytest

from dagster_active_learning.acquisition.class_probs import class_prob_matrix
from dagster_active_learning.acquisition.half_precision import widen_half
from dagster_active_learning.readers.columns import as_numbers

ALL_HALVES = np.arange(2**16, dtype=np.uint16).view(np.float16)


def bits(numbers):
    return np.ascontiguousarray(numbers).view(np.uint32)


def test_every_half_is_widened_as_numpy_does_it():
    np.testing.assert_array_equal(bits(widen_half(ALL_HALVES)), bits(ALL_HALVES.astype(np.float32)))


@pytest.mark.parametrize(
    "halves",
    [
        ALL_HALVES[:0],
        ALL_HALVES.reshape(256, 256),
        ALL_HALVES.reshape(256, 256).T,
        ALL_HALVES[5::3],
        ALL_HALVES.reshape(256, 256)[:, 1:7],
    ],
)
def test_shape_and_order_are_kept(halves):
    wide = widen_half(halves)
    assert (wide.dtype, wide.shape) == (np.float32, halves.shape)
    np.testing.assert_array_equal(wide, halves.astype(np.float32))


@pytest.mark.parametrize("byte_order", ["<f2", ">f2"])
def test_a_matrix_of_halves_is_widened_in_any_byte_order(byte_order):
    matrix = np.array([[0.25, 0.75], [1, 0]], byte_order)
    wide = class_prob_matrix(matrix)
    assert wide.dtype == np.float32
    np.testing.assert_array_equal(wide, [[0.25, 0.75], [1, 0]])


@pytest.mark.parametrize("kind", [pa.float32(), pa.float64()])
@pytest.mark.parametrize("start", [0, 1, 3])
def test_a_column_of_halves_keeps_its_nulls(kind, start):
    values = [0.5, None, 0.25, None, 1.0]
    column = pa.array([None if v is None else np.float16(v) for v in values], pa.float16())
    assert as_numbers(column[start:], kind).to_pylist() == values[start:]
    assert as_numbers(column[:0], kind).to_pylist() == []
