"""``<pool>/exported_candidates``: the labeling batch and the rankings as files for other tools."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import dagster as dg

from dagster_active_learning.definitions.assets.asset import Results, TableAsset, asset_step
from dagster_active_learning.definitions.checks.exported_candidates import CHECKS
from dagster_active_learning.definitions.code_versions import changed
from dagster_active_learning.definitions.metadata.batch_text import batch_heading, batch_table
from dagster_active_learning.definitions.metadata.exported_candidates import (
    batch_file_metadata,
    file_metadata,
)
from dagster_active_learning.definitions.partitions import (
    Materialized,
    collected,
    materialized,
    prediction_sets,
)
from dagster_active_learning.definitions.pool import Pool
from dagster_active_learning.definitions.specs import Outline, PoolSpecs
from dagster_active_learning.errors import PoolStateError

if TYPE_CHECKING:
    from dagster_active_learning.definitions.exports import CandidateFiles
    from dagster_active_learning.definitions.metadata.tables import Metadata
    from dagster_active_learning.store.pool_store import PoolStore

TABLE = "exported_candidates"


def _outlines(pool: Pool, specs: PoolSpecs) -> list[Outline]:
    rankings = pool.candidate_files
    batch = pool.batch.files if pool.batch else None
    if rankings is None and batch is None:
        return []
    of_batch = (
        "The labeling batch as files for other tools, in the order in which to label: written, it "
        "is handed out, and its images are in flight."
    )
    of_rankings = (
        "The candidates of every acquisition function as files for other tools, in the order of "
        "their ranks, with the uri of each image."
    )
    left_out = "Images that have their label by now, or have left the manifest, are left out."
    outline = Outline(
        deps=[
            *(specs.keys("labeling_candidates") if rankings else ()),
            *(specs.keys("labeling_batch") if batch else ()),
            *specs.keys("images"),
        ],
        description=" ".join(
            [of_batch] * bool(batch) + [of_rankings] * bool(rankings) + [left_out]
        ),
        settings={
            **({"batch_export": batch.paths} if batch else {}),
            **(
                {"export": rankings.paths, **changed(pool, "acquisition_functions")}
                if rankings
                else {}
            ),
        },
        kinds={"duckdb", "file"},
        stored=False,
    )
    return [outline]


def _step(pool: Pool, specs: PoolSpecs) -> dg.AssetsDefinition:
    return asset_step(pool, specs.of_table(TABLE), TABLE, partial(_materialize, pool, specs))


def _materialize(pool: Pool, specs: PoolSpecs, context: dg.AssetExecutionContext) -> Results:
    rankings = pool.candidate_files
    batch = pool.batch.files if pool.batch else None
    names = prediction_sets(context)
    with collected(context) as done, pool.open(context, read_only=batch is None) as store:
        for name in names:
            metadata: Metadata = {"dagster/row_count": 0}
            if rankings is not None:
                metadata |= _write_rankings(pool, rankings, context, store, name)
            # A pool has one open batch, that of the last prediction set of the run.
            if batch is not None and name == names[-1]:
                metadata |= _write_batch(pool, batch, context, store)
            done[specs.key(TABLE)][name] = Materialized(metadata)
    yield from materialized(context, done)


def _write_rankings(
    pool: Pool,
    files: CandidateFiles,
    context: dg.AssetExecutionContext,
    store: PoolStore,
    prediction_set: str,
) -> Metadata:
    from dagster_active_learning.store.candidate_findings import done_candidates

    # Not all that is there: functions that the pool had before have left their candidates.
    functions = [function.name for function in pool.functions]
    written = files.write(store, prediction_set, functions)
    left_out = done_candidates(store, [prediction_set], functions).count
    text = f"{written[0].rows:,} candidates written"
    if left_out:
        text += f"; {left_out:,} left out, which have their label by now or left the manifest"
    context.log.info(text)
    return file_metadata(written, left_out)


def _write_batch(
    pool: Pool, files: CandidateFiles, context: dg.AssetExecutionContext, store: PoolStore
) -> Metadata:
    """Write the open batch and hand it out; without one write the last that went out again.

    A step that was killed after it had handed the batch out writes the same images again, and so
    does a later run: a batch whose export did not end is the next one, too. An empty batch is not
    written: the files keep what went out before.
    """
    from dagster_active_learning.store.handed_out import begin_export, end_export
    from dagster_active_learning.store.labeling_batches import last_selection

    selection = last_selection(store)
    if selection is None:
        raise PoolStateError(
            f"pool {pool.name!r} has no batch: materialize {pool.name}/labeling_batch first"
        )
    if not selection.image_count:
        empty = f"batch {selection.batch} is empty: {selection.shortfall}"
        context.log.warning(f"{empty}; the files stay as they are")
        return {"batch": f"{selection.batch:,}", "not_written": empty}
    written = files.write_batch(
        store,
        selection.batch,
        selection.prediction_set,
        partial(begin_export, store, selection.batch),
    )
    end_export(store, selection.batch)
    # The last that a person reads of a run. Images that are labeled by now are not written.
    context.log.info(
        f"{batch_heading(pool, selection)}\n{batch_table(store, pool, selection)}\n"
        f"It is out: {written[0].rows:,} images in {', '.join(file.path for file in written)}"
    )
    return batch_file_metadata(written, selection.batch)


EXPORTED_CANDIDATES = TableAsset(TABLE, _outlines, _step, CHECKS)
