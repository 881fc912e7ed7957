"""Files that belong together, on local disks and on every filesystem that fsspec knows."""

from __future__ import annotations

import glob
import hashlib
import os
import posixpath
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Any

from fsspec import AbstractFileSystem
from fsspec.core import url_to_fs
from fsspec.implementations.local import LocalFileSystem
from fsspec.utils import glob_translate

from dagster_active_learning.files.addresses import is_address
from dagster_active_learning.files.compression import stem
from dagster_active_learning.files.find import files_of, matching
from dagster_active_learning.files.links import Folder, named_folder
from dagster_active_learning.files.versions import Version

CHUNK_BYTES = 2**20
"""Bytes read at once to be hashed; the deadline is looked at in between."""

_STAND_IN = "PLACEHOLDERSTANDSHERE"
"""Letters only: neither fsspec nor a regular expression makes anything else of them."""


@dataclass(frozen=True)
class FileSet:
    """Files that are read together.

    Attributes:
        filesystem: Where they are.
        versions: The version of each file, by path.
        local_versions: The version of a local file that is read with them, wherever they are.
        link_fault: The fault of a link among them that leads out of the folder that the path names:
            none of the files is to be read then.
    """

    filesystem: AbstractFileSystem
    versions: Mapping[str, Version]
    local_versions: Mapping[str, Version] = field(default_factory=dict[str, Version])
    link_fault: str | None = None

    def version(self, deadline: float = float("inf")) -> str:
        """16 hexadecimal digits that change with any file.

        No file is read but those of which the filesystem gives no more than the size: class
        probabilities of the same images in the same format often have the same size.

        Raises:
            OSError: If a file has to be read and cannot be, or not before ``time.monotonic()``
                passes ``deadline``.
        """
        marks: dict[str, str] = {}
        for path, (size, mark) in {**self.local_versions, **self.versions}.items():
            content = mark or self._sha256_of(path, deadline)
            if content is None:
                raise TimeoutError(
                    f"{self.filesystem.unstrip_protocol(path)} is too large to be watched: its "
                    "filesystem does not say when it was written, and to read it at each look "
                    "takes too long; use a schedule, or another filesystem"
                )
            marks[path] = f"{size} {content}"
        return _hash_of(marks)[:16]

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
            ValueError: If a name on the filesystem would lead out of the folder, or a link does.
            OSError: If a file cannot be copied.
        """
        if self.link_fault is not None:
            raise ValueError(self.link_fault)
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


def _hash_of(marks: Mapping[str, str]) -> str:
    """The SHA-256 of paths and the mark of each."""
    text = "".join(f"{path}\n{marks[path]}\n" for path in sorted(marks))
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
    companion: str | None = None,
    schema_file: str | None = None,
    local_file: str | None = None,
    within: str | None = None,
) -> dict[str, FileSet]:
    """The files a path stands for, in one set for each text in the placeholder's place.

    Args:
        path: A file or a glob, local or an address such as ``"s3://bucket/*.parquet"``.
        placeholder: The text that stands in the path for the set's name, which is a part of the
            name of a file or of one folder. Without it all files are one set, whose name is empty.
        files_in_folder: The glob of the files that a folder stands for.
        companion: A file that belongs to each file, if it is there: a path relative to the file's
            folder, in which ``{stem}`` stands for the file's name without its suffix.
        schema_file: Name of a file that belongs to those of its folder and of the folders in it,
            where they have no nearer one; alone it is no set.
        local_file: The path of a local file that is read with each set, if it is there.
        within: The folder out of which no link of a local disk may lead; without it the one that
            the path names.

    Raises:
        OSError: If the filesystem does not answer.
        ImportError: If fsspec needs a further package for the address.
    """
    filesystem, pattern = _filesystem(path.replace(placeholder, "*") if placeholder else path)
    name_of = _name_in_path(path, placeholder) if placeholder else lambda _: ""
    nearest_schema = _nearest(filesystem, schema_file) if schema_file else lambda _: {}
    folder = _folder_of_links(filesystem, pattern, within, is_glob=placeholder is not None)
    sets: dict[str, dict[str, Version]] = {}
    link_faults: dict[str, str | None] = {}
    for entry in matching(pattern, filesystem):
        name = name_of(entry.path)
        if name is None:
            continue
        for file in files_of(entry, files_in_folder, filesystem):
            if file.kind == "folder":
                continue
            companions = nearest_schema(_folder(filesystem, file.path))
            if companion is not None:
                companions = {**_companion(filesystem, file.path, companion), **companions}
            sets.setdefault(name, {}).update({file.path: file.version, **companions})
            if folder is not None and not link_faults.get(name):
                link_faults[name] = folder.link_fault([file.path], companions)
    local_versions = _version_of(local_file) if local_file else {}
    return {
        name: FileSet(filesystem, versions, local_versions, link_faults.get(name))
        for name, versions in sets.items()
        if any(posixpath.basename(path) != schema_file for path in versions)
    }


def _folder_of_links(
    filesystem: AbstractFileSystem, pattern: str, within: str | None, *, is_glob: bool
) -> Folder | None:
    """The folder out of which no link may lead; None where there is none or are no links."""
    if not isinstance(filesystem, LocalFileSystem):
        return None
    path = _filesystem(within)[1] if within else named_folder(pattern, is_glob=is_glob)
    return None if path is None else Folder(path)


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
        matched = match(path)
        return matched["name"] if matched else None

    return name_of


def _version_of(path: str, filesystem: AbstractFileSystem | None = None) -> dict[str, Version]:
    """The version of a file by its path; empty if there is no such file."""
    entries = matching(glob.escape(path), filesystem)
    return {entry.path: entry.version for entry in entries if entry.kind != "folder"}


def _companion(filesystem: AbstractFileSystem, path: str, companion: str) -> dict[str, Version]:
    file = PurePosixPath(path)
    name = companion.replace("{stem}", stem(file))
    return _version_of(posixpath.join(str(file.parent), name), filesystem)


def _folder(filesystem: AbstractFileSystem, path: str) -> str:
    """The folder of a file, with all that are above it."""
    whole = os.path.abspath(path) if isinstance(filesystem, LocalFileSystem) else path
    return posixpath.dirname(whole)


def _nearest(filesystem: AbstractFileSystem, name: str) -> Callable[[str], Mapping[str, Version]]:
    """A function that finds the file of a name in a folder, or else in the nearest one above."""

    @cache
    def nearest(folder: str) -> Mapping[str, Version]:
        schema = _version_of(posixpath.join(folder, name), filesystem)
        above = posixpath.dirname(folder)
        # The topmost folder has a name: elsewhere than on a disk there are no files above it.
        return schema if schema or above in ("", "/") else nearest(above)

    return nearest
