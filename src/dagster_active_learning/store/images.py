"""The table ``images``: the pool's manifest."""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa

from dagster_active_learning.limits import DEFAULT_BATCH_ROWS
from dagster_active_learning.store.pool_store import PoolStore


@dataclass(frozen=True)
class ImageCounts:
    """Images of the manifest, and those of them that are labeled."""

    images: int
    labeled: int


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


MANIFEST_HASH = """
SELECT concat_ws('-', count(*), coalesce(sum(hash(image_id)), 0)) FROM images
"""


def manifest_hash(store: PoolStore) -> str:
    """A text that is the same for manifests of the same images, in whatever order."""
    return store.rows(MANIFEST_HASH)[0][0]
