"""The user's DuckDB database, open for as long as a step needs it."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import dagster as dg

if TYPE_CHECKING:
    import duckdb
    from dagster_duckdb import DuckDBResource

    from dagster_active_learning.store import PoolStore

RESOURCE = "duckdb"
"""Key of the user's DuckDBResource, and name of the Dagster pool that limits its users."""


@contextmanager
def open_pool(
    context: dg.AssetExecutionContext | dg.AssetCheckExecutionContext,
    pool: str,
    *,
    read_only: bool = False,
) -> Generator[PoolStore]:
    """A pool in the user's database, open as long as the block runs.

    Args:
        context: The context of the step.
        pool: The pool's name.
        read_only: Whether the step only reads; then several may do so at a time.

    Raises:
        DagsterInvalidDefinitionError: If the database is in memory.
        PoolStateError: If a step that only reads finds no such pool.
    """
    from dagster_active_learning.store import PoolStore, existing_pool, release_results

    resource: DuckDBResource = getattr(context.resources, RESOURCE)
    if resource.database == ":memory:":
        raise dg.DagsterInvalidDefinitionError(
            f"the resource {RESOURCE!r} has the database ':memory:', which every step would "
            "have for itself: give it the path of a file"
        )
    if read_only:
        with _reader(resource) as connection, existing_pool(connection, pool) as store:
            yield store
        return
    with resource.get_connection() as connection:
        try:
            yield PoolStore(connection, pool)
        except BaseException as error:
            release_results(error)
            raise
        finally:
            # The resource does not close a connection whose step failed.
            connection.close()


@contextmanager
def _reader(resource: DuckDBResource) -> Generator[duckdb.DuckDBPyConnection]:
    """A connection that cannot write, where the database is a file that is there."""
    import duckdb
    from dagster._utils.backoff import backoff

    if not Path(resource.database).is_file():
        with resource.get_connection() as connection:
            try:
                yield connection
            finally:
                connection.close()
        return
    # The resource can open a database for writing only; the rest is as it does it.
    connection = backoff(
        fn=duckdb.connect,
        retry_on=(duckdb.IOException,),
        kwargs={
            "database": resource.database,
            "read_only": True,
            "config": {"custom_user_agent": "dagster", **resource.connection_config},
        },
        max_retries=10,
    )
    try:
        yield connection
    finally:
        connection.close()
