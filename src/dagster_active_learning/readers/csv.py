"""Predictions in CSV files, plain or compressed as their suffix says, read block by block."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from pathlib import Path

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
from dagster_active_learning.readers.tables import Layout, TableBatch, table_part

BLOCK_BYTES = 8 * 2**20
"""Text parsed at a time; a row longer than this is an error."""


def open_file(path: Path, options: TableOptions) -> PredictionPart:
    """Open one CSV file with a header row.

    Rows are counted from 1, without the header and blank lines.

    Raises:
        PredictionReadError: If it is empty, is not CSV or lacks a column.
    """
    try:
        with _open(path, []) as opened:
            names = opened.schema.names
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise PredictionReadError(f"{path} is not a readable UTF-8 CSV file: {error}") from error

    def read(layout: Layout) -> Iterator[TableBatch]:
        # The parser is a block ahead: what it has rejected may belong to a later batch.
        rejected: deque[RejectedRow] = deque()
        rows_before = 0
        try:
            with _open(path, layout.columns, rejected) as opened:
                for batch in opened:
                    last = rows_before + batch.num_rows
                    broken: list[RejectedRow] = []
                    while rejected and rejected[0].row_number <= last + 1:
                        broken.append(rejected.popleft())
                        last += 1
                    rows = np.arange(rows_before + 1, last + 1)
                    good = np.setdiff1d(rows, [row.row_number for row in broken])
                    rows_before = last
                    yield TableBatch(batch.select(layout.columns), good, broken)
                if rejected:
                    nothing = pa.RecordBatch.from_pylist([], opened.schema).select(layout.columns)
                    yield TableBatch(nothing, np.array([], dtype=np.int64), list(rejected))
        except (pa.ArrowException, OSError) as error:
            raise PredictionReadError(
                f"{path} cannot be read as CSV after row {rows_before}: {error}"
            ) from error

    # Text stays text here: a value that is no number must cost its row, not the file.
    schema = pa.schema([(name, pa.binary()) for name in names])
    return table_part(str(path), schema, options, read, sha256=content_sha256([path]))


def _open(
    path: Path, columns: list[str], rejected: deque[RejectedRow] | None = None
) -> pc.CSVStreamingReader:
    def reject(row: pc.InvalidRow) -> str:
        if rejected is not None:
            # The header is row 1 of the parser.
            rejected.append(RejectedRow(row.number - 1, Reason.WRONG_FIELD_COUNT, row.text))
        return "skip"

    return pc.open_csv(
        path,
        # One thread: only then does the parser number the rows it rejects.
        read_options=pc.ReadOptions(use_threads=False, block_size=BLOCK_BYTES),
        parse_options=pc.ParseOptions(newlines_in_values=True, invalid_row_handler=reject),
        convert_options=pc.ConvertOptions(
            # What is not asked for is not parsed either: its values need no common type.
            include_columns=columns,
            column_types=dict.fromkeys(columns, pa.binary()),
            null_values=[""],
            strings_can_be_null=True,
            quoted_strings_can_be_null=False,
        ),
    )
