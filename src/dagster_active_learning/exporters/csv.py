"""Candidates as a CSV file: UTF-8, a header, texts in quotes, null as nothing between commas."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
from pyarrow.csv import CSVWriter


def write_candidates(candidates: pa.RecordBatchReader, path: Path) -> int:
    """Write batches of candidates to a new file and count them."""
    written = 0
    with CSVWriter(str(path), candidates.schema) as writer:
        for batch in candidates:
            writer.write_batch(batch)
            written += batch.num_rows
    return written
