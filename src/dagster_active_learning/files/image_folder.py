"""Folders of images: the files in them that are images."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from dagster_active_learning.errors import PredictionReadError

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".gif")
"""The suffixes of image files, in any case."""


def find_image_files(folder: Path) -> list[tuple[str, int]]:
    """The image files in a folder and the folders in it: relative path in POSIX form, and size.

    Links to files count as files; links to folders are not followed. Names that begin with a dot
    are left out, as by a glob: a Mac writes ``._1.jpg`` next to ``1.jpg``. Sorted by path.

    Raises:
        PredictionReadError: If it is no folder, cannot be read or holds no image.
    """
    if not os.path.isdir(folder):
        fault = "is no folder" if os.path.exists(folder) else "does not exist"
        raise PredictionReadError(f"{folder} {fault}: expected a folder of images")
    files: list[tuple[str, int]] = []
    try:
        for inside, folders, names in os.walk(folder, onerror=_raise):
            folders[:] = [name for name in folders if not name.startswith(".")]
            for name in names:
                file = Path(inside, name)
                is_image = file.suffix.lower() in IMAGE_SUFFIXES and file.is_file()
                if is_image and not name.startswith("."):
                    relative = file.relative_to(folder).as_posix()
                    files.append((_checked_name(folder, relative), file.stat().st_size))
    except OSError as error:
        raise PredictionReadError(f"{folder} cannot be read: {error}") from error
    if not files:
        raise PredictionReadError(
            f"{folder} holds no image: expected files with one of the suffixes "
            f"{', '.join(IMAGE_SUFFIXES)}"
        )
    return sorted(files)


def folder_sha256(folder: Path) -> str:
    """The SHA-256 of the paths and sizes of a folder's images; their pixels are not read."""
    hashed = hashlib.sha256()
    for name, size in find_image_files(folder):
        hashed.update(f"{size} {name}\0".encode())
    return hashed.hexdigest()


def _raise(error: OSError) -> None:
    raise error


def _checked_name(folder: Path, name: str) -> str:
    try:
        name.encode()
    except UnicodeEncodeError as error:
        raise PredictionReadError(
            f"{folder}: the file name {name!r} is not UTF-8 text: rename the file"
        ) from error
    return name
