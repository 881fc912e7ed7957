"""Predictions as one NumPy matrix a file, mapped into memory and read block by block."""

from __future__ import annotations

import os
import tokenize
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from dagster_active_learning.errors import PredictionReadError
from dagster_active_learning.readers.options import NpyOptions
from dagster_active_learning.readers.reasons import Reason
from dagster_active_learning.readers.stream import (
    PredictionPart,
    content_sha256,
    prediction_batch,
    raw_text,
    rows_for,
)
from dagster_active_learning.readers.text_lines import listed_ids

HEADER_ERRORS = (
    *(ValueError, OSError, EOFError, TypeError, OverflowError),
    *(SyntaxError, tokenize.TokenError, RecursionError, MemoryError),
)
"""What NumPy raises about the header of a broken array file, which is a Python literal."""

ImageIds = Sequence[str | None] | npt.NDArray[Any]
"""Ids in row order: as text, or as an array that is made text block by block."""


def open_file(path: Path, options: NpyOptions) -> PredictionPart:
    """Open one matrix ``(n_predictions, n_classes)`` and the list of ids beside it.

    Raises:
        PredictionReadError: If either file is missing or broken, the matrix is not a matrix of
            numbers, or the two differ in length. Pickled arrays are never read.
    """
    ids_path = path.parent / options.image_ids.replace("{stem}", path.stem)
    if not os.path.isfile(ids_path):
        raise PredictionReadError(
            f"{path} has no list of image ids beside it: expected {ids_path} with one id a row of "
            "the matrix; the option image_ids names another file"
        )
    matrix = open_array(path, str(path))
    return matrix_part(
        source=str(path),
        matrix=matrix,
        image_ids=_read_ids(ids_path, str(path), matrix),
        class_names=options.class_names,
        files=[path, ids_path],
    )


def matrix_part(
    source: str,
    matrix: npt.NDArray[Any],
    image_ids: ImageIds,
    class_names: Sequence[str] | None,
    files: Sequence[Path],
) -> PredictionPart:
    """A matrix with its ids as a part of a stream.

    Raises:
        PredictionReadError: If the matrix is not a matrix of numbers with a row for every id.
    """
    _check_matrix(source, matrix)
    if len(image_ids) != len(matrix):
        raise _other_length(source, matrix, len(image_ids))
    wide = matrix.dtype.kind != "f" or matrix.dtype.itemsize == 8
    value_type = pa.float64() if wide else pa.float32()
    dtype = np.dtype(np.float64 if wide else np.float32)
    n_classes = matrix.shape[1]
    id_bytes = image_ids.itemsize if isinstance(image_ids, np.ndarray) else 0
    batch_rows = rows_for(n_classes * dtype.itemsize + id_bytes)

    def batches() -> Iterator[pa.RecordBatch]:
        for start in range(0, len(matrix), batch_rows):
            block = np.ascontiguousarray(matrix[start : start + batch_rows], dtype=dtype)
            ids = image_ids[start : start + len(block)]
            ids = as_text(source, ids) if isinstance(ids, np.ndarray) else ids
            offsets = np.arange(len(block) + 1, dtype=np.int32) * n_classes
            missing = [not one for one in ids] if n_classes else [True] * len(ids)
            reason = Reason.IMAGE_ID_NULL if n_classes else Reason.CLASS_PROBS_EMPTY
            yield prediction_batch(
                len(block),
                image_id=pa.array(ids, pa.string()),
                class_probs=pa.ListArray.from_arrays(pa.array(offsets), pa.array(block.ravel())),
                row_number=pa.array(np.arange(start + 1, start + len(block) + 1)),
                reason=pa.array([reason if one else None for one in missing], pa.string()),
                raw=pa.array(
                    [
                        raw_text({"image_id": ids[row], "class_probs": block[row].tolist()})
                        if one
                        else None
                        for row, one in enumerate(missing)
                    ],
                    pa.string(),
                ),
            )

    return PredictionPart(
        source=source,
        class_names=tuple(class_names) if class_names else None,
        value_type=value_type,
        batches=batches,
        sha256=content_sha256(files),
    )


def _check_matrix(source: str, matrix: npt.NDArray[Any]) -> None:
    if matrix.ndim != 2 or matrix.dtype.kind not in "fiu" or matrix.dtype.itemsize > 8:
        raise PredictionReadError(
            f"{source} holds an array of shape {matrix.shape} and type {matrix.dtype}, expected "
            "class probabilities of shape (n_predictions, n_classes) and type float16, float32 or "
            "float64"
        )


def open_array(path: Path, source: str) -> npt.NDArray[Any]:
    """Map an array file into memory; ``source`` is what an error calls it."""
    try:
        # Unlike np.load this never reads a pickle, nor an archive.
        return np.lib.format.open_memmap(path, mode="r")
    except HEADER_ERRORS as error:
        raise PredictionReadError(
            f"{source} is not a readable NumPy array file (pickled arrays are refused): {error}"
        ) from error


def check_ids(source: str, ids: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """An array of ids.

    Raises:
        PredictionReadError: If it is no list of text or integers.
    """
    if ids.ndim != 1 or ids.dtype.kind not in "USiu":
        raise PredictionReadError(
            f"{source} holds an array of shape {ids.shape} and type {ids.dtype}, expected one "
            "dimension of text or integers"
        )
    return ids


def as_text(source: str, ids: npt.NDArray[Any]) -> list[str]:
    """An array of ids, text or integers, as text.

    Raises:
        PredictionReadError: If one is not UTF-8 text.
    """
    try:
        texts = [one.decode() if isinstance(one, bytes) else str(one) for one in ids.tolist()]
        # NumPy's text may hold what no text is: half a surrogate pair.
        "".join(texts).encode()
    except (ValueError, SystemError) as error:  # SystemError: no character has this number
        raise PredictionReadError(f"{source} has ids that are not UTF-8 text: {error}") from error
    return texts


def _read_ids(path: Path, source: str, matrix: npt.NDArray[Any]) -> ImageIds:
    _check_matrix(source, matrix)
    if path.suffix == ".npy":
        return check_ids(str(path), open_array(path, str(path)))
    lines = listed_ids(path)
    ids = [line or None for line in islice(lines, len(matrix))]
    if next(lines, None) is not None:
        raise _other_length(source, matrix, f"more than {len(ids)}")
    return ids


def _other_length(source: str, matrix: npt.NDArray[Any], ids: object) -> PredictionReadError:
    return PredictionReadError(
        f"{source} has {len(matrix)} rows, but there are {ids} image ids: expected one id a row"
    )
