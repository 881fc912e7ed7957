"""Candidates as a Parquet file."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq


def write_candidates(candidates: pa.RecordBatchReader, path: Path) -> int:
    """Write batches of candidates to a new file and count them."""
    written = 0
    with pq.ParquetWriter(path, candidates.schema) as writer:
        for batch in candidates:
            writer.write_batch(batch)
            written += batch.num_rows
    return written
