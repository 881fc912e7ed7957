"""Embeddings on a plane: their first two principal components."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

_OVERSAMPLING = 8
_ITERATIONS = 12


def principal_plane(
    vectors: npt.NDArray[np.float32],
) -> tuple[npt.NDArray[np.float64], tuple[float, float]]:
    """The places of vectors along the two directions in which they vary most.

    By the randomized subspace iteration of Halko, Martinsson and Tropp (2011, algorithm 4.4), which
    reads the matrix 25 times: 10,000 vectors of 2,048 numbers take a second, their covariance and
    its eigenvectors take ten. The same vectors give the same places.

    Args:
        vectors: (n_images, n_dimensions).

    Returns:
        The places (n_images, 2), and the share of the variance along each direction.
    """
    # Squares of numbers near the limit of float32 are beyond it.
    largest = max(float(vectors.max()), -float(vectors.min())) or 1.0
    centered = vectors / np.float32(largest)
    centered -= centered.mean(axis=0, dtype=np.float64).astype(np.float32)
    total = float(np.einsum("ij,ij->", centered, centered, dtype=np.float64))
    width = min(2 + _OVERSAMPLING, *centered.shape)
    start = np.random.default_rng(0).standard_normal((centered.shape[1], width))
    basis = np.linalg.qr(centered @ start.astype(np.float32))[0]
    for _ in range(_ITERATIONS):
        basis = np.linalg.qr(centered.T @ basis)[0]
        basis = np.linalg.qr(centered @ basis)[0]
    left, lengths, right = np.linalg.svd(basis.T @ centered, full_matrices=False)
    places = np.zeros((len(vectors), 2))
    shares = [0.0, 0.0]
    for axis in range(min(2, width)):
        # A direction has no sign: the largest part of it is made positive.
        sign = np.sign(right[axis][np.argmax(np.abs(right[axis]))]) or 1.0
        places[:, axis] = sign * (basis @ left[:, axis]) * (float(lengths[axis]) * largest)
        shares[axis] = float(lengths[axis] ** 2 / total) if total else 0.0
    return places, (shares[0], shares[1])
