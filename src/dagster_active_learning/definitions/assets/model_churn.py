"""``<pool>/model_churn``: what a model says differently from the one before."""

from __future__ import annotations

from functools import partial
from typing import cast

import dagster as dg

from dagster_active_learning.definitions.assets.asset import Results, TableAsset, asset_step
from dagster_active_learning.definitions.checks.model_churn import CHECKS
from dagster_active_learning.definitions.churn import ModelChurn
from dagster_active_learning.definitions.code_versions import changed
from dagster_active_learning.definitions.metadata.model_churn import ChurnMetadata
from dagster_active_learning.definitions.partitions import (
    Materialized,
    collected,
    materialized,
    prediction_sets,
)
from dagster_active_learning.definitions.pool import Pool
from dagster_active_learning.definitions.specs import Outline, PoolSpecs

TABLE = "model_churn"

QUEUE_SHOWN = 100
"""Candidates that are asked for, where no batch says how many."""


def _outlines(pool: Pool, specs: PoolSpecs) -> list[Outline]:
    if pool.churn is None:
        return []
    against = pool.churn.against
    outline = Outline(
        deps=[
            *specs.keys("labeling_candidates"),
            *specs.keys("images"),
            *specs.keys("labels"),
        ],
        description=(
            "Images whose predicted class is another one than in "
            + ("the prediction set before" if against is None else f"the prediction set {against}")
            + ", errors that are new and errors that are fixed where labels are known, and what "
            "the rankings have in common; and the images that only one of the two asks for."
        ),
        settings=changed(pool.churn, "against"),
        kinds={"duckdb"},
        stored=False,
    )
    return [outline]


def _step(pool: Pool, specs: PoolSpecs) -> dg.AssetsDefinition:
    churn = cast("ModelChurn", pool.churn)  # Without one there is no such asset.
    materialize = partial(_materialize, pool, specs, churn)
    return asset_step(pool, specs.of_table(TABLE), TABLE, materialize)


def _materialize(
    pool: Pool, specs: PoolSpecs, churn: ModelChurn, context: dg.AssetExecutionContext
) -> Results:
    # What is heavy is loaded before the database is open.
    from dagster_active_learning import flow
    from dagster_active_learning.gallery import Thumbnails

    key, by_name = specs.key(TABLE), {function.name: function for function in pool.functions}
    function = pool.batch_function or by_name.get("margin", pool.functions[0])
    first = pool.batch.size if pool.batch else QUEUE_SHOWN
    compared: dict[str, ChurnMetadata] = {}
    with collected(context) as done:
        with pool.open(context) as store:
            for name in prediction_sets(context):
                report = flow.churn_report(
                    store, name, before=churn.against, functions=pool.functions, first=first
                )
                compared[name] = ChurnMetadata(store, pool, report, function)
                done[key][name] = Materialized(compared[name].numbers)
        with Thumbnails(pool.picture_roots) as thumbnails:
            for name, metadata in compared.items():
                done[key][name] = Materialized(metadata.drawn(thumbnails))
    yield from materialized(context, done)


MODEL_CHURN = TableAsset(TABLE, _outlines, _step, CHECKS)
