"""CSV files, plain or compressed as their suffix says: predictions block by block, manifests whole.

A quote that is opened and not closed makes one field of everything behind it. Where that reaches
the end of the file, it is an error here. Where another quote comes first, it ends the field: the
row then has the wrong number of fields and is rejected, with the rows it took as its text; or it
has the right number by chance, and nothing tells it from a field with line breaks in it.
"""

from __future__ import annotations

import csv
import io
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from uuid import uuid4

import numpy as np
import pyarrow as pa
import pyarrow.csv as pc

from dagster_active_learning.errors import PredictionReadError
from dagster_active_learning.readers.options import TableOptions
from dagster_active_learning.readers.reasons import Reason
from dagster_active_learning.readers.stream import (
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
        # The parser is a block ahead: what it has rejected may belong to a later batch.
        rejected: deque[pc.InvalidRow] = deque()
        id_position = names.index(layout.image_id)
        rows_before = 0
        for batch in _parse(path, len(names), layout.columns, pa.binary(), rejected):
            last = rows_before + batch.num_rows
            broken: list[RejectedRow] = []
            while rejected and _row_number(rejected[0]) <= last + 1:
                broken.append(_rejected(rejected.popleft(), id_position))
                last += 1
            rows = np.arange(rows_before + 1, last + 1)
            good = np.setdiff1d(rows, [row.row_number for row in broken])
            rows_before = last
            yield TableBatch(batch, good, broken)
        if rejected:
            nothing = pa.RecordBatch.from_pylist(
                [], pa.schema([(name, pa.binary()) for name in layout.columns])
            )
            broken = [_rejected(row, id_position) for row in rejected]
            yield TableBatch(nothing, np.array([], dtype=np.int64), broken)

    # Text stays text here: a value that is no number must cost its row, not the file.
    schema = pa.schema([(name, pa.binary()) for name in names])
    return table_part(str(path), schema, options, read, sha256=content_sha256([path]))


def column_names(path: Path) -> list[str]:
    """The header of a CSV file.

    Raises:
        PredictionReadError: If the file is empty, cannot be read or is not UTF-8 text, or a quote
            is not closed in the header or, for more than a block, behind it.
    """
    rejected: list[pc.InvalidRow] = []

    def judge(row: pc.InvalidRow) -> str:
        rejected.append(row)
        return "skip"

    try:
        # The parser makes an array of each field before it says how many there are.
        check_column_count(path, _field_count(path))
        with pc.open_csv(
            path,
            read_options=pc.ReadOptions(use_threads=False, block_size=BLOCK_BYTES),
            parse_options=pc.ParseOptions(newlines_in_values=True, invalid_row_handler=judge),
        ) as opened:
            return opened.schema.names
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        if NO_END_OF_ROW in str(error):
            raise _endless_row(path, len(rejected) + 1) from error
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
    rejected: deque[pc.InvalidRow] = deque()
    header = column_names(path)
    batches = list(_parse(path, len(header), columns, pa.string(), rejected))
    if rejected:
        row = rejected[0]
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
    rejected: deque[pc.InvalidRow],
) -> Iterator[pa.RecordBatch]:
    """The rows with as many fields as the header; the others go to ``rejected``, a block ahead.

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
            rejected.append(row)
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


def _rejected(row: pc.InvalidRow, id_position: int) -> RejectedRow:
    try:
        fields = next(csv.reader([row.text]), [])
    except csv.Error:  # a field is too long to be an id
        fields = []
    image_id = fields[id_position] if id_position < len(fields) else None
    return RejectedRow(_row_number(row), Reason.WRONG_FIELD_COUNT, row.text, image_id or None)
