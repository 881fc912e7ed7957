"""Labels and predictions -> which acquisition function finds the model's errors."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import polars as pl

from dagster_active_learning.acquisition.functions import (
    ACQUISITION_FUNCTIONS,
    AcquisitionFunction,
)
from dagster_active_learning.errors import PoolStateError
from dagster_active_learning.evaluation import (
    Calibration,
    Comparison,
    Estimate,
    average_precision,
    compare_rules,
    conclusion,
    error_rate_among_first,
    errors_found_curve,
    errors_per_box,
    lift,
    risk_coverage_area,
    risk_coverage_curve,
    weak_members,
    weighted_error_rate,
)
from dagster_active_learning.evaluation.comparison import compare_errors_per_box
from dagster_active_learning.evaluation.rules import EvaluationRules
from dagster_active_learning.flow.judge import (
    ClassErrors,
    Judged,
    boxes_of_labels,
    judged_images,
    judged_objects,
)
from dagster_active_learning.flow.members import JudgedMember, judged_members
from dagster_active_learning.readers.true_boxes import TrueBoxes
from dagster_active_learning.rules import Rules
from dagster_active_learning.store import prediction_sets, rule_evaluations
from dagster_active_learning.store.pool_store import PoolStore
from dagster_active_learning.store.prediction_sets import PredictionSet
from dagster_active_learning.store.rule_evaluations import RuleEvaluationRow
from dagster_active_learning.store.scorings import scoring_problem

FIRST_SHARE = 0.1
"""The share of the pool that is looked at, where nothing else is said."""

Floats = npt.NDArray[np.float64]
Order = tuple[str, str]
"""An acquisition function and an aggregation."""


@dataclass(frozen=True, kw_only=True)
class EvaluationLabels:
    """The labels that a rule is judged by, or the reason why there are none.

    Attributes:
        images: Columns of ``labeled_images`` and weight, the images of the pool that a label
            stands for.
        labeled_count: All labeled images with scores.
        older_count: Labels drawn at random that are older than the predictions, and left out.
        queue_count: Labels of images that a queue chose, and left out.
        unknown_count: Labels of which nothing says how their image was chosen, and left out.
        refusal: The reason why no rule can be judged, and what to do; None where one can.
    """

    images: pl.DataFrame
    labeled_count: int
    older_count: int
    queue_count: int
    unknown_count: int
    refusal: str | None


@dataclass(frozen=True, kw_only=True)
class ErrorCurves:
    """The curves of one order.

    Attributes:
        looked_at: (n,) the share of images that is looked at, from 0 to 1.
        found: (n,) the share of all errors that is found in them.
        coverage: (m,) the share of images that is kept, the most certain first.
        risk: (m,) the error rate of those that are kept.
    """

    looked_at: Floats
    found: Floats
    coverage: Floats
    risk: Floats


@dataclass(frozen=True, kw_only=True)
class RuleEvaluationReport:
    """What labels say about a model and about the rules that order its images.

    Attributes:
        labels: The labels that were used, or the reason why there is nothing else here.
        rows: The rows that were stored, the largest area first.
        error_rate: The share of the pool that the model gets wrong; None where refused.
        answer: What follows, in one sentence.
        answer_by_box: For objects, what follows for those who pay by the box.
        other_labels: Labels that are no class of the model, by their number: it cannot be right.
        classes: The errors by class, the class with the most errors first.
        calibration: The calibration of its class probabilities, None without any.
        members: Of a committee its members, each left out of it.
        answer_about_members: What follows for them, in one sentence.
        curves: The curves by the names of the orders.
    """

    labels: EvaluationLabels
    rows: Sequence[RuleEvaluationRow] = ()
    error_rate: Estimate | None = None
    answer: str | None = None
    answer_by_box: str | None = None
    other_labels: Mapping[str, int]
    classes: Sequence[ClassErrors] = ()
    calibration: Calibration | None = None
    members: Sequence[JudgedMember] = ()
    answer_about_members: str | None = None
    curves: Mapping[str, ErrorCurves]


def evaluate_rules(
    store: PoolStore,
    prediction_set: str,
    *,
    rules: Rules,
    evaluation: EvaluationRules,
    truth: TrueBoxes | None = None,
    seed: int = 0,
    run_id: str,
) -> RuleEvaluationReport:
    """Judge the acquisition functions by the errors that they put first, and store it.

    Args:
        store: The pool.
        prediction_set: Name of the set.
        rules: How the images were scored.
        evaluation: Which labels may be used.
        truth: For objects, the boxes that people drew; the images they are of are labeled. By
            default those of ``labels``.
        seed: Makes the resamples of the intervals.
        run_id: What evaluates them, for the record.

    Returns:
        The numbers, which are stored; or a report with a refusal, of which nothing is.

    Raises:
        PoolStateError: If the set is not there, or its scores are not those of its predictions.
    """
    with store.transaction():
        stored = prediction_sets.prediction_set(store, prediction_set)
        problem = scoring_problem(store, prediction_set, rules)
        if problem:
            raise PoolStateError(f"{problem}: materialize {store.pool}/image_scores first")
        if rules.objects and truth is None:
            truth = boxes_of_labels(store)
        labels = evaluation_labels(store, prediction_set, rules, evaluation, truth)
        if labels.refusal is not None:
            return _refused(labels)
        orders = _orders(labels.images, stored, rules)
        # An image without a prediction has no score under most functions.
        has_all = np.all([np.isfinite(each) for each in orders.values()], axis=0)
        images = labels.images.filter(pl.Series(has_all))
        orders = {name: each[has_all] for name, each in orders.items()}
        if truth is None:
            judged = judged_images(store, stored, rules, images)
        else:
            judged = judged_objects(store, stored, images, truth)
        wrong, right = int(judged.errors.sum()), int((~judged.errors).sum())
        if not wrong or not right:
            which = "no error" if not wrong else "nothing but errors"
            reason = (
                f"{images.height:,} labels drawn at random have {which}: an order of errors needs "
                "some of each; label more random images"
            )
            return _refused(replace(labels, refusal=reason))
        members = judged_members(store, stored, images, seed) if rules.committee else []
        report = _report(labels, images, orders, judged, members, rules, evaluation, seed)
        rule_evaluations.add_evaluation(store, prediction_set, report.rows, run_id)
    return report


def evaluation_labels(
    store: PoolStore,
    prediction_set: str,
    rules: Rules,
    evaluation: EvaluationRules,
    truth: TrueBoxes | None = None,
) -> EvaluationLabels:
    """The labels that a rule may be judged by: drawn at random, and not older than the predictions.

    A model that was trained on a label says nothing about new images by being right about it. A
    batch is a sample of the images that had no label then: a label of it stands for as many as
    1/probability says, and several batches share the pool by their numbers of labels.

    Args:
        store: The pool.
        prediction_set: Name of the set.
        rules: How the images were scored.
        evaluation: Which labels may be used.
        truth: For objects, the boxes that people drew; by default those of ``labels``.
    """
    if rules.objects and truth is None:
        truth = boxes_of_labels(store)
    names = [function.name for function in _functions(rules)]
    image_ids = None if truth is None else truth.image_ids
    labeled = rule_evaluations.labeled_images(store, prediction_set, names, image_ids)
    if not rules.objects:  # What the model has not seen it cannot be wrong about.
        labeled = labeled.filter(pl.col("prediction_count") > 0)
    if truth is not None and truth.image_ids and not labeled.height:
        raise PoolStateError(
            f"none of the {len(truth.image_ids):,} images with boxes, such as "
            f"{truth.image_ids[0]!r}, is an image of pool {store.pool!r} with scores: set "
            "boxes_image_id of evaluation to id or file_name, as the pool's ids are"
        )
    in_batch = pl.col("batch").is_not_null()
    by_chance = (pl.col("chosen_by") == "random").fill_null(value=False)
    is_older = pl.col("is_older") if not evaluation.labels_held_out else pl.lit(value=False)
    declared = ~in_batch if evaluation.labels_drawn_at_random else pl.lit(value=False)
    used = labeled.filter((by_chance & ~is_older) | declared)
    pool_size = rule_evaluations.scored_images(store, prediction_set, rules)
    probability = pl.coalesce("selection_probability", declared.sum() / pool_size)
    share = pl.len().over("batch") / pl.len()
    used = used.with_columns(weight=share / probability)
    labels = EvaluationLabels(
        images=used,
        labeled_count=labeled.height,
        older_count=labeled.filter(by_chance & is_older).height,
        queue_count=labeled.filter(in_batch & ~by_chance).height,
        unknown_count=labeled.filter(~in_batch & ~declared).height,
        refusal=None,
    )
    return labels if used.height else replace(labels, refusal=_no_labels(store, labels))


def _no_labels(store: PoolStore, labels: EvaluationLabels) -> str:
    """The reason why no label can be used, and what to do."""
    if not labels.labeled_count:
        return (
            "no image with scores has a label yet: label a batch with a random share, and "
            f"materialize {store.pool}/images, or {store.pool}/labels of a labeling tool"
        )
    parts = {
        "came from the queue": labels.queue_count,
        "are of images in no batch": labels.unknown_count,
        "are older than these predictions, so that the model may know them": labels.older_count,
    }
    listed = ", ".join(f"{count:,} {words}" for words, count in parts.items() if count)
    advice = ["set random_share of batch to 0.1 or more and label that batch"]
    if labels.unknown_count:
        advice.append(
            "set labels_drawn_at_random of evaluation to true if a test set of random images has "
            "them"
        )
    if labels.older_count:
        advice.append(
            "evaluate before predictions are read again, or set labels_held_out of evaluation to "
            "true if random images stay out of training"
        )
    return (
        f"of {labels.labeled_count:,} labels none was drawn at random for these predictions: "
        f"{listed}. Labels from the queue cannot judge the queue: it picks the errors. To judge "
        f"it, {'; or '.join(advice)}"
    )


def _refused(labels: EvaluationLabels) -> RuleEvaluationReport:
    return RuleEvaluationReport(labels=labels, other_labels={}, curves={})


def _functions(rules: Rules) -> list[AcquisitionFunction]:
    return [each for each in ACQUISITION_FUNCTIONS.values() if each.applies_to(rules)]


def _orders(images: pl.DataFrame, stored: PredictionSet, rules: Rules) -> dict[Order, Floats]:
    """The uncertainties of images, the highest first, under every function that has scores.

    Of objects a mean is compared with a sum: by the image a sum finds most errors, by the box a
    mean. One follows from the other, whichever was scored.
    """
    n_classes = len(stored.class_names)
    counts = images["prediction_count"].to_numpy().astype(np.float64)
    orders: dict[Order, Floats] = {}
    for function in _functions(rules):
        scores = images[function.name].to_numpy().astype(np.float64)
        if not np.isfinite(scores).any():
            continue
        if not rules.objects or rules.aggregation in ("max", "min"):
            highest = function.label_first_under(rules.aggregation) == "highest"
            orders[function.name, rules.aggregation] = scores if highest else -scores
            continue
        if rules.aggregation == "mean":
            mean = function.uncertainty(scores, n_classes, rules.inputs)
            total = np.where(counts > 0, mean * counts, 0.0)
        else:
            total = scores
            # No object has the score 0, and so the uncertainty 1.
            mean = np.divide(total, counts, out=np.ones_like(total), where=counts > 0)
        if function.level != "object":
            mean = np.where(counts > 0, mean, np.nan)
        orders[function.name, "mean"], orders[function.name, "sum"] = mean, total
    if rules.objects:
        # Images without objects have no score but that of objects: elsewhere they come last.
        of_probs = [order for order in orders if ACQUISITION_FUNCTIONS[order[0]].level != "object"]
        for order in of_probs:
            orders[order] = np.where(counts > 0, orders[order], np.nanmin(orders[order]))
    return orders


def _report(
    labels: EvaluationLabels,
    images: pl.DataFrame,
    orders: Mapping[Order, Floats],
    judged: Judged,
    members: Sequence[JudgedMember],
    rules: Rules,
    evaluation: EvaluationRules,
    seed: int,
) -> RuleEvaluationReport:
    weights = images["weight"].to_numpy()
    named = {_name(order, rules): each for order, each in orders.items()}
    usual = "mean_object_score" if rules.objects else "margin"
    usual_orders = [_name(order, rules) for order in orders if order[0] == usual]
    against = next(iter([*usual_orders, *named]))
    comparisons = compare_rules(judged.errors, named, against=against, weights=weights, seed=seed)
    first = min(evaluation.first or FIRST_SHARE * weights.sum(), float(weights.sum()))
    error_rate = weighted_error_rate(judged.errors, weights)
    rows = [
        _row(order, comparisons[name], against, values, judged, weights, first, error_rate)
        for order, values in orders.items()
        for name in [_name(order, rules)]
    ]
    answer_by_box = None
    if judged.error_counts is not None and judged.box_counts is not None:
        by_box = compare_errors_per_box(
            judged.error_counts,
            judged.box_counts,
            named,
            first,
            against=against,
            weights=weights,
            seed=seed,
        )
        answer_by_box = conclusion(by_box, against=against, image_count=images.height)
    return RuleEvaluationReport(
        labels=labels,
        rows=sorted(rows, key=lambda row: -row.auroc),
        error_rate=error_rate,
        answer=conclusion(comparisons, against=against, image_count=images.height),
        answer_by_box=answer_by_box,
        other_labels=judged.other_labels,
        classes=judged.classes,
        calibration=judged.calibration,
        members=members,
        answer_about_members=(
            weak_members({each.name: each.effect for each in members}, image_count=images.height)
            if members
            else None
        ),
        curves={
            name: ErrorCurves(looked_at=looked_at, found=found, coverage=coverage, risk=risk)
            for name, values in named.items()
            for looked_at, found in [errors_found_curve(judged.errors, values, weights)]
            for coverage, risk in [risk_coverage_curve(judged.errors, values, weights)]
        },
    )


def _name(order: Order, rules: Rules) -> str:
    function, aggregation = order
    return f"{function}, {aggregation}" if rules.objects else function


def _row(
    order: Order,
    comparison: Comparison,
    against: str,
    values: Floats,
    judged: Judged,
    weights: Floats,
    first: float,
    error_rate: Estimate,
) -> RuleEvaluationRow:
    per_box = math.nan
    if judged.error_counts is not None and judged.box_counts is not None:
        per_box = errors_per_box(judged.error_counts, judged.box_counts, values, first, weights)
    function, aggregation = order
    return RuleEvaluationRow(
        acquisition_function=function,
        aggregation=aggregation,
        label_count=judged.errors.size,
        error_count=int(judged.errors.sum()),
        error_rate=error_rate.value,
        error_rate_standard_error=_finite(error_rate.standard_error),
        auroc=comparison.value,
        auroc_low=_finite(comparison.low),
        auroc_high=_finite(comparison.high),
        compared_with=against,
        difference=comparison.difference,
        difference_low=_finite(comparison.difference_low),
        difference_high=_finite(comparison.difference_high),
        average_precision=average_precision(judged.errors, values, weights),
        risk_coverage_area=risk_coverage_area(judged.errors, values, weights),
        first_images=first,
        error_rate_among_first=error_rate_among_first(judged.errors, values, first, weights),
        lift=lift(judged.errors, values, first, weights),
        errors_per_box=_finite(per_box),
    )


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
