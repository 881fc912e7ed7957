"""The checks of ``<pool>/labeling_candidates/<function>``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import dagster as dg

from dagster_active_learning.acquisition.functions import (
    ACQUISITION_FUNCTIONS,
    AcquisitionFunction,
)
from dagster_active_learning.definitions.checks.check import ERROR, WARN, CheckRun, check
from dagster_active_learning.definitions.checks.jumps import like_the_sets_before
from dagster_active_learning.rules import NO_LIMIT

if TYPE_CHECKING:
    from dagster_active_learning.store.findings import Findings


@check(
    "ranks_without_gaps",
    lambda _: "Ranks go from 1 on without gaps, in the order of the scores; each image has one.",
)
def ranks_without_gaps(run: CheckRun) -> dg.AssetCheckResult:
    """Ranks that are missing or there twice, images that are, and ranks below worse ones."""
    from dagster_active_learning.store.candidate_findings import broken_ranks

    broken = broken_ranks(run.store, run.names, _function(run), run.pool.rules)
    return _ranking_result(
        run, broken, "do not follow the rank before, come too late or have an image twice"
    )


@check(
    "candidates_are_fresh",
    lambda _: (
        "The images were ranked by the predictions and the scores that they have now; none is "
        "missing that would be ranked now."
    ),
)
def candidates_are_fresh(run: CheckRun) -> dg.AssetCheckResult:
    """Rankings of scores or predictions that are others now, and images they should have."""
    from dagster_active_learning.store.candidate_findings import (
        missing_candidates,
        outdated_candidates,
    )
    from dagster_active_learning.store.labeling_candidates import candidate_count
    from dagster_active_learning.store.rankings import outdated_rankings

    store, rules, function = run.store, run.pool.rules, _function(run)
    outdated = outdated_candidates(store, run.names, function, rules)
    rankable = [
        stored.prediction_set
        for stored in run.sets
        if function.can_rank(rules, has_class_probs=stored.has_class_probs)
    ]
    missing = missing_candidates(store, rankable, function, rules, limit=run.pool.limit or NO_LIMIT)
    older = outdated_rankings(store, run.names, [function.name])
    count = candidate_count(store, run.names, function)
    wrong = outdated.count + missing.count
    return run.result(
        not wrong and not older.count,
        f"{outdated.count:,} of {count:,} candidates have other scores now or left the manifest, "
        f"{missing.count:,} images should be candidates and are not, {older.count:,} of "
        f"{len(run.sets):,} rankings are of other predictions or scores than are stored"
        + ": materialize the candidates again"
        * bool(wrong or older.count),
        {
            "candidates": count,
            "outdated": outdated.count,
            "missing": missing.count,
            "older_rankings": older.count,
        },
        outdated.examples or missing.examples or older.examples,
        # New predictions may say what the old ones said; other scores say something else.
        ERROR if wrong else WARN,
    )


@check(
    "no_labeled_candidates",
    lambda pool: "The manifest says of no candidate it is labeled." if pool.manifest else None,
)
def no_labeled_candidates(run: CheckRun) -> dg.AssetCheckResult:
    """Candidates that need no label any more."""
    from dagster_active_learning.store.candidate_findings import labeled_candidates

    labeled = labeled_candidates(run.store, run.names, _function(run))
    return _ranking_result(run, labeled, "have their label already")


@check(
    "queue_is_not_empty",
    lambda _: "There are candidates, as long as there are images without a label.",
)
def queue_is_not_empty(run: CheckRun) -> dg.AssetCheckResult:
    """Rankings without a candidate: a function may have nothing to rank by."""
    from dagster_active_learning.store.labeling_candidates import candidate_count
    from dagster_active_learning.store.score_statistics import unlabeled_count

    rules, function = run.pool.rules, _function(run)
    empty = [
        {
            "prediction_set": stored.prediction_set,
            "images_without_label": unlabeled_count(run.store, stored.prediction_set, rules),
            "reason": "no image has a score"
            if function.can_rank(rules, has_class_probs=stored.has_class_probs)
            else "the predictions have a score and no class probabilities",
        }
        for stored in run.sets
        if not candidate_count(run.store, [stored.prediction_set], function)
    ]
    wrong = [each for each in empty if each["images_without_label"]]
    advice = f'leave {function.name} out of acquisition_functions, or declare score_only="binary"'
    return run.result(
        not wrong,
        f"{len(wrong):,} of {len(run.sets):,} rankings are empty though images have no label"
        + (f": {wrong[0]['reason']}; {advice}" if wrong else ""),
        {"empty": len(wrong)},
        wrong,
        WARN,
    )


CHECKS = (
    queue_is_not_empty,
    ranks_without_gaps,
    candidates_are_fresh,
    no_labeled_candidates,
    like_the_sets_before,
)


def _function(run: CheckRun) -> AcquisitionFunction:
    """The function that has ranked the candidates."""
    return ACQUISITION_FUNCTIONS[str(run.function)]


def _ranking_result(run: CheckRun, wrong: Findings, problem: str) -> dg.AssetCheckResult:
    from dagster_active_learning.store.labeling_candidates import candidate_count

    count = candidate_count(run.store, run.names, _function(run))
    return run.result(
        not wrong.count,
        f"{wrong.count:,} of {count:,} candidates {problem}"
        + ": materialize the candidates again" * bool(wrong.count),
        {"candidates": count, "wrong": wrong.count},
        wrong.examples,
    )
