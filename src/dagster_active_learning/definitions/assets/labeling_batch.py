"""``<pool>/labeling_batch``: the images to label next, and why each of them."""

from __future__ import annotations

from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Any, cast

import dagster as dg

from dagster_active_learning.definitions.assets.asset import (
    Results,
    TableAsset,
    asset_step,
    require_manifest,
)
from dagster_active_learning.definitions.batches import LabelingBatch
from dagster_active_learning.definitions.checks.labeling_batch import CHECKS
from dagster_active_learning.definitions.code_versions import changed
from dagster_active_learning.definitions.metadata.batch_text import batch_heading, batch_table
from dagster_active_learning.definitions.metadata.labeling_batch import BatchMetadata
from dagster_active_learning.definitions.pages import KeptEmbeddings, PoolPages
from dagster_active_learning.definitions.partitions import (
    Materialized,
    collected,
    materialized,
    prediction_sets,
)
from dagster_active_learning.definitions.pool import Pool
from dagster_active_learning.definitions.specs import Outline, PoolSpecs

if TYPE_CHECKING:
    from dagster_active_learning.acquisition.functions import AcquisitionFunction

TABLE = "labeling_batch"


def _outlines(pool: Pool, specs: PoolSpecs) -> list[Outline]:
    batch, function = pool.batch, pool.batch_function
    if batch is None or function is None:
        return []
    duplicates = batch.near_duplicates
    upstream = [duplicates.upstream] if duplicates and duplicates.upstream else []
    settings = {
        **changed(pool, "seed"),
        **{f"batch_{name}": value for name, value in changed(batch.rules).items()},
        **({"rank_by": batch.rank_by} if batch.rank_by else {}),
    }
    outline = Outline(
        deps=[
            specs.key("labeling_candidates", function.name),
            *specs.keys("images"),
            *upstream,
            *(duplicates.deps if duplicates else ()),
        ],
        description=(
            f"The {batch.size:,} images to label next: {batch.random_share:.0%} of them drawn at "
            f"random, the others {_others(batch, function)}. Images in flight are in no other "
            "batch; what is not handed out yet is replaced."
        ),
        settings=settings,
        kinds={"duckdb", "numba"},
    )
    return [outline]


def _others(batch: LabelingBatch, function: AcquisitionFunction) -> str:
    """The way in which the images are chosen that are not random."""
    ranking = f"from the ranking by {function.title.lower()}"
    if batch.choose_by == "typical":
        return "typical ones, which are like many others"
    if batch.choose_by == "badge":
        return f"{ranking}, those whose gradients are far apart"
    return ranking + ", the predicted classes in turn" * batch.class_turns


def _step(pool: Pool, specs: PoolSpecs) -> dg.AssetsDefinition:
    batch = cast("LabelingBatch", pool.batch)  # Without one there is no such asset.
    function = cast("AcquisitionFunction", pool.batch_function)
    upstream = batch.near_duplicates.upstream if batch.near_duplicates else None
    return asset_step(
        pool,
        specs.of_table(TABLE),
        TABLE,
        partial(_materialize, pool, specs, batch, function),
        ins={"upstream": dg.AssetIn(upstream)} if upstream else None,
    )


def _materialize(
    pool: Pool,
    specs: PoolSpecs,
    batch: LabelingBatch,
    function: AcquisitionFunction,
    context: dg.AssetExecutionContext,
    upstream: Any = None,
) -> Results:
    # What is heavy is loaded before the database is open.
    import_module("dagster_active_learning.flow")
    from dagster_active_learning import flow
    from dagster_active_learning.gallery import Thumbnails

    names = prediction_sets(context)
    duplicates = batch.near_duplicates
    key = specs.key(TABLE)
    pages = PoolPages(pool, context)
    read_embeddings = KeptEmbeddings(duplicates.reader(upstream)) if duplicates else None
    with collected(context) as done:
        with pool.open(context) as store:
            require_manifest(pool, specs, store)
            # A pool has one open batch: that of the last prediction set of the run.
            for name in names[:-1]:
                done[key][name] = Materialized(
                    {"dagster/row_count": 0, "replaced_by": f"the batch of {names[-1]}"}
                )
            report = flow.select_labeling_batch(
                store,
                names[-1],
                function.name,
                rules=pool.rules,
                batch_rules=batch.rules,
                seed=pool.seed,
                run_id=context.run.run_id,
                read_embeddings=read_embeddings,
            )
            metadata = BatchMetadata(store, pool, function, report)
            text = batch_heading(pool, report.selection) + (
                f"; {report.kept}" if report.kept else ""
            )
            # The last that a person reads of a run: where the batch is exported, of that step.
            if batch.files is None:
                text += "\n" + batch_table(store, pool, report.selection)
            done[key][names[-1]] = Materialized(metadata.numbers, report.sha256)
            embeddings = read_embeddings.kept if read_embeddings else None
            pages.add_batch(store, function, report.selection, embeddings)
        metadata.numbers |= pages.link(report.selection.prediction_set, function.name)
        with Thumbnails(pool.picture_roots) as thumbnails:
            done[key][names[-1]] = Materialized(metadata.drawn(thumbnails), report.sha256)
            for reason in pages.write(thumbnails).values():
                without_page = {"summary": metadata.numbers["summary"], **reason}
                done[key][names[-1]] = done[key][names[-1]].with_metadata(without_page)
    yield from materialized(context, done)
    if report.cold_start:
        context.log.warning(report.cold_start)
    context.log.info(text)


LABELING_BATCH = TableAsset(TABLE, _outlines, _step, CHECKS)
