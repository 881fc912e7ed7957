"""What a batch is chosen from: images that are neither labeled nor in flight, and the queue."""

# Statements share the one that says what is in flight.
# ruff: noqa: S608

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import pyarrow as pa

from dagster_active_learning.limits import DEFAULT_BATCH_ROWS
from dagster_active_learning.rules import Rules
from dagster_active_learning.store.kept_predictions import of_images
from dagster_active_learning.store.labeling_batches import IN_FLIGHT
from dagster_active_learning.store.pool_store import PoolStore
from dagster_active_learning.store.predicted_classes import predicted_classes_sql
from dagster_active_learning.store.set_rows import of_sets

if TYPE_CHECKING:
    import polars as pl

# With a manifest the pool's images are its images; else those that have scores.
UNLABELED_IMAGES = f"""
SELECT image_id FROM (
    SELECT image_id FROM images WHERE $in_manifest AND NOT labeled
    UNION ALL
    SELECT image_id FROM {{image_scores}} WHERE NOT $in_manifest
)
WHERE image_id NOT IN ({IN_FLIGHT})
"""


def unlabeled_images(store: PoolStore, prediction_set: str, rules: Rules) -> Iterator[pa.Array]:
    """The ids of all images that are neither labeled nor in flight, in batches."""
    query = of_sets(store, [prediction_set], UNLABELED_IMAGES)
    relation = store.relation(query, in_manifest=rules.in_manifest)
    for batch in relation.to_arrow_reader(DEFAULT_BATCH_ROWS):
        yield batch.column(0)


# As the ranking has them, without those that are labeled by now.
QUEUE = f"""
SELECT c.image_id, c.rank, c.predicted_class, c.prediction_count
FROM labeling_candidates c LEFT JOIN images i ON $in_manifest AND c.image_id = i.image_id
WHERE c.prediction_set = $prediction_set AND c.acquisition_function = $acquisition_function
    AND NOT ($in_manifest AND coalesce(i.labeled, true)) AND c.image_id NOT IN ({IN_FLIGHT})
    AND c.image_id NOT IN (SELECT unnest($drawn))
ORDER BY c.rank LIMIT $queue_length
"""


def queue(
    store: PoolStore,
    prediction_set: str,
    function: str,
    rules: Rules,
    *,
    drawn: Sequence[str],
    queue_length: int,
) -> pl.DataFrame:
    """The first candidates that are neither labeled, in flight nor drawn at random.

    Columns image_id, rank, predicted_class and prediction_count, in the order of the ranks.
    """
    return store.relation(
        QUEUE,
        prediction_set=prediction_set,
        acquisition_function=function,
        in_manifest=rules.in_manifest,
        drawn=list(drawn),
        queue_length=queue_length,
    ).pl()


DESCRIBED = """
{predicted_classes}
SELECT c.image_id, p.class AS predicted_class, coalesce(n.prediction_count, 0) AS prediction_count
FROM active_learning__incoming c LEFT JOIN predicted p ON c.image_id = p.image_id
LEFT JOIN (
    SELECT image_id, count(*) AS prediction_count FROM incoming_predictions GROUP BY image_id
) n ON c.image_id = n.image_id
"""


def described(
    store: PoolStore, prediction_set: str, image_ids: Sequence[str], *, objects: bool
) -> dict[str, tuple[str | None, int]]:
    """The predicted class and the number of predictions of images, by their ids."""
    if not image_ids:
        return {}
    # The statement finds them as the variables of these names.
    active_learning__incoming = pa.table({"image_id": pa.array(image_ids, pa.string())})  # noqa: F841 # pyright: ignore[reportUnusedVariable]
    statement = DESCRIBED.format(predicted_classes=predicted_classes_sql(objects=objects))
    (query,), active_learning__kept = of_images(store, prediction_set, image_ids, [statement])  # noqa: RUF059 # pyright: ignore[reportUnusedVariable]
    rows = store.connection.execute(query, {"prediction_set": prediction_set}).fetchall()
    return {image_id: (name, count) for image_id, name, count in rows}


LABELED = f"SELECT image_id FROM images WHERE labeled UNION ({IN_FLIGHT})"


def labeled_or_in_flight(store: PoolStore) -> list[str]:
    """The ids of images that are labeled or out."""
    return [image_id for (image_id,) in store.rows(f"{LABELED} ORDER BY image_id")]


LABELS_BY_CLASS = """
SELECT label, count(*) FROM images WHERE labeled GROUP BY label
"""


def labels_by_class(store: PoolStore) -> dict[str | None, int]:
    """The number of labeled images of each label of the manifest, None where it names no label."""
    return dict(store.rows(LABELS_BY_CLASS))
