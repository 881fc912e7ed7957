"""``<pool>/predictions``: what the model says, read into DuckDB or in place."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, cast

import dagster as dg

from dagster_active_learning.definitions.assets.asset import (
    Results,
    TableAsset,
    asset_step,
    remove_former_folders,
    require_manifest,
)
from dagster_active_learning.definitions.checks.predictions import CHECKS
from dagster_active_learning.definitions.code_versions import changed
from dagster_active_learning.definitions.metadata.lineage import column_lineage
from dagster_active_learning.definitions.metadata.predictions import prediction_metadata
from dagster_active_learning.definitions.partitions import (
    PREDICTION_SET,
    Materialized,
    collected,
    materialized,
    partition_value,
    prediction_sets,
)
from dagster_active_learning.definitions.pool import Pool
from dagster_active_learning.definitions.specs import Outline, PoolSpecs
from dagster_active_learning.rules import READING_RULES
from dagster_active_learning.text import shown

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dagster_active_learning.definitions.metadata.tables import Metadata
    from dagster_active_learning.definitions.sources import PredictionFiles
    from dagster_active_learning.store.prediction_sets import PredictionSet

TABLE = "predictions"

LINEAGE_CHARACTERS = 1_000
"""Length of the names of all columns that one column is made of, at most: those of a thousand
classes would not fit into an event."""


def _outlines(pool: Pool, specs: PoolSpecs) -> list[Outline]:
    source = pool.predictions
    upstream = [source.upstream] if source.upstream else []
    outline = Outline(
        deps=[*upstream, *source.deps, *specs.keys("images")],
        description=(
            "What the model says about the images of the pool, one row per prediction. Rows that "
            "cannot be scored are in the table quarantined_predictions, with the reason."
        ),
        settings={**source.settings(), **changed(pool.rules, *READING_RULES)},
        kinds={"duckdb", "numba"},
        # What the sensor reads is not to be read twice.
        automated=bool(upstream or source.deps) and pool.sensor is None,
    )
    return [outline]


def _step(pool: Pool, specs: PoolSpecs) -> dg.AssetsDefinition:
    upstream = pool.predictions.upstream
    return asset_step(
        pool,
        specs.of_table(TABLE),
        TABLE,
        partial(_materialize, pool, specs),
        ins={"upstream": dg.AssetIn(upstream)} if upstream else None,
    )


def _materialize(
    pool: Pool, specs: PoolSpecs, context: dg.AssetExecutionContext, upstream: Any = None
) -> Results:
    names = prediction_sets(context)
    with collected(context) as done:
        for name in names:
            value = upstream
            if pool.partitioned and pool.predictions.upstream is not None:
                value = partition_value(upstream, name, len(names))
            done[specs.key(TABLE)][name] = _ingest(pool, specs, context, name, value)
        if pool.keep_prediction_sets is not None:
            _keep_newest(pool, pool.keep_prediction_sets, context, names)
    yield from materialized(context, done)


def _keep_newest(
    pool: Pool, count: int, context: dg.AssetExecutionContext, names: Sequence[str]
) -> None:
    """Remove what is older than the sets that stay; all of this run do."""
    from dagster_active_learning import flow

    # A pool that is partitioned by now may have a set from before.
    orphans = [PREDICTION_SET] if pool.partitioned and PREDICTION_SET not in names else []
    with pool.open(context) as store:
        removed = flow.keep_newest_sets(store, max(count, len(names)), orphans=orphans)
        if pool.in_place:
            remove_former_folders(pool, store, context, removed)
    if removed:
        context.log.info(
            f"removed {len(removed):,} prediction sets (keep_prediction_sets is {count}): "
            + ", ".join(map(shown, removed[:5]))
        )


def _ingest(
    pool: Pool, specs: PoolSpecs, context: dg.AssetExecutionContext, name: str, value: Any
) -> Materialized:
    """Read a prediction set."""
    from dagster_active_learning import flow

    if pool.in_place:
        return _ingest_in_place(pool, specs, context, name)
    source = pool.predictions
    # Before the database is open: a download may take long.
    read = source.open(value, name if pool.partitioned else None)
    with pool.open(context) as store:
        require_manifest(pool, specs, store)
        stored = flow.ingest_predictions(
            store,
            read(store.connection),
            prediction_set=name,
            model=source.model,
            run_id=context.run.run_id,
            rules=pool.rules,
            report=context.log.info,
        )
        metadata = {**prediction_metadata(store, stored), **_column_lineage(pool, stored)}
    return _materialized(pool, context, stored, metadata)


def _ingest_in_place(
    pool: Pool, specs: PoolSpecs, context: dg.AssetExecutionContext, name: str
) -> Materialized:
    """Score the files of a prediction set where they are; the database is not open meanwhile."""
    from dagster_active_learning import flow

    source = cast("PredictionFiles", pool.predictions)
    with pool.open(context) as store:
        require_manifest(pool, specs, store)
        storage = pool.own_storage(store)
    scored = flow.score_files(
        source.open_in_place(name if pool.partitioned else None),
        prediction_set=name,
        rules=pool.rules,
        storage=storage,
        engine=pool.tasks_engine,
        run_id=context.run.run_id,
        report=context.log.info,
    )
    with pool.open(context) as store:
        require_manifest(pool, specs, store)
        stored = flow.ingest_in_place(
            store,
            scored,
            prediction_set=name,
            model=source.model,
            run_id=context.run.run_id,
            report=context.log.info,
        )
        metadata = prediction_metadata(store, stored)
        remove_former_folders(pool, store, context, [name])
    return _materialized(pool, context, stored, metadata)


def _materialized(
    pool: Pool, context: dg.AssetExecutionContext, stored: PredictionSet, metadata: Metadata
) -> Materialized:
    if stored.quarantined_count:
        context.log.warning(
            f"{stored.quarantined_count:,} rows cannot be scored; they are in "
            f"{pool.name}.quarantined_predictions with the reason"
        )
    return Materialized(metadata, stored.source_sha256)


def _column_lineage(pool: Pool, stored: PredictionSet) -> Metadata:
    upstream = pool.predictions.upstream
    if upstream is None:
        return {}
    return column_lineage(
        {
            column: [(upstream, name) for name in names]
            for column, names in pool.predictions.origins(stored.class_names).items()
            if (column != "class_probs" or stored.has_class_probs)
            and sum(map(len, names)) <= LINEAGE_CHARACTERS
        }
    )


PREDICTIONS = TableAsset(TABLE, _outlines, _step, CHECKS)
