"""The table ``empty_images``: images in which the model found no object."""

from __future__ import annotations

import pyarrow as pa

from dagster_active_learning.store.pool_store import PoolStore

INSERT_EMPTY_IMAGES = """
INSERT INTO empty_images BY NAME
SELECT $prediction_set AS prediction_set, image_id FROM active_learning__incoming
"""


def add_empty_images(store: PoolStore, prediction_set: str, images: pa.RecordBatch) -> None:
    """Store the column image_id: images in which the model found no object."""
    store.insert(INSERT_EMPTY_IMAGES, images, prediction_set=prediction_set)


def has_empty_images(store: PoolStore, prediction_set: str) -> bool:
    """True if the source says of any image that the model found no object in it."""
    query = "SELECT EXISTS (FROM empty_images WHERE prediction_set = $prediction_set)"
    return store.rows(query, prediction_set=prediction_set)[0][0]


EMPTY_IMAGES_NOT_IN_MANIFEST = """
SELECT count(DISTINCT e.image_id) FROM empty_images e ANTI JOIN images i ON e.image_id = i.image_id
WHERE e.prediction_set = $prediction_set
"""


def empty_images_not_in_manifest(store: PoolStore, prediction_set: str) -> int:
    """Number of images in which the model found no object and that the manifest does not have."""
    return store.rows(EMPTY_IMAGES_NOT_IN_MANIFEST, prediction_set=prediction_set)[0][0]
