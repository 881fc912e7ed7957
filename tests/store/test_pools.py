"""Pools that are in a database already, opened to be read."""

import duckdb
import pytest

from dagster_active_learning.errors import PoolStateError
from dagster_active_learning.store.images import ImageCounts, image_counts
from dagster_active_learning.store.pool_store import PoolStore
from dagster_active_learning.store.pools import existing_pool


@pytest.mark.parametrize("kind", ["connection", "path", "text"])
def test_an_existing_pool_is_read_and_nothing_is_left_behind(database, kind):
    with duckdb.connect(str(database)) as connection:
        PoolStore(connection, 'a "pool"')
    given = {"connection": duckdb.connect(str(database)), "path": database, "text": str(database)}
    if kind != "connection":
        given["connection"].close()
    with existing_pool(given[kind], 'a "pool"') as store:
        assert image_counts(store) == ImageCounts(0, 0)
    with (
        pytest.raises(PoolStateError, match=r"has no pool 'typo', it has \['a \"pool\"'\]"),
        existing_pool(given[kind], "typo"),
    ):
        pass
    if kind == "connection":
        schemas = (
            "SELECT current_schema(), count(*) FROM duckdb_schemas() WHERE schema_name = 'typo'"
        )
        assert given[kind].execute(schemas).fetchall() == [("main", 0)]
        given[kind].close()
    # It can be opened with another configuration: nobody has it open any more.
    duckdb.connect(str(database), config={"threads": 1}).close()


def test_an_existing_pool_in_the_database_that_the_connection_uses(database):
    with duckdb.connect(str(database)) as connection:
        PoolStore(connection, "pool")
    with duckdb.connect() as connection:
        connection.execute(f"ATTACH '{database}' AS \"the other\"")
        connection.execute('USE "the other"')
        with existing_pool(connection, "pool") as store:
            assert store.database == "the other"
