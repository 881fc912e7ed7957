"""Which files a local path or a glob means."""

from __future__ import annotations

import glob
import os
import stat
from os import PathLike
from pathlib import Path

from dagster_active_learning.errors import PredictionReadError


def find_files(path: str | PathLike[str], files_in_folder: str | None = None) -> list[Path]:
    """The regular files a path or a glob stands for, each once, in the order of their names.

    Raises:
        PredictionReadError: If there is none, one is a folder, a pipe or a device, or a folder in
            which the glob looks for files cannot be read.
    """
    try:
        folder = files_in_folder is not None and Path(path).is_dir()
        files = _matching(Path(path), files_in_folder if folder else None)
        modes = [file.stat().st_mode for file in files]
    except (OSError, ValueError) as error:  # ValueError: NUL in a path
        raise PredictionReadError(f"{path} cannot be read: {error}") from error
    if not files:
        found = f"holds no {files_in_folder} files" if folder else "does not exist"
        raise PredictionReadError(
            f"{path} {found}: expected a file, or a glob that matches at least one"
        )
    for file, mode in zip(files, modes, strict=True):
        if not stat.S_ISREG(mode):
            kind = "a folder" if stat.S_ISDIR(mode) else "not a regular file"
            raise PredictionReadError(
                f"{file} is {kind}: expected a file, or a glob such as {file / '*'}"
            )
    return files


def _matching(path: Path, files_in_folder: str | None) -> list[Path]:
    if files_in_folder is None and path.exists():
        return [path]
    pattern = (
        str(path) if files_in_folder is None else f"{glob.escape(str(path))}/{files_in_folder}"
    )
    _check_folders(Path(pattern))
    # With ``**`` twice in a pattern, glob finds a file twice.
    return [Path(one) for one in sorted(set(glob.glob(pattern, recursive=True)))]


def _check_folders(pattern: Path) -> None:
    """Raise OSError if glob would take a folder for empty because it is not allowed to look in."""
    for parent, name in zip(pattern.parents, reversed(pattern.parts), strict=False):
        for folder in glob.glob(f"{parent}/", recursive=True):
            if glob.has_magic(name):
                os.scandir(folder).close()
            elif glob.has_magic(str(parent)):
                os.stat(f"{folder}.")
