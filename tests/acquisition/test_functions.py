"""The acquisition functions as data agree with what the formulas say about extreme predictions."""

import math

import pytest

from dagster_active_learning import ACQUISITION_FUNCTIONS

# Scores of a certain and of a uniform prediction over K classes, from the formulas.
EXTREMES = {
    "entropy": (0.0, math.log2),
    "least_confidence": (0.0, lambda k: 1 - 1 / k),
    "margin": (1.0, lambda _: 0.0),
    "variance": (lambda k: (k - 1) / k**2, lambda _: 0.0),
    "mean_object_score": (1.0, lambda _: 0.0),
}


def test_there_are_five_in_the_order_of_the_columns():
    assert list(ACQUISITION_FUNCTIONS) == list(EXTREMES)
    assert all(name == function.name for name, function in ACQUISITION_FUNCTIONS.items())
    assert [f.name for f in ACQUISITION_FUNCTIONS.values() if f.level == "object"] == [
        "mean_object_score"
    ]


@pytest.mark.parametrize("n_classes", [2, 3, 10, 1000])
@pytest.mark.parametrize("name", EXTREMES)
def test_uncertainty_is_0_for_a_certain_prediction_and_1_for_the_most_uncertain(name, n_classes):
    function = ACQUISITION_FUNCTIONS[name]
    certain, uncertain = (
        extreme(n_classes) if callable(extreme) else extreme for extreme in EXTREMES[name]
    )
    assert function.uncertainty(certain, n_classes) == pytest.approx(0, abs=1e-12)
    assert function.uncertainty(uncertain, n_classes) == pytest.approx(1)
    assert sorted(function.bounds(n_classes)) == pytest.approx(sorted((certain, uncertain)))
    first = max if function.label_first == "highest" else min
    assert first(certain, uncertain) == uncertain


@pytest.mark.parametrize("inputs", ["probabilities", "logits", "independent"])
@pytest.mark.parametrize("name", EXTREMES)
def test_only_the_entropy_has_another_formula_for_independent_classes(name, inputs):
    function = ACQUISITION_FUNCTIONS[name]
    other = name == "entropy" and inputs == "independent"
    assert (function.formula_of(inputs) != function.formula) == other


def test_a_score_just_outside_its_bounds_stays_inside_0_to_1():
    assert ACQUISITION_FUNCTIONS["margin"].uncertainty(1.0004, 3) == 0.0
    assert ACQUISITION_FUNCTIONS["entropy"].uncertainty(1.0004, 2) == 1.0
