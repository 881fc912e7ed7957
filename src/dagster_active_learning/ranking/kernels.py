"""Numba kernels of a labeling batch: hashes of ids, distances of embeddings and of gradients.

NumPy in, NumPy out. The results are the same bits for any thread count: each distance is added up
in one order, and of equal ones the first counts.
"""

from __future__ import annotations

import numba
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from dagster_active_learning.acquisition.compilation import compiled, launch_lock, parallel

# Numba has no types, and the bodies of its kernels are not ordinary Python.
# ruff: noqa: ANN001, ANN202
# pyright: reportMissingParameterType=false

_Floats = npt.NDArray[np.float32]
_Numbers = npt.NDArray[np.float64]

_CHUNK_ROWS = 256
"""Rows whose distances one thread adds up at a time."""

_IDS_OF_ONE_THREAD = 1 << 14
_VALUES_OF_ONE_THREAD = 1 << 18
"""Values below which threads are not started: that takes longer than the sums of so many."""


def hash_ids(image_ids: pa.Array, seed: int) -> npt.NDArray[np.uint64]:
    """64 bits per id, which depend on the seed and the id's UTF-8 bytes alone.

    The ids are mixed eight bytes at a time, with the finalizer of SplitMix64 (Steele, Lea, Flood
    2014): 10 million ids take a tenth of what a cryptographic hash takes.

    Args:
        image_ids: (n_images,) text without nulls.
        seed: An integer of 64 bits.

    Returns:
        (n_images,) uint64.
    """
    ids = image_ids.cast(pa.large_string())
    _, offsets, content = ids.buffers()
    n_ids = len(ids)
    hashes = np.empty(n_ids, np.uint64)
    if n_ids:
        starts = np.frombuffer(offsets, np.int64)[ids.offset : ids.offset + n_ids + 1]
        text = np.frombuffer(content, np.uint8) if content else np.empty(0, np.uint8)
        key = np.uint64(seed % 2**64)
        if n_ids < _IDS_OF_ONE_THREAD:
            _hash_rows(text, starts, key, 0, n_ids, hashes)
        else:
            with launch_lock:
                _hash_kernel(text, starts, key, hashes)
    return hashes


def nearest_row(rows: _Floats, point: _Floats) -> tuple[int, float]:
    """The row that is nearest to a point, and its Euclidean distance; the first of several.

    Args:
        rows: (n_rows, n_dimensions) float32, C-contiguous, at least one row.
        point: (n_dimensions,) float32.
    """
    squares = squared_distances(rows, point)
    row = int(squares.argmin())
    return row, float(np.sqrt(squares[row]))


def squared_distances(rows: _Floats, point: _Floats) -> _Numbers:
    """The squared Euclidean distance (n_rows,) float64 of each row from a point.

    Args:
        rows: (n_rows, n_dimensions) float32, C-contiguous.
        point: (n_dimensions,) float32.
    """
    squares = np.empty(len(rows))
    if rows.size < _VALUES_OF_ONE_THREAD:
        _square_rows(rows, point, 0, len(rows), squares)
    else:
        with launch_lock:
            _square_kernel(rows, point, squares)
    return squares


def gradient_norms(residuals: _Floats, vectors: _Floats) -> _Numbers:
    """The squared lengths (n_images,) of gradient embeddings: residuals times embeddings.

    A gradient embedding is the outer product of the two, and is never made: its scalar product with
    another one is that of the residuals times that of the embeddings.

    Args:
        residuals: (n_images, n_classes) float32, C-contiguous.
        vectors: (n_images, n_dimensions) float32, C-contiguous.
    """
    norms = np.empty(len(vectors))
    _norm_rows(residuals, vectors, norms)
    return norms


def lower_to_gradient(
    residuals: _Floats, vectors: _Floats, norms: _Numbers, row: int, squares: _Numbers
) -> None:
    """Lower squared distances (n_images,) to those from one gradient embedding, where it is nearer.

    Args:
        residuals: As for ``gradient_norms``.
        vectors: As for ``gradient_norms``.
        norms: What that gives.
        row: The image whose gradient embedding it is.
        squares: (n_images,) the distances so far, lowered in place.
    """
    if vectors.size < _VALUES_OF_ONE_THREAD:
        _lower_rows(residuals, vectors, norms, row, 0, len(norms), squares)
    else:
        with launch_lock:
            _lower_kernel(residuals, vectors, norms, row, squares)


@compiled
def _hash_rows(text, starts, seed, start, stop, hashes):
    for index in range(start, stop):
        begin, end = starts[index], starts[index + 1]
        # The length first: no id is the beginning of another one.
        value = _mixed(seed ^ np.uint64(end - begin))
        whole = begin + (end - begin) // 8 * 8
        for first in range(begin, whole, 8):
            value = _mixed(value ^ _eight_bytes(text, first))
        if whole > begin and whole < end:
            # The last eight, some of them again: one by one they take longer than all the rest.
            value = _mixed(value ^ _eight_bytes(text, end - 8))
        elif whole < end:
            word = np.uint64(0)
            for position in range(whole, end):
                word |= np.uint64(text[position]) << np.uint64(8 * (position - whole))
            value = _mixed(value ^ word)
        hashes[index] = value


@parallel
def _hash_kernel(text, starts, seed, hashes):
    n_rows = hashes.size
    for chunk in numba.prange((n_rows + _CHUNK_ROWS - 1) // _CHUNK_ROWS):
        start = chunk * _CHUNK_ROWS
        _hash_rows(text, starts, seed, start, min(start + _CHUNK_ROWS, n_rows), hashes)


@numba.njit(inline="always")
def _eight_bytes(text, first):
    """Eight bytes as a number, the first the lowest: written out, LLVM reads them at once."""
    first = np.uint64(first)
    return (
        np.uint64(text[first])
        | np.uint64(text[first + np.uint64(1)]) << np.uint64(8)
        | np.uint64(text[first + np.uint64(2)]) << np.uint64(16)
        | np.uint64(text[first + np.uint64(3)]) << np.uint64(24)
        | np.uint64(text[first + np.uint64(4)]) << np.uint64(32)
        | np.uint64(text[first + np.uint64(5)]) << np.uint64(40)
        | np.uint64(text[first + np.uint64(6)]) << np.uint64(48)
        | np.uint64(text[first + np.uint64(7)]) << np.uint64(56)
    )


@numba.njit(inline="always")
def _mixed(value):
    value = value + np.uint64(0x9E3779B97F4A7C15)
    value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return value ^ (value >> np.uint64(31))


@numba.njit(inline="always")
def _squared_difference(value, other):
    difference = np.float64(value) - np.float64(other)
    return difference * difference


@numba.njit(inline="always")
def _square(row, other):
    """The squared distance, in eight sums of every eighth dimension: one sum would be serial."""
    s0 = s1 = s2 = s3 = s4 = s5 = s6 = s7 = 0.0
    whole = other.size // 8 * 8
    for first in range(0, whole, 8):
        s0 += _squared_difference(row[first], other[first])
        s1 += _squared_difference(row[first + 1], other[first + 1])
        s2 += _squared_difference(row[first + 2], other[first + 2])
        s3 += _squared_difference(row[first + 3], other[first + 3])
        s4 += _squared_difference(row[first + 4], other[first + 4])
        s5 += _squared_difference(row[first + 5], other[first + 5])
        s6 += _squared_difference(row[first + 6], other[first + 6])
        s7 += _squared_difference(row[first + 7], other[first + 7])
    for position in range(whole, other.size):
        s0 += _squared_difference(row[position], other[position])
    return ((s0 + s4) + (s1 + s5)) + ((s2 + s6) + (s3 + s7))


@compiled
def _square_rows(rows, point, start, stop, squares):
    for row in range(start, stop):
        squares[row] = _square(rows[row], point)


@parallel
def _square_kernel(rows, point, squares):
    n_rows = squares.size
    for chunk in numba.prange((n_rows + _CHUNK_ROWS - 1) // _CHUNK_ROWS):
        start = chunk * _CHUNK_ROWS
        _square_rows(rows, point, start, min(start + _CHUNK_ROWS, n_rows), squares)


@numba.njit(inline="always")
def _product(row, other):
    """The scalar product, in eight sums as the squared distance."""
    s0 = s1 = s2 = s3 = s4 = s5 = s6 = s7 = 0.0
    whole = other.size // 8 * 8
    for first in range(0, whole, 8):
        s0 += np.float64(row[first]) * np.float64(other[first])
        s1 += np.float64(row[first + 1]) * np.float64(other[first + 1])
        s2 += np.float64(row[first + 2]) * np.float64(other[first + 2])
        s3 += np.float64(row[first + 3]) * np.float64(other[first + 3])
        s4 += np.float64(row[first + 4]) * np.float64(other[first + 4])
        s5 += np.float64(row[first + 5]) * np.float64(other[first + 5])
        s6 += np.float64(row[first + 6]) * np.float64(other[first + 6])
        s7 += np.float64(row[first + 7]) * np.float64(other[first + 7])
    for position in range(whole, other.size):
        s0 += np.float64(row[position]) * np.float64(other[position])
    return ((s0 + s4) + (s1 + s5)) + ((s2 + s6) + (s3 + s7))


@compiled
def _norm_rows(residuals, vectors, norms):
    for row in range(norms.size):
        norms[row] = _product(residuals[row], residuals[row]) * _product(vectors[row], vectors[row])


@compiled
def _lower_rows(residuals, vectors, norms, row, start, stop, squares):
    residual, vector, norm = residuals[row], vectors[row], norms[row]
    for other in range(start, stop):
        product = _product(residuals[other], residual) * _product(vectors[other], vector)
        # Rounding may carry the distance of two that are alike below 0.
        square = max(norms[other] + norm - 2 * product, 0.0)
        squares[other] = min(squares[other], square)


@parallel
def _lower_kernel(residuals, vectors, norms, row, squares):
    n_rows = squares.size
    for chunk in numba.prange((n_rows + _CHUNK_ROWS - 1) // _CHUNK_ROWS):
        start = chunk * _CHUNK_ROWS
        stop = min(start + _CHUNK_ROWS, n_rows)
        _lower_rows(residuals, vectors, norms, row, start, stop, squares)
