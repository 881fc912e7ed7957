"""A pool -> its definitions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import dagster as dg

from dagster_active_learning.definitions.assets import ASSETS
from dagster_active_learning.definitions.automation import pool_job, pool_schedule
from dagster_active_learning.definitions.checks.check import check_step
from dagster_active_learning.definitions.label_sensor import label_sensor
from dagster_active_learning.definitions.pool import Pool
from dagster_active_learning.definitions.sensors import prediction_file_sensor
from dagster_active_learning.definitions.sources import PredictionFiles
from dagster_active_learning.definitions.specs import PoolSpecs


def pool_specs(pool: Pool) -> PoolSpecs:
    """The specs of all assets that a pool has.

    Raises:
        SettingError: If the pool's ``get_asset_spec`` gives what cannot be.
    """
    specs = PoolSpecs(pool)
    for asset in ASSETS:
        for outline in asset.outlines(pool, specs):
            specs.add(asset.table, outline)
    specs.check_keys()
    return specs


def pool_definitions(pool: Pool, *, metadata: Mapping[str, Any] | None = None) -> dg.Definitions:
    """A pool's assets, checks, job, sensor and schedule, to be merged with the resources.

    Args:
        pool: The pool.
        metadata: What to add to the metadata of each asset's definition, where its spec has
            nothing under the same name.

    Raises:
        SettingError: If the pool's ``get_asset_spec`` gives what cannot be.
    """
    specs = pool_specs(pool)
    existing = [asset for asset in ASSETS if specs.of_table(asset.table)]
    job = pool_job(pool.name, [spec.key for spec in specs])
    added = metadata or {}
    return dg.Definitions(
        assets=[
            # What `get_asset_spec` says is not overwritten.
            asset.step(pool, specs).map_asset_specs(
                lambda spec: spec.replace_attributes(metadata={**added, **spec.metadata})
            )
            for asset in existing
        ],
        asset_checks=[
            check_step(pool, specs, asset.table, asset.checks)
            for asset in existing
            if any(check.sentence(pool) for check in asset.checks)
        ],
        jobs=[job],
        sensors=_sensors(pool, specs),
        schedules=[pool_schedule(pool.name, pool.schedule, job, pool.partitions_def)]
        if pool.schedule
        else [],
    )


def _sensors(pool: Pool, specs: PoolSpecs) -> list[dg.SensorDefinition]:
    of_labels = (
        [label_sensor(pool.name, pool.labeling, specs.key("labels"))] if pool.labeling else []
    )
    return [*_prediction_sensors(pool, specs), *of_labels]


def _prediction_sensors(pool: Pool, specs: PoolSpecs) -> list[dg.SensorDefinition]:
    if pool.sensor is None or not isinstance(pool.predictions, PredictionFiles):
        return []
    manifest = specs.keys("images")
    sensor = prediction_file_sensor(
        pool.name,
        pool.predictions,
        pool.sensor,
        partitions_def=pool.partitions_def,
        # Not the manifest: reading it again would make the rankings of all partitions outdated.
        targets=[spec.key for spec in specs if spec.key not in manifest],
        manifest=manifest[0] if manifest else None,
    )
    return [sensor]
