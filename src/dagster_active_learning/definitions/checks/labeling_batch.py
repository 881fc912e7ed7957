"""The checks of ``<pool>/labeling_batch``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import dagster as dg

from dagster_active_learning.definitions.checks.check import WARN, CheckRun, check

if TYPE_CHECKING:
    from dagster_active_learning.store.findings import Findings


@check(
    "no_image_twice", lambda _: "No image is in two batches, or twice in one, unless it came back."
)
def no_image_twice(run: CheckRun) -> dg.AssetCheckResult:
    """Images that people would be asked to label a second time."""
    from dagster_active_learning.store.labeling_batches import images_twice

    return _result(run, images_twice(run.store), "are in batches more than once")


@check(
    "no_labeled_images",
    lambda pool: (
        "The manifest says of no image of the open batch it is labeled." if pool.manifest else None
    ),
)
def no_labeled_images(run: CheckRun) -> dg.AssetCheckResult:
    """Images that need no label any more."""
    from dagster_active_learning.store.labeling_batches import labeled_in_batch

    return _result(run, labeled_in_batch(run.store), "have their label already")


@check("no_images_in_flight", lambda _: "No image of the open batch is in flight.")
def no_images_in_flight(run: CheckRun) -> dg.AssetCheckResult:
    """Images that are out with an earlier batch."""
    from dagster_active_learning.store.labeling_batches import in_flight_in_batch

    return _result(run, in_flight_in_batch(run.store), "are in flight with an earlier batch")


@check(
    "quotas_met",
    lambda _: (
        "The batch has as many images, random ones and images of each class as the settings ask "
        "for, and says why where it has not."
    ),
)
def quotas_met(run: CheckRun) -> dg.AssetCheckResult:
    """Batches that are short, for a reason that somebody may want to know."""
    from dagster_active_learning.store.labeling_batches import last_selection

    selection, batch = last_selection(run.store), run.pool.batch
    if selection is None or batch is None:
        return run.result(False, "there is no batch: materialize it first", {}, severity=WARN)
    wanted_random = batch.random_count(selection.image_count)
    reasons = [selection.shortfall] if selection.shortfall else []
    if selection.full_classes:
        reasons.append(
            f"max_per_class {batch.max_per_class} left out images of "
            f"{', '.join(selection.full_classes[:5])}"
        )
    is_met = selection.image_count == selection.wanted_count
    return run.result(
        is_met,
        f"batch {selection.batch} has {selection.image_count:,} of {selection.wanted_count:,} "
        f"images, {selection.random_count:,} of them random"
        + "".join(f"; {reason}" for reason in reasons),
        {
            "images": selection.image_count,
            "wanted": selection.wanted_count,
            "random": selection.random_count,
            "wanted_random": wanted_random,
        },
        severity=WARN,
    )


CHECKS = (no_image_twice, no_labeled_images, no_images_in_flight, quotas_met)


def _result(run: CheckRun, wrong: Findings, problem: str) -> dg.AssetCheckResult:
    return run.result(
        not wrong.count,
        f"{wrong.count:,} images {problem}" + ": materialize the batch again" * bool(wrong.count),
        {"wrong": wrong.count},
        wrong.examples,
    )
