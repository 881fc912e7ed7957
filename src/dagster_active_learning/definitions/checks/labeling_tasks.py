"""The checks of ``<pool>/labeling_tasks``."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import dagster as dg

from dagster_active_learning.definitions.checks.check import CheckRun, check
from dagster_active_learning.definitions.labeling import LABEL_STUDIO_RESOURCE, label_studio_client
from dagster_active_learning.errors import LabelingToolError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dagster_active_learning.definitions.labeling import LabelStudio


@check(
    "every_image_is_there",
    lambda _: "Every image that is in flight with the tool has a task in the project.",
    resource=LABEL_STUDIO_RESOURCE,
)
def every_image_is_there(run: CheckRun) -> dg.AssetCheckResult:
    """Images that were not sent, or whose task somebody has deleted: those in flight are few."""
    from dagster_active_learning.store.labeling_tasks import with_the_tool

    # Without a tool there is no such asset.
    project = cast("LabelStudio", run.pool.labeling).project
    images = with_the_tool(run.store, project)
    try:
        there = _there(run, project, [row["image_id"] for row in images if row["state"] == "sent"])
    except LabelingToolError as error:
        return run.result(False, str(error), {"in_flight": len(images)})
    wrong = [
        row | ({"state": "no task any more"} if row["state"] == "sent" else {})
        for row in images
        if row["image_id"] not in there
    ]
    return run.result(
        not wrong,
        f"{len(wrong):,} images are in flight and have no task in the project {project!r}"
        + ": materialize labeling_tasks to send those that were not sent; labels frees those whose "
        "task was deleted, and a new labeling_batch may have them again" * bool(wrong),
        {"in_flight": len(images), "missing": len(wrong)},
        wrong,
    )


def _there(run: CheckRun, title: str, image_ids: Sequence[str]) -> set[str | None]:
    """Those of some images that have a task in the project."""
    client = label_studio_client(run.context.resources)
    project = client.project(title) if image_ids else None
    tasks = client.tasks_of_images(project.id, image_ids) if project else []
    return {task.image_id for task in tasks}


CHECKS = (every_image_is_there,)
