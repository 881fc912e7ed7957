"""Contents of files as hashes, and signs that a file is no longer the one it was."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from dagster_active_learning.errors import PredictionReadError
from dagster_active_learning.files.compression import stem

_MARKS = frozenset({
    "blobid", "checksum", "contentmd5", "crc", "created", "digest", "etag", "generation", "hex",
    "lastmodified", "md5checksum", "md5hash", "modificationtime", "modified", "modifiedtime",
    "modify", "mtime", "sha", "updated", "versionid",
})  # fmt: skip
"""Names under which filesystems give a value that changes when a file is written again: in lower
case, without ``-`` and ``_``. Other values would be too many: the time when a file was last read,
or an address that is good for one answer, change at each look."""


class Version(NamedTuple):
    """A filesystem's answer about a file.

    Attributes:
        size: In bytes; None where the filesystem does not give it.
        mark: Another text when the file was written again; empty where the filesystem gives nothing
            of the kind.
    """

    size: int | None
    mark: str


def listed_version(info: Mapping[str, Any]) -> Version:
    """The version of a file from what fsspec lists about it."""
    values = {name.lower().replace("-", "").replace("_", ""): value for name, value in info.items()}
    names = sorted(_MARKS & values.keys())
    marks = [f"{values[name]}" for name in names if values[name] is not None]
    return Version(info.get("size"), " ".join(marks))


def content_sha256(files: Sequence[Path]) -> Callable[[], str]:
    """Watch files from now on; the function returned gives the SHA-256 of what they hold.

    One file's hash is that of its bytes; of several it is the hash of their hashes. The function
    raises PredictionReadError if a file is no longer the one it was: what was read in between
    would then not be what the hash says.
    """
    before = [_identity(file) for file in files]

    def sha256() -> str:
        hashes: list[str] = []
        for file, identity in zip(files, before, strict=True):
            try:
                with file.open("rb") as opened:
                    hashes.append(hashlib.file_digest(opened, "sha256").hexdigest())
            except FileNotFoundError as error:
                raise changed_file(file) from error
            except OSError as error:
                raise PredictionReadError(f"{file} cannot be read again: {error}") from error
            if _identity(file) != identity:
                raise changed_file(file)
        return combined_sha256(hashes)

    return sha256


class WatchedFile:
    """A file that must stay the one it was, from ``watch`` or from its first reading on.

    Attributes:
        path: The file.
        stem: Its name without its suffix, and without that of its compression.
    """

    __slots__ = ("_read", "_sha256", "path", "stem")

    def __init__(self, path: Path) -> None:
        self.path = path
        self.stem = stem(path)
        self._read: tuple[tuple[int, int, int], str] | None = None
        self._sha256: Callable[[], str] | None = None

    def watch(self) -> None:
        """Watch a file that is not read as a whole."""
        self._sha256 = content_sha256([self.path])

    def read(self, most_bytes: int) -> bytes | None:
        """The content, whose hash then takes no further reading; None if it is larger.

        Raises:
            PredictionReadError: If it is another than it was when it was read before.
            OSError: If it cannot be read.
        """
        opened = os.open(self.path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
        try:
            status = os.fstat(opened)
            content = os.read(opened, most_bytes + 1)
            # A network's file may come in pieces.
            while 0 < len(content) < status.st_size and len(content) <= most_bytes:
                piece = os.read(opened, most_bytes + 1 - len(content))
                if not piece:
                    break
                content += piece
        finally:
            os.close(opened)
        if len(content) > most_bytes:
            return None
        read = _identity_of(status), hashlib.sha256(content).hexdigest()
        if self._read is None:
            self._read = read
        elif self._read != read:
            raise changed_file(self.path)
        return content

    def sha256(self) -> str:
        """The SHA-256 of the content.

        Raises:
            PredictionReadError: If the file is no longer the one it was, or cannot be read.
        """
        if self._read is None:
            return (self._sha256 or content_sha256([self.path]))()
        identity, sha256 = self._read
        if _identity(self.path) != identity:
            raise changed_file(self.path)
        return sha256


def changed_file(file: object) -> PredictionReadError:
    """The error of a file that is no longer the one it was when it was opened."""
    return PredictionReadError(
        f"{file} changed while it was read: expected a file that is complete; write it under "
        "another name and rename it when it is"
    )


def _identity(file: Path) -> tuple[int, int, int] | None:
    """Numbers that differ for another content; None for a file that is gone."""
    try:
        status = file.stat()
    except FileNotFoundError:
        return None
    return _identity_of(status)


def _identity_of(status: os.stat_result) -> tuple[int, int, int]:
    return status.st_ino, status.st_size, status.st_mtime_ns


def combined_sha256(hashes: Sequence[str]) -> str:
    """The hash itself if there is one, else the SHA-256 of all of them, one per line."""
    if len(hashes) == 1:
        return hashes[0]
    return hashlib.sha256("".join(f"{content}\n" for content in hashes).encode()).hexdigest()
