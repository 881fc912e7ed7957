"""Predictions in Parquet files, read row group by row group."""

# The functions of pyarrow.compute are made when it is imported.
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from dagster_active_learning.errors import PredictionReadError
from dagster_active_learning.files.in_place import FileInPlace
from dagster_active_learning.files.versions import content_sha256
from dagster_active_learning.limits import DEFAULT_BATCH_ROWS, rows_for
from dagster_active_learning.readers.columns import is_text, without_views
from dagster_active_learning.readers.options import TableOptions
from dagster_active_learning.readers.stream import PredictionPart
from dagster_active_learning.readers.table_batch import TableBatch
from dagster_active_learning.readers.tables import (
    Layout,
    class_names_in_metadata,
    table_part,
)

FOOTER_ERRORS = (pa.ArrowException, OSError, UnicodeDecodeError, OverflowError)
"""The errors of pyarrow about a file that is broken, or whose footer is."""

PROBED_BYTES = 2**16
"""Bytes of a column that are read at a time to see how large its values are."""

_FIXED_SIZE = "Expected all lists to be of size="
"""What pyarrow before 26 says of a null row in a column of lists of fixed size."""


def open_file(path: Path | FileInPlace, options: TableOptions) -> PredictionPart:
    """Open one Parquet file; its metadata may carry the class names.

    Raises:
        PredictionReadError: If it is no Parquet file, is cut short or lacks a column.
    """
    sha256 = path.sha256 if isinstance(path, FileInPlace) else content_sha256([path])
    try:
        with parquet_file(path) as opened:
            schema = opened.schema_arrow
            class_names = class_names_in_metadata(str(path), schema)
    except FOOTER_ERRORS as error:
        raise PredictionReadError(f"{path} is not a readable Parquet file: {error}") from error

    def read(layout: Layout) -> Iterator[TableBatch]:
        first_row = 1
        for batch in read_columns(path, layout.columns):
            yield TableBatch(batch, np.arange(first_row, first_row + len(batch)))
            first_row += len(batch)

    def first_values(column: str) -> Iterator[pa.Array]:
        return (batch.column(0) for batch in read_columns(path, [column]))

    return table_part(
        str(path),
        schema,
        options,
        read,
        sha256=sha256,
        class_names_in_file=class_names,
        first_values=first_values,
    )


def parquet_file(path: Path | FileInPlace) -> pq.ParquetFile:
    """A Parquet file, opened for its footer and first values.

    Buffering ahead, pyarrow would hold the whole file.
    """
    return pq.ParquetFile(_source(path), pre_buffer=False, buffer_size=PROBED_BYTES)


def _source(path: Path | FileInPlace) -> Any:
    return path.open() if isinstance(path, FileInPlace) else pa.OSFile(str(path))


def read_columns(path: Path | FileInPlace, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
    """Columns of a Parquet file, in batches that memory holds.

    Raises:
        PredictionReadError: If it cannot be read, or has not as many rows as its footer says.
    """
    rows = 0
    try:
        with _source(path) as source, pq.ParquetFile(source, pre_buffer=False) as opened:
            for groups, batch_rows in _groups_together(path, source, opened, columns):
                for batch in opened.iter_batches(batch_rows, row_groups=groups, columns=columns):
                    rows += len(batch)
                    yield batch
            promised = opened.metadata.num_rows
    except FOOTER_ERRORS as error:
        advice = "; pyarrow 26 reads null rows of them" if _FIXED_SIZE in str(error) else ""
        raise PredictionReadError(
            f"{path} cannot be read after row {rows}: {error}{advice}"
        ) from error
    if rows != promised:
        raise _broken(path, f"it promises {promised} rows, but has {rows}")


def _groups_together(
    path: Path | FileInPlace, source: Any, opened: pq.ParquetFile, columns: Sequence[str]
) -> Iterator[tuple[list[int], int]]:
    """Row groups that make one batch, or one with several batches, and the rows of a batch.

    All that follows takes some milliseconds per batch, however small it is.

    Raises:
        PredictionReadError: If the footer contradicts itself.
    """
    together: list[int] = []
    rows, fewest = 0, DEFAULT_BATCH_ROWS
    text = _TextLengths(source, opened, columns)
    for group in range(opened.num_row_groups):
        batch_rows = _batch_rows(path, opened, group, columns, text)
        group_rows = opened.metadata.row_group(group).num_rows
        if together and rows + group_rows > min(fewest, batch_rows):
            yield together, fewest
            together, rows, fewest = [], 0, DEFAULT_BATCH_ROWS
        together.append(group)
        rows, fewest = rows + group_rows, min(fewest, batch_rows)
    if together:
        yield together, fewest


def _batch_rows(
    path: Path | FileInPlace,
    opened: pq.ParquetFile,
    group: int,
    columns: Sequence[str],
    text: _TextLengths,
) -> int:
    """The number of rows of a row group that make a batch, by the size of their decoded values."""
    footer = opened.metadata.row_group(group)
    rows, n_columns = footer.num_rows, footer.num_columns
    if n_columns != len(opened.schema):
        raise _broken(path, f"row group {group} has {n_columns} columns of {len(opened.schema)}")
    if not group:
        # pyarrow ends the process when it is asked about a column that is encrypted; read from, it
        # is an error.
        text.look_at(group)
    if rows < 1:
        return 1
    wanted = set(columns)
    bytes_per_row = 0
    text_bytes: dict[str, float] = {}
    for position, column in enumerate(opened.schema):
        name, *nested = column.path.split(".")
        if name not in wanted:
            continue
        chunk = footer.column(position)
        if not nested and chunk.num_values != rows:
            raise _broken(
                path,
                f"row group {group} has {rows} rows, but {chunk.num_values} values of {name!r}",
            )
        bytes_per_row += max(8 * chunk.num_values, chunk.total_uncompressed_size) // rows
        if column.physical_type == "BYTE_ARRAY":
            text_bytes[column.path] = chunk.total_uncompressed_size / rows
    return rows_for(bytes_per_row + text.longest(group, text_bytes))


class _TextLengths:
    """The lengths of the longest texts of row groups.

    Encoded, a million equal texts take a few bytes, and where texts differ, reading the dictionary
    of a row group takes twice as long as reading its texts. So it is read of the first row group,
    and of those whose encoded texts have another size than they had in the one read last.
    """

    def __init__(self, source: Any, opened: pq.ParquetFile, columns: Sequence[str]) -> None:
        self._source = source
        self._opened = opened
        self._columns = columns
        self._group = -1
        self._longest = 0
        self._bytes_per_row: Mapping[str, float] | None = None

    def look_at(self, group: int) -> None:
        """Read from a row group.

        Raises:
            OSError: If it cannot be read.
        """
        first = _first_row(self._source, self._opened, group, self._columns)
        self._group, self._longest = group, 0
        for column in () if first is None else first.columns:
            if pa.types.is_dictionary(column.type) and len(column.dictionary):
                self._longest += pc.max(pc.binary_length(column.dictionary)).as_py() or 0
            elif is_text(column.type):
                self._longest += pc.binary_length(without_views(column)[0]).as_py() or 0

    def longest(self, group: int, bytes_per_row: Mapping[str, float]) -> int:
        """The longest texts of all columns of a row group, together.

        Args:
            group: The row group.
            bytes_per_row: What a row takes encoded, by the column.
        """
        seen = self._bytes_per_row
        is_like = seen is not None and all(
            seen[name] / 2 <= size <= seen[name] * 2 for name, size in bytes_per_row.items()
        )
        if self._group != group and not is_like:
            self.look_at(group)
        if self._group == group:
            self._bytes_per_row = bytes_per_row
        return self._longest


def _first_row(
    source: Any, opened: pq.ParquetFile, group: int, columns: Sequence[str]
) -> pa.RecordBatch | None:
    """The first row of a row group, text as a dictionary that has the longest value."""
    wanted = set(columns)
    text = [
        column.path
        for column in opened.schema
        if column.path in wanted and column.physical_type == "BYTE_ARRAY"
    ]
    try:
        return _probe(source, opened, group, columns, text)
    except OSError:
        # pyarrow makes none of values that are stored without what they share with those before.
        return _probe(source, opened, group, columns, [])


def _probe(
    source: Any, opened: pq.ParquetFile, group: int, columns: Sequence[str], text: Sequence[str]
) -> pa.RecordBatch | None:
    # Of a file elsewhere the beginning of each column is fetched, and not the footer again.
    with pq.ParquetFile(
        source,
        metadata=opened.metadata,
        read_dictionary=text,
        pre_buffer=False,
        buffer_size=PROBED_BYTES,
    ) as encoded:
        return next(encoded.iter_batches(1, row_groups=[group], columns=columns), None)


def _broken(path: Path | FileInPlace, contradiction: str) -> PredictionReadError:
    return PredictionReadError(
        f"{path} has a broken footer: {contradiction}; expected a Parquet file that is complete"
    )
