"""Batches that go out and images that come back, and whether the files of a batch are there."""

# Statements share the one that says what is in flight.
# ruff: noqa: S608

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from dagster_active_learning.errors import PoolStateError
from dagster_active_learning.store.labeling_batches import (
    IN_FLIGHT,
    batch_rows,
    existing_batch,
    last_batch,
    open_batch_number,
)
from dagster_active_learning.store.pool_store import PoolStore
from dagster_active_learning.store.pools import Database, existing_pool

if TYPE_CHECKING:
    import polars as pl

RETURN_OVERDUE = """
UPDATE labeling_batches SET returned_at = now()
WHERE handed_out_at < now() - to_days($days) AND returned_at IS NULL AND image_id NOT IN (
    SELECT image_id FROM images WHERE labeled
)
"""


def return_overdue(store: PoolStore, days: int) -> int:
    """Take back what has been out for more than some days; the number of images."""
    ((count,),) = store.connection.execute(RETURN_OVERDUE, {"days": days}).fetchall()
    return count


HAND_OUT = """
UPDATE labeling_batches SET handed_out_at = now()
WHERE batch = $batch AND handed_out_at IS NULL
"""


def mark_handed_out(store: PoolStore, batch: int) -> None:
    """Record that a batch is out: it is fixed from now on, and its images are in flight."""
    store.connection.execute(HAND_OUT, {"batch": batch})


BEGIN_EXPORT = """
INSERT INTO unfinished_exports BY NAME
SELECT DISTINCT batch, now() AS began_at FROM labeling_batches
WHERE batch = $batch AND handed_out_at IS NULL
"""


def begin_export(store: PoolStore, batch: int) -> None:
    """Record that the files of a batch are about to be there: from now on it is fixed.

    What is committed before the first file takes its place holds if the step is killed then: either
    nobody can have the batch, or it is fixed. A batch that is out already stays as it is.
    """
    with store.transaction():
        store.connection.execute(BEGIN_EXPORT, {"batch": batch})
        mark_handed_out(store, batch)


END_EXPORT = "DELETE FROM unfinished_exports WHERE batch = $batch"


def end_export(store: PoolStore, batch: int) -> None:
    """Record that all files of a batch are there."""
    store.connection.execute(END_EXPORT, {"batch": batch})


UNFINISHED = f"""
SELECT max(batch) FROM unfinished_exports u WHERE batch IN (
    SELECT batch FROM labeling_batches
    WHERE returned_at IS NULL AND image_id IN ({IN_FLIGHT})
)
"""


def unfinished_batch(store: PoolStore) -> int | None:
    """The batch in flight whose files may not be there, for their export did not end."""
    return store.rows(UNFINISHED)[0][0]


def hand_out_batch(database: Database, *, pool: str) -> pl.DataFrame:
    """Hand the open batch out: from now on it is fixed, and its images are in flight.

    A batch whose export did not end is handed out by this, too.

    Args:
        database: The path of the database, opened to write and closed again, or an open connection.
        pool: The pool's name.

    Returns:
        The images of the batch, as ``load_batch`` gives them.

    Raises:
        PoolStateError: If the database does not have the pool, or the pool no open batch.

    Example:
        >>> hand_out_batch("labeling.duckdb", pool="digits")["image_id"].to_list()
        ['digit_0', 'digit_2']
    """
    import polars as pl

    with existing_pool(database, pool, read_only=False) as store:
        with store.transaction():
            batch = unfinished_batch(store) or open_batch_number(store)
            if batch != last_batch(store):
                raise PoolStateError(
                    f"pool {pool!r} has no open batch: materialize {pool}/labeling_batch first"
                )
            mark_handed_out(store, batch)
            end_export(store, batch)
        return pl.DataFrame(batch_rows(store, batch).read_all())


RELEASE = """
UPDATE labeling_batches SET returned_at = now()
WHERE handed_out_at IS NOT NULL AND returned_at IS NULL
    AND ($batch IS NULL OR batch = $batch)
    AND ($image_ids IS NULL OR list_contains($image_ids, image_id))
    AND image_id NOT IN (SELECT image_id FROM images WHERE labeled)
"""


def release_batch(
    database: Database,
    *,
    pool: str,
    batch: int | None = None,
    image_ids: Sequence[str] | None = None,
) -> int:
    """Take back images that are in flight: they may be in a batch again.

    Args:
        database: The path of the database, opened to write and closed again, or an open connection.
        pool: The pool's name.
        batch: Number of the batch; by default all that are out.
        image_ids: The images; by default all of the batch that have no label.

    Returns:
        The number of images that came back.

    Raises:
        PoolStateError: If the database does not have the pool, or the pool no such batch.

    Example:
        >>> batch = hand_out_batch("labeling.duckdb", pool="digits")
        >>> release_batch("labeling.duckdb", pool="digits", image_ids=["digit_2"])
        1
    """
    with existing_pool(database, pool, read_only=False) as store, store.transaction():
        if batch is not None:
            existing_batch(store, batch)
        values = {"batch": batch, "image_ids": None if image_ids is None else list(image_ids)}
        ((count,),) = store.connection.execute(RELEASE, values).fetchall()
        return count
