"""The tables ``labels`` and ``quarantined_labels``: what people say that images show."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from dagster_active_learning.store.findings import Findings, findings
from dagster_active_learning.store.images import apply_labels
from dagster_active_learning.store.pool_store import PoolStore
from dagster_active_learning.store.pools import Database, existing_pool

if TYPE_CHECKING:
    import polars as pl

_ORIGIN = [
    ("annotator", pa.string()),
    ("annotated_at", pa.string()),
    ("task_id", pa.int64()),
    ("annotation_id", pa.string()),
]

LABELS = pa.schema(
    [
        ("image_id", pa.string()),
        ("category", pa.string()),
        ("bbox", pa.list_(pa.float64())),
        ("segmentation", pa.string()),
        ("lead_time_seconds", pa.float64()),
        ("ground_truth", pa.bool_()),
        *_ORIGIN,
    ]
)
"""The columns of labels as they are read; ``annotated_at`` is a time as text."""

QUARANTINED_LABELS = pa.schema(
    [("image_id", pa.string()), ("reason", pa.string()), ("raw", pa.string()), *_ORIGIN]
)
"""The columns of annotations that are no labels as they are read."""

INSERT = """
INSERT INTO {table} BY NAME
SELECT * REPLACE (annotated_at::TIMESTAMPTZ AS annotated_at), $tool AS tool, $project AS project,
    $run_id AS run_id, now() AS read_at
FROM active_learning__incoming
"""

# A project that got another title has the annotations that it had.
DELETE = """
DELETE FROM {table} WHERE project = $project
    OR annotation_id IN (SELECT annotation_id FROM active_learning__incoming)
"""

LABELED_IMAGES = "SELECT DISTINCT image_id FROM labels"


def replace_labels(
    store: PoolStore,
    labels: Sequence[Mapping[str, Any]],
    quarantined: Sequence[Mapping[str, Any]],
    *,
    tool: str,
    project: str,
    run_id: str,
) -> tuple[int, int]:
    """Store the labels of a project in place of those that it had.

    Args:
        store: The pool, in a transaction.
        labels: Rows with the columns ``LABELS``.
        quarantined: Rows with the columns ``QUARANTINED_LABELS``.
        tool: The labeling tool.
        project: Title of the project.
        run_id: What reads them, for the record.

    Returns:
        The number of images that have a label now and had none, and of those that lost theirs.
    """
    before = {image_id for (image_id,) in store.rows(LABELED_IMAGES)}
    values = {"tool": tool, "project": project, "run_id": run_id}
    incoming = {
        "labels": pa.Table.from_pylist([*labels], LABELS),
        "quarantined_labels": pa.Table.from_pylist([*quarantined], QUARANTINED_LABELS),
    }
    for table, rows in incoming.items():
        store.insert(DELETE.format(table=table), rows, project=project)
        store.insert(INSERT.format(table=table), rows, **values)
    apply_labels(store)
    after = {image_id for (image_id,) in store.rows(LABELED_IMAGES)}
    return len(after - before), len(before - after)


LABELED_IN = "SELECT DISTINCT image_id FROM labels WHERE project = $project"


def labeled_in(store: PoolStore, project: str) -> set[str]:
    """The images that have their label from a project."""
    return {image_id for (image_id,) in store.rows(LABELED_IN, project=project)}


# The batch that an image was in last says what the model predicted.
PREDICTED = """
SELECT l.image_id, max(l.category) AS category, max(l.annotated_at) AS annotated_at,
    arg_max(b.predicted_class, b.batch) AS predicted_class, max(b.handed_out_at) AS handed_out_at,
    count(DISTINCT l.rowid) AS labels, bool_or(l.bbox IS NOT NULL) AS is_object
FROM labels l JOIN labeling_batches b ON l.image_id = b.image_id
WHERE l.project = $project GROUP BY l.image_id
"""

AGREEMENT = f"""
SELECT count(*) FILTER (category = predicted_class), count(*) FROM ({PREDICTED})
WHERE category IS NOT NULL AND predicted_class IS NOT NULL AND NOT is_object AND labels = 1
"""  # noqa: S608

HOURS_TO_LABEL = f"""
SELECT median(epoch(annotated_at) - epoch(handed_out_at)) / 3600 FROM ({PREDICTED})
WHERE handed_out_at IS NOT NULL
"""  # noqa: S608


def agreement(store: PoolStore, project: str) -> tuple[int, int]:
    """Labels of whole images that are the class the model predicted, and all of them."""
    return store.rows(AGREEMENT, project=project)[0]


def median_hours_to_label(store: PoolStore, project: str) -> float | None:
    """The median time from handing an image out to its label, None without any."""
    return store.rows(HOURS_TO_LABEL, project=project)[0][0]


CATEGORY_COUNTS = """
SELECT category, count(*) AS count FROM labels WHERE project = $project
GROUP BY category ORDER BY count DESC, category
"""


def category_counts(store: PoolStore, project: str) -> list[tuple[str | None, int]]:
    """The number of labels of each class."""
    return store.rows(CATEGORY_COUNTS, project=project)


UNKNOWN_CLASSES = """
SELECT image_id, category, annotation_id, count(*) OVER () AS finding_count FROM labels
WHERE category IS NOT NULL AND NOT list_contains($class_names, category)
ORDER BY image_id LIMIT $first
"""


def unknown_classes(store: PoolStore, class_names: Sequence[str]) -> Findings:
    """Labels whose class is none of some."""
    return findings(store, UNKNOWN_CLASSES, class_names=list(class_names))


LABEL_ROWS = """
SELECT l.image_id, l.category, l.bbox, l.segmentation, i.uri, i.width, i.height
FROM labels l LEFT JOIN images i ON l.image_id = i.image_id ORDER BY l.image_id, l.rowid
"""


def label_rows(store: PoolStore) -> list[dict[str, Any]]:
    """The labels with what the manifest says of their images, those of an image together."""
    return store.relation(LABEL_ROWS).to_arrow_table().to_pylist()


DRAWN_BOXES = """
SELECT l.image_id, i.width::DOUBLE AS width, i.height::DOUBLE AS height, l.category, l.bbox
FROM labels l JOIN images i ON l.image_id = i.image_id
WHERE l.bbox IS NOT NULL OR l.category IS NULL ORDER BY l.image_id, l.rowid
"""


def drawn_boxes(store: PoolStore) -> pl.DataFrame:
    """Columns image_id, width, height, category and bbox; an image without objects has no box."""
    return store.relation(DRAWN_BOXES).pl()


ALL_LABELS = """
SELECT l.*, i.uri, i.width, i.height FROM labels l LEFT JOIN images i ON l.image_id = i.image_id
ORDER BY l.annotated_at, l.image_id, l.rowid
"""


def load_labels(database: Database, *, pool: str) -> pl.DataFrame:
    """The labels that people gave, one row per class of an image or object in it.

    Args:
        database: The path of the database, opened read-only and closed again, or an open
            connection, which is left as it is.
        pool: The pool's name.

    Returns:
        The columns of the table ``labels``, and uri, width and height of the image.

    Raises:
        PoolStateError: If the database does not have the pool.

    Example:
        >>> labels = load_labels("labeling.duckdb", pool="digits")
        >>> labels.select("image_id", "category", "annotator").rows()
        [('digit_3', '7', 'ada')]
    """
    with existing_pool(database, pool) as store:
        return store.relation(ALL_LABELS).pl()
