"""Formats in, Arrow batches of canonical columns out.

A format is one module here with a function ``open_file(path, options)`` and one line in
``FORMATS``.
"""

from __future__ import annotations

import glob
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from os import PathLike
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from dagster_active_learning.errors import PredictionReadError
from dagster_active_learning.readers.options import (
    CocoOptions,
    NpyOptions,
    NpzOptions,
    ObjectOptions,
    RvcOptions,
    TableOptions,
    YoloOptions,
)

if TYPE_CHECKING:
    from dagster_active_learning.readers.stream import ImagesNamed, PredictionStream

ReaderOptions = TableOptions | NpyOptions | NpzOptions | ObjectOptions


@dataclass(frozen=True)
class Format:
    """A format.

    Attributes:
        options: The options its reader understands.
        files_in_folder: Its files where a folder is given.
        schema_file: Name of the file that says what is in those of its folder and of the folders
            in it, where they have no nearer one; it is no predictions itself.
        images_named: Which images a file of it names.
        has_background: Whether its reader adds a class for what the class probabilities leave over
            to 1, so that they can only be probabilities of classes that exclude each other.
    """

    options: type[ReaderOptions]
    files_in_folder: str | None = None
    schema_file: str | None = None
    images_named: ImagesNamed = "predicted"
    has_background: bool = False


FORMATS: Mapping[str, Format] = MappingProxyType(
    {
        "coco": Format(CocoOptions),
        "csv": Format(TableOptions),
        "jsonl": Format(TableOptions),
        "kitti": Format(ObjectOptions, files_in_folder="*.txt", images_named="one"),
        "lightly": Format(
            ObjectOptions,
            files_in_folder="**/*.json",
            schema_file="schema.json",
            images_named="one",
        ),
        "megadetector": Format(ObjectOptions, images_named="seen"),
        "npy": Format(NpyOptions),
        "npz": Format(NpzOptions),
        "open_images": Format(ObjectOptions),
        "parquet": Format(TableOptions),
        "rvc": Format(RvcOptions, images_named="seen", has_background=True),
        "yolo": Format(
            YoloOptions, files_in_folder="*.txt", images_named="one", has_background=True
        ),
    }
)
"""The formats by name, which is also the name of the reader's module."""


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
    from dagster_active_learning.readers.stream import DEFAULT_BATCH_ROWS, open_stream

    checked = reader_options(format, options)
    if batch_rows is not None and batch_rows < 1:
        raise ValueError(f"batch_rows must be at least 1, got {batch_rows}")
    reader = import_module(f"{__name__}.{format}")
    known = FORMATS[format]
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


def find_files(path: str | PathLike[str], files_in_folder: str | None = None) -> list[Path]:
    """The regular files a path or a glob stands for, each once, in the order of their names.

    Raises:
        PredictionReadError: If there is none, one is a folder, a pipe or a device, or a folder in
            which the glob looks for files cannot be read.
    """
    try:
        folder = files_in_folder is not None and Path(path).is_dir()
        files = _matching(Path(path), files_in_folder if folder else None)
        modes = [file.stat().st_mode for file in files]
    except (OSError, ValueError) as error:  # ValueError: NUL in a path
        raise PredictionReadError(f"{path} cannot be read: {error}") from error
    if not files:
        found = f"holds no {files_in_folder} files" if folder else "does not exist"
        raise PredictionReadError(
            f"{path} {found}: expected a file, or a glob that matches at least one"
        )
    for file, mode in zip(files, modes, strict=True):
        if not stat.S_ISREG(mode):
            kind = "a folder" if stat.S_ISDIR(mode) else "not a regular file"
            raise PredictionReadError(
                f"{file} is {kind}: expected a file, or a glob such as {file / '*'}"
            )
    return files


def _matching(path: Path, files_in_folder: str | None) -> list[Path]:
    if files_in_folder is None and path.exists():
        return [path]
    pattern = (
        str(path) if files_in_folder is None else f"{glob.escape(str(path))}/{files_in_folder}"
    )
    _check_folders(Path(pattern))
    # With ``**`` twice in a pattern, glob finds a file twice.
    return [Path(one) for one in sorted(set(glob.glob(pattern, recursive=True)))]


def _check_folders(pattern: Path) -> None:
    """Raise OSError if glob would take a folder for empty because it is not allowed to look in."""
    for parent, name in zip(pattern.parents, reversed(pattern.parts), strict=False):
        for folder in glob.glob(f"{parent}/", recursive=True):
            if glob.has_magic(name):
                os.scandir(folder).close()
            elif glob.has_magic(str(parent)):
                os.stat(f"{folder}.")
