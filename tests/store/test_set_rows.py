"""The rows of prediction sets in tables of their own, and together in the views."""

import duckdb
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dagster_active_learning.store.pool_store import PoolStore
from dagster_active_learning.store.prediction_sets import (
    PredictionSet,
    add_prediction_set,
    clear_prediction_set,
)
from dagster_active_learning.store.set_columns import prediction_schema
from dagster_active_learning.store.set_rows import append, make_set_tables, of_sets
from dagster_active_learning.store.set_tables import renew_views
from pools import column, rows

VALUES = {
    "class_probs": [0.25, 0.75],
    "score": 0.5,
    "category": "{predictions} it's",
    "bbox": [1.0, 2.0, 3.0, 4.0],
    "segmentation": "[[1, 2]]",
}
"""A value of each column that may be null."""

NAMES = list(VALUES)

SINGLE = pa.float32()


def add(store, name, patterns, value_type=SINGLE):
    """Store a set of batches, each given by the columns that its rows fill; returns the rows."""
    tables = make_set_tables(store, name)
    schema = prediction_schema(value_type)
    batches = []
    for filled in patterns:
        index = sum(batch.num_rows for batch in batches)
        values = {column: VALUES[column] for column in filled}
        listed = [
            {"image_id": f"image{index + row}", "prediction_index": index + row, **values}
            for row in range(2)
        ]
        batches.append(pa.RecordBatch.from_pylist(listed, schema))
    append(store, tables, "predictions", schema, batches)
    add_prediction_set(
        store,
        PredictionSet(
            prediction_set=name, generation=tables.generation, model=None, source="s",
            source_sha256="0f", class_names=["x", "y"], prediction_count=0, image_count=0,
            image_run_count=0, quarantined_count=0, score_only_count=0, bbox_unit=None,
            value_type="FLOAT[]", run_id="run",
        ),
    )  # fmt: skip
    expected = pa.Table.from_batches(batches, schema).to_pylist()
    return tables, [{"prediction_set": name, **row} for row in expected]


def view(store):
    return store.relation("FROM predictions ORDER BY prediction_set, prediction_index")


SETTINGS = settings(max_examples=12, deadline=None)


@SETTINGS
@given(
    sets=st.lists(
        st.lists(st.sets(st.sampled_from(NAMES)).map(sorted), max_size=4), min_size=1, max_size=3
    )
)
def test_a_table_has_the_columns_that_were_filled_and_the_view_all(sets):
    with duckdb.connect() as connection:
        store = PoolStore(connection, "pool")
        expected = []
        for number, patterns in enumerate(sets):
            tables, stored = add(store, f"set {number}'", patterns)
            expected += stored
            own = store.relation(f"FROM {tables.name('predictions')}").columns
            filled = {name for pattern in patterns for name in pattern}
            assert set(own) == {"image_id", "prediction_index", *filled}
            query = of_sets(store, [f"set {number}'"], "FROM {predictions} ORDER BY 3")
            assert store.relation(query).to_arrow_table().to_pylist() == stored
        assert view(store).to_arrow_table().to_pylist() == expected
        assert view(store).columns == ["prediction_set", *prediction_schema(pa.float32()).names]


def test_each_set_has_its_precision_and_the_view_the_wider_one(store):
    add(store, "single", [["class_probs"]])
    assert view(store).types[3] == "FLOAT[]"
    add(store, "double", [["class_probs"]], pa.float64())
    assert view(store).types[3] == "DOUBLE[]"
    for name, kind in (("single", "FLOAT[]"), ("double", "DOUBLE[]")):
        assert store.relation(of_sets(store, [name], "FROM {predictions}")).types[3] == kind


def test_a_set_that_is_gone_leaves_no_table_and_a_missing_one_has_no_rows(store):
    add(store, "a", [NAMES])
    add(store, "b", [["score"]])
    clear_prediction_set(store, "a")
    renew_views(store.connection)
    assert column(store, "SELECT DISTINCT prediction_set FROM predictions") == ["b"]
    tables = (
        "SELECT count(*) FROM duckdb_tables() WHERE table_name LIKE '%predictions\\__' ESCAPE '\\'"
    )
    assert column(store, tables) == [1]
    assert rows(store, of_sets(store, ["a"], "FROM {predictions}")) == []
    assert rows(store, of_sets(store, [], "FROM {image_scores}")) == []


def test_a_table_of_the_user_stays(store):
    (following,) = column(store, "SELECT nextval('generations') + 1")
    store.connection.execute(f"CREATE TABLE predictions_{following} AS SELECT 'mine' AS owner")
    tables, expected = add(store, "set", [["score"]])
    assert tables.generation == following + 1
    assert view(store).to_arrow_table().to_pylist() == expected
    assert column(store, f"SELECT owner FROM predictions_{following}") == ["mine"]


@pytest.mark.parametrize("name", ["{predictions}", "it's", "$1", "a\nb", '"', "ö" * 200, "'; --"])
def test_the_name_of_a_set_is_text(store, name):
    _, expected = add(store, name, [["score"]])
    assert view(store).to_arrow_table().to_pylist() == expected
    query = of_sets(store, [name], "SELECT * FROM {predictions} WHERE prediction_set = $name")
    assert len(store.rows(query, name=name)) == 2
