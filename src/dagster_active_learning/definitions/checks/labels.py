"""The checks of ``<pool>/labels``."""

from __future__ import annotations

import dagster as dg

from dagster_active_learning.definitions.checks.check import WARN, CheckRun, check
from dagster_active_learning.definitions.pool import Pool


@check("known_classes", lambda _: "Every label is one of the classes that the model knows.")
def known_classes(run: CheckRun) -> dg.AssetCheckResult:
    """Labels that a model with these classes cannot be trained on."""
    from dagster_active_learning.store.labels import unknown_classes

    names = {name: None for stored in run.sets for name in stored.class_names}
    wrong = unknown_classes(run.store, list(names))
    return run.result(
        not wrong.count,
        f"{wrong.count:,} labels are of a class that the predictions do not have",
        {"unknown": wrong.count},
        wrong.examples,
    )


def _return_after_days(pool: Pool) -> int | None:
    return None if pool.batch is None else pool.batch.return_after_days


@check(
    "nothing_out_too_long",
    lambda pool: (
        None
        if (days := _return_after_days(pool)) is None
        else f"No image is in flight for more than {days} days."
    ),
)
def nothing_out_too_long(run: CheckRun) -> dg.AssetCheckResult:
    """Images that wait for their label for longer than the settings allow."""
    from dagster_active_learning.store.labeling_tasks import out_too_long

    wrong = out_too_long(run.store, _return_after_days(run.pool) or 0)
    return run.result(
        not wrong.count,
        f"{wrong.count:,} images are in flight for longer"
        + ": the next batch takes them back" * bool(wrong.count),
        {"overdue": wrong.count},
        wrong.examples,
        WARN,
    )


CHECKS = (known_classes, nothing_out_too_long)
