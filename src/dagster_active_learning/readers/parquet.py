"""Predictions in Parquet files, read row group by row group."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from dagster_active_learning.errors import PredictionReadError
from dagster_active_learning.readers.options import TableOptions
from dagster_active_learning.readers.stream import PredictionPart, content_sha256, rows_for
from dagster_active_learning.readers.tables import (
    Layout,
    TableBatch,
    class_names_in_metadata,
    table_part,
)


def open_file(path: Path, options: TableOptions) -> PredictionPart:
    """Open one Parquet file; its metadata may carry the class names.

    Raises:
        PredictionReadError: If it is no Parquet file, is cut short or lacks a column.
    """
    try:
        with pq.ParquetFile(path) as opened:
            schema, metadata = opened.schema_arrow, opened.metadata
    except (pa.ArrowException, OSError) as error:
        raise PredictionReadError(f"{path} is not a readable Parquet file: {error}") from error
    # Of the numbers themselves: encoded, a million equal ones take a few bytes.
    groups = [metadata.row_group(group) for group in range(metadata.num_row_groups)]
    values = sum(
        group.column(column).num_values for group in groups for column in range(group.num_columns)
    )
    batch_rows = rows_for(8 * values // max(1, metadata.num_rows))

    def read(layout: Layout) -> Iterator[TableBatch]:
        first_row = 1
        try:
            # Buffering ahead, pyarrow would hold the whole file.
            with pq.ParquetFile(path, pre_buffer=False) as opened:
                for batch in opened.iter_batches(batch_rows, columns=layout.columns):
                    rows = np.arange(first_row, first_row + batch.num_rows)
                    first_row += batch.num_rows
                    yield TableBatch(batch, rows)
        except (pa.ArrowException, OSError) as error:
            raise PredictionReadError(
                f"{path} cannot be read from row {first_row} on: {error}"
            ) from error

    return table_part(
        str(path),
        schema,
        options,
        read,
        sha256=content_sha256([path]),
        class_names_in_file=class_names_in_metadata(str(path), schema),
    )
