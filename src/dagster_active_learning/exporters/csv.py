"""Candidates as a CSV file: UTF-8, a header, texts in quotes, null as nothing between commas.

Every text is written as it is, also one that a spreadsheet would take for a formula.
"""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
from pyarrow.csv import CSVWriter

from dagster_active_learning.exporters.candidates import Candidates


def write_candidates(candidates: Candidates, path: Path) -> int:
    """Write candidates to a new file and count them."""
    return write_rows(candidates.rows(), path)


def write_rows(rows: pa.RecordBatchReader, path: Path) -> int:
    """Write rows to a new file and count them."""
    written = 0
    with CSVWriter(str(path), rows.schema) as writer:
        for batch in rows:
            writer.write_batch(batch)
            written += batch.num_rows
    return written
