"""Predictions as an archive of NumPy arrays: the matrix, its ids and perhaps the class names."""

from __future__ import annotations

import lzma
import shutil
import struct
import tempfile
import weakref
import zipfile
import zlib
from contextlib import nullcontext
from io import BufferedIOBase
from pathlib import Path

from dagster_active_learning.errors import PredictionReadError
from dagster_active_learning.files.versions import content_sha256
from dagster_active_learning.readers.formats.npy import (
    HEADER_ERRORS,
    StoredArray,
    as_text,
    check_ids,
    matrix_part,
    open_array,
    read_header,
)
from dagster_active_learning.readers.options import NpzOptions
from dagster_active_learning.readers.stream import PredictionPart
from dagster_active_learning.text import describe_names

CLASS_NAME_BYTES = 64 * 2**20
"""Bytes that the array of class names may take; it is held in memory as a whole."""

ARCHIVE_ERRORS = (
    *(zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error),
    # RuntimeError: encrypted, or packed in a way that zipfile does not know.
    *(KeyError, RuntimeError, *HEADER_ERRORS),
)
"""The errors of a broken archive, in its directory, in a member or in a member's header."""


def open_file(path: Path, options: NpzOptions) -> PredictionPart:
    """Open one archive as ``numpy.savez`` and ``savez_compressed`` write it.

    The matrix is unpacked into a temporary file and read from there, so that memory holds a block
    of it at a time.

    Raises:
        PredictionReadError: If the archive is broken or lacks an array. Pickled arrays are never
            read.
    """
    sha256 = content_sha256([path])
    image_ids = check_ids(_extract(path, options.image_ids_array))
    class_names = options.class_names
    if class_names is None and options.class_names_array in _names(path):
        class_names = _class_names(path, options.class_names_array)
    matrix = _extract(path, options.class_probs_array)
    return matrix_part(str(path), matrix, image_ids, options, class_names, sha256)


def _inside(path: Path, array: str) -> str:
    return f"{path} (array {array!r})"


def _class_names(path: Path, array: str) -> list[str]:
    stored = check_ids(_extract(path, array))
    if stored.header.array_bytes > CLASS_NAME_BYTES:
        raise PredictionReadError(
            f"{stored.source} takes {stored.header.array_bytes} bytes, expected class names in at "
            f"most {CLASS_NAME_BYTES}"
        )
    blocks = stored.blocks(CLASS_NAME_BYTES)
    texts = [name for block in blocks for name in as_text(stored.source, block)]
    names = [name for name in texts if name is not None]
    if len(names) != len(texts):
        raise PredictionReadError(
            f"{stored.source} holds a number that is not whole: expected names of classes"
        )
    if len(set(names)) != len(names):
        raise PredictionReadError(
            f"{stored.source} holds {describe_names(names)}: expected each name once"
        )
    return names


def _names(path: Path) -> list[str]:
    try:
        with zipfile.ZipFile(path) as archive:
            return [name.removesuffix(".npy") for name in archive.namelist()]
    except ARCHIVE_ERRORS as error:
        raise PredictionReadError(f"{path} is not a readable .npz archive: {error}") from error


def _extract(path: Path, array: str) -> StoredArray:
    """Unpack one array into a file without a name, which goes when the array goes."""
    if array not in _names(path):
        raise PredictionReadError(
            f"{path} has no array {array!r}: it has {', '.join(map(repr, _names(path)))}; the "
            "options class_probs_array and image_ids_array name others"
        )
    unpacked = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the array
    try:
        _unpack(path, array, unpacked)
        stored = open_array(_inside(path, array), lambda: nullcontext(unpacked))
    except PredictionReadError:
        unpacked.close()
        raise
    weakref.finalize(stored, unpacked.close)
    return stored


def _unpack(path: Path, array: str, target: BufferedIOBase) -> None:
    try:
        with zipfile.ZipFile(path) as archive:
            info = archive.getinfo(f"{array}.npy")
            _check_size(_inside(path, array), info, archive)
            with archive.open(info) as member:
                shutil.copyfileobj(member, target, length=2**20)
            target.flush()
    except ARCHIVE_ERRORS as error:
        raise PredictionReadError(f"{_inside(path, array)} is broken: {error}") from error


def _check_size(source: str, info: zipfile.ZipInfo, archive: zipfile.ZipFile) -> None:
    """Raise PredictionReadError if an array unpacks to more than its header or the disk has."""
    with archive.open(info) as member:
        header = read_header(member)
    expected = header.offset + header.array_bytes
    if not header.dtype.hasobject and info.file_size != expected:
        raise PredictionReadError(
            f"{source} is broken: it unpacks to {info.file_size} bytes, but its header, "
            f"{header.shape} of type {header.dtype}, says {expected}"
        )
    folder = tempfile.gettempdir()
    free = shutil.disk_usage(folder).free
    if info.file_size > free:
        raise PredictionReadError(
            f"{source} unpacks to {info.file_size} bytes, but {folder} has {free} left: set TMPDIR "
            "to a folder on a larger disk"
        )
