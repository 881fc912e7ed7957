"""The parts that every asset of a pool has: outlines of its specs, a step and checks."""

import time
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import dagster as dg

from dagster_active_learning.definitions.checks.check import Check
from dagster_active_learning.definitions.op_settings import RESOURCE, step_options
from dagster_active_learning.definitions.pool import Pool
from dagster_active_learning.definitions.specs import Outline, PoolSpecs
from dagster_active_learning.errors import PoolStateError

if TYPE_CHECKING:
    from dagster_active_learning.store.pool_store import PoolStore

Results = Iterator[dg.MaterializeResult[Any]]


@dataclass(frozen=True)
class TableAsset:
    """The assets that fill one table, or write its files.

    Attributes:
        table: The table.
        outlines: Makes the outlines of their specs from the pool and the specs of the assets before
            them; none where the pool does not have them.
        step: Makes the step that materializes them.
        checks: What is checked of each of them.
    """

    table: str
    outlines: Callable[[Pool, PoolSpecs], Sequence[Outline]]
    step: Callable[[Pool, PoolSpecs], dg.AssetsDefinition]
    checks: Sequence[Check] = ()


def asset_step(
    pool: Pool,
    specs: Sequence[dg.AssetSpec],
    table: str,
    materialize: Callable[..., Results],
    resources: Collection[str] = (),
    **options: Any,
) -> dg.AssetsDefinition:
    """One step that fills a table.

    Args:
        pool: The pool.
        specs: The specs of the assets.
        table: The table.
        materialize: Does the work: takes the step's context and inputs.
        resources: Keys of resources that it needs besides the database.
        options: More arguments of ``dagster.multi_asset``.
    """
    # As many runs as partitions would start a process each, and wait for each other.
    partitioned = specs[0].partitions_def is not None
    backfill_policy = dg.BackfillPolicy.single_run() if partitioned else None

    @dg.multi_asset(
        name=f"{pool.name}__{table}",
        specs=specs,
        required_resource_keys={RESOURCE, *resources},
        **step_options(pool.op),
        backfill_policy=backfill_policy,
        **options,
    )
    def step(context: dg.AssetExecutionContext, **inputs: Any) -> Results:
        yield from pool.execute(context, lambda: materialize(context, **inputs))

    return step


def remove_former_folders(
    pool: Pool,
    store: "PoolStore",
    context: dg.AssetExecutionContext,
    prediction_sets: Collection[str],
) -> None:
    """Remove what is in the pool's storage and not used, once sets are committed.

    What cannot be removed is a warning: the sets are there.
    """
    from dagster_active_learning import flow

    def seconds_since_end(run_id: str) -> float | None:
        record = context.instance.get_run_record_by_id(run_id)
        if record is None:
            return None
        if not record.dagster_run.is_finished:
            return 0.0
        # A run that ended before it started has no time of its end.
        ended = record.end_time or record.update_timestamp.timestamp()
        return max(time.time() - ended, 1.0)

    storage = pool.own_storage(store)
    try:
        removed = flow.remove_former_folders(
            store,
            storage,
            prediction_sets,
            run_id=context.run.run_id,
            seconds_since_end=seconds_since_end,
        )
    except OSError as error:
        context.log.warning(
            f"former scores stay in {storage}: {error}; let this step remove files there, or "
            "remove them yourself"
        )
        return
    if removed:
        context.log.info(f"removed {removed:,} folders of former scores from {storage}")


def require_manifest(pool: Pool, specs: PoolSpecs, store: "PoolStore") -> None:
    """Raise PoolStateError if a pool has a manifest that was not read yet."""
    from dagster_active_learning.store.images import image_counts

    if pool.manifest is not None and not image_counts(store).images:
        (key,) = specs.keys("images")
        raise PoolStateError(
            f"pool {pool.name!r} has a manifest, {pool.manifest.path}, but no image of it is in "
            f"the database: materialize {key.to_user_string()} first"
        )
