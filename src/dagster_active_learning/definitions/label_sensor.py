"""The sensor that sees new annotations, and asks for a run that reads them."""

from __future__ import annotations

import dagster as dg

from dagster_active_learning.definitions.labeling import LABEL_STUDIO_RESOURCE, LabelStudio
from dagster_active_learning.errors import LabelingToolError


def label_sensor(pool: str, labeling: LabelStudio, labels: dg.AssetKey) -> dg.SensorDefinition:
    """The sensor of a pool whose labels come from Label Studio.

    Webhooks do not reach an address of the same machine, and say nothing of deletions: one small
    request per look says whether a task was added, annotated or deleted since.

    Args:
        pool: The pool's name.
        labeling: The project, and how often to look.
        labels: The asset that reads the annotations.
    """

    @dg.sensor(
        name=f"{pool}__labels",
        target=dg.AssetSelection.assets(labels),
        minimum_interval_seconds=labeling.minimum_interval_seconds,
        default_status=labeling.default_status,
        required_resource_keys={LABEL_STUDIO_RESOURCE},
        description=f"Reads the labels when the project {labeling.project!r} has changed.",
    )
    def annotations(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
        client = getattr(context.resources, LABEL_STUDIO_RESOURCE).client()
        try:
            projects = client.projects(labeling.project)
            state = client.state(projects[0].id) if len(projects) == 1 else None
        except LabelingToolError as error:
            return dg.SkipReason(str(error))
        if state is None:
            return dg.SkipReason(f"there are {len(projects)} projects {labeling.project!r}")
        if state == context.cursor:
            return dg.SkipReason("nothing was annotated since the last look")
        return dg.SensorResult(
            run_requests=[dg.RunRequest(run_key=f"{pool}:{state}")], cursor=state
        )

    return annotations
