"""A pool's manifest: the images to choose from, and which of them have their label already."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from dagster_active_learning.errors import PredictionReadError
from dagster_active_learning.files.image_folder import find_image_files
from dagster_active_learning.limits import BATCH_BYTES
from dagster_active_learning.readers.columns import read_image_ids
from dagster_active_learning.readers.formats import csv, parquet
from dagster_active_learning.readers.formats.jsonl import line_blocks, object_lines
from dagster_active_learning.readers.formats.parquet import FOOTER_ERRORS
from dagster_active_learning.readers.text_lines import listed_ids
from dagster_active_learning.readers.values import as_whole
from dagster_active_learning.text import describe_names, quoted_pair

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

_TRUE = ("true", "1", "1.0")
_FALSE = ("false", "0", "0.0")


def read_images(
    path: Path,
    format: str,
    *,
    image_id: str | None = None,
    labeled: Sequence[str] | Path | None = None,
) -> pa.Table:
    """Read a manifest: the images of a pool.

    Args:
        path: A CSV file with a header, a Parquet file or a JSON Lines file with one row per image.
            It has a column image_id and may have uri, width, height, labeled (true or false, 1 or
            0) and label; other columns are left out. An image with a label is labeled unless its
            row says otherwise. Or a COCO instances file, or a folder of images.
        format: A name in ``MANIFEST_FORMATS``, or ``"folder"``.
        image_id: The source of an image's id, where the format leaves a choice; see ``PoolImages``.
        labeled: Ids of images that have their label, or a UTF-8 text file with one id per line;
            besides those that the manifest marks.

    Returns:
        The columns of the table ``images``.

    Raises:
        PredictionReadError: If the manifest is not what the format says, has no column image_id,
            an image without an id or with the id of another, or a value of the wrong type; or if
            a labeled image is not in it.
    """
    if format == "coco":
        images = _coco_images(path, image_id or "id")
    elif format == "folder":
        images = _folder_images(path, image_id or "path")
    else:
        images = _table_images(path, format)
    if labeled is not None:
        images = _mark_labeled(path, images, labeled)
    return images.to_arrow()


def _folder_images(folder: Path, image_id: str) -> pl.DataFrame:
    names = [name for name, _ in find_image_files(folder)]
    ids = names if image_id == "path" else [Path(name).stem for name in names]
    _check_unique(folder, ids, names, 'image_id="path" takes the path instead')
    full = folder.absolute()
    return _frame({"image_id": ids, "uri": [str(full / name) for name in names]})


def _coco_images(path: Path, image_id: str) -> pl.DataFrame:
    from dagster_active_learning.readers.formats.coco import first_character, table_entries

    first_character(path)
    ids: list[str] = []
    names: list[str] = []
    uris: list[str | None] = []
    sizes: dict[str, list[int | None]] = {"width": [], "height": []}
    for number, name, entry in table_entries(path, "images"):
        ids.append(number)
        names.append(name)
        uris.append(name if entry.get("file_name") == name else entry.get("coco_url"))
        for side, values in sizes.items():
            values.append(_pixels(f"{path}: entry {len(ids)} of images", side, entry.get(side)))
    if not ids:
        raise PredictionReadError(
            f"{path} has an empty table 'images': expected at least one image"
        )
    _check_unique(path, ids, names, "every image has an id of its own")
    if image_id == "file_name":
        _check_unique(path, names, ids, 'image_id="id" takes the number instead')
    return _frame({"image_id": ids if image_id == "id" else names, "uri": uris, **sizes})


def _pixels(where: str, side: str, value: object) -> int | None:
    pixels = as_whole(value)
    if value is None or (pixels is not None and 0 <= pixels < 2**31):
        return pixels
    raise PredictionReadError(f"{where}: {side} is {value!r}, expected a number of pixels")


def _frame(columns: Mapping[str, Sequence[Any]]) -> pl.DataFrame:
    rows = len(columns["image_id"])
    return pl.DataFrame(
        {name: columns.get(name, [None] * rows) for name in _COLUMNS}, schema=dict(_COLUMNS)
    )


def _check_unique(path: Path, ids: Sequence[str], names: Sequence[str], advice: str) -> None:
    first: dict[str, str] = {}
    for image_id, name in zip(ids, names, strict=True):
        if image_id in first:
            raise PredictionReadError(
                f"{path}: {first[image_id]!r} and {name!r} have the same image_id {image_id!r}; "
                f"{advice}"
            )
        first[image_id] = name


def _mark_labeled(path: Path, images: pl.DataFrame, labeled: Sequence[str] | Path) -> pl.DataFrame:
    """The images of a list have their label, whatever the manifest says about them."""
    source = f"the list {labeled}" if isinstance(labeled, Path) else "the list given as labeled"
    ids = pl.Series(
        "labeled_id", _ids_in_text(labeled) if isinstance(labeled, Path) else labeled, pl.String
    ).unique(maintain_order=True)
    unknown = ids.filter(~ids.is_in(images["image_id"].implode()))
    if len(unknown):
        more = f" and {len(unknown) - 1} more" if len(unknown) > 1 else ""
        wanted, first = quoted_pair(unknown[0], images["image_id"][0])
        raise PredictionReadError(
            f"{path} has no image {wanted}{more}: {source} says that it is labeled "
            f"({len(unknown)} of its {len(ids)} ids are not in the manifest, whose first is "
            f"{first})"
        )
    return images.with_columns(
        pl.when(pl.col("image_id").is_in(ids.implode()))
        .then(statement=True)
        .otherwise(pl.col("labeled"))
        .alias("labeled")
    )


def _ids_in_text(path: Path) -> Iterable[str]:
    return list(dict.fromkeys(line for line in listed_ids(path) if line.strip()))


def _table_images(path: Path, format: str) -> pl.DataFrame:
    frames: list[pl.DataFrame] = []
    rows = held = checked = 0
    try:
        for frame in _TABLES[format](path):
            if "image_id" not in frame.columns:
                raise PredictionReadError(
                    f"{path} has no column 'image_id': its columns are "
                    f"{describe_names(frame.columns)}"
                )
            if not frame.height:
                continue
            frames.append(_typed_frame(path, frame, rows))
            rows += frame.height
            held += frames[-1].estimated_size()
            # A small file may hold a billion rows, if they are equal.
            if held > 2 * checked + BATCH_BYTES:
                _check_ids(path, pl.concat([frame["image_id"] for frame in frames]))
                checked = held
    except (pl.exceptions.PolarsError, *FOOTER_ERRORS) as error:
        raise PredictionReadError(f"{path} is not a readable {format} manifest: {error}") from error
    if not rows:
        raise PredictionReadError(f"{path} holds no images: expected at least one row")
    images = pl.concat(frames)
    _check_ids(path, images["image_id"])
    has_label = pl.col("label").is_not_null() & (pl.col("label") != "")
    # Where nothing says if an image is labeled, its label does.
    labeled = pl.when(pl.col("labeled").is_null() & has_label).then(statement=True)
    return images.with_columns(labeled.otherwise(pl.col("labeled")).alias("labeled"))


def _read_jsonl(path: Path) -> Iterator[pl.DataFrame]:
    for lines in line_blocks(object_lines(path)):
        if lines:
            yield pl.read_ndjson(b"".join(lines), infer_schema_length=None)


def _read_parquet(path: Path) -> Iterator[pl.DataFrame]:
    # Polars ends the process over some broken files, over which pyarrow raises.
    with pq.ParquetFile(path) as opened:
        names = opened.schema_arrow.names
    if "image_id" not in names:
        yield pl.DataFrame(schema=names)
        return
    for batch in parquet.read_columns(path, [name for name in names if name in _COLUMNS]):
        # Text is not looked at before: polars would take for UTF-8 what is not.
        batch.validate(full=True)
        # Without metadata, which need not be UTF-8 either.
        columns = [
            read_image_ids(column)[0] if isinstance(column.type, pa.UuidType) else column
            for column in batch.columns
        ]
        yield pl.DataFrame(pa.table(columns, names=batch.schema.names))


def _read_csv(path: Path) -> Iterator[pl.DataFrame]:
    """The columns of a manifest as text: 007 is an id, not the number 7."""
    header = csv.column_names(path)
    columns = [name for name in header if name in _COLUMNS]
    repeated = [name for name in columns if columns.count(name) > 1]
    if repeated:
        raise PredictionReadError(f"{path} has more than one column {repeated[0]!r}")
    blanks = [name for name in header if name not in _COLUMNS and name.strip() in _COLUMNS]
    if blanks:
        raise PredictionReadError(
            f"{path} has the column {blanks[0]!r}: expected {blanks[0].strip()!r} without blanks"
        )
    if "image_id" not in columns:
        yield pl.DataFrame(schema=header)
        return
    for batch in csv.read_columns(path, columns):
        yield pl.DataFrame(batch)


_TABLES: Mapping[str, Callable[[Path], Iterator[pl.DataFrame]]] = MappingProxyType(
    {"csv": _read_csv, "jsonl": _read_jsonl, "parquet": _read_parquet}
)
"""Functions that read a manifest that is a table, some rows at a time."""


def _typed_frame(path: Path, frame: pl.DataFrame, rows_before: int) -> pl.DataFrame:
    return pl.DataFrame(
        [
            _typed(path, frame[name], kind, rows_before)
            if name in frame.columns
            else pl.Series(name, [None] * frame.height, dtype=kind)
            for name, kind in _COLUMNS.items()
        ]
    )


def _typed(path: Path, column: pl.Series, kind: pl.DataType, rows_before: int) -> pl.Series:
    text_types = (pl.String(), pl.Categorical(), pl.Null())
    is_text = isinstance(column.dtype, pl.Enum) or column.dtype in text_types
    is_id = column.name in ("image_id", "uri")
    if is_id and not is_text:
        return _number_ids(path, column, rows_before)
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
        typed = _cast(column, kind)
    wrong = (typed.is_null() & column.is_not_null()).arg_true()
    if len(wrong):
        expected = "true or false" if kind == pl.Boolean() else "a number of pixels"
        expected = "text" if kind == pl.String() else expected
        raise PredictionReadError(
            f"{path}, row {rows_before + wrong[0] + 1}: {column.name} is {column[wrong[0]]!r}, "
            f"expected {expected}"
        )
    return typed


def _number_ids(path: Path, column: pl.Series, rows_before: int) -> pl.Series:
    """Ids that are whole numbers as text, null where there is none."""
    may_be_ids = column.dtype.is_numeric()
    ids = pl.Series(
        column.name, read_image_ids(column.to_arrow())[0] if may_be_ids else [], pl.String
    )
    wrong = (ids.is_null() & column.is_not_null()).arg_true() if may_be_ids else [0]
    if len(wrong):
        raise PredictionReadError(
            f"{path}: the column {column.name} is of the type {column.dtype}, row "
            f"{rows_before + wrong[0] + 1} is {column[wrong[0]]!r}; expected text or whole numbers"
        )
    return ids


def _cast(column: pl.Series, kind: pl.DataType) -> pl.Series:
    """The values as another type, null where they are none of it."""
    try:
        typed = column.cast(kind, strict=False)
    except pl.exceptions.PolarsError:
        return pl.Series(column.name, [None] * len(column), kind)
    if kind != pl.Int32():
        return typed
    if column.dtype == pl.String():
        # Text such as 640.0 is a whole number, too.
        column = column.str.strip_chars().cast(pl.Float64, strict=False)
        typed = column.cast(kind, strict=False)
    # Not 3.7 pixels, nor minus three.
    wrong = typed < 0
    if column.dtype.is_numeric():
        wrong |= typed != column
    return typed.set(wrong.fill_null(value=False), None)


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
            "a manifest has one row per image"
        )
