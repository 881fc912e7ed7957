"""The plane of a scatter plot is that of the singular value decomposition."""

import numpy as np
import pytest

from dagster_active_learning.report.projection import principal_plane


def reference(vectors):
    centered = vectors.astype(np.float64) - vectors.mean(axis=0, dtype=np.float64)
    left, lengths, _ = np.linalg.svd(centered, full_matrices=False)
    return left[:, :2] * lengths[:2], lengths[:2] ** 2 / np.sum(lengths**2)


@pytest.mark.parametrize(
    ("images", "dimensions", "clusters"), [(300, 40, 3), (50, 700, 4), (2_000, 8, 2), (3, 5, 2)]
)
def test_it_is_spanned_by_the_directions_of_most_variance(images, dimensions, clusters):
    rng = np.random.default_rng(images)
    centers = rng.normal(0, 5, (clusters, dimensions))
    vectors = centers[rng.integers(0, clusters, images)] + rng.normal(0, 1, (images, dimensions))
    vectors = vectors.astype(np.float32)
    places, shares = principal_plane(vectors)
    expected, expected_shares = reference(vectors)
    signs = np.sign((places * expected).sum(axis=0))
    scale = np.abs(expected).max()
    np.testing.assert_allclose(places * signs, expected, atol=2e-3 * scale)
    np.testing.assert_allclose(shares, expected_shares, atol=1e-4)


def test_the_same_vectors_have_the_same_places_and_no_variance_is_no_error():
    vectors = np.random.default_rng(1).normal(size=(100, 30)).astype(np.float32)
    np.testing.assert_array_equal(principal_plane(vectors)[0], principal_plane(vectors.copy())[0])
    places, shares = principal_plane(np.ones((5, 4), np.float32))
    assert not places.any()
    assert shares == (0.0, 0.0)


@pytest.mark.parametrize("scale", [1e-30, 1e37])
def test_vectors_near_the_limits_of_float32(scale):
    vectors = (np.random.default_rng(2).normal(size=(60, 9)) * scale).astype(np.float32)
    places, shares = principal_plane(vectors)
    expected, expected_shares = reference(vectors)
    signs = np.sign((places / scale * expected).sum(axis=0))
    np.testing.assert_allclose(places * signs / scale, expected / scale, atol=2e-2)
    np.testing.assert_allclose(shares, expected_shares, atol=1e-4)


def test_vectors_of_one_number_lie_on_a_line():
    places, shares = principal_plane(np.array([[1.0], [2.0], [4.0]], np.float32))
    np.testing.assert_allclose(np.diff(places[:, 0]), [1, 2], rtol=1e-6)
    assert not places[:, 1].any()
    assert shares[0] == pytest.approx(1)
