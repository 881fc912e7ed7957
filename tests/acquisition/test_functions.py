"""The acquisition functions as data agree with what the formulas say about extreme predictions."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dagster_active_learning import ACQUISITION_FUNCTIONS
from dagster_active_learning.acquisition.schemas import COMMITTEE_ROWS, KERNEL_ROWS
from dagster_active_learning.rules import Rules

# Scores of a certain and of a uniform prediction over K classes, from the formulas.
EXTREMES = {
    "entropy": (0.0, math.log2),
    "least_confidence": (0.0, lambda k: 1 - 1 / k),
    "margin": (1.0, lambda _: 0.0),
    "variance": (lambda k: (k - 1) / k**2, lambda _: 0.0),
    "mean_object_score": (1.0, lambda _: 0.0),
    "mutual_information": (0.0, math.log2),
    "vote_entropy": (0.0, math.log2),
}


def test_they_stand_in_the_order_of_the_columns():
    assert list(ACQUISITION_FUNCTIONS) == list(EXTREMES)
    assert all(name == function.name for name, function in ACQUISITION_FUNCTIONS.items())
    levels = {name: f.level for name, f in ACQUISITION_FUNCTIONS.items() if f.level != "image"}
    assert levels == {
        "mean_object_score": "object",
        "mutual_information": "committee",
        "vote_entropy": "committee",
    }


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
def test_only_entropies_have_another_formula_for_independent_classes(name, inputs):
    function = ACQUISITION_FUNCTIONS[name]
    entropies = ("entropy", "mutual_information", "vote_entropy")
    other = name in entropies and inputs == "independent"
    assert (function.formula_of(inputs) != function.formula) == other


def test_a_score_just_outside_its_bounds_stays_inside_0_to_1():
    assert ACQUISITION_FUNCTIONS["margin"].uncertainty(1.0004, 3) == 0.0
    assert ACQUISITION_FUNCTIONS["entropy"].uncertainty(1.0004, 2) == 1.0


@given(
    scores=st.lists(st.floats(-0.1, 12) | st.just(math.nan), max_size=20),
    n_classes=st.integers(2, 1000),
    inputs=st.sampled_from(["probabilities", "independent"]),
)
@pytest.mark.parametrize("name", EXTREMES)
def test_uncertainties_of_an_array_are_the_bits_of_the_formula(name, scores, n_classes, inputs):
    function = ACQUISITION_FUNCTIONS[name]
    lowest, highest = function.bounds(n_classes, inputs)
    expected = []
    for score in scores:
        share = min(max((score - lowest) / (highest - lowest), 0.0), 1.0)
        expected.append(share if function.label_first == "highest" else 1.0 - share)
    array = np.array(scores, np.float64)
    assert function.uncertainty(array, n_classes, inputs).tobytes() == np.array(expected).tobytes()
    each = [function.uncertainty(score, n_classes, inputs) for score in scores]
    np.testing.assert_array_equal(each, expected)


@pytest.mark.parametrize(
    ("name", "rules", "has_class_probs", "expected"),
    [
        ("entropy", Rules(), True, (True, True)),
        ("entropy", Rules(task="detection"), False, (True, False)),
        ("entropy", Rules(task="detection", score_only="binary"), False, (True, True)),
        ("mean_object_score", Rules(), True, (False, True)),
        ("mean_object_score", Rules(task="segmentation"), False, (True, True)),
        ("mutual_information", Rules(), True, (False, True)),
        ("vote_entropy", Rules(committee=True), True, (True, True)),
    ],
)
def test_what_has_scores(name, rules, has_class_probs, expected):
    function = ACQUISITION_FUNCTIONS[name]
    assert (
        function.applies_to(rules),
        function.can_rank(rules, has_class_probs=has_class_probs),
    ) == expected


def test_the_functions_of_this_package_are_the_rows_of_one_pass_and_those_of_committees():
    rows = tuple(function.scores for function in ACQUISITION_FUNCTIONS.values())
    assert rows == KERNEL_ROWS + COMMITTEE_ROWS


@pytest.mark.parametrize(
    ("name", "inputs", "n_members", "score", "expected"),
    [
        ("vote_entropy", "probabilities", 3, math.log2(3), 1.0),
        ("vote_entropy", "probabilities", 3, 1.0, 1 / math.log2(3)),
        ("vote_entropy", "probabilities", 20, 1.0, 1 / math.log2(10)),
        ("vote_entropy", "probabilities", 1, 0.0, 0.0),
        ("vote_entropy", "independent", 3, 1.0, 0.1),
        ("mutual_information", "probabilities", 2, 1.0, 1.0),
        ("mutual_information", "probabilities", 20, math.log2(10), 1.0),
    ],
)
def test_a_committee_is_on_the_scale_of_as_many_classes_as_members_can_name(
    name, inputs, n_members, score, expected
):
    rules = Rules(committee=True, inputs=inputs)
    uncertainty = ACQUISITION_FUNCTIONS[name].image_uncertainty(
        np.array([score]), 10, rules, n_members=n_members
    )
    assert uncertainty == pytest.approx([expected])
