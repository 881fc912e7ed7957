"""Error rates from labels that were drawn: unbiased, where those of a queue are not."""

from itertools import permutations

import numpy as np
import pytest

from dagster_active_learning.evaluation import (
    Stratum,
    auroc,
    inverse_probability_weights,
    lure_error_rate,
    stratified_error_rate,
)
from evaluation.test_comparison import real


def test_strata_written_out():
    """Cochran's formula, with its correction for a part that is labeled in part."""
    estimate = stratified_error_rate([Stratum(2, [1, 1]), Stratum(8, [0, 1, 0, 0])])
    assert estimate.value == pytest.approx(0.2 + 0.8 * 0.25)
    variance = 0.8**2 * (1 - 4 / 8) * np.var([0, 1, 0, 0], ddof=1) / 4
    assert estimate.standard_error == pytest.approx(np.sqrt(variance))
    whole = stratified_error_rate([Stratum(3, [0, 1, 0]), Stratum(0, [])])
    assert (whole.value, whole.standard_error) == (pytest.approx(1 / 3), 0)
    assert np.isnan(stratified_error_rate([Stratum(9, [1])]).standard_error)


@pytest.mark.parametrize("stratum", [Stratum(5, []), Stratum(1, [0, 1])])
def test_a_part_without_labels_or_with_too_many_is_refused(stratum):
    with pytest.raises(ValueError, match="part 1 has"):
        stratified_error_rate([Stratum(2, [1]), stratum])


def test_lure_is_unbiased_over_all_orders_of_picks():
    """Summed over every order with its probability: exactly the error rate of the pool."""
    losses, chances = np.array([1, 0, 0, 1]), np.array([0.5, 0.2, 0.2, 0.1])
    for picks in (1, 2, 3, 4):
        expected = 0.0
        for order in permutations(range(4), picks):
            left = [chances[list(order[m:])].sum() + chances[[i for i in range(4) if i not in order]].sum() for m in range(picks)]  # fmt: skip
            probabilities = chances[list(order)] / left
            estimate = lure_error_rate(losses[list(order)], probabilities, 4)
            expected += probabilities.prod() * estimate.value
        assert expected == pytest.approx(losses.mean(), abs=1e-12)


@pytest.mark.parametrize(
    ("errors", "probabilities", "size", "words"),
    [
        ([], [], 4, "at least one"),
        ([1, 0], [0.5, 0.5], 1, "no more than images"),
        ([1], [0], 4, "above 0 and at most 1"),
        ([1, 0], [0.5], 4, r"errors has the shape \(2,\)"),
    ],
)
def test_picks_that_cannot_be_are_refused(errors, probabilities, size, words):
    with pytest.raises(ValueError, match=words):
        lure_error_rate(errors, probabilities, size)


def test_what_could_not_be_drawn_has_no_weight():
    assert inverse_probability_weights([0.5, 1]).tolist() == [2, 1]
    with pytest.raises(ValueError, match="above 0"):
        inverse_probability_weights([0.5, 0])


def test_a_random_share_gives_the_truth_and_a_queue_does_not(real_predictions):
    errors, uncertainties = real(real_predictions, "cifar10")
    margin = uncertainties["margin"]
    queue = np.argsort(-margin, kind="stable")
    first = queue[:1000]
    # What labels of the queue alone would say; the truth is .9232 and .0706.
    assert auroc(errors[first], margin[first]) == pytest.approx(0.6033, abs=5e-5)
    assert errors[first].mean() == pytest.approx(0.4240, abs=5e-5)
    first, rest = queue[:800], queue[800:]
    chances = 1 + margin + 0.05  # In proportion to the uncertainty, and some for all.
    rates, areas, lure = [], [], []
    for seed in range(200):
        random = np.random.default_rng(seed)
        drawn = random.choice(rest, 200, replace=False)
        strata = [Stratum(800, errors[first]), Stratum(9200, errors[drawn])]
        rates.append(stratified_error_rate(strata).value)
        labeled = np.concatenate([first, drawn])
        weights = inverse_probability_weights(np.repeat([1, 200 / 9200], [800, 200]))
        areas.append(auroc(errors[labeled], margin[labeled], weights))
        # Picks without replacement, the first 1000 of exponential times.
        picks = np.argsort(random.exponential(size=errors.size) / chances)[:1000]
        left = chances.sum() - np.cumsum(chances[picks]) + chances[picks]
        lure.append(lure_error_rate(errors[picks], chances[picks] / left, errors.size).value)
    assert np.mean(rates) == pytest.approx(0.0706, abs=0.0025)
    assert np.sqrt(np.mean((np.array(lure) - 0.0706) ** 2)) < 0.008
    assert np.mean(areas) == pytest.approx(0.923, abs=0.006)
