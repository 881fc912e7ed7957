"""Intervals: a difference is said to be there where it is, and not where it is not."""

import re

import numpy as np
import pytest

from dagster_active_learning.evaluation import auroc, compare_rules, conclusion
from dagster_active_learning.evaluation.comparison import Comparison, compare_errors_per_box
from evaluation.test_finding_errors import uncertainties_of


def real(folder, name):
    class_probs = np.load(folder / "label_errors" / f"{name}_probabilities.npy")
    labels = np.load(folder / "label_errors" / f"{name}_labels.npy")
    return class_probs.argmax(axis=1) != labels, uncertainties_of(class_probs)


def noisy(seed, n_images, spread):
    """Errors, and two orders of which the second has more noise."""
    random = np.random.default_rng(seed)
    errors = random.random(n_images) < 0.2
    return errors, {
        "margin": errors + random.normal(size=n_images),
        "noise": errors + random.normal(size=n_images) * spread,
    }


def test_the_bootstrap_is_one_in_plain_numpy():
    errors, uncertainties = noisy(0, 200, 2)
    weights = np.random.default_rng(1).integers(1, 5, 200).astype(float)
    comparison = compare_rules(errors, uncertainties, weights=weights)["noise"]
    random = np.random.default_rng(7)
    areas = []
    for _ in range(1000):
        rows = random.integers(200, size=200)
        areas.append(
            [auroc(errors[rows], each[rows], weights[rows]) for each in uncertainties.values()]
        )
    margin, noise = np.transpose(areas)
    expected = [*np.percentile(noise, [2.5, 97.5]), *np.percentile(noise - margin, [2.5, 97.5])]
    found = [comparison.low, comparison.high, comparison.difference_low, comparison.difference_high]
    assert found == pytest.approx(expected, abs=0.03)
    assert comparison.value == auroc(errors, uncertainties["noise"], weights)
    assert comparison.difference == pytest.approx(comparison.value - auroc(errors, uncertainties["margin"], weights))  # fmt: skip


def test_the_same_seed_gives_the_same_intervals_and_margin_is_itself():
    errors, uncertainties = noisy(0, 300, 3)
    one, same = (compare_rules(errors, uncertainties, resamples=50, seed=3) for _ in range(2))
    assert one == same
    assert one != compare_rules(errors, uncertainties, resamples=50, seed=4)
    margin = one["margin"]
    assert (margin.difference, margin.difference_low, margin.difference_high) == (0, 0, 0)
    assert not margin.is_better
    assert not margin.is_worse


@pytest.mark.parametrize(
    ("spread", "words"),
    [
        (4, r"margin finds errors better than noise \(-0\.\d{4}, 95 % interval -0\.\d{4} to -0\."),
        (1, r"no difference found, keep margin \(1,000 labels\)"),
        (0.3, r"noise finds errors better than margin \(\+0\."),
    ],
)
def test_the_sentence_says_what_the_interval_says(spread, words):
    errors, uncertainties = noisy(5, 1000, spread)
    comparisons = compare_rules(errors, uncertainties, resamples=200)
    assert re.search(words, conclusion(comparisons, image_count=1000))


def test_an_interval_that_has_0_or_no_number_is_no_difference():
    sizes = {"value": 0.5, "low": 0.4, "high": 0.6, "difference": 0.1}
    for low, high in ((0.0, 0.2), (-0.1, 0.2), (-0.1, 0.0), (np.nan, np.nan)):
        comparison = Comparison(**sizes, difference_low=low, difference_high=high)
        said = conclusion({"entropy": comparison}, image_count=10)
        assert said == "no difference found, keep margin (10 labels)"


def test_boxes_have_a_budget_of_their_own():
    """A sum over boxes picks crowded images: many errors, and more boxes."""
    random = np.random.default_rng(0)
    boxes = random.integers(1, 20, 400)
    errors = random.binomial(boxes, np.where(random.random(400) < 0.5, 0.1, 0.6))
    uncertainties = {"sum": errors + 0.0, "mean": errors / boxes}
    compared = compare_errors_per_box(
        errors, boxes, uncertainties, 50, against="sum", resamples=200
    )
    assert compared["mean"].is_better
    assert conclusion(compared, against="sum", image_count=400).startswith("mean finds errors")


def test_images_of_one_kind_cannot_be_compared():
    with pytest.raises(ValueError, match="0 images with an error and 2 without"):
        compare_rules([0, 0], {"margin": [1, 0]})
    with pytest.raises(ValueError, match="against is 'margin', expected one of entropy"):
        compare_rules([1, 0], {"entropy": [1, 0]})


def test_mnist_has_no_difference(real_predictions):
    errors, uncertainties = real(real_predictions, "mnist")
    compared = compare_rules(errors, uncertainties, resamples=200)
    said = conclusion(compared, image_count=errors.size)
    assert said == "no difference found, keep margin (10,000 labels)"


@pytest.mark.slow
def test_a_thousand_random_labels_never_say_the_contrary(real_predictions):
    """Of CIFAR-10 a difference of .0025 is found in some draws; one of .059 in all."""
    errors, uncertainties = real(real_predictions, "cifar10")
    small = {name: uncertainties[name] for name in ("margin", "entropy")}
    shuffled = np.random.default_rng(0).normal(scale=0.12, size=errors.size)
    large = {"margin": small["margin"], "noise": small["margin"] + shuffled}
    found = {"small": 0, "large": 0}
    for seed in range(20):
        rows = np.random.default_rng(seed).choice(errors.size, 1000, replace=False)
        for name, orders in (("small", small), ("large", large)):
            drawn = {key: each[rows] for key, each in orders.items()}
            other = [*orders][1]
            compared = compare_rules(errors[rows], drawn, resamples=300)[other]
            found[name] += compared.is_better if name == "small" else compared.is_worse
            assert not (compared.is_worse if name == "small" else compared.is_better)
    assert 0 < found["small"] < 20
    assert found["large"] == 20
