"""Formats in, Arrow batches of canonical columns out.

A format is one module here with a function ``open_file(path, options)`` and one line in
``FORMATS``.
"""

from __future__ import annotations

import glob
import stat
from collections.abc import Mapping
from importlib import import_module
from os import PathLike
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from dagster_active_learning.errors import PredictionReadError
from dagster_active_learning.readers.options import NpyOptions, NpzOptions, TableOptions

if TYPE_CHECKING:
    from dagster_active_learning.readers.stream import PredictionStream

ReaderOptions = TableOptions | NpyOptions | NpzOptions

FORMATS: Mapping[str, type[ReaderOptions]] = MappingProxyType(
    {
        "csv": TableOptions,
        "jsonl": TableOptions,
        "npy": NpyOptions,
        "npz": NpzOptions,
        "parquet": TableOptions,
    }
)
"""The formats, each the name of its module, with the options it understands."""


def read_predictions(
    path: str | PathLike[str], *, format: str, batch_rows: int | None = None, **options: Any
) -> PredictionStream:
    """Open prediction files of one format.

    The stream yields ``pyarrow.RecordBatch`` with the columns image_id, class_probs, source,
    row_number (from 1), reason and raw; the last two are null except in rows that are no
    prediction. Never is a whole file in memory.

    Args:
        path: A file, or a glob such as ``"predictions/*.parquet"``; its files are read in the
            order of their names.
        format: One of ``FORMATS``.
        batch_rows: The most rows a batch may hold; what comes out is the same for every value.
        options: The options of the format: see ``TableOptions`` (parquet, csv, jsonl),
            ``NpyOptions`` and ``NpzOptions``.

    Raises:
        ValueError: If the format or an option is unknown.
        PredictionReadError: If there is no such file, or one is not what the format says.

    Example:
        >>> for batch in read_predictions("p.csv", format="csv", class_column_prefix="prob_"):
        ...     print(batch.num_rows)  # doctest: +SKIP
    """
    from dagster_active_learning.readers.stream import DEFAULT_BATCH_ROWS, open_stream

    checked = reader_options(format, options)
    if batch_rows is not None and batch_rows < 1:
        raise ValueError(f"batch_rows must be at least 1, got {batch_rows}")
    reader = import_module(f"{__name__}.{format}")
    parts = [reader.open_file(file, checked) for file in find_files(path)]
    return open_stream(str(path), parts, batch_rows or DEFAULT_BATCH_ROWS)


def reader_options(format: str, options: Mapping[str, Any]) -> ReaderOptions:
    """The options of a format, checked.

    Raises:
        ValueError: If the format or an option is unknown, or an option has a wrong value.
    """
    if format not in FORMATS:
        raise ValueError(f"unknown format {format!r}: expected one of {', '.join(FORMATS)}")
    known = list(FORMATS[format].__dataclass_fields__)
    unknown = [name for name in options if name not in known]
    if unknown:
        raise ValueError(
            f"format {format!r} has no option {unknown[0]!r}: it has {', '.join(known)}"
        )
    return FORMATS[format](**options)


def find_files(path: str | PathLike[str]) -> list[Path]:
    """The regular files a path or a glob stands for, in the order of their names.

    Raises:
        PredictionReadError: If there is none, or one is a folder, a pipe or a device.
    """
    named = Path(path)
    files = (
        [named]
        if named.exists()
        else [Path(one) for one in sorted(glob.glob(str(path), recursive=True))]
    )
    if not files:
        raise PredictionReadError(
            f"{path} does not exist: expected a file, or a glob that matches at least one"
        )
    for file in files:
        if not stat.S_ISREG(file.stat().st_mode):
            kind = "a folder" if file.is_dir() else "not a regular file"
            raise PredictionReadError(
                f"{file} is {kind}: expected a file, or a glob such as {file / '*'}"
            )
    return files
