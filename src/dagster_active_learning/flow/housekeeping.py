"""Prediction sets that are no longer wanted, and all that was made of them, leave the database."""

from __future__ import annotations

from collections.abc import Collection

from dagster_active_learning.errors import PoolStateError
from dagster_active_learning.store import prediction_sets
from dagster_active_learning.store.labeling_batches import (
    delete_open_batch,
    last_selection,
    open_batch_number,
    prediction_sets_in_flight,
)
from dagster_active_learning.store.pool_store import PoolStore
from dagster_active_learning.store.pools import Database, existing_pool
from dagster_active_learning.store.ranking_statistics import delete_statistics
from dagster_active_learning.store.rankings import delete_rankings
from dagster_active_learning.store.set_tables import renew_views


def delete_prediction_set(database: Database, *, pool: str, prediction_set: str) -> None:
    """Remove a prediction set: its predictions, scores, rankings and quarantine.

    The open batch goes too, if it was made of it. Batches that were handed out stay.

    Args:
        database: The path of the database, opened to write and closed again, or an open connection.
        pool: The pool's name.
        prediction_set: Name of the set.

    Raises:
        PoolStateError: If the database does not have the pool, or the pool not the set, or images
            that were chosen by it are in flight.

    Example:
        >>> delete_prediction_set("labeling.duckdb", pool="digits", prediction_set="2026-05")
        >>> with duckdb.connect("labeling.duckdb") as connection:
        ...     connection.sql("FROM digits.prediction_sets").fetchall()
        []
    """
    with existing_pool(database, pool, read_only=False) as store, store.transaction():
        if prediction_set in prediction_sets_in_flight(store):
            raise PoolStateError(
                f"images that were chosen by prediction set {prediction_set!r} of pool {pool!r} "
                "are in flight: label them and read the manifest again, or call release_batch first"
            )
        _delete(store, [prediction_sets.prediction_set(store, prediction_set).prediction_set])


def keep_newest_sets(store: PoolStore, count: int, *, orphans: Collection[str] = ()) -> list[str]:
    """Remove all but the newest prediction sets, but none of which images are in flight.

    Args:
        store: The pool.
        count: How many stay.
        orphans: Sets that go first, whatever their age: such as that of a pool which had no
            partitions then.

    Returns:
        The names of those that were removed, the oldest first.
    """
    with store.transaction():
        in_flight = prediction_sets_in_flight(store)
        names = prediction_sets.prediction_sets_by_age(store)
        others = [name for name in names if name not in orphans]
        beyond = others[: max(len(others) - count, 0)]
        removed = [
            name for name in names if (name in orphans or name in beyond) and name not in in_flight
        ]
        _delete(store, removed)
    return removed


def _delete(store: PoolStore, names: Collection[str]) -> None:
    """Remove sets in the open transaction."""
    selection = last_selection(store)
    is_open = selection is not None and selection.batch == open_batch_number(store)
    if selection is not None and is_open and selection.prediction_set in names:
        delete_open_batch(store)
    for name in names:
        prediction_sets.clear_prediction_set(store, name)
        delete_rankings(store, name)
        delete_statistics(store, name)
    renew_views(store.connection)
