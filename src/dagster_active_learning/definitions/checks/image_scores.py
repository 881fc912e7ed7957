"""The checks of ``<pool>/image_scores``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import dagster as dg

from dagster_active_learning.acquisition.functions import ACQUISITION_FUNCTIONS
from dagster_active_learning.definitions.checks.check import CheckRun, check
from dagster_active_learning.limits import PROBABILITY_TOLERANCE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dagster_active_learning.rules import Rules
    from dagster_active_learning.store.prediction_sets import PredictionSet
    from dagster_active_learning.store.score_findings import Bounds

SCORE_TOLERANCE = 0.01
"""The distance of a score from its bounds that is allowed, as a share of the bounds' distance.

It grows with ``sum_tolerance``. Class probabilities may be off by 1e-3 each and in sum. That
carries the margin of two classes to 1.002, and the entropy of 1,000 classes 0.0085 bits over
log2 K.
"""


@check(
    "every_image_scored",
    lambda _: (
        "Every image with predictions and every image of the manifest has one row, scored by the "
        "predictions that it has under the pool's rules, and no other image has one. Sums of "
        "64-bit hashes of the ids are compared, and images one by one where these differ."
    ),
)
def every_image_scored(run: CheckRun) -> dg.AssetCheckResult:
    """Images without a row of scores, or with another one than their predictions give."""
    from dagster_active_learning.store.score_findings import (
        scored_image_count,
        wrongly_scored_images,
    )
    from dagster_active_learning.store.scorings import scoring_problem

    rules = run.pool.rules
    wrong = wrongly_scored_images(run.store, run.names, rules=rules)
    problems = {name: scoring_problem(run.store, name, rules) for name in run.names}
    other = [
        {"prediction_set": name, "problem": problem}
        for name, problem in problems.items()
        if problem
    ]
    return run.result(
        not wrong.count and not other,
        f"{wrong.count:,} images are not scored by the predictions that they have"
        + "".join(f"; {each['problem']}" for each in other[:1])
        + ": materialize the scores again" * bool(wrong.count or other),
        {
            "rows": scored_image_count(run.store, run.names),
            "wrongly_scored": wrong.count,
            "other_scores": len(other),
        },
        wrong.examples or other,
    )


@check(
    "scores_in_bounds",
    lambda pool: (
        "Every score is between the lowest and the highest that its acquisition function can give."
        # Nothing is above what a sum over predictions can be.
        if pool.aggregation != "sum"
        else None
    ),
)
def scores_in_bounds(run: CheckRun) -> dg.AssetCheckResult:
    """Scores that their acquisition function cannot give."""
    from dagster_active_learning.store.score_findings import (
        scored_image_count,
        scores_out_of_bounds,
    )

    bounds = [of_function for stored in run.sets for of_function in _bounds(stored, run.pool.rules)]
    outside = scores_out_of_bounds(run.store, bounds)
    return run.result(
        not outside.count,
        f"{outside.count:,} scores are outside the bounds of their acquisition function",
        {"rows": scored_image_count(run.store, run.names), "out_of_bounds": outside.count},
        outside.examples,
    )


CHECKS = (every_image_scored, scores_in_bounds)


def _bounds(stored: PredictionSet, rules: Rules) -> Iterator[Bounds]:
    """The bounds of a set's scores."""
    from dagster_active_learning.store.score_findings import Bounds

    class_counts = [len(stored.class_names)] if stored.has_class_probs else []
    if stored.score_only_count or not class_counts:
        # A lone score is a probability of two classes, where it is declared to be one; what an
        # image without objects has does not depend on classes.
        class_counts.append(2)
    share = SCORE_TOLERANCE * rules.sum_tolerance / PROBABILITY_TOLERANCE
    for function in ACQUISITION_FUNCTIONS.values():
        pairs = [function.bounds(count, rules.inputs) for count in class_counts]
        lowest, highest = min(low for low, _ in pairs), max(high for _, high in pairs)
        tolerance = share * (highest - lowest)
        yield Bounds(stored.prediction_set, function.name, lowest, highest, tolerance)
