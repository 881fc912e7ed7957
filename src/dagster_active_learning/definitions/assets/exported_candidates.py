"""``<pool>/exported_candidates``: the candidates as files for other tools."""

from __future__ import annotations

from functools import partial
from typing import cast

import dagster as dg

from dagster_active_learning.definitions.assets.asset import Results, TableAsset, asset_step
from dagster_active_learning.definitions.checks.exported_candidates import CHECKS
from dagster_active_learning.definitions.code_versions import changed
from dagster_active_learning.definitions.exports import CandidateFiles
from dagster_active_learning.definitions.metadata.exported_candidates import file_metadata
from dagster_active_learning.definitions.partitions import (
    Materialized,
    collected,
    materialized,
    prediction_sets,
)
from dagster_active_learning.definitions.pool import Pool
from dagster_active_learning.definitions.specs import Outline, PoolSpecs

TABLE = "exported_candidates"


def _outlines(pool: Pool, specs: PoolSpecs) -> list[Outline]:
    files = pool.candidate_files
    if files is None:
        return []
    outline = Outline(
        deps=[*specs.keys("labeling_candidates"), *specs.keys("images")],
        description=(
            "The candidates of every acquisition function as files for other tools, in the "
            "order of their ranks, with the uri of each image. Images that have their label by "
            "now, or have left the manifest, are left out."
        ),
        settings={"export": files.paths, **changed(pool, "acquisition_functions")},
        kinds={"duckdb", "file"},
        stored=False,
    )
    return [outline]


def _step(pool: Pool, specs: PoolSpecs) -> dg.AssetsDefinition:
    # Without files there is no such asset.
    files = cast("CandidateFiles", pool.candidate_files)
    materialize = partial(_materialize, pool, specs, files)
    return asset_step(pool, specs.of_table(TABLE), TABLE, materialize)


def _materialize(
    pool: Pool, specs: PoolSpecs, files: CandidateFiles, context: dg.AssetExecutionContext
) -> Results:
    from dagster_active_learning.store.labeling_candidates import done_candidates

    # Not all that is there: functions that the pool had before have left their candidates.
    functions = [function.name for function in pool.functions]
    with collected(context) as done, pool.open(context, read_only=True) as store:
        for name in prediction_sets(context):
            written = files.write(store, name, functions)
            left_out = done_candidates(store, [name], functions).count
            context.log.info(
                f"{written[0].rows:,} candidates written; {left_out:,} left out, which have their "
                "label by now or left the manifest"
            )
            done[specs.key(TABLE)][name] = Materialized(file_metadata(written, left_out))
    yield from materialized(context, done)


EXPORTED_CANDIDATES = TableAsset(TABLE, _outlines, _step, CHECKS)
