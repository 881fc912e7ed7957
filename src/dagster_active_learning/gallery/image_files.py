"""The bytes of an image file, read so that no file can hold up a run or fill its memory."""

from __future__ import annotations

import os
import re
import stat
from concurrent.futures import Future
from threading import Thread
from urllib.request import url2pathname

MAX_FILE_BYTES = 64 * 2**20

_MEGABYTE = 2**20
_MOST_MEGABYTES = MAX_FILE_BYTES // _MEGABYTE
# One letter is a drive of Windows.
_URI = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]+)://")


class NotShownError(Exception):
    """An image cannot be shown; the message is a short reason for people."""


def read_image_file(uri: str | None, *, seconds: float) -> bytes:
    """The content of an image file.

    Args:
        uri: A path, a file:// URI or a URI of a file system that fsspec knows.
        seconds: How long to wait. A read that takes longer is left behind in its thread, which
            does not keep the process alive: storage that does not answer cannot be interrupted.

    Raises:
        NotShownError: If it is no regular file, is not there, cannot be read, is not read in time
            or has more than ``MAX_FILE_BYTES``.
    """
    if not uri:
        raise NotShownError("the pool's manifest has no uri for it")
    content: Future[bytes] = Future()
    Thread(target=_read_into, args=(content, uri), daemon=True).start()
    try:
        return content.result(timeout=seconds)
    except NotShownError:
        raise
    except FileNotFoundError as error:
        raise NotShownError("no such file") from error
    except PermissionError as error:
        raise NotShownError("no permission to read it") from error
    except TimeoutError as error:
        raise NotShownError("not read in time") from error
    # A file system may raise anything: a package that is missing, a wrong address, no credentials.
    except Exception as error:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise NotShownError(f"cannot be read: {reason}") from error


def _read_into(content: Future[bytes], uri: str) -> None:
    try:
        content.set_result(_read(uri))
    # Whatever it is, the caller is waiting for it.
    except Exception as error:
        content.set_exception(error)


def _read(uri: str) -> bytes:
    found = _URI.match(uri)
    if found is None:
        return _read_local(uri)
    if found["scheme"].lower() == "file":
        return _read_local(url2pathname(uri[found.end() :].removeprefix("localhost")))
    from upath import UPath

    with UPath(uri).open("rb") as file:
        return _limited(file.read(MAX_FILE_BYTES + 1))


def _read_local(path: str) -> bytes:
    try:
        with open(path, "rb", opener=_open_at_once) as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise NotShownError("no regular file")
            if status.st_size > MAX_FILE_BYTES:
                megabytes = f"{status.st_size / _MEGABYTE:,.0f} MB"
                raise NotShownError(f"too large: {megabytes}, read up to {_MOST_MEGABYTES}")
            return _limited(file.read(MAX_FILE_BYTES + 1))
    except IsADirectoryError as error:
        raise NotShownError("a folder, not a file") from error


def _open_at_once(path: str, flags: int) -> int:
    # A pipe that nobody writes to would be opened for ever.
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def _limited(content: bytes) -> bytes:
    if len(content) > MAX_FILE_BYTES:
        raise NotShownError(f"too large: more than {_MOST_MEGABYTES} MB")
    return content
