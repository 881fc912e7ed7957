"""The annotations of a labeling tool -> labels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from dagster_active_learning.errors import PoolStateError
from dagster_active_learning.labeling.label_studio_annotations import Size, read_annotations
from dagster_active_learning.labeling.label_studio_client import ListedTask
from dagster_active_learning.labeling.tasks_to_send import LABEL_STUDIO
from dagster_active_learning.store import labeling_tasks, labels
from dagster_active_learning.store.pool_store import PoolStore
from dagster_active_learning.store.prediction_sets import known_class_names


@dataclass(frozen=True)
class LabelsReport:
    """The labels of a project in numbers.

    Attributes:
        outcomes: Images of each outcome: labeled, skipped, conflict, quarantined.
        waiting: Images with a task that nobody has annotated.
        label_count: Rows of ``labels``.
        quarantined_count: Annotations that are no labels.
        newly_labeled: Images that had no label before.
        withdrawn: Images that had one and have none now.
        deleted: Images whose task was deleted in the tool: they are free again.
        foreign_tasks: Tasks without the id of an image, which were left alone.
        agreement: Labels of whole images that are the predicted class, and all of them.
        median_hours: Median time from handing an image out to its label.
        categories: Labels of each class, the most frequent first.
    """

    outcomes: Mapping[str, int]
    waiting: int
    label_count: int
    quarantined_count: int
    newly_labeled: int
    withdrawn: int
    deleted: int
    foreign_tasks: int
    agreement: tuple[int, int]
    median_hours: float | None
    categories: Sequence[tuple[str | None, int]]


SIZES = "SELECT image_id, width, height FROM images"


def store_annotations(
    store: PoolStore,
    listed: Sequence[ListedTask],
    annotated: Sequence[Mapping[str, Any]],
    *,
    listed_at: datetime,
    task: str,
    project: str,
    return_skipped: bool,
    run_id: str,
) -> LabelsReport:
    """Store what people said, in place of what they had said at the last reading.

    Args:
        store: The pool.
        listed: All tasks of the project.
        annotated: Those with annotations, as the JSON export has them. It has none whose
            annotation was deleted; a task that is in neither was deleted itself.
        listed_at: When the tasks were about to be listed: those that were sent since may not be
            among them.
        task: What people label: classification, detection or segmentation.
        project: Title of the project.
        return_skipped: Whether skipped images may be chosen again.
        run_id: What reads them, for the record.

    Raises:
        PoolStateError: If none of the images that have their label from the project is in it.
    """
    task_ids: dict[str, int] = {}
    for each in listed:
        if each.image_id is not None:
            task_ids.setdefault(each.image_id, each.id)
    # A task that was added after the listing.
    for entry in annotated:
        if isinstance(image_id := entry["data"].get("image_id"), str):
            task_ids.setdefault(image_id, entry["id"])
    with store.transaction():
        _check_same_project(store, project, task_ids)
        names = known_class_names(store)
        sizes: dict[str, Size] = {
            image_id: (width, height) for image_id, width, height in store.rows(SIZES)
        }
        reading = read_annotations(annotated, task=task, class_names=names, sizes=sizes)
        newly_labeled, withdrawn = labels.replace_labels(
            store,
            [asdict(label) for label in reading.labels],
            [asdict(each) for each in reading.quarantined],
            tool=LABEL_STUDIO,
            project=project,
            run_id=run_id,
        )
        deleted = labeling_tasks.mark_read(
            store,
            project,
            task_ids,
            reading.outcomes,
            reading.skipped_at,
            listed_at=listed_at,
            return_skipped=return_skipped,
        )
        agreement = labels.agreement(store, project)
        median_hours = labels.median_hours_to_label(store, project)
        categories = labels.category_counts(store, project)
    return LabelsReport(
        outcomes=Counter(reading.outcomes.values()),
        waiting=len(task_ids.keys() - reading.outcomes.keys()),
        label_count=len(reading.labels),
        quarantined_count=len(reading.quarantined),
        newly_labeled=newly_labeled,
        withdrawn=withdrawn,
        deleted=deleted,
        foreign_tasks=sum(each.image_id is None for each in listed),
        agreement=agreement,
        median_hours=median_hours,
        categories=categories,
    )


def _check_same_project(store: PoolStore, project: str, image_ids: Collection[str]) -> None:
    """Raise PoolStateError before the labels of a project are lost with it.

    A task that is deleted takes its label along. Where all that were ever sent are gone, it is the
    project that was deleted, and the one that has its title now is another.
    """
    labeled = labels.labeled_in(store, project)
    if labeled and (labeled | labeling_tasks.sent_to(store, project)).isdisjoint(image_ids):
        raise PoolStateError(
            f"none of the images that were sent to the project {project!r} is in it now, and "
            f"{len(labeled):,} have their label from there: if it is another project of that "
            "title, give it another one, in the pool too, and the labels stay; if the tasks were "
            "deleted on purpose, "
            f"delete the project's rows from {store.pool}.labels"
        )
