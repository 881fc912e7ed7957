"""Predictions in JSON Lines files, or in arrays of flat objects, read some at a time."""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from dagster_active_learning.errors import PredictionReadError
from dagster_active_learning.files.compression import open_binary
from dagster_active_learning.files.versions import content_sha256
from dagster_active_learning.limits import SMALL_BATCH_ROWS
from dagster_active_learning.readers.json_stream import json_items
from dagster_active_learning.readers.options import TableOptions
from dagster_active_learning.readers.quarantine import Reason, RejectedRow
from dagster_active_learning.readers.stream import PredictionPart
from dagster_active_learning.readers.tables import (
    Layout,
    TableBatch,
    check_column_count,
    find_class_columns,
    table_part,
)
from dagster_active_learning.readers.text_lines import as_float, bounded_lines
from dagster_active_learning.readers.values import as_id, as_name, as_number, four_numbers
from dagster_active_learning.text import is_utf8

BLOCK_BYTES = 8 * 2**20
BLOCK_ROWS = SMALL_BATCH_ROWS
"""Lines parsed at a time, in bytes of text and in number: a rejected row of one character takes 400
bytes."""

LINES_SEARCHED_FOR_KEYS = 1_000

BEGINNING_BYTES = 4_096
ARRAY_OF_OBJECTS = re.compile(rb"\s*\[\s*(\{|\]\s*$|$)")


def open_file(path: Path, options: TableOptions) -> PredictionPart:
    """Open one JSON Lines file: one object per line, its keys being the columns of a table.

    A file that is one JSON array of objects, as pandas and many tools write it, is read as if each
    object stood on a line. A column whose first value is text has its numbers as text, as in CSV.

    Rows are the lines that are not blank, counted from 1. The keys of the first
    ``LINES_SEARCHED_FOR_KEYS`` lines decide which columns there are; a key that a later line
    lacks is null there, and a later line with a class of its own is rejected.

    Raises:
        PredictionReadError: If no line holds a JSON object, or none has the keys asked for.
    """
    sha256 = content_sha256([path])
    try:
        samples = _samples(path, islice(object_lines(path), LINES_SEARCHED_FOR_KEYS))
    except OSError as error:
        raise PredictionReadError(f"{path} is not a readable JSON Lines file: {error}") from error
    names = list(samples)
    if not names:
        raise PredictionReadError(
            f"{path} holds no predictions: expected UTF-8 text with a JSON object on at least one "
            "line"
        )
    if options.score_column is not None and not options.one_column_per_class:
        # Where every object has a score, only some may have class probabilities, and late ones.
        names = list(dict.fromkeys([*names, options.class_probs_column]))
    keys = frozenset(names)
    kind = pa.float64() if options.one_column_per_class else pa.list_(pa.float64())
    if (
        options.single_probability
        and as_number(samples.get(options.class_probs_column)) is not None
    ):
        kind = pa.float64()
    kinds = dict.fromkeys(names, kind) | _object_columns(options, samples)
    kinds[options.image_id_column] = pa.string()

    columns_of_numbers = {options.score_column, *(options.bbox_columns or ())}
    columns_of_numbers |= find_class_columns(names, options).keys()
    as_text = {name for name in columns_of_numbers if name and type(samples.get(name)) is str}

    def parse(line: bytes) -> dict[str, Any] | None:
        row = _parse(line)
        if row is not None:
            for name in as_text:
                if type(row.get(name)) is str:
                    row[name] = _number_in(row[name])
        return row

    def has_late_class(row: dict[str, Any]) -> bool:
        if options.class_columns is not None or row.keys() <= keys:
            return False
        return bool(find_class_columns(list(row.keys() - keys), options))

    def read(layout: Layout) -> Iterator[TableBatch]:
        rows_before = 0
        try:
            for lines in line_blocks(object_lines(path)):
                yield _table_batch(lines, rows_before + 1, layout, parse, has_late_class)
                rows_before += len(lines)
        except OSError as error:
            raise PredictionReadError(
                f"{path} cannot be read after row {rows_before}: {error}"
            ) from error

    return table_part(
        str(path),
        pa.schema([(name, kinds[name]) for name in names]),
        options,
        read,
        sha256=sha256,
    )


def _object_columns(options: TableOptions, samples: Mapping[str, Any]) -> dict[str, pa.DataType]:
    """The types of the columns of objects, which ``_wrong_type`` makes sure of."""
    box = samples.get(options.bbox_column or "")
    box_type = (
        pa.struct(dict.fromkeys(box, pa.float64()))
        if box and type(box) is dict
        else pa.list_(pa.float64())
    )
    return {
        **({options.score_column: pa.float64()} if options.score_column else {}),
        **({options.category_column: pa.string()} if options.category_column else {}),
        **({options.bbox_column: box_type} if options.bbox_column else {}),
        **dict.fromkeys(options.bbox_columns or (), pa.float64()),
    }


def _samples(path: Path, lines: Iterable[bytes]) -> dict[str, Any]:
    """The keys of the objects in some lines, each with its first value that is not null.

    Keys that are not text that Arrow can hold are left out.
    """
    samples: dict[str, Any] = {}
    for line in lines:
        for name, value in (_parse(line) or {}).items():
            if samples.get(name) is None:
                samples[name] = value
        check_column_count(path, len(samples))
    return {name: value for name, value in samples.items() if is_utf8(name)}


def object_lines(path: Path) -> Iterator[bytes]:
    """The lines of a JSON Lines file, or the elements of a JSON array as such lines.

    Raises:
        OSError: If the file cannot be read.
        PredictionReadError: If a line is too long, or the array is not complete.
    """
    with open_binary(path) as lines:
        beginning = lines.read(BEGINNING_BYTES).removeprefix(codecs.BOM_UTF8)
    if ARRAY_OF_OBJECTS.match(beginning):
        for element in json_items(path, None, "rows"):
            yield json.dumps(element).encode() + b"\n"
        return
    with open_binary(path) as lines:
        yield from bounded_lines(path, lines)


def _number_in(text: str) -> object:
    """The number that a text holds, None for no text; the text itself if it holds none."""
    if not text.strip():
        return None
    number = as_float(text.encode(errors="replace"))
    return text if number is None else number


def line_blocks(lines: Iterable[bytes]) -> Iterator[list[bytes]]:
    """The lines that are not blank, some at a time."""
    block: list[bytes] = []
    size = 0
    for line in lines:
        if line.strip():
            block.append(line)
            size += len(line)
        if size >= BLOCK_BYTES or len(block) >= BLOCK_ROWS:
            yield block
            block, size = [], 0
    yield block


def _parse(line: bytes) -> dict[str, Any] | None:
    """The line's object, or None where it holds none."""
    try:
        # From bytes, json would guess an encoding for each line: UTF-16 too, by its zeros.
        row = json.loads(line.decode("utf-8-sig"))
    except (ValueError, RecursionError):
        return None
    return row if isinstance(row, dict) else None


def _table_batch(
    lines: Sequence[bytes],
    first_row: int,
    layout: Layout,
    parse: Callable[[bytes], dict[str, Any] | None],
    has_late_class: Callable[[dict[str, Any]], bool],
) -> TableBatch:
    rows: list[dict[str, Any]] = []
    row_numbers: list[int] = []
    rejected: list[RejectedRow] = []
    for row_number, line in enumerate(lines, start=first_row):
        row = parse(line)
        reason = Reason.UNREADABLE_LINE if row is None else _wrong_type(row, layout)
        if row is not None and reason is None and has_late_class(row):
            reason = Reason.LATE_CLASS
        if row is None or reason is not None:
            text = line.decode("utf-8", errors="backslashreplace").rstrip("\r\n")
            image_id = None if row is None else as_name(row.get(layout.image_id))
            rejected.append(
                RejectedRow(row_number, reason or Reason.UNREADABLE_LINE, text, image_id)
            )
        else:
            rows.append(row)
            row_numbers.append(row_number)

    columns = [_column(rows, name, layout) for name in layout.columns]
    return TableBatch(
        pa.RecordBatch.from_arrays(columns, names=layout.columns),
        np.array(row_numbers, dtype=np.int64),
        rejected,
    )


def _column(rows: Sequence[dict[str, Any]], name: str, layout: Layout) -> pa.Array:
    values = [row.get(name) for row in rows]
    if name in (layout.image_id, layout.category):
        return pa.array([as_name(value) for value in values], pa.string())
    if name == layout.score or (name in layout.bbox and len(layout.bbox) > 1):
        # Arrow refuses integers that a float64 cannot hold; as_number makes them infinite.
        return pa.array([as_number(value) for value in values], pa.float64())
    if layout.box_fields and name in layout.bbox:
        boxes = [
            value and {field: as_number(value[field]) for field in layout.box_fields}
            for value in values
        ]
        return pa.array(boxes, pa.struct(dict.fromkeys(layout.box_fields, pa.float64())))
    if name in layout.bbox:
        return pa.array([four_numbers(value) for value in values], pa.list_(pa.float64()))
    kind = pa.float64() if layout.class_columns else pa.list_(pa.float64())
    return pa.array(values, kind)


def _wrong_type(row: dict[str, Any], layout: Layout) -> str | None:
    """The reason why a row's values do not fit the columns, or None; nulls are judged later."""
    image_id = as_id(row.get(layout.image_id))
    if isinstance(image_id, Reason) and image_id != Reason.IMAGE_ID_NULL:
        return image_id
    return _wrong_score(row, layout) or _wrong_probabilities(row, layout) or _wrong_box(row, layout)


def _wrong_score(row: dict[str, Any], layout: Layout) -> str | None:
    """The reason why the score and the category of an object do not fit their columns, or None."""
    score = None if layout.score is None else row.get(layout.score)
    if score is not None and as_number(score) is None:
        return Reason.SCORE_NOT_NUMBER
    category = None if layout.category is None else row.get(layout.category)
    if category is None or category == "":
        return None
    return Reason.UNKNOWN_CATEGORY if as_name(category) is None else None


def _wrong_box(row: dict[str, Any], layout: Layout) -> str | None:
    """The reason why the box of an object does not fit its columns, or None."""
    box = [row.get(name) for name in layout.bbox]
    if all(value is None for value in box):
        return None
    # What is missing is judged later, but it is worse than a broken box.
    scored = [*layout.probabilities, *([] if layout.score is None else [layout.score])]
    if row.get(layout.image_id) is None or all(row.get(name) is None for name in scored):
        return None
    numbers = box[0] if len(box) == 1 else box
    if layout.box_fields:
        named = numbers if type(numbers) is dict else {}
        numbers = [named.get(field) for field in layout.box_fields]
    return None if four_numbers(numbers) is not None else Reason.BBOX_NOT_FOUR_NUMBERS


def _wrong_probabilities(  # noqa: PLR0911 - a table
    row: dict[str, Any], layout: Layout
) -> str | None:
    """The reason why the class probabilities do not fit their columns, or None."""
    if layout.class_columns:
        numbers = [row.get(name) for name in layout.class_columns]
    else:
        numbers = None if layout.class_probs is None else row.get(layout.class_probs)
        if numbers is None:
            return None
        if type(numbers) is not list:
            return Reason.CLASS_PROBS_NOT_LIST
    if all(type(number) is float for number in numbers):
        return None
    if any(number is not None and type(number) not in (float, int) for number in numbers):
        return Reason.PROBABILITY_NOT_NUMBER
    # Arrow refuses integers that a float64 cannot hold; all of them are out of range anyway.
    integers = [number for number in numbers if type(number) is int]
    if any(number > 1 for number in integers):
        return Reason.ABOVE_ONE
    if any(number < 0 for number in integers):
        return Reason.NEGATIVE
    return None
