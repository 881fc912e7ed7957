"""The user's DuckDBResource, open for one step: writers take turns, and errors say what to do."""

from __future__ import annotations

import errno
import os
import random
import re
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg
import duckdb

from dagster_active_learning.errors import DatabaseUnavailableError, PoolStateError
from dagster_active_learning.files.addresses import redacted, shown_address
from dagster_active_learning.files.temporary import remove_leftovers, temporary_folder
from dagster_active_learning.store.filesystems import read_error
from dagster_active_learning.store.opening import connect
from dagster_active_learning.store.pool_store import PoolStore, release_results
from dagster_active_learning.store.pools import existing_pool

if TYPE_CHECKING:
    from dagster_duckdb import DuckDBResource

SECONDS_BETWEEN_TRIES = (0.1, 0.4)
"""Drawn anew for each try, so that processes that wait do not all try at the same time.

The waits do not grow: who waits longest would try least often. A try costs 5 ms of a processor.
"""

SECONDS_BETWEEN_REPORTS = 30.0

_TURNS: dict[str, threading.Lock] = {}
"""One lock per file: DuckDB keeps other processes out, but not the other threads of this one."""

_DISK_FULL = [os.strerror(code) for code in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)]
_NOT_WRITABLE = [os.strerror(code) for code in (errno.EACCES, errno.EPERM, errno.EROFS)]


@contextmanager
def open_pool(
    resource: DuckDBResource,
    pool: str,
    *,
    lock_timeout_seconds: float,
    report: Callable[[str], None],
    read_only: bool = False,
) -> Generator[PoolStore]:
    """A pool in the user's database, which nobody else writes to as long as the block runs.

    The connection is closed at the end of the block, also after an error.

    Args:
        resource: The user's resource: its database, opened with its configuration.
        pool: The pool's name.
        lock_timeout_seconds: How long to wait for others that have the file open.
        report: Told who has it open.
        read_only: Whether the block only reads; then processes that read too may have it open.

    Raises:
        DatabaseUnavailableError: If others had the file open for all that time or changed the same
            rows, it is no file or cannot be written, or a disk is full.
        DagsterInvalidDefinitionError: If the database is in memory.
        PoolStateError: If a block that only reads finds no such pool.
    """
    path = resource.database
    # An empty name is a database in memory too.
    if not path or path.startswith(":memory:"):
        raise dg.DagsterInvalidDefinitionError(
            f"the resource 'duckdb' has the database {path!r}, which every step would have for "
            "itself: give it the path of a file"
        )
    # DuckDB would wait without end for what a pipe does not give.
    if os.path.exists(path) and not os.path.isfile(path):
        raise DatabaseUnavailableError(
            f"the database {path} is a folder, a pipe or a device, expected a regular file: give "
            "the resource 'duckdb' another path"
        )
    turn = _TURNS.setdefault(os.path.realpath(path), threading.Lock())
    with _explained(path, pool), ExitStack() as closing:
        # One connection per step, made as the resource makes it: the resource itself retries a
        # locked file in its own way and leaves the connection of a failed step open.
        connection = _wait(path, _config(resource), turn, lock_timeout_seconds, report, read_only)
        closing.callback(turn.release)
        closing.callback(connection.close)
        # DuckDB takes the processes of Dagster's executors for interactive ones.
        connection.execute("SET enable_progress_bar = false")
        try:
            if read_only:
                with existing_pool(connection, pool) as store:
                    yield store
            else:
                yield PoolStore(connection, pool)
        except BaseException as error:
            release_results(error)
            raise


def _config(resource: DuckDBResource) -> dict[str, Any]:
    """The resource's own configuration: that of a process's connections to a file is the same."""
    return {"custom_user_agent": "dagster", **resource.connection_config}


def _wait(
    path: str,
    config: dict[str, Any],
    turn: threading.Lock,
    timeout: float,
    report: Callable[[str], None],
    read_only: bool,
) -> duckdb.DuckDBPyConnection:
    """Take the file's turn in this process, and open the file, once both are free."""
    start = time.monotonic()
    next_report = start
    while True:
        holder = f"another step of this process (PID {os.getpid()})"
        if turn.acquire(blocking=False):
            try:
                if not read_only:
                    _create(path, config)
                return connect(path, read_only=read_only, config=config)
            except BaseException as error:
                turn.release()
                if not isinstance(error, duckdb.Error) or (holder := _holder(error)) is None:
                    raise
        now = time.monotonic()
        if now - start >= timeout:
            raise DatabaseUnavailableError(
                f"the database {shown_address(path)} is still open in {holder} after {timeout:g} "
                "seconds: close it there, or give the pool a higher lock_timeout_seconds"
            )
        if now >= next_report:
            next_report = now + SECONDS_BETWEEN_REPORTS
            report(
                f"waiting for the database {shown_address(path)}, which is open in {holder}, for "
                f"up to {timeout - (now - start):,.0f} seconds (lock_timeout_seconds)"
            )
        pause = random.uniform(*SECONDS_BETWEEN_TRIES)  # noqa: S311 - jitter
        time.sleep(min(pause, start + timeout - now))


def _holder(error: duckdb.Error) -> str | None:
    """The holder of the file as DuckDB names it; None if the error is about something else."""
    message = str(error)
    if "Could not set lock on file" in message:
        holder = re.search(r"lock is held in (.+? \(PID \d+\)(?: by user \w+)?)", message)
        return holder[1] if holder else f"another process ({message})"
    if "with a different configuration than existing connections" in message:
        return f"this process (PID {os.getpid()}), with another configuration than the resource's"
    return None


def _create(path: str, config: dict[str, Any]) -> None:
    """Make a database that is not there yet, so that the file is a whole one from the beginning.

    A process that is killed while DuckDB makes a file leaves one that nobody can open any more.
    """
    file = Path(path)
    # A scheme such as "md:" is a database elsewhere; a missing folder is DuckDB's to complain of.
    if re.match(r"\w{2,}:", path) or not file.parent.is_dir():
        return
    prefix = f".{file.name}."
    if file.exists():
        remove_leftovers(file.parent, prefix)
        return
    # Another process may be faster, or a file system without links. Where nothing can be written,
    # DuckDB tries again in the file's own place and says so.
    with (
        suppress(OSError),
        temporary_folder(file.parent, prefix) as folder,
    ):
        new = folder / file.name
        duckdb.connect(str(new), config=config).close()
        os.link(new, file)


@contextmanager
def _explained(path: str, pool: str) -> Generator[None]:
    """Errors of the database and of the disk that it is on say what to do."""
    try:
        yield
    except (duckdb.Error, OSError) as error:
        message = str(error)
        about_file = read_error(error)
        if about_file is not None:
            raise about_file from None
        if shown_address(path) != path:
            raise DatabaseUnavailableError(redacted(message, path)) from None
        # Not about another file, which a query may read.
        about_database = isinstance(error, duckdb.Error) and Path(path).name in message
        if about_database and "database does not exist" in message:
            raise PoolStateError(
                f"the database {path} does not exist: materialize {pool}/predictions first"
            ) from error
        if any(words in message for words in _DISK_FULL):
            temporary = tempfile.gettempdir()
            raise DatabaseUnavailableError(
                f"a disk is full, and the database {path} keeps its former rows: {message}. There "
                f"is {_free(Path(path).parent)} left beside the database and "
                f"{_free(Path(temporary))} for temporary files in {temporary}: make room and "
                "materialize again"
            ) from error
        not_writable = about_database and any(words in message for words in _NOT_WRITABLE)
        if not_writable or "attached in read-only mode" in message:
            raise DatabaseUnavailableError(
                f"the database {path} cannot be written: {message}. Give the user of this process "
                "the right to write to the file and its folder, and the resource a "
                "connection_config without access_mode"
            ) from error
        raise


def _free(folder: Path) -> str:
    """The room that is left on a folder's disk."""
    return f"{shutil.disk_usage(folder).free / 2**20:,.1f} MiB"
