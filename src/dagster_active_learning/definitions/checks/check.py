"""A check of an asset, and the step that evaluates those of a table."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import dagster as dg

from dagster_active_learning.definitions.metadata.tables import rows_table
from dagster_active_learning.definitions.op_settings import RESOURCE, step_options
from dagster_active_learning.definitions.partitions import PREDICTION_SET
from dagster_active_learning.definitions.pool import Pool
from dagster_active_learning.errors import PoolStateError

if TYPE_CHECKING:
    from dagster_active_learning.definitions.specs import PoolSpecs
    from dagster_active_learning.store.pool_store import PoolStore
    from dagster_active_learning.store.prediction_sets import PredictionSet

EXAMPLES_SHOWN = 20

WARN, ERROR = dg.AssetCheckSeverity.WARN, dg.AssetCheckSeverity.ERROR


@dataclass(frozen=True)
class CheckRun:
    """The input of one check's evaluation.

    Attributes:
        pool: The pool.
        context: The context of the step.
        store: The pool's tables, open for reading.
        key: The check's key.
        sets: The prediction sets to look at, at least one.
        function: For candidates, the name of the function that has ranked them.
    """

    pool: Pool
    context: dg.AssetCheckExecutionContext
    store: "PoolStore"
    key: dg.AssetCheckKey
    sets: "Sequence[PredictionSet]"
    function: str | None

    @property
    def names(self) -> list[str]:
        """The names of the prediction sets."""
        return [stored.prediction_set for stored in self.sets]

    def result(
        self,
        passed: bool,
        description: str,
        numbers: Mapping[str, Any],
        examples: Sequence[Mapping[str, Any]] = (),
        severity: dg.AssetCheckSeverity = ERROR,
    ) -> dg.AssetCheckResult:
        """The result with its numbers, and with the first examples of what is wrong."""
        partitioned = self.pool.partitioned
        hidden = () if partitioned else ("prediction_set",)
        rows = [
            {name: value for name, value in row.items() if name not in hidden}
            for row in examples[:EXAMPLES_SHOWN]
        ]
        return dg.AssetCheckResult(
            asset_key=self.key.asset_key,
            check_name=self.key.name,
            passed=passed,
            severity=severity,
            description=description,
            metadata={
                **numbers,
                **({"prediction_sets": len(self.sets)} if partitioned else {}),
                **({"examples": rows_table(rows)} if rows else {}),
            },
        )


@dataclass(frozen=True)
class Check:
    """A check of an asset.

    Attributes:
        name: Its name in the UI.
        sentence: Makes the sentence that is true when it passes, or None for a pool without it.
        evaluate: Evaluates it.
        blocking: Whether nothing follows in the same run where it fails.
        resource: Key of a resource that it needs besides the database.
    """

    name: str
    sentence: Callable[[Pool], str | None]
    evaluate: Callable[[CheckRun], dg.AssetCheckResult]
    blocking: bool = False
    resource: str | None = None


def check(
    name: str,
    sentence: Callable[[Pool], str | None],
    *,
    blocking: bool = False,
    resource: str | None = None,
) -> Callable[[Callable[[CheckRun], dg.AssetCheckResult]], Check]:
    """Make a check of the function that evaluates it."""

    def decorate(evaluate: Callable[[CheckRun], dg.AssetCheckResult]) -> Check:
        return Check(name, sentence, evaluate, blocking, resource)

    return decorate


def check_step(
    pool: Pool, specs: "PoolSpecs", table: str, checks: Sequence[Check]
) -> dg.AssetChecksDefinition:
    """One step for the checks of the assets that fill a table."""
    functions = specs.functions(table)
    sentences = {check.name: check.sentence(pool) for check in checks}
    evaluated = [
        (asset, check)
        for asset in functions
        for check in checks
        if sentences[check.name] is not None
    ]
    check_specs = [
        dg.AssetCheckSpec(
            check.name, asset=asset, description=sentences[check.name], blocking=check.blocking
        )
        for asset, check in evaluated
    ]

    # The Dagster pool is that of the writers: nobody can read while another process writes.
    @dg.multi_asset_check(
        name=f"{pool.name}__{table}_checks",
        specs=check_specs,
        can_subset=True,
        required_resource_keys={RESOURCE, *(check.resource for check in checks if check.resource)},
        **step_options(pool.op),
    )
    def step(context: dg.AssetCheckExecutionContext) -> Iterator[dg.AssetCheckResult]:
        from dagster_active_learning.store.prediction_sets import prediction_set

        with pool.open(context, read_only=True) as store:
            names = _prediction_sets(pool, specs, context, store)
            sets = [prediction_set(store, name) for name in names]
            # All before the first is reported: the database is closed while Dagster writes.
            results = [
                check.evaluate(CheckRun(pool, context, store, spec.key, sets, functions[asset]))
                for spec, (asset, check) in zip(check_specs, evaluated, strict=True)
                if spec.key in context.selected_asset_check_keys
            ]
        yield from results

    return step


def _prediction_sets(
    pool: Pool, specs: "PoolSpecs", context: dg.AssetCheckExecutionContext, store: "PoolStore"
) -> Sequence[str]:
    """The names of the prediction sets to look at, at least one."""
    from dagster_active_learning.store.prediction_sets import prediction_set_names

    if not pool.partitioned:
        return [PREDICTION_SET]
    if context.has_partition_key or context.has_partition_key_range:
        return context.partition_keys
    names = prediction_set_names(store)
    if not names:
        raise PoolStateError(
            f"pool {pool.name!r} has no prediction set to check: materialize a partition of "
            f"{specs.key('predictions').to_user_string()} first"
        )
    return names
