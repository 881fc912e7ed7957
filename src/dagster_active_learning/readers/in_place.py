"""Parquet files that are not copied: what of them can be shown as predictions where they are.

A view of DuckDB shows the predictions then, so that the files' columns have to hold them as they
are: what a reader would compute, such as numbers from text, cannot be seen in a view.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
from fsspec.core import url_to_fs

from dagster_active_learning.errors import PredictionReadError
from dagster_active_learning.files.addresses import is_address, shown_address, with_account
from dagster_active_learning.files.answers import answers, named_errors
from dagster_active_learning.files.file_sets import find_file_sets
from dagster_active_learning.files.in_place import FileInPlace, check_all
from dagster_active_learning.readers import read_predictions, reader_options
from dagster_active_learning.readers.columns import is_list, is_number
from dagster_active_learning.readers.formats.parquet import (
    FOOTER_ERRORS,
    open_file,
    parquet_file,
    read_columns,
)
from dagster_active_learning.readers.options import TableOptions
from dagster_active_learning.readers.stream import PredictionPart, PredictionStream, open_stream
from dagster_active_learning.readers.tables import Layout, class_names_in_metadata, find_columns
from dagster_active_learning.text import describe_names

OF_DUCKDB = ("file_index", "file_row_number", "filename", "position of row")
"""Columns that a view over files has beside those of the files."""


@dataclass(frozen=True)
class ParquetInPlace:
    """A Parquet file, and what its footer says.

    Attributes:
        file: The file.
        source: Its name in tables.
        row_count: Number of its rows.
        ids: The lowest and the highest image id; None where the footer does not say it.
    """

    file: FileInPlace
    source: str
    row_count: int
    ids: tuple[Any, Any] | None


@dataclass(frozen=True)
class SourceInPlace:
    """Parquet files that are one source of predictions.

    Attributes:
        stream: Their predictions, in the order of the files.
        files: The files.
        options: The options of the reader.
        layout: The columns of each file.
    """

    stream: PredictionStream
    files: tuple[ParquetInPlace, ...]
    options: dict[str, Any]
    layout: Layout

    @property
    def may_share_images(self) -> bool:
        """Whether two files may have rows about one image, by what their footers say."""
        filled = [file for file in self.files if file.row_count]
        if len(filled) < 2:
            return False
        ranges = [file.ids for file in filled if file.ids is not None]
        if len(ranges) < len(filled) or len({type(low) for low, _ in ranges}) > 1:
            return True
        ranges.sort()
        return any(low <= high for (_, high), (low, _) in itertools.pairwise(ranges))


def open_in_place(path: str, *, within: str | None = None, **options: Any) -> SourceInPlace:
    """Open Parquet files to be read where they are; of each only the footer is read.

    Args:
        path: A file or a glob, local or an address such as ``"s3://bucket/*.parquet"``.
        within: As ``read_predictions`` takes it.
        options: Those of ``TableOptions``.

    Raises:
        PredictionReadError: If there is no such file, one is no Parquet file, their columns are
            not alike, or what they hold can only be seen when it is computed.
    """
    if is_address(path):
        files = [*answers(FileInPlace.now_at, _addresses(path, within))]
        checked = _table_options(options)
        parts = [*answers(lambda file: open_file(file, checked), files)]
        stream = open_stream(shown_address(path), parts)
    else:
        stream = read_predictions(path, format="parquet", within=within, **options)
        files = [FileInPlace.now_at(str(Path(part.source).absolute())) for part in stream.parts]
    return _source(stream, files, options)


def open_files_in_place(files: Sequence[FileInPlace], **options: Any) -> SourceInPlace:
    """Open the files of a set again, as ``open_in_place`` has found them.

    Raises:
        PredictionReadError: If one is gone, or no longer the one it was.
    """
    check_all(files)
    checked = _table_options(options)
    parts = [*answers(lambda file: open_file(file, checked), files)]
    return _source(open_stream(str(files[0]), parts), list(files), options)


def _source(
    stream: PredictionStream, files: list[FileInPlace], options: dict[str, Any]
) -> SourceInPlace:
    checked = _table_options(options)
    layouts = [*answers(lambda file: _layout(file, checked), files)]
    first, first_kinds, _ = layouts[0]
    for file, (layout, kinds, _) in zip(files, layouts, strict=True):
        if layout != first or kinds != first_kinds:
            raise PredictionReadError(
                f"{file} is not like {files[0]}: {_difference(layout, kinds, first, first_kinds)}; "
                "expected files that are alike where they are read in place; without in_place they "
                "may differ"
            )
    placed = tuple(
        ParquetInPlace(file, part.source, *counted)
        for file, part, (_, _, counted) in zip(files, stream.parts, layouts, strict=True)
    )
    return SourceInPlace(stream, placed, dict(options), first)


def stream_of_file(
    file: FileInPlace,
    options: dict[str, Any],
    class_names: Sequence[str] | None,
    value_type: pa.DataType,
) -> PredictionStream:
    """The predictions of one of the files that ``open_in_place`` has opened.

    Args:
        file: The file.
        options: The options of the reader.
        class_names: Names of the classes of all files, by their number where they have none.
        value_type: The precision of all files.

    Raises:
        PredictionReadError: If the file is no longer the one it was.
    """
    file.check()
    if file.is_local:
        stream = read_predictions(file.path, format="parquet", **options)
    else:
        part: PredictionPart = open_file(file, _table_options(options))
        stream = open_stream(str(file), [part])
    names = None if class_names is None else tuple(class_names)
    return replace(stream, class_names=names, value_type=value_type)


def check_text(file: FileInPlace, options: dict[str, Any]) -> None:
    """Read the text of a file that ``open_in_place`` has opened.

    Raises:
        PredictionReadError: If a value is not UTF-8: over it a view fails.
    """
    layout, _, _ = _layout(file, _table_options(options))
    path = Path(file.path) if file.is_local else file
    names = [layout.image_id, *filter(None, [layout.category])]
    for batch in read_columns(path, names):
        for name, column in zip(names, batch.columns, strict=True):
            try:
                column.validate(full=True)
            except pa.ArrowInvalid:
                raise PredictionReadError(
                    f"{file} cannot be read in place: its column {name!r} has a text that is not "
                    "UTF-8, over which a view over the file fails; write the file anew, or leave "
                    "in_place out to have the row in quarantine"
                ) from None


def _table_options(options: dict[str, Any]) -> TableOptions:
    checked = reader_options("parquet", options)
    if not isinstance(checked, TableOptions):
        raise TypeError(f"expected the options of a table, got {checked!r}")
    return checked


def _addresses(path: str, within: str | None) -> list[str]:
    """The addresses of the files that one with wildcards stands for, in the order of their paths.

    Raises:
        PredictionReadError: If there is none, or the filesystem does not answer.
    """
    shown = shown_address(path)
    if shown != path or "::" in path:
        raise PredictionReadError(
            f"{shown} cannot be read in place: its address has a user, a password or a query, or "
            "is of a file in another file, and would be stored; say in fsspec's configuration or "
            "the environment who may read it, or leave in_place out"
        )
    with named_errors(path):
        found = find_file_sets(path, within=within).get("")
    if found is None:
        raise PredictionReadError(
            f"{shown} does not exist: expected a file, or a glob that matches at least one"
        )
    addresses = [
        with_account(found.filesystem.unstrip_protocol(name), path)
        for name in sorted(found.versions)
    ]
    for address in addresses:
        # The host of sftp://host/may.parquet is no part of a name on it.
        if shown_address(address) != address or url_to_fs(address)[0] != found.filesystem:
            raise PredictionReadError(
                f"{shown_address(address)} cannot be read in place: its name alone does not lead "
                "to it; leave in_place out"
            )
    return addresses


def _layout(
    file: FileInPlace, options: TableOptions
) -> tuple[Layout, dict[str, pa.DataType], tuple[int, tuple[Any, Any] | None]]:
    """The columns of a file, their types, the number of rows and the range of the ids.

    Raises:
        PredictionReadError: If a view cannot show the columns as predictions.
    """
    try:
        with parquet_file(Path(file.path) if file.is_local else file) as opened:
            schema, metadata = opened.schema_arrow, opened.metadata
            paths = [column.path for column in opened.schema]
            if metadata.num_row_groups and options.image_id_column in paths:
                # pyarrow ends the process when it is asked about a column that is encrypted; read
                # from, it is an error.
                ids = [options.image_id_column]
                next(opened.iter_batches(1, row_groups=[0], columns=ids), None)
    except FOOTER_ERRORS as error:
        raise PredictionReadError(f"{file} is not a readable Parquet file: {error}") from error
    layout = find_columns(str(file), schema, options, class_names_in_metadata(str(file), schema))
    if fault := _not_in_view(layout, schema):
        raise PredictionReadError(
            f"{file} cannot be read in place: {fault}, which a view over the file cannot show; "
            "leave in_place out, or write the file with ids as text and class probabilities as "
            "lists of floating-point numbers"
        )
    kinds = {name: _kind_in_file(schema.field(name).type) for name in layout.columns}
    one = paths.count(layout.image_id) == 1
    ids = _id_range(metadata, paths.index(layout.image_id)) if one else None
    return layout, kinds, (metadata.num_rows, ids)


def _not_in_view(layout: Layout, schema: pa.Schema) -> str | None:
    """What of a file a reader would have to compute; None if nothing."""
    faults = {
        "it has one row per image and several objects in it": layout.is_row_per_image,
        "it has a single probability per row": layout.is_binary,
        "its class probabilities stand beside the names of the classes": layout.named is not None,
        "its scores are to be changed": layout.score_transform is not None,
        "its boxes are objects with fields": bool(layout.box_fields),
    }
    # DuckDB takes names that differ in case for the same.
    names = Counter(name.lower() for name in schema.names)
    faults |= {
        f"its columns {_alike(name, schema)} are one name for DuckDB": names[name.lower()] > 1
        for name in layout.columns
    }
    faults |= {
        f"it has a column {name!r}, as DuckDB calls what it adds": name.lower() in OF_DUCKDB
        for name in schema.names
    }
    faults |= {
        f"its column {name!r} is of type {schema.field(name).type}": not fits
        for name, fits in _fitting_columns(layout, schema).items()
    }
    return next((fault for fault, is_there in faults.items() if is_there), None)


def _kind_in_file(kind: pa.DataType) -> pa.DataType:
    """The type of a column as Parquet has it, however Arrow has it in memory."""
    if pa.types.is_dictionary(kind):
        return _kind_in_file(kind.value_type)
    if is_list(kind):
        return pa.list_(kind.value_type)
    is_string = pa.types.is_large_string(kind) or pa.types.is_string_view(kind)
    return pa.string() if is_string else kind


def _difference(
    layout: Layout,
    kinds: dict[str, pa.DataType],
    first: Layout,
    first_kinds: dict[str, pa.DataType],
) -> str:
    """What of a file's columns is not as in the first file."""
    for name in dict.fromkeys([*first_kinds, *kinds]):
        if kinds.get(name) != first_kinds.get(name):
            here, there = (each.get(name, "missing") for each in (kinds, first_kinds))
            return f"its column {name!r} is {here}, and there {there}"
    here, there = (describe_names(each.class_names) for each in (layout, first))
    return f"it has {here} as classes, and there are {there}"


def _alike(name: str, schema: pa.Schema) -> str:
    return " and ".join(repr(each) for each in schema.names if each.lower() == name.lower())


def _fitting_columns(layout: Layout, schema: pa.Schema) -> dict[str, bool]:
    """The columns that are read, and whether their types are those of a view."""

    def numbers(name: str, *, in_list: bool) -> pa.DataType:
        kind = schema.field(name).type
        return kind.value_type if in_list and is_list(kind) else kind

    def is_exact(kind: pa.DataType) -> bool:
        # Of a decimal Arrow and DuckDB make floats that differ in the last digit.
        return is_number(kind) and not pa.types.is_decimal(kind)

    fitting: dict[str, bool] = {}
    for name in [layout.image_id, *filter(None, [layout.category])]:
        fitting[name] = pa.types.is_string(_kind_in_file(schema.field(name).type))
    for name in layout.probabilities:
        kind = numbers(name, in_list=not layout.class_columns)
        fitting[name] = pa.types.is_floating(kind)
    for name in layout.bbox:
        fitting[name] = is_exact(numbers(name, in_list=len(layout.bbox) == 1))
    if layout.score is not None:
        fitting[layout.score] = is_exact(schema.field(layout.score).type)
    return fitting


def _id_range(metadata: Any, position: int) -> tuple[Any, Any] | None:
    """The lowest and the highest id that the footer has bounds of; None without one."""
    lows: list[Any] = []
    highs: list[Any] = []
    for group in range(metadata.num_row_groups):
        statistics = metadata.row_group(group).column(position).statistics
        if statistics is None or not statistics.has_min_max:
            return None
        try:
            lows.append(statistics.min)
            highs.append(statistics.max)
        except UnicodeDecodeError:
            return None
    return (min(lows), max(highs)) if lows else None
