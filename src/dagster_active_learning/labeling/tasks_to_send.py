"""The open batch -> tasks of a labeling tool."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from dagster_active_learning.errors import PoolStateError
from dagster_active_learning.exporters.candidates import BatchCandidates
from dagster_active_learning.exporters.label_studio import task
from dagster_active_learning.exporters.labeling_images import labeling_images
from dagster_active_learning.labeling.image_addresses import ImageAddress
from dagster_active_learning.store import labeling_tasks
from dagster_active_learning.store.handed_out import mark_handed_out
from dagster_active_learning.store.labeling_batches import last_selection
from dagster_active_learning.store.pool_store import PoolStore
from dagster_active_learning.store.prediction_sets import prediction_set

LABEL_STUDIO = "label_studio"
"""The tool's name in the tables."""


@dataclass(frozen=True)
class TasksToSend:
    """The tasks that are to be in a tool, and are not known to be there.

    Attributes:
        batch: Number of the newest batch.
        tasks: The tasks, in the order of batches and places.
        class_names: The classes that people choose from; without a task those of the newest batch,
            with which a project is made.
        resumed: Whether an earlier run wanted to send some of them.
    """

    batch: int
    tasks: list[dict[str, Any]]
    class_names: list[str]
    resumed: bool


def request_tasks(
    store: PoolStore, address: ImageAddress, *, project: str, run_id: str
) -> TasksToSend:
    """Hand the newest batch out, and record that its images are to be sent: ``pending``.

    An image goes to a project once. What an earlier run did not bring there is pending still. In
    flight in another project, which the pool had before, images go to this one too.

    Args:
        store: The pool.
        address: Makes the address of an image.
        project: Title of the project in the tool.
        run_id: What sends them, for the record.

    Raises:
        PoolStateError: If there is no batch, or an image has no address.
    """
    selection = last_selection(store)
    if selection is None:
        raise PoolStateError(
            f"pool {store.pool!r} has no batch: materialize {store.pool}/labeling_batch first"
        )
    batch = selection.batch
    with store.transaction():
        labeling_tasks.drop_needless(store, project)
        resumed = bool(labeling_tasks.pending_batches(store))
        labeling_tasks.request_images(
            store, batch, tool=LABEL_STUDIO, project=project, run_id=run_id
        )
        pending = labeling_tasks.pending_batches(store)
        tasks: dict[str, dict[str, Any]] = {}
        class_names: dict[str, None] = {}
        for each in pending:
            wanted = set(each.image_ids)
            stored = prediction_set(store, each.prediction_set)
            class_names |= dict.fromkeys(stored.class_names)
            with ExitStack() as closing:
                candidates = BatchCandidates(store, stored, each.batch, closing)
                for image in labeling_images(candidates):
                    if image.image_id in wanted:
                        tasks[image.image_id] = task(image, candidates, address(image))
        if not pending:
            class_names = dict.fromkeys(prediction_set(store, selection.prediction_set).class_names)
        if selection.image_count:
            mark_handed_out(store, batch)
    return TasksToSend(batch, list(tasks.values()), list(class_names), resumed)
