"""The tables of each prediction set, and the views ``predictions`` and ``image_scores`` over them.

A prediction set has two tables of its own, named by the number of its reading: ``predictions_7``
and ``image_scores_7``. Neither the set's name is in them, nor a column that would be null
throughout: DuckDB takes as long to store those as the numbers. The views put the tables of all sets
together, with all columns, for users. The package's own statements read the tables of the sets they
are about, as a pool may have a thousand sets: they have ``{predictions}`` or ``{image_scores}`` in
place of a view's name, and ``of_sets`` puts the rows of the sets there.
"""

# Names of tables are put into statements.
# ruff: noqa: S608

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from typing import TYPE_CHECKING

import pyarrow as pa

from dagster_active_learning.acquisition.schemas import image_score_schema
from dagster_active_learning.store.schema import literal, quoted, views_sql, with_rows

if TYPE_CHECKING:
    import duckdb

    from dagster_active_learning.store.pool_store import PoolStore


def prediction_schema(value_type: pa.DataType) -> pa.Schema:
    """The columns of ``predictions`` from image_id on, with class probabilities of a precision."""
    return pa.schema(
        [
            ("image_id", pa.string()),
            ("prediction_index", pa.int64()),
            ("class_probs", pa.list_(value_type)),
            ("score", pa.float64()),
            ("category", pa.string()),
            ("bbox", pa.list_(pa.float64())),
            ("segmentation", pa.string()),
        ]
    )


def sql_type(kind: pa.DataType) -> str:
    """The type of a column of a set's tables, as DuckDB writes it."""
    if pa.types.is_list(kind):
        return f"{sql_type(kind.value_type)}[]"
    names = {
        pa.string(): "VARCHAR", pa.int64(): "BIGINT", pa.float32(): "FLOAT", pa.float64(): "DOUBLE"
    }  # fmt: skip
    return names[kind]


_SCHEMAS = {
    "predictions": lambda: prediction_schema(pa.float32()),
    "image_scores": image_score_schema,
}
"""The columns of each table from image_id on; the first two are never null."""

_UNCOMPRESSED = ("image_id", "class_probs")
"""To look for a compression of them takes DuckDB three times as long as to compute all scores."""


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

    def fill(self, statement: str) -> str:
        """A statement with the set's rows, with all columns, where it has a table in braces."""
        return with_rows(statement, lambda table: _rows_of(table, [self]))


def _rows_of(table: str, sets: Iterable[SetTables]) -> str:
    """A query of the rows that sets have in a table; its first part has all columns, and no row."""
    columns = {"prediction_set": "VARCHAR"}
    columns |= {field.name: sql_type(field.type) for field in _SCHEMAS[table]()}
    nothing = ", ".join(f"NULL::{kind} AS {quoted(name)}" for name, kind in columns.items())
    parts = [
        f"SELECT {nothing} WHERE false",
        *(
            f"SELECT {literal(one.prediction_set)} AS prediction_set, * FROM {one.name(table)}"
            for one in sets
        ),
    ]
    return "\nUNION ALL BY NAME ".join(parts)


STORED_SETS = """
SELECT prediction_set, generation FROM prediction_sets
WHERE prediction_set IN $prediction_sets ORDER BY generation
"""


def of_sets(store: PoolStore, prediction_sets: Iterable[str], statement: str) -> str:
    """A statement with the rows of some sets, with all columns, where it has a table in braces.

    A set that is not stored has no rows.
    """
    rows = store.rows(STORED_SETS, prediction_sets=[*prediction_sets])
    sets = [SetTables(*row) for row in rows]
    return with_rows(statement, lambda table: _rows_of(table, sets))


def make_set_tables(store: PoolStore, prediction_set: str) -> SetTables:
    """Make the tables of a set that is read now, which gives it its number."""
    ((generation,),) = store.rows("SELECT nextval('generations')")
    tables = SetTables(prediction_set, generation)
    for table in _SCHEMAS:
        make_table(store.connection, tables, table)
    return tables


MAKE_TABLE = """
CREATE OR REPLACE TABLE {name} (
    {image_id} VARCHAR NOT NULL USING COMPRESSION uncompressed, {number} BIGINT NOT NULL
);
COMMENT ON TABLE {name} IS {comment};
"""


def make_table(connection: duckdb.DuckDBPyConnection, tables: SetTables, table: str) -> None:
    """Make one of a set's tables, without rows, in place of what it was before."""
    image_id, number = _SCHEMAS[table]().names[:2]
    comment = f"The rows of {table} of prediction set {tables.prediction_set!r}; read the view"
    connection.execute(
        MAKE_TABLE.format(
            name=tables.name(table), image_id=image_id, number=number, comment=literal(comment)
        )
    )


def add_column(
    connection: duckdb.DuckDBPyConnection, tables: SetTables, table: str, name: str, kind: str
) -> None:
    """Give one of a set's tables a column, if it does not have it."""
    uncompressed = name in _UNCOMPRESSED or table == "image_scores"
    connection.execute(
        f"ALTER TABLE {tables.name(table)} ADD COLUMN IF NOT EXISTS {quoted(name)} {kind}"
        + " USING COMPRESSION uncompressed" * uncompressed
    )


def append(
    store: PoolStore,
    tables: SetTables,
    table: str,
    schema: pa.Schema,
    batches: Iterable[pa.RecordBatch],
) -> None:
    """Store batches as they come; the table gets a column with the first value of it.

    Raises:
        BaseException: What making the batches raises.
    """
    for names, rows in groupby(_filled(schema, batches), key=itemgetter(0)):
        for name in names[2:]:
            kind = sql_type(schema.field(name).type)
            add_column(store.connection, tables, table, name, kind)
        store.insert_stream(
            f"INSERT INTO {tables.name(table)} BY NAME FROM incoming",
            pa.schema([schema.field(name) for name in names]),
            (batch.select(names) for names, batch in rows),
        )


def _filled(
    schema: pa.Schema, batches: Iterable[pa.RecordBatch]
) -> Iterator[tuple[list[str], pa.RecordBatch]]:
    """Each batch with the columns that have had a value, in it or before."""
    filled = set(schema.names[:2])
    for batch in batches:
        filled |= {name for name in schema.names if batch.column(name).null_count < batch.num_rows}
        yield [name for name in schema.names if name in filled], batch


def drop_set_tables(store: PoolStore, prediction_set: str) -> None:
    """Remove the tables of a set, if there is such a set; the views still name them."""
    for row in store.rows(STORED_SETS, prediction_sets=[prediction_set]):
        for table in _SCHEMAS:
            store.connection.execute(f"DROP TABLE IF EXISTS {SetTables(*row).name(table)}")


def renew_views(connection: duckdb.DuckDBPyConnection) -> None:
    """Make the views of a pool over the tables that its sets have now; this is its schema."""
    query = "SELECT prediction_set, generation FROM prediction_sets ORDER BY generation"
    sets = [SetTables(*row) for row in connection.execute(query).fetchall()]
    connection.execute(with_rows(views_sql(), lambda table: _rows_of(table, sets)))
