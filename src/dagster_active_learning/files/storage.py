"""The folder of a pool for files of its own, local or at an address."""

from __future__ import annotations

import errno
import io
import os
import shutil
from collections.abc import Collection, Generator, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from functools import cached_property
from pathlib import Path
from typing import Any
from uuid import uuid4

from fsspec import AbstractFileSystem

from dagster_active_learning.errors import StorageError
from dagster_active_learning.files.addresses import at_home, is_address, redacted, shown_address
from dagster_active_learning.files.answers import (
    FILES_AT_A_TIME,
    SECONDS_FOR_LISTING,
    answer,
    answers,
    named_errors,
)
from dagster_active_learning.files.in_place import FileElsewhere, filesystem_of

_NO_FILE = (FileNotFoundError, IsADirectoryError, NotADirectoryError)

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_FORBIDDEN = (errno.EACCES, errno.EPERM, errno.EROFS)
_IN_THE_WAY = (errno.EEXIST, errno.EISDIR, errno.ENOTDIR)


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
            return filesystem_of(self.folder)

    @contextmanager
    def writing(self, name: str) -> Generator[Any]:
        """A file that is there once the block has ended, and not if it fails.

        Raises:
            StorageError: If it cannot be written.
        """
        if is_address(self.folder):
            filesystem, folder = self._place
            opened = _WrittenElsewhere(filesystem, f"{folder}/{name}", self.path(name))
        else:
            opened = _WrittenHere(Path(self.folder, name))
        with ExitStack() as failing:
            failing.callback(opened.discard)
            yield opened
            size = opened.tell()
            opened.commit()
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
                    content: Any = answer(filesystem.cat_file, f"{folder}/{name}")
                    return content
                return Path(folder, name).read_bytes()
            except _NO_FILE:
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
                    entry: dict[str, Any] = answer(filesystem.info, f"{folder}/{name}")
                except _NO_FILE:
                    return None
            return entry["size"] if entry["type"] == "file" else None

        return dict(zip(names, answers(size, names), strict=True))

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
            if not answer(filesystem.isdir, folder):
                return
            entries: list[dict[str, Any]] = answer(
                lambda: filesystem.ls(folder, detail=True), seconds=SECONDS_FOR_LISTING
            )
        for entry in entries:
            yield entry["name"].rstrip("/").rpartition("/")[2], entry

    def remove(self, name: str) -> None:
        """Remove a folder in it, with all that it holds."""
        filesystem, folder = self._place
        with named_errors(self.path(name), "removed", OSError):
            filesystem.rm(f"{folder}/{name}", recursive=True)


class _WrittenHere(io.RawIOBase):
    """A file on a local disk that is there once it is committed.

    Raises:
        StorageError: From all its methods, if the disk does not take it.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path
        # Processes of two machines may have one number.
        self._unfinished = path.with_name(f".{path.name}.{uuid4().hex}")
        with _named_faults(str(path)):
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self._unfinished.open("wb")

    def write(self, content: Any) -> int:
        """Take bytes."""
        with _named_faults(str(self._path)):
            return self._file.write(content)

    def tell(self) -> int:
        """Number of bytes so far."""
        return self._file.tell()

    def writable(self) -> bool:
        """It is."""
        return True

    def commit(self) -> None:
        """Make it a file."""
        with _named_faults(str(self._path)):
            self._file.close()
            os.replace(self._unfinished, self._path)

    def discard(self) -> None:
        """Leave nothing of it."""
        with suppress(OSError):  # of a full disk, where bytes wait to be written
            self._file.close()
        self._unfinished.unlink(missing_ok=True)


class _WrittenElsewhere(io.RawIOBase):
    """A file at an address that is there once it is committed.

    Raises:
        StorageError: From all its methods, if the filesystem does not take it.
    """

    def __init__(self, filesystem: AbstractFileSystem, path: str, address: str) -> None:
        super().__init__()
        self._address = address
        with _named_faults(address):
            self._file: Any = answer(lambda: filesystem.open(path, "wb", autocommit=False))

    def write(self, content: Any) -> int:
        """Take bytes; some are sent later, with those that follow."""
        with _named_faults(self._address):
            # What waits to be sent is sent with it.
            size = self.tell() + memoryview(content).nbytes
            return answer(self._file.write, content, size=size)

    def tell(self) -> int:
        """Number of bytes so far."""
        return self._file.tell()

    def writable(self) -> bool:
        """It is."""
        return True

    def commit(self) -> None:
        """Make it a file."""
        with _named_faults(self._address):
            size = self.tell()
            answer(self._file.close, size=size)
            answer(self._file.commit, size=size)

    def discard(self) -> None:
        """Leave nothing of it, as far as the filesystem takes that."""
        with suppress(Exception):  # What is wrong with it is known.
            answer(self._file.discard)


@contextmanager
def _named_faults(path: str) -> Generator[None]:
    """Errors of writing a file name it, and say what to do.

    Raises:
        StorageError: In place of any error but an ImportError.
    """
    try:
        yield
    except ImportError:
        raise
    except Exception as error:
        reason = error.strerror if isinstance(error, OSError) and error.errno else None
        reason = reason or redacted(f"{type(error).__name__}: {error}", path)
        number = error.errno if isinstance(error, OSError) else None
        raise StorageError(
            f"{shown_address(path)} cannot be written: {reason}; {_advice(path, number)}. Nothing "
            "is committed, and what is finished is not done again"
        ) from None


def _advice(path: str, number: int | None) -> str:
    """What to do about a file that cannot be written, by the number of the error."""
    if number in _FULL:
        return f"{_room(Path(path))}make room, or give the pool another storage"
    if number in _FORBIDDEN:
        return "let the user of this process write there, or give the pool another storage"
    if number in _IN_THE_WAY:
        return (
            "a file stands where a folder is expected, or a folder where a file is: move it away, "
            "or give the pool another storage"
        )
    if number == errno.ENAMETOOLONG:
        return "give the pool a storage with a shorter path"
    return "see that the pool's storage is there and can be written to"


def _room(path: Path) -> str:
    """The room that is left on the disk of a file that may not be there."""
    for folder in path.parents:
        if folder.is_dir():
            return f"{shutil.disk_usage(folder).free / 2**20:,.1f} MiB are left there: "
    return ""
