"""The table ``labeling_tasks``: the images that went to a labeling tool."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pyarrow as pa

from dagster_active_learning.store.findings import Findings, findings
from dagster_active_learning.store.pool_store import PoolStore

# Labels may have come another way, the images were taken back, or they left the manifest, before
# they were sent. Where the pool's project is another one by now, they are requested there.
DROP_NEEDLESS = """
UPDATE labeling_tasks SET state = 'needless'
WHERE state = 'pending' AND (project != $project OR (batch, image_id) IN (
    SELECT (b.batch, b.image_id) FROM labeling_batches b
    LEFT JOIN images i ON b.image_id = i.image_id
    WHERE b.returned_at IS NOT NULL OR coalesce(i.labeled, true)
))
"""

# The images of the newest batch, and of those that are out with the tool: in another project, if
# the pool had another one then. An image that left the manifest is shown nowhere.
REQUEST = """
INSERT INTO labeling_tasks BY NAME
SELECT b.batch, b.position, b.image_id, $tool AS tool, $project AS project, 'pending' AS state,
    $run_id AS run_id, now() AS requested_at
FROM labeling_batches b JOIN images i ON b.image_id = i.image_id
WHERE (b.batch = $batch OR b.batch IN (SELECT batch FROM labeling_tasks))
    AND b.returned_at IS NULL AND NOT i.labeled
    AND (b.batch, b.image_id) NOT IN (
        SELECT (batch, image_id) FROM labeling_tasks
        WHERE project = $project AND state IN ('pending', 'sent')
    )
ORDER BY b.batch, b.position
"""


def drop_needless(store: PoolStore, project: str) -> None:
    """Give up sending images that need none any more, or go to another project."""
    store.connection.execute(DROP_NEEDLESS, {"project": project})


def request_images(store: PoolStore, batch: int, *, tool: str, project: str, run_id: str) -> None:
    """Record that the images of a batch are to be sent, before they are, each once per project.

    Images of earlier batches that are in flight in another project are to be sent too.
    """
    values = {"batch": batch, "tool": tool, "project": project, "run_id": run_id}
    store.connection.execute(REQUEST, values)


PENDING = """
SELECT b.batch, b.prediction_set, list(t.image_id ORDER BY t.position)
FROM labeling_tasks t JOIN labeling_batches b ON t.batch = b.batch AND t.image_id = b.image_id
WHERE t.state = 'pending' GROUP BY b.batch, b.prediction_set ORDER BY b.batch
"""


@dataclass(frozen=True)
class PendingBatch:
    """Images of a batch that are not known to be in the tool, in their order."""

    batch: int
    prediction_set: str
    image_ids: list[str]


def pending_batches(store: PoolStore) -> list[PendingBatch]:
    """The batches of which images are still to be sent, the oldest first."""
    return [PendingBatch(*row) for row in store.rows(PENDING)]


MARK_SENT = """
UPDATE labeling_tasks SET state = 'sent', task_id = i.task_id, run_id = $run_id, sent_at = now()
FROM active_learning__incoming i
WHERE labeling_tasks.image_id = i.image_id AND state = 'pending' AND project = $project
"""


def mark_sent(store: PoolStore, project: str, task_ids: Mapping[str, int], run_id: str) -> None:
    """Record that images are in a project of the tool, with the numbers of their tasks."""
    store.insert(MARK_SENT, _by_image(task_id=task_ids), project=project, run_id=run_id)


# An image that came back, and is to be labeled again, was skipped before.
MARK_READ = """
UPDATE labeling_tasks SET read_at = now(), task_id = i.task_id,
    outcome = CASE WHEN i.skipped_at::TIMESTAMPTZ <= requested_at THEN NULL ELSE i.outcome END
FROM active_learning__incoming i
WHERE labeling_tasks.image_id = i.image_id AND state = 'sent' AND project = $project
"""

# Tasks that were sent while the project was read are not in its listing.
MARK_DELETED = """
UPDATE labeling_tasks SET state = 'deleted', outcome = NULL, read_at = now()
WHERE state = 'sent' AND project = $project AND sent_at < $listed_at
    AND image_id NOT IN (SELECT image_id FROM active_learning__incoming)
"""

# What was deleted or skipped, and was in another batch since, stays there.
FREE = """
UPDATE labeling_batches SET returned_at = now()
WHERE returned_at IS NULL AND handed_out_at IS NOT NULL AND (batch, image_id) IN (
    SELECT (batch, image_id) FROM labeling_tasks WHERE project = $project
        AND (state = 'deleted' OR $skipped AND state = 'sent' AND outcome = 'skipped')
) AND image_id NOT IN (SELECT image_id FROM images WHERE labeled)
"""


def mark_read(
    store: PoolStore,
    project: str,
    task_ids: Mapping[str, int],
    outcomes: Mapping[str, str],
    skipped_at: Mapping[str, str],
    *,
    listed_at: datetime,
    return_skipped: bool,
) -> int:
    """Record what was read; images without a task are free again, and skipped ones if wanted.

    Args:
        store: The pool.
        project: Title of the project.
        task_ids: The numbers of all tasks that are in it, by image.
        outcomes: The outcomes of those that somebody has annotated.
        skipped_at: When images whose outcome is ``skipped`` were.
        listed_at: When the tasks were about to be listed.
        return_skipped: Whether skipped images come back.

    Returns:
        The number of images whose tasks were deleted since they were sent.
    """
    there = _by_image(task_id=task_ids, outcome=outcomes, skipped_at=skipped_at)
    store.insert(MARK_READ, there, project=project)
    # The statement finds it as the variable of that name.
    active_learning__incoming = there  # noqa: F841 # pyright: ignore[reportUnusedVariable]
    values = {"project": project, "listed_at": listed_at}
    ((deleted,),) = store.connection.execute(MARK_DELETED, values).fetchall()
    store.connection.execute(FREE, {"project": project, "skipped": return_skipped})
    return deleted


def _by_image(task_id: Mapping[str, int], **texts: Mapping[str, str]) -> pa.Table:
    columns = {
        name: pa.array([of_image.get(image_id) for image_id in task_id], pa.string())
        for name, of_image in texts.items()
    }
    return pa.table(
        {
            "image_id": pa.array(task_id, pa.string()),
            "task_id": pa.array(task_id.values(), pa.int64()),
            **columns,
        }
    )


SENT_TO = """
SELECT DISTINCT image_id FROM labeling_tasks WHERE project = $project AND sent_at IS NOT NULL
"""


def sent_to(store: PoolStore, project: str) -> set[str]:
    """The images of which a project has had a task."""
    return {image_id for (image_id,) in store.rows(SENT_TO, project=project)}


WITH_THE_TOOL = """
SELECT b.prediction_set, b.batch, b.position, b.image_id, coalesce(t.state, 'not sent') AS state
FROM labeling_batches b JOIN images i ON b.image_id = i.image_id
LEFT JOIN labeling_tasks t ON b.batch = t.batch AND b.image_id = t.image_id
    AND t.project = $project AND t.state IN ('pending', 'sent')
WHERE b.batch IN (SELECT batch FROM labeling_tasks) AND b.handed_out_at IS NOT NULL
    AND b.returned_at IS NULL AND NOT i.labeled
ORDER BY b.batch, b.position
"""


def with_the_tool(store: PoolStore, project: str) -> list[dict[str, Any]]:
    """The images of the manifest that are out with the tool, with the states of their tasks.

    Columns prediction_set, batch, position, image_id and state: ``sent``, ``pending``, or
    ``not sent`` to the project.
    """
    return store.relation(WITH_THE_TOOL, project=project).to_arrow_table().to_pylist()


OUT_TOO_LONG = """
SELECT b.prediction_set, b.batch, b.position, b.image_id, b.handed_out_at::VARCHAR AS handed_out_at,
    count(*) OVER () AS finding_count
FROM labeling_batches b LEFT JOIN images i ON b.image_id = i.image_id
WHERE b.handed_out_at < now() - to_days($days) AND b.returned_at IS NULL
    AND NOT coalesce(i.labeled, false)
ORDER BY b.handed_out_at, b.batch, b.position LIMIT $first
"""


def out_too_long(store: PoolStore, days: int) -> Findings:
    """Images that are in flight for more than some days."""
    return findings(store, OUT_TOO_LONG, days=days)
