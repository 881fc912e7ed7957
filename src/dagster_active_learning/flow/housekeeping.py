"""Prediction sets that are no longer wanted, and all that was made of them, leave the database."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection

from dagster_active_learning.errors import PoolStateError
from dagster_active_learning.files.storage import Storage
from dagster_active_learning.flow.commit_in_place import NOT_IN_MANIFEST, WITHOUT_PREDICTIONS
from dagster_active_learning.flow.scored_files import MARKER, RUNS
from dagster_active_learning.store import prediction_sets
from dagster_active_learning.store.in_place_sets import (
    InPlaceSet,
    folders_in_use,
    in_place_set,
)
from dagster_active_learning.store.kept_predictions import LOOKED_UP
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

DAY = 86_400
"""Seconds for which a run that has failed may be started again without reading all files again."""


def delete_prediction_set(database: Database, *, pool: str, prediction_set: str) -> None:
    """Remove a prediction set: its predictions, scores, rankings and quarantine.

    The open batch goes too, if it was made of it. Batches that were handed out stay. Of a set in
    place the files of predictions stay, and the folder with its scores goes.

    Args:
        database: The path of the database, opened to write and closed again, or an open connection.
        pool: The pool's name.
        prediction_set: Name of the set.

    Raises:
        PoolStateError: If the database does not have the pool, or the pool not the set, or images
            that were chosen by it are in flight.
        OSError: If the folder cannot be removed; the set is gone then.

    Example:
        >>> delete_prediction_set("labeling.duckdb", pool="digits", prediction_set="2026-05")
        >>> with duckdb.connect("labeling.duckdb") as connection:
        ...     connection.sql("FROM digits.prediction_sets").fetchall()
        []
    """
    with existing_pool(database, pool, read_only=False) as store:
        with store.transaction():
            if prediction_set in prediction_sets_in_flight(store):
                raise PoolStateError(
                    f"images that were chosen by prediction set {prediction_set!r} of pool "
                    f"{pool!r} are in flight: label them and read the manifest again, or call "
                    "release_batch first"
                )
            prediction_sets.prediction_set(store, prediction_set)
            kept = in_place_set(store, prediction_set)
            _delete(store, [prediction_set])
        folders = set() if kept is None else {kept.folder.folder, kept.score_folder.folder}
        for folder in sorted(folders):
            parent, _, name = folder.rpartition("/")
            if (
                parent.endswith(f"/{store.pool_id}")
                and name not in folders_in_use(store)
                and _set_of(Storage(parent), name) == prediction_set
            ):
                Storage(parent).remove(name)


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


def remove_former_folders(
    store: PoolStore,
    storage: Storage,
    names: Collection[str],
    *,
    run_id: str,
    seconds_since_end: Callable[[str], float | None],
) -> int:
    """Remove the folders in a pool's storage that no set in the database uses, and former files.

    Of the sets that are named, what was written about their images at former scorings and rankings
    goes too.

    They are known by their names, which are hashes: paths and addresses have several spellings.
    Only folders that this package has made, which its marker in them says. A folder of another set
    than those named may be about to be filled, or to be filled on by a run that is started again:
    it goes if all runs that have filled it are known, and ended a day ago.

    Args:
        store: The pool.
        storage: Its own folder in the storage, which ``pool_id`` names.
        names: The sets that are committed or removed now.
        run_id: The run that does it.
        seconds_since_end: How long ago a run has ended, by its id: 0 while it goes on, None where
            the run is not known.

    Returns:
        How many were removed.
    """
    used = folders_in_use(store)
    former: list[str] = []
    folders = storage.folders()
    for name in names:
        if (kept := in_place_set(store, name)) is not None:
            _remove_former_files(kept, storage, folders)
    for folder in folders:
        if folder in used or (name := _set_of(storage, folder)) is None:
            continue
        runs = {run: seconds_since_end(run) for run in storage.within(f"{folder}/{RUNS}").files()}
        if name in names:
            if not any(since == 0 for run, since in runs.items() if run != run_id):
                former.append(folder)
        elif runs and all(since is not None and since >= DAY for since in runs.values()):
            former.append(folder)
    for folder in former:
        storage.remove(folder)
    return len(former)


def _remove_former_files(kept: InPlaceSet, storage: Storage, folders: Collection[str]) -> None:
    """Remove files of one scoring or ranking that a set does not read any more.

    Only from the pool's own folders: a copy of a database may read those of the original.
    """
    used = {*kept.quarantine_files, *kept.score_files}
    for path in {kept.folder.folder, kept.score_folder.folder}:
        if (name := path.rpartition("/")[2]) not in folders:
            continue
        folder = storage.within(name)
        for pattern in (NOT_IN_MANIFEST, WITHOUT_PREDICTIONS, LOOKED_UP):
            part, _, beginning = pattern.partition("{")[0].rpartition("/")
            for file in folder.within(part).files():
                found = f"{part}/{file}".lstrip("/")
                if file.startswith(beginning) and found not in used:
                    folder.remove(found)


def _set_of(storage: Storage, folder: str) -> str | None:
    """The prediction set that a folder was made for; None if it is not this package's."""
    try:
        return json.loads(storage.read(f"{folder}/{MARKER}") or b"")["prediction_set"]
    except (ValueError, TypeError, KeyError):
        return None


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
