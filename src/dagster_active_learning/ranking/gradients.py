"""BADGE: images whose gradients are large and far apart.

Source: Ash, Zhang, Krishnamurthy, Langford, Agarwal, "Deep Batch Active Learning by Diverse,
Uncertain Gradient Lower Bounds", ICLR 2020, https://arxiv.org/abs/1906.03671.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from dagster_active_learning.ranking.kernels import gradient_norms, lower_to_gradient
from dagster_active_learning.ranking.sampling import drawn_row


class GradientOrder:
    """Images in the order in which k-means++ chooses them by their gradient embeddings.

    The gradient embedding of an image is the gradient of the last layer's loss under the predicted
    class: the outer product of its embedding and its residual, its class probabilities less 1 for
    the predicted class. It is long where the model is uncertain. The first image is the one whose
    gradient is longest; each of the others is drawn with a probability that is proportional to the
    squared distance from the nearest gradient that is chosen (Arthur and Vassilvitskii, "k-means++:
    The Advantages of Careful Seeding", SODA 2007). What is alike to what is chosen comes last, in
    the order that it has.

    Args:
        image_ids: The images, each once.
        class_probs: (n_images, n_classes) of classes that exclude each other.
        vectors: (n_images, n_dimensions) float32 embeddings, best those that the last layer takes.
        uniform: Numbers from 0 to below 1, one for each draw.
    """

    def __init__(
        self,
        image_ids: Sequence[str],
        class_probs: npt.NDArray[Any],
        vectors: npt.NDArray[np.float32],
        uniform: Iterator[float],
    ) -> None:
        self._ids = image_ids
        residuals = np.array(class_probs, np.float32)
        residuals[np.arange(len(residuals)), residuals.argmax(axis=1)] -= 1
        self._residuals = residuals
        self._vectors = np.ascontiguousarray(vectors, np.float32)
        self._norms = gradient_norms(self._residuals, self._vectors)
        # Until one is chosen the squared lengths, then the squared distances from what is chosen;
        # 0 of what was given, which is not drawn again.
        self._squares = self._norms.copy()
        self._left = np.ones(len(image_ids), np.bool_)
        self._has_chosen = False
        self._uniform = uniform
        self._last = 0

    def next_image(self) -> str | None:
        """The next image; None at the end."""
        if not self._left.any():
            return None
        if self._has_chosen:
            row = drawn_row(self._squares, next(self._uniform))
        else:
            row = int(self._squares.argmax())
        if row is None or not self._left[row]:
            row = int(self._left.argmax())
        self._left[row] = False
        self._squares[row] = 0
        self._last = row
        return self._ids[row]

    def end_turn(self) -> None:
        """Draw the next ones far from the last: it is in the batch."""
        if not self._has_chosen:
            self._squares[self._left] = np.inf
            self._has_chosen = True
        lower_to_gradient(self._residuals, self._vectors, self._norms, self._last, self._squares)
