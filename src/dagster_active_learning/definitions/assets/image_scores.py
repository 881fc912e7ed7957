"""``<pool>/image_scores``: the score of every image under every acquisition function."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import dagster as dg

from dagster_active_learning.acquisition.functions import ACQUISITION_FUNCTIONS
from dagster_active_learning.definitions.assets.asset import (
    Results,
    TableAsset,
    asset_step,
    remove_former_folders,
    require_manifest,
)
from dagster_active_learning.definitions.checks.image_scores import CHECKS
from dagster_active_learning.definitions.code_versions import changed
from dagster_active_learning.definitions.metadata.image_scores import score_metadata
from dagster_active_learning.definitions.metadata.lineage import column_lineage
from dagster_active_learning.definitions.partitions import (
    Materialized,
    collected,
    materialized,
    prediction_sets,
)
from dagster_active_learning.definitions.pool import Pool
from dagster_active_learning.definitions.specs import Outline, PoolSpecs
from dagster_active_learning.rules import SCORING_RULES, score_origin

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dagster_active_learning.definitions.metadata.tables import Metadata
    from dagster_active_learning.flow import ScoredFiles

TABLE = "image_scores"


def _outlines(pool: Pool, specs: PoolSpecs) -> list[Outline]:
    outline = Outline(
        deps=[specs.key("predictions"), *specs.keys("images")],
        description=(
            "The score of every image of the pool under every acquisition function: "
            f"{score_origin(pool.rules.aggregation, committee=pool.rules.committee)}."
        ),
        settings=changed(pool.rules, *SCORING_RULES),
        kinds={"duckdb", "numba"},
    )
    return [outline]


def _step(pool: Pool, specs: PoolSpecs) -> dg.AssetsDefinition:
    return asset_step(pool, specs.of_table(TABLE), TABLE, partial(_materialize, pool, specs))


def _materialize(pool: Pool, specs: PoolSpecs, context: dg.AssetExecutionContext) -> Results:
    # What is heavy is loaded before the database is open.
    from dagster_active_learning import flow
    from dagster_active_learning.store.score_statistics import member_counts, score_statistics

    names = prediction_sets(context)
    scored = _score_in_place(pool, context, names) if pool.in_place else {}
    with collected(context) as done, pool.open(context) as store:
        require_manifest(pool, specs, store)
        for name in names:
            if pool.in_place:
                stored = flow.score_in_place(
                    store, name, rules=pool.rules, run_id=context.run.run_id, scored=scored[name]
                )
                remove_former_folders(pool, store, context, [name])
            else:
                stored = flow.score_prediction_set(
                    store,
                    name,
                    rules=pool.rules,
                    run_id=context.run.run_id,
                    report=context.log.info,
                )
            statistics = score_statistics(store, name)
            members = member_counts(store, name) if pool.rules.committee else None
            metadata = {
                **score_metadata(store, stored, statistics, pool.rules, members),
                **_column_lineage(
                    specs, [name for name, mean in statistics.means.items() if mean is not None]
                ),
            }
            done[specs.key(TABLE)][name] = Materialized(metadata)
    yield from materialized(context, done)


def _score_in_place(
    pool: Pool, context: dg.AssetExecutionContext, names: Sequence[str]
) -> dict[str, ScoredFiles | None]:
    """The sets whose scores, made when they were read, are not those wanted now: scored again.

    The database is not open meanwhile.
    """
    from dagster_active_learning import flow

    with pool.open(context) as store:
        kept = {name: flow.files_to_score(store, name, pool.rules) for name in names}
        storage = pool.own_storage(store)
    return {
        name: None
        if files is None
        else flow.score_files(
            files.open(),
            prediction_set=name,
            rules=pool.rules,
            storage=storage,
            engine=pool.tasks_engine,
            run_id=context.run.run_id,
            report=context.log.info,
        )
        for name, files in kept.items()
    }


def _column_lineage(specs: PoolSpecs, scored: Sequence[str]) -> Metadata:
    predictions = specs.key("predictions")
    lineage = {"image_id": [(predictions, "image_id")]}
    for name in scored:
        of_objects = ACQUISITION_FUNCTIONS[name].level == "object"
        columns = ("class_probs", "score") if of_objects else ("class_probs",)
        lineage[name] = [(predictions, column) for column in columns]
    return column_lineage(lineage)


IMAGE_SCORES = TableAsset(TABLE, _outlines, _step, CHECKS)
