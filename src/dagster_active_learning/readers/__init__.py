"""Formats in, Arrow batches of canonical columns out."""

from __future__ import annotations

import os
from collections.abc import Mapping
from importlib import import_module
from itertools import islice
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dagster_active_learning.errors import PredictionReadError, SettingError
from dagster_active_learning.files.compression import stem
from dagster_active_learning.files.find import find_files
from dagster_active_learning.files.links import Folder, content_withheld, named_folder
from dagster_active_learning.readers.formats import FORMATS, Format, ReaderOptions
from dagster_active_learning.rules import Rules
from dagster_active_learning.text import did_you_mean

if TYPE_CHECKING:
    from dagster_active_learning.readers.stream import PredictionPart, PredictionStream


def read_predictions(
    path: str | PathLike[str],
    *,
    format: str,
    batch_rows: int | None = None,
    within: str | PathLike[str] | None = None,
    **options: Any,
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
        within: The folder out of which no link may lead: by default the one that ``path`` names, so
            the part of a glob before its first wildcard. The path of one file may be any link.
        options: The options of the format: see ``TableOptions`` (parquet, csv, jsonl),
            ``NpyOptions``, ``NpzOptions``; ``CocoOptions``, ``YoloOptions``, ``RvcOptions``, and
            for the other formats of objects ``ObjectOptions``.

    Raises:
        ValueError: If the format or an option is unknown.
        PredictionReadError: If there is no such file, or one is not what the format says. While it
            is iterated also as ``PredictionStream`` says.

    Example:
        >>> stream = read_predictions("predictions.csv", format="csv", class_column_prefix="prob_")
        >>> stream.class_names
        ('1', '7')
        >>> [row["class_probs"] for batch in stream for row in batch.to_pylist()]
        [[0.5, 0.5], [0.875, 0.125], [0.75, 0.25], [0.625, 0.375]]
    """
    from dagster_active_learning.limits import DEFAULT_BATCH_ROWS
    from dagster_active_learning.readers.stream import open_stream, with_content_withheld

    checked = reader_options(format, options)
    if batch_rows is not None and batch_rows < 1:
        raise ValueError(f"batch_rows must be at least 1, got {batch_rows}")
    known = FORMATS[format]
    reader = import_module(known.module)
    named = within or named_folder(str(path))
    folder = None if named is None else Folder(str(named))
    files = find_files(path, known.files_in_folder, folder=folder)
    parts: list[PredictionPart] = []
    for file in files:
        companions = _companions(file, known, checked)
        if folder is not None and companions and (fault := folder.link_fault([], companions)):
            raise PredictionReadError(fault)
        # In a folder there is no link to others' files; who gives a path itself may give any.
        if folder is not None:
            parts.append(reader.open_file(file, checked))
            continue
        may_be_links = [str(file), *companions]
        with content_withheld(may_be_links):
            part = reader.open_file(file, checked)
        parts.append(with_content_withheld(part, may_be_links))
    return open_stream(
        str(path), parts, batch_rows or DEFAULT_BATCH_ROWS, images_named=known.images_named
    )


def _companions(file: Path, known: Format, options: ReaderOptions) -> list[str]:
    """The files that are read with a file: the list of its ids, the schema of its folder."""
    companions: list[Path] = []
    image_ids = getattr(options, "image_ids", None)
    if image_ids is not None:
        companions.append(file.parent / image_ids.replace("{stem}", stem(file)))
    if known.schema_file is not None:
        schemas = (folder / known.schema_file for folder in file.absolute().parents)
        companions.extend(islice(filter(Path.is_file, schemas), 1))
    # A name that no file can have is for the reader to complain of.
    return [str(companion) for companion in companions if os.path.isfile(companion)]


def reader_options(format: str, options: Mapping[str, Any]) -> ReaderOptions:
    """The options of a format, checked.

    Raises:
        ValueError: If the format or an option is unknown, or an option has a wrong value.
    """
    if format not in FORMATS:
        raise SettingError(
            "format",
            f"unknown format {format!r}: expected one of {', '.join(FORMATS)}"
            + did_you_mean(format, FORMATS),
        )
    known = list(FORMATS[format].options.__dataclass_fields__)
    unknown = [name for name in options if name not in known]
    if unknown:
        if unknown[0] in Rules.__dataclass_fields__:
            meant = f"; {unknown[0]} is a setting of the pool, and stands beside its predictions"
        else:
            meant = did_you_mean(unknown[0], known)
        raise SettingError(
            unknown[0],
            f"format {format!r} has no option {unknown[0]!r}: it has {', '.join(known)}{meant}",
        )
    return FORMATS[format].options(**options)
