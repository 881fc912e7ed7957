"""Bounds that hold everywhere: the size of a batch and of a text that is kept."""

from __future__ import annotations

PROBABILITY_TOLERANCE = 1e-3
"""Distance that a probability may have from 0..1, and a sum of class probabilities from 1, where no
other ``sum_tolerance`` is declared."""

BATCH_BYTES = 32 * 2**20
"""Class probabilities a batch holds at the most; what bounds the memory of a run."""

DEFAULT_BATCH_ROWS = 122_880
"""Rows a batch holds at the most: one row group of a DuckDB table."""

SMALL_BATCH_ROWS = 8_192
"""Batches are joined as long as they are smaller than this together."""

RAW_CHARACTERS = 10_000
"""Characters kept of a row in quarantine; a longer one is cut, with its length behind it."""

EXAMPLES = 20
"""Rows that a check shows at the most."""


def rows_for(bytes_per_row: int) -> int:
    """The number of rows that make a batch of ``BATCH_BYTES``."""
    return max(1, min(DEFAULT_BATCH_ROWS, BATCH_BYTES // max(1, bytes_per_row)))
