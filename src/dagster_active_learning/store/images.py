"""The table ``images``: the pool's manifest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from dagster_active_learning.limits import DEFAULT_BATCH_ROWS
from dagster_active_learning.store.findings import first_rows
from dagster_active_learning.store.pool_store import PoolStore
from dagster_active_learning.store.set_rows import of_sets


@dataclass(frozen=True)
class ImageCounts:
    """Images of the manifest, and those of them that are labeled."""

    images: int
    labeled: int


@dataclass(frozen=True)
class Coverage:
    """Images without a label, and those of them that a prediction set says nothing about."""

    prediction_set: str
    image_count: int
    without_count: int


INSERT_IMAGES = """
INSERT INTO images BY NAME
SELECT image_id, uri, width, height, coalesce(labeled, false) AS labeled, label
FROM active_learning__incoming
"""


def replace_images(store: PoolStore, images: pa.Table) -> None:
    """Make ``images`` (columns of the table ``images``) the pool's manifest.

    Images whose label is in ``labels`` have it beside the manifest.
    """
    store.connection.execute("DELETE FROM images")
    store.connection.execute("DELETE FROM relabeled_images")
    store.insert(INSERT_IMAGES, images)
    apply_labels(store)


# What was said by labels that are gone is forgotten before those that are there are said.
APPLY_LABELS = (
    """
UPDATE images SET labeled = r.labeled, label = r.label
FROM relabeled_images r WHERE images.image_id = r.image_id
""",
    "DELETE FROM relabeled_images",
    """
INSERT INTO relabeled_images BY NAME SELECT image_id, labeled, label FROM images
WHERE image_id IN (SELECT image_id FROM labels)
""",
    # Objects and several classes are no label of the whole image.
    """
UPDATE images SET labeled = true, label = coalesce(images.label, l.label)
FROM (
    SELECT image_id, CASE WHEN count(*) = 1 AND max(bbox) IS NULL THEN max(category) END AS label
    FROM labels GROUP BY image_id
) l
WHERE images.image_id = l.image_id
""",
)


def apply_labels(store: PoolStore) -> None:
    """Make the images that ``labels`` has a label of labeled, and no others than the manifest."""
    for statement in APPLY_LABELS:
        store.connection.execute(statement)


LABELED_IMAGES = """
SELECT image_id, uri, width, height, labeled, label FROM images WHERE labeled ORDER BY rowid
"""


def labeled_images(store: PoolStore) -> pa.RecordBatchReader:
    """The images that have their label, with the columns of a manifest and in its order."""
    return store.relation(LABELED_IMAGES).to_arrow_reader(DEFAULT_BATCH_ROWS)


def image_counts(store: PoolStore) -> ImageCounts:
    """Numbers of images of the manifest; all 0 if the pool has none."""
    return ImageCounts(*store.rows("SELECT count(*), count(*) FILTER (labeled) FROM images")[0])


# A labeled image is not in the queue, whether it has predictions or not.
UNLABELED_AND_SEEN = """
FROM (SELECT unnest($prediction_sets) AS prediction_set) s CROSS JOIN images i
LEFT JOIN (
    SELECT prediction_set, image_id FROM {predictions}
    UNION
    SELECT prediction_set, image_id FROM empty_images WHERE prediction_set IN $prediction_sets
) seen ON s.prediction_set = seen.prediction_set AND i.image_id = seen.image_id
WHERE NOT i.labeled
"""

COVERAGE = f"""
SELECT s.prediction_set, count(*) AS images, count(*) FILTER (seen.image_id IS NULL) AS without
{UNLABELED_AND_SEEN} GROUP BY s.prediction_set ORDER BY without DESC, s.prediction_set
"""


def coverage(store: PoolStore, prediction_sets: Sequence[str]) -> list[Coverage]:
    """The part of the manifest that each set covers, the worst first."""
    query = of_sets(store, prediction_sets, COVERAGE)
    return [Coverage(*row) for row in store.rows(query, prediction_sets=prediction_sets)]


UNCOVERED_IMAGES = f"""
SELECT s.prediction_set, i.image_id, i.uri
{UNLABELED_AND_SEEN} AND seen.image_id IS NULL
ORDER BY s.prediction_set, i.image_id LIMIT $first
"""


def uncovered_images(store: PoolStore, prediction_sets: Sequence[str]) -> list[dict[str, Any]]:
    """The first images of the manifest without a label that a set says nothing about."""
    query = of_sets(store, prediction_sets, UNCOVERED_IMAGES)
    return first_rows(store, query, prediction_sets=prediction_sets)
