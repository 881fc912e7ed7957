"""Files at addresses, for DuckDB to read through fsspec: its own extensions are downloads."""

# Names of tables are put into statements.

from __future__ import annotations

import re
from collections.abc import Iterable

import duckdb
import fsspec

_PROTOCOL = re.compile(r"([\w+.-]+)://")

IN_USE = """
SELECT DISTINCT regexp_extract(place, '^[^:/]+://') FROM (
    SELECT path AS place FROM {schema}.in_place_files
    UNION ALL SELECT folder FROM {schema}.in_place_sets
    UNION ALL SELECT score_folder FROM {schema}.in_place_sets
)
"""


def register_filesystems(connection: duckdb.DuckDBPyConnection, paths: Iterable[str]) -> None:
    """Let statements of a connection's database read files at addresses; local paths need nothing.

    Raises:
        ImportError: If fsspec needs a further package for an address.
    """
    protocols = {match[1] for path in paths if (match := _PROTOCOL.match(path))}
    for protocol in sorted(protocols):
        if not connection.filesystem_is_registered(protocol):
            connection.register_filesystem(fsspec.filesystem(protocol))


def register_filesystems_in_use(connection: duckdb.DuckDBPyConnection, schema: str) -> None:
    """The same for the files of a pool's sets that are read in place.

    Args:
        connection: The connection.
        schema: The pool's schema, as SQL takes it.
    """
    rows = connection.execute(IN_USE.format(schema=schema)).fetchall()
    register_filesystems(connection, (protocol for (protocol,) in rows))
