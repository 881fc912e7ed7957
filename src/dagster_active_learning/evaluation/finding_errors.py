"""Numbers that say how well an order of images puts those with an error first.

All of them take uncertainties, 1 the most uncertain, and say what a person gets who looks at images
in that order. Images of equal uncertainty have no order: each number is its mean over all orders
that they could have. Weights are 1/probability where labels were not drawn with the same one.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


class Ranked:
    """Images in groups of equal uncertainty, the most uncertain first.

    The statistics of a group are sums of weights. They are computed for many sets of weights at a
    time, as a bootstrap needs them.

    Args:
        uncertainty: (n_images,) finite.

    Raises:
        ValueError: If an uncertainty is not finite, or there is none.
    """

    def __init__(self, uncertainty: npt.ArrayLike) -> None:
        values = np.asarray(uncertainty, np.float64)
        if values.ndim != 1 or not values.size or not np.isfinite(values).all():
            raise ValueError(
                f"uncertainty has the shape {values.shape} and "
                f"{int((~np.isfinite(values)).sum())} values that are not finite: expected "
                "(n_images,) finite ones, at least one; leave out images without a score"
            )
        self.order = np.argsort(-values, kind="stable")
        ordered = values[self.order]
        self.starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
        self.n_images = values.size

    def sums(self, values: npt.NDArray[np.generic]) -> Floats:
        """The sums of each group, (…, n_groups) of (…, n_images)."""
        ordered = np.take(np.asarray(values, np.float64), self.order, axis=-1)
        return self._of_groups(ordered)

    def _of_groups(self, ordered: Floats) -> Floats:
        if self.starts.size == self.n_images:
            return ordered
        return np.add.reduceat(ordered, self.starts, axis=-1)

    def auroc(self, errors: Floats, weights: Floats) -> Floats:
        """(n_sets,) of (n_images,) and (n_sets, n_images); NaN where a set has one kind only."""
        # The weights are put in order once: that is most of the time of a bootstrap.
        ordered = np.take(weights, self.order, axis=-1)
        of_errors = ordered * errors[self.order]
        positive, negative = self._of_groups(of_errors), self._of_groups(ordered - of_errors)
        before = np.cumsum(negative, axis=-1)
        total = before[..., -1]
        wins = np.einsum("...i,...i->...", positive, total[..., None] - before + negative / 2)
        pairs = positive.sum(axis=-1) * total
        return np.divide(wins, pairs, out=np.full_like(wins, np.nan), where=pairs > 0)

    def among_first(self, values: Floats, weights: Floats, first: float) -> Floats:
        """The weighted sums of values among the first images, (n_sets,)."""
        sizes = self.sums(weights)
        before = np.cumsum(sizes, axis=-1) - sizes
        share = np.divide(first - before, sizes, out=np.zeros_like(sizes), where=sizes > 0)
        return (self.sums(values * weights) * np.clip(share, 0, 1)).sum(axis=-1)


def auroc(
    errors: npt.ArrayLike, uncertainty: npt.ArrayLike, weights: npt.ArrayLike | None = None
) -> float:
    """Probability that an image with an error is more uncertain than one without.

    A tie counts half. It is the area under the receiver operating characteristic.

    Args:
        errors: (n_images,) true or 1 where the model is wrong.
        uncertainty: (n_images,) highest first.
        weights: (n_images,) not negative; all 1 without them.

    Returns:
        0 to 1, .5 for an order that says nothing; NaN where all images or none have an error.

    Raises:
        ValueError: If shapes differ or a value cannot be what it is said to be.

    Example:
        >>> auroc([1, 0, 1, 0], [0.9, 0.8, 0.7, 0.1])
        0.75
    """
    ranked, wrong, weight = _checked(errors, uncertainty, weights)
    return float(ranked.auroc(wrong, weight[None])[0])


def average_precision(
    errors: npt.ArrayLike, uncertainty: npt.ArrayLike, weights: npt.ArrayLike | None = None
) -> float:
    """Mean of the share of errors among the first images, at each error that is found.

    Images of equal uncertainty come together, as one step: Σ (recall step) · precision behind it.

    Args:
        errors: (n_images,) true or 1 where the model is wrong.
        uncertainty: (n_images,) highest first.
        weights: (n_images,) not negative; all 1 without them.

    Returns:
        0 to 1, the error rate for an order that says nothing; NaN without errors.

    Raises:
        ValueError: As ``auroc``.

    Example:
        >>> average_precision([1, 0, 0, 1], [0.9, 0.8, 0.7, 0.1])
        0.75
    """
    ranked, wrong, weight = _checked(errors, uncertainty, weights)
    positive, sizes = ranked.sums(wrong * weight), ranked.sums(weight)
    seen = np.cumsum(sizes)
    precision = np.divide(np.cumsum(positive), seen, out=np.zeros_like(seen), where=seen > 0)
    found = positive.sum()
    return float((positive * precision).sum() / found) if found > 0 else float("nan")


def errors_found_curve(
    errors: npt.ArrayLike, uncertainty: npt.ArrayLike, weights: npt.ArrayLike | None = None
) -> tuple[Floats, Floats]:
    """Share of all errors that is found among the first images, for each number of them.

    Args:
        errors: (n_images,) true or 1 where the model is wrong, at least once.
        uncertainty: (n_images,) highest first.
        weights: (n_images,) not negative; all 1 without them.

    Returns:
        The share of images that is looked at (n_groups + 1,), from 0 to 1 with a point behind
        those of each uncertainty; and the share of errors (n_groups + 1,), NaN without errors.

    Raises:
        ValueError: As ``auroc``.

    Example:
        >>> looked_at, found = errors_found_curve([1, 0, 1, 0], [0.9, 0.8, 0.7, 0.1])
        >>> looked_at.tolist(), found.tolist()
        ([0.0, 0.25, 0.5, 0.75, 1.0], [0.0, 0.5, 0.5, 1.0, 1.0])
    """
    ranked, wrong, weight = _checked(errors, uncertainty, weights)
    looked_at, found = (
        np.r_[0.0, np.cumsum(ranked.sums(values))] for values in (weight, wrong * weight)
    )
    return looked_at / looked_at[-1], found / (found[-1] or np.nan)


def risk_coverage_curve(
    errors: npt.ArrayLike, uncertainty: npt.ArrayLike, weights: npt.ArrayLike | None = None
) -> tuple[Floats, Floats]:
    """Error rate among the most certain images, for each number of them.

    Args:
        errors: (n_images,) true or 1 where the model is wrong.
        uncertainty: (n_images,).
        weights: (n_images,) above 0; all 1 without them. Images of equal uncertainty share theirs.

    Returns:
        Coverage (n_images,), the share of images that is kept, up to 1; and the risk (n_images,),
        their error rate.

    Raises:
        ValueError: As ``auroc``.

    Example:
        >>> coverage, risk = risk_coverage_curve([1, 0, 0, 0], [0.9, 0.8, 0.7, 0.1])
        >>> coverage.tolist(), risk.tolist()
        ([0.25, 0.5, 0.75, 1.0], [0.0, 0.0, 0.0, 0.25])
    """
    ranked, wrong, weight = _checked(errors, uncertainty, weights)
    counts = np.diff(np.r_[ranked.starts, ranked.n_images])
    weight_each = np.repeat(ranked.sums(weight) / counts, counts)[::-1]
    error_each = np.repeat(ranked.sums(wrong * weight) / counts, counts)[::-1]
    kept = np.cumsum(weight_each)
    risk = np.divide(np.cumsum(error_each), kept, out=np.zeros_like(kept), where=kept > 0)
    return kept / kept[-1], risk


def risk_coverage_area(
    errors: npt.ArrayLike, uncertainty: npt.ArrayLike, weights: npt.ArrayLike | None = None
) -> float:
    """Mean over all coverages of the error rate among the images that are kept: low is good.

    The area under the risk-coverage curve of Geifman, Uziel and El-Yaniv 2019.

    Args:
        errors: (n_images,) true or 1 where the model is wrong.
        uncertainty: (n_images,) the most certain images are kept first.
        weights: (n_images,) above 0; all 1 without them.

    Raises:
        ValueError: As ``auroc``.

    Example:
        >>> risk_coverage_area([1, 0, 0, 0], [0.9, 0.8, 0.7, 0.1])
        0.0625
    """
    coverage, risk = risk_coverage_curve(errors, uncertainty, weights)
    return float((risk * np.diff(coverage, prepend=0.0)).sum())


def error_rate_among_first(
    errors: npt.ArrayLike,
    uncertainty: npt.ArrayLike,
    first: float,
    weights: npt.ArrayLike | None = None,
) -> float:
    """Share of images with an error among the first, as a person would see them.

    Args:
        errors: (n_images,) true or 1 where the model is wrong.
        uncertainty: (n_images,) highest first.
        first: The number of images, in units of the weights: without them labeled images, with
            1/probability images of the pool. At most all.
        weights: (n_images,) not negative; all 1 without them.

    Raises:
        ValueError: As ``auroc``, or if ``first`` is not above 0.

    Example:
        >>> error_rate_among_first([1, 0, 1, 0], [0.9, 0.8, 0.7, 0.1], first=2)
        0.5
    """
    ranked, wrong, weight = _checked(errors, uncertainty, weights)
    number = _first(first, weight)
    return float(ranked.among_first(wrong, weight[None], number)[0] / number)


def lift(
    errors: npt.ArrayLike,
    uncertainty: npt.ArrayLike,
    first: float,
    weights: npt.ArrayLike | None = None,
) -> float:
    """Error rate among the first images, as a multiple of that of all; NaN without errors.

    Args:
        errors: (n_images,) true or 1 where the model is wrong.
        uncertainty: (n_images,) highest first.
        first: The number of images, as ``error_rate_among_first`` takes it.
        weights: (n_images,) not negative; all 1 without them.

    Raises:
        ValueError: As ``error_rate_among_first``.

    Example:
        >>> lift([1, 0, 0, 0], [0.9, 0.8, 0.7, 0.1], first=2)
        2.0
    """
    _, wrong, weight = _checked(errors, uncertainty, weights)
    overall = (wrong * weight).sum() / weight.sum()
    if not overall:
        return float("nan")
    return error_rate_among_first(errors, uncertainty, first, weights) / float(overall)


def errors_per_box(
    error_counts: npt.ArrayLike,
    box_counts: npt.ArrayLike,
    uncertainty: npt.ArrayLike,
    first: float,
    weights: npt.ArrayLike | None = None,
) -> float:
    """Errors of a detector for each box that it predicts, in the first images.

    Who pays for boxes, not for images, wants this high: a sum over boxes picks crowded images.

    Args:
        error_counts: (n_images,) false positives and false negatives.
        box_counts: (n_images,) predicted boxes.
        uncertainty: (n_images,) highest first.
        first: The number of images, as ``error_rate_among_first`` takes it.
        weights: (n_images,) not negative; all 1 without them.

    Returns:
        0 or more; infinite where the first images have errors and no box, NaN where neither.

    Raises:
        ValueError: As ``error_rate_among_first``.

    Example:
        >>> errors_per_box([3, 0, 1], [4, 2, 1], [0.9, 0.8, 0.1], first=2)
        0.5
    """
    ranked, _, weight = _checked(np.zeros(np.shape(error_counts)), uncertainty, weights)
    number = _first(first, weight)
    found, boxes = (
        float(ranked.among_first(_column(name, counts, ranked.n_images), weight[None], number)[0])
        for name, counts in (("error_counts", error_counts), ("box_counts", box_counts))
    )
    if not boxes:
        return float("inf") if found else float("nan")
    return found / boxes


def _first(first: float, weights: Floats) -> float:
    if not first > 0:
        raise ValueError(f"first is {first!r}, expected a number of images above 0")
    return min(float(first), float(weights.sum()))


def _checked(
    errors: npt.ArrayLike, uncertainty: npt.ArrayLike, weights: npt.ArrayLike | None
) -> tuple[Ranked, Floats, Floats]:
    ranked = Ranked(uncertainty)
    wrong = _column("errors", errors, ranked.n_images)
    if not np.isin(wrong, (0, 1)).all():
        raise ValueError("errors has other values than 0 and 1, false and true")
    return ranked, wrong, checked_weights(weights, ranked.n_images)


def checked_weights(weights: npt.ArrayLike | None, n_images: int) -> Floats:
    """The weights (n_images,), 1 each where there are none.

    Raises:
        ValueError: If they have another shape, a negative value or the sum 0.
    """
    if weights is None:
        return np.ones(n_images)
    weight = _column("weights", weights, n_images)
    if not weight.sum() > 0:
        raise ValueError("weights are all 0, expected some above it")
    return weight


def _column(name: str, values: npt.ArrayLike, n_images: int) -> Floats:
    """Values (n_images,) that are finite and not negative."""
    column = np.asarray(values, np.float64)
    if column.shape != (n_images,):
        raise ValueError(f"{name} has the shape {column.shape}, expected ({n_images},)")
    if not (np.isfinite(column) & (column >= 0)).all():
        raise ValueError(f"{name} has values that are negative or not finite")
    return column
