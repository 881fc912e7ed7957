"""Embeddings of images: from Parquet, NPY, a table in memory or a relation of DuckDB."""

# The functions of pyarrow.compute are made when it is imported.
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from dagster_active_learning.errors import PredictionReadError

# One value per dimension, of any type that is a number. An id may be a whole number.
EMBEDDINGS = "SELECT {id_column}::VARCHAR AS image_id, {column}::FLOAT[] AS embedding FROM source"

BATCH_ROWS = 65_536

Vectors = tuple[list[str], npt.NDArray[np.float32]]
"""Ids of images, and their embeddings (n_images, n_dimensions)."""


def wanted_embeddings(
    source: duckdb.DuckDBPyRelation,
    image_ids: Sequence[str],
    *,
    name: str,
    image_id_column: str = "image_id",
    embedding_column: str = "embedding",
) -> Vectors:
    """The embeddings of some images in a relation.

    Args:
        source: The relation, with one row per image.
        image_ids: The images whose embeddings are wanted; those that have none are left out.
        name: What the relation is called in errors.
        image_id_column: The column of ids.
        embedding_column: The column of embeddings, lists or arrays of as many numbers each.

    Raises:
        PredictionReadError: If a column is missing, an image has several embeddings, or one of
            them is null, not finite or of another length than the others.
    """
    for column in (image_id_column, embedding_column):
        if column not in source.columns:
            raise PredictionReadError(
                f"{name} has the columns {', '.join(source.columns)}, expected {column!r}: set "
                "image_id_column or embedding_column"
            )
    quoted = ['"' + name.replace('"', '""') + '"' for name in (image_id_column, embedding_column)]
    statement = EMBEDDINGS.format(id_column=quoted[0], column=quoted[1])
    wanted = pa.array(dict.fromkeys(image_ids), pa.string())
    ids: list[str] = []
    parts: list[npt.NDArray[np.float32]] = []
    relation = cast("duckdb.DuckDBPyRelation", source.query("source", statement))
    for batch in relation.to_arrow_reader(BATCH_ROWS):
        found = batch.filter(pc.is_in(batch.column("image_id"), value_set=wanted))
        if found.num_rows:
            ids_of_batch = found.column("image_id").to_pylist()
            parts.append(_matrix(ids_of_batch, found.column("embedding"), name))
            ids += ids_of_batch
    if len(set(ids)) != len(ids):
        twice = next(image_id for image_id, count in Counter(ids).items() if count > 1)
        raise PredictionReadError(f"{name} has several embeddings of image {twice!r}, expected one")
    lengths = sorted({part.shape[1] for part in parts})
    if len(lengths) > 1:
        raise PredictionReadError(
            f"{name} has embeddings of {lengths[0]} and {lengths[-1]} numbers, expected as "
            "many each"
        )
    return ids, np.concatenate(parts) if parts else np.empty((0, 1), np.float32)


def npy_embeddings(path: Path, image_ids_path: Path, image_ids: Sequence[str]) -> Vectors:
    """The embeddings of some images in a NPY file, of which only their rows are read.

    Args:
        path: The file, an array (n_images, n_dimensions).
        image_ids_path: A UTF-8 text file with the id of each row, one per line.
        image_ids: The images whose embeddings are wanted.

    Raises:
        PredictionReadError: If the file is no such array, the list has another length or an id
            twice, or a value is not finite.
    """
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
        listed = image_ids_path.read_text("utf-8").splitlines()
    except (OSError, ValueError) as error:
        raise PredictionReadError(f"the embeddings {path} cannot be read: {error}") from error
    if array.ndim != 2 or len(array) != len(listed) or not array.shape[1]:
        raise PredictionReadError(
            f"the embeddings {path} have the shape {array.shape} and {image_ids_path} has "
            f"{len(listed):,} ids: expected one row of numbers per id"
        )
    rows = {image_id: row for row, image_id in enumerate(listed)}
    if len(rows) != len(listed):
        raise PredictionReadError(f"{image_ids_path} has an id twice, expected each once")
    found = [image_id for image_id in dict.fromkeys(image_ids) if image_id in rows]
    vectors = np.asarray(array[[rows[image_id] for image_id in found]], np.float32)
    _check_finite(found, vectors, str(path))
    return found, vectors


def _matrix(ids: Sequence[str], lists: pa.Array, name: str) -> npt.NDArray[np.float32]:
    """The matrix (n_images, n_dimensions) of lists of as many numbers each."""
    lengths = pc.list_value_length(lists).to_pylist()
    wrong = [place for place, length in enumerate(lengths) if not length or length != lengths[0]]
    if wrong:
        raise PredictionReadError(
            f"{name} has an embedding of {lengths[wrong[0]] or 0} numbers for image "
            f"{ids[wrong[0]]!r}, expected {lengths[0] or 'some'} as for {ids[0]!r}"
        )
    values = lists.flatten().to_numpy(zero_copy_only=False).astype(np.float32)
    vectors = values.reshape(len(ids), -1)
    _check_finite(ids, vectors, name)
    return vectors


def _check_finite(ids: Sequence[str], vectors: npt.NDArray[np.float32], name: str) -> None:
    wrong = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
    if len(wrong):
        raise PredictionReadError(
            f"{name} has an embedding with a value that is not finite for image "
            f"{ids[int(wrong[0])]!r}, expected finite numbers"
        )
