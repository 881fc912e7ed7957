"""BADGE and TypiClust beside plain NumPy: gradients that are made, clusters that are looked up."""

# pyright: reportPrivateImportUsage=false

import numba
import numpy as np
import pyarrow as pa
import pytest
from sklearn.cluster import KMeans

from dagster_active_learning.ranking.gradients import GradientOrder
from dagster_active_learning.ranking.kernels import (
    gradient_norms,
    hash_ids,
    lower_to_gradient,
)
from dagster_active_learning.ranking.sampling import drawn_row, uniform_numbers
from dagster_active_learning.ranking.typical import TypicalOrder, k_means


def chosen_from(order, count, left_out=()):
    """The first images of an order that are not left out."""
    chosen = []
    while len(chosen) < count and (image_id := order.next_image()) is not None:
        if image_id not in left_out:
            order.end_turn()
            chosen.append(image_id)
    return chosen


def data(n_images, n_classes, n_dimensions, seed=0):
    random = np.random.default_rng(seed)
    class_probs = random.dirichlet(np.full(n_classes, 0.5), n_images).astype(np.float32)
    return class_probs, random.normal(size=(n_images, n_dimensions)).astype(np.float32)


# BADGE


def gradients_of(class_probs, vectors):
    """The gradient embeddings (n_images, n_classes * n_dimensions), as the paper writes them."""
    residuals = class_probs.astype("f8")
    residuals[np.arange(len(residuals)), residuals.argmax(axis=1)] -= 1
    return (residuals[:, :, None] * vectors[:, None, :].astype("f8")).reshape(len(vectors), -1)


def badge(class_probs, vectors, count, uniform, left_out=()):
    """k-means++ over the gradient embeddings: the longest, then by squared distances."""
    gradients = gradients_of(class_probs, vectors)
    may_be = np.array([row not in left_out for row in range(len(gradients))])
    given, chosen = set(), []
    while len(chosen) < count and len(given) < len(gradients):
        if chosen:
            differences = gradients[:, None] - gradients[None, chosen]
            weights = (differences**2).sum(axis=2).min(axis=1)
            weights[sorted(given)] = 0
            row = int((np.cumsum(weights) > next(uniform) * weights.sum()).argmax())
        else:
            lengths = (gradients**2).sum(axis=1)
            lengths[sorted(given)] = -1
            row = int(lengths.argmax())
        given.add(row)
        if may_be[row]:
            chosen.append(row)
    return chosen


@pytest.mark.parametrize(("n_classes", "n_dimensions"), [(2, 3), (10, 64), (7, 33)])
@pytest.mark.parametrize("left_out", [(), range(0, 60, 3)])
def test_badge_is_k_means_plus_plus_over_gradients(n_classes, n_dimensions, left_out):
    class_probs, vectors = data(60, n_classes, n_dimensions)
    ids = [f"image{row}" for row in range(60)]
    order = GradientOrder(ids, class_probs, vectors, uniform_numbers("badge", 3))
    expected = badge(class_probs, vectors, 20, uniform_numbers("badge", 3), left_out)
    chosen = chosen_from(order, 20, {ids[row] for row in left_out})
    assert chosen == [ids[row] for row in expected]


def test_what_is_alike_comes_last_in_the_order_that_it_has():
    class_probs = np.array([[0.6, 0.4]] * 5 + [[1, 0]], np.float32)
    vectors = np.array([[1, 2]] * 4 + [[3, 4], [5, 6]], np.float32)
    order = GradientOrder(list("abcdef"), class_probs, vectors, uniform_numbers("x", 0))
    assert chosen_from(order, 9)[0] == "e"
    order = GradientOrder(list("abcdef"), class_probs, vectors, uniform_numbers("x", 0))
    rest = chosen_from(order, 9)
    assert sorted(rest) == list("abcdef")
    assert len({*rest[:3]} & {*"abcd"}) == 1
    assert rest[3:] == sorted(rest[3:])
    assert chosen_from(GradientOrder([], class_probs[:0], vectors[:0], iter(())), 3) == []


@pytest.mark.parametrize("n_dimensions", [5, 128])
def test_distances_of_gradients_are_the_same_bits_for_any_thread_count(n_dimensions):
    class_probs, vectors = data(3000, 10, n_dimensions)
    residuals = class_probs - np.eye(10, dtype=np.float32)[class_probs.argmax(axis=1)]
    norms = gradient_norms(residuals, vectors)
    found = []
    for threads in (1, min(2, numba.config.NUMBA_NUM_THREADS)):
        numba.set_num_threads(threads)
        squares = np.full(len(vectors), np.inf)
        for row in (7, 2999):
            lower_to_gradient(residuals, vectors, norms, row, squares)
        found.append(squares)
    numba.set_num_threads(numba.config.NUMBA_NUM_THREADS)
    assert (found[0] == found[1]).all()
    gradients = gradients_of(class_probs, vectors)
    expected = np.min(
        [((gradients - gradients[row]) ** 2).sum(axis=1) for row in (7, 2999)], axis=0
    )
    np.testing.assert_allclose(norms, (gradients**2).sum(axis=1), rtol=1e-6)
    np.testing.assert_allclose(squares, expected, rtol=1e-6, atol=1e-6)
    assert squares[7] == squares[2999] == 0


# Draws


def test_numbers_are_uniform_and_of_name_and_seed_alone():
    def first(name, seed, count=2000):
        return [
            number for _, number in zip(range(count), uniform_numbers(name, seed), strict=False)
        ]

    numbers = first("badge 1", 0)
    assert numbers == first("badge 1", 0)
    hashed = hash_ids(pa.array([f"badge 1 {number}" for number in range(3)]), 0).tolist()
    assert numbers[:3] == [(one >> 11) / 2**53 for one in hashed]
    counts = np.histogram(numbers, 20, (0, 1))[0]
    assert ((counts - 100) ** 2 / 100).sum() < 44, "chi-square of 19 degrees of freedom, p = 0.001"
    assert len({*numbers, *first("badge 2", 0), *first("badge 1", 1)}) == 6000


@pytest.mark.parametrize(
    ("weights", "uniform", "row"),
    [
        ([0, 1, 0, 3], 0.0, 1),
        ([0, 1, 0, 3], 0.2499, 1),
        ([0, 1, 0, 3], 0.25, 3),
        ([0, 1, 0, 3, 0, 0], 1 - 2**-53, 3),
        ([3, 0], 1 - 2**-53, 0),
        ([0, 0], 0.5, None),
    ],
)
def test_a_row_is_drawn_by_its_weight(weights, uniform, row):
    assert drawn_row(np.array(weights, float), uniform) == row


# TypiClust


def blobs(sizes, n_dimensions=8, seed=0):
    """Well separated clusters of these sizes, one behind the other."""
    random = np.random.default_rng(seed)
    centers = 100 * np.eye(len(sizes), n_dimensions)
    parts = [
        center + random.normal(size=(size, n_dimensions))
        for center, size in zip(centers, sizes, strict=True)
    ]
    return np.concatenate(parts).astype(np.float32), np.repeat(np.arange(len(sizes)), sizes)


def typical_of(points, left):
    """The most typical of the points that are left, by all distances."""
    members = np.flatnonzero(left)
    distances = np.linalg.norm(points[members, None].astype("f8") - points[members], axis=2)
    neighbors = max(1, min(20, len(members) // 2))
    means = np.sort(distances, axis=1)[:, 1 : neighbors + 1].mean(axis=1)
    return members[means.argmin()]


def test_typical_images_are_those_of_the_largest_clusters_without_labels_in_turn():
    # The second cluster has a labeled image, and the last is a few outliers.
    points, clusters = blobs([30, 60, 45, 3])
    labeled = points[30]
    ids = [f"image{row}" for row in range(len(points))]
    order = TypicalOrder(ids, points, labeled[None], 3, uniform_numbers("typical", 0))
    left = np.ones(len(points), np.bool_)
    for cluster in (2, 0, 1, 2, 0, 1):
        expected = typical_of(points, left & (clusters == cluster))
        assert chosen_from(order, 1) == [ids[expected]]
        left[expected] = False
    rest = chosen_from(order, 999)
    assert sorted(rest) == sorted(np.array(ids)[left])
    assert set(rest[-3:]) == set(ids[-3:]), "the small cluster comes last"


def test_clusters_are_as_good_as_those_of_scikit_learn():
    points, blob_of_point = blobs([50, 20, 70, 40, 10])
    found = k_means(points, 5, uniform_numbers("clusters", 0))
    pairs = set(zip(found.tolist(), blob_of_point.tolist(), strict=True))
    assert len(pairs) == 5
    random = np.random.default_rng(0).normal(size=(600, 16)).astype(np.float32)
    within, of_peer = [], []
    for seed in range(5):
        clusters = k_means(random, 20, uniform_numbers("clusters", seed))
        centers = np.array([random[clusters == one].mean(axis=0) for one in range(20)])
        within.append(((random - centers[clusters]) ** 2).sum())
        peer = KMeans(20, n_init=1, random_state=seed).fit(random)
        of_peer.append(peer.inertia_)
        # A point is where the nearest center is.
        distances = np.linalg.norm(random[:, None] - centers, axis=2)
        assert (distances.argmin(axis=1) == clusters).mean() > 0.99
    assert np.mean(within) < 1.02 * np.mean(of_peer)


def test_points_that_are_alike_are_one_cluster():
    points = np.repeat(np.eye(3, dtype=np.float32), 4, axis=0)
    assert len(set(k_means(points, 9, uniform_numbers("clusters", 0)).tolist())) == 3


def test_typical_images_are_the_same_for_any_thread_count():
    points, _ = blobs([300, 200, 500], 64)
    ids = [str(row) for row in range(len(points))]
    orders = set()
    for threads in (1, min(2, numba.config.NUMBA_NUM_THREADS)):
        numba.set_num_threads(threads)
        order = TypicalOrder(ids, points, points[:0], 40, uniform_numbers("typical", 5))
        orders.add(tuple(chosen_from(order, 40)))
    numba.set_num_threads(numba.config.NUMBA_NUM_THREADS)
    assert len(orders) == 1
