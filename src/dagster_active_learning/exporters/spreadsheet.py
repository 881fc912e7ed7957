"""Candidates as a CSV file that a person opens in a spreadsheet, which runs no text in it.

A spreadsheet takes a text that begins with ``=``, ``+``, ``-``, ``@``, a tab or a line break for a
formula, and runs it, though it stands in quotes. Such a text has an apostrophe in front here. So
has one that begins with an apostrophe itself: without the first one, each text is what it was. A
byte order mark says that the file is UTF-8.
"""

# The functions of pyarrow.compute are made when it is imported.
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

import codecs
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow.csv import CSVWriter

from dagster_active_learning.exporters.candidates import Candidates

TAKEN_FOR_FORMULA = r"^[=+\-@\x{FF1D}\x{FF0B}\x{FF0D}\x{FF20}\t\r\n']"
"""The beginnings of texts that get an apostrophe; the wide ones are typed in East Asia."""


def write_candidates(candidates: Candidates, path: Path) -> int:
    """Write candidates to a new file and count them."""
    rows = candidates.rows()
    written = 0
    with path.open("wb") as file:
        file.write(codecs.BOM_UTF8)
        with CSVWriter(file, rows.schema) as writer:
            for batch in rows:
                writer.write_batch(_as_text(batch))
                written += batch.num_rows
    return written


def _as_text(batch: pa.RecordBatch) -> pa.RecordBatch:
    columns = [
        _escaped(column) if pa.types.is_string(column.type) else column for column in batch.columns
    ]
    return pa.RecordBatch.from_arrays(columns, schema=batch.schema)


def _escaped(texts: pa.Array) -> pa.Array:
    taken = pc.match_substring_regex(texts, TAKEN_FOR_FORMULA)
    return pc.if_else(taken, pc.binary_join_element_wise("'", texts, ""), texts)
