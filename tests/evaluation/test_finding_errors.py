"""Numbers of how well an order finds errors: equal to scikit-learn's, and to orders written out."""

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, roc_auc_score

from dagster_active_learning.evaluation import (
    auroc,
    average_precision,
    error_rate_among_first,
    errors_per_box,
    lift,
    risk_coverage_area,
    risk_coverage_curve,
)
from reference import prediction_scores

IMAGES = st.lists(
    st.tuples(st.booleans(), st.integers(0, 5), st.integers(1, 9)), min_size=2, max_size=30
)
"""Whether there is an error, uncertainties with many ties, weights."""


def columns(images):
    errors, uncertainty, weights = (np.array(column) for column in zip(*images, strict=True))
    return errors, uncertainty / 4, weights


@settings(deadline=None, max_examples=40)
@given(IMAGES)
def test_areas_are_those_of_scikit_learn(images):
    errors, uncertainty, weights = columns(images)
    if errors.all() or not errors.any():
        assert np.isnan(auroc(errors, uncertainty))
        return
    for weight in (None, weights):
        options = {"sample_weight": weight}
        expected = roc_auc_score(errors, uncertainty, **options)
        assert auroc(errors, uncertainty, weight) == pytest.approx(expected, abs=1e-12)
        expected = average_precision_score(errors, uncertainty, **options)
        assert average_precision(errors, uncertainty, weight) == pytest.approx(expected, abs=1e-12)


@settings(deadline=None, max_examples=40)
@given(st.lists(st.tuples(st.booleans(), st.integers(0, 2)), min_size=1, max_size=6))
def test_images_of_equal_uncertainty_have_the_mean_of_all_orders(images):
    errors, uncertainty = (np.array(column) for column in zip(*images, strict=True))
    areas, rates = [], []
    for order in permutations(range(len(images))):
        ordered = uncertainty[list(order)]
        if (np.diff(ordered) > 0).any():
            continue
        wrong = errors[list(order)].astype(float)
        kept = wrong[::-1]
        areas.append(np.mean(np.cumsum(kept) / np.arange(1, len(kept) + 1)))
        rates.append([wrong[:first].mean() for first in range(1, len(wrong) + 1)])
    assert risk_coverage_area(errors, uncertainty) == pytest.approx(np.mean(areas), abs=1e-12)
    for first, expected in enumerate(np.mean(rates, axis=0), 1):
        found = error_rate_among_first(errors, uncertainty, first)
        assert found == pytest.approx(expected, abs=1e-12)


@settings(deadline=None, max_examples=40)
@given(IMAGES, st.floats(0.5, 40))
def test_a_weight_is_that_many_images(images, first):
    errors, uncertainty, weights = columns(images)
    repeated = (np.repeat(column, weights) for column in (errors, uncertainty))
    more_errors, more_uncertainty = repeated
    for number in (auroc, average_precision):
        np.testing.assert_allclose(
            number(errors, uncertainty, weights), number(more_errors, more_uncertainty), atol=1e-12
        )
    if first <= weights.sum():
        for number in (error_rate_among_first, lift):
            np.testing.assert_allclose(
                number(errors, uncertainty, first, weights),
                number(more_errors, more_uncertainty, first),
                atol=1e-9,
            )


def test_the_numbers_of_an_order_written_out():
    errors, uncertainty = [1, 0, 1, 0], [0.9, 0.8, 0.7, 0.1]
    assert auroc(errors, uncertainty) == 0.75
    assert average_precision(errors, uncertainty) == pytest.approx((1 + 2 / 3) / 2)
    assert error_rate_among_first(errors, uncertainty, 3) == pytest.approx(2 / 3)
    assert lift(errors, uncertainty, 1) == 2
    coverage, risk = risk_coverage_curve(errors, uncertainty)
    assert coverage.tolist() == [0.25, 0.5, 0.75, 1]
    assert risk.tolist() == pytest.approx([0, 1 / 2, 1 / 3, 1 / 2])
    assert risk_coverage_area(errors, uncertainty) == pytest.approx((1 / 2 + 1 / 3 + 1 / 2) / 4)


def test_the_errors_of_a_box():
    counts, boxes, uncertainty = [4, 1, 0], [2, 0, 5], [3, 2, 1]
    assert [errors_per_box(counts, boxes, uncertainty, first) for first in (1, 2, 3, 9)] == [2, 2.5, 5 / 7, 5 / 7]  # fmt: skip
    assert errors_per_box(counts, boxes, [1, 3, 2], 1) == np.inf
    assert np.isnan(errors_per_box([0], [0], [1], 1))


@pytest.mark.parametrize(
    ("errors", "uncertainty", "weights", "words"),
    [
        ([1, 0], [0.5, np.nan], None, "1 values that are not finite"),
        ([], [], None, r"shape \(0,\)"),
        ([1, 2], [0.5, 0.1], None, "other values than 0 and 1"),
        ([1], [0.5, 0.1], None, r"errors has the shape \(1,\), expected \(2,\)"),
        ([1, 0], [0.5, 0.1], [1, -1], "weights has values that are negative"),
        ([1, 0], [0.5, 0.1], [0, 0], "weights are all 0"),
    ],
)
def test_what_has_no_order_is_refused(errors, uncertainty, weights, words):
    for number in (auroc, average_precision, risk_coverage_area):
        with pytest.raises(ValueError, match=words):
            number(errors, uncertainty, weights)


def test_the_first_are_some():
    with pytest.raises(ValueError, match="first is 0, expected"):
        lift([1, 0], [1, 0], 0)


PUBLISHED = {
    "cifar10": {"entropy": 0.9256, "least_confidence": 0.9244, "margin": 0.9232, "variance": 0.9246},
    "mnist": {"entropy": 0.9780, "least_confidence": 0.9784, "margin": 0.9783, "variance": 0.9784},
    "imdb": dict.fromkeys(("entropy", "least_confidence", "margin", "variance"), 0.8342),
}  # fmt: skip


def uncertainties_of(class_probs):
    scores = prediction_scores(class_probs)
    return {
        "entropy": scores["entropy"],
        "least_confidence": scores["least_confidence"],
        "margin": -scores["margin"],
        "variance": -scores["variance"],
    }


@pytest.mark.parametrize("name", PUBLISHED)
def test_real_matrices_have_their_measured_areas(real_predictions, name):
    class_probs, labels = (
        np.load(real_predictions / "label_errors" / f"{name}_{what}.npy")
        for what in ("probabilities", "labels")
    )
    errors = class_probs.argmax(axis=1) != labels
    found = {key: auroc(errors, each) for key, each in uncertainties_of(class_probs).items()}
    assert found == pytest.approx(PUBLISHED[name], abs=5e-5)


@pytest.mark.parametrize(
    ("network", "area"), [("vgg16", 0.9335), ("lenet5", 0.7296), ("wideresnet", 0.9141)]
)
def test_real_networks_have_their_measured_areas(real_predictions, network, area):
    folder = real_predictions / "cifar10_networks"
    class_probs = np.load(folder / f"{network}_probabilities.npy")
    errors = class_probs.argmax(axis=1) != np.load(folder / "labels.npy")
    margin = uncertainties_of(class_probs)["margin"]
    assert auroc(errors, margin) == pytest.approx(area, abs=5e-5)
