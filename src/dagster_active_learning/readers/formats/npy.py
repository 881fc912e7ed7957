"""Predictions as one NumPy matrix per file, read block by block."""

from __future__ import annotations

import math
import os
import tokenize
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from io import BufferedIOBase
from itertools import islice
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from dagster_active_learning.errors import PredictionReadError
from dagster_active_learning.files.versions import changed_file, content_sha256
from dagster_active_learning.limits import rows_for
from dagster_active_learning.readers.columns import read_image_ids
from dagster_active_learning.readers.options import NpyOptions, NpzOptions
from dagster_active_learning.readers.quarantine import Reason
from dagster_active_learning.readers.stream import PredictionPart, prediction_batch
from dagster_active_learning.readers.text_lines import listed_ids
from dagster_active_learning.text import raw_text

HEADER_ERRORS = (
    *(ValueError, OSError, EOFError, TypeError, OverflowError),
    *(SyntaxError, tokenize.TokenError, RecursionError, MemoryError),
)
"""The errors of NumPy about the header of a broken array file, which is a Python literal."""

OpenFile = Callable[[], AbstractContextManager[BufferedIOBase]]


@dataclass(frozen=True)
class ArrayHeader:
    """The header of an array file.

    Attributes:
        shape: The array's shape.
        dtype: The type of its values.
        by_column: Whether a matrix stands there column by column, in Fortran's order.
        offset: Where in the file the values begin.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    by_column: bool
    offset: int

    @property
    def array_bytes(self) -> int:
        """Bytes that the values take."""
        return math.prod(self.shape) * self.dtype.itemsize


@dataclass(frozen=True)
class StoredArray:
    """An array in a file, read block by block.

    It is not mapped into memory: a mapped file that shrinks ends the process without an error.

    Attributes:
        source: Its name in errors.
        open: Opens its file.
        header: What the file says about the array.
    """

    source: str
    open: OpenFile
    header: ArrayHeader

    def __len__(self) -> int:
        return self.header.shape[0]

    def blocks(self, rows: int) -> Iterator[npt.NDArray[Any]]:
        """The array, ``rows`` rows at a time.

        Raises:
            PredictionReadError: If the file ends before the array does, which it did not before,
                or cannot be read.
        """
        try:
            with self.open() as file:
                for start in range(0, len(self), rows):
                    yield self._block(file, start, min(rows, len(self) - start))
        except OSError as error:
            raise PredictionReadError(f"{self.source} cannot be read: {error}") from error

    def _block(self, file: BufferedIOBase, start: int, rows: int) -> npt.NDArray[Any]:
        _, *row_shape = self.header.shape
        if not self.header.by_column:
            block = np.empty((rows, *row_shape), self.header.dtype)
            self._fill(block, file, start * math.prod(row_shape))
            return block
        columns = np.empty((*row_shape, rows), self.header.dtype)
        for number, column in enumerate(columns):
            self._fill(column, file, number * len(self) + start)
        return columns.T

    def _fill(self, values: npt.NDArray[Any], file: BufferedIOBase, position: int) -> None:
        """Read values; ``position`` is that of the first in the array as it is stored."""
        file.seek(self.header.offset + position * self.header.dtype.itemsize)
        if file.readinto(values.data) != values.nbytes:
            raise changed_file(self.source)


ImageIds = Sequence[str | None] | StoredArray
"""Ids in row order: as text, or as an array that is made text block by block."""


def open_file(path: Path, options: NpyOptions) -> PredictionPart:
    """Open one matrix ``(n_predictions, n_classes)`` and the list of ids next to it.

    Raises:
        PredictionReadError: If either file is missing or broken, the matrix is not a matrix of
            numbers, or the two differ in length. Pickled arrays are never read.
    """
    ids_path = path.parent / options.image_ids.replace("{stem}", path.stem)
    if not os.path.isfile(ids_path):
        raise PredictionReadError(
            f"{path} has no list of image ids beside it: expected {ids_path} with one id per row "
            "of the matrix; the option image_ids names another file"
        )
    sha256 = content_sha256([path, ids_path])
    matrix = open_array(str(path), partial(path.open, "rb"))
    _check_matrix(matrix, options)
    ids = _read_ids(ids_path, matrix)
    return matrix_part(str(path), matrix, ids, options, options.class_names, sha256)


def matrix_part(
    source: str,
    matrix: StoredArray,
    image_ids: ImageIds,
    options: NpyOptions | NpzOptions,
    class_names: Sequence[str] | None,
    sha256: Callable[[], str],
) -> PredictionPart:
    """A matrix with its ids as a part of a stream.

    ``class_names`` are those of the options, or else of the source.

    Raises:
        PredictionReadError: If the matrix is not a matrix of numbers with one row per id.
    """
    _check_matrix(matrix, options)
    if len(image_ids) != len(matrix):
        raise _other_length(matrix, len(image_ids))
    kept = matrix.header.dtype
    wide = kept.kind != "f" or kept.itemsize == 8
    value_type = pa.float64() if wide else pa.float32()
    dtype = np.dtype(np.float64 if wide else np.float32)
    n_classes = 2 if options.is_binary else matrix.header.shape[1]
    id_bytes = image_ids.header.dtype.itemsize if isinstance(image_ids, StoredArray) else 0
    batch_rows = rows_for(n_classes * dtype.itemsize + id_bytes)
    has_floats = isinstance(image_ids, StoredArray) and image_ids.header.dtype.kind == "f"
    no_id = Reason.IMAGE_ID_NOT_TEXT if has_floats else Reason.IMAGE_ID_NULL

    def batches() -> Iterator[pa.RecordBatch]:
        rows_before = 0
        id_blocks = _id_blocks(image_ids, batch_rows)
        for stored, (ids, written) in zip(matrix.blocks(batch_rows), id_blocks, strict=True):
            block = np.ascontiguousarray(stored, dtype=dtype)
            if options.is_binary:
                single = block.reshape(-1)
                block = np.column_stack([np.clip(1 - single, 0, 1), single])
            offsets = np.arange(len(block) + 1, dtype=np.int32) * n_classes
            missing = [not image_id for image_id in ids] if n_classes else [True] * len(ids)
            reason = no_id if n_classes else Reason.CLASS_PROBS_EMPTY
            yield prediction_batch(
                len(block),
                image_id=pa.array(ids, pa.string()),
                class_probs=pa.ListArray.from_arrays(pa.array(offsets), pa.array(block.ravel())),
                row_number=pa.array(np.arange(len(block)) + rows_before + 1),
                reason=pa.array(
                    [reason if is_missing else None for is_missing in missing], pa.string()
                ),
                raw=pa.array(
                    [
                        raw_text({"image_id": written[row], "class_probs": block[row].tolist()})
                        if is_missing
                        else None
                        for row, is_missing in enumerate(missing)
                    ],
                    pa.string(),
                ),
            )
            rows_before += len(block)

    return PredictionPart(
        source=source,
        class_names=tuple(class_names) if class_names else None,
        value_type=value_type,
        batches=batches,
        sha256=sha256,
    )


def _check_matrix(matrix: StoredArray, options: NpyOptions | NpzOptions) -> None:
    shape, dtype = matrix.header.shape, matrix.header.dtype
    fits = shape[1:] in ((), (1,)) if options.is_binary else True
    is_matrix = len(shape) == 2 or (options.is_binary and len(shape) == 1)
    if not is_matrix or not fits or dtype.kind not in "fiu" or dtype.itemsize > 8:
        expected = (
            "single probabilities of shape (n_predictions,) or (n_predictions, 1)"
            if options.is_binary
            else "class probabilities of shape (n_predictions, n_classes)"
        )
        raise PredictionReadError(
            f"{matrix.source} holds an array of shape {shape} and type {dtype}, expected "
            f"{expected} and type float16, float32 or float64"
            + ("; single_probability=True takes shape (n_predictions,)" if len(shape) == 1 else "")
        )


def open_array(source: str, open: OpenFile) -> StoredArray:
    """An array file, of which only the header is read; ``source`` is its name in errors.

    Raises:
        PredictionReadError: If it is broken, cut, or holds pickled objects.
    """
    try:
        with open() as file:
            file.seek(0)
            header = read_header(file)
            size = file.seek(0, os.SEEK_END)
        if header.dtype.hasobject:
            raise ValueError(f"its type is {header.dtype}")
        if size < header.offset + header.array_bytes:
            raise ValueError(
                f"its header, {header.shape} of type {header.dtype}, says that it has "
                f"{header.offset + header.array_bytes} bytes, but it has {size}"
            )
    except HEADER_ERRORS as error:
        raise PredictionReadError(
            f"{source} is not a readable NumPy array file (pickled arrays are refused): {error}"
        ) from error
    return StoredArray(source, open, header)


def read_header(file: BufferedIOBase | IO[bytes]) -> ArrayHeader:
    """The header of an array file; raises one of ``HEADER_ERRORS`` if it is broken."""
    version = np.lib.format.read_magic(file)
    if version not in ((1, 0), (2, 0), (3, 0)):
        raise ValueError(f"its version is {version}, expected one up to (3, 0)")
    read = (
        np.lib.format.read_array_header_1_0
        if version == (1, 0)
        else np.lib.format.read_array_header_2_0
    )
    shape, fortran_order, dtype = read(file)
    if not all(0 <= length < 2**63 for length in shape):
        raise ValueError(f"its shape is {shape}")
    return ArrayHeader(shape, dtype, fortran_order and len(shape) == 2, file.tell())


def check_ids(ids: StoredArray) -> StoredArray:
    """An array of ids.

    Raises:
        PredictionReadError: If it is no list of text or numbers.
    """
    shape, dtype = ids.header.shape, ids.header.dtype
    is_list = len(shape) == 1 and dtype.kind in "USiuf" and dtype.itemsize
    if not is_list or (dtype.kind == "f" and dtype.itemsize > 8):
        raise PredictionReadError(
            f"{ids.source} holds an array of shape {shape} and type {dtype}, expected one "
            "dimension of text or whole numbers"
        )
    return ids


def as_text(source: str, ids: npt.NDArray[Any]) -> list[str | None]:
    """An array of ids as text, None for a number that is not whole.

    Raises:
        PredictionReadError: If one is not UTF-8 text.
    """
    if ids.dtype.kind == "f":
        return read_image_ids(pa.array(ids.astype(ids.dtype.newbyteorder("="))))[0].to_pylist()
    try:
        texts: list[str | None] = [
            value.decode() if isinstance(value, bytes) else str(value) for value in ids.tolist()
        ]
        # NumPy's text may hold what no text is: half a surrogate pair.
        "".join(filter(None, texts)).encode()
    except (ValueError, SystemError) as error:  # SystemError: no character has this number
        raise PredictionReadError(f"{source} has ids that are not UTF-8 text: {error}") from error
    return texts


def _id_blocks(ids: ImageIds, rows: int) -> Iterator[tuple[Sequence[str | None], Sequence[object]]]:
    """Blocks of ids as text, and as they are written."""
    if isinstance(ids, StoredArray):
        for block in ids.blocks(rows):
            texts = as_text(ids.source, block)
            yield texts, block.tolist() if block.dtype.kind == "f" else texts
    else:
        for start in range(0, len(ids), rows):
            texts = ids[start : start + rows]
            yield texts, texts


def _read_ids(path: Path, matrix: StoredArray) -> ImageIds:
    if path.suffix == ".npy":
        return check_ids(open_array(str(path), partial(path.open, "rb")))
    lines = listed_ids(path)
    ids = [line or None for line in islice(lines, len(matrix))]
    if next(lines, None) is not None:
        raise _other_length(matrix, f"more than {len(ids)}")
    return ids


def _other_length(matrix: StoredArray, ids: object) -> PredictionReadError:
    return PredictionReadError(
        f"{matrix.source} has {len(matrix)} rows, but there are {ids} image ids: expected one id "
        "per row"
    )
