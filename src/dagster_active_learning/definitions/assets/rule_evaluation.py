"""``<pool>/rule_evaluation``: which acquisition function finds the errors of the model."""

from __future__ import annotations

from functools import partial
from typing import cast

import dagster as dg

from dagster_active_learning.definitions.assets.asset import (
    Results,
    TableAsset,
    asset_step,
    require_manifest,
)
from dagster_active_learning.definitions.checks.rule_evaluation import CHECKS
from dagster_active_learning.definitions.code_versions import changed
from dagster_active_learning.definitions.evaluations import RuleEvaluation
from dagster_active_learning.definitions.metadata.rule_evaluation import EvaluationMetadata
from dagster_active_learning.definitions.partitions import (
    Materialized,
    collected,
    materialized,
    prediction_sets,
)
from dagster_active_learning.definitions.pool import Pool
from dagster_active_learning.definitions.specs import Outline, PoolSpecs

TABLE = "rule_evaluation"


def _outlines(pool: Pool, specs: PoolSpecs) -> list[Outline]:
    evaluation = pool.evaluation
    if evaluation is None:
        return []
    outline = Outline(
        deps=[
            specs.key("image_scores"),
            *specs.keys("images"),
            *specs.keys("labeling_batch"),
            *specs.keys("labels"),
        ],
        description=(
            "Which acquisition function puts images first that the model, as it is, gets wrong: by "
            "labels that were drawn at random, with intervals. Labels that a queue chose cannot "
            "judge it. Which function gains most by retraining is another question."
        ),
        settings={
            **changed(pool, "seed"),
            **{f"evaluation_{name}": value for name, value in changed(evaluation.rules).items()},
        },
        kinds={"duckdb"},
    )
    return [outline]


def _step(pool: Pool, specs: PoolSpecs) -> dg.AssetsDefinition:
    evaluation = cast("RuleEvaluation", pool.evaluation)  # Without one there is no such asset.
    materialize = partial(_materialize, pool, specs, evaluation)
    return asset_step(pool, specs.of_table(TABLE), TABLE, materialize)


def _materialize(
    pool: Pool, specs: PoolSpecs, evaluation: RuleEvaluation, context: dg.AssetExecutionContext
) -> Results:
    # What is heavy is loaded, and the file of boxes read, before the database is open.
    from dagster_active_learning import flow

    truth = evaluation.truth()
    key = specs.key(TABLE)
    evaluated: dict[str, EvaluationMetadata] = {}
    with collected(context) as done:
        with pool.open(context) as store:
            require_manifest(pool, specs, store)
            for name in prediction_sets(context):
                report = flow.evaluate_rules(
                    store,
                    name,
                    rules=pool.rules,
                    evaluation=evaluation.rules,
                    truth=truth,
                    seed=pool.seed,
                    run_id=context.run.run_id,
                )
                evaluated[name] = EvaluationMetadata(store, pool, name, report)
                done[key][name] = Materialized(evaluated[name].numbers)
        for name, metadata in evaluated.items():
            done[key][name] = Materialized(metadata.drawn())
    yield from materialized(context, done)
    for metadata in evaluated.values():
        if metadata.refusal is not None:
            context.log.warning(metadata.refusal)
        else:
            context.log.info(metadata.text)


RULE_EVALUATION = TableAsset(TABLE, _outlines, _step, CHECKS)
