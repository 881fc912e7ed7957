"""The checks of ``<pool>/labeling_tasks``."""

from __future__ import annotations

import dagster as dg

from dagster_active_learning.definitions.checks.check import CheckRun, check


@check(
    "every_image_is_there",
    lambda _: "Every image of a batch that was to be sent is known to be in the tool.",
)
def every_image_is_there(run: CheckRun) -> dg.AssetCheckResult:
    """Images of which a failed run did not learn whether they arrived."""
    from dagster_active_learning.store.labeling_tasks import not_there

    wrong = not_there(run.store)
    return run.result(
        not wrong.count,
        f"{wrong.count:,} images are not known to be in the tool"
        + ": materialize the tasks again, which sends those that are missing" * bool(wrong.count),
        {"pending": wrong.count},
        wrong.examples,
    )


CHECKS = (every_image_is_there,)
