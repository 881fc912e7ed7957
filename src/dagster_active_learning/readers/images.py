"""A pool's manifest: the images to choose from, and which of them have their label already."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import polars as pl
import pyarrow as pa

from dagster_active_learning.errors import PredictionReadError
from dagster_active_learning.readers.stream import describe_names

_COLUMNS: Mapping[str, pl.DataType] = MappingProxyType(
    {
        "image_id": pl.String(),
        "uri": pl.String(),
        "width": pl.Int32(),
        "height": pl.Int32(),
        "labeled": pl.Boolean(),
        "label": pl.String(),
    }
)

_TRUE = ("true", "1")
_FALSE = ("false", "0")


def read_images(path: Path, format: str) -> pa.Table:
    """Read a manifest: a table with a row an image.

    Args:
        path: A CSV file with a header, a Parquet file or a JSON Lines file. It has a column
            image_id and may have uri, width, height, labeled (true or false, 1 or 0) and label;
            other columns are left out.
        format: One of ``MANIFEST_FORMATS``.

    Returns:
        The columns of the table ``images``.

    Raises:
        PredictionReadError: If the file is not what the format says, has no column image_id, an
            image without an id or with the id of another, or a value of the wrong type.
    """
    try:
        found = _read(path, format)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise PredictionReadError(f"{path} is not a readable {format} manifest: {error}") from error
    if "image_id" not in found.columns:
        raise PredictionReadError(
            f"{path} has no column 'image_id': its columns are {describe_names(found.columns)}"
        )
    images = pl.DataFrame(
        [
            _typed(path, found[name], kind)
            if name in found.columns
            else pl.Series(name, [None] * found.height, dtype=kind)
            for name, kind in _COLUMNS.items()
        ]
    )
    _check_ids(path, images["image_id"])
    return images.to_arrow()


def _read(path: Path, format: str) -> pl.DataFrame:
    if format == "csv":
        # Text stays text: 007 is an id, not the number 7.
        return pl.read_csv(path, infer_schema=False)
    if format == "jsonl":
        return pl.read_ndjson(path, infer_schema_length=None)
    return pl.read_parquet(path)


def _typed(path: Path, column: pl.Series, kind: pl.DataType) -> pl.Series:
    if kind == pl.Boolean() and column.dtype != pl.Boolean():
        text = column.cast(pl.String).str.strip_chars().str.to_lowercase()
        typed = (
            pl.DataFrame({column.name: text})
            .select(
                pl.when(pl.col(column.name).is_in(_TRUE))
                .then(statement=True)
                .when(pl.col(column.name).is_in(_FALSE))
                .then(statement=False)
            )
            .to_series()
            .alias(column.name)
        )
    else:
        typed = column.cast(kind, strict=False)
    wrong = (typed.is_null() & column.is_not_null()).arg_true()
    if len(wrong):
        expected = "true or false" if kind == pl.Boolean() else str(kind)
        raise PredictionReadError(
            f"{path}, row {wrong[0] + 1}: {column.name} is {column[wrong[0]]!r}, "
            f"expected {expected}"
        )
    return typed


def _check_ids(path: Path, image_id: pl.Series) -> None:
    missing = (image_id.is_null() | (image_id == "")).arg_true()
    if len(missing):
        raise PredictionReadError(f"{path}, row {missing[0] + 1}: the image has no image_id")
    repeated = (~image_id.is_first_distinct()).arg_true()
    if len(repeated):
        row = repeated[0]
        first = (image_id == image_id[row]).arg_true()[0]
        raise PredictionReadError(
            f"{path}, row {row + 1}: image_id {image_id[row]!r} stands in row {first + 1} already; "
            "a manifest has a row an image"
        )
