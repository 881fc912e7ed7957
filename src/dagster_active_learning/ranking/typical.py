"""TypiClust: images that are like many others, for the time before a model can be trusted.

Source: Hacohen, Dekel, Weinshall, "Active Learning on a Budget: Opposite Strategies Suit High and
Low Budgets", ICML 2022, https://arxiv.org/abs/2202.02794, with the constants of its code.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from dagster_active_learning.ranking.kernels import squared_distances
from dagster_active_learning.ranking.sampling import drawn_row

MOST_CLUSTERS = 500
MOST_NEIGHBORS = 20
SMALL_CLUSTER = 5
"""Clusters of so many images or fewer are left for last: they are outliers."""

_MOST_ROUNDS = 50
"""Of k-means, which seldom needs as many."""


class TypicalOrder:
    """Images in the order of TypiClust: of each cluster in turn the most typical one.

    There are as many clusters as images that are labeled and wanted, ``MOST_CLUSTERS`` at the most.
    Those with the fewest labeled images come first, of these the largest. The most typical image of
    a cluster is the one with the smallest mean distance to its ``MOST_NEIGHBORS`` nearest, or to
    half of the cluster where that is fewer; what was given counts no more.

    Args:
        image_ids: The images, each once, at least one.
        vectors: (n_images, n_dimensions) float32 embeddings.
        known: (n_known, n_dimensions) float32 embeddings of images that are labeled, in flight or
            in the batch already.
        wanted: How many images are wanted, at least one.
        uniform: Numbers from 0 to below 1, for the first centers.
    """

    def __init__(
        self,
        image_ids: Sequence[str],
        vectors: npt.NDArray[np.float32],
        known: npt.NDArray[np.float32],
        wanted: int,
        uniform: Iterator[float],
    ) -> None:
        points = np.ascontiguousarray(np.concatenate([vectors, known]), np.float32)
        n_clusters = min(len(known) + wanted, MOST_CLUSTERS)
        clusters = k_means(points, n_clusters, uniform)
        self._ids = image_ids
        self._order = _typical_rows(points[: len(vectors)], clusters, n_clusters)

    def next_image(self) -> str | None:
        """The next image; None at the end."""
        row = next(self._order, None)
        return None if row is None else self._ids[row]

    def end_turn(self) -> None:
        """Go on to the next image: the order does not depend on which are in the batch."""


def k_means(
    points: npt.NDArray[np.float32], n_clusters: int, uniform: Iterator[float]
) -> npt.NDArray[np.int64]:
    """The clusters of points by k-means (Lloyd 1982), from the first centers of k-means++.

    Args:
        points: (n_points, n_dimensions) float32, C-contiguous, at least one.
        n_clusters: How many clusters there are at the most: points that are alike are in one.
        uniform: Numbers from 0 to below 1, for the first centers.

    Returns:
        The cluster (n_points,) of each point, from 0.
    """
    centers = points[[int(next(uniform) * len(points))]]
    squares = squared_distances(points, centers[0])
    while len(centers) < n_clusters:
        row = drawn_row(squares, next(uniform))
        if row is None:
            break
        centers = np.concatenate([centers, points[row : row + 1]])
        squares = np.minimum(squares, squared_distances(points, points[row]))
    clusters = _nearest_centers(points, centers)
    for _ in range(_MOST_ROUNDS):
        sums = np.zeros(centers.shape)
        np.add.at(sums, clusters, points)
        counts = np.bincount(clusters, minlength=len(centers))
        # A cluster that has lost all its points stays where it is.
        is_filled = counts > 0
        centers[is_filled] = sums[is_filled] / counts[is_filled, None]
        before, clusters = clusters, _nearest_centers(points, centers)
        if (before == clusters).all():
            break
    return clusters


def _nearest_centers(
    points: npt.NDArray[np.float32], centers: npt.NDArray[np.float32]
) -> npt.NDArray[np.int64]:
    """The center (n_points,) that is nearest to each point, the first of several."""
    nearest, lowest = np.zeros(len(points), np.int64), np.full(len(points), np.inf)
    for number, center in enumerate(centers):
        squares = squared_distances(points, center)
        is_nearer = squares < lowest
        nearest[is_nearer], lowest[is_nearer] = number, squares[is_nearer]
    return nearest


def _typical_rows(
    points: npt.NDArray[np.float32], clusters: npt.NDArray[np.int64], n_clusters: int
) -> Iterator[int]:
    """Rows of points, those of each cluster in turn.

    Args:
        points: (n_points, n_dimensions) float32.
        clusters: The cluster of each point and, behind them, of those that are known.
        n_clusters: The number of clusters.
    """
    sizes = np.bincount(clusters, minlength=n_clusters)
    known_counts = np.bincount(clusters[len(points) :], minlength=n_clusters)
    in_turn = np.lexsort((-sizes, known_counts))
    of_points = clusters[: len(points)]
    for has_size in (sizes > SMALL_CLUSTER, sizes <= SMALL_CLUSTER):
        turns = [
            _most_typical(points, np.flatnonzero(of_points == cluster))
            for cluster in in_turn[has_size[in_turn]]
        ]
        while turns:
            for turn in tuple(turns):
                row = next(turn, None)
                if row is None:
                    turns.remove(turn)
                else:
                    yield row


def _most_typical(points: npt.NDArray[np.float32], rows: npt.NDArray[np.int64]) -> Iterator[int]:
    """The rows of a cluster, each time the most typical of those that are left."""
    while len(rows) > 1:
        neighbors = max(1, min(MOST_NEIGHBORS, len(rows) // 2))
        of_cluster = points[rows]
        place = min(
            range(len(rows)), key=lambda place: _mean_distance(of_cluster, place, neighbors)
        )
        yield int(rows[place])
        rows = np.delete(rows, place)
    yield from rows.tolist()


def _mean_distance(points: npt.NDArray[np.float32], place: int, neighbors: int) -> float:
    """The mean distance of a point from its nearest others."""
    squares = squared_distances(points, points[place])
    squares[place] = np.inf
    return float(np.sqrt(np.sort(squares)[:neighbors]).mean())
