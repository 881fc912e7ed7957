"""Files that belong together, on local disks and on every filesystem that fsspec knows.

What a path or a glob stands for locally is what ``readers.find_files`` makes of it; elsewhere it is
what fsspec makes of it, which comes to the same for ``*``, ``?``, ``[…]`` and ``**``.
"""

from __future__ import annotations

import glob
import hashlib
import os
import posixpath
import re
import stat
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from fsspec import AbstractFileSystem
from fsspec.core import url_to_fs
from fsspec.implementations.local import LocalFileSystem
from fsspec.utils import glob_translate

from dagster_active_learning.files.addresses import is_address

CHUNK_BYTES = 2**20
"""What is read at once to be hashed; the deadline is looked at in between."""

_STAND_IN = "PLACEHOLDERSTANDSHERE"
"""Letters only: neither fsspec nor a regular expression makes anything else of them."""

_MARKS = frozenset({
    "blobid", "checksum", "contentmd5", "crc", "created", "digest", "etag", "generation", "hex",
    "lastmodified", "md5checksum", "md5hash", "modificationtime", "modified", "modifiedtime",
    "modify", "mtime", "sha", "updated", "versionid",
})  # fmt: skip
"""What filesystems say of a file that is another when it was written again, each in its own words:
lower case, without ``-`` and ``_``. All they say would be too much: when a file was last read, or
the address that one answer is good for, is another at each look."""


class Version(NamedTuple):
    """What a filesystem says of a file.

    Attributes:
        size: In bytes; None where it does not say.
        mark: Another text when the file was written again; empty where it says nothing of the kind.
    """

    size: int | None
    mark: str


class _Entry(NamedTuple):
    path: str
    is_folder: bool
    version: Version


@dataclass(frozen=True)
class FileSet:
    """Files that are read together.

    Attributes:
        filesystem: Where they are.
        versions: What is said of each, by path.
        local_versions: The same for a local file that is read with them, wherever they are.
    """

    filesystem: AbstractFileSystem
    versions: Mapping[str, Version]
    local_versions: Mapping[str, Version] = field(default_factory=dict[str, Version])

    def version(self, deadline: float = float("inf")) -> str:
        """16 hexadecimal digits that change with any file.

        Known without reading one, but those of which the filesystem says no more than the size:
        class probabilities of the same images in the same format often have the same.

        Raises:
            OSError: If a file has to be read and cannot be, or not before ``time.monotonic()``
                passes ``deadline``.
        """
        told: dict[str, str] = {}
        for path, (size, mark) in {**self.local_versions, **self.versions}.items():
            content = mark or self._sha256_of(path, deadline)
            if content is None:
                raise TimeoutError(
                    f"{self.filesystem.unstrip_protocol(path)} is too large to be watched: its "
                    "filesystem does not say when it was written, and to read it at each look "
                    "takes too long; use a schedule, or another filesystem"
                )
            told[path] = f"{size} {content}"
        return _hash_of(told)[:16]

    def sha256(self, deadline: float = float("inf")) -> str | None:
        """The SHA-256 of one file's bytes; of several, that of their paths and hashes.

        None if it is not done when ``time.monotonic()`` passes ``deadline``.

        Raises:
            OSError: If a file is gone or cannot be read.
        """
        hashes: dict[str, str] = {}
        for path in sorted({**self.local_versions, **self.versions}):
            content = self._sha256_of(path, deadline)
            if content is None:
                return None
            hashes[path] = content
        return next(iter(hashes.values())) if len(hashes) == 1 else _hash_of(hashes)

    def _sha256_of(self, path: str, deadline: float) -> str | None:
        filesystem = self.filesystem if path in self.versions else LocalFileSystem()
        hashed = hashlib.sha256()
        opened: Any  # fsspec says that it may give text, which it does not for "rb".
        with filesystem.open(path, "rb") as opened:
            while chunk := opened.read(CHUNK_BYTES):
                hashed.update(chunk)
                if time.monotonic() > deadline:
                    return None
        return hashed.hexdigest()

    def download(self, folder: Path) -> dict[str, str]:
        """Copy the files, but for the local one, below a folder, each under the whole of its path.

        Returns:
            For the path of each copy, the address it comes from.

        Raises:
            ValueError: If a name on the filesystem would lead out of the folder.
            OSError: If a file cannot be copied.
        """
        addresses: dict[str, str] = {}
        for path in self.versions:
            address = self.filesystem.unstrip_protocol(path)
            parts = _without_protocol(path).strip("/").split("/")
            if any(part in ("", ".", "..") for part in parts):
                raise ValueError(
                    f"{address} cannot be copied to a local folder: expected a name without empty "
                    "parts, '.' and '..'"
                )
            copy = folder.joinpath(*parts)
            copy.parent.mkdir(parents=True, exist_ok=True)
            self.filesystem.get_file(path, str(copy))
            addresses[str(copy)] = address
        return addresses


def _hash_of(told: Mapping[str, str]) -> str:
    """The SHA-256 of what is told of each path."""
    text = "".join(f"{path}\n{told[path]}\n" for path in sorted(told))
    return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()


def path_on_filesystem(path: str) -> str:
    """A path or address as its filesystem knows it, without the protocol."""
    return _without_protocol(url_to_fs(path)[1])


def _without_protocol(path: str) -> str:
    # Only on websites a path is the whole address.
    return re.sub("^https?://", "", path)


def find_file_sets(
    path: str,
    *,
    placeholder: str | None = None,
    files_in_folder: str | None = None,
    beside: str | None = None,
    schema_file: str | None = None,
    local_file: str | None = None,
) -> dict[str, FileSet]:
    """The files a path stands for, in one set for each text in the placeholder's place.

    Args:
        path: A file or a glob, local or an address such as ``"s3://bucket/*.parquet"``.
        placeholder: What stands in the path for the set's name, which is a part of the name of a
            file or of one folder. Without it all files are one set, whose name is empty.
        files_in_folder: Which files are meant where the path is that of a folder.
        beside: A file that belongs to each file, if it is there: a path relative to the file's
            folder, in which ``{stem}`` stands for the file's name without its suffix.
        schema_file: Name of a file that belongs to those of its folder and of the folders in it,
            where they have no nearer one; alone it is no set.
        local_file: The path of a local file that is read with each set, if it is there.

    Raises:
        OSError: If the filesystem does not answer.
        ImportError: If fsspec needs a further package for the address.
    """
    filesystem, pattern = _filesystem(path.replace(placeholder, "*") if placeholder else path)
    name_of = _name_in_path(path, placeholder) if placeholder else lambda _: ""
    nearest_schema = _nearest(filesystem, schema_file) if schema_file else lambda _: {}
    found: dict[str, dict[str, Version]] = {}
    for entry in _list(filesystem, pattern):
        name = name_of(entry.path)
        if name is None:
            continue
        for file in _files(filesystem, entry, files_in_folder):
            versions = found.setdefault(name, {})
            versions[file.path] = file.version
            if beside is not None:
                versions.update(_beside(filesystem, file.path, beside))
            versions.update(nearest_schema(_folder(filesystem, file.path)))
    local = _list(LocalFileSystem(), glob.escape(local_file)) if local_file else ()
    local_versions = {file.path: file.version for file in local}
    return {
        name: FileSet(filesystem, versions, local_versions)
        for name, versions in found.items()
        if any(posixpath.basename(path) != schema_file for path in versions)
    }


def _filesystem(path: str) -> tuple[AbstractFileSystem, str]:
    """The filesystem of a path, and the path on it; a local path stays as it was written."""
    filesystem, stripped = url_to_fs(path)
    return filesystem, stripped if is_address(path) else path


def _name_in_path(path: str, placeholder: str) -> Any:
    """A function that finds the placeholder's text in a path, or None."""
    pattern = glob_translate(_filesystem(path.replace(placeholder, _STAND_IN))[1])
    # As short as can be: reading `{key}-*.csv` for the key a takes a-b-1.csv too.
    pattern = pattern.replace(_STAND_IN, "(?P<name>[^/]+?)", 1).replace(_STAND_IN, "(?P=name)")
    match = re.compile(pattern).match

    def name_of(path: str) -> str | None:
        found = match(path)
        return found["name"] if found else None

    return name_of


def _list(filesystem: AbstractFileSystem, pattern: str) -> Iterator[_Entry]:
    """Files and folders that are or match the pattern; hidden ones only where it says so."""
    if isinstance(filesystem, LocalFileSystem):
        # A tenth of the time that fsspec takes, and with links followed.
        for path in [pattern] if os.path.exists(pattern) else glob.glob(pattern, recursive=True):
            try:
                told = os.stat(path)
            except FileNotFoundError:
                continue  # Gone since, or a link to nothing.
            version = Version(told.st_size, f"{told.st_mtime_ns} {told.st_ino}")
            yield _Entry(path, stat.S_ISDIR(told.st_mode), version)
        return
    filesystem.invalidate_cache()
    found: Any = filesystem.glob(pattern, detail=True)
    for path, info in found.items():
        if "/." in path and "/." not in pattern:
            continue
        is_folder = info["type"] == "directory"
        version = _told(info)
        if not is_folder and not version.mark:
            try:
                # Of web pages, for one, listings are names only.
                version = _told(filesystem.info(path))
            except FileNotFoundError:
                continue
        yield _Entry(path, is_folder, version)


def _told(info: Mapping[str, Any]) -> Version:
    marks = {name.lower().replace("-", "").replace("_", ""): told for name, told in info.items()}
    known = [f"{marks[name]}" for name in sorted(_MARKS & marks.keys()) if marks[name] is not None]
    return Version(info.get("size"), " ".join(known))


def _files(
    filesystem: AbstractFileSystem, entry: _Entry, files_in_folder: str | None
) -> Iterator[_Entry]:
    if not entry.is_folder:
        yield entry
    elif files_in_folder is not None:
        inside = posixpath.join(glob.escape(entry.path), files_in_folder)
        yield from (one for one in _list(filesystem, inside) if not one.is_folder)


def _beside(filesystem: AbstractFileSystem, path: str, beside: str) -> dict[str, Version]:
    file = PurePosixPath(path)
    other = posixpath.join(str(file.parent), beside.replace("{stem}", file.stem))
    return {one.path: one.version for one in _list(filesystem, glob.escape(other))}


def _folder(filesystem: AbstractFileSystem, path: str) -> str:
    """The folder of a file, with all that are above it."""
    whole = os.path.abspath(path) if isinstance(filesystem, LocalFileSystem) else path
    return posixpath.dirname(whole)


def _nearest(filesystem: AbstractFileSystem, name: str) -> Callable[[str], Mapping[str, Version]]:
    """A function that finds the file of a name in a folder, or else in the nearest one above."""

    @cache
    def nearest(folder: str) -> Mapping[str, Version]:
        file = posixpath.join(folder, name)
        files = (one for one in _list(filesystem, glob.escape(file)) if not one.is_folder)
        found = {one.path: one.version for one in files}
        above = posixpath.dirname(folder)
        # The topmost folder has a name: elsewhere than on a disk there are no files above it.
        return found if found or above in ("", "/") else nearest(above)

    return nearest
