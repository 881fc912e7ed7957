"""Prediction files on a filesystem that fsspec knows: read from a local copy."""

from __future__ import annotations

import glob
import tempfile
import weakref
from dataclasses import replace
from pathlib import Path
from typing import Any

from dagster_active_learning.errors import PredictionReadError
from dagster_active_learning.files.file_sets import (
    FileSet,
    find_file_sets,
    path_on_filesystem,
)
from dagster_active_learning.files.links import content_withheld, named_folder
from dagster_active_learning.files.temporary import TemporaryFolder
from dagster_active_learning.readers import read_predictions, reader_options
from dagster_active_learning.readers.formats import FORMATS, Format
from dagster_active_learning.readers.stream import PredictionStream, with_content_withheld


def read_remote_predictions(
    path: str, *, format: str, within: str | None = None, **options: Any
) -> PredictionStream:
    """Open prediction files at an address such as ``"s3://bucket/predictions/*.parquet"``.

    The files are copied to a temporary folder, which goes when the stream is no longer used. The
    stream names the addresses as its sources; arguments are those of ``read_predictions``.

    Raises:
        PredictionReadError: If there is no such file, it cannot be fetched or changes meanwhile, or
            it is not what the format says.
        ImportError: If fsspec needs a further package for the address.
    """
    copies = TemporaryFolder(tempfile.gettempdir(), "dagster_active_learning_")
    try:
        # The ids of npy and rvc, which stand next to the file.
        companion = getattr(reader_options(format, options), "image_ids", None)
        addresses = _fetch(path, copies.path, FORMATS[format], companion, within)
        local = Path(glob.escape(str(copies.path)), path_on_filesystem(path).lstrip("/"))
        # The copy of a local link is a file, and a link none the less.
        is_file = within is None and named_folder(path_on_filesystem(path)) is None
        links = [link for link in map(_local_path, addresses.values()) if link and is_file]
        with content_withheld(links):
            stream = read_predictions(local, format=format, **options)
    except BaseException:
        copies.remove()
        raise
    parts = tuple(
        with_content_withheld(replace(part, source=addresses[part.source]), links)
        for part in stream.parts
    )
    stream = replace(stream, name=path, parts=parts)
    weakref.finalize(stream, copies.remove)
    return stream


def _fetch(
    path: str, folder: Path, format: Format, companion: str | None, within: str | None
) -> dict[str, str]:
    """Copy all files of a path; returns the address of each copy."""

    def find() -> FileSet | None:
        return find_file_sets(
            path,
            files_in_folder=format.files_in_folder,
            companion=companion,
            schema_file=format.schema_file,
            within=within,
        ).get("")

    try:
        files = find()
        addresses = files.download(folder) if files else {}
        changed = find() != files
    except (OSError, ValueError) as error:
        raise PredictionReadError(f"{path} cannot be fetched: {error}") from error
    if not addresses:
        raise PredictionReadError(
            f"{path} does not exist: expected a file, or a glob that matches at least one"
        )
    if changed:
        raise PredictionReadError(
            f"{path} changed while it was fetched: expected files that are complete; write them "
            "under another name and rename them when they are"
        )
    return addresses


def _local_path(address: str) -> str | None:
    """The local path of an address, None for one elsewhere."""
    return address.removeprefix("file://") if address.startswith("file://") else None
