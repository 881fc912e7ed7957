"""Calibration: formulas written out, published temperatures, and orders that do not change."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from sklearn.metrics import log_loss

from dagster_active_learning import score_images
from dagster_active_learning.evaluation import (
    brier_score,
    class_wise_calibration_error,
    expected_calibration_error,
    fit_temperature,
    measure_calibration,
    reliability_bins,
    with_temperature,
)


def drawn(seed, n_images, n_classes, sharpness=1.0):
    """Class probabilities that are too sure where ``sharpness`` is above 1, and their labels."""
    random = np.random.default_rng(seed)
    truth = random.dirichlet(np.full(n_classes, 0.4), n_images)
    labels = (random.random(n_images)[:, None] > np.cumsum(truth, axis=1)).sum(axis=1)
    powers = np.maximum(truth, 1e-9) ** sharpness
    return powers / powers.sum(axis=1, keepdims=True), np.minimum(labels, n_classes - 1)


def binned_error(confidence, is_right, n_bins, weights):
    """The definition, bin by bin."""
    error = 0.0
    for number in range(n_bins):
        low, high = number / n_bins, (number + 1) / n_bins
        inside = (confidence > low) & (confidence <= high) | ((number == 0) & (confidence == 0))
        if weights[inside].sum():
            means = (np.average(v[inside], weights=weights[inside]) for v in (confidence, is_right))
            error += weights[inside].sum() / weights.sum() * abs(np.subtract(*means))
    return error


@pytest.mark.parametrize("n_bins", [7, 15])
@pytest.mark.parametrize("n_classes", [2, 5])
def test_the_errors_are_their_definitions(n_classes, n_bins):
    probs, labels = drawn(1, 500, n_classes, 1.7)
    weights = np.random.default_rng(2).integers(1, 4, 500).astype(float)
    is_right = (probs.argmax(axis=1) == labels).astype(float)
    expected = binned_error(probs.max(axis=1), is_right, n_bins, weights)
    found = expected_calibration_error(probs, labels, weights, n_bins=n_bins)
    assert found == pytest.approx(expected, abs=1e-12)
    of_classes = [
        binned_error(probs[:, k], (labels == k).astype(float), n_bins, weights)
        for k in range(n_classes)
    ]
    found = class_wise_calibration_error(probs, labels, weights, n_bins=n_bins)
    assert found == pytest.approx(np.mean(of_classes), abs=1e-12)
    distances = ((probs - np.eye(n_classes)[labels]) ** 2).sum(axis=1)
    assert brier_score(probs, labels, weights) == pytest.approx(np.average(distances, weights=weights))  # fmt: skip


def test_the_temperature_makes_the_labels_most_likely():
    probs, labels = drawn(3, 4000, 4, 2.0)
    weights = np.random.default_rng(4).integers(1, 4, 4000).astype(float)

    def loss(temperature):
        powers = np.log(np.maximum(probs, 1e-12)) / temperature
        tempered = np.exp(powers - powers.max(axis=1, keepdims=True))
        tempered /= tempered.sum(axis=1, keepdims=True)
        return log_loss(labels, tempered, sample_weight=weights, labels=range(4))

    expected = minimize_scalar(loss, bounds=(0.5, 5), method="bounded", options={"xatol": 1e-8}).x
    assert fit_temperature(probs, labels, weights) == pytest.approx(expected, abs=1e-4)
    assert expected == pytest.approx(2, abs=0.15)  # What made them too sure.


def test_a_model_that_is_right_or_wrong_throughout_has_a_temperature_at_the_end():
    probs = np.array([[0.9, 0.1], [0.2, 0.8]])
    assert fit_temperature(probs, [0, 1]) == pytest.approx(0.01, rel=1e-6)
    assert fit_temperature(probs, [1, 0]) == pytest.approx(100, rel=1e-6)


def test_a_reliability_diagram_has_all_labels():
    probs, labels = drawn(5, 300, 3)
    bins = reliability_bins(probs, labels)
    assert bins.weights.sum() == pytest.approx(1)
    assert np.nansum(bins.weights * bins.accuracy) == pytest.approx((probs.argmax(axis=1) == labels).mean())  # fmt: skip
    assert np.isnan(bins.accuracy[0])  # Below 1/3 no confidence of three classes is.
    over_one = reliability_bins([[1.0001, -0.0001], [0.4, 0.6]], [0, 1])
    assert over_one.weights[-1] == 0.5


@settings(deadline=None, max_examples=50)
@given(st.lists(st.integers(1, 9999), min_size=2, max_size=40), st.floats(0.2, 20), st.randoms())
def test_with_two_classes_a_temperature_changes_no_order(tenths, temperature, random):
    first = np.array(tenths) / 10_000
    probs = np.stack([first, 1 - first], axis=1)
    before, after = (
        score_images(probs),
        score_images(with_temperature(probs, temperature)),
    )
    for name in ("entropy", "least_confidence", "margin", "variance"):
        order = np.argsort(before[name].to_numpy(), kind="stable")
        # Rounding may make equal what was not, never turn it around.
        assert (np.diff(after[name].to_numpy()[order]) >= -1e-12).all(), name


@pytest.mark.parametrize(
    ("probs", "labels", "words"),
    [
        ([[0.5, 0.5]], [2], "no index of 2 classes"),
        ([[0.5, 0.5]], [0.5], "no index of 2 classes"),
        ([[0.5, 0.5]], [0, 1], "shape"),
        ([0.5], [0], "shape"),
    ],
)
def test_labels_that_are_no_classes_are_refused(probs, labels, words):
    for number in (expected_calibration_error, brier_score, fit_temperature):
        with pytest.raises(ValueError, match=words):
            number(probs, labels)
    with pytest.raises(ValueError, match="temperature is 0"):
        with_temperature([[0.5, 0.5]], 0)


@pytest.mark.parametrize(
    ("file", "labels", "before", "after", "temperature"),
    [
        ("label_errors/cifar10", "label_errors/cifar10_labels", 0.0317, 0.0078, 1.506),
        ("cifar10_networks/vgg16", "cifar10_networks/labels", 0.0394, 0.0138, 1.695),
    ],
)
def test_real_networks_have_their_measured_calibration(
    real_predictions, file, labels, before, after, temperature
):
    """Measured on a random part of the labels: equal up to which part it was."""
    calibration = measure_calibration(
        np.load(real_predictions / f"{file}_probabilities.npy"),
        np.load(real_predictions / f"{labels}.npy"),
    )
    assert calibration.expected_error == pytest.approx(before, abs=0.0015)
    assert calibration.expected_error_at_temperature == pytest.approx(after, abs=0.0015)
    assert calibration.temperature == pytest.approx(temperature, abs=0.05)
