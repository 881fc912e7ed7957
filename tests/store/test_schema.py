"""A pool's tables: explained, and completed where an earlier version has made them."""

import duckdb
import pyarrow as pa
import pytest

from dagster_active_learning import read_predictions
from dagster_active_learning.store.pool_store import PoolStore
from dagster_active_learning.store.prediction_sets import prediction_set
from pools import in_memory, ingest, score
from ranked_pools import ranked_files, write_files


def test_a_pool_of_an_earlier_version_gets_what_it_lacks(database, tmp_path):
    with duckdb.connect(str(database)) as connection:
        store = PoolStore(connection, "pool")
        ranked_files(store, write_files(tmp_path / "files", [("a", [0.5, 0.5])]))
        connection.execute("DROP VIEW candidate_lineage; DROP TABLE rankings")
    with duckdb.connect(str(database), read_only=True) as connection:
        # A reader cannot make it, and can do without.
        assert prediction_set(PoolStore(connection, "pool"), "set").image_count == 1
        with pytest.raises(duckdb.CatalogException):
            connection.execute("FROM candidate_lineage")
    with duckdb.connect(str(database)) as connection:
        store = PoolStore(connection, "pool")
        assert len(connection.execute("FROM candidate_lineage").fetchall()) == 4
        comments = {column.name: column.comment for column in store.columns("candidate_lineage")}
        assert "Which row of the file, from 1" in str(comments["row_number"])
        assert store.columns("rankings")
        ingest(store, read_predictions(tmp_path / "files" / "*.parquet", format="parquet"))
        score(store)
        rules = connection.execute("SELECT inputs, aggregation FROM scorings").fetchall()
        assert rules == [("probabilities", "mean")]


@pytest.mark.parametrize(
    "lack",
    [
        "DROP VIEW candidate_lineage",
        "DROP TABLE rankings",
        "DROP VIEW image_scores",
        "DROP TABLE scorings",
        "COMMENT ON COLUMN candidate_lineage.prediction_set IS NULL",
    ],
)
def test_each_thing_that_an_earlier_version_lacks_is_added(store, lack):
    store.connection.execute(lack)
    PoolStore(store.connection, "pool")
    store.connection.execute("SELECT margin FROM image_scores")
    store.connection.execute("SELECT inputs, aggregation FROM scorings")
    store.connection.execute("FROM candidate_lineage")
    store.connection.execute("FROM rankings")
    assert uncommented(store) == []


def uncommented(store):
    """Tables, views and columns of the pool that have no comment."""
    return store.connection.execute(
        """SELECT table_name, NULL FROM duckdb_tables()
            WHERE schema_name = 'pool' AND comment IS NULL
        UNION ALL SELECT view_name, NULL FROM duckdb_views()
            WHERE schema_name = 'pool' AND comment IS NULL
        UNION ALL SELECT table_name, column_name FROM duckdb_columns()
            WHERE schema_name = 'pool' AND comment IS NULL"""
    ).fetchall()


def test_every_table_view_and_column_is_explained(store):
    assert uncommented(store) == []


def test_the_view_outlives_wider_class_probabilities_and_other_database_names(database, tmp_path):
    with duckdb.connect(str(database)) as connection:
        store = PoolStore(connection, "pool")
        ranked_files(store, write_files(tmp_path / "files", [("a", [0.75, 0.25])]))
        other = pa.table({"image_id": ["a"], "class_probs": pa.array([[0.1, 0.9]])})
        ingest(store, in_memory(other), prediction_set="in float64")
        lineage = store.relation("SELECT image_id, class_probs FROM candidate_lineage")
        assert lineage.types[1] == "DOUBLE[]"
        assert lineage.fetchall() == [("a", [0.75, 0.25])] * 4
    with duckdb.connect() as connection:
        connection.execute(f"ATTACH '{database}' AS other (READ_ONLY)")
        assert len(connection.execute("FROM other.pool.candidate_lineage").fetchall()) == 4
