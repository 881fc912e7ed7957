"""Files that are read where they are: on local disks and on filesystems that fsspec knows."""

from __future__ import annotations

import glob
import hashlib
import io
import os
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from fsspec import AbstractFileSystem
from fsspec.core import url_to_fs

from dagster_active_learning.errors import PredictionReadError
from dagster_active_learning.files.addresses import is_address, shown_address
from dagster_active_learning.files.answers import answer, answers, named_errors

_MARKS = ("ETag", "etag", "md5Hash", "content_md5", "mtime", "LastModified", "last_modified")
"""Where filesystems say something that is another for another content, the surest first."""


@dataclass(frozen=True)
class FileInPlace:
    """A file that is to stay the one it is.

    Attributes:
        path: A local path, or an address as the user wrote it, with what secrets it has.
        size: In bytes.
        mark: Another text when the file was written again: an ETag, or of a local file the times of
            its content and of its inode, of which only the former can be set back.
        known_sha256: The SHA-256 of the content of a local file, where it is known.
    """

    path: str
    size: int
    mark: str
    known_sha256: str | None = None

    @staticmethod
    def now_at(path: str) -> FileInPlace:
        """The file of a path or address, as it is now.

        Raises:
            PredictionReadError: If it is gone, or its filesystem does not say when it was written.
        """
        return FileInPlace(path, *_identity(path))

    def __str__(self) -> str:
        return shown_address(self.path)

    @property
    def is_local(self) -> bool:
        """Whether it is a path and no address."""
        return not is_address(self.path)

    @property
    def identity(self) -> str:
        """Size and mark in one text."""
        return f"{self.size} {self.mark}"

    def check(self) -> None:
        """Raise PredictionReadError if the file is gone, or no longer the one it was.

        A file that was copied back, or has another owner, has other times: it is read through.
        """
        size, mark = _identity(self.path)
        if (size, mark) == (self.size, self.mark):
            return
        if size != self.size or self.known_sha256 is None or self.known_sha256 != self._sha256():
            raise PredictionReadError(
                f"{self} changed since it was read: it is read in place, so what is stored is of "
                "the file that was there before; put it back, or materialize the predictions again"
            )

    def open(self) -> Any:
        """The file, opened to be read in pieces; nothing is read ahead."""
        if self.is_local:
            return open(self.path, "rb")
        return FileElsewhere(self.path, {"name": self.path, "size": self.size, "ETag": self.mark})

    def sha256(self) -> str:
        """SHA-256 of the content of a local file; of one elsewhere that of its size and mark.

        A file elsewhere would have to be read twice.

        Raises:
            PredictionReadError: If it is no longer the one it was.
        """
        sha256 = self._sha256()
        self.check()
        return sha256

    def _sha256(self) -> str:
        if not self.is_local:
            return hashlib.sha256(self.identity.encode()).hexdigest()
        with named_errors(self.path), open(self.path, "rb") as opened:
            return hashlib.file_digest(opened, "sha256").hexdigest()


def check_all(files: Iterable[FileInPlace]) -> None:
    """Raise PredictionReadError for the first file that is gone, or no longer the one it was."""
    for _ in answers(FileInPlace.check, files):
        pass


class FileElsewhere(io.RawIOBase):
    """A file at an address, opened to be read in pieces; nothing is read ahead.

    Each thread has its own place in it: DuckDB's threads go to a place and read from it, all in one
    file, and would read from each other's places.

    Args:
        address: The address.
        info: What its filesystem says about it, at the least its size; without it, it is asked.

    Raises:
        PredictionReadError: From all its methods, if the filesystem does not give what is asked.
    """

    def __init__(self, address: str, info: dict[str, Any] | None = None) -> None:
        super().__init__()
        self._address = address
        self._of_thread = threading.local()
        self._lock = threading.Lock()
        with named_errors(address):
            filesystem, path = filesystem_of(address)
            size = {} if info is None else {"size": info["size"]}
            self._file: Any = answer(lambda: filesystem.open(path, "rb", cache_type="none", **size))
            # s3fs would ask for them when it reads; others have them by now, or need none.
            if info is not None and getattr(self._file, "_details", info) is None:
                self._file.details = info

    def read(self, size: int = -1) -> bytes:
        """The next bytes, fewer than asked for only at the end of the file."""
        with named_errors(self._address):
            content = answer(self._read_at, self.tell(), size, size=size)
        self._of_thread.place = self.tell() + len(content)
        return content

    def _read_at(self, place: int, size: int) -> bytes:
        with self._lock:
            self._file.seek(place)
            return self._file.read(size)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to a place."""
        with named_errors(self._address):
            self._of_thread.place = answer(self._place_of, self.tell(), offset, whence)
        return self.tell()

    def _place_of(self, place: int, offset: int, whence: int) -> int:
        with self._lock:
            self._file.seek(place)
            return self._file.seek(offset, whence)

    def tell(self) -> int:
        """The place of the next byte."""
        return getattr(self._of_thread, "place", 0)

    def readable(self) -> bool:
        """It is."""
        return True

    def seekable(self) -> bool:
        """It is, or ``seek`` says that it is not."""
        return True

    def close(self) -> None:
        """Let go of the file."""
        if not self.closed:
            self._file.close()
        super().close()


def filesystem_of(path: str) -> tuple[AbstractFileSystem, str]:
    """The filesystem of a path or address, and the path as it knows it."""
    filesystem, stripped = url_to_fs(path)
    return filesystem, stripped if is_address(path) else path


def _identity(path: str) -> tuple[int, str]:
    with named_errors(path):
        if not is_address(path):
            status = os.stat(path)
            return status.st_size, f"{status.st_mtime_ns} {status.st_ctime_ns}"
        filesystem, stripped = filesystem_of(path)
        filesystem.invalidate_cache(filesystem._parent(stripped))  # pyright: ignore[reportPrivateUsage]
        info: dict[str, Any] = answer(filesystem.info, stripped)
    mark = next((info[name] for name in _MARKS if info.get(name) is not None), None)
    if mark is None or info.get("size") is None:
        raise PredictionReadError(
            f"{shown_address(path)} cannot be read in place: its filesystem says neither an ETag "
            "nor when the file was written, so that nobody would see when it is another; leave "
            "in_place out"
        )
    return int(info["size"]), f"{mark}"


def as_duckdb_path(path: str) -> str:
    """A path or address as DuckDB reads it, without secrets, and no character of it a wildcard."""
    return glob.escape(shown_address(path))
