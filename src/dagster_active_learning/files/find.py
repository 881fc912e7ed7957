"""The one meaning of a path: the files and folders that it, or a glob, stands for.

Readers and watched folders both ask here, so that a file that is watched is a file that is read.
In a glob, ``*``, ``?``, ``[…]`` and ``**`` mean the same on a local disk and on every filesystem of
fsspec. Names that begin with a dot are left out unless the glob has the dot, as in a shell. Links
are followed; which of them are not read is for ``links`` to say. Brackets in a path that exists are
characters of its name.
"""

from __future__ import annotations

import fnmatch
import glob
import os
import posixpath
import stat
from collections.abc import Iterator, Sequence
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from dagster_active_learning.errors import PredictionReadError
from dagster_active_learning.files.addresses import is_address, shown_address
from dagster_active_learning.files.answers import SECONDS_FOR_LISTING, answer
from dagster_active_learning.files.links import Folder
from dagster_active_learning.files.versions import Version, listed_version
from dagster_active_learning.text import is_utf8

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem


class Entry(NamedTuple):
    """A file, a folder, or another thing that has a path, such as a pipe."""

    path: str
    kind: Literal["file", "folder", "other"]
    version: Version


def find_files(
    path: str | PathLike[str], files_in_folder: str | None = None, *, folder: Folder | None = None
) -> list[Path]:
    """The regular local files a path or a glob stands for, each once, in the order of their names.

    Args:
        path: A file or a glob; also folders where ``files_in_folder`` is given.
        files_in_folder: The glob of the files that a folder stands for.
        folder: The folder out of which no link may lead.

    Raises:
        PredictionReadError: If there is none, one is a folder, a pipe or a device, a link leads out
            of the folder, or a folder in which the glob looks for files cannot be read.
    """
    shown = shown_address(str(path))
    try:
        entries = [
            file
            for entry in matching(str(Path(path)), strict=True)
            for file in files_of(entry, files_in_folder, strict=True)
        ]
    except (OSError, ValueError) as error:  # ValueError: NUL in a path
        raise PredictionReadError(f"{shown} cannot be read: {error}") from error
    if not entries:
        is_folder = files_in_folder is not None and os.path.isdir(path)
        fault = f"holds no {files_in_folder} files" if is_folder else "does not exist"
        raise PredictionReadError(
            f"{shown} {fault}: expected a file, or a glob that matches at least one"
        )
    # pathlib writes "./may.csv" and "may.csv" alike; with ``**`` twice, a glob gives a file twice.
    found = {str(file := Path(entry.path)): (file, entry.kind) for entry in entries}
    names = sorted(found)
    for file, kind in map(found.__getitem__, names):
        if kind != "file":
            what = "a folder" if kind == "folder" else "not a regular file"
            raise PredictionReadError(
                f"{file} is {what}: expected a file, or a glob such as {file / '*'}"
            )
        if not is_utf8(str(file)):
            raise PredictionReadError(
                f"{str(file)!r} is a name that is not UTF-8, and cannot be stored: rename the file "
                "or its folder"
            )
    if folder is not None and (fault := folder.link_fault(names)):
        raise PredictionReadError(fault)
    return [found[name][0] for name in names]


def is_meant(file: str, path: str, files_in_folder: str | None = None) -> bool:
    """True if a path or a glob, local or an address, stands for a file, which need not be there.

    Args:
        file: The file.
        path: A file or a glob; also folders where ``files_in_folder`` is given.
        files_in_folder: The glob of the files that a folder stands for.
    """
    patterns = [path] if files_in_folder is None else [path, f"{path}/{files_in_folder}"]
    return any(
        _shows(_real_parts(pattern), _real_parts(file)) or _real_parts(file) == _real_parts(pattern)
        for pattern in patterns
    )


def _real_parts(path: str) -> list[str]:
    """The parts of a path; local folders are followed to where they lead, as far as they exist."""
    return path.split("/") if is_address(path) else os.path.realpath(path).split(os.sep)


def matching(
    path: str, filesystem: AbstractFileSystem | None = None, *, strict: bool = False
) -> Iterator[Entry]:
    """The files and folders that a path or a glob stands for, in no certain order.

    Args:
        path: A path or a glob, as its filesystem knows it. A glob with ``**`` twice may give a file
            twice.
        filesystem: Where to look; None for the local disk.
        strict: Raise OSError for a local folder that nobody may look into and for a link to
            nothing, which are left out otherwise.

    Raises:
        OSError: If the filesystem does not answer.
    """
    if filesystem is None:
        return _local(path, strict=strict)
    from fsspec.implementations.local import LocalFileSystem

    is_local = isinstance(filesystem, LocalFileSystem)
    return _local(path, strict=strict) if is_local else _remote(path, filesystem)


def files_of(
    entry: Entry,
    files_in_folder: str | None,
    filesystem: AbstractFileSystem | None = None,
    *,
    strict: bool = False,
) -> Iterator[Entry]:
    """The entries in a folder's place, where ``files_in_folder`` is a glob of them, else itself."""
    if files_in_folder is None or entry.kind != "folder":
        return iter((entry,))
    inside = posixpath.join(glob.escape(entry.path), files_in_folder)
    return matching(inside, filesystem, strict=strict)


def _local(pattern: str, *, strict: bool) -> Iterator[Entry]:
    # A tenth of the time that fsspec takes, and with links followed.
    is_path = os.path.exists(pattern)
    if strict and not is_path:
        _check_folders(Path(pattern))
    for path in [pattern] if is_path else glob.glob(pattern, recursive=True):
        try:
            status = os.stat(path)
        except FileNotFoundError:
            if strict:
                raise
            continue  # Gone since, or a link to nothing.
        kind = "file" if stat.S_ISREG(status.st_mode) else "other"
        yield Entry(
            path,
            "folder" if stat.S_ISDIR(status.st_mode) else kind,
            Version(status.st_size, f"{status.st_mtime_ns} {status.st_ino}"),
        )


def _check_folders(pattern: Path) -> None:
    """Raise OSError if glob would take a folder for empty because it is not allowed to look in."""
    for parent, name in zip(pattern.parents, reversed(pattern.parts), strict=False):
        for folder in glob.glob(f"{parent}/", recursive=True):
            if glob.has_magic(name):
                os.scandir(folder).close()
            elif glob.has_magic(str(parent)):
                os.stat(f"{folder}.")


def _remote(pattern: str, filesystem: AbstractFileSystem) -> Iterator[Entry]:
    filesystem.invalidate_cache()
    listed: Any
    if "[" in pattern and answer(filesystem.exists, pattern):
        listed = {pattern: answer(filesystem.info, pattern)}
    else:
        listed = answer(lambda: filesystem.glob(pattern, detail=True), seconds=SECONDS_FOR_LISTING)
    for path, info in listed.items():
        is_hidden = "/." in path and not _shows(pattern.split("/"), path.split("/"))
        if is_hidden and path != pattern:
            continue
        kind = "folder" if info["type"] == "directory" else "file"
        version = listed_version(info)
        if kind == "file" and not version.mark:
            try:
                # Listings of web pages, for one, are names only.
                version = listed_version(answer(filesystem.info, path))
            except FileNotFoundError:
                continue
        yield Entry(path, kind, version)


def _shows(pattern: Sequence[str], path: Sequence[str]) -> bool:
    """True if a glob's parts match those of a path, a dot in front only one of the glob's own."""
    if not pattern or not path:
        return list(pattern) in ([], ["**"]) and not path
    is_visible = path[0][:1] != "." or pattern[0][:1] == "."
    if pattern[0] == "**":
        return _shows(pattern[1:], path) or (is_visible and _shows(pattern, path[1:]))
    return is_visible and fnmatch.fnmatchcase(path[0], pattern[0]) and _shows(pattern[1:], path[1:])
