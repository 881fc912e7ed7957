"""The checks of ``<pool>/model_churn``."""

from __future__ import annotations

from typing import Any

import dagster as dg

from dagster_active_learning.definitions.checks.check import WARN, CheckRun, check


@check(
    "few_classes_changed",
    lambda pool: (
        None
        if pool.churn is None
        else f"At most {pool.churn.max_changed_share:.1%} of the images have another predicted "
        "class than in the prediction set that it is compared with."
    ),
)
def few_classes_changed(run: CheckRun) -> dg.AssetCheckResult:
    """Prediction sets that say much that others did not."""
    from dagster_active_learning.flow import churn_report

    settings = run.pool.churn
    if settings is None:
        return run.result(False, "the pool compares no prediction sets any more", {}, severity=WARN)
    reports = [
        churn_report(run.store, name, before=settings.against, functions=()) for name in run.names
    ]
    rows: list[dict[str, Any]] = [
        {
            "prediction_set": report.after,
            "compared_with": report.before,
            "changed": report.churn.changed_count,
            "images": report.churn.image_count,
            "share": report.churn.changed_share,
        }
        for report in reports
        if report is not None
    ]
    above = [row for row in rows if row["share"] > settings.max_changed_share]
    most = max((row["share"] for row in rows), default=0.0)
    apart = [row for row in rows if not row["images"]]
    if apart:
        return run.result(
            False,
            f"{len(apart)} prediction sets have no image in common with the one that they are "
            "compared with",
            {"largest_changed_share": most, "above": len(above)},
            apart,
            severity=WARN,
        )
    return run.result(
        not above,
        f"at most {most:.1%} of the images of a prediction set changed their class, of "
        f"{settings.max_changed_share:.1%} that may",
        {"largest_changed_share": most, "above": len(above)},
        above,
        severity=WARN,
    )


CHECKS = (few_classes_changed,)
