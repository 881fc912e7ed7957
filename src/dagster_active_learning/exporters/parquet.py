"""Candidates as a Parquet file."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from dagster_active_learning.exporters.candidates import Candidates


def write_candidates(candidates: Candidates, path: Path) -> int:
    """Write candidates to a new file and count them."""
    return write_rows(candidates.rows(), path)


def write_rows(rows: pa.RecordBatchReader, path: Path) -> int:
    """Write rows to a new file and count them."""
    written = 0
    with pq.ParquetWriter(path, rows.schema) as writer:
        for batch in rows:
            writer.write_batch(batch)
            written += batch.num_rows
    return written
