"""Calibration: what a model's class probabilities are worth, measured on labels.

A model that says 0.8 should be right in 80 % of such cases. That is a diagnosis: a temperature
changes the queue of margin by little, with two classes by nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from dagster_active_learning.evaluation.finding_errors import Floats, checked_weights

BINS = 15
"""Bins of equal width of a reliability diagram, as Guo et al. 2017 take them."""

LEAST_PROBABILITY = 1e-12
"""In place of smaller ones, whose logarithm may be infinite."""


@dataclass(frozen=True)
class ReliabilityBins:
    """A reliability diagram: labels in bins of the confidence of their predictions.

    Attributes:
        edges: (n_bins + 1,) of the bins, from 0 to 1; a confidence on an edge is in the lower bin.
        weights: (n_bins,) the weight of each bin, of 1 together.
        confidence: (n_bins,) the mean confidence in it, NaN where it is empty.
        accuracy: (n_bins,) the share of predictions in it that are right, NaN where it is empty.
    """

    edges: Floats
    weights: Floats
    confidence: Floats
    accuracy: Floats

    @property
    def expected_error(self) -> float:
        """The mean distance of confidence and accuracy."""
        return float(np.nansum(self.weights * np.abs(self.accuracy - self.confidence)))


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """The calibration of a model in numbers.

    Attributes:
        expected_error: The expected calibration error, 0 is perfect.
        class_wise_error: The mean over the classes of theirs.
        brier: The Brier score, 0 to 2.
        temperature: The temperature that fits best; above 1 the model is too sure.
        expected_error_at_temperature: The expected calibration error after it.
        bins: The reliability diagram.
        bins_at_temperature: The same after the temperature.
    """

    expected_error: float
    class_wise_error: float
    brier: float
    temperature: float
    expected_error_at_temperature: float
    bins: ReliabilityBins
    bins_at_temperature: ReliabilityBins


def measure_calibration(
    class_probs: npt.ArrayLike, labels: npt.ArrayLike, weights: npt.ArrayLike | None = None
) -> Calibration:
    """Measure calibration on labeled images, and how much one temperature improves it.

    The temperature is measured on the labels that it was fitted to: of a hundred labels or more
    that matters little, as it is one number.

    Args:
        class_probs: (n_images, n_classes) probabilities.
        labels: (n_images,) the index of each image's class.
        weights: (n_images,) 1/probability of the label; all 1 without them.

    Raises:
        ValueError: If shapes differ or a label is no index of a class.

    Example:
        >>> measure_calibration([[0.75, 0.25], [0.75, 0.25]], [0, 1]).brier
        0.625
    """
    temperature = fit_temperature(class_probs, labels, weights)
    tempered = with_temperature(class_probs, temperature)
    bins = reliability_bins(class_probs, labels, weights)
    after = reliability_bins(tempered, labels, weights)
    return Calibration(
        expected_error=bins.expected_error,
        class_wise_error=class_wise_calibration_error(class_probs, labels, weights),
        brier=brier_score(class_probs, labels, weights),
        temperature=temperature,
        expected_error_at_temperature=after.expected_error,
        bins=bins,
        bins_at_temperature=after,
    )


def reliability_bins(
    class_probs: npt.ArrayLike,
    labels: npt.ArrayLike,
    weights: npt.ArrayLike | None = None,
    *,
    n_bins: int = BINS,
) -> ReliabilityBins:
    """The reliability diagram of the predicted class.

    Args:
        class_probs: (n_images, n_classes) probabilities.
        labels: (n_images,) the index of each image's class.
        weights: (n_images,) 1/probability of the label; all 1 without them.
        n_bins: Bins of equal width.

    Raises:
        ValueError: As ``measure_calibration``.

    Example:
        >>> bins = reliability_bins([[0.7, 0.3], [0.7, 0.3]], [0, 1], n_bins=2)
        >>> bins.accuracy.tolist(), bins.confidence.tolist()
        ([nan, 0.5], [nan, 0.7])
    """
    probs, classes, weight = _checked(class_probs, labels, weights)
    confidence = probs.max(axis=1)
    is_right = probs.argmax(axis=1) == classes
    return _bins(confidence, is_right, weight, n_bins)


def expected_calibration_error(
    class_probs: npt.ArrayLike,
    labels: npt.ArrayLike,
    weights: npt.ArrayLike | None = None,
    *,
    n_bins: int = BINS,
) -> float:
    """Mean distance of confidence and accuracy over bins of confidence (Guo et al. 2017, eq. 3).

    Args:
        class_probs: (n_images, n_classes) probabilities.
        labels: (n_images,) the index of each image's class.
        weights: (n_images,) 1/probability of the label; all 1 without them.
        n_bins: Bins of equal width.

    Raises:
        ValueError: As ``measure_calibration``.

    Example:
        >>> expected_calibration_error([[0.75, 0.25], [0.75, 0.25]], [0, 1])
        0.25
    """
    return reliability_bins(class_probs, labels, weights, n_bins=n_bins).expected_error


def class_wise_calibration_error(
    class_probs: npt.ArrayLike,
    labels: npt.ArrayLike,
    weights: npt.ArrayLike | None = None,
    *,
    n_bins: int = BINS,
) -> float:
    """Mean over the classes of the calibration error of their probabilities (Kull et al. 2019).

    Args:
        class_probs: (n_images, n_classes) probabilities.
        labels: (n_images,) the index of each image's class.
        weights: (n_images,) 1/probability of the label; all 1 without them.
        n_bins: Bins of equal width.

    Raises:
        ValueError: As ``measure_calibration``.

    Example:
        >>> class_wise_calibration_error([[0.75, 0.25], [0.75, 0.25]], [0, 1])
        0.25
    """
    probs, classes, weight = _checked(class_probs, labels, weights)
    errors = [
        _bins(of_class, classes == index, weight, n_bins).expected_error
        for index, of_class in enumerate(probs.T)
    ]
    return float(np.mean(errors))


def brier_score(
    class_probs: npt.ArrayLike, labels: npt.ArrayLike, weights: npt.ArrayLike | None = None
) -> float:
    """Mean of the squared distance Σ (p - y)² of probabilities and label, 0 to 2 (Brier 1950).

    Args:
        class_probs: (n_images, n_classes) probabilities.
        labels: (n_images,) the index of each image's class.
        weights: (n_images,) 1/probability of the label; all 1 without them.

    Raises:
        ValueError: As ``measure_calibration``.

    Example:
        >>> brier_score([[1.0, 0.0], [0.5, 0.5]], [0, 1])
        0.25
    """
    probs, classes, weight = _checked(class_probs, labels, weights)
    of_label = probs[np.arange(classes.size), classes]
    squared = (probs**2).sum(axis=1) - of_label**2 + (of_label - 1) ** 2
    return float(np.average(squared, weights=weight))


def fit_temperature(
    class_probs: npt.ArrayLike, labels: npt.ArrayLike, weights: npt.ArrayLike | None = None
) -> float:
    """The temperature T under which softmax(log p / T) makes the labels most likely.

    The log-likelihood is concave in 1/T: its derivative falls to 0, which is found by halving.

    Args:
        class_probs: (n_images, n_classes) probabilities; those below 1e-12 count as that.
        labels: (n_images,) the index of each image's class.
        weights: (n_images,) 1/probability of the label; all 1 without them.

    Returns:
        The temperature, 0.01 to 100: at an end where the labels would have it beyond.

    Raises:
        ValueError: As ``measure_calibration``.

    Example:
        >>> class_probs = [[0.9, 0.1]] * 4   # right in three of four: 0.9 is too sure
        >>> round(fit_temperature(class_probs, [0, 0, 0, 1]), 2)
        2.0
    """
    probs, classes, weight = _checked(class_probs, labels, weights)
    logits = np.log(np.maximum(probs, LEAST_PROBABILITY))
    of_label = logits[np.arange(classes.size), classes]

    def slope(inverse: float) -> float:
        expected = (_softmax(logits * inverse) * logits).sum(axis=1)
        return float(((of_label - expected) * weight).sum())

    low, high = np.log(0.01), np.log(100)
    for _ in range(60):
        middle = (low + high) / 2
        if slope(float(np.exp(middle))) >= 0:  # 0 also where the softmax has no more digits.
            low = middle
        else:
            high = middle
    return float(np.exp(-(low + high) / 2))


def with_temperature(class_probs: npt.ArrayLike, temperature: float) -> Floats:
    """The class probabilities softmax(log p / T), (n_images, n_classes).

    Args:
        class_probs: (n_images, n_classes) probabilities; those below 1e-12 count as that.
        temperature: T, above 0; 1 changes nothing.

    Raises:
        ValueError: If the temperature is not above 0.

    Example:
        >>> with_temperature([[0.9, 0.1]], 2).round(2).tolist()
        [[0.75, 0.25]]
    """
    if not temperature > 0:
        raise ValueError(f"temperature is {temperature!r}, expected a number above 0")
    probs = np.asarray(class_probs, np.float64)
    return _softmax(np.log(np.maximum(probs, LEAST_PROBABILITY)) / temperature)


def _softmax(logits: Floats) -> Floats:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def _bins(
    confidence: Floats, is_right: npt.NDArray[np.bool_], weight: Floats, n_bins: int
) -> ReliabilityBins:
    edges = np.linspace(0, 1, n_bins + 1)
    # The tolerance of probabilities carries some over 1 or below 0.
    place = np.clip(np.searchsorted(edges, confidence, side="left") - 1, 0, n_bins - 1)
    sums = [
        np.bincount(place, weights=values, minlength=n_bins)
        for values in (weight, weight * confidence, weight * is_right)
    ]
    filled = np.where(sums[0] > 0, sums[0], np.nan)
    return ReliabilityBins(edges, sums[0] / weight.sum(), sums[1] / filled, sums[2] / filled)


def _checked(
    class_probs: npt.ArrayLike, labels: npt.ArrayLike, weights: npt.ArrayLike | None
) -> tuple[Floats, npt.NDArray[np.int64], Floats]:
    probs = np.asarray(class_probs, np.float64)
    classes = np.asarray(labels)
    if probs.ndim != 2 or classes.shape != probs.shape[:1] or not classes.size:
        raise ValueError(
            f"class_probs has the shape {probs.shape} and labels {classes.shape}: expected "
            "(n_images, n_classes) and (n_images,), at least one"
        )
    indices = classes.astype(np.int64)
    if (indices != classes).any() or not ((indices >= 0) & (indices < probs.shape[1])).all():
        raise ValueError(f"labels has values that are no index of {probs.shape[1]} classes")
    return probs, indices, checked_weights(weights, classes.size)
