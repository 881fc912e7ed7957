"""Files at addresses, for DuckDB to read through fsspec: its own extensions are downloads."""

# Names of tables are put into statements.

from __future__ import annotations

import math
import re
import threading
import time
from collections.abc import Iterable
from typing import Any

import duckdb
from fsspec import AbstractFileSystem
from fsspec.core import url_to_fs

from dagster_active_learning.errors import PredictionReadError
from dagster_active_learning.files.answers import SECONDS_FOR_LISTING, answer, named_errors
from dagster_active_learning.files.in_place import FileElsewhere

_PROTOCOL = re.compile(r"([\w+.-]+)://")

_ESCAPED = re.compile(r"\[([*?[])\]")

# DuckDB has Python's traceback as text in its own error.
_IN_TRACEBACK = re.compile(rf"{PredictionReadError.__name__}: (.+?)(?:\n\nLINE \d+:|\Z)", re.DOTALL)

SECONDS_KNOWN = 60.0
"""For how long DuckDB is told again what a filesystem has said of a file.

DuckDB asks three times whenever it opens a file, and opens each several times in a statement.
"""

_registering = threading.Lock()

_known: dict[tuple[str, str], tuple[float, Any]] = {}
"""What filesystems have said, by question and address, and when."""

IN_USE = """
SELECT DISTINCT regexp_extract(place, '^[^:/]+://') FROM (
    SELECT path AS place FROM {schema}.in_place_files
    UNION ALL SELECT folder FROM {schema}.in_place_sets
    UNION ALL SELECT score_folder FROM {schema}.in_place_sets
)
"""


def register_filesystems(connection: duckdb.DuckDBPyConnection, paths: Iterable[str]) -> None:
    """Let statements of a connection's database read files at addresses; local paths need nothing.

    A filesystem that the user has registered stays. What was known of files is asked anew.
    """
    _known.clear()
    protocols = {match[1] for path in paths if (match := _PROTOCOL.match(path))}
    for protocol in sorted(protocols):
        with _registering:
            if not connection.filesystem_is_registered(protocol):
                connection.register_filesystem(_Elsewhere(protocol))


def register_filesystems_in_use(connection: duckdb.DuckDBPyConnection, schema: str) -> None:
    """The same for the files of a pool's sets that are read in place.

    Args:
        connection: The connection.
        schema: The pool's schema, as SQL takes it.
    """
    rows = connection.execute(IN_USE.format(schema=schema)).fetchall()
    register_filesystems(connection, (protocol for (protocol,) in rows))


def read_error(error: BaseException) -> PredictionReadError | None:
    """The error about a file at an address that an error of DuckDB stands for; None without one."""
    if not isinstance(error, duckdb.Error):
        return None
    found = _IN_TRACEBACK.search(str(error))
    return None if found is None else PredictionReadError(found[1])


class _Elsewhere(AbstractFileSystem):
    """The filesystems of one protocol: nothing is read but what DuckDB asks for.

    fsspec's own read 50 MiB of an object for a footer.

    Args:
        protocol: For example ``s3``.
    """

    cachable = False  # Otherwise fsspec has one of all protocols.

    def __init__(self, protocol: str) -> None:
        super().__init__()
        self.protocol = protocol

    def glob(self, path: str, **_: Any) -> list[str]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """The files of a pattern; a file that is named is not looked for."""
        if not re.search(r"[*?[]", _ESCAPED.sub("", path)):
            return [_ESCAPED.sub(r"\1", path)]
        with named_errors(path):
            filesystem, pattern = url_to_fs(path)
            names = answer(filesystem.glob, pattern, seconds=SECONDS_FOR_LISTING)
            return [filesystem.unstrip_protocol(name) for name in names]

    def info(self, path: str, **_: Any) -> Any:
        """What the filesystem says about a file."""
        return _told("info", path)

    def modified(self, path: str) -> Any:
        """When a file was written."""
        return _told("modified", path)

    def open(self, path: str, mode: str = "rb", **_: Any) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        """A file, opened to be read in pieces, or to be written."""
        if mode == "rb":
            return FileElsewhere(path, self.info(path))
        filesystem, name = url_to_fs(path)
        return filesystem.open(name, mode)


def _told(question: str, path: str) -> Any:
    """What a filesystem says about a file, or has said a moment ago."""
    asked, told = _known.get((question, path), (-math.inf, None))
    if time.monotonic() - asked > SECONDS_KNOWN:
        with named_errors(path):
            filesystem, name = url_to_fs(path)
            told = answer(getattr(filesystem, question), name)
        _known[question, path] = time.monotonic(), told
    return told
