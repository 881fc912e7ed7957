"""The table ``prediction_sets``: one row for all predictions of one model at one time."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any

from dagster_active_learning.errors import PoolStateError
from dagster_active_learning.rules import READING_RULES, Rules
from dagster_active_learning.store.kept_rules import differences, kept_rules
from dagster_active_learning.store.pool_store import PoolStore
from dagster_active_learning.store.prediction_sources import keep_former_sources
from dagster_active_learning.store.set_rows import drop_set_tables
from dagster_active_learning.store.set_tables import SetTables, renew_views


@dataclass(frozen=True, kw_only=True)
class PredictionSet:
    """One row of ``prediction_sets``; the table's comments say what each column is.

    The rules from ``task`` on are None where an earlier version read the predictions.
    """

    prediction_set: str
    generation: int
    model: str | None
    source: str
    source_sha256: str
    class_names: list[str]
    prediction_count: int
    image_count: int
    image_run_count: int
    quarantined_count: int
    score_only_count: int
    bbox_unit: str | None
    value_type: str
    run_id: str
    task: str | None = None
    inputs: str | None = None
    in_manifest: bool | None = None
    sum_tolerance: float | None = None
    scored_by: str | None = None

    @property
    def tables(self) -> SetTables:
        """Its own tables."""
        return SetTables(self.prediction_set, self.generation)

    @property
    def has_class_probs(self) -> bool:
        """True if any of its predictions has class probabilities."""
        return self.prediction_count > self.score_only_count


_COLUMNS = [field.name for field in fields(PredictionSet)]

DELETE_PREDICTION_SET = "DELETE FROM {table} WHERE prediction_set = $prediction_set"

TABLES_OF_PREDICTIONS = (
    "prediction_sets",
    "prediction_sources",
    "predicted_classes",
    "empty_images",
    "scorings",
    "quarantined_predictions",
    "in_place_sets",
    "in_place_files",
)


def clear_prediction_set(store: PoolStore, prediction_set: str) -> None:
    """Remove a prediction set's rows and scores; its rankings stay until they are made again.

    The views are to be renewed after it.
    """
    keep_former_sources(store, prediction_set)
    drop_set_tables(store, prediction_set)
    for table in TABLES_OF_PREDICTIONS:
        statement = DELETE_PREDICTION_SET.format(table=table)
        store.connection.execute(statement, {"prediction_set": prediction_set})


INSERT_PREDICTION_SET = """
INSERT INTO prediction_sets ({columns}, ingested_at) VALUES ({values}, now())
"""


def add_prediction_set(store: PoolStore, prediction_set: PredictionSet) -> None:
    """Record a prediction set whose rows have been stored, and show them in the views."""
    statement = INSERT_PREDICTION_SET.format(
        columns=", ".join(_COLUMNS), values=", ".join(f"${column}" for column in _COLUMNS)
    )
    store.connection.execute(statement, asdict(prediction_set))
    renew_views(store.connection)


PREDICTION_SET = "SELECT {columns} FROM prediction_sets WHERE prediction_set = $prediction_set"


def prediction_set(store: PoolStore, name: str) -> PredictionSet:
    """The record of a prediction set.

    Raises:
        PoolStateError: If the set is not in the database.
    """
    rows = store.rows(PREDICTION_SET.format(columns=", ".join(_COLUMNS)), prediction_set=name)
    if not rows:
        raise PoolStateError(
            f"pool {store.pool!r} has no prediction set {name!r} in the database "
            f"{store.database!r}: materialize {store.pool}/predictions first"
        )
    return PredictionSet(**dict(zip(_COLUMNS, rows[0], strict=True)))


def check_reading(store: PoolStore, prediction_set: PredictionSet, rules: Rules) -> None:
    """Raise PoolStateError if predictions were read under other rules than those that hold now.

    What an earlier version read, without keeping its rules, is taken as it is: nothing that is
    stored can make it again.
    """
    wanted = kept_rules(rules, READING_RULES)
    kept: dict[str, Any] = {name: getattr(prediction_set, name) for name in wanted}
    if prediction_set.task is not None and (other := differences(kept, wanted)):
        raise PoolStateError(
            f"the predictions of prediction set {prediction_set.prediction_set!r} of pool "
            f"{store.pool!r} were read {other}: materialize {store.pool}/predictions first"
        )


def prediction_set_names(store: PoolStore) -> list[str]:
    """The names of all prediction sets of the pool, in alphabetical order."""
    rows = store.rows("SELECT prediction_set FROM prediction_sets ORDER BY prediction_set")
    return [name for (name,) in rows]


def prediction_sets_by_age(store: PoolStore) -> list[str]:
    """The names of all prediction sets of the pool, the one that was read first before others."""
    rows = store.rows("SELECT prediction_set FROM prediction_sets ORDER BY generation")
    return [name for (name,) in rows]


def chosen_prediction_set(store: PoolStore, name: str | None) -> str:
    """The prediction set with that name, or without a name the pool's only one.

    Raises:
        PoolStateError: If the pool does not have the set, or it is not the only one.
    """
    if name is not None:
        return prediction_set(store, name).prediction_set
    names = prediction_set_names(store)
    if len(names) != 1:
        raise PoolStateError(
            f"pool {store.pool!r} has {len(names)} prediction sets, {names}: "
            + ("name one as prediction_set" if names else f"materialize {store.pool}/predictions")
        )
    return names[0]


CLASS_NAMES = "SELECT class_names FROM prediction_sets ORDER BY generation"


def known_class_names(store: PoolStore) -> list[str]:
    """The classes of all prediction sets, in the order in which they came to be known."""
    names = (name for (class_names,) in store.rows(CLASS_NAMES) for name in class_names)
    return list(dict.fromkeys(names))


FORMER_CLASS_NAMES = """
SELECT class_names FROM prediction_sets
WHERE generation < (
    SELECT generation FROM prediction_sets WHERE prediction_set = $prediction_set
)
ORDER BY generation DESC LIMIT 1
"""


def former_class_names(store: PoolStore, prediction_set: str) -> list[str] | None:
    """The class names of the set that was read last before this one, if there is one."""
    rows = store.rows(FORMER_CLASS_NAMES, prediction_set=prediction_set)
    return rows[0][0] if rows else None
