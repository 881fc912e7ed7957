"""CSV files, plain or compressed as their suffix says: predictions block by block, manifests whole.

A quote that is opened and not closed makes one field of everything behind it. Where that reaches
the end of the file, it is an error here. Where another quote comes first, it ends the field: the
row then has the wrong number of fields and is rejected, with the rows it took as its text; or it
has the right number by chance, and nothing tells it from a field with line breaks in it.
"""

from __future__ import annotations

import csv
import io
import os
import tempfile
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Self
from uuid import uuid4

import numpy as np
import pyarrow as pa
import pyarrow.csv as pc

from dagster_active_learning.errors import PredictionReadError
from dagster_active_learning.readers.options import TableOptions
from dagster_active_learning.readers.reasons import Reason
from dagster_active_learning.readers.stream import (
    SMALL_BATCH_ROWS,
    PredictionPart,
    RejectedRow,
    content_sha256,
)
from dagster_active_learning.readers.tables import (
    Layout,
    TableBatch,
    check_column_count,
    table_part,
)

BLOCK_BYTES = 8 * 2**20
"""Text parsed at a time; a row longer than this is an error."""

REJECTED_BYTES = 2**20
"""Text of rejected rows that waits in memory; what is more waits on disk."""

NO_END_OF_ROW = "straddling object"
NO_HEADER = "Empty CSV file"
"""The parser's words for a row that goes on for more than a block, and for no header that ends."""


def open_file(path: Path, options: TableOptions) -> PredictionPart:
    """Open one CSV file with a header row.

    Rows are counted from 1, without the header and blank lines.

    Raises:
        PredictionReadError: If it is empty, is not CSV or lacks a column. While its rows are read:
            if it cannot be read to its end, or a quote is not closed there.
    """
    names = column_names(path)

    def read(layout: Layout) -> Iterator[TableBatch]:
        id_position = names.index(layout.image_id)
        nothing = pa.RecordBatch.from_pylist(
            [], pa.schema([(name, pa.binary()) for name in layout.columns])
        )
        no_row = np.array([], dtype=np.int64)
        rows_before = 0
        with _RejectedRows() as rejected:
            for batch in _parse(path, len(names), layout.columns, pa.binary(), rejected.add):
                # The parser gives no batch before it has found a row that is right.
                for broken in rejected.take_all_from(rows_before + 1, id_position):
                    rows_before += len(broken)
                    yield TableBatch(nothing, no_row, broken)
                last = rows_before + batch.num_rows
                broken: list[RejectedRow] = []
                while (row := rejected.take(last + 1, id_position)) is not None:
                    broken.append(row)
                    last += 1
                rows = np.arange(rows_before + 1, last + 1)
                good = np.setdiff1d(rows, [row.row_number for row in broken])
                rows_before = last
                yield TableBatch(batch, good, broken)
            for broken in rejected.take_all_from(rows_before + 1, id_position):
                yield TableBatch(nothing, no_row, broken)

    # Text stays text here: a value that is no number must cost its row, not the file.
    schema = pa.schema([(name, pa.binary()) for name in names])
    return table_part(str(path), schema, options, read, sha256=content_sha256([path]))


def column_names(path: Path) -> list[str]:
    """The header of a CSV file.

    Raises:
        PredictionReadError: If the file is empty, cannot be read or is not UTF-8 text, or a quote
            is not closed in the header or, for more than a block, behind it.
    """
    rejected = 0

    def judge(_: pc.InvalidRow) -> str:
        nonlocal rejected
        rejected += 1
        return "skip"

    try:
        # The parser makes an array of each field before it says how many there are.
        check_column_count(path, _field_count(path))
        with (
            pa.input_stream(path) as file,
            pc.open_csv(
                # A header is found by its end, which nothing need follow.
                pa.PythonFile(_Continued(file, b"\n"), mode="r"),
                read_options=pc.ReadOptions(use_threads=False, block_size=BLOCK_BYTES),
                parse_options=pc.ParseOptions(newlines_in_values=True, invalid_row_handler=judge),
            ) as opened,
        ):
            return opened.schema.names
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        if NO_END_OF_ROW in str(error):
            raise _endless_row(path, rejected + 1) from error
        fault = str(error)
        if NO_HEADER in fault:
            fault = "it is empty, or a quote opened in the header is not closed"
        raise PredictionReadError(f"{path} is not a readable UTF-8 CSV file: {fault}") from error


def _field_count(path: Path) -> int:
    """How many fields the first row has, as far as one block of text tells."""
    with pa.input_stream(path) as file:
        text = file.read(BLOCK_BYTES).decode("utf-8", errors="replace")
    try:
        return len(next(filter(None, csv.reader(io.StringIO(text, newline=""))), []))
    except csv.Error:  # a field is too long for a name; the parser says where
        return 0


def read_columns(path: Path, columns: Sequence[str]) -> pa.Table:
    """Some columns of a whole CSV file as text, for tables in which each row must be right.

    Args:
        path: A file with a header row.
        columns: Names that the header has, each once.

    Returns:
        Text columns with these names, null where a field is empty and not quoted.

    Raises:
        PredictionReadError: If a row has not as many fields as the header or text that is not
            UTF-8, a quote is not closed, or the file cannot be read.
    """
    rejected: list[pc.InvalidRow] = []

    def reject(row: pc.InvalidRow) -> None:
        # The first one is an error, when the file has been read: the parser lets none pass now.
        if not rejected:
            rejected.append(row)

    header = column_names(path)
    batches = list(_parse(path, len(header), columns, pa.string(), reject))
    for row in rejected:
        raise PredictionReadError(
            f"{path}, row {_row_number(row)}: Expected {row.expected_columns} columns, got "
            f"{row.actual_columns}: {row.text[:200]!r}"
        )
    return pa.Table.from_batches(batches, pa.schema([(name, pa.string()) for name in columns]))


def _parse(
    path: Path,
    n_fields: int,
    columns: Sequence[str],
    kind: pa.DataType,
    reject: Callable[[pc.InvalidRow], None],
) -> Iterator[pa.RecordBatch]:
    """The rows with as many fields as the header; ``reject`` gets the others, a block ahead.

    Whether a quote is open at the end depends on all the text before it, and only the parser knows
    that text. So it gets one row more, which has a field too many: if the parser does not reject
    this row, an open quote has taken it.
    """
    end_row = uuid4().hex + "," * n_fields
    rows = 0
    closed = False

    def judge(row: pc.InvalidRow) -> str:
        nonlocal rows, closed
        if row.text == end_row:
            closed = True
        else:
            rows += 1
            reject(row)
        return "skip"

    try:
        with (
            pa.input_stream(path) as file,
            pc.open_csv(
                pa.PythonFile(_Continued(file, f"\n{end_row}\n".encode()), mode="r"),
                # One thread: only then does the parser number the rows it rejects.
                read_options=pc.ReadOptions(use_threads=False, block_size=BLOCK_BYTES),
                parse_options=pc.ParseOptions(newlines_in_values=True, invalid_row_handler=judge),
                convert_options=pc.ConvertOptions(
                    # What is not asked for is not parsed: its values need no common type.
                    include_columns=columns,
                    column_types=dict.fromkeys(columns, kind),
                    null_values=[""],
                    strings_can_be_null=True,
                    quoted_strings_can_be_null=False,
                ),
            ) as opened,
        ):
            for batch in opened:
                rows += batch.num_rows
                yield batch
    except (pa.ArrowException, OSError) as error:
        if NO_END_OF_ROW in str(error):
            raise _endless_row(path, rows + 1) from error
        raise PredictionReadError(
            f"{path} cannot be read as CSV after row {rows}: {error}"
        ) from error
    if not closed:
        raise PredictionReadError(
            f"{path}: a quote opened in row {rows} is not closed: it makes one field of the rest "
            "of the file; close it, or complete the file if it is cut"
        )


class _Continued:
    """A file with some text behind its end, as the parser reads files."""

    closed = False

    def __init__(self, file: pa.NativeFile, text: bytes) -> None:
        self._file = file
        self._text = text

    def read(self, size: int) -> pa.Buffer | bytes:
        """As many bytes as are asked for, or fewer at the end."""
        block = self._file.read_buffer(size)
        missing = size - len(block)
        if not missing:
            return block
        text, self._text = self._text[:missing], self._text[missing:]
        return block.to_pybytes() + text

    def close(self) -> None:
        """The file is closed by who has opened it."""


def _endless_row(path: Path, row_number: int) -> PredictionReadError:
    return PredictionReadError(
        f"{path}: row {row_number} does not end within {BLOCK_BYTES} bytes: it is too long, or a "
        f"quote opened in row {row_number} is not closed"
    )


def _row_number(row: pc.InvalidRow) -> int:
    """The row's number from 1; for the parser that is the header."""
    return row.number - 1


class _RejectedRows:
    """Rows in the order of their numbers, put aside until the rows before them have been read.

    They may be all rows of a file, so that those that are more than a few wait on disk.
    """

    def __init__(self) -> None:
        self._file = tempfile.SpooledTemporaryFile(REJECTED_BYTES)  # noqa: SIM115 - see __exit__
        self._numbers: deque[int] = deque()
        self._lengths: deque[int] = deque()
        self._read_to = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def add(self, row: pc.InvalidRow) -> None:
        """Put a row aside."""
        text = row.text.encode()
        self._file.seek(0, os.SEEK_END)
        self._file.write(text)
        self._numbers.append(_row_number(row))
        self._lengths.append(len(text))

    def take(self, last: int, id_position: int) -> RejectedRow | None:
        """The next row if its number is not above ``last``."""
        if not self._numbers or self._numbers[0] > last:
            return None
        self._file.seek(self._read_to)
        text = self._file.read(self._lengths.popleft())
        self._read_to += len(text)
        return _rejected(self._numbers.popleft(), text.decode(), id_position)

    def take_all_from(self, first: int, id_position: int) -> Iterator[list[RejectedRow]]:
        """The rows whose numbers go on from ``first`` without a gap, some at a time."""
        while rows := list(islice(self._from(first, id_position), SMALL_BATCH_ROWS)):
            yield rows
            first += len(rows)

    def _from(self, first: int, id_position: int) -> Iterator[RejectedRow]:
        while (row := self.take(first, id_position)) is not None:
            yield row
            first += 1


def _rejected(row_number: int, text: str, id_position: int) -> RejectedRow:
    try:
        fields = next(csv.reader([text]), [])
    except csv.Error:  # a field is too long to be an id
        fields = []
    image_id = fields[id_position] if id_position < len(fields) else None
    return RejectedRow(row_number, Reason.WRONG_FIELD_COUNT, text, image_id or None)
