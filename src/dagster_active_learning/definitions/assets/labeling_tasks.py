"""``<pool>/labeling_tasks``: the labeling batch as tasks of a labeling tool."""

from __future__ import annotations

from functools import partial
from importlib import import_module
from typing import cast

import dagster as dg

from dagster_active_learning.definitions.assets.asset import Results, TableAsset, asset_step
from dagster_active_learning.definitions.checks.labeling_tasks import CHECKS
from dagster_active_learning.definitions.labeling import (
    LABEL_STUDIO_RESOURCE,
    LabelStudio,
    label_studio_client,
)
from dagster_active_learning.definitions.metadata.labeling_tasks import tasks_metadata
from dagster_active_learning.definitions.pool import Pool
from dagster_active_learning.definitions.specs import Outline, PoolSpecs

TABLE = "labeling_tasks"


def _outlines(pool: Pool, specs: PoolSpecs) -> list[Outline]:
    if pool.labeling is None:
        return []
    outline = Outline(
        deps=[*specs.keys("labeling_batch"), *specs.keys("images")],
        description=(
            f"The labeling batch as tasks of the project {pool.labeling.project!r} of Label "
            "Studio, in its order and with what the model predicted: sent, it is handed out. An "
            "image that is there is not sent again."
        ),
        settings={
            "project": pool.labeling.project,
            **({"image_address": _address(pool.labeling)} if _address(pool.labeling) else {}),
        },
        kinds={"duckdb", "labelstudio"},
        partitioned=False,
    )
    return [outline]


def _address(labeling: LabelStudio) -> str:
    """The setting that says where images are, empty for the uri of the manifest."""
    ways = (labeling.image_address, labeling.local_files_root, labeling.embed_max_bytes)
    return "".join(str(way) for way in ways if way is not None)


def _step(pool: Pool, specs: PoolSpecs) -> dg.AssetsDefinition:
    # Without a tool there is no such asset.
    labeling = cast("LabelStudio", pool.labeling)
    return asset_step(
        pool,
        specs.of_table(TABLE),
        TABLE,
        partial(_materialize, pool, labeling),
        resources={LABEL_STUDIO_RESOURCE},
    )


def _materialize(pool: Pool, labeling: LabelStudio, context: dg.AssetExecutionContext) -> Results:
    import_module("dagster_active_learning.flow")
    from dagster_active_learning.labeling.label_studio_sending import ensure_project, send_tasks
    from dagster_active_learning.labeling.tasks_to_send import request_tasks
    from dagster_active_learning.store.labeling_tasks import mark_sent, with_the_tool

    client = label_studio_client(context.resources)
    address = labeling.address(pool.picture_roots)
    run_id = context.run.run_id
    with pool.open(context) as store:
        wanted = request_tasks(store, address, project=labeling.project, run_id=run_id)
        in_flight = [row["image_id"] for row in with_the_tool(store, labeling.project)]
    # Others may have the database while the tool takes its time.
    project = ensure_project(client, labeling.project, pool.task, wanted.class_names)
    sent = send_tasks(
        client, project.id, wanted.tasks, settle_first=wanted.resumed, in_flight=in_flight
    )
    with pool.open(context) as store:
        with store.transaction():
            mark_sent(store, labeling.project, sent.task_ids, run_id)
        metadata = tasks_metadata(store, client.project_url(project.id), wanted, sent)
    context.log.info(
        f"{sent.sent:,} images sent to {client.project_url(project.id)}, {sent.already_there:,} "
        "were there before"
    )
    if sent.twins_removed:
        context.log.warning(f"{sent.twins_removed:,} tasks removed whose image had an older one")
    if not project.is_sequential:
        context.log.warning(
            f"the project serves tasks by {project.sampling!r}: only 'Sequential sampling' keeps "
            "the order of the batch"
        )
    yield dg.MaterializeResult(metadata=metadata)


LABELING_TASKS = TableAsset(TABLE, _outlines, _step, CHECKS)
