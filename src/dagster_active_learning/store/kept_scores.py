"""Scores that were made while predictions were read, and are columns of their table.

Where each image has one prediction, its scores are those of the prediction. They then are the
columns ``SCORE_COLUMNS`` of the set's predictions, and ``image_scores`` shows them: the class
probabilities are not read again, and the ids are stored once.
"""

# Names of tables and columns are put into statements.
# ruff: noqa: S608

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.metadata import version

import pyarrow as pa

from dagster_active_learning.store.pool_store import PoolStore
from dagster_active_learning.store.prediction_sets import PredictionSet
from dagster_active_learning.store.schema import PACKAGE, literal, quoted
from dagster_active_learning.store.set_columns import SCORE_COLUMNS, prediction_schema, score_column
from dagster_active_learning.store.set_tables import SetTables, add_column, drop_table, make_table


def scored_schema(value_type: pa.DataType, kernel_rows: Sequence[str]) -> pa.Schema:
    """The columns of predictions with the scores of some of ``KERNEL_ROWS``."""
    schema = prediction_schema(value_type)
    for row in kernel_rows:
        schema = schema.append(pa.field(score_column(row), pa.float64()))
    return schema


def this_version() -> str:
    """The version of this package, which says by which formulas scores were made."""
    return version(PACKAGE)


def drop_kept_scores(store: PoolStore, tables: SetTables) -> None:
    """Remove the scores of a set's predictions, which are not those of its images."""
    for name in SCORE_COLUMNS:
        store.connection.execute(
            f"ALTER TABLE {tables.name('predictions')} DROP COLUMN IF EXISTS {quoted(name)}"
        )


def has_kept_scores(store: PoolStore, stored: PredictionSet, kernel_rows: Sequence[str]) -> bool:
    """True if this version scored a set when it was read, by some of ``KERNEL_ROWS``."""
    columns = {column.name for column in store.columns(f"predictions_{stored.generation}")}
    wanted = set(map(score_column, kernel_rows))
    return bool(wanted) and stored.scored_by == this_version() and wanted <= columns


def show_kept_scores(store: PoolStore, tables: SetTables, functions: Mapping[str, str]) -> None:
    """Make a set's image scores those of its predictions, in place of what they were.

    Args:
        store: The pool; its views are to be renewed after it.
        tables: The tables of the set.
        functions: The row of the kernel by the name of the acquisition function.
    """
    drop_table(store.connection, tables, "image_scores")
    name, comment = tables.name("image_scores"), literal(tables.comment("image_scores"))
    store.connection.execute(f"CREATE VIEW {name} AS {_kept_scores(tables, functions)}")
    store.connection.execute(f"COMMENT ON VIEW {name} IS {comment}")


def store_kept_scores(store: PoolStore, tables: SetTables, functions: Mapping[str, str]) -> None:
    """Copy what ``show_kept_scores`` shows into a table, to which other images can be added."""
    drop_table(store.connection, tables, "image_scores")
    make_table(store.connection, tables, "image_scores")
    for name in functions:
        add_column(store.connection, tables, "image_scores", name, "DOUBLE")
    store.connection.execute(
        f"INSERT INTO {tables.name('image_scores')} BY NAME {_kept_scores(tables, functions)}"
    )


def _kept_scores(tables: SetTables, functions: Mapping[str, str]) -> str:
    scores = [f"{quoted(score_column(row))} AS {quoted(name)}" for name, row in functions.items()]
    columns = ", ".join(["image_id", "1::BIGINT AS prediction_count", *scores])
    return f"SELECT {columns} FROM {tables.name('predictions')}"
