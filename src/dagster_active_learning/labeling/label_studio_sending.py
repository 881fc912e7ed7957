"""Tasks to Label Studio, each image once: ask which are there, send the others, ask again."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from xml.etree import ElementTree

from dagster_active_learning.errors import LabelingToolError
from dagster_active_learning.exporters.label_studio_config import CONTROLS, IMAGE, labeling_config
from dagster_active_learning.labeling.label_studio_client import (
    LabelStudioClient,
    ListedTask,
    Project,
)
from dagster_active_learning.text import describe_names, shown

TASKS_PER_REQUEST = 50
REQUEST_BYTES = 50 * 2**20
"""Tasks of a request, and bytes of them, at the most: a server takes 250 MB."""

SETTLE_SECONDS = 5.0
"""Time that a request without an answer has to be stored, before it is asked what was stored."""


@dataclass(frozen=True)
class SentTasks:
    """The tasks that are in a project after sending.

    Attributes:
        task_ids: The number of the task of each image, those in flight among them.
        sent: Images that were sent now.
        already_there: Images that were there before.
        twins_removed: Tasks that were deleted, because their image had an older one.
    """

    task_ids: dict[str, int]
    sent: int
    already_there: int
    twins_removed: int


def ensure_project(
    client: LabelStudioClient, title: str, task: str, class_names: Sequence[str]
) -> Project:
    """The project with a title, made if there is none, or looked at whether it fits.

    Raises:
        LabelingToolError: If there are several, or its labeling interface lacks what the pool's
            tasks need.
    """
    project = client.project(title)
    if project is None:
        return client.create_project(title, labeling_config(task, class_names))
    if lacking := _lacking(project.label_config, task, class_names):
        raise LabelingToolError(
            f"the project {title!r} at {client.project_url(project.id)} cannot take the pool's "
            f"tasks: its labeling interface has no {lacking}; put in what the exporter "
            "label_studio_config writes, or name another project"
        )
    return project


def _lacking(label_config: str, task: str, class_names: Sequence[str]) -> str | None:
    """The first thing that a labeling interface lacks, None if it has all."""
    try:
        root = ElementTree.fromstring(label_config)  # noqa: S314 - expat refuses bombs
    except ElementTree.ParseError as error:
        return f"readable XML ({error})"
    image = root.findall(f".//Image[@name='{IMAGE}']")
    if not any(tag.get("value") == f"${IMAGE}" for tag in image):
        return f"tag Image with the name {IMAGE!r} and the value '${IMAGE}'"
    for control in CONTROLS[task]:
        tags = root.findall(f".//{control.tag}[@name='{control.name}']")
        if not any(tag.get("toName") == IMAGE for tag in tags):
            return f"tag {control.tag} with the name {control.name!r} for the image"
        items = {item.get("value") for tag in tags for item in tag.iter(control.item)}
        if missing := [name for name in class_names if name not in items]:
            return f"class {describe_names(missing)} in {control.tag} {control.name!r}"
    return None


def send_tasks(
    client: LabelStudioClient,
    project: int,
    tasks: Sequence[Mapping[str, Any]],
    *,
    settle_first: bool,
    in_flight: Sequence[str] = (),
    sleep: Callable[[float], None] = time.sleep,
) -> SentTasks:
    """Send the tasks whose images have none in a project, in their order.

    A request that was taken for lost may be stored at any time after it: twins of images that were
    sent before are looked for, too.

    Args:
        client: The server.
        project: The project's number.
        tasks: The tasks, each of another image.
        settle_first: Whether an earlier request for them ended unclear, and may yet be stored.
        in_flight: Ids of images that were sent before.
        sleep: Waits for a number of seconds.

    Raises:
        LabelingToolError: If not all tasks are there in the end. Those that are stay, and the next
            call sends the others.
    """
    image_ids = [task["data"]["image_id"] for task in tasks]
    if settle_first:
        sleep(SETTLE_SECONDS)
    before = {task.image_id for task in client.tasks_of_images(project, image_ids)}
    missing = [task for task in tasks if task["data"]["image_id"] not in before]
    for chunk in _chunks(missing):
        try:
            client.import_tasks(project, chunk)
        except LabelingToolError as error:
            if not error.is_unclear:
                raise
            sleep(SETTLE_SECONDS)
            sent = [task["data"]["image_id"] for task in chunk]
            stored = {task.image_id for task in client.tasks_of_images(project, sent)}
            if len(stored) < len(sent):
                raise
    there = client.tasks_of_images(project, list(dict.fromkeys([*image_ids, *in_flight])))
    kept, twins = _without_twins(there)
    for twin in twins:
        client.delete_task(twin.id)
    lost = [image_id for image_id in image_ids if image_id not in kept]
    if lost:
        raise LabelingToolError(
            f"{len(lost):,} of {len(tasks):,} images, the first {shown(lost[0])!r}, are not in the "
            f"project at {client.project_url(project)}, though they were sent: run the step again"
        )
    return SentTasks(kept, len(missing), len(before), len(twins))


def _chunks(tasks: Sequence[Mapping[str, Any]]) -> list[list[Mapping[str, Any]]]:
    chunks: list[list[Mapping[str, Any]]] = []
    size = 0
    for task in tasks:
        length = len(json.dumps(task))
        if not chunks or len(chunks[-1]) == TASKS_PER_REQUEST or size + length > REQUEST_BYTES:
            chunks.append([])
            size = 0
        chunks[-1].append(task)
        size += length
    return chunks


def _without_twins(tasks: Sequence[ListedTask]) -> tuple[dict[str, int], list[ListedTask]]:
    """The task of each image, and those to delete: the younger ones that nobody annotated."""
    by_image: dict[str, list[ListedTask]] = {}
    for task in tasks:
        if task.image_id is not None:
            by_image.setdefault(task.image_id, []).append(task)
    kept: dict[str, int] = {}
    twins: list[ListedTask] = []
    for image_id, same in by_image.items():
        first = next((task for task in same if task.annotation_count), same[0])
        kept[image_id] = first.id
        twins += [task for task in same if task is not first and not task.annotation_count]
    return kept, twins
