"""Files that are read where they are: on local disks and on filesystems that fsspec knows."""

from __future__ import annotations

import glob
import hashlib
import io
import os
import threading
from collections.abc import Collection, Generator, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any
from uuid import uuid4

from fsspec import AbstractFileSystem
from fsspec.core import url_to_fs
from fsspec.spec import AbstractBufferedFile

from dagster_active_learning.errors import PredictionReadError
from dagster_active_learning.files.addresses import at_home, is_address, redacted, shown_address

FILES_AT_A_TIME = 16
"""Files that are looked at at a time: one at an address takes some hundredths of a second."""

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
        return open(self.path, "rb") if self.is_local else FileElsewhere(self.path)

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
    with ThreadPoolExecutor(FILES_AT_A_TIME) as looking:
        for _ in looking.map(FileInPlace.check, files):
            pass


class FileElsewhere(io.RawIOBase):
    """A file at an address, opened to be read in pieces; nothing is read ahead.

    Each thread has its own place in it: DuckDB's threads go to a place and read from it, all in one
    file, and would read from each other's places.

    Args:
        address: The address.
        info: What its filesystem says about it; without it, it is asked.

    Raises:
        PredictionReadError: From all its methods, if the filesystem does not give what is asked.
    """

    def __init__(self, address: str, info: dict[str, Any] | None = None) -> None:
        super().__init__()
        self._address = address
        self._of_thread = threading.local()
        self._lock = threading.Lock()
        with named_errors(address):
            filesystem, path = _filesystem(address)
            size = {} if info is None else {"size": info["size"]}
            self._file: Any = filesystem.open(path, "rb", cache_type="none", **size)
            if info is not None and isinstance(self._file, AbstractBufferedFile):
                self._file.details = info

    def read(self, size: int = -1) -> bytes:
        """The next bytes, fewer than asked for only at the end of the file."""
        with named_errors(self._address), self._lock:
            self._file.seek(self.tell())
            content = self._file.read(size)
        self._of_thread.place = self.tell() + len(content)
        return content

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to a place."""
        with named_errors(self._address), self._lock:
            self._file.seek(self.tell())
            self._of_thread.place = self._file.seek(offset, whence)
        return self.tell()

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


@contextmanager
def named_errors(
    path: str, verb: str = "read", kind: type[Exception] = PredictionReadError
) -> Generator[None]:
    """Errors of a filesystem name the file, and hold no secret.

    Those of libraries do not name it, and some cannot be sent to another process.

    Raises:
        PredictionReadError: In place of any error but an ImportError; or one of another kind.
    """
    try:
        yield
    except (ImportError, PredictionReadError):
        raise
    except FileNotFoundError as error:
        if verb != "read":
            missing = redacted(f"{error}", path)
            raise kind(f"{shown_address(path)} cannot be {verb}: {missing}") from None
        raise kind(
            f"{shown_address(path)} is gone: it is read in place; put it back, or materialize the "
            "predictions again"
        ) from None
    except Exception as error:
        text = redacted(f"{type(error).__name__}: {error}", path)
        raise kind(f"{shown_address(path)} cannot be {verb}: {text}") from None


def _filesystem(path: str) -> tuple[AbstractFileSystem, str]:
    filesystem, stripped = url_to_fs(path)
    return filesystem, stripped if is_address(path) else path


def _identity(path: str) -> tuple[int, str]:
    with named_errors(path):
        if not is_address(path):
            status = os.stat(path)
            return status.st_size, f"{status.st_mtime_ns} {status.st_ctime_ns}"
        filesystem, stripped = _filesystem(path)
        filesystem.invalidate_cache(filesystem._parent(stripped))  # pyright: ignore[reportPrivateUsage]
        info: dict[str, Any] = filesystem.info(stripped)
    mark = next((info[name] for name in _MARKS if info.get(name) is not None), None)
    if mark is None or info.get("size") is None:
        raise PredictionReadError(
            f"{shown_address(path)} cannot be read in place: its filesystem says neither an ETag "
            "nor when the file was written, so that nobody would see when it is another; leave "
            "in_place out"
        )
    return int(info["size"]), f"{mark}"


class Storage:
    """A folder for files of this package, local or at an address.

    Args:
        folder: A path or address, as the user wrote it.

    Attributes:
        folder: The path or address, without a slash at its end.
        written: Names and sizes in bytes of the files that were written through this object.
    """

    def __init__(self, folder: str) -> None:
        self.folder = folder.rstrip("/") if is_address(folder) else os.path.abspath(at_home(folder))
        self.written: dict[str, int] = {}

    def __str__(self) -> str:
        return shown_address(self.folder)

    def path(self, name: str) -> str:
        """The path or address of a file in it, for a reader."""
        return f"{self.folder}/{name}"

    def within(self, name: str) -> Storage:
        """A folder in it."""
        return Storage(self.path(name))

    @cached_property
    def _place(self) -> tuple[AbstractFileSystem, str]:
        with named_errors(self.folder):
            return _filesystem(self.folder)

    @contextmanager
    def writing(self, name: str) -> Generator[Any]:
        """A file that is there once the block has ended, and not if it fails.

        Raises:
            OSError: If it cannot be written.
        """
        filesystem, folder = self._place
        with ExitStack() as failing:
            if is_address(self.folder):
                opened = _WrittenElsewhere(filesystem, f"{folder}/{name}", self.path(name))
                failing.callback(opened.discard)
                yield opened
                size = opened.tell()
                opened.commit()
            else:
                file = Path(folder, name)
                file.parent.mkdir(parents=True, exist_ok=True)
                # Processes of two machines may have one number.
                unfinished = file.with_name(f".{file.name}.{uuid4().hex}")
                failing.callback(unfinished.unlink, missing_ok=True)
                try:
                    with unfinished.open("wb") as opened:
                        yield opened
                        size = opened.tell()
                except OSError as error:
                    # A full disk does not say where it is.
                    if error.filename is None:
                        raise OSError(error.errno, error.strerror, str(file)) from error
                    raise
                os.replace(unfinished, file)
            failing.pop_all()
        self.written[name] = size

    def write(self, name: str, content: bytes) -> None:
        """Write a whole file, as ``writing`` does."""
        with self.writing(name) as opened:
            opened.write(content)

    def read(self, name: str) -> bytes | None:
        """The content of a file, None if there is none of that name."""
        filesystem, folder = self._place
        with named_errors(self.path(name)):
            try:
                if is_address(self.folder):
                    content: Any = filesystem.cat_file(f"{folder}/{name}")
                    return content
                return Path(folder, name).read_bytes()
            except FileNotFoundError:
                return None

    def reading(self, name: str) -> Any:
        """A file of it, opened to be read in pieces."""
        path = self.path(name)
        return FileElsewhere(path) if is_address(path) else open(path, "rb")

    def fault(self, sizes: Mapping[str, int]) -> str | None:
        """The first of some files that is gone or cut, and what is wrong with it; None without one.

        Args:
            sizes: The size in bytes of each file, by its name.
        """
        found = self._sizes(sizes)
        for name, size in sizes.items():
            if found.get(name) is None:
                return f"{shown_address(self.path(name))} is gone"
            if found[name] != size:
                return (
                    f"{shown_address(self.path(name))} has {found[name]:,} bytes, and {size:,} "
                    "were written"
                )
        return None

    def _sizes(self, names: Collection[str]) -> Mapping[str, int | None]:
        """The sizes of some files, None or nothing of those that are not there."""
        filesystem, folder = self._place
        filesystem.invalidate_cache()
        if len(names) > FILES_AT_A_TIME:
            found: dict[str, int] = {}
            for part in {name.rpartition("/")[0] for name in names}:
                files = self.within(part).files() if part else self.files()
                found |= {f"{part}/{name}".lstrip("/"): size for name, size in files.items()}
            return found

        def size(name: str) -> int | None:
            with named_errors(self.path(name)):
                try:
                    entry: dict[str, Any] = filesystem.info(f"{folder}/{name}")
                except FileNotFoundError:
                    return None
            return entry["size"] if entry["type"] == "file" else None

        with ThreadPoolExecutor(FILES_AT_A_TIME) as looking:
            return dict(zip(names, looking.map(size, names), strict=True))

    def folders(self) -> list[str]:
        """The names of the folders in it."""
        return [name for name, entry in self._entries() if entry["type"] == "directory"]

    def files(self) -> dict[str, int]:
        """The names of the files in it, with their sizes in bytes."""
        return {name: entry["size"] for name, entry in self._entries() if entry["type"] == "file"}

    def _entries(self) -> Iterator[tuple[str, dict[str, Any]]]:
        filesystem, folder = self._place
        with named_errors(self.folder):
            filesystem.invalidate_cache()
            if not filesystem.isdir(folder):
                return
            entries: list[dict[str, Any]] = filesystem.ls(folder, detail=True)
        for entry in entries:
            yield entry["name"].rstrip("/").rpartition("/")[2], entry

    def remove(self, name: str) -> None:
        """Remove a folder in it, with all that it holds."""
        filesystem, folder = self._place
        with named_errors(self.path(name), "removed", OSError):
            filesystem.rm(f"{folder}/{name}", recursive=True)


class _WrittenElsewhere(io.RawIOBase):
    """A file at an address that is there once it is committed.

    Raises:
        OSError: From all its methods, if the filesystem does not take it.
    """

    def __init__(self, filesystem: AbstractFileSystem, path: str, address: str) -> None:
        super().__init__()
        self._address = address
        with named_errors(address, "written", OSError):
            self._file: Any = filesystem.open(path, "wb", autocommit=False)

    def write(self, content: Any) -> int:
        """Take bytes."""
        with named_errors(self._address, "written", OSError):
            return self._file.write(content)

    def tell(self) -> int:
        """Number of bytes so far."""
        return self._file.tell()

    def writable(self) -> bool:
        """It is."""
        return True

    def commit(self) -> None:
        """Make it a file."""
        with named_errors(self._address, "written", OSError):
            self._file.close()
            self._file.commit()

    def discard(self) -> None:
        """Leave nothing of it."""
        self._file.discard()


def as_duckdb_path(path: str) -> str:
    """A path or address as DuckDB reads it, without secrets, and no character of it a wildcard."""
    return glob.escape(shown_address(path))
