"""Numba kernels: scores of predictions from class probabilities, and their sums by image.

NumPy in, NumPy out. `score_class_probs` scores every prediction in one pass over the matrix,
`check_class_probs` only says which predictions can be scored, `add_by_image` adds prediction scores
to image totals, batch after batch, and `add_votes_by_image` the votes of a committee.

The results are the same bits for any thread count, any split of the rows and on any machine. LLVM
would vectorise neither the sums nor the two largest values of a row without reordering them, so the
lanes are explicit: one lane is one row, a block of rows is transposed in registers, and each row's
numbers are combined in an order that depends on the number of classes alone. The logarithm is a
polynomial on the float's bits: it vectorises, and no two math libraries can disagree about it.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal, cast

import numba
import numpy as np
import numpy.typing as npt

from dagster_active_learning.acquisition.compilation import launch_lock, one_thread, parallel
from dagster_active_learning.acquisition.lanes import (
    all_inside,
    deinterleave,
    fill,
    gather,
    lanes_in,
    load,
    log2,
    multiply_add,
    prefetch,
    prefetch_block,
    square_side,
    store,
    transpose,
    widen,
)
from dagster_active_learning.acquisition.schemas import KERNEL_ROWS
from dagster_active_learning.acquisition.validity import Validity
from dagster_active_learning.limits import PROBABILITY_TOLERANCE

# Numba has no types, and the bodies of its kernels are not ordinary Python.
# ruff: noqa: ANN001, ANN202
# pyright: reportMissingParameterType=false


def score_class_probs(
    class_probs: npt.NDArray[np.float32] | npt.NDArray[np.float64],
    *,
    objects: bool = False,
    sum_tolerance: float = PROBABILITY_TOLERANCE,
    value_tolerance: float = PROBABILITY_TOLERANCE,
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.uint8]]:
    """Score predictions: everything that the acquisition functions need, in one pass.

    Args:
        class_probs: (n_predictions, n_classes), float32 or float64, C-contiguous.
        objects: Whether a prediction is an object in an image, which has a score of its own: then
            the last row is there.
        sum_tolerance: How far from 1 a row's sum may be; infinite where the classes do not
            exclude each other.
        value_tolerance: How far outside 0..1 a value may be.

    Returns:
        Scores (4, n_predictions), or (5, n_predictions) of objects, in the order of `KERNEL_ROWS`:
        entropy in bits, 1 - p(1), p(1) - p(2), population variance over the classes, and p(1); NaN
        where the prediction is not valid.
        And the `Validity` of each prediction (n_predictions,).

    Raises:
        TypeError: not a float32 or float64 array in native byte order.
        ValueError: not two-dimensional, not C-contiguous, or fewer than two classes.
    """
    flat, n_predictions, n_classes = _flat_class_probs(class_probs)
    n_rows = flat.size // n_classes
    scores = np.empty((len(KERNEL_ROWS) - (not objects), n_rows))
    validity = np.zeros(n_rows, np.uint8)
    if n_predictions:
        with launch_lock, _threads_for(flat):
            _score_kernel(
                flat, n_classes, sum_tolerance, value_tolerance, scores.reshape(-1), validity
            )
    return np.ascontiguousarray(scores[:, :n_predictions]), validity[:n_predictions]


def check_class_probs(
    class_probs: npt.NDArray[np.float32] | npt.NDArray[np.float64],
    *,
    sum_tolerance: float = PROBABILITY_TOLERANCE,
    value_tolerance: float = PROBABILITY_TOLERANCE,
) -> npt.NDArray[np.uint8]:
    """Say which predictions can be scored: the second result of `score_class_probs` alone.

    Args:
        class_probs: (n_predictions, n_classes), float32 or float64, C-contiguous.
        sum_tolerance: How far from 1 a row's sum may be; infinite where the classes do not
            exclude each other.
        value_tolerance: How far outside 0..1 a value may be.

    Returns:
        The `Validity` of each prediction (n_predictions,).

    Raises:
        TypeError: not a float32 or float64 array in native byte order.
        ValueError: not two-dimensional, not C-contiguous, or fewer than two classes.
    """
    flat, n_predictions, n_classes = _flat_class_probs(class_probs)
    validity = np.zeros(flat.size // n_classes, np.uint8)
    if n_predictions:
        with launch_lock, _threads_for(flat):
            _check_kernel(flat, n_classes, sum_tolerance, value_tolerance, validity)
    return validity[:n_predictions]


def add_by_image(
    values: npt.NDArray[np.float64],
    image_index: npt.NDArray[np.int64],
    totals: npt.NDArray[np.float64],
    counts: npt.NDArray[np.int64],
    *,
    keep: Literal["sum", "max", "min"] = "sum",
) -> None:
    """Add predictions to the totals and counts of their images, in place.

    Each total is continued in row order, so that any split of the rows into batches gives the same
    bits. Nothing is added when an index is out of range.

    Args:
        values: (n_values, n_predictions) float64.
        image_index: (n_predictions,) int64 in [0, n_images), in any order.
        totals: (n_images, n_values) float64, updated; before the first batch 0 for sums, -inf for
            the largest and inf for the smallest values.
        counts: (n_images,) int64, updated: the predictions of each image.
        keep: What a total is: the sum of its values, the largest or the smallest of them. NaN among
            the values makes it NaN.

    Raises:
        TypeError: an array of another dtype.
        ValueError: an array of another shape, not C-contiguous, or not writable.
        IndexError: an index outside [0, n_images).
    """
    _require_array("values", values, (np.float64,), ndim=2)
    n_values, n_predictions = values.shape
    image_index = _checked_totals(image_index, totals, counts, n_predictions, n_values)
    ascending = bool((image_index[1:] >= image_index[:-1]).all())
    rows = _rows_of_threads(image_index, ascending=ascending)
    with launch_lock:
        if keep == "sum":
            _add_kernel(_read_only(values), image_index, rows, ascending, totals, counts)
        else:
            # The smallest value is the largest of the negated ones.
            sign = 1.0 if keep == "max" else -1.0
            _extreme_kernel(_read_only(values), image_index, rows, ascending, sign, totals, counts)


def add_votes_by_image(
    votes: npt.NDArray[np.float32] | npt.NDArray[np.float64],
    entropies: npt.NDArray[np.float64],
    image_index: npt.NDArray[np.int64],
    totals: npt.NDArray[np.float64],
    counts: npt.NDArray[np.int64],
    *,
    independent: bool = False,
) -> None:
    """Add the votes of a committee's members to the totals and counts of their images, in place.

    Each total is continued in row order, as those of `add_by_image`.

    Args:
        votes: (n_votes, n_classes) float32 or float64, the class probabilities of one member each.
        entropies: (n_votes,) float64, their entropies.
        image_index: (n_votes,) int64 in [0, n_images), in any order.
        totals: (n_images, 2 * n_classes + 1) float64, updated: for each class the sum of its
            probabilities, for each class the members that vote for it, the sum of the entropies.
        counts: (n_images,) int64, updated: the members of each image.
        independent: Whether a member votes for every class above 0.5, instead of for the first of
            those that have its largest probability.

    Raises:
        TypeError: an array of another dtype.
        ValueError: an array of another shape, not C-contiguous, or not writable.
        IndexError: an index outside [0, n_images).
    """
    _require_array("votes", votes, (np.float32, np.float64), ndim=2)
    _require_array("entropies", entropies, (np.float64,), ndim=1)
    n_votes, n_classes = votes.shape
    if entropies.shape != (n_votes,):
        raise ValueError(f"entropies must have shape {(n_votes,)}, but got {entropies.shape}")
    image_index = _checked_totals(image_index, totals, counts, n_votes, 2 * n_classes + 1)
    ascending = bool((image_index[1:] >= image_index[:-1]).all())
    rows = _rows_of_threads(image_index, ascending=ascending)
    with launch_lock:
        _vote_kernel(
            _read_only(votes),
            _read_only(entropies),
            image_index,
            rows,
            ascending,
            independent,
            totals,
            counts,
        )


_SUM_ERROR = 1e-6  # a sum of eight float32 is off by up to 4e-7 of the absolute values
_TERMS = 8  # summed in float32: with 16 the entropy of 10,000 equal classes was off by 1.4e-6
_PADDED_ROWS = 16  # rows of the smallest matrix the kernels take, the lanes of float32
_PREFETCH_VECTORS = 1 << 7  # short rows defeat the hardware's prefetching: 5.4 -> 3.6 reads at K=80
_ROWS_AHEAD = 16  # how far ahead the totals of an image are asked for
_CHUNK_BYTES = 1 << 18  # read by one thread before it takes the next chunk

_Array = npt.NDArray[Any]

# Numba compiles plain integers faster than members of an enum.
_VALID, _NOT_FINITE = int(Validity.VALID), int(Validity.NOT_FINITE)
_NEGATIVE, _ABOVE_ONE = int(Validity.NEGATIVE), int(Validity.ABOVE_ONE)
_WRONG_SUM = int(Validity.WRONG_SUM)


def _require_array(name: str, array: object, dtypes: tuple[type, ...], ndim: int) -> None:
    expected = " or ".join(np.dtype(dtype).name for dtype in dtypes)
    if not isinstance(array, np.ndarray):
        raise TypeError(f"{name} must be a NumPy array of {expected}, but got {type(array)}")
    array = cast("_Array", array)
    if array.dtype not in [np.dtype(dtype) for dtype in dtypes]:
        raise TypeError(f"{name} must be {expected} in native byte order, but got {array.dtype!r}")
    if array.ndim != ndim:
        raise ValueError(f"{name} must have {ndim} dimensions, but got shape {array.shape}")
    if not (array.flags.c_contiguous and array.flags.aligned):
        raise ValueError(
            f"{name} must be C-contiguous and aligned, but got strides {array.strides}"
            f" for shape {array.shape} of {array.dtype}"
        )


def _checked_totals(
    image_index: _Array, totals: _Array, counts: _Array, n_predictions: int, n_values: int
) -> _Array:
    """Check what predictions are added to, and return the index of their images read-only."""
    _require_array("image_index", image_index, (np.int64,), ndim=1)
    _require_array("totals", totals, (np.float64,), ndim=2)
    _require_array("counts", counts, (np.int64,), ndim=1)
    (n_images,) = counts.shape
    for name, actual, expected in (
        ("image_index", image_index.shape, (n_predictions,)),
        ("totals", totals.shape, (n_images, n_values)),
    ):
        if actual != expected:
            raise ValueError(f"{name} must have shape {expected}, but got {actual}")
    for name, array in (("totals", totals), ("counts", counts)):
        if not array.flags.writeable:
            raise ValueError(f"{name} is updated in place and must be writable, but is read-only")
    if n_predictions and (image_index.min() < 0 or image_index.max() >= n_images):
        row = np.flatnonzero((image_index < 0) | (image_index >= n_images))[0]
        raise IndexError(
            f"image_index must be in [0, {n_images}), but row {row} is {image_index[row]}"
        )
    return _read_only(image_index)


def _threads_for(flat: _Array) -> AbstractContextManager[None]:
    """One thread for what is one chunk: on a busy machine the start of others took 2 ms."""
    return one_thread() if flat.nbytes <= _CHUNK_BYTES else nullcontext()


def _read_only(array: _Array) -> _Array:
    """View the array read-only: Numba would compile a kernel again for each of the two types."""
    view = array.view()
    view.flags.writeable = False
    return view


def _rows_of_threads(image_index: _Array, *, ascending: bool) -> _Array:
    """Return the first row and the end of the rows that each part of the work looks at (n, 2).

    An image's rows are in one part, so that each total is continued in row order. In ascending
    order there is one part per thread, some of the rows. In another it is the rows of some of the
    images, for which it looks at all; parts are then as many as threads up to a power of two, for a
    remainder would take a division per row.
    """
    n_rows, n_threads = image_index.size, numba.get_num_threads()
    if not ascending:
        return np.array([[0, n_rows]] * (1 << (n_threads - 1).bit_length()))
    cuts = image_index[np.arange(1, n_threads) * n_rows // n_threads] if n_rows else []
    ends = [0, *np.searchsorted(image_index, cuts), n_rows]
    return np.column_stack([ends[:-1], ends[1:]])


def _flat_class_probs(class_probs: _Array) -> tuple[_Array, int, int]:
    """Check the matrix and flatten it, padded to `_PADDED_ROWS` rows if it has fewer."""
    _require_array("class_probs", class_probs, (np.float32, np.float64), ndim=2)
    n_predictions, n_classes = class_probs.shape
    if n_classes < 2:
        raise ValueError(f"class_probs must have 2 classes or more, but got {class_probs.shape}")
    if 0 < n_predictions < _PADDED_ROWS:
        class_probs = np.resize(class_probs, (_PADDED_ROWS, n_classes))
    return _read_only(class_probs.reshape(-1)), n_predictions, n_classes


def _helper(function: Callable[..., Any], *, inline: bool = False) -> Callable[..., Any]:
    """Compile a function that only kernels call: without wrappers for Python, which cost 0.5 s."""
    options: dict[str, Any] = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True}
    options |= {"error_model": "numpy", "forceinline": inline}
    return cast("Callable[..., Any]", numba.njit(**options)(function))


def _inlined_helper(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile a helper into its caller: in the innermost loops a call doubled the time."""
    return _helper(function, inline=True)


@_inlined_helper
def _surely_valid(total, smallest, largest, sum_tolerance, value_tolerance):
    """Tell whether all rows are valid for certain: sums near the tolerance are for `_reason`."""
    sure = sum_tolerance - _SUM_ERROR
    return (
        all_inside(total, 1 - sure, 1 + sure)
        and all_inside(smallest, -0.9 * value_tolerance, np.inf)
        and all_inside(largest, -np.inf, 1 + 0.9 * value_tolerance)
    )


@_inlined_helper
def _read_classes(flat, first, n_classes, width, prefetched, block):
    """Write `width` classes of a vector of rows to the block, one vector per class."""
    lanes, side = lanes_in(flat), square_side(flat)
    n_squares = (width + side - 1) // side
    if width == lanes:
        prefetch_block(flat, prefetched)
        for position in range(0, lanes, side):
            transpose(flat, first + position, n_classes, block, position * lanes)
    elif n_classes == 2:
        deinterleave(flat, first, block)
    # The last square may take numbers of the next rows, too, which nothing uses: if there are any.
    elif first + (lanes - 1) * n_classes + n_squares * side <= flat.size:
        for square in range(n_squares):
            position = square * side
            transpose(flat, first + position, n_classes, block, position * lanes)
    else:
        for position in range(width):
            store(block, position * lanes, gather(flat, first + position, n_classes))


@_helper
def _reason(flat, begin, end, sum_tolerance, value_tolerance):
    """Decide on one row, class after class in float64: the definition of `Validity`."""
    total = 0.0
    lowest_reason = _VALID
    for position in range(begin, end):
        p = np.float64(flat[position])
        if not abs(p) < np.inf:
            return _NOT_FINITE
        if p < -value_tolerance:
            lowest_reason = _NEGATIVE
        elif p > 1 + value_tolerance and lowest_reason == _VALID:
            lowest_reason = _ABOVE_ONE
        total += p
    if lowest_reason == _VALID and not abs(total - 1) <= sum_tolerance:
        return _WRONG_SUM
    return lowest_reason


@_inlined_helper
def _add_terms(block, begin, count, uniform, smallest, largest, second):
    """Sum p log2 p, p and (p - 1/K)² over `count` classes of the block, from `begin` on."""
    lanes = lanes_in(block)
    zero = fill(uniform, 0.0)
    plogp, total, squares = zero, zero, zero
    for index in range(count):
        probs = load(block, (begin + index) * lanes)
        total = total + probs
        smallest = min(smallest, probs)
        second = max(second, min(largest, probs))
        largest = max(largest, probs)
        positive = max(probs, zero)
        plogp = multiply_add(positive, log2(positive), plogp)
        # Around 1/K, so that nothing cancels for rows near uniform.
        deviation = probs - uniform
        squares = multiply_add(deviation, deviation, squares)
    return smallest, largest, second, (plogp, total, squares)


@_inlined_helper
def _score_rows_of(flat, n_classes, sum_tolerance, value_tolerance, start, stop, scores, validity):
    """Do what `_score_rows` does, for a number of classes that may be known when compiled."""
    lanes = lanes_in(flat)
    n_rows = validity.size
    with_largest = scores.size > 4 * n_rows
    block = np.empty(lanes * lanes, flat.dtype)
    zero = fill(load(block, 0), 0.0)
    infinity = fill(zero, np.inf)
    uniform = fill(zero, 1.0 / n_classes)
    wide_zero = widen(zero)
    wide_one = fill(wide_zero, 1.0)
    per_class = fill(wide_zero, 1.0 / n_classes)
    for unclamped in range(start, stop, lanes):
        # The last vector overlaps the one before: its rows get the same bits again.
        row = min(unclamped, stop - lanes)
        total, plogp, squares = wide_zero, wide_zero, wide_zero
        smallest, largest, second = infinity, zero - infinity, zero - infinity
        for position in range(0, n_classes, lanes):
            width = min(lanes, n_classes - position)
            first = row * n_classes
            ahead = first + (position + _PREFETCH_VECTORS) * lanes
            _read_classes(flat, first + position, n_classes, width, ahead, block)
            # A few terms are summed in the input's precision, then widened.
            for begin in range(0, width, _TERMS):
                if width - begin >= _TERMS:
                    smallest, largest, second, terms = _add_terms(
                        block, begin, _TERMS, uniform, smallest, largest, second
                    )
                else:
                    smallest, largest, second, terms = _add_terms(
                        block, begin, width - begin, uniform, smallest, largest, second
                    )
                plogp = plogp + widen(terms[0])
                total = total + widen(terms[1])
                squares = squares + widen(terms[2])
        shift = total * per_class - widen(uniform)
        variance = max(squares * per_class - shift * shift, wide_zero)
        store(scores, row, wide_zero - plogp)
        store(scores, row + n_rows, wide_one - widen(largest))
        store(scores, row + 2 * n_rows, widen(largest) - widen(second))
        store(scores, row + 3 * n_rows, variance)
        if with_largest:
            store(scores, row + 4 * n_rows, widen(largest))
        if not _surely_valid(total, smallest, largest, sum_tolerance, value_tolerance):
            for lane in range(lanes):
                begin = (row + lane) * n_classes
                validity[row + lane] = _reason(
                    flat, begin, begin + n_classes, sum_tolerance, value_tolerance
                )
                if validity[row + lane]:
                    for position in range(row + lane, scores.size, n_rows):
                        scores[position] = np.nan


@_helper
def _score_rows(flat, n_classes, sum_tolerance, value_tolerance, start, stop, scores, validity):
    """Score the rows [start, stop), at least one vector of them."""
    if n_classes == 2:
        # Compiled once more with a number in its place, which takes a third less time.
        _score_rows_of(flat, 2, sum_tolerance, value_tolerance, start, stop, scores, validity)
    else:
        _score_rows_of(
            flat, n_classes, sum_tolerance, value_tolerance, start, stop, scores, validity
        )


@_helper
def _check_rows(flat, n_classes, sum_tolerance, value_tolerance, start, stop, validity):
    """Check the rows [start, stop): the sums and bounds of `_score_rows`, in the same order."""
    lanes = lanes_in(flat)
    block = np.empty(lanes * lanes, flat.dtype)
    infinity = fill(load(block, 0), np.inf)
    wide_zero = fill(widen(infinity), 0.0)
    zero = fill(infinity, 0.0)
    for unclamped in range(start, stop, lanes):
        row = min(unclamped, stop - lanes)
        total, smallest, largest = wide_zero, infinity, fill(infinity, -np.inf)
        for position in range(0, n_classes, lanes):
            width = min(lanes, n_classes - position)
            first = row * n_classes
            ahead = first + (position + _PREFETCH_VECTORS) * lanes
            _read_classes(flat, first + position, n_classes, width, ahead, block)
            for begin in range(0, width, _TERMS):
                block_total = zero
                for index in range(begin, min(begin + _TERMS, width)):
                    probs = load(block, index * lanes)
                    block_total = block_total + probs
                    smallest = min(smallest, probs)
                    largest = max(largest, probs)
                total = total + widen(block_total)
        if not _surely_valid(total, smallest, largest, sum_tolerance, value_tolerance):
            for lane in range(lanes):
                begin = (row + lane) * n_classes
                validity[row + lane] = _reason(
                    flat, begin, begin + n_classes, sum_tolerance, value_tolerance
                )


@_helper
def _chunk_rows(flat, n_classes):
    """Return the rows of one chunk, a multiple of `_PADDED_ROWS`."""
    rows = _CHUNK_BYTES // (n_classes * flat.itemsize)
    return max(rows // _PADDED_ROWS, 1) * _PADDED_ROWS


@parallel
def _score_kernel(flat, n_classes, sum_tolerance, value_tolerance, scores, validity):
    chunk_rows = _chunk_rows(flat, n_classes)
    n_chunks = max(validity.size // chunk_rows, 1)
    for chunk in numba.prange(n_chunks):
        start = chunk * chunk_rows
        # The last chunk takes the remainder, so that no chunk is smaller than a vector.
        stop = start + chunk_rows if chunk + 1 < n_chunks else validity.size
        _score_rows(flat, n_classes, sum_tolerance, value_tolerance, start, stop, scores, validity)


@parallel
def _check_kernel(flat, n_classes, sum_tolerance, value_tolerance, validity):
    chunk_rows = _chunk_rows(flat, n_classes)
    n_chunks = max(validity.size // chunk_rows, 1)
    for chunk in numba.prange(n_chunks):
        start = chunk * chunk_rows
        stop = start + chunk_rows if chunk + 1 < n_chunks else validity.size
        _check_rows(flat, n_classes, sum_tolerance, value_tolerance, start, stop, validity)


@_inlined_helper
def _is_own(image, part, n_parts, ascending):
    """Tell whether an image belongs to a part of the work whose rows contain it.

    In ascending order all do. In another, eight neighbours belong together: threads that wrote to
    the same cache lines would wait for each other.
    """
    return ascending or (image >> np.uint64(3)) & np.uint64(n_parts - 1) == np.uint64(part)


@_inlined_helper
def _prefetch_image(image, totals, counts):
    """Ask for what is added to soon: in random order it is far from what was added to before."""
    n_values = np.uint64(totals.shape[1])
    prefetch(counts, image)
    prefetch(totals, image * n_values)
    prefetch(totals, (image + np.uint64(1)) * n_values - np.uint64(1))


@parallel
def _add_kernel(values, image_index, rows, ascending, totals, counts):
    n_values, n_parts = values.shape[0], rows.shape[0]
    last_row = image_index.size - 1
    for part in numba.prange(n_parts):
        for row in range(rows[part, 0], rows[part, 1]):
            if not ascending:
                later = np.uint64(image_index[min(row + _ROWS_AHEAD, last_row)])
                if _is_own(later, part, n_parts, ascending):
                    _prefetch_image(later, totals, counts)
            image = np.uint64(image_index[row])
            if _is_own(image, part, n_parts, ascending):
                counts[image] += 1
                for value in range(n_values):
                    totals[image, np.uint64(value)] += values[value, row]


@parallel
def _extreme_kernel(values, image_index, rows, ascending, sign, totals, counts):
    n_values = values.shape[0]
    for part in numba.prange(rows.shape[0]):
        for row in range(rows[part, 0], rows[part, 1]):
            image = np.uint64(image_index[row])
            if _is_own(image, part, rows.shape[0], ascending):
                counts[image] += 1
                for value in range(n_values):
                    score = values[value, row]
                    if np.isnan(score) or sign * score > sign * totals[image, np.uint64(value)]:
                        totals[image, np.uint64(value)] = score


@parallel
def _vote_kernel(votes, entropies, image_index, rows, ascending, independent, totals, counts):
    n_classes, n_parts = votes.shape[1], rows.shape[0]
    for part in numba.prange(n_parts):
        for row in range(rows[part, 0], rows[part, 1]):
            image = np.uint64(image_index[row])
            if _is_own(image, part, n_parts, ascending):
                counts[image] += 1
                totals[image, 2 * n_classes] += entropies[row]
                best = 0
                for position in range(n_classes):
                    probability = np.float64(votes[row, position])
                    totals[image, position] += probability
                    if independent:
                        totals[image, n_classes + position] += probability > 0.5
                    elif probability > votes[row, best]:
                        best = position
                if not independent:
                    totals[image, n_classes + best] += 1
