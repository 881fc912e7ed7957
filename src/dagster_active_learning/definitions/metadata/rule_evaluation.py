"""Metadata of ``<pool>/rule_evaluation``: what follows in a sentence, numbers, curves, classes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from dagster_active_learning.definitions.metadata.labeling_candidates import picture
from dagster_active_learning.definitions.metadata.lineage import lineage_metadata
from dagster_active_learning.definitions.metadata.tables import (
    Metadata,
    interval,
    rows_table,
    sentences,
    table_metadata,
)
from dagster_active_learning.text import shown

if TYPE_CHECKING:
    from dagster_active_learning.definitions.pool import Pool
    from dagster_active_learning.evaluation import Calibration
    from dagster_active_learning.flow import RuleEvaluationReport
    from dagster_active_learning.flow.members import JudgedMember
    from dagster_active_learning.store.pool_store import PoolStore
    from dagster_active_learning.store.rule_evaluations import RuleEvaluationRow

QUESTION = (
    "Which function puts images first that this model, as it is, gets wrong? Which one gains most "
    "by retraining is another question, and the order may be another: where models were trained "
    "again, margin won, and entropy was worse than random images though it finds errors well."
)

CLASSES_SHOWN = 30
MEMBERS_SHOWN = 30


class EvaluationMetadata:
    """The metadata of an evaluation that is in the database, or of why there is none.

    Args:
        store: The pool's tables.
        pool: The pool.
        prediction_set: The set whose rules were evaluated.
        report: The evaluation.

    Attributes:
        numbers: All but the pictures.
        refusal: The reason why nothing was evaluated, None where it was.
        text: The evaluation as the log ends with it.
    """

    def __init__(
        self, store: PoolStore, pool: Pool, prediction_set: str, report: RuleEvaluationReport
    ) -> None:
        from dagster_active_learning.store.prediction_sets import prediction_set as stored_set

        stored = stored_set(store, prediction_set)
        self._report = report
        self.refusal = report.labels.refusal
        labels = report.labels
        counts = {
            "random_labels": labels.images.height,
            "labels": labels.labeled_count,
            "labels_of_queue": labels.queue_count,
            "labels_older_than_predictions": labels.older_count,
            "labels_of_unknown_choice": labels.unknown_count,
        }
        found = {"not_evaluated": sentences(self.refusal)} if self.refusal else _found(report, pool)
        self.numbers: Metadata = {
            **found,
            "question": sentences(QUESTION),
            **counts,
            **lineage_metadata(store, stored),
            **table_metadata(store, "rule_evaluations", len(report.rows)),
        }
        table = f"{store.database}.{store.schema}.rule_evaluations"
        self.text = _text(pool, report, table)

    def drawn(self) -> Metadata:
        """The metadata with the curves and the reliability diagram behind the sentence."""
        from dagster_active_learning.gallery import Line, error_curves

        report = self._report
        if not report.curves:
            return self.numbers
        lines = report.curves.items()
        curves = error_curves(
            [Line(name=name, x=each.looked_at, y=each.found) for name, each in lines],
            [Line(name=name, x=each.coverage, y=each.risk) for name, each in lines],
            title=f"Errors among {report.labels.images.height:,} labels drawn at random",
        )
        answers = {name: value for name, value in self.numbers.items() if name.startswith("answer")}
        return {
            **answers,
            "curves": picture(curves, "Errors found, and risk over coverage, of each function"),
            **_reliability(report.calibration),
            **self.numbers,
        }


def _found(report: RuleEvaluationReport, pool: Pool) -> Metadata:
    """What an evaluation has found: sentences, tables, and numbers that the UI plots over time."""
    rate = report.error_rate
    numbers: dict[str, Any] = {
        **{
            name: None if answer is None else sentences(answer)
            for name, answer in {
                "answer": report.answer,
                "answer_by_box": report.answer_by_box,
                "answer_about_members": report.answer_about_members,
            }.items()
        },
        "rules": rows_table([_shown(row, pool) for row in report.rows]),
        "members": _members(report.members),
        "by_class": _classes(report, pool),
        "errors": report.rows[0].error_count,
        "error_rate": None if rate is None else round(rate.value, 4),
        "error_rate_standard_error": report.rows[0].error_rate_standard_error,
        "labels_of_no_class": sum(report.other_labels.values()),
        **{f"auroc_{_plain(row, pool)}": round(row.auroc, 4) for row in report.rows},
        **_calibrated(report.calibration),
    }
    return {name: value for name, value in numbers.items() if value is not None}


def _name(row: RuleEvaluationRow, pool: Pool) -> str:
    of_objects = f", {row.aggregation}" if pool.rules.objects else ""
    return f"{row.acquisition_function}{of_objects}"


def _plain(row: RuleEvaluationRow, pool: Pool) -> str:
    return _name(row, pool).replace(", ", "_")


def _shown(row: RuleEvaluationRow, pool: Pool) -> dict[str, Any]:
    shown_row = {
        "function": _name(row, pool),
        "AUROC": row.auroc,
        f"minus {row.compared_with}": row.difference,
        "its 95 % interval": interval(row.difference_low, row.difference_high),
        "interval of AUROC": interval(row.auroc_low, row.auroc_high),
        "average precision": row.average_precision,
        "risk-coverage area": row.risk_coverage_area,
        f"error rate among the first {row.first_images:,.0f}": row.error_rate_among_first,
        "lift": row.lift,
    }
    return shown_row | ({"errors per box": row.errors_per_box} if pool.rules.objects else {})


def _classes(report: RuleEvaluationReport, pool: Pool) -> Any:
    shown_classes = report.classes[:CLASSES_SHOWN]
    if pool.rules.objects:
        rows = [
            {
                "class": each.name,
                "boxes": each.label_count,
                "not found": each.error_count,
                "false positives": each.false_positive_count,
            }
            for each in shown_classes
        ]
    else:
        rows = [
            {
                "class": each.name,
                "labels": each.label_count,
                "errors": each.error_count,
                "error rate": each.error_count / each.label_count,
                "others taken for it": each.false_positive_count,
                "most taken for": each.most_taken_for,
            }
            for each in shown_classes
        ]
    return rows_table(rows) if rows else None


def _members(members: Sequence[JudgedMember]) -> Any:
    """The members of a committee: what each is by itself, and what the others are without it."""
    rows = [
        {
            "member": each.name,
            "better without it": "yes" if each.effect.is_weak else "not found",
            "its own error rate": each.error_rate,
            "error rate without it": rate.value,
            "more errors without it": rate.difference,
            "interval of errors": interval(rate.difference_low, rate.difference_high),
            "AUROC of margin without it": area.value,
            "more AUROC without it": area.difference,
            "interval of AUROC": interval(area.difference_low, area.difference_high),
            "labels": each.vote_count,
        }
        for each in members[:MEMBERS_SHOWN]
        for rate, area in [(each.effect.error_rate, each.effect.auroc)]
    ]
    return rows_table(rows) if rows else None


def _calibrated(calibration: Calibration | None) -> Metadata:
    if calibration is None:
        return {}
    return {
        "calibration_error": round(calibration.expected_error, 4),
        "class_wise_calibration_error": round(calibration.class_wise_error, 4),
        "brier_score": round(calibration.brier, 4),
        "temperature": round(calibration.temperature, 3),
        "calibration_error_at_temperature": round(calibration.expected_error_at_temperature, 4),
    }


def _reliability(calibration: Calibration | None) -> Metadata:
    from dagster_active_learning.gallery import reliability_diagram

    if calibration is None:
        return {}
    bins, after = calibration.bins, calibration.bins_at_temperature
    diagram = reliability_diagram(
        {
            "as it is": (bins.confidence, bins.accuracy),
            f"at temperature {calibration.temperature:.2f}": (after.confidence, after.accuracy),
        },
        bins.weights,
        title=f"Reliability: calibration error {calibration.expected_error:.3f}",
    )
    return {"reliability": picture(diagram, "Accuracy over confidence")}


def _text(pool: Pool, report: RuleEvaluationReport, table: str) -> str:
    """The evaluation as a table of a few columns, for the log."""
    if report.error_rate is None:
        return report.labels.refusal or ""
    heading = (
        f"Which rule finds the errors of pool {pool.name}: {report.answer}"
        + f"; by the box: {report.answer_by_box}" * bool(report.answer_by_box)
        + f"\n{report.answer_about_members}" * bool(report.answer_about_members)
    )
    rate = f"error rate {report.error_rate.value:.4f} ± {report.error_rate.standard_error:.4f}"
    lines: Sequence[str] = [
        f"{shown(_name(row, pool), 40):<28}  {row.auroc:.4f}  {row.difference:+.4f}  {row.lift:.2f}"
        for row in report.rows
    ]
    columns = f"{'function':<28}  AUROC   diff.    lift"
    return "\n".join([heading, rate, columns, *lines, f"All of them: FROM {table}"])
