"""Estimates of a pool's error rate from labels that were not all drawn with one probability.

The images that a queue puts first have more errors than the pool: their error rate says nothing
about it. What may be used is what was drawn at random, or with a probability that is on record.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from dagster_active_learning.evaluation.finding_errors import Floats


@dataclass(frozen=True)
class Stratum:
    """A part of a pool, of which some images or all were labeled at random.

    Attributes:
        size: Images in the part.
        errors: (n_labeled,) true or 1 where the model is wrong.
    """

    size: int
    errors: npt.ArrayLike


@dataclass(frozen=True)
class Estimate:
    """An estimate and its standard error.

    Attributes:
        value: The estimate.
        standard_error: Its standard error; NaN where a part has too few labels to tell.
    """

    value: float
    standard_error: float


def stratified_error_rate(strata: Sequence[Stratum]) -> Estimate:
    """The error rate of a pool in parts, each sampled at random by itself.

    Σ N_h/N · (error rate of the labels of part h), of variance
    Σ (N_h/N)² · (1 - n_h/N_h) · s_h²/n_h (Cochran, Sampling Techniques, 5.3). A part that is
    labeled whole, such as the images of a queue, adds no variance.

    Args:
        strata: The parts, which have no image in common.

    Raises:
        ValueError: If a part has images and no label, or more labels than images.

    Example:
        >>> round(stratified_error_rate([Stratum(2, [1, 1]), Stratum(8, [0, 1])]).value, 3)
        0.6
    """
    total = sum(stratum.size for stratum in strata)
    value = variance = 0.0
    for number, stratum in enumerate(strata):
        errors = np.asarray(stratum.errors, np.float64)
        labeled = errors.size
        if not stratum.size and not labeled:
            continue
        if not 1 <= labeled <= stratum.size:
            raise ValueError(
                f"part {number} has {stratum.size} images and {labeled} labels: expected at least "
                "one label, and no more labels than images"
            )
        share = stratum.size / total
        value += share * float(errors.mean())
        if labeled < stratum.size:
            spread = float(errors.var(ddof=1)) if labeled > 1 else math.nan
            variance += share**2 * (1 - labeled / stratum.size) * spread / labeled
    return Estimate(value, math.sqrt(variance))


def weighted_error_rate(errors: npt.ArrayLike, weights: npt.ArrayLike) -> Estimate:
    """The error rate of a pool from labels with weights, Σ w L / Σ w (Hájek 1971).

    Its standard error is that of a ratio, sqrt(Σ w² (L - rate)²) / Σ w, and on the safe side: it
    takes the labels for few of many images.

    Args:
        errors: (n_labeled,) true or 1 where the model is wrong.
        weights: (n_labeled,) 1/probability of each label.

    Raises:
        ValueError: If there is no label, or shapes differ.

    Example:
        >>> weighted_error_rate([1, 0, 0], [2, 4, 4]).value
        0.2
    """
    wrong, weight = np.asarray(errors, np.float64), np.asarray(weights, np.float64)
    if not wrong.size or wrong.shape != weight.shape:
        raise ValueError(
            f"errors has the shape {wrong.shape} and weights {weight.shape}: expected "
            "(n_labeled,), at least one"
        )
    rate = float(np.average(wrong, weights=weight))
    spread = math.sqrt(float((weight**2 * (wrong - rate) ** 2).sum())) / float(weight.sum())
    return Estimate(rate, spread if wrong.size > 1 else math.nan)


def lure_error_rate(
    errors: npt.ArrayLike, probabilities: npt.ArrayLike, pool_size: int
) -> Estimate:
    """The error rate of a pool whose images were picked one after the other without replacement.

    The levelled unbiased risk estimator of Farquhar, Gal and Rainforth 2021, eq. 7:
    R = 1/M Σ v_m L_m with v_m = 1 + (N-M)/(N-m) · (1/((N-m+1) q_m) - 1).

    Args:
        errors: (n_labeled,) true or 1 where the model is wrong, in the order of the picks.
        probabilities: (n_labeled,) q_m, the probability with which pick m took this image of those
            that were left.
        pool_size: N, the number of images before the first pick.

    Raises:
        ValueError: If there are no labels or more than images, or a probability is not in 0..1.

    Example:
        >>> lure_error_rate([1, 0], [0.25, 1 / 3], pool_size=4).value
        0.5
    """
    wrong = np.asarray(errors, np.float64)
    weights = lure_weights(probabilities, pool_size)
    if wrong.shape != weights.shape:
        raise ValueError(f"errors has the shape {wrong.shape}, probabilities {weights.shape}")
    terms = weights * wrong
    spread = float(terms.std(ddof=1)) / math.sqrt(wrong.size) if wrong.size > 1 else math.nan
    return Estimate(float(terms.mean()), spread)


def lure_weights(probabilities: npt.ArrayLike, pool_size: int) -> Floats:
    """The weights v_m (n_labeled,) of ``lure_error_rate``, whose mean is about 1.

    Raises:
        ValueError: As ``lure_error_rate``.
    """
    chances = np.asarray(probabilities, np.float64)
    picks = chances.size
    if chances.ndim != 1 or not 1 <= picks <= pool_size:
        raise ValueError(
            f"probabilities has the shape {chances.shape} and the pool {pool_size} images: "
            "expected (n_labeled,), at least one and no more than images"
        )
    if not ((chances > 0) & (chances <= 1)).all():
        raise ValueError("probabilities has values that are not above 0 and at most 1")
    left = pool_size - np.arange(picks)  # N - m + 1
    if picks == pool_size:
        return np.ones(picks)
    return 1 + (pool_size - picks) / (left - 1) * (1 / (left * chances) - 1)


def inverse_probability_weights(probabilities: npt.ArrayLike) -> Floats:
    """The weights 1/p (n_labeled,): the number of images of the pool that a labeled one stands for.

    Args:
        probabilities: (n_labeled,) the probability with which each image came to be labeled.

    Raises:
        ValueError: If one is not above 0 and at most 1: an image that could not be drawn stands for
            nothing.

    Example:
        >>> inverse_probability_weights([0.5, 0.25]).tolist()
        [2.0, 4.0]
    """
    chances = np.asarray(probabilities, np.float64)
    if not ((chances > 0) & (chances <= 1)).all():
        raise ValueError("probabilities has values that are not above 0 and at most 1")
    return 1 / chances
