"""Reports of a long step's progress."""

from __future__ import annotations

import time
from collections.abc import Callable

SECONDS_BETWEEN_REPORTS = 5.0

Report = Callable[[str], None]
"""Takes a line about the progress of a long step, for example a logger's ``info``."""


class Progress:
    """Rows done and rows per second, reported every few seconds and at the end.

    The rate is that after the first batch, in which kernels may be compiled; of one batch there is
    none.

    Attributes:
        rows: Rows done.
    """

    def __init__(self, verb: str, report: Report) -> None:
        self._verb = verb
        self._report = report
        self.rows = 0
        self._first_rows = 0
        self._start = self._last = time.monotonic()

    def add(self, rows: int) -> None:
        """Count rows that are done."""
        if not self.rows:
            self._first_rows = rows
            self._start = time.monotonic()
        self.rows += rows
        if time.monotonic() - self._last >= SECONDS_BETWEEN_REPORTS:
            self._last = time.monotonic()
            self._report_rows()

    def finish(self) -> None:
        """Report the rows of the whole step."""
        self._report_rows()

    def _report_rows(self) -> None:
        text = f"{self._verb} {self.rows:,} predictions"
        if self.rows > self._first_rows:
            rate = (self.rows - self._first_rows) / max(time.monotonic() - self._start, 1e-9)
            text += f", {rate:,.0f} per second"
        self._report(text)
