"""Comparison of acquisition functions on the same images, with intervals by a paired bootstrap."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from dagster_active_learning.evaluation.finding_errors import Floats, Ranked, checked_weights

BLOCK = 2**14
"""Weights of resamples that are worked on together: they stay in the processor's cache, which is
ten times as fast as 32 MiB."""


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """An acquisition function beside the one that it is compared with.

    Attributes:
        value: Its number.
        low: Lower end of the interval of 95 %.
        high: Upper end of it.
        difference: Its number minus that of the other one.
        difference_low: Lower end of the interval of the difference, from the same resamples.
        difference_high: Upper end of it.
    """

    value: float
    low: float
    high: float
    difference: float
    difference_low: float
    difference_high: float

    @property
    def is_better(self) -> bool:
        """True where the interval of the difference is above 0."""
        return self.difference_low > 0

    @property
    def is_worse(self) -> bool:
        """True where the interval of the difference is below 0."""
        return self.difference_high < 0


def compare_rules(
    errors: npt.ArrayLike,
    uncertainties: Mapping[str, npt.ArrayLike],
    *,
    against: str = "margin",
    weights: npt.ArrayLike | None = None,
    resamples: int = 1000,
    seed: int = 0,
) -> dict[str, Comparison]:
    """Compare the areas under the ROC curve with which functions find errors.

    Images are drawn again with replacement, the same ones for every function (a paired bootstrap,
    intervals by percentiles): a difference is known far better than either area.

    Args:
        errors: (n_images,) true or 1 where the model is wrong.
        uncertainties: (n_images,) highest first, by the name of the function.
        against: The function that the others are compared with.
        weights: (n_images,) 1/probability of the label; all 1 without them.
        resamples: How often images are drawn again.
        seed: Makes the draws.

    Returns:
        The comparisons by name, in the order of ``uncertainties``.

    Raises:
        ValueError: If ``against`` is none of the functions, or there are images of one kind only.

    Example:
        >>> errors = [1, 1, 1, 0, 0, 0, 0, 0] * 10
        >>> uncertainties = {"margin": errors, "entropy": [1 - error for error in errors]}
        >>> found = compare_rules(errors, uncertainties)
        >>> found["margin"].value, found["entropy"].difference
        (1.0, -1.0)
    """
    wrong = np.asarray(errors, np.float64)
    kinds = (int(wrong.sum()), int((1 - wrong).sum()))
    if min(kinds) < 1:
        raise ValueError(
            f"errors has {kinds[0]} images with an error and {kinds[1]} without: expected some of "
            "each"
        )
    return compare(
        {name: area_under_roc(Ranked(values), wrong) for name, values in uncertainties.items()},
        wrong.size,
        against=against,
        weights=weights,
        resamples=resamples,
        seed=seed,
    )


def compare_errors_per_box(
    error_counts: npt.ArrayLike,
    box_counts: npt.ArrayLike,
    uncertainties: Mapping[str, npt.ArrayLike],
    first: float,
    *,
    against: str,
    weights: npt.ArrayLike | None = None,
    resamples: int = 1000,
    seed: int = 0,
) -> dict[str, Comparison]:
    """Compare by the errors of a detector for each box that it predicts, in the first images.

    Args:
        error_counts: (n_images,) false positives and false negatives.
        box_counts: (n_images,) predicted boxes.
        uncertainties: (n_images,) highest first, by the name of the function.
        first: The number of images, in units of the weights.
        against: The function that the others are compared with.
        weights: (n_images,) 1/probability of the label; all 1 without them.
        resamples: How often images are drawn again.
        seed: Makes the draws.

    Raises:
        ValueError: If ``against`` is none of the functions.
    """
    found, boxes = (np.asarray(counts, np.float64) for counts in (error_counts, box_counts))
    return compare(
        {name: _rate(Ranked(each), found, boxes, first) for name, each in uncertainties.items()},
        found.size,
        against=against,
        weights=weights,
        resamples=resamples,
        seed=seed,
    )


Statistic = Callable[[Floats], Floats]
"""Takes weights (n_sets, n_images), returns one number for each set."""


def compare(
    statistics: Mapping[str, Statistic],
    n_images: int,
    *,
    against: str,
    weights: npt.ArrayLike | None,
    resamples: int,
    seed: int,
) -> dict[str, Comparison]:
    """Compare by a statistic of weights; see ``compare_rules``.

    Raises:
        ValueError: If ``against`` is none of the statistics.
    """
    if against not in statistics:
        raise ValueError(f"against is {against!r}, expected one of {', '.join(statistics)}")
    weight = checked_weights(weights, n_images)
    values = {name: float(of(weight[None])[0]) for name, of in statistics.items()}
    drawn: dict[str, list[Floats]] = {name: [] for name in statistics}
    random = np.random.default_rng(seed)
    step = max(1, BLOCK // n_images)
    for start in range(0, resamples, step):
        count = min(step, resamples - start)
        picked = random.integers(n_images, size=(count, n_images))
        picked += np.arange(count)[:, None] * n_images
        times = np.bincount(picked.ravel(), minlength=count * n_images).reshape(count, n_images)
        resampled = times * weight
        for name, of in statistics.items():
            drawn[name].append(of(resampled))
    of_all = {name: np.concatenate(parts) for name, parts in drawn.items()}
    compared: dict[str, Comparison] = {}
    for name, value in values.items():
        low, high = _interval(of_all[name])
        difference_low, difference_high = _interval(of_all[name] - of_all[against])
        compared[name] = Comparison(
            value=value,
            low=low,
            high=high,
            difference=value - values[against],
            difference_low=difference_low,
            difference_high=difference_high,
        )
    return compared


def conclusion(
    comparisons: Mapping[str, Comparison], *, against: str = "margin", image_count: int
) -> str:
    """What follows from comparisons, in one sentence.

    A function is said to be better or worse only where the interval of the difference excludes 0.

    Args:
        comparisons: As ``compare_rules`` returns them.
        against: The function that the others were compared with.
        image_count: The number of labeled images, for the sentence.

    Example:
        >>> errors = [1, 1, 1, 0, 0, 0, 0, 0] * 10
        >>> uncertainties = {"margin": errors, "entropy": [1 - error for error in errors]}
        >>> print(conclusion(compare_rules(errors, uncertainties), image_count=80))
        margin finds errors better than entropy (-1.0000, 95 % interval ...); 80 labels
    """
    others = {name: each for name, each in comparisons.items() if name != against}
    better = [(each.difference, name) for name, each in others.items() if each.is_better]
    worse = [(each.difference, name) for name, each in others.items() if each.is_worse]
    of = f"{image_count:,} labels"
    if not others:
        return f"there is nothing to compare with {against} ({of})"
    if better:
        _, name = max(better)
        difference = comparison_in_words(others[name])
        return f"{name} finds errors better than {against} ({difference}; {of})"
    if worse:
        named = [f"{name} ({comparison_in_words(others[name])})" for _, name in sorted(worse)]
        return f"{against} finds errors better than {' and '.join(named)}; {of}"
    return f"no difference found, keep {against} ({of})"


def comparison_in_words(comparison: Comparison) -> str:
    """The difference and its interval."""
    return (
        f"{comparison.difference:+.4f}, 95 % interval {comparison.difference_low:+.4f} to "
        f"{comparison.difference_high:+.4f}"
    )


def area_under_roc(ranked: Ranked, errors: Floats) -> Statistic:
    """The area with which an order finds errors (n_images,), of weights."""
    return lambda weights: ranked.auroc(errors, weights)


def _rate(ranked: Ranked, found: Floats, boxes: Floats, first: float) -> Statistic:
    def rate(weights: Floats) -> Floats:
        errors = ranked.among_first(found, weights, first)
        of_boxes = ranked.among_first(boxes, weights, first)
        return np.divide(errors, of_boxes, out=np.full_like(errors, np.nan), where=of_boxes > 0)

    return rate


def _interval(values: Floats) -> tuple[float, float]:
    """The middle 95 %, of resamples that have the number; NaN where most have none."""
    finite = values[np.isfinite(values)]
    if finite.size < values.size / 2:
        return float("nan"), float("nan")
    low, high = np.percentile(finite, [2.5, 97.5])
    return float(low), float(high)
