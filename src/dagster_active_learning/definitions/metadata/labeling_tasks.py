"""Metadata of ``<pool>/labeling_tasks``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import dagster as dg

from dagster_active_learning.definitions.metadata.tables import Metadata, table_metadata

if TYPE_CHECKING:
    from dagster_active_learning.labeling.label_studio_sending import SentTasks
    from dagster_active_learning.labeling.tasks_to_send import TasksToSend
    from dagster_active_learning.store.pool_store import PoolStore


def tasks_metadata(
    store: PoolStore, project_url: str, wanted: TasksToSend, sent: SentTasks
) -> Metadata:
    """The numbers of what was sent, and the way to it."""
    ((rows,),) = store.rows("SELECT count(*) FROM labeling_tasks")
    return {
        "project": dg.MetadataValue.url(project_url),
        "batch": f"{wanted.batch:,}",
        "sent": sent.sent,
        "already_there": sent.already_there,
        "twins_removed": sent.twins_removed,
        **table_metadata(store, "labeling_tasks", rows),
    }
