"""Where the pages of rankings and batches go, as a user writes it down."""

from __future__ import annotations

import re
from os import PathLike, fspath
from pathlib import Path
from typing import TypeAlias

from dagster_active_learning.errors import SettingError
from dagster_active_learning.files.addresses import at_home, is_address, shown_address

Report: TypeAlias = str | PathLike[str] | bool
"""A folder, True for one beside the database, False for no pages."""


def check_report(report: Report) -> None:
    """Raise SettingError unless ``report`` is a local folder, true or false."""
    if isinstance(report, bool):
        return
    shown: object = report
    if isinstance(report, (str, PathLike)):  # pyright: ignore[reportUnnecessaryIsInstance]
        path = fspath(report)
        if path and not is_address(path):
            return
        shown = shown_address(path)
    raise SettingError(
        "report",
        f"report is {shown!r}, expected a local folder, true for one beside the "
        "database, or false for no pages",
    )


def report_folder(report: Report, database: str) -> Path | None:
    """The folder of all pages; None where there are to be none."""
    if not isinstance(report, bool):
        return Path(at_home(report))
    # Databases elsewhere, such as "md:pool", have no folder.
    if not report or re.match(r"\w{2,}:", database):
        return None
    path = Path(at_home(database))
    return path.with_name(f"{path.stem}_reports")
