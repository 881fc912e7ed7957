"""Predictions that are in memory or in DuckDB: data frames, Arrow tables, relations, queries."""

# The functions of pyarrow.compute are made when it is imported.
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import chain
from typing import Any, Protocol, runtime_checkable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dagster_active_learning.errors import PredictionReadError
from dagster_active_learning.files.versions import combined_sha256
from dagster_active_learning.limits import rows_for
from dagster_active_learning.readers.options import TableOptions
from dagster_active_learning.readers.stream import PredictionStream, open_stream
from dagster_active_learning.readers.table_batch import TableBatch
from dagster_active_learning.readers.tables import (
    Layout,
    class_names_in_metadata,
    table_part,
)


@runtime_checkable
class ArrowStreamExportable(Protocol):
    """An object with an Arrow stream of its rows: of polars, pandas, pyarrow, DuckDB."""

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object: ...


def read_table(table: object, *, name: str, options: TableOptions) -> PredictionStream:
    """The rows of a table in memory, or of a relation, as predictions.

    Args:
        table: Anything with the Arrow stream interface, for example a polars or pandas data frame,
            a ``pyarrow.Table`` or a DuckDB relation. It is read once.
        name: What the table is called in the database and in errors.
        options: Which columns hold what.

    Raises:
        PredictionReadError: If the object has no Arrow stream, or lacks a column.
    """
    if not isinstance(table, ArrowStreamExportable):
        raise PredictionReadError(
            f"{name} is a {type(table).__module__}.{type(table).__qualname__}, expected a polars "
            "or pandas data frame, an Arrow table or another object with an Arrow stream"
        )
    reader = pa.RecordBatchReader.from_stream(table)
    # Batches that were read before the others, for the names in them.
    first: list[pa.RecordBatch] = []
    rows_read = 0

    def batches() -> Iterator[pa.RecordBatch]:
        nonlocal rows_read
        try:
            for batch in reader:
                rows_read += len(batch)
                yield batch
        except (pa.ArrowException, OSError) as error:
            raise PredictionReadError(
                f"{name} cannot be read after row {rows_read}: {error}"
            ) from error

    def first_values(column: str) -> Iterator[pa.Array]:
        for batch in batches():
            first.append(batch)
            yield batch.column(column)

    def read(layout: Layout) -> Iterator[TableBatch]:
        first_row = 1
        for whole in chain(iter(lambda: first.pop(0) if first else None, None), batches()):
            columns = whole.select(layout.columns)
            batch_rows = rows_for(columns.nbytes // max(1, len(columns)))
            for start in range(0, len(columns), batch_rows):
                batch = columns.slice(start, batch_rows)
                yield TableBatch(batch, np.arange(first_row, first_row + len(batch)))
                first_row += len(batch)

    content = _ContentHash()
    part = table_part(
        name,
        reader.schema,
        options,
        read,
        sha256=content.hexdigest,
        class_names_in_file=class_names_in_metadata(name, reader.schema),
        first_values=first_values,
    )

    def hashed_batches() -> Iterator[pa.RecordBatch]:
        for batch in part.batches():
            content.update(batch)
            yield batch

    content.start(part.class_names)
    return open_stream(name, [replace(part, batches=hashed_batches)])


class _ContentHash:
    """SHA-256 of rows that come in batches; the same however the rows are cut into batches."""

    def __init__(self) -> None:
        self._parts: dict[str, Any] = {}

    def start(self, class_names: Sequence[str] | None) -> None:
        """The same numbers under other class names are another content."""
        self._add("class_names", json.dumps(class_names).encode())

    def update(self, batch: pa.RecordBatch) -> None:
        for name in ("image_id", "category", "segmentation", "raw"):
            self._add(name, *_text_bytes(batch.column(name)))
        for name in ("class_probs", "bbox"):
            lists = batch.column(name)
            lengths = pc.fill_null(pc.list_value_length(lists), -1)
            self._add(name, _bytes(lengths), _bytes(lists.flatten()))
        scores = batch.column("score")
        self._add("score", _bytes(scores.is_null()), _bytes(scores))

    def hexdigest(self) -> str:
        return combined_sha256([part.hexdigest() for part in self._parts.values()])

    def _add(self, name: str, *contents: bytes | memoryview) -> None:
        for number, content in enumerate(contents):
            part = self._parts.setdefault(f"{name}{number}", hashlib.sha256())
            part.update(content)


def _bytes(numbers: pa.Array) -> memoryview:
    return np.ascontiguousarray(numbers.to_numpy(zero_copy_only=False)).data.cast("B")


def _text_bytes(column: pa.StringArray) -> tuple[bytes, memoryview]:
    """The lengths of the texts (-1 for null) and the texts themselves, one after the other."""
    lengths = pc.fill_null(pc.binary_length(column), -1).to_numpy(zero_copy_only=False)
    _, offsets, texts = column.buffers()
    bounds = np.frombuffer(offsets, np.int32, len(column) + 1, column.offset * 4)
    return lengths.tobytes(), memoryview(texts or b"")[bounds[0] : bounds[-1]]
