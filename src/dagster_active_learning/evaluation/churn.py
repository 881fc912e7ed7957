"""Churn: what two models, or two versions of one, say differently about the same images."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, kw_only=True)
class Churn:
    """The changes from one prediction set to another, in numbers of images.

    Attributes:
        image_count: Images that both have predictions of.
        changed: (n_images,) true where the predicted class is another one.
        pairs: The number of images by (class before, class after), the most frequent first.
        labeled_count: Images whose label is known.
        new_errors: Of them, those that were right and are wrong.
        fixed: Those that were wrong and are right.
        wrong_changed: Those that are wrong, of the changed ones.
        labeled_changed: Changed ones among the labeled.
        wrong_unchanged: Those that are wrong, of the others.
    """

    image_count: int
    changed: npt.NDArray[np.bool_]
    pairs: dict[tuple[int, int], int]
    labeled_count: int
    new_errors: int
    fixed: int
    wrong_changed: int
    labeled_changed: int
    wrong_unchanged: int

    @property
    def changed_count(self) -> int:
        """Images whose class changed."""
        return int(self.changed.sum())

    @property
    def changed_share(self) -> float:
        """Share of images whose class changed, 0 without images."""
        return self.changed_count / self.image_count if self.image_count else 0.0


def model_churn(
    before: npt.ArrayLike, after: npt.ArrayLike, labels: npt.ArrayLike | None = None
) -> Churn:
    """Compare the classes that two prediction sets give the same images.

    Args:
        before: (n_images,) the index of the class that each image had.
        after: (n_images,) the index of the class that it has.
        labels: (n_images,) the index of its true class, -1 where it is not known.

    Raises:
        ValueError: If shapes differ.

    Example:
        >>> churn = model_churn([0, 0, 1, 1], [0, 1, 1, 0], labels=[0, 1, 1, 1])
        >>> churn.pairs, churn.new_errors, churn.fixed
        ({(0, 1): 1, (1, 0): 1}, 1, 1)
    """
    first, second = np.asarray(before, np.int64), np.asarray(after, np.int64)
    truth = np.full(first.shape, -1) if labels is None else np.asarray(labels, np.int64)
    if first.ndim != 1 or not first.shape == second.shape == truth.shape:
        raise ValueError(
            f"before, after and labels have the shapes {first.shape}, {second.shape} and "
            f"{truth.shape}: expected (n_images,) of all"
        )
    changed = first != second
    pairs, counts = np.unique(
        np.stack([first[changed], second[changed]], axis=1), axis=0, return_counts=True
    )
    order = np.argsort(-counts, kind="stable")
    known = truth >= 0
    was_wrong, is_wrong = known & (first != truth), known & (second != truth)
    return Churn(
        image_count=first.size,
        changed=changed,
        pairs={(int(pairs[at, 0]), int(pairs[at, 1])): int(counts[at]) for at in order},
        labeled_count=int(known.sum()),
        new_errors=int((known & ~was_wrong & is_wrong).sum()),
        fixed=int((was_wrong & ~is_wrong).sum()),
        wrong_changed=int((is_wrong & changed).sum()),
        labeled_changed=int((known & changed).sum()),
        wrong_unchanged=int((is_wrong & ~changed).sum()),
    )
