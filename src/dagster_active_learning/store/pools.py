"""Pools that are in a database already."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from os import PathLike, fspath
from typing import TypeAlias

import duckdb

from dagster_active_learning.errors import PoolStateError
from dagster_active_learning.store.filesystems import read_error
from dagster_active_learning.store.opening import connect
from dagster_active_learning.store.pool_store import PoolStore, pool_schemas, release_results
from dagster_active_learning.store.schema import quoted

Database: TypeAlias = "duckdb.DuckDBPyConnection | str | PathLike[str]"
"""An open connection, or the path of a database file."""


@contextmanager
def existing_pool(database: Database, pool: str, *, read_only: bool = True) -> Generator[PoolStore]:
    """A pool that is in a database already, as long as the block runs.

    Args:
        database: The path of the database, which is opened and closed again; or an open connection,
            which is left as it is: what it has not committed is not seen.
        pool: The pool's name.
        read_only: Whether a database that is opened is only read.

    Raises:
        PoolStateError: If the database does not have the pool.
    """
    if isinstance(database, duckdb.DuckDBPyConnection):
        ((name,),) = database.execute("SELECT current_database()").fetchall()
        connection = database.cursor()
        # A cursor starts in the first database, wherever its connection is.
        connection.execute(f"USE {quoted(name)}")
    else:
        connection = connect(fspath(database), read_only=read_only)
    try:
        pools = list(pool_schemas(connection))
        if pool not in pools:
            raise PoolStateError(
                f"the database has no pool {pool!r}, it has {pools}: materialize "
                f"{pool}/predictions first, or name another pool or database"
            )
        yield PoolStore(connection, pool)
    except BaseException as error:
        release_results(error)
        about_file = read_error(error)
        if about_file is not None:
            raise about_file from None
        raise
    finally:
        connection.close()
