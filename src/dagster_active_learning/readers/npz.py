"""Predictions as an archive of NumPy arrays: the matrix, its ids and perhaps the class names."""

from __future__ import annotations

import shutil
import tempfile
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy.typing as npt

from dagster_active_learning.errors import PredictionReadError
from dagster_active_learning.readers.npy import ids_as_text, matrix_part, open_array
from dagster_active_learning.readers.options import NpzOptions
from dagster_active_learning.readers.stream import PredictionPart


def open_file(path: Path, options: NpzOptions) -> PredictionPart:
    """Open one archive as ``numpy.savez`` and ``savez_compressed`` write it.

    The matrix is unpacked into a temporary file and mapped from there, so that memory holds a
    block of it at a time.

    Raises:
        PredictionReadError: If the archive is broken or lacks an array. Pickled arrays are never
            read.
    """
    image_ids = _extract(path, options.image_ids_array)
    class_names = options.class_names
    if class_names is None and options.class_names_array in _names(path):
        found = _extract(path, options.class_names_array)
        class_names = [
            name or "" for name in ids_as_text(_inside(path, options.class_names_array), found)
        ]
    return matrix_part(
        source=str(path),
        matrix=_extract(path, options.class_probs_array),
        image_ids=ids_as_text(_inside(path, options.image_ids_array), image_ids),
        class_names=class_names,
        files=[path],
    )


def _inside(path: Path, array: str) -> str:
    return f"{path} (array {array!r})"


def _names(path: Path) -> list[str]:
    try:
        with zipfile.ZipFile(path) as archive:
            return [name.removesuffix(".npy") for name in archive.namelist()]
    except (zipfile.BadZipFile, OSError) as error:
        raise PredictionReadError(f"{path} is not a readable .npz archive: {error}") from error


def _extract(path: Path, array: str) -> npt.NDArray[Any]:
    """Unpack one array into a file without a name and map it; it goes when the array goes."""
    if array not in _names(path):
        raise PredictionReadError(
            f"{path} has no array {array!r}: it has {', '.join(map(repr, _names(path)))}; the "
            "options class_probs_array and image_ids_array name others"
        )
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        unpacked = Path(folder) / "array.npy"
        try:
            with (
                zipfile.ZipFile(path) as archive,
                archive.open(f"{array}.npy") as member,
                unpacked.open("wb") as target,
            ):
                shutil.copyfileobj(member, target, length=2**20)
        except (zipfile.BadZipFile, zlib.error, EOFError, OSError) as error:
            raise PredictionReadError(f"{_inside(path, array)} is broken: {error}") from error
        return open_array(unpacked, _inside(path, array))
