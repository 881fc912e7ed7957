"""CSV files, plain or compressed as their suffix says: predictions block by block, manifests whole.

A quote that is opened and not closed makes one field of everything behind it. Where that reaches
the end of the file, it is an error here. Where another quote comes first, it ends the field: the
row then has the wrong number of fields and is rejected, with the rows it took as its text; or it
has the right number by chance, and nothing tells it from a field with line breaks in it.
"""

# The functions of pyarrow.compute are made when it is imported.
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

import csv
import io
import re
from array import array
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from uuid import uuid4

import numpy as np
import pyarrow as pa
import pyarrow.csv as pc
from pyarrow import compute

from dagster_active_learning.errors import PredictionReadError
from dagster_active_learning.files.versions import content_sha256
from dagster_active_learning.limits import SMALL_BATCH_ROWS
from dagster_active_learning.readers.options import TableOptions
from dagster_active_learning.readers.quarantine import Reason, RejectedRow
from dagster_active_learning.readers.stream import PredictionPart
from dagster_active_learning.readers.table_batch import TableBatch
from dagster_active_learning.readers.tables import (
    Layout,
    check_column_count,
    table_part,
)

BLOCK_BYTES = 8 * 2**20
"""Text parsed at a time; a row longer than this is an error."""

HEADER_BYTES = 2**16
"""Text in which a delimiter is looked for."""

DELIMITERS = (",", ";", "\t", "|")
"""What may separate fields: the first of them that the header has outside quotes."""

DECIMAL_COMMA = rb"^\s*([+-]?\d*),(\d+)\s*$"
"""A number as spreadsheets write it in most of Europe, where the comma separates no fields."""

QUOTED = re.compile('"[^"]*"')

NO_END_OF_ROW = "straddling object"
NO_HEADER = "Empty CSV file"
"""The parser's words for a row that goes on for more than a block, and for no header that ends."""


def open_file(path: Path, options: TableOptions) -> PredictionPart:
    """Open one CSV file with a header row.

    Rows are counted from 1, without the header and blank lines. Fields are separated by the first
    of ``DELIMITERS`` that the header has; where that is a semicolon, numbers may have decimal
    commas.

    Raises:
        PredictionReadError: If it is empty, is not CSV or lacks a column. While its rows are read:
            if it cannot be read to its end, or a quote is not closed there.
    """
    sha256 = content_sha256([path])
    names = column_names(path)
    delimiter = find_delimiter(path)

    def read(layout: Layout) -> Iterator[TableBatch]:
        rejected = _RejectedRows(names.index(layout.image_id), delimiter)
        first_row = 1
        for rows in _parse(path, names, layout.columns, pa.binary(), rejected.add):
            batch = _with_points(rows, layout) if delimiter == ";" else rows
            for piece in rejected.put_between(batch, first_row):
                yield piece
                first_row += len(piece.columns) + len(piece.rejected)

    # Text stays text here: a value that is no number must cost its row, not the file.
    schema = pa.schema([(name, pa.binary()) for name in names])
    try:
        return table_part(str(path), schema, options, read, sha256=sha256)
    except PredictionReadError as error:
        blanks = [name for name in names if name != name.strip()]
        if not blanks:
            raise
        raise PredictionReadError(
            f"{error}; the column {blanks[0]!r} has blanks around its name: write the header "
            "without them"
        ) from error


def _with_points(batch: pa.RecordBatch, layout: Layout) -> pa.RecordBatch:
    """Numbers with decimal points in place of commas, in the columns that hold numbers."""
    for position, name in enumerate(batch.schema.names):
        if name not in (layout.image_id, layout.category):
            numbers = batch.column(position).cast(pa.large_binary())
            numbers = compute.replace_substring_regex(numbers, DECIMAL_COMMA, rb"\1.\2")
            batch = batch.set_column(position, name, numbers.cast(pa.binary()))
    return batch


def find_delimiter(path: Path) -> str:
    """The character between the fields of a CSV file, as its header shows it.

    Raises:
        PredictionReadError: If the file cannot be read.
    """
    try:
        with pa.input_stream(path) as file:
            block = file.read_buffer(HEADER_BYTES).to_pybytes()
    except OSError as error:
        raise PredictionReadError(f"{path} is not a readable UTF-8 CSV file: {error}") from error
    header = block.decode("utf-8-sig", errors="replace").lstrip("\r\n")
    outside = QUOTED.sub("", header).partition("\n")[0]
    return next((mark for mark in DELIMITERS if mark in outside), ",")


def column_names(path: Path) -> list[str]:
    """The header of a CSV file.

    Raises:
        PredictionReadError: If the file is empty or cannot be read, or the header is not UTF-8
            text, does not end within a block or opens a quote that is not closed.
    """
    try:
        with pc.open_csv(
            _first_row(path),
            read_options=pc.ReadOptions(use_threads=False, block_size=BLOCK_BYTES),
            parse_options=pc.ParseOptions(
                delimiter=find_delimiter(path),
                newlines_in_values=True,
                invalid_row_handler=lambda _: "skip",
            ),
        ) as opened:
            return opened.schema.names
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        fault = str(error)
        if NO_HEADER in fault:
            fault = (
                f"it is empty, the header does not end within {BLOCK_BYTES} bytes, or a quote "
                "opened in the header is not closed"
            )
        raise PredictionReadError(f"{path} is not a readable UTF-8 CSV file: {fault}") from error


def _first_row(path: Path) -> Path | pa.BufferReader:
    """The text of the header, or the whole file where a block does not tell where it ends.

    With more of the text the parser would look at all rows before the first that is right, and it
    makes an array of each field of the header before it says how many there are.
    """
    with pa.input_stream(path) as file:
        # `read` would keep its memory if it failed.
        block = file.read_buffer(BLOCK_BYTES).to_pybytes()
    lines = io.BytesIO(block)
    rows = csv.reader(line.decode("utf-8", errors="replace") for line in lines)
    try:
        check_column_count(path, len(next(filter(None, rows), [])))
    except csv.Error:  # a field is too long for a name; the parser says where
        return path
    is_whole = lines.tell() < BLOCK_BYTES
    # The parser finds a header by its end, which nothing need follow.
    return pa.BufferReader(block[: lines.tell()] + b"\n") if is_whole else path


def read_columns(path: Path, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
    """Columns of a CSV file as text, for tables in which each row must be right.

    Args:
        path: A file with a header row.
        columns: Names that the header has, each once.

    Yields:
        Some rows of text columns with these names, null where a field is empty and not quoted.

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
    yield from _parse(path, header, columns, pa.string(), reject)
    for row in rejected:
        raise PredictionReadError(
            f"{path}, row {_row_number(row)}: Expected {row.expected_columns} columns, got "
            f"{row.actual_columns}: {row.text[:200]!r}"
        )


def _parse(
    path: Path,
    header: Sequence[str],
    columns: Sequence[str],
    kind: pa.DataType,
    reject: Callable[[pc.InvalidRow], None],
) -> Iterator[pa.RecordBatch]:
    """The rows with as many fields as the header, block by block, even if a block has none.

    ``reject`` gets the others, at the latest before the batch of their block comes.

    All the text before the end decides if a quote is open there, and only the parser knows that
    text. So it gets one row more, which has a field too many: if the parser does not reject
    this row, an open quote has taken it.
    """
    delimiter = find_delimiter(path)
    end_row = uuid4().hex + delimiter * len(header)
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
                # One thread: only then does the parser number the rows it rejects. The header is a
                # row, too: before it has found one that is right, the parser gives no batch.
                read_options=pc.ReadOptions(
                    use_threads=False, block_size=BLOCK_BYTES, column_names=header
                ),
                parse_options=pc.ParseOptions(
                    delimiter=delimiter, newlines_in_values=True, invalid_row_handler=judge
                ),
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
            for position, batch in enumerate(opened):
                behind_header = batch.slice(1) if position == 0 else batch
                rows += len(behind_header)
                yield behind_header
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
    """Rows in the order of their numbers, until the rows before them have been read.

    The two blocks that the parser may be ahead hold up to eight million: bytes, not objects.
    """

    def __init__(self, id_position: int, delimiter: str) -> None:
        self._id_position = id_position
        self._delimiter = delimiter
        self._numbers = array("q")
        self._lengths = array("i")
        self._texts = bytearray()

    def add(self, row: pc.InvalidRow) -> None:
        """Put a row aside."""
        text = row.text.encode()
        self._numbers.append(_row_number(row))
        self._lengths.append(len(text))
        self._texts += text

    def put_between(self, batch: pa.RecordBatch, first_row: int) -> Iterator[TableBatch]:
        """The rows of a batch and those that stand before, between and right behind them.

        They come some at a time; ``first_row`` is the number of the first of all.
        """
        # A row belongs here if not more rows of the batch stand before it than there are.
        count = bisect_right(
            range(len(self._numbers)),
            first_row + len(batch),
            key=lambda position: self._numbers[position] - position,
        )
        while count > SMALL_BATCH_ROWS:
            rejected = self._take(SMALL_BATCH_ROWS)
            count -= SMALL_BATCH_ROWS
            before = rejected[-1].row_number + 1 - first_row - SMALL_BATCH_ROWS
            yield _numbered(batch.slice(0, before), rejected, first_row)
            batch = batch.slice(before)
            first_row += before + SMALL_BATCH_ROWS
        yield _numbered(batch, self._take(count), first_row)

    def _take(self, count: int) -> list[RejectedRow]:
        rejected: list[RejectedRow] = []
        start = 0
        for number, length in zip(self._numbers[:count], self._lengths[:count], strict=True):
            text = self._texts[start : start + length].decode()
            rejected.append(_rejected(number, text, self._id_position, self._delimiter))
            start += length
        del self._numbers[:count], self._lengths[:count], self._texts[:start]
        return rejected


def _numbered(batch: pa.RecordBatch, rejected: Sequence[RejectedRow], first_row: int) -> TableBatch:
    rows = np.arange(first_row, first_row + len(batch) + len(rejected))
    return TableBatch(batch, np.setdiff1d(rows, [row.row_number for row in rejected]), rejected)


def _rejected(row_number: int, text: str, id_position: int, delimiter: str) -> RejectedRow:
    try:
        fields = next(csv.reader([text], delimiter=delimiter), [])
    except csv.Error:  # a field is too long to be an id
        fields = []
    image_id = fields[id_position] if id_position < len(fields) else None
    return RejectedRow(row_number, Reason.WRONG_FIELD_COUNT, text, image_id or None)
