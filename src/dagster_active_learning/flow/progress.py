"""How far a long step has come."""

from __future__ import annotations

import time
from collections.abc import Callable

SECONDS_BETWEEN_REPORTS = 5.0

Report = Callable[[str], None]
"""What is told how far a long step has come, for example a logger's ``info``."""


class Progress:
    """Rows done and rows a second, told every few seconds and at the end.

    Attributes:
        rows: Rows done.
    """

    def __init__(self, verb: str, report: Report) -> None:
        self._verb = verb
        self._report = report
        self.rows = 0
        self._start = self._last = time.monotonic()

    def add(self, rows: int) -> None:
        """Count rows that are done."""
        self.rows += rows
        if time.monotonic() - self._last >= SECONDS_BETWEEN_REPORTS:
            self._last = time.monotonic()
            self._tell()

    def finish(self) -> None:
        """Tell how many it were."""
        self._tell()

    def _tell(self) -> None:
        rate = self.rows / max(time.monotonic() - self._start, 1e-9)
        self._report(f"{self._verb} {self.rows:,} predictions, {rate:,.0f} a second")
