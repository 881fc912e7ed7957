"""A pool's schema beside those of others, and configurations that must not change its rows."""

import duckdb
import pyarrow as pa
import pytest

from dagster_active_learning.errors import PoolStateError
from dagster_active_learning.store.images import ImageCounts, image_counts, replace_images
from dagster_active_learning.store.pool_store import PoolStore
from dagster_active_learning.store.pools import existing_pool
from pools import in_memory, ingest, rank, rows, score


@pytest.mark.parametrize(
    ("name", "existing"),
    [
        ("pets", "Pets"),
        ("PETS", "Pets"),
        ("Main", "main"),
        ("information_schema", "information_schema"),
        ("PG_Catalog", "pg_catalog"),
    ],
)
def test_a_name_that_duckdb_takes_for_another_schema_is_refused(database, name, existing):
    with duckdb.connect(str(database)) as connection:
        replace_images(PoolStore(connection, "Pets"), pa.table(IMAGES))
        with pytest.raises(PoolStateError, match=f"schema '{existing}'.*another name"):
            PoolStore(connection, name)
        with (
            pytest.raises(PoolStateError, match=f"no pool '{name}', it has \\['Pets'\\]"),
            existing_pool(connection, name),
        ):
            pass
        assert image_counts(PoolStore(connection, "Pets")) == ImageCounts(2, 0)


IMAGES = {
    "image_id": ["A", "a"],
    "uri": pa.nulls(2, pa.string()),
    "width": pa.nulls(2, pa.int32()),
    "height": pa.nulls(2, pa.int32()),
    "labeled": [False, False],
    "label": pa.nulls(2, pa.string()),
}


@pytest.mark.parametrize("name", ["main", "temp", "system", "select", "Pets", "ünlü"])
def test_other_names_are_schemas(name):
    with duckdb.connect() as connection:
        store = PoolStore(connection, name)
        replace_images(store, pa.table(IMAGES))
        assert [column.name for column in store.columns("images")] == list(IMAGES)


def test_a_collation_does_not_make_one_image_of_two(database):
    class_probs = [[0.5, 0.5], [0.75, 0.25], [1.0, 0.0]]
    table = pa.table({"image_id": ["A", "a", "A"], "class_probs": class_probs})
    with duckdb.connect(str(database), config={"default_collation": "nocase"}) as connection:
        store = PoolStore(connection, "pool")
        replace_images(store, pa.table(IMAGES))
        ingest(store, in_memory(table), in_manifest=True)
        assert score(store, in_manifest=True)["margin"].to_list() == [0.5, 0.5]
        assert [one[:2] for one in rank(store, "margin", in_manifest=True)[1]] == [
            ("a", 1),
            ("A", 2),
        ]
        same = "SELECT 'A' = 'a'"
        assert rows(store, same) == [(False,)]
        # A query of the user is their own affair.
        assert connection.cursor().execute(same).fetchall() == [(True,)]
