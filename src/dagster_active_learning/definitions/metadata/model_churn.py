"""Metadata of ``<pool>/model_churn``: numbers over time, changes by pairs of classes, rankings."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dagster_active_learning.definitions.metadata.tables import Metadata, rows_table

if TYPE_CHECKING:
    from dagster_active_learning.flow import ChurnReport

PAIRS_SHOWN = 20


def churn_metadata(report: ChurnReport | None) -> Metadata:
    """The changes from one prediction set to another; the reason where there is no other."""
    if report is None:
        return {
            "dagster/row_count": 0,
            "not_compared": "there is no prediction set to compare this one with",
        }
    churn, names = report.churn, report.class_names
    metadata: Metadata = {
        "dagster/row_count": churn.changed_count,
        "compared_with": report.before,
        "images": churn.image_count,
        "changed_share": round(churn.changed_share, 4),
        "labels": churn.labeled_count,
        "new_errors": churn.new_errors,
        "fixed_errors": churn.fixed,
    }
    unchanged = churn.labeled_count - churn.labeled_changed
    if churn.labeled_changed:
        metadata["error_rate_of_changed"] = round(churn.wrong_changed / churn.labeled_changed, 4)
    if unchanged:
        metadata["error_rate_of_others"] = round(churn.wrong_unchanged / unchanged, 4)
    pairs = [
        {"before": names[before], "after": names[after], "images": count}
        for (before, after), count in churn.pairs.items()
    ]
    if pairs:
        metadata["changes"] = rows_table(pairs[:PAIRS_SHOWN])
    functions = [
        {
            "function": each.name,
            "mean score before": each.mean_before,
            "mean score after": each.mean_after,
            "candidates": each.candidates,
            "candidates of both": each.common_candidates,
        }
        for each in report.functions
    ]
    return metadata | {"rankings": rows_table(functions)}
