"""Predictions as an archive of NumPy arrays: the matrix, its ids and perhaps the class names."""

from __future__ import annotations

import lzma
import math
import shutil
import struct
import tempfile
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from dagster_active_learning.errors import PredictionReadError
from dagster_active_learning.readers.npy import (
    HEADER_ERRORS,
    as_text,
    check_ids,
    matrix_part,
    open_array,
)
from dagster_active_learning.readers.options import NpzOptions
from dagster_active_learning.readers.stream import PredictionPart

CLASS_NAME_BYTES = 64 * 2**20
"""What the array of class names may take; it is held in memory as a whole."""

ARCHIVE_ERRORS = (
    *(zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error),
    # RuntimeError: encrypted, or packed in a way that zipfile does not know.
    *(KeyError, RuntimeError, *HEADER_ERRORS),
)
"""What a broken archive raises, in its directory, in a member or in a member's header."""


def open_file(path: Path, options: NpzOptions) -> PredictionPart:
    """Open one archive as ``numpy.savez`` and ``savez_compressed`` write it.

    The matrix is unpacked into a temporary file and mapped from there, so that memory holds a
    block of it at a time.

    Raises:
        PredictionReadError: If the archive is broken or lacks an array. Pickled arrays are never
            read.
    """
    image_ids = check_ids(
        _inside(path, options.image_ids_array), _extract(path, options.image_ids_array)
    )
    class_names = options.class_names
    if class_names is None and options.class_names_array in _names(path):
        class_names = _class_names(path, options.class_names_array)
    return matrix_part(
        source=str(path),
        matrix=_extract(path, options.class_probs_array),
        image_ids=image_ids,
        class_names=class_names,
        files=[path],
    )


def _inside(path: Path, array: str) -> str:
    return f"{path} (array {array!r})"


def _class_names(path: Path, array: str) -> list[str]:
    source = _inside(path, array)
    found = check_ids(source, _extract(path, array))
    if found.nbytes > CLASS_NAME_BYTES:
        raise PredictionReadError(
            f"{source} takes {found.nbytes} bytes, expected class names in at most "
            f"{CLASS_NAME_BYTES}"
        )
    return as_text(source, found)


def _names(path: Path) -> list[str]:
    try:
        with zipfile.ZipFile(path) as archive:
            return [name.removesuffix(".npy") for name in archive.namelist()]
    except ARCHIVE_ERRORS as error:
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
            with zipfile.ZipFile(path) as archive, unpacked.open("wb") as target:
                info = archive.getinfo(f"{array}.npy")
                _check_size(_inside(path, array), info, archive, folder)
                with archive.open(info) as member:
                    shutil.copyfileobj(member, target, length=2**20)
        except ARCHIVE_ERRORS as error:
            raise PredictionReadError(f"{_inside(path, array)} is broken: {error}") from error
        return open_array(unpacked, _inside(path, array))


def _check_size(source: str, info: zipfile.ZipInfo, archive: zipfile.ZipFile, folder: str) -> None:
    """Raise PredictionReadError if an array unpacks to more than its header or the disk has."""
    with archive.open(info) as member:
        version = np.lib.format.read_magic(member)
        read_header = (
            np.lib.format.read_array_header_1_0
            if version == (1, 0)
            else np.lib.format.read_array_header_2_0
        )
        shape, _, dtype = read_header(member)
        expected = member.tell() + math.prod(shape) * dtype.itemsize
    if not dtype.hasobject and info.file_size != expected:
        raise PredictionReadError(
            f"{source} is broken: it unpacks to {info.file_size} bytes, but its header, {shape} of "
            f"type {dtype}, says {expected}"
        )
    free = shutil.disk_usage(folder).free
    if info.file_size > free:
        raise PredictionReadError(
            f"{source} unpacks to {info.file_size} bytes, but {folder} has {free} left: set TMPDIR "
            "to a folder on a larger disk"
        )
