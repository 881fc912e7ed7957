"""Prediction sets leave the database with all that was made of them."""

import numpy as np
import pyarrow as pa
import pytest

from dagster_active_learning import (
    ACQUISITION_FUNCTIONS,
    delete_prediction_set,
    flow,
    hand_out_batch,
    release_batch,
)
from dagster_active_learning.errors import PoolStateError
from dagster_active_learning.ranking.batch_rules import BatchRules
from dagster_active_learning.store.prediction_sets import prediction_set_names
from dagster_active_learning.store.schema import TABLES
from pools import RULES, in_memory, ingest, rows

IDS = [f"image{number}" for number in range(40)]


def add(store, name, *, batch=False):
    class_probs = np.random.default_rng(len(name)).dirichlet([1, 1], len(IDS)).astype(np.float32)
    ingest(
        store,
        in_memory(pa.table({"image_id": IDS, "class_probs": list(class_probs)})),
        prediction_set=name,
    )
    flow.score_prediction_set(store, name, rules=RULES, run_id="run", report=lambda _: None)
    margin = [ACQUISITION_FUNCTIONS["margin"]]
    flow.rank_candidates(store, name, margin, rules=RULES, limit=20, seed=0, run_id="run")
    if batch:
        flow.select_labeling_batch(
            store,
            name,
            "margin",
            rules=RULES,
            batch_rules=BatchRules(size=5),
            seed=0,
            run_id="run",
        )


def tables_with(store, name):
    """The tables that have rows of a prediction set."""
    columns = rows(store, "SELECT table_name FROM duckdb_columns() WHERE schema_name = 'pool' AND column_name = 'prediction_set'")  # fmt: skip
    named = {table for (table,) in columns} & set(TABLES)
    return {
        table
        for table in named
        if rows(store, f"SELECT count(*) FROM {table} WHERE prediction_set = '{name}'") != [(0,)]
    }


def test_a_deleted_set_leaves_nothing_behind_and_others_as_they_were(store, database):
    add(store, "old", batch=True)
    add(store, "new")
    kept = tables_with(store, "new")
    assert "labeling_batches" in tables_with(store, "old")
    delete_prediction_set(store.connection, pool="pool", prediction_set="old")
    assert tables_with(store, "old") == set()
    assert tables_with(store, "new") == kept
    with pytest.raises(PoolStateError, match="no prediction set 'old'"):
        delete_prediction_set(store.connection, pool="pool", prediction_set="old")
    store.connection.close()
    delete_prediction_set(database, pool="pool", prediction_set="new")


def test_a_set_whose_images_are_in_flight_stays(store):
    add(store, "old", batch=True)
    hand_out_batch(store.connection, pool="pool")
    add(store, "new")
    with pytest.raises(PoolStateError, match=r"'old' .* are in flight: .*release_batch first"):
        delete_prediction_set(store.connection, pool="pool", prediction_set="old")
    assert flow.keep_newest_sets(store, 1) == []
    release_batch(store.connection, pool="pool")
    assert flow.keep_newest_sets(store, 1) == ["old"]
    # What was out is history.
    assert tables_with(store, "old") == {"labeling_batches", "batch_selections"}


def test_the_oldest_go_first_and_orphans_before_them(store):
    for name in ("default", "b", "a", "c"):
        add(store, name)
    assert flow.keep_newest_sets(store, 4) == []
    assert flow.keep_newest_sets(store, 4, orphans=["default"]) == ["default"]
    assert flow.keep_newest_sets(store, 2) == ["b"]
    assert prediction_set_names(store) == ["a", "c"]
