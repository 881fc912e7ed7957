"""Formats in, Arrow batches of canonical columns out."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from os import PathLike
from typing import TYPE_CHECKING, Any

from dagster_active_learning.files.find import find_files
from dagster_active_learning.readers.formats import FORMATS, ReaderOptions

if TYPE_CHECKING:
    from dagster_active_learning.readers.stream import PredictionStream


def read_predictions(
    path: str | PathLike[str], *, format: str, batch_rows: int | None = None, **options: Any
) -> PredictionStream:
    """Open prediction files of one format.

    The stream yields ``pyarrow.RecordBatch`` with the columns image_id, class_probs, score,
    category, bbox, segmentation, source, row_number (from 1), reason and raw. The last two are null
    except in rows that are no prediction; a row without a row_number says that the model found no
    object in the image. Never is a whole file in memory.

    Args:
        path: A file, or a glob such as ``"predictions/*.parquet"``; its files are read in the
            order of their names. For yolo, kitti and lightly also the folder of the files; that of
            lightly may have folders in it. As in a shell, names that begin with a dot are left out:
            a Mac writes ``._1.txt`` beside ``1.txt``.
        format: One of ``FORMATS``.
        batch_rows: The most rows a batch may hold; what comes out is the same for every value.
        options: The options of the format: see ``TableOptions`` (parquet, csv, jsonl),
            ``NpyOptions``, ``NpzOptions``; ``CocoOptions``, ``YoloOptions``, ``RvcOptions``, and
            for the other formats of objects ``ObjectOptions``.

    Raises:
        ValueError: If the format or an option is unknown.
        PredictionReadError: If there is no such file, or one is not what the format says. While it
            is iterated also as ``PredictionStream`` says.

    Example:
        >>> for batch in read_predictions("p.csv", format="csv", class_column_prefix="prob_"):
        ...     print(batch.num_rows)  # doctest: +SKIP
    """
    from dagster_active_learning.limits import DEFAULT_BATCH_ROWS
    from dagster_active_learning.readers.stream import open_stream

    checked = reader_options(format, options)
    if batch_rows is not None and batch_rows < 1:
        raise ValueError(f"batch_rows must be at least 1, got {batch_rows}")
    known = FORMATS[format]
    reader = import_module(known.module)
    files = find_files(path, known.files_in_folder)
    parts = [reader.open_file(file, checked) for file in files]
    return open_stream(
        str(path), parts, batch_rows or DEFAULT_BATCH_ROWS, images_named=known.images_named
    )


def reader_options(format: str, options: Mapping[str, Any]) -> ReaderOptions:
    """The options of a format, checked.

    Raises:
        ValueError: If the format or an option is unknown, or an option has a wrong value.
    """
    if format not in FORMATS:
        raise ValueError(f"unknown format {format!r}: expected one of {', '.join(FORMATS)}")
    known = list(FORMATS[format].options.__dataclass_fields__)
    unknown = [name for name in options if name not in known]
    if unknown:
        raise ValueError(
            f"format {format!r} has no option {unknown[0]!r}: it has {', '.join(known)}"
        )
    return FORMATS[format].options(**options)
