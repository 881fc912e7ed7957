"""``<pool>/labeling_candidates/<function>``: the images to label next under each function."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING

import dagster as dg

from dagster_active_learning.definitions.assets.asset import (
    Results,
    TableAsset,
    asset_step,
    require_manifest,
)
from dagster_active_learning.definitions.checks.labeling_candidates import CHECKS
from dagster_active_learning.definitions.code_versions import changed
from dagster_active_learning.definitions.metadata.labeling_candidates import (
    CandidateMetadata,
    RankingReport,
)
from dagster_active_learning.definitions.metadata.lineage import column_lineage
from dagster_active_learning.definitions.pages import PoolPages
from dagster_active_learning.definitions.partitions import (
    collected,
    materialized,
    prediction_sets,
)
from dagster_active_learning.definitions.pool import Pool
from dagster_active_learning.definitions.specs import Outline, PoolSpecs
from dagster_active_learning.rules import check_limit, check_seed

if TYPE_CHECKING:
    from dagster_active_learning.acquisition.functions import AcquisitionFunction
    from dagster_active_learning.definitions.metadata.tables import Metadata
    from dagster_active_learning.store.pool_store import PoolStore

TABLE = "labeling_candidates"

RULES = ("task", "inputs", "score_only", "images_without_predictions", "in_manifest")
"""The rules that ranks, uncertainties and predicted classes depend on, besides the scores."""


def _outlines(pool: Pool, specs: PoolSpecs) -> list[Outline]:
    settings = {**changed(pool, "limit", "seed"), **changed(pool.rules, *RULES)}
    return [
        Outline(
            acquisition_function=function.name,
            deps=[specs.key("image_scores"), *specs.keys("images")],
            description=(
                f"The images to label next by {function.title.lower()} "
                f"({function.formula_of(pool.rules.inputs)}): those with the "
                f"{function.label_first_under(pool.aggregation)} scores first, "
                "without the ones that are labeled."
            ),
            settings=settings,
            kinds={"duckdb", "polars"},
            skippable=True,
            freshness_policy=pool.freshness_policy,
        )
        for function in pool.functions
    ]


def _step(pool: Pool, specs: PoolSpecs) -> dg.AssetsDefinition:
    return asset_step(
        pool,
        specs.of_table(TABLE),
        TABLE,
        partial(_materialize, pool, specs),
        can_subset=True,
        config_schema={
            "limit": dg.Field(
                dg.Noneable(int),
                default_value=pool.limit,
                description="How many images each ranking has at the most, null for all.",
            ),
            "seed": dg.Field(
                int,
                default_value=pool.seed,
                description="Decides the order of images with equal scores.",
            ),
        },
    )


def _materialize(pool: Pool, specs: PoolSpecs, context: dg.AssetExecutionContext) -> Results:
    # What is heavy is loaded before the database is open.
    import_module("dagster_active_learning.flow")
    from dagster_active_learning.gallery import Thumbnails

    config = context.op_execution_context.op_config
    check_limit(config["limit"])
    check_seed(config["seed"])
    selected = [
        function
        for function in pool.functions
        if specs.key(TABLE, function.name) in context.selected_asset_keys
    ]
    reports: dict[str, dict[str, RankingReport]] = {}
    pages = PoolPages(pool, context)
    with collected(context) as done:
        with pool.open(context) as store:
            require_manifest(pool, specs, store)
            for name in prediction_sets(context):
                reports[name] = _rank(pool, specs, context, store, name, selected)
                # Stored already, with or without pictures.
                for function, report in reports[name].items():
                    done[specs.key(TABLE, function)][name] = report.without_pictures()
                pages.add_rankings(store, name, selected)
        # Functions and sets have many images in common: each file is decoded once.
        with Thumbnails(pool.picture_roots) as thumbnails:
            for name, of_set in reports.items():
                for function, report in of_set.items():
                    linked = report.with_metadata(pages.link(name, function))
                    done[specs.key(TABLE, function)][name] = linked.with_pictures(thumbnails)
            for (name, function), reason in pages.write(thumbnails).items():
                of_set = done[specs.key(TABLE, function)]
                summary = reports[name][function].metadata["summary"]
                of_set[name] = of_set[name].with_metadata({"summary": summary, **reason})
    yield from materialized(context, done)


def _rank(
    pool: Pool,
    specs: PoolSpecs,
    context: dg.AssetExecutionContext,
    store: PoolStore,
    prediction_set: str,
    functions: Sequence[AcquisitionFunction],
) -> dict[str, RankingReport]:
    """Rank the images under functions; returns a report on each ranking."""
    from dagster_active_learning import flow

    config = context.op_execution_context.op_config
    candidate_metadata = CandidateMetadata(store, pool, prediction_set, functions)
    rankings = flow.rank_candidates(
        store,
        prediction_set,
        functions,
        rules=pool.rules,
        limit=config["limit"],
        seed=config["seed"],
        run_id=context.run.run_id,
    )
    counts = ", ".join(f"{name} {one.candidate_count:,}" for name, one in rankings.items())
    image_count = max((one.image_count for one in rankings.values()), default=0)
    context.log.info(f"candidates of {image_count:,} images without a label: {counts}")
    return {
        name: report.with_metadata(
            {
                **_column_lineage(specs, name),
                # As text: settings are not worth a plot.
                "limit": "none" if config["limit"] is None else f"{config['limit']:,}",
                "seed": str(config["seed"]),
            }
        )
        for name, report in candidate_metadata.reports(rankings).items()
    }


def _column_lineage(specs: PoolSpecs, function: str) -> Metadata:
    scores = specs.key("image_scores")
    score = (scores, function)
    return column_lineage(
        {
            "image_id": [(scores, "image_id")],
            "rank": [score],
            "score": [score],
            "uncertainty": [score],
            "prediction_count": [(scores, "prediction_count")],
            "predicted_class": [(specs.key("predictions"), "class_probs")],
        }
    )


LABELING_CANDIDATES = TableAsset(TABLE, _outlines, _step, CHECKS)
