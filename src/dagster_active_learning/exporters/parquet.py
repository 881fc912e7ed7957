"""Candidates as a Parquet file."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq

from dagster_active_learning.exporters.candidates import Candidates


def write_candidates(candidates: Candidates, path: Path) -> int:
    """Write candidates to a new file and count them."""
    rows = candidates.rows()
    written = 0
    with pq.ParquetWriter(path, rows.schema) as writer:
        for batch in rows:
            writer.write_batch(batch)
            written += batch.num_rows
    return written
