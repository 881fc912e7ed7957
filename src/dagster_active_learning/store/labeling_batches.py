"""The tables of batches: ``labeling_batches``, ``batch_selections`` and what belongs to them.

A batch is open until it is handed out; then it is fixed. In flight are images that are handed out,
not returned and not labeled: a manifest that says of an image that it has its label takes it out of
the flight.
"""

# Statements share the one that says what is in flight.
# ruff: noqa: S608

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import pyarrow as pa

from dagster_active_learning.errors import PoolStateError
from dagster_active_learning.limits import DEFAULT_BATCH_ROWS
from dagster_active_learning.store.findings import Findings, findings
from dagster_active_learning.store.kept_predictions import of_images
from dagster_active_learning.store.pool_store import PoolStore
from dagster_active_learning.store.pools import Database, existing_pool
from dagster_active_learning.store.set_rows import of_sets

if TYPE_CHECKING:
    import polars as pl

IN_FLIGHT = """
SELECT b.image_id FROM labeling_batches b LEFT JOIN images i ON b.image_id = i.image_id
WHERE b.handed_out_at IS NOT NULL AND b.returned_at IS NULL AND NOT coalesce(i.labeled, false)
"""


def in_flight_count(store: PoolStore) -> int:
    """Number of images that are out."""
    return store.rows(f"SELECT count(*) FROM ({IN_FLIGHT})")[0][0]


LAST_BATCH = """
SELECT coalesce(max(batch), 0), coalesce(max(batch) FILTER (handed_out_at IS NOT NULL), 0)
FROM labeling_batches
"""


def open_batch_number(store: PoolStore) -> int:
    """The number of the open batch, or of the next one where none is open."""
    return store.rows(LAST_BATCH)[0][1] + 1


DELETE_OPEN = "DELETE FROM {table} WHERE batch >= $batch"

INSERT_BATCH = """
INSERT INTO labeling_batches BY NAME
SELECT $batch AS batch, b.position, b.image_id, b.chosen_by,
    $acquisition_function AS acquisition_function, c.rank AS queue_rank, b.selection_probability,
    c.score, c.uncertainty, b.prediction_count, b.predicted_class, b.nearest_distance,
    $prediction_set AS prediction_set, r.run_id AS ranking_run_id, $run_id AS run_id,
    now() AS created_at
FROM active_learning__incoming b
JOIN rankings r ON r.prediction_set = $prediction_set
    AND r.acquisition_function = $acquisition_function
LEFT JOIN labeling_candidates c ON c.prediction_set = r.prediction_set
    AND c.acquisition_function = r.acquisition_function AND c.image_id = b.image_id
ORDER BY b.position
"""

INSERT_SELECTION = """
INSERT INTO batch_selections BY NAME
SELECT $batch AS batch, prediction_set, acquisition_function, $wanted_count AS wanted_count,
    $image_count AS image_count, $random_count AS random_count,
    $unlabeled_count AS unlabeled_count, $in_flight_count AS in_flight_count,
    $duplicate_count AS duplicate_count, $shortfall AS shortfall, $full_classes AS full_classes,
    generation AS ranking_generation, $run_id AS run_id, now() AS created_at
FROM rankings
WHERE prediction_set = $prediction_set AND acquisition_function = $acquisition_function
"""

INSERT_DUPLICATES = """
INSERT INTO near_duplicates BY NAME SELECT $batch AS batch, * FROM active_learning__incoming
"""


@dataclass(frozen=True, kw_only=True)
class BatchSelection:
    """One row of ``batch_selections``; the table's comments say what each column is."""

    batch: int
    prediction_set: str
    acquisition_function: str
    wanted_count: int
    image_count: int
    random_count: int
    unlabeled_count: int
    in_flight_count: int
    duplicate_count: int
    shortfall: str | None
    full_classes: list[str]
    run_id: str


def replace_open_batch(
    store: PoolStore, selection: BatchSelection, images: pl.DataFrame, duplicates: pl.DataFrame
) -> None:
    """Store a batch in place of the open one.

    Args:
        store: The pool, in a transaction.
        selection: How it was made.
        images: Columns position, image_id, chosen_by, selection_probability, prediction_count,
            predicted_class and nearest_distance.
        duplicates: Columns image_id, duplicate_of and distance.
    """
    delete_open_batch(store)
    # One that is still there is of a batch whose images have all come back or have their label.
    store.connection.execute("DELETE FROM unfinished_exports")
    values = {
        "batch": selection.batch,
        "prediction_set": selection.prediction_set,
        "acquisition_function": selection.acquisition_function,
        "run_id": selection.run_id,
    }
    store.insert(INSERT_BATCH, images.to_arrow(), **values)
    store.insert(INSERT_DUPLICATES, duplicates.to_arrow(), batch=selection.batch)
    store.connection.execute(INSERT_SELECTION, asdict(selection))


def delete_open_batch(store: PoolStore) -> None:
    """Remove the open batch, if there is one."""
    batch = open_batch_number(store)
    for table in ("labeling_batches", "batch_selections", "near_duplicates"):
        store.connection.execute(DELETE_OPEN.format(table=table), {"batch": batch})


BATCH_IMAGES = """
SELECT image_id, predicted_class FROM labeling_batches WHERE batch = $batch ORDER BY position
"""


def batch_images(store: PoolStore, batch: int) -> pl.DataFrame:
    """All images of a batch in their order, columns image_id and predicted_class."""
    return store.relation(BATCH_IMAGES, batch=batch).pl()


def last_batch(store: PoolStore) -> int | None:
    """The number of the open batch, or of the one that went out last; None without any."""
    return store.rows("SELECT max(batch) FROM labeling_batches")[0][0]


BATCH_ROWS = """
SELECT b.prediction_set, b.acquisition_function, b.position AS rank, b.image_id, i.uri, i.width,
    i.height, b.score, b.uncertainty, b.prediction_count, b.predicted_class, b.run_id, b.batch,
    b.chosen_by, b.queue_rank, b.selection_probability{columns}
FROM labeling_batches b LEFT JOIN images i ON b.image_id = i.image_id {predictions}
WHERE b.batch = $batch AND NOT coalesce(i.labeled, false) AND b.returned_at IS NULL
ORDER BY b.position{order}
"""

SETS_OF_BATCH = "SELECT DISTINCT prediction_set FROM labeling_batches WHERE batch = $batch"

OF_PREDICTIONS = {
    "columns": """, p.prediction_index, p.class_probs::{value_type} AS class_probs,
    p.score AS prediction_score, p.category, p.bbox, p.segmentation""",
    "predictions": """
LEFT JOIN {{predictions}} p ON b.prediction_set = p.prediction_set AND b.image_id = p.image_id""",
    "order": ", p.prediction_index",
}


def batch_rows(
    store: PoolStore, batch: int, *, value_type: str | None = None, rows: int = DEFAULT_BATCH_ROWS
) -> pa.RecordBatchReader:
    """The images of a batch that still are to be labeled, in their order.

    Args:
        store: The pool.
        batch: The number of the batch.
        value_type: The type of class probabilities, where one row per prediction is wanted.
        rows: Rows of an Arrow batch.

    Returns:
        The columns of ``candidate_rows``, with the place in the batch as rank, and batch,
        chosen_by, queue_rank and selection_probability; with ``value_type`` those of
        ``candidate_predictions`` too.
    """
    parts = dict.fromkeys(OF_PREDICTIONS, "")
    if value_type is not None:
        parts = {name: text.format(value_type=value_type) for name, text in OF_PREDICTIONS.items()}
    sets: list[str] = [name for (name,) in store.rows(SETS_OF_BATCH, batch=batch)]
    statement = BATCH_ROWS.format(**parts)
    if value_type is not None and len(sets) == 1:
        images = batch_images(store, batch)["image_id"]
        (query,), kept = of_images(store, sets[0], images, [statement])
    else:
        query, kept = of_sets(store, sets, statement), None
    return store.committed_rows(query, rows, kept=kept, batch=batch)


def load_batch(database: Database, *, pool: str, batch: int | None = None) -> pl.DataFrame:
    """The images of a batch that still are to be labeled, in the order in which to label them.

    Args:
        database: The path of the database, opened read-only and closed again, or an open
            connection, which is left as it is.
        pool: The pool's name.
        batch: Number of the batch; by default the open one, or the last one that went out.

    Raises:
        PoolStateError: If the database does not have the pool, or the pool no such batch.

    Example:
        >>> load_batch("labeling.duckdb", pool="digits").select("rank", "image_id").rows()
        [(1, 'digit_0'), (2, 'digit_2')]
    """
    import polars as pl

    with existing_pool(database, pool) as store:
        return pl.DataFrame(batch_rows(store, existing_batch(store, batch)).read_all())


def existing_batch(store: PoolStore, batch: int | None) -> int:
    """The number of a batch that is there; without one that of the newest."""
    numbers = [number for (number,) in store.rows("SELECT DISTINCT batch FROM labeling_batches")]
    if not numbers or (batch is not None and batch not in numbers):
        which = "no batch" if batch is None else f"no batch {batch}"
        raise PoolStateError(
            f"pool {store.pool!r} has {which}, it has {sorted(numbers)}: materialize "
            f"{store.pool}/labeling_batch first, or name another batch"
        )
    return max(numbers) if batch is None else batch


SELECTION = """
SELECT * EXCLUDE (ranking_generation, created_at) FROM batch_selections
ORDER BY batch DESC LIMIT 1
"""


def last_selection(store: PoolStore) -> BatchSelection | None:
    """How the newest batch was made; None without any."""
    rows = store.relation(SELECTION).to_arrow_table().to_pylist()
    return BatchSelection(**rows[0]) if rows else None


IMAGES_TWICE = """
SELECT max(prediction_set) AS prediction_set, image_id, count(*) AS times,
    list(batch ORDER BY batch)::VARCHAR AS batches, count(*) OVER () AS finding_count
FROM labeling_batches WHERE returned_at IS NULL
GROUP BY image_id HAVING count(*) > 1 ORDER BY image_id LIMIT $first
"""

LABELED_IN_BATCH = """
SELECT b.prediction_set, b.batch, b.position, b.image_id, i.label,
    count(*) OVER () AS finding_count
FROM labeling_batches b JOIN images i ON b.image_id = i.image_id
WHERE b.handed_out_at IS NULL AND i.labeled ORDER BY b.position LIMIT $first
"""

IN_FLIGHT_IN_BATCH = f"""
SELECT prediction_set, batch, position, image_id, count(*) OVER () AS finding_count
FROM labeling_batches
WHERE handed_out_at IS NULL AND image_id IN ({IN_FLIGHT}) ORDER BY position LIMIT $first
"""


def images_twice(store: PoolStore) -> Findings:
    """Images that are in several batches, or several times in one, and did not come back."""
    return findings(store, IMAGES_TWICE)


def labeled_in_batch(store: PoolStore) -> Findings:
    """Images of the open batch that have their label."""
    return findings(store, LABELED_IN_BATCH)


def in_flight_in_batch(store: PoolStore) -> Findings:
    """Images of the open batch that are in flight with an earlier one."""
    return findings(store, IN_FLIGHT_IN_BATCH)


SETS_IN_FLIGHT = """
SELECT DISTINCT prediction_set FROM labeling_batches b
LEFT JOIN images i ON b.image_id = i.image_id
WHERE b.handed_out_at IS NOT NULL AND b.returned_at IS NULL AND NOT coalesce(i.labeled, false)
"""


def prediction_sets_in_flight(store: PoolStore) -> set[str]:
    """The prediction sets whose images are in flight."""
    return {name for (name,) in store.rows(SETS_IN_FLIGHT)}
