"""``<pool>/labels``: what people say that the images show."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import partial
from importlib import import_module
from typing import cast

import dagster as dg

from dagster_active_learning.definitions.assets.asset import (
    Results,
    TableAsset,
    asset_step,
    require_manifest,
)
from dagster_active_learning.definitions.checks.labels import CHECKS
from dagster_active_learning.definitions.code_versions import changed
from dagster_active_learning.definitions.labeling import (
    LABEL_STUDIO_RESOURCE,
    LabelStudio,
    label_studio_client,
)
from dagster_active_learning.definitions.metadata.labels import labels_metadata
from dagster_active_learning.definitions.pool import Pool
from dagster_active_learning.definitions.specs import Outline, PoolSpecs
from dagster_active_learning.errors import PoolStateError

TABLE = "labels"


def _outlines(pool: Pool, specs: PoolSpecs) -> list[Outline]:
    if pool.labeling is None:
        return []
    outline = Outline(
        deps=[*specs.keys("labeling_tasks"), *specs.keys("images")],
        description=(
            "What people say that the images show, as the project "
            f"{pool.labeling.project!r} of Label Studio has it now. Images with a label are "
            "labeled, beside those of the manifest: they are no candidates, and in flight no more."
        ),
        settings={
            "project": pool.labeling.project,
            **({"export": pool.labeling.files.paths} if pool.labeling.files else {}),
            **changed(pool, "task"),
        },
        kinds={"duckdb", "labelstudio"},
        partitioned=False,
        # People annotate whenever they like: the sensor sees it.
        automated=False,
    )
    return [outline]


def _step(pool: Pool, specs: PoolSpecs) -> dg.AssetsDefinition:
    # Without a tool there is no such asset.
    labeling = cast("LabelStudio", pool.labeling)
    return asset_step(
        pool,
        specs.of_table(TABLE),
        TABLE,
        partial(_materialize, pool, specs, labeling),
        resources={LABEL_STUDIO_RESOURCE},
    )


def _materialize(
    pool: Pool, specs: PoolSpecs, labeling: LabelStudio, context: dg.AssetExecutionContext
) -> Results:
    import_module("dagster_active_learning.flow")
    from dagster_active_learning.labeling.reading import store_annotations

    client = label_studio_client(context.resources)
    project = client.project(labeling.project)
    if project is None:
        raise PoolStateError(
            f"{client.shown_url} has no project {labeling.project!r}: materialize "
            f"{specs.key('labeling_tasks').to_user_string()} first, which makes it"
        )
    listed_at = datetime.now(UTC)
    listed = client.tasks(project.id)
    annotated = client.annotated_tasks(project.id)
    with pool.open(context) as store:
        require_manifest(pool, specs, store)
        report = store_annotations(
            store,
            listed,
            annotated,
            listed_at=listed_at,
            task=pool.task,
            project=labeling.project,
            return_skipped=labeling.return_skipped,
            run_id=context.run.run_id,
        )
        files = labeling.files.write(store) if labeling.files else []
        metadata = labels_metadata(store, client.project_url(project.id), report, files)
    context.log.info(
        f"{report.outcomes['labeled']:,} images labeled, {report.newly_labeled:,} of them new; "
        f"{report.waiting:,} still to be labeled"
    )
    yield dg.MaterializeResult(metadata=metadata)


LABELS = TableAsset(TABLE, _outlines, _step, CHECKS)
