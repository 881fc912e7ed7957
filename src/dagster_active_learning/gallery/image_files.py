"""The bytes of an image file, from the places that pictures may be read from."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from functools import cache
from typing import Any

from dagster_active_learning.files.addresses import is_address
from dagster_active_learning.gallery.image_roots import ImageRoots
from dagster_active_learning.gallery.not_shown import NotShownError

MAX_FILE_BYTES = 64 * 2**20

_REASONS = {
    FileNotFoundError: "no such file",
    PermissionError: "no permission to read it",
    IsADirectoryError: "a folder, not a file",
    MemoryError: "too large: the memory for pictures does not hold it",
}
_MEGABYTE = 2**20
_MOST_MEGABYTES = MAX_FILE_BYTES // _MEGABYTE


def read_image_file(uri: str, roots: ImageRoots) -> bytes:
    """The content of an image file.

    Waits as long as its storage takes.

    Args:
        uri: A path, a file:// URI or a URI of a file system that fsspec knows.
        roots: Where image files may be read.

    Raises:
        NotShownError: If it is outside of the roots, no regular file, not there, cannot be read or
            has more than ``MAX_FILE_BYTES``.
    """
    try:
        # A path without links has no empty part, so none is taken for an address.
        place = roots.place_of(uri)
        return _read_address(place, roots) if is_address(place) else _read_path(place)
    # A file system may raise anything: a package that is missing, a wrong address, no credentials.
    except Exception as error:
        raise _reason(error) from error


def _reason(error: Exception) -> NotShownError:
    """The reason without the error's own words, which may repeat the uri with its secrets."""
    for cause in _causes(error):
        if isinstance(cause, NotShownError):
            return cause
        status = getattr(cause, "status", None)
        if isinstance(status, int) and status != 404:
            return NotShownError(f"cannot be read: the server answers {status}")
    for kind, reason in _REASONS.items():
        if isinstance(error, kind):
            return NotShownError(reason)
    # fsspec names the package that is missing.
    words = str(error) if isinstance(error, ImportError) else ""
    if isinstance(error, OSError) and error.errno is not None:
        words = os.strerror(error.errno)
    return NotShownError(f"cannot be read: {words or type(error).__name__}")


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__


def _read_path(path: str) -> bytes:
    with open(path, "rb", opener=_open_at_once) as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise NotShownError("no regular file")
        if status.st_size > MAX_FILE_BYTES:
            megabytes = f"{status.st_size / _MEGABYTE:,.0f} MB"
            raise NotShownError(f"too large: {megabytes}, read up to {_MOST_MEGABYTES}")
        # Room for all that is asked for is taken first: not for more than there is.
        return file.read(status.st_size)


def _open_at_once(path: str, flags: int) -> int:
    # A pipe that nobody writes to would be opened for ever, and what is a link now was none before.
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOFOLLOW", 0))


def _read_address(address: str, roots: ImageRoots) -> bytes:
    from fsspec.core import url_to_fs

    is_website = address.lower().startswith(("http://", "https://"))
    options = {"get_client": _client_within(roots)} if is_website else {}
    filesystem, path = url_to_fs(address, **options)
    # fsspec says that it may give text, which it does not for "rb".
    file: Any
    with filesystem.open(path, "rb") as file:
        content = file.read(MAX_FILE_BYTES + 1)
    if len(content) > MAX_FILE_BYTES:
        raise NotShownError(f"too large: more than {_MOST_MEGABYTES} MB")
    return content


@cache
def _client_within(roots: ImageRoots) -> Any:
    """A client for fsspec's websites that follows a redirect only to a place below the roots.

    The same for the same roots, so that fsspec keeps its connections.
    """

    async def check_redirect(_session: Any, _context: Any, redirect: Any) -> None:
        from yarl import URL

        headers = redirect.response.headers
        target = headers.get("Location") or headers.get("URI") or ""
        roots.place_of(str(redirect.response.url.join(URL(target))))

    async def client(**options: Any) -> Any:
        from aiohttp import ClientSession, TraceConfig

        trace = TraceConfig()
        trace.on_request_redirect.append(check_redirect)
        return ClientSession(trace_configs=[trace], **options)

    return client
