"""The sensor that sees new annotations, and asks for a run that reads them."""

from __future__ import annotations

import time

import dagster as dg

from dagster_active_learning.definitions.labeling import (
    LABEL_STUDIO_RESOURCE,
    LabelStudio,
    label_studio_client,
)
from dagster_active_learning.errors import LabelingToolError

LABELS_OF_TAG = "dagster_active_learning/labels_of"
ANNOTATIONS_TAG = "dagster_active_learning/annotations"
"""Tags of the sensor's runs: the pool, and the state of the project that the run is to read."""

SECONDS_AFTER_FAILURE = 600
"""Time after which a run that did not succeed is asked for again."""

SECONDS_OF_A_RUN = 3_600
"""Time after which a run without an end is asked for again: its process may have died."""


def label_sensor(pool: str, labeling: LabelStudio, labels: dg.AssetKey) -> dg.SensorDefinition:
    """The sensor of a pool whose labels come from Label Studio.

    Webhooks do not reach an address of the same machine, and say nothing of deletions: one small
    request per look says whether a task was added, annotated or deleted since. What was read is
    known by the runs of the sensor.

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
    def annotations(context: dg.SensorEvaluationContext) -> dg.RunRequest | dg.SkipReason:
        try:
            client = label_studio_client(context.resources)
            project = client.project(labeling.project)
            if project is None:
                return dg.SkipReason(f"there is no project {labeling.project!r} yet")
            state = client.state(project.id)
        except LabelingToolError as error:
            return dg.SkipReason(str(error))
        return _run_request(context.instance, pool, state)

    return annotations


def _run_request(
    instance: dg.DagsterInstance, pool: str, state: str
) -> dg.RunRequest | dg.SkipReason:
    """The run that reads the annotations, unless the last one has, does, or has just failed."""
    run_key = f"{pool}:{state}"
    of_pool = dg.RunsFilter(tags={LABELS_OF_TAG: pool})
    for last in instance.get_run_records(of_pool, limit=1):
        run = last.dagster_run
        age = time.time() - last.create_timestamp.timestamp()
        if not run.is_finished and age < SECONDS_OF_A_RUN:
            return dg.SkipReason(f"the run {run.run_id} reads the annotations")
        if run.tags[ANNOTATIONS_TAG] == state:
            if run.is_success:
                return dg.SkipReason("nothing was annotated since the last look")
            if time.time() - (last.end_time or 0) < SECONDS_AFTER_FAILURE:
                return dg.SkipReason(
                    f"the run {run.run_id} did not succeed: it is asked for again "
                    f"{SECONDS_AFTER_FAILURE} seconds after its end"
                )
        # Dagster starts no run key twice.
        run_key += f":{run.run_id}"
    return dg.RunRequest(run_key=run_key, tags={LABELS_OF_TAG: pool, ANNOTATIONS_TAG: state})
