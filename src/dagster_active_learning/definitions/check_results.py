"""What a pool's asset checks find, with numbers and examples. Loaded when a check runs."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

import dagster as dg
from dagster._core.storage.asset_check_execution_record import (
    COMPLETED_ASSET_CHECK_EXECUTION_RECORD_STATUSES,
)

from dagster_active_learning.acquisition.functions import ACQUISITION_FUNCTIONS, AcquisitionFunction
from dagster_active_learning.definitions.metadata import rows_table
from dagster_active_learning.store import (
    findings,
    image_scores,
    images,
    labeling_candidates,
    prediction_sets,
    predictions,
    rankings,
)
from dagster_active_learning.store.pool_store import PoolStore
from dagster_active_learning.store.prediction_sets import PredictionSet
from dagster_active_learning.store.quarantined_predictions import quarantined_by_reason
from dagster_active_learning.text import shown

if TYPE_CHECKING:
    from dagster_active_learning.definitions.component import ActiveLearningComponent

SCORE_TOLERANCE = 0.01
"""How far outside its bounds a score may be, as a share of their distance.

Class probabilities may be off by 1e-3 each and in sum. That carries the margin of two classes to
1.002, and the entropy of 1,000 classes 0.0085 bits over log2 K.
"""

CLASS_NAMES_KEPT = 1_000
CLASS_NAME_BYTES = 60
"""Of so many names; an event takes 100 KB at the most."""

EVALUATIONS_SEARCHED = 100

_WARN, _ERROR = dg.AssetCheckSeverity.WARN, dg.AssetCheckSeverity.ERROR


@dataclass(frozen=True)
class CheckRun:
    """What one check is evaluated on.

    Attributes:
        component: The pool's settings.
        context: The context of the step.
        store: The pool, open for reading.
        key: Which check it is.
        sets: The prediction sets to look at, at least one.
        functions: The acquisition functions, by the asset of their candidates.
    """

    component: ActiveLearningComponent
    context: dg.AssetCheckExecutionContext
    store: PoolStore
    key: dg.AssetCheckKey
    sets: Sequence[PredictionSet]
    functions: Mapping[dg.AssetKey, AcquisitionFunction]

    @property
    def names(self) -> list[str]:
        """The names of the prediction sets."""
        return [one.prediction_set for one in self.sets]

    @property
    def function(self) -> AcquisitionFunction:
        """The acquisition function of the candidates that are checked."""
        return self.functions[self.key.asset_key]

    @property
    def partitioned(self) -> bool:
        """Whether a prediction set is a partition."""
        return self.component.partitions_def is not None

    def result(
        self,
        passed: bool,
        description: str,
        numbers: Mapping[str, Any],
        examples: Sequence[Mapping[str, Any]] = (),
        severity: dg.AssetCheckSeverity = _ERROR,
    ) -> dg.AssetCheckResult:
        """The result with its numbers, and with the first examples of what is wrong."""
        hidden = () if self.partitioned else ("prediction_set",)
        rows = [
            {name: value for name, value in row.items() if name not in hidden}
            for row in examples[: findings.EXAMPLES]
        ]
        return dg.AssetCheckResult(
            asset_key=self.key.asset_key,
            check_name=self.key.name,
            passed=passed,
            severity=severity,
            description=description,
            metadata={
                **numbers,
                **({"prediction_sets": len(self.sets)} if self.partitioned else {}),
                **({"examples": rows_table(rows)} if rows else {}),
            },
        )


# predictions


def valid_class_probabilities(run: CheckRun) -> dg.AssetCheckResult:
    """Too large a share of a set in quarantine."""
    allowed = run.component.max_quarantined_share
    by_share = sorted(run.sets, key=_quarantined_share, reverse=True)
    worst, share = by_share[0], _quarantined_share(by_share[0])
    reasons = [
        {"prediction_set": one.prediction_set, **reason}
        for one in by_share[: findings.EXAMPLES]
        if one.quarantined_count
        for reason in quarantined_by_reason(run.store, one.prediction_set).to_dicts()
    ]
    where = f" of the prediction set {shown(worst.prediction_set)!r}" * run.partitioned
    return run.result(
        share <= allowed,
        f"{worst.quarantined_count:,} of {_row_count(worst):,} rows{where} cannot be scored: "
        f"{share:.2%}, at most {allowed:.2%} may be",
        {
            "rows": sum(map(_row_count, run.sets)),
            "quarantined": sum(one.quarantined_count for one in run.sets),
            "quarantined_share": share,
            "max_quarantined_share": allowed,
        },
        reasons,
    )


def no_duplicate_predictions(run: CheckRun) -> dg.AssetCheckResult:
    """The same prediction of the same image twice."""
    objects = run.component.rules.objects
    found = predictions.duplicate_predictions(run.store, run.names, objects=objects)
    count = sum(one.prediction_count for one in run.sets)
    return run.result(
        not found.count,
        f"{found.count:,} of {count:,} predictions repeat another one of the same image",
        {"predictions": count, "duplicates": found.count},
        found.examples,
        # Members of an ensemble may agree to the last digit about an image they are sure of.
        _ERROR if objects else _WARN,
    )


def class_names_unchanged(run: CheckRun) -> dg.AssetCheckResult:
    """Other classes than in the set that was read before, or the same in another order."""
    changes: list[dict[str, Any]] = []
    changed: list[PredictionSet] = []
    compared = 0
    for one in run.sets:
        now, before = _ClassNames.of(one.class_names), _class_names_before(run, one)
        if before is None:
            continue
        compared += 1
        if now.sha256 == before.sha256:
            continue
        changed.append(one)
        changes += [
            {"prediction_set": one.prediction_set, "class_index": index, "before": old, "now": new}
            for index, (old, new) in enumerate(zip_longest(before.first, now.first))
            if old != new
        ]
    last = run.sets[-1]
    names = _ClassNames.of(last.class_names)
    numbers = {
        "compared": compared,
        "changed": len(changed),
        "classes": len(last.class_names),
        "class_names": dg.MetadataValue.json(names.first),
        "class_names_sha256": names.sha256,
        "predictions_run_id": last.run_id,
    }
    if not compared:
        description = "there is no former prediction set to compare with"
    elif not changed:
        description = "the classes are those of the set that was read before"
    else:
        description = (
            f"{len(changed)} of {compared} prediction sets have other classes, or another order of "
            "them, than the set that was read before"
        )
    # Objects without class probabilities have the classes that happen to be found.
    happened = all(one.prediction_count == one.score_only_count for one in changed)
    return run.result(not changed, description, numbers, changes, _WARN if happened else _ERROR)


def pool_coverage(run: CheckRun) -> dg.AssetCheckResult:
    """Images of the manifest without predictions."""
    wanted = run.component.wanted_coverage
    covered = images.coverage(run.store, run.names)
    shares = {one.prediction_set: 1 - one.without_count / one.image_count for one in covered}
    share = min(shares.values(), default=1.0)
    short = [name for name, of_set in shares.items() if of_set < wanted]
    unlabeled = sum(one.image_count for one in covered)
    without = sum(one.without_count for one in covered)
    where = " of the worst prediction set" * run.partitioned
    return run.result(
        not short,
        f"{without:,} of {unlabeled:,} images without a label have no predictions: "
        f"{share:.2%}{where} are covered, {wanted:.2%} should be",
        {
            "images_without_label": unlabeled,
            "images_without_predictions": without,
            "coverage": share,
            "min_coverage": wanted,
        },
        images.uncovered_images(run.store, short or run.names),
        _WARN,
    )


# image scores


def every_image_scored(run: CheckRun) -> dg.AssetCheckResult:
    """Images without a row of scores, or with another one than their predictions give."""
    component = run.component
    found = image_scores.wrongly_scored_images(run.store, run.names, component.rules)
    return run.result(
        not found.count,
        f"{found.count:,} images are not scored by the predictions that they have"
        + ": materialize the scores again" * bool(found.count),
        {
            "rows": image_scores.scored_image_count(run.store, run.names),
            "wrongly_scored": found.count,
        },
        found.examples,
    )


def scores_in_bounds(run: CheckRun) -> dg.AssetCheckResult:
    """Scores that their acquisition function cannot give."""
    inputs = run.component.rules.inputs
    bounds = [one for stored in run.sets for one in _bounds(stored, inputs)]
    found = image_scores.scores_out_of_bounds(run.store, bounds)
    return run.result(
        not found.count,
        f"{found.count:,} scores are outside the bounds of their acquisition function",
        {
            "rows": image_scores.scored_image_count(run.store, run.names),
            "out_of_bounds": found.count,
        },
        found.examples,
    )


# labeling candidates


def ranks_without_gaps(run: CheckRun) -> dg.AssetCheckResult:
    """Ranks that are missing or there twice, images that are, and ranks below worse ones."""
    found = labeling_candidates.broken_ranks(
        run.store, run.names, run.function, run.component.rules
    )
    return _ranking_result(
        run, found, "do not follow the rank before, come too late or have an image twice"
    )


def no_labeled_candidates(run: CheckRun) -> dg.AssetCheckResult:
    """Candidates that need no label any more."""
    found = labeling_candidates.labeled_candidates(run.store, run.names, run.function)
    return _ranking_result(run, found, "have their label already")


def candidates_are_fresh(run: CheckRun) -> dg.AssetCheckResult:
    """Rankings of scores or predictions that are others now, and images they should have."""
    component, function = run.component, run.function
    outdated = labeling_candidates.outdated_candidates(
        run.store, run.names, function, component.rules
    )
    missing = labeling_candidates.missing_candidates(
        run.store,
        [
            one.prediction_set
            for one in run.sets
            if function.can_rank(component.rules, has_class_probs=one.has_class_probs)
        ],
        function,
        component.rules,
        limit=component.limit,
    )
    older = rankings.older_rankings(run.store, run.names, function)
    count = labeling_candidates.candidate_count(run.store, run.names, function)
    wrong = outdated.count + missing.count
    return run.result(
        not wrong and not older.count,
        f"{outdated.count:,} of {count:,} candidates have other scores now or left the manifest, "
        f"{missing.count:,} images should be candidates and are not, {older.count:,} of "
        f"{len(run.sets):,} rankings are older than their predictions"
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
        _ERROR if wrong else _WARN,
    )


RESULTS: Mapping[str, Callable[[CheckRun], dg.AssetCheckResult]] = {
    evaluate.__name__: evaluate
    for evaluate in (
        valid_class_probabilities,
        no_duplicate_predictions,
        class_names_unchanged,
        pool_coverage,
        every_image_scored,
        scores_in_bounds,
        ranks_without_gaps,
        no_labeled_candidates,
        candidates_are_fresh,
    )
}
"""What evaluates each check, by the check's name."""


@dataclass(frozen=True)
class _ClassNames:
    """Class names as an evaluation keeps them: the hash of all, and the first to be shown."""

    sha256: str
    first: Sequence[str]

    @staticmethod
    def of(names: Sequence[str]) -> _ClassNames:
        sha256 = hashlib.sha256(json.dumps(list(names)).encode()).hexdigest()
        first = [shown(name, CLASS_NAME_BYTES) for name in names[:CLASS_NAMES_KEPT]]
        return _ClassNames(sha256, first)


def _class_names_before(run: CheckRun, stored: PredictionSet) -> _ClassNames | None:
    """The class names of the set that was read before this one, where they are known.

    In a pool with partitions it is in the database. Where it was overwritten, the check itself
    remembers it: the last evaluation of predictions that another run had read.
    """
    names = prediction_sets.former_class_names(run.store, stored.prediction_set)
    if names is not None:
        return _ClassNames.of(names)
    history = run.context.instance.event_log_storage.get_asset_check_execution_history(
        run.key,
        limit=EVALUATIONS_SEARCHED,
        status=COMPLETED_ASSET_CHECK_EXECUTION_RECORD_STATUSES,
    )
    for record in history:
        event = record.event.dagster_event if record.event else None
        known = event.asset_check_evaluation_data.metadata if event else {}
        values: dict[str, Any] = {name: value.value for name, value in known.items()}
        if values.get("predictions_run_id", stored.run_id) != stored.run_id:
            return _ClassNames(values["class_names_sha256"], values["class_names"])
    return None


def _bounds(stored: PredictionSet, inputs: str) -> Iterator[image_scores.Bounds]:
    """The bounds of a set's scores."""
    class_counts = [len(stored.class_names)] if stored.has_class_probs else []
    if stored.score_only_count or not class_counts:
        # A lone score is a probability of two classes, where it is declared to be one; what an
        # image without objects has does not depend on classes.
        class_counts.append(2)
    for function in ACQUISITION_FUNCTIONS.values():
        pairs = [function.bounds(count, inputs) for count in class_counts]
        lowest, highest = min(low for low, _ in pairs), max(high for _, high in pairs)
        tolerance = SCORE_TOLERANCE * (highest - lowest)
        yield image_scores.Bounds(stored.prediction_set, function.name, lowest, highest, tolerance)


def _ranking_result(run: CheckRun, found: findings.Findings, problem: str) -> dg.AssetCheckResult:
    count = labeling_candidates.candidate_count(run.store, run.names, run.function)
    return run.result(
        not found.count,
        f"{found.count:,} of {count:,} candidates {problem}"
        + ": materialize the candidates again" * bool(found.count),
        {"candidates": count, "wrong": found.count},
        found.examples,
    )


def _row_count(stored: PredictionSet) -> int:
    return stored.prediction_count + stored.quarantined_count


def _quarantined_share(stored: PredictionSet) -> float:
    return stored.quarantined_count / max(_row_count(stored), 1)
