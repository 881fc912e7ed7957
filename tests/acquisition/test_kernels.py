"""The kernels against plain float64 NumPy written here, and bit for bit against themselves."""

import os
import subprocess
import sys
import threading
from pathlib import Path
from textwrap import indent
from typing import Any

import numba
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dagster_active_learning.acquisition import kernels
from dagster_active_learning.acquisition.kernels import (
    add_by_image,
    check_class_probs,
    score_class_probs,
)
from dagster_active_learning.acquisition.validity import Validity
from dagster_active_learning.limits import PROBABILITY_TOLERANCE
from reference import prediction_scores

SOURCE = Path(__file__).parents[2] / "src"
DTYPES = (np.float32, np.float64)
CLASS_COUNTS = (2, 3, 4, 5, 7, 8, 9, 10, 16, 17, 100, 1000, 10_000)
MAX_ERROR = {np.float32: 1e-6, np.float64: 1e-12}


def reference_scores(class_probs):
    return np.stack(list(prediction_scores(class_probs).values()))


def reference_validity(class_probs):
    codes = []
    for row in class_probs.astype(np.float64):
        if not np.isfinite(row).all():
            codes.append(Validity.NOT_FINITE)
        elif (row < -PROBABILITY_TOLERANCE).any():
            codes.append(Validity.NEGATIVE)
        elif (row > 1 + PROBABILITY_TOLERANCE).any():
            codes.append(Validity.ABOVE_ONE)
        elif abs(row.sum() - 1) > PROBABILITY_TOLERANCE:
            codes.append(Validity.WRONG_SUM)
        else:
            codes.append(Validity.VALID)
    return codes


def random_probs(n_predictions, n_classes, dtype, concentration=0.3, seed=0):
    weights = np.random.default_rng(seed).gamma(concentration, size=(n_predictions, n_classes))
    weights[:, 0] += 1e-12
    return (weights / weights.sum(axis=1, keepdims=True)).astype(dtype)


def same_bits(left, right):
    return (
        left.dtype == right.dtype
        and left.shape == right.shape
        and left.tobytes() == right.tobytes()
    )


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n_classes", CLASS_COUNTS)
@pytest.mark.parametrize("concentration", [0.02, 1.0, 50.0])
def test_scores_match_reference(dtype, n_classes, concentration):
    class_probs = random_probs(203 if n_classes < 2000 else 21, n_classes, dtype, concentration)
    scores, validity = score_class_probs(class_probs, objects=True)
    assert scores.dtype == np.float64
    assert validity.dtype == np.uint8
    assert not validity.any()
    np.testing.assert_allclose(scores, reference_scores(class_probs), rtol=0, atol=MAX_ERROR[dtype])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n_classes", CLASS_COUNTS)
def test_special_rows(dtype, n_classes):
    tiny = np.finfo(dtype).smallest_subnormal
    one_hot = np.eye(1, n_classes, n_classes - 1)[0]
    tie = np.where(np.arange(n_classes) < 2, 0.5, 0.0)
    class_probs = np.array(
        [
            one_hot,
            np.where(one_hot == 1, 1, tiny),
            np.full(n_classes, 1 / n_classes),
            tie,
            np.where(one_hot == 1, 1.00001, 0),
            np.where(np.arange(n_classes) == 0, -0.0005, one_hot),
            np.where(one_hot == 1, 1, -0.0),
        ],
        dtype=dtype,
    )
    scores, validity = score_class_probs(class_probs, objects=True)
    assert validity.tolist() == [Validity.VALID] * 7
    np.testing.assert_allclose(scores, reference_scores(class_probs), rtol=0, atol=MAX_ERROR[dtype])
    for row in (0, 6):
        assert scores[:3, row].tolist() == [0, 0, 1]
        assert not np.signbit(scores[:, row]).any()
    assert scores[2, 2] == 0
    assert scores[:3, 3].tolist() == [1, 0.5, 0]
    assert (scores[3] >= 0).all()
    if n_classes == 2:
        assert scores[:, 2].tolist() == [1, 0.5, 0, 0, 0.5]


@pytest.mark.parametrize("dtype", DTYPES)
@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_any_row_matches_reference(dtype, data):
    n_classes = data.draw(st.integers(2, 40))
    element = st.floats(0, 1, width=32) | st.sampled_from([0.0, 1.0, 0.5, 1e-30])
    rows = data.draw(
        st.lists(
            st.lists(element, min_size=n_classes, max_size=n_classes).filter(any),
            min_size=1,
            max_size=20,
        )
    )
    weights = np.array(rows, dtype=np.float64)
    class_probs = (weights / weights.sum(axis=1, keepdims=True)).astype(dtype)
    scores, validity = score_class_probs(class_probs, objects=True)
    assert not validity.any()
    np.testing.assert_allclose(scores, reference_scores(class_probs), rtol=0, atol=MAX_ERROR[dtype])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n_classes", [2, 3, 8, 9, 10, 33])
@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ((0.5, 0.5), Validity.VALID),
        ((1.0005, -0.0005), Validity.VALID),
        ((1.00099, -0.00099), Validity.VALID),
        ((0.5, 0.50099), Validity.VALID),
        ((0.5, 0.49901), Validity.VALID),
        ((0.5, 0.5011), Validity.WRONG_SUM),
        ((0.5, 0.4989), Validity.WRONG_SUM),
        ((0, 0), Validity.WRONG_SUM),
        ((1.0, 1.0), Validity.WRONG_SUM),
        ((1.0011, -0.0005), Validity.ABOVE_ONE),
        ((5.0, 0.1), Validity.ABOVE_ONE),
        ((1.0, -0.0011), Validity.NEGATIVE),
        ((-1e30, 1e30), Validity.NEGATIVE),
        ((1e30, -1e30), Validity.NEGATIVE),
        ((3e38, 3e38), Validity.ABOVE_ONE),
        ((np.nan, 0.5), Validity.NOT_FINITE),
        ((np.inf, 0.5), Validity.NOT_FINITE),
        ((-np.inf, np.inf), Validity.NOT_FINITE),
        ((-1.0, np.nan), Validity.NOT_FINITE),
        ((2.0, np.inf), Validity.NOT_FINITE),
    ],
)
def test_validity_and_its_precedence(dtype, n_classes, values, expected):
    for row in range(21):
        class_probs = random_probs(21, n_classes, dtype)
        class_probs[row] = 0
        class_probs[row, [0, -1]] = values
        scores, validity = score_class_probs(class_probs, objects=True)
        assert validity.tolist() == [expected if other == row else 0 for other in range(21)]
        assert validity.tolist() == reference_validity(class_probs)
        assert same_bits(validity, check_class_probs(class_probs))
        assert (np.isnan(scores).all(axis=0) == (validity != 0)).all()
        assert (np.isnan(scores).any(axis=0) == (validity != 0)).all()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("bound", [-PROBABILITY_TOLERANCE, 1 + PROBABILITY_TOLERANCE])
def test_bounds_are_compared_in_float64(dtype, bound):
    bound = dtype(bound)
    class_probs = np.array(
        [[p, 1 - p] for p in (np.nextafter(bound, dtype(-9)), bound, np.nextafter(bound, dtype(9)))]
    )
    assert class_probs.dtype == dtype
    assert check_class_probs(class_probs).tolist() == reference_validity(class_probs)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n_classes", [2, 10, 100])
def test_sums_near_the_tolerance_are_decided_in_float64(dtype, n_classes):
    class_probs = random_probs(400, n_classes, dtype, 1.0).astype(np.float64)
    edges = np.array([1 - PROBABILITY_TOLERANCE, 1 + PROBABILITY_TOLERANCE])
    offsets = np.linspace(-2e-4, 2e-4, 200)
    class_probs *= (edges[:, None] + offsets).reshape(-1, 1)
    class_probs = class_probs.astype(dtype)
    far = np.abs(np.abs(class_probs.sum(axis=1, dtype=np.float64) - 1) - 1e-3) > 1e-12
    expected = np.array(reference_validity(class_probs))
    assert set(expected.tolist()) == {Validity.VALID, Validity.WRONG_SUM}
    assert (check_class_probs(class_probs) == expected)[far].all()
    assert (score_class_probs(class_probs, objects=True)[1] == expected)[far].all()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("sum_tolerance", [PROBABILITY_TOLERANCE, np.inf])
def test_two_classes_of_many_rows(dtype, sum_tolerance):
    p = np.random.default_rng(0).random(70_003)
    other = 1 - p if sum_tolerance == PROBABILITY_TOLERANCE else p[::-1]
    class_probs = np.column_stack([p, other]).astype(dtype)
    class_probs[[0, 40_000, 70_002]] = np.nan
    scores, validity = score_class_probs(class_probs, objects=True, sum_tolerance=sum_tolerance)
    assert np.flatnonzero(validity).tolist() == [0, 40_000, 70_002]
    assert same_bits(validity, check_class_probs(class_probs, sum_tolerance=sum_tolerance))
    expected = reference_scores(class_probs)
    expected[:, validity != 0] = np.nan
    np.testing.assert_allclose(scores, expected, rtol=0, atol=MAX_ERROR[dtype])


def test_a_row_is_judged_alike_beside_any_other():
    class_probs = np.tile(np.float32([0.1, 0.9]), (40, 1))
    alone = check_class_probs(class_probs, sum_tolerance=1e-8)
    class_probs[20] = [0.5, 0.6]
    among_others = check_class_probs(class_probs, sum_tolerance=1e-8)
    assert same_bits(np.delete(among_others, 20), np.delete(alone, 20))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n_classes", [2, 10, 33])
def test_same_bits_for_every_split_and_order(dtype, n_classes):
    class_probs = random_probs(45, n_classes, dtype)
    class_probs[7, 0] = np.nan
    class_probs[44] = 1
    scores, validity = score_class_probs(class_probs, objects=True)
    for split in range(46):
        parts = [
            score_class_probs(class_probs[:split], objects=True),
            score_class_probs(class_probs[split:], objects=True),
        ]
        assert same_bits(scores, np.concatenate([part[0] for part in parts], axis=1))
        assert same_bits(validity, np.concatenate([part[1] for part in parts]))
    order = np.random.default_rng(1).permutation(45)
    reordered, _ = score_class_probs(class_probs[order], objects=True)
    assert same_bits(reordered, np.ascontiguousarray(scores[:, order]))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n_classes", range(2, 36))
def test_numbers_around_the_matrix_decide_nothing(dtype, n_classes):
    for n_rows in (1, 15, 16, 17, 31, 32, 40):
        class_probs = random_probs(n_rows, n_classes, dtype)
        expected = (*score_class_probs(class_probs, objects=True), check_class_probs(class_probs))
        for number in (0, 1, -1, 1e30, np.inf, np.nan):
            memory = np.full((n_rows + 4, n_classes), number, dtype)
            memory[2:-2] = class_probs
            inside = memory[2:-2]
            actual = (*score_class_probs(inside, objects=True), check_class_probs(inside))
            for left, right in zip(expected, actual, strict=True):
                assert same_bits(left, right)


BETWEEN_PAGES_THAT_CANNOT_BE_READ = """
import ctypes, itertools, mmap
import numpy as np
from dagster_active_learning.acquisition.kernels import *
page, n_pages = mmap.PAGESIZE, 8
memory = np.frombuffer(mmap.mmap(-1, (n_pages + 2) * page), np.uint8)
for first in (memory.ctypes.data, memory.ctypes.data + (n_pages + 1) * page):
    assert not ctypes.CDLL(None).mprotect(ctypes.c_void_p(first), ctypes.c_size_t(page), 0)
for dtype, n_classes, n_rows in itertools.product(
    (np.float32, np.float64), range(2, 36), (1, 15, 16, 17, 33, 40)
):
    probs = np.random.default_rng(n_rows).random((n_rows, n_classes)).astype(dtype)
    probs[:-1] /= probs[:-1].sum(axis=1, keepdims=True)
    expected = *score_class_probs(probs, objects=True), check_class_probs(probs)
    for begin in (page, (n_pages + 1) * page - probs.nbytes):
        placed = memory[begin : begin + probs.nbytes].view(dtype).reshape(probs.shape)
        placed[:] = probs
        actual = *score_class_probs(placed, objects=True), check_class_probs(placed)
        for left, right in zip(expected, actual):
            assert left.tobytes() == right.tobytes()
print("no number outside was read")
"""


def test_nothing_outside_the_matrix_is_read():
    """A number read outside ends the process: so in one of its own."""
    assert run_python(BETWEEN_PAGES_THAT_CANNOT_BE_READ).strip() == "no number outside was read"


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n_classes", [2, 10])
def test_same_bits_for_every_thread_count(dtype, n_classes):
    class_probs = random_probs(60_003, n_classes, dtype)
    before = numba.get_num_threads()
    expected = score_class_probs(class_probs, objects=True)
    try:
        for threads in range(1, before + 1):
            numba.set_num_threads(threads)
            for left, right in zip(
                expected, score_class_probs(class_probs, objects=True), strict=True
            ):
                assert same_bits(left, right)
    finally:
        numba.set_num_threads(before)


def run_python(code, **environment):
    return subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONPATH": str(SOURCE)} | environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    ).stdout


HASH_OF_ALL_RESULTS = """
import hashlib
import numpy as np
from dagster_active_learning.acquisition.kernels import (
    add_by_image, check_class_probs, score_class_probs
)
digest = hashlib.sha256()
probs = np.random.default_rng(0).random((200_003, 10), np.float32)
probs /= probs.sum(axis=1, keepdims=True)
probs[5] = 3
scores, validity = score_class_probs(probs, objects=True)
totals, counts = np.zeros((1000, 5)), np.zeros(1000, np.int64)
image_index = np.random.default_rng(1).integers(0, 1000, len(probs))
add_by_image(scores, image_index, totals, counts)
for result in (scores, validity, check_class_probs(probs), totals, counts):
    digest.update(result.tobytes())
print(digest.hexdigest())
"""


def test_same_bits_with_other_thread_counts():
    code = f"""
import numba
for threads in (1, 2, 8):
    numba.set_num_threads(threads)
{indent(HASH_OF_ALL_RESULTS, "    ")}
"""
    digests = run_python(code, NUMBA_NUM_THREADS="8").split()
    assert len(digests) == 3
    assert len(set(digests)) == 1


@pytest.mark.parametrize("dtype", DTYPES)
def test_read_only_input_works_without_another_compilation(dtype):
    from dagster_active_learning.acquisition import kernels

    class_probs = random_probs(50, 10, dtype)
    expected = score_class_probs(class_probs, objects=True)
    score_kernel: Any = kernels._score_kernel
    compiled = len(score_kernel.signatures)
    class_probs.flags.writeable = False
    for left, right in zip(expected, score_class_probs(class_probs, objects=True), strict=True):
        assert same_bits(left, right)
    assert len(score_kernel.signatures) == compiled


@pytest.mark.parametrize("dtype", DTYPES)
def test_no_predictions(dtype):
    scores, validity = score_class_probs(np.empty((0, 10), dtype), objects=True)
    assert scores.shape == (5, 0)
    assert validity.shape == check_class_probs(np.empty((0, 10), dtype)).shape == (0,)
    totals, counts = np.ones((3, 5)), np.ones(3, np.int64)
    add_by_image(scores, np.empty(0, np.int64), totals, counts)
    assert (totals == 1).all()
    assert (counts == 1).all()


FROM_MANY_THREADS = """
import threading
import numpy as np
from dagster_active_learning.acquisition.kernels import *
probs = np.full((100_000, 4), 0.25, np.float32)
failures = []
def work():
    for _ in range(10):
        scores, validity = score_class_probs(probs, objects=True)
        totals, counts = np.zeros((10, 5)), np.zeros(10, np.int64)
        add_by_image(scores, np.arange(len(probs)) % 10, totals, counts)
        right = (scores[0] == 2).all() and (counts == 10_000).all()
        if not right or check_class_probs(probs).any():
            failures.append(1)
threads = [threading.Thread(target=work) for _ in range(6)]
for thread in threads: thread.start()
for thread in threads: thread.join()
print("failures:", len(failures))
"""


@pytest.mark.parametrize("layer", ["default", "workqueue"])
def test_many_threads_may_call_at_once(layer):
    output = run_python(FROM_MANY_THREADS, NUMBA_THREADING_LAYER=layer)
    assert output.strip() == "failures: 0"


def test_threads_of_this_process_may_call_at_once():
    class_probs = random_probs(20_000, 10, np.float32)
    expected, _ = score_class_probs(class_probs, objects=True)
    results = []
    threads = [
        threading.Thread(
            target=lambda: results.append(score_class_probs(class_probs, objects=True)[0])
        )
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 8
    assert all(same_bits(expected, result) for result in results)


@pytest.mark.slow
def test_works_where_no_cache_is_writable():
    """No locator at all: root may write anywhere, so the locators themselves are taken away."""
    code = f"""
import numba.core.caching as caching
caching.CacheImpl._locator_classes = []
{HASH_OF_ALL_RESULTS}
from dagster_active_learning.acquisition import kernels
assert not kernels._score_kernel.stats.cache_path
"""
    assert run_python(code) == run_python(HASH_OF_ALL_RESULTS)


def folded_by_image(values, image_index, totals, counts):
    for row, image in enumerate(image_index):
        counts[image] += 1
        for value in range(len(values)):
            totals[image, value] += values[value, row]


def skewed(generator, n_predictions, n_images):
    image_index = generator.integers(0, n_images, n_predictions)
    image_index[generator.random(n_predictions) < 0.7] = n_images // 2
    return image_index


@pytest.mark.parametrize("n_values", [0, 1, 4, 5])
@pytest.mark.parametrize(
    "make_index",
    [
        lambda *arguments: np.arange(arguments[1]),
        lambda generator, n_predictions, _: generator.permutation(n_predictions),
        lambda generator, n_predictions, n_images: generator.integers(0, n_images, n_predictions),
        skewed,
    ],
    ids=["one_each", "one_each_shuffled", "random", "skewed"],
)
def test_add_by_image_is_a_left_fold(n_values, make_index):
    generator = np.random.default_rng(0)
    n_predictions = n_images = 3000
    values = generator.normal(size=(n_values, n_predictions)) * 10.0 ** generator.integers(
        -8, 8, n_predictions
    )
    image_index = make_index(generator, n_predictions, n_images)
    start = generator.normal(size=(n_images, n_values))
    expected, expected_counts = start.copy(), np.ones(n_images, np.int64)
    folded_by_image(values, image_index, expected, expected_counts)
    for n_batches in (1, 2, 7, 100):
        totals, counts = start.copy(), np.ones(n_images, np.int64)
        for rows in np.array_split(np.arange(n_predictions), n_batches):
            add_by_image(np.ascontiguousarray(values[:, rows]), image_index[rows], totals, counts)
        assert same_bits(totals, expected)
        assert same_bits(counts, expected_counts)


@pytest.mark.parametrize("keep", ["sum", "max", "min"])
@pytest.mark.parametrize("threads", [1, 2, 3, 5, 8])
@pytest.mark.parametrize("n_images", [1, 9, 300])
@pytest.mark.parametrize("in_order", [True, False])
def test_add_by_image_in_any_number_of_parts(monkeypatch, keep, threads, n_images, in_order):
    monkeypatch.setattr(numba, "get_num_threads", lambda: threads)
    generator = np.random.default_rng(threads)
    image_index = generator.integers(0, n_images, 1000)
    if in_order:
        image_index.sort()
    values = generator.normal(size=(5, 1000)) * 10.0 ** generator.integers(-8, 8, 1000)
    values[generator.random(values.shape) < 1e-3] = np.nan
    combine = {"sum": np.add, "max": np.maximum, "min": np.minimum}[keep]
    before = {"sum": 0.0, "max": -np.inf, "min": np.inf}[keep]
    totals, counts = np.full((n_images, 5), before), np.zeros(n_images, np.int64)
    expected = totals.copy()
    combine.at(expected, image_index, values.T)
    add_by_image(values, image_index, totals, counts, keep=keep)
    np.testing.assert_array_equal(totals, expected)
    np.testing.assert_array_equal(counts, np.bincount(image_index, minlength=n_images))


# What two threads write at once cannot be seen in what one thread computes.
@pytest.mark.parametrize("threads", [1, 2, 3, 5, 8])
@pytest.mark.parametrize("n_rows", [0, 1, 2, 7, 3000])
@pytest.mark.parametrize("n_images", [1, 2, 50, 100_000])
def test_rows_in_order_are_cut_between_images(monkeypatch, threads, n_rows, n_images):
    monkeypatch.setattr(numba, "get_num_threads", lambda: threads)
    image_index = np.sort(np.random.default_rng(0).integers(0, n_images, n_rows))
    parts = kernels._rows_of_threads(image_index, ascending=True)
    assert [row for first, end in parts for row in range(first, end)] == list(range(n_rows))
    images = [set(image_index[first:end]) for first, end in parts]
    assert sum(map(len, images)) == len(set(image_index))


def test_add_by_image_million_rows_of_one_image():
    values = np.random.default_rng(0).random((1, 1_000_000))
    totals, counts = np.zeros((3, 1)), np.zeros(3, np.int64)
    add_by_image(values, np.ones(1_000_000, np.int64), totals, counts)
    assert totals.ravel().tolist() == [0, np.cumsum(values[0])[-1], 0]
    assert counts.tolist() == [0, 1_000_000, 0]


@pytest.mark.parametrize("n_images", [1, 10])
@pytest.mark.parametrize("wrong", [-1, 10, 2**62, -(2**63)])
@pytest.mark.parametrize("row", [0, 40_000, 99_999])
def test_index_out_of_range_names_row_and_value_and_changes_nothing(n_images, wrong, row):
    image_index = np.zeros(100_000, np.int64)
    image_index[row:] = wrong
    totals, counts = np.zeros((n_images, 2)), np.zeros(n_images, np.int64)
    with pytest.raises(IndexError, match=rf"\[0, {n_images}\), but row {row} is {wrong}$"):
        add_by_image(np.ones((2, 100_000)), image_index, totals, counts)
    assert not totals.any()
    assert not counts.any()


@pytest.mark.parametrize(
    ("class_probs", "error", "message"),
    [
        ([[0.5, 0.5]], TypeError, "must be a NumPy array of float32 or float64, but got"),
        (np.ones((3, 2), np.float16), TypeError, "float32 or float64.*but got.*float16"),
        (np.ones((3, 2), np.int64), TypeError, "but got.*int64"),
        (np.ones((3, 2), np.float32).astype(">f4"), TypeError, "native byte order, but got.*>f4"),
        (np.ones(3, np.float32), ValueError, r"2 dimensions, but got shape \(3,\)"),
        (np.ones((3, 2, 1), np.float32), ValueError, r"2 dimensions, but got shape \(3, 2, 1\)"),
        (np.ones((3, 1), np.float32), ValueError, r"2 classes or more, but got.*\(3, 1\)"),
        (np.ones((3, 0), np.float32), ValueError, r"2 classes or more, but got.*\(3, 0\)"),
        (np.ones((3, 4), np.float32)[:, ::2], ValueError, "C-contiguous"),
        (np.ones((2, 3), np.float32).T, ValueError, "C-contiguous"),
    ],
)
def test_wrong_class_probs(class_probs, error, message):
    for function in (score_class_probs, check_class_probs):
        with pytest.raises(error, match=message):
            function(class_probs)


def read_only(array):
    array.flags.writeable = False
    return array


@pytest.mark.parametrize(
    ("changed", "error", "message"),
    [
        ({"values": np.ones((4, 5), np.float32)}, TypeError, "values must be float64"),
        ({"values": np.ones((5, 4)).T}, ValueError, "values must be C-contiguous"),
        ({"image_index": np.zeros(5, np.int32)}, TypeError, "image_index must be int64"),
        ({"image_index": np.zeros(6, np.int64)}, ValueError, r"image_index.*\(5,\).*\(6,\)"),
        ({"totals": np.zeros((2, 3))}, ValueError, r"totals.*\(2, 4\).*\(2, 3\)"),
        ({"totals": np.zeros((3, 4))}, ValueError, r"totals.*\(2, 4\).*\(3, 4\)"),
        ({"totals": read_only(np.zeros((2, 4)))}, ValueError, "totals.*read-only"),
        ({"counts": np.zeros(2)}, TypeError, "counts must be int64"),
        ({"counts": read_only(np.zeros(2, np.int64))}, ValueError, "counts.*read-only"),
    ],
)
def test_wrong_arguments_of_add_by_image(changed, error, message):
    arguments = {
        "values": np.ones((4, 5)),
        "image_index": np.zeros(5, np.int64),
        "totals": np.zeros((2, 4)),
        "counts": np.zeros(2, np.int64),
    }
    with pytest.raises(error, match=message):
        add_by_image(**(arguments | changed))
