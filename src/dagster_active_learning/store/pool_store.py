"""One pool in an open connection: its schema, its transactions, and how statements run on it."""

from __future__ import annotations

import os
import traceback
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from dagster_active_learning.errors import DatabaseUnavailableError, PoolStateError
from dagster_active_learning.store.filesystems import register_filesystems_in_use
from dagster_active_learning.store.schema import TABLES, VIEWS, quoted
from dagster_active_learning.store.versions import (
    StoredSchema,
    check_schema,
    migrate,
    stored_schema,
)


@dataclass(frozen=True)
class Column:
    """A column of a table or view.

    Attributes:
        name: Its name.
        type: Its type, as DuckDB writes it.
        comment: Its comment, None without one.
    """

    name: str
    type: str
    comment: str | None


# A configuration in which 'A' is 'a' would make one image of two.
COMPARE_LITERALLY = "SET SESSION default_collation = ''"

# DuckDB takes names that differ in case for the same, and has two schemas of its own.
SCHEMA_IN_THE_WAY = """
SELECT schema_name FROM duckdb_schemas()
WHERE lower(schema_name) = lower($schema) AND (
    database_name = current_database() AND schema_name != $schema
    OR database_name = 'system' AND schema_name != 'main'
)
"""

POOL_SCHEMAS = """
SELECT schema_name FROM duckdb_tables()
WHERE table_name = 'labeling_candidates' AND database_name = current_database()
ORDER BY schema_name
"""

NAME_IN_MAIN = """
SELECT count(*) > 0 FROM duckdb_columns()
WHERE schema_name = 'main' AND table_name = 'schema_version' AND column_name = 'pool'
    AND database_name = current_database()
"""

TABLES_EXIST = """
SELECT count(*) FILTER (table_name = 'labeling_candidates') > 0,
    list(table_name ORDER BY table_name)
FROM (
    SELECT database_name, schema_name, table_name FROM duckdb_tables()
    UNION ALL SELECT database_name, schema_name, view_name FROM duckdb_views()
)
WHERE schema_name = $schema AND table_name IN $tables AND database_name = current_database()
"""

IS_READ_ONLY = "SELECT readonly FROM duckdb_databases() WHERE database_name = current_database()"

COLUMNS = """
SELECT column_name, data_type, comment FROM duckdb_columns()
WHERE schema_name = $schema AND table_name = $table AND database_name = current_database()
ORDER BY column_index
"""


class PoolStore:
    """A pool's schema in an open DuckDB connection, made on first use.

    A pool of an earlier version of the schema is migrated; only a writer can do that.

    Args:
        connection: An open connection; its current schema becomes the pool's.
        pool: The pool's name, which is the schema's; but a pool that is named as its database is
            in the schema main. DuckDB calls ``FROM digits.images`` ambiguous where a database and a
            schema of it are named digits, and finds the table in main where only the database is.

    Attributes:
        connection: The open connection.
        pool: The pool's name.
        schema: The schema's name.
        database: The name of the database the pool is in.
        checked_sets: The sets whose files, where they are read in place, were looked at, each with
            the view that they are in.

    Raises:
        PoolStateError: If the pool's schema cannot have its name, has tables of another owner, is
            of a later version, or of an earlier one in a database that is only read.
    """

    def __init__(self, connection: duckdb.DuckDBPyConnection, pool: str) -> None:
        self.connection = connection
        self.pool = pool
        self.checked_sets: set[tuple[str, str]] = set()
        connection.execute(COMPARE_LITERALLY)
        self.database = str(self.rows("SELECT current_database()")[0][0])
        self.schema = self._schema()
        # With the database's name: an older pool may be named as its database is.
        schema = f"{quoted(self.database)}.{quoted(self.schema)}"
        self._use = f"{COMPARE_LITERALLY}; USE {schema}"
        read_only = self.rows(IS_READ_ONLY)[0][0]
        stored = self._stored_schema()
        if stored is not None:
            where = f"the pool {pool!r} in the database {self.database!r}"
            check_schema(stored, where, read_only=read_only)
        # A pool that is only read may be of a version that copied all predictions.
        if stored is not None and self.columns("in_place_sets"):
            register_filesystems_in_use(connection, schema)
        # A reader does without what is missing, such as the column of a new acquisition function.
        if stored is None or not (read_only or stored.is_newest):
            with self.transaction():
                connection.execute(f"CREATE SCHEMA IF NOT EXISTS {schema}")
                connection.execute(self._use)
                migrate(connection, pool, stored)
        connection.execute(self._use)

    def _schema(self) -> str:
        """The schema that the pool has, or is to have."""
        schemas = pool_schemas(self.connection)
        for name, schema in schemas.items():
            if name != self.pool and (schema == self.pool or name.lower() == self.pool.lower()):
                raise PoolStateError(
                    f"the pool {self.pool!r} cannot have tables in the database {self.database!r}: "
                    f"the schema {schema!r} is that of the pool {name!r}, and DuckDB takes one "
                    "name for the other; give the pool another name"
                )
        if self.pool in schemas or self.database.lower() != self.pool.lower():
            return schemas.get(self.pool, self.pool)
        # Of another pool, or of somebody else.
        ((_, others),) = self.rows(TABLES_EXIST, schema="main", tables=[*TABLES, *VIEWS])
        return self.pool if others else "main"

    def _stored_schema(self) -> StoredSchema | None:
        """The schema that the pool has in the database, None if there is no such pool."""
        schema_in_the_way = self.rows(SCHEMA_IN_THE_WAY, schema=self.schema)
        if schema_in_the_way:
            raise PoolStateError(
                f"the pool {self.pool!r} cannot have a schema in the database {self.database!r}: "
                f"DuckDB takes its name for that of the schema {schema_in_the_way[0][0]!r}, which "
                "is another's: give the pool another name"
            )
        ((is_pool, tables),) = self.rows(TABLES_EXIST, schema=self.schema, tables=[*TABLES, *VIEWS])
        if tables and not is_pool:
            raise PoolStateError(
                f"the schema {self.pool!r} of the database {self.database!r} has the tables "
                f"{', '.join(tables)}, which are not this package's: give the pool another name"
            )
        return stored_schema(self.connection, self.schema) if is_pool else None

    @property
    def pool_id(self) -> str:
        """A random name that no other pool, in no other database, has."""
        return str(self.rows("SELECT pool_id FROM schema_version")[0][0])

    def is_database_file(self, path: Path) -> bool:
        """True if a path leads to the file that the pool is in, or to its write-ahead log."""
        file = self._file()
        own = [] if file is None else [Path(file), Path(f"{file}.wal")]
        return os.path.realpath(path) in [os.path.realpath(name) for name in own]

    def _file(self) -> str | None:
        """The path of the database, None of one in memory."""
        query = "SELECT path FROM duckdb_databases() WHERE database_name = current_database()"
        ((file,),) = self.rows(query)
        return file

    @contextmanager
    def transaction(self) -> Generator[None]:
        """Everything in the block happens, or nothing does.

        Raises:
            DatabaseUnavailableError: If another connection changes what this one changes: of two
                that read prediction sets at a time one does, since all sets are in the same views.
        """
        self.connection.begin()
        try:
            yield
        except BaseException as error:
            # An open result in a frame of the traceback would block the rollback.
            release_results(error)
            self.connection.rollback()
            # Of other processes none can write meanwhile.
            if isinstance(error, duckdb.TransactionException) and "onflict" in str(error):
                raise DatabaseUnavailableError(
                    f"another connection of this process (PID {os.getpid()}) changes what this one "
                    f"changes in the database {self._file() or self.database}: {error}. Commit or "
                    "roll back its transaction, and run the step again"
                ) from error
            raise
        self.connection.commit()

    def reader(self) -> duckdb.DuckDBPyConnection:
        """A second connection to the pool, for results that are read as they are needed.

        It sees what is committed, not the transaction of this store, and does not block it.
        """
        reader = self.connection.cursor()
        reader.execute(self._use)
        return reader

    def committed_rows(
        self,
        query: str,
        batch_rows: int,
        *,
        kept: pa.Table | None = None,
        **values: Any,
    ) -> pa.RecordBatchReader:
        """The rows of a query in batches, read as they are needed by a ``reader`` of their own.

        The query may call a table ``active_learning__kept``.
        """
        active_learning__kept = kept  # noqa: F841 # pyright: ignore[reportUnusedVariable]
        return self.reader().sql(query, params=values).to_arrow_reader(batch_rows)

    def rows(self, query: str, **values: Any) -> list[Any]:
        """All rows of a query, as tuples: a result that is read in part blocks the connection."""
        return self.connection.execute(query, values).fetchall()

    def relation(
        self,
        query: str,
        *,
        kept: pa.Table | None = None,
        **values: Any,
    ) -> duckdb.DuckDBPyRelation:
        """A query whose rows are still to be read, all of them.

        It may call a table ``active_learning__kept``.
        """
        active_learning__kept = kept  # noqa: F841 # pyright: ignore[reportUnusedVariable]
        return self.connection.sql(query, params=values)

    def insert(
        self,
        statement: str,
        incoming: pa.Table | pa.RecordBatch | pa.RecordBatchReader,
        *,
        kept: pa.Table | None = None,
        **values: Any,
    ) -> None:
        """Run one statement over rows that it calls ``active_learning__incoming``.

        It may call others ``active_learning__kept``.
        """
        # The statement finds them as the variables of these names, where no table has them: a
        # table of the user's, also one in main, would come first. A registered view would keep the
        # rows in memory until the transaction ends.
        active_learning__incoming = incoming  # noqa: F841 # pyright: ignore[reportUnusedVariable]
        active_learning__kept = kept  # noqa: F841 # pyright: ignore[reportUnusedVariable]
        self.connection.execute(statement, values)

    def insert_stream(
        self, statement: str, schema: pa.Schema, batches: Iterable[pa.RecordBatch], **values: Any
    ) -> None:
        """Run one statement over batches, ``active_learning__incoming``, made while it runs.

        Raises:
            BaseException: What making the batches raises.
        """
        failures: list[BaseException] = []

        def guarded() -> Iterator[pa.RecordBatch]:
            try:
                yield from batches
            except BaseException as error:
                failures.append(error)
                raise

        reader = pa.RecordBatchReader.from_batches(schema, guarded())
        try:
            self.insert(statement, reader, **values)
        except duckdb.Error:
            # DuckDB says that its input failed: what matters is why.
            if failures:
                raise failures[0] from None
            raise

    def columns(self, table: str) -> list[Column]:
        """The columns of a table or view, none if there is no such table."""
        return [Column(*row) for row in self.rows(COLUMNS, schema=self.schema, table=table)]


def pool_schemas(connection: duckdb.DuckDBPyConnection) -> dict[str, str]:
    """The schemas of the pools in a connection's current database, by the names of the pools."""
    schemas = [name for (name,) in connection.execute(POOL_SCHEMAS).fetchall()]
    names = {name: name for name in schemas}
    if "main" in names and connection.execute(NAME_IN_MAIN).fetchall() == [(True,)]:
        ((database,),) = connection.execute("SELECT current_database()").fetchall()
        query = f"SELECT pool FROM {quoted(database)}.main.schema_version"  # noqa: S608
        del names["main"]
        names |= {pool: "main" for (pool,) in connection.execute(query).fetchall()}
    return names


def release_results(error: BaseException | None) -> None:
    """Let go of what a failed step holds, for as long as somebody keeps its error.

    A query result in a frame of the traceback blocks its connection, and keeps the database open:
    DuckDB then waits without end for it to be closed when the process connects again.
    """
    while error is not None:
        traceback.clear_frames(error.__traceback__)
        error = error.__cause__ or error.__context__
