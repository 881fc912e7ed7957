"""The checks of ``<pool>/rule_evaluation``."""

from __future__ import annotations

import dagster as dg

from dagster_active_learning.definitions.checks.check import WARN, CheckRun, check

LABELS_WANTED = 200
"""Labels below which an interval is so wide that it nearly always has 0 in it."""


@check(
    "enough_random_labels",
    lambda _: (
        f"There are {LABELS_WANTED} labels or more that were drawn at random and that the model "
        "cannot know: fewer can hardly tell one rule from another."
    ),
)
def enough_random_labels(run: CheckRun) -> dg.AssetCheckResult:
    """Sets of predictions that too few labels, or none, can judge."""
    from dagster_active_learning.flow.evaluate import evaluation_labels

    evaluation = run.pool.evaluation
    if evaluation is None:
        return run.result(False, "the pool has no evaluation any more", {}, severity=WARN)
    truth = evaluation.truth()
    labels = {
        name: evaluation_labels(run.store, name, run.pool.rules, evaluation.rules, truth)
        for name in run.names
    }
    fewest, of_fewest = min(labels.items(), key=lambda item: item[1].images.height)
    count = of_fewest.images.height
    where = f" of prediction set {fewest!r}" if run.pool.partitioned else ""
    return run.result(
        count >= LABELS_WANTED,
        of_fewest.refusal or f"{count:,} labels{where} were drawn at random, of {LABELS_WANTED}",
        {
            "random_labels": count,
            "labels": of_fewest.labeled_count,
            "of_queue": of_fewest.queue_count,
            "older_than_predictions": of_fewest.older_count,
            "of_unknown_choice": of_fewest.unknown_count,
        },
        severity=WARN,
    )


@check(
    "labels_are_classes",
    lambda pool: None if pool.rules.objects else "Every label is a class of the model.",
)
def labels_are_classes(run: CheckRun) -> dg.AssetCheckResult:
    """Labels that the model cannot be right about, as it has no such class."""
    from dagster_active_learning.store.rule_evaluations import labels_of_no_class

    wrong = labels_of_no_class(run.store, run.names)
    return run.result(
        not wrong.count,
        f"{wrong.count:,} labels are no class of the model"
        + ": every prediction of such an image counts as an error" * bool(wrong.count),
        {"wrong": wrong.count},
        wrong.examples,
        severity=WARN,
    )


CHECKS = (enough_random_labels, labels_are_classes)
