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


def filled(path, pool):
    """A pool of its own image in a database file, and the schema that it has."""
    with duckdb.connect(str(path)) as connection:
        store = PoolStore(connection, pool)
        replace_images(store, pa.table({**IMAGES, "image_id": [pool, f"{pool} 2"]}))
        return store.schema


def images_of(path, pool):
    with existing_pool(path, pool) as store:
        return rows(store, "SELECT image_id FROM images")


@pytest.mark.parametrize("pool", ["digits", "Digits"])
def test_a_pool_named_as_its_database_is_found_by_its_name_in_sql(tmp_path, pool):
    path = tmp_path / "digits.duckdb"
    schemas = [filled(path, name) for name in (pool, "second", pool)]
    assert schemas == ["main", "second", "main"]
    with duckdb.connect(str(path), read_only=True) as connection:
        for name in ("digits", "second"):
            ids = {"digits": pool}.get(name, name)
            query = f"SELECT image_id FROM {name}.images"
            assert connection.execute(query).fetchall() == [(ids,), (f"{ids} 2",)]
        assert connection.execute("FROM digits.candidate_lineage").fetchall() == []
        comments = "SELECT count(*) FROM duckdb_columns() WHERE schema_name = 'main' AND table_name = 'images' AND comment IS NOT NULL"
        assert connection.execute(comments).fetchall() == [(len(IMAGES),)]
    assert images_of(path, pool) == [(pool,), (f"{pool} 2",)]


def test_a_pool_is_found_when_its_file_has_got_another_name(tmp_path):
    filled(tmp_path / "digits.duckdb", "digits")
    filled(tmp_path / "digits.duckdb", "letters")
    path = (tmp_path / "digits.duckdb").rename(tmp_path / "letters.duckdb")
    for pool in ("digits", "letters"):
        assert images_of(path, pool) == [(pool,), (f"{pool} 2",)]
    assert [filled(path, pool) for pool in ("digits", "letters")] == ["main", "letters"]
    for pool in ("digits", "letters"):
        assert images_of(path, pool) == [(pool,), (f"{pool} 2",)]
    # The new name of the file makes no other pool of the one in main.
    with duckdb.connect(str(path)) as connection, pytest.raises(PoolStateError, match="'digits'"):
        PoolStore(connection, "main")


def test_a_schema_that_was_named_as_the_database_stays(tmp_path):
    filled(tmp_path / "labeling.duckdb", "digits")
    path = (tmp_path / "labeling.duckdb").rename(tmp_path / "digits.duckdb")
    assert filled(path, "digits") == "digits"
    assert images_of(path, "digits") == [("digits",), ("digits 2",)]


def test_tables_of_others_in_main_are_left_alone(tmp_path):
    path = tmp_path / "digits.duckdb"
    with duckdb.connect(str(path)) as connection:
        connection.execute("CREATE TABLE predictions AS SELECT 'mine' AS image_id")
    assert filled(path, "digits") == "digits"
    with duckdb.connect(str(path)) as connection:
        assert connection.execute("FROM main.predictions").fetchall() == [("mine",)]


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
