"""Open a database file in the state in which the last process that wrote to it has left it."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from typing import Any

import duckdb

_HEADER_BYTES = 3 * 4096
"""The file's own header and the two of the database, of which the last written one counts."""

_DESCRIPTORS: dict[str, int] = {}
"""One descriptor per file, which stays open: closing any of them ends DuckDB's lock on the file."""


def connect(
    path: str, *, read_only: bool = False, config: Mapping[str, Any] | None = None
) -> duckdb.DuckDBPyConnection:
    """Open a database, as ``duckdb.connect`` does, in its newest state.

    DuckDB 2.0 reads the header of a file first and takes its lock then. What another process
    commits in between it does not see, and overwrites. So the header is looked at before and,
    when nobody else can write any more, after that: if it has changed, the file is opened again.
    Nothing is written by opening and closing it.

    Raises:
        duckdb.Error: As ``duckdb.connect`` raises it.
    """
    while True:
        before = _header(path)
        connection = duckdb.connect(path, read_only=read_only, config=dict(config or {}))
        if before is None or _header(path) == before:
            return connection
        connection.close()


def _header(path: str) -> bytes | None:
    """The beginning of the file; None if there is no such file, or it is a database elsewhere."""
    if os.name != "posix":
        return None
    try:
        status = os.stat(path)
        # A pipe would be waited for.
        if not stat.S_ISREG(status.st_mode):
            return None
        place = os.path.realpath(path)
        descriptor = _DESCRIPTORS.get(place)
        if descriptor is not None and not os.path.samestat(os.fstat(descriptor), status):
            os.close(_DESCRIPTORS.pop(place))  # of a file that was there before
            descriptor = None
        if descriptor is None:
            descriptor = _DESCRIPTORS[place] = os.open(path, os.O_RDONLY)
        return os.pread(descriptor, _HEADER_BYTES, 0)
    except OSError:
        return None  # DuckDB says what is wrong with it
