"""The tables of each prediction set, and the views ``predictions`` and ``image_scores`` over them.

A prediction set has two tables of its own, named by the number of its reading: ``predictions_7``
and ``image_scores_7``. Neither the set's name is in them, nor a column that would be null
throughout: DuckDB takes as long to store those as the numbers. Where each image has one prediction,
``image_scores_7`` is a view of ``predictions_7``, which has the scores: `kept_scores`.

The views put the tables of all sets together, with all columns, for users. The package's own
statements read the tables of the sets they are about, as a pool may have a thousand sets: they have
``{predictions}`` or ``{image_scores}`` in place of a view's name, and ``of_sets`` of `set_rows`
puts the rows of the sets there.
"""

# Names of tables are put into statements.

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import duckdb
import pyarrow as pa

from dagster_active_learning.acquisition.schemas import image_score_schema
from dagster_active_learning.errors import PredictionReadError
from dagster_active_learning.store.filesystems import read_error
from dagster_active_learning.store.schema import literal, quoted, views_sql, with_rows
from dagster_active_learning.store.set_columns import SCORE_COLUMNS, prediction_schema, sql_type

_SCHEMAS = {
    "predictions": lambda: prediction_schema(pa.float32()),
    "image_scores": image_score_schema,
}
"""The columns of each table from image_id on; the first two are never null."""


_UNCOMPRESSED = ("image_id", "class_probs", *SCORE_COLUMNS)
"""To look for a compression of them takes DuckDB three times as long as to compute all scores."""


TABLES = tuple(_SCHEMAS)

COMMENT = "A part of the rows of prediction set "
"""How the comment on each table of a set begins."""


@dataclass(frozen=True)
class SetTables:
    """The tables of one prediction set.

    Attributes:
        prediction_set: Name of the set.
        generation: Number of its reading.
    """

    prediction_set: str
    generation: int

    def name(self, table: str) -> str:
        """The name of its table ``predictions`` or ``image_scores``, as SQL takes it."""
        return quoted(f"{table}_{self.generation}")

    def comment(self, table: str) -> str:
        """The comment on it, which tells it from a table of the user's."""
        return f"{COMMENT}{self.prediction_set!r}: read the view {table}"


def with_rows_of_sets(
    connection: duckdb.DuckDBPyConnection, sets: Sequence[SetTables], statement: str
) -> str:
    """A statement with the rows of sets, with all columns, where it has a table in braces.

    Raises:
        PredictionReadError: If a file of theirs cannot be read.
    """
    return with_rows(
        statement,
        lambda table: _union(table, [_rows_of(connection, one, table) for one in sets]),
    )


def _union(table: str, parts: Sequence[str]) -> str:
    """Rows of sets together; one set is a plain SELECT.

    DuckDB does not push the filter of a join through a union.
    """
    return "\nUNION ALL ".join(parts) or rows_of_table("NULL::VARCHAR", table, [], "WHERE false")


_NO_FILE = re.compile(r'No files found that match the pattern "(.+)"')


def _rows_of(connection: duckdb.DuckDBPyConnection, tables: SetTables, table: str) -> str:
    """A query of the rows that a set has in a table."""
    name = tables.name(table)
    try:
        # To make a relation leaves the transaction as it is; to execute would end it.
        filled = connection.sql(f"FROM {name}").columns
    except duckdb.Error as error:
        gone = _NO_FILE.search(str(error))
        reason = (
            f"{gone[1]} is gone" if gone else read_error(error) or f"{error}".partition("\n")[0]
        )
        raise PredictionReadError(
            f"prediction set {tables.prediction_set!r} cannot be read: {reason}; put the file back "
            "and materialize its image_scores, or materialize its predictions again"
        ) from None
    return rows_of_table(literal(tables.prediction_set), table, filled, f"FROM {name}")


def rows_of_table(prediction_set: str, table: str, filled: Collection[str], source: str) -> str:
    """A SELECT of all columns of a table, null in those that are not filled."""
    columns = {field.name: sql_type(field.type) for field in _SCHEMAS[table]()}
    values = ", ".join(
        quoted(name) if name in filled else f"NULL::{kind} AS {quoted(name)}"
        for name, kind in columns.items()
    )
    return f"SELECT {prediction_set} AS prediction_set, {values} {source}"


MAKE_TABLE = """
CREATE TABLE {name} (
    {image_id} VARCHAR NOT NULL USING COMPRESSION uncompressed, {number} BIGINT NOT NULL
);
COMMENT ON TABLE {name} IS {comment};
"""


def make_table(connection: duckdb.DuckDBPyConnection, tables: SetTables, table: str) -> None:
    """Make one of a set's tables, without rows."""
    image_id, number = _SCHEMAS[table]().names[:2]
    connection.execute(
        MAKE_TABLE.format(
            name=tables.name(table),
            image_id=image_id,
            number=number,
            comment=literal(tables.comment(table)),
        )
    )


KIND = """
SELECT table_type FROM information_schema.tables
WHERE table_catalog = current_database() AND table_schema = current_schema() AND table_name = $name
"""


def drop_table(connection: duckdb.DuckDBPyConnection, tables: SetTables, table: str) -> None:
    """Remove one of a set's tables, if it is there; the views still name it."""
    values = {"name": f"{table}_{tables.generation}"}
    for (kind,) in connection.execute(KIND, values).fetchall():
        connection.execute(f"DROP {'VIEW' if kind == 'VIEW' else 'TABLE'} {tables.name(table)}")


def add_column(
    connection: duckdb.DuckDBPyConnection, tables: SetTables, table: str, name: str, kind: str
) -> None:
    """Give one of a set's tables a column, if it does not have it."""
    uncompressed = name in _UNCOMPRESSED or table == "image_scores"
    connection.execute(
        f"ALTER TABLE {tables.name(table)} ADD COLUMN IF NOT EXISTS {quoted(name)} {kind}"
        + " USING COMPRESSION uncompressed" * uncompressed
    )


UNREADABLE = "WHERE error({problem})::BOOLEAN"


def renew_views(connection: duckdb.DuckDBPyConnection) -> None:
    """Make the views of a pool over the tables that its sets have now; this is its schema.

    A set in place may have a file that is gone: who reads the rows of this set gets the error then,
    and not who makes the views.
    """
    query = "SELECT prediction_set, generation FROM prediction_sets ORDER BY generation"
    sets = [SetTables(*row) for row in connection.execute(query).fetchall()]

    def rows_or_error(tables: SetTables, table: str) -> str:
        try:
            return _rows_of(connection, tables, table)
        except PredictionReadError as error:
            unreadable = UNREADABLE.format(problem=literal(str(error)))
            return rows_of_table(literal(tables.prediction_set), table, [], unreadable)

    connection.execute(
        with_rows(
            views_sql(), lambda table: _union(table, [rows_or_error(one, table) for one in sets])
        )
    )
