"""Tables and columns in Dagster's words and under its standard keys."""

from __future__ import annotations

import math
import re
import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import dagster as dg

from dagster_active_learning.text import shown

if TYPE_CHECKING:
    from dagster_active_learning.store.pool_store import PoolStore

Metadata = dict[str, Any]

COUNTS_SHOWN = 20

LINE = 42
"""Characters of a line that are seen beside the names and times of the overview of an asset."""


def table_metadata(store: PoolStore, table: str, row_count: int) -> Metadata:
    """Row count, name and columns of a table of the pool."""
    columns = [
        dg.TableColumn(column.name, column.type, description=column.comment)
        for column in store.columns(table)
    ]
    return {
        "dagster/row_count": row_count,
        "dagster/table_name": f"{store.database}.{store.schema}.{table}",
        "dagster/column_schema": dg.TableSchema(columns=columns),
    }


def sentences(text: str) -> dg.MarkdownMetadataValue:
    """Text of some length in short lines.

    The UI makes all values as wide as the widest table, and shows the left of it: a line of its own
    making would go on where nobody looks.
    """
    lines = textwrap.wrap(escaped(text), LINE, break_long_words=False, break_on_hyphens=False)
    return dg.MetadataValue.md("  \n".join(lines))


def escaped(text: str) -> str:
    """Text as Markdown shows it, letter by letter."""
    return re.sub(r"([\\`*_<>\[\]~|#&])", r"\\\1", text)


def rounded(value: float) -> float:
    """A number as people read it: the UI shows all its digits."""
    return round(value, 4) if abs(value) >= 1 else float(f"{value:.4g}")


def interval(low: float | None, high: float | None) -> str | None:
    """An interval in one cell; the UI does not scroll far to the right."""
    if low is None or high is None or not (math.isfinite(low) and math.isfinite(high)):
        return None
    return f"{low:.4f} to {high:.4f}"


def rows_table(rows: Sequence[Mapping[str, Any]]) -> dg.TableMetadataValue:
    """Rows for the UI, which shows every digit of a float, every character of a text and no NaN."""
    cells = [{name: _cell(value) for name, value in row.items()} for row in rows]
    columns = [
        dg.TableColumn(name, _column_type([row[name] for row in cells]))
        for name in (cells[0] if cells else ())
    ]
    return dg.MetadataValue.table(
        [dg.TableRecord(row) for row in cells], schema=dg.TableSchema(columns)
    )


def counts_table(
    name_column: str, count_column: str, counts: Sequence[tuple[str | None, int]]
) -> dg.TableMetadataValue:
    """The number of rows of each name, those beyond ``COUNTS_SHOWN`` together."""
    total = sum(count for _, count in counts)
    rest = counts[COUNTS_SHOWN:]
    named = [*counts[:COUNTS_SHOWN]]
    if rest:
        named.append((f"{len(rest):,} others", sum(count for _, count in rest)))
    return rows_table(
        [
            {
                name_column: "none" if name is None else name,
                count_column: count,
                "share": count / total,
            }
            for name, count in named
        ]
    )


def _cell(value: Any) -> Any:
    if isinstance(value, str):
        return shown(value)
    if not isinstance(value, float):
        return value
    if not math.isfinite(value):
        return None
    return rounded(value)


def _column_type(values: Sequence[Any]) -> str:
    kinds = {bool: "bool", int: "int", float: "float"}
    return next(
        (kinds.get(type(value), "string") for value in values if value is not None), "string"
    )
