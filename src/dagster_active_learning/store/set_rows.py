"""The rows of prediction sets: how they go into the tables of a set, and out into statements."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from operator import itemgetter

import pyarrow as pa

from dagster_active_learning.store.in_place_sets import check_files
from dagster_active_learning.store.pool_store import PoolStore
from dagster_active_learning.store.set_columns import sql_type
from dagster_active_learning.store.set_tables import (
    TABLES,
    SetTables,
    add_column,
    drop_table,
    make_table,
    with_rows_of_sets,
)

STORED_SETS = """
SELECT prediction_set, generation FROM prediction_sets
WHERE prediction_set IN $prediction_sets ORDER BY generation
"""


def of_sets(store: PoolStore, prediction_sets: Iterable[str], statement: str) -> str:
    """A statement with the rows of some sets, with all columns, where it has a table in braces.

    A set that is not stored has no rows.

    Raises:
        PredictionReadError: If a file that predictions or scores are read from in place is gone or
            another.
    """
    names = [*prediction_sets]
    rows = store.rows(STORED_SETS, prediction_sets=names)
    _check_files(store, names, statement)
    return with_rows_of_sets(store.connection, [SetTables(*row) for row in rows], statement)


def of_tables(store: PoolStore, tables: SetTables, statement: str) -> str:
    """The same of one set whose tables are known, also of one that is being read."""
    _check_files(store, [tables.prediction_set], statement)
    return with_rows_of_sets(store.connection, [tables], statement)


def _check_files(store: PoolStore, names: Sequence[str], statement: str) -> None:
    for table in TABLES:
        if f"{{{table}}}" in statement:
            check_files(store, names, table)


def make_set_tables(store: PoolStore, prediction_set: str) -> SetTables:
    """Make the tables of a set that is read now, which gives it its number."""
    tables = name_set_tables(store, prediction_set)
    for table in TABLES:
        make_table(store.connection, tables, table)
    return tables


def name_set_tables(store: PoolStore, prediction_set: str) -> SetTables:
    """The names of the tables of a set that is read now, by the number of the reading."""
    # A table of the user's may have the name: the next number then.
    while True:
        ((generation,),) = store.rows("SELECT nextval('generations')")
        tables = SetTables(prediction_set, generation)
        if not any(store.columns(f"{table}_{generation}") for table in TABLES):
            return tables


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
            f"INSERT INTO {tables.name(table)} BY NAME FROM active_learning__incoming",
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
        for table in TABLES:
            drop_table(store.connection, SetTables(*row), table)
