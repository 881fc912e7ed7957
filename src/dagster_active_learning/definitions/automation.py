"""A pool by itself: the condition that its assets follow, its job and its schedule."""

from __future__ import annotations

from typing import TYPE_CHECKING

import dagster as dg

from dagster_active_learning.errors import SettingError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dagster._core.definitions.unresolved_asset_job_definition import (
        UnresolvedAssetJobDefinition,
    )

FOLLOW_UPSTREAM = (
    dg.AutomationCondition.any_deps_updated().since_last_handled()
    & ~dg.AutomationCondition.any_deps_missing()
    & ~dg.AutomationCondition.any_deps_in_progress()
    & ~dg.AutomationCondition.in_progress()
).with_label("follow_upstream")
"""True when an upstream asset was materialized without this one, of the same partition.

It is ``AutomationCondition.eager()`` but for two parts. Partitions that are missing are not asked
for: at a tick that falls in the moment in which a run of the sensor is done with them, eager asks
for them again. And old time partitions follow too. A tick that falls in the moment in which such a
run stores a ranking may still ask for that ranking once more, which comes to the same.
"""


def check_schedule(schedule: str | None, partitions_def: dg.PartitionsDefinition | None) -> None:
    """Raise SettingError unless ``schedule`` is a cron string that tells the partition it means."""
    if schedule is None:
        return
    if not isinstance(partitions_def, (dg.TimeWindowPartitionsDefinition, type(None))):
        raise SettingError(
            "schedule",
            f"schedule is {schedule!r}, but the time does not say which partition of "
            f"{partitions_def} is to be read: leave it out, and let sensor or automation follow "
            "the predictions",
        )
    try:
        dg.ScheduleDefinition(name="schedule", cron_schedule=schedule, target="*")
    except dg.DagsterInvalidDefinitionError as error:
        raise SettingError(
            "schedule", f"schedule is {schedule!r}, expected a cron string such as '0 6 * * *'"
        ) from error


def check_freshness_policy(freshness_policy: dg.FreshnessPolicy | None) -> None:
    """Raise SettingError unless Dagster can tell by it how old the candidates may be."""
    if not isinstance(freshness_policy, (dg.FreshnessPolicy, type(None))):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise SettingError(
            "freshness_policy",
            f"freshness_policy is {freshness_policy!r}, expected a FreshnessPolicy; in YAML a "
            "template such as {{ dg.FreshnessPolicy.time_window(datetime.timedelta(days=7)) }}",
        )


def pool_job(pool: str, keys: Sequence[dg.AssetKey]) -> UnresolvedAssetJobDefinition:
    """The job that materializes all assets of a pool, its manifest too."""
    return dg.define_asset_job(
        f"{pool}__labeling",
        selection=dg.AssetSelection.assets(*keys),
        description=f"Ranks the images of the pool {pool}: all its assets, from the predictions.",
    )


def pool_schedule(
    pool: str,
    cron_schedule: str,
    job: UnresolvedAssetJobDefinition,
    partitions_def: dg.PartitionsDefinition | None,
) -> dg.ScheduleDefinition:
    """The schedule of a pool's job; of time partitions it asks for the last that is complete."""
    name = f"{pool}__labeling_schedule"
    if not isinstance(partitions_def, dg.TimeWindowPartitionsDefinition):
        return dg.ScheduleDefinition(name=name, job=job, cron_schedule=cron_schedule)

    @dg.schedule(
        name=name,
        job=job,
        cron_schedule=cron_schedule,
        execution_timezone=partitions_def.timezone,
    )
    def last_partition(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
        with dg.partition_loading_context(context.scheduled_execution_time):
            key = partitions_def.get_last_partition_key()
        return dg.RunRequest(partition_key=key) if key else dg.SkipReason("no partition is over")

    return last_partition
