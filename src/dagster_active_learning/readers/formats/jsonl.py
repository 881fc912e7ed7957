"""Predictions in JSON Lines files, or in arrays of flat objects, read some at a time."""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from dagster_active_learning.errors import PredictionReadError
from dagster_active_learning.files.compression import open_binary
from dagster_active_learning.files.versions import content_sha256
from dagster_active_learning.limits import SMALL_BATCH_ROWS
from dagster_active_learning.readers.image_rows import (
    columns_of_objects,
    objects_of_row,
    sample_has_row_per_image,
)
from dagster_active_learning.readers.json_stream import json_items
from dagster_active_learning.readers.named_probabilities import (
    frequent_names,
    in_class_order,
    named_numbers,
)
from dagster_active_learning.readers.objects import EmptyImage
from dagster_active_learning.readers.options import TableOptions, find_class_columns
from dagster_active_learning.readers.quarantine import Reason, RejectedRow
from dagster_active_learning.readers.stream import PredictionPart
from dagster_active_learning.readers.tables import (
    Layout,
    TableBatch,
    check_column_count,
    table_part,
)
from dagster_active_learning.readers.text_lines import as_float, bounded_lines
from dagster_active_learning.readers.values import as_id, as_name, as_number, four_numbers
from dagster_active_learning.text import is_utf8, raw_text

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
        lines = _lines_of(path, options)
    except OSError as error:
        raise PredictionReadError(f"{path} is not a readable JSON Lines file: {error}") from error
    samples = lines.samples
    names = list(samples)
    if options.score_column is not None and not options.one_column_per_class:
        # Where every object has a score, only some may have class probabilities, and late ones.
        names = list(dict.fromkeys([*names, options.class_probs_column]))
    kind = pa.float64() if options.one_column_per_class else pa.list_(pa.float64())
    if (
        options.single_probability
        and as_number(samples.get(options.class_probs_column)) is not None
    ):
        kind = pa.float64()
    kinds = dict.fromkeys(names, kind) | _object_columns(options, samples)
    kinds[options.image_id_column] = pa.string()

    def read(layout: Layout) -> Iterator[TableBatch]:
        rows = 0
        try:
            for items in _item_blocks(object_lines(path), lines, layout):
                yield _table_batch(items, layout)
                rows += sum(not isinstance(item, EmptyImage) for item in items)
        except OSError as error:
            raise PredictionReadError(f"{path} cannot be read after row {rows}: {error}") from error

    return table_part(
        str(path),
        pa.schema([(name, kinds[name]) for name in names]),
        options,
        read,
        sha256=sha256,
        class_names_in_file=lines.class_names,
    )


@dataclass(frozen=True)
class _Row:
    """A row with its number, and the values of one object or image by column."""

    row_number: int
    values: dict[str, Any]


_Item = _Row | RejectedRow | EmptyImage


@dataclass(frozen=True)
class _Lines:
    """The meaning of a file's lines, as the first of them show it.

    Attributes:
        samples: The keys, each with the first value that is not null or empty, of one object.
        options: Which keys hold what.
        lists: The keys that hold one element per object where a line is about an image; else none.
        scored: Those of them with scores or class probabilities.
        class_names: The names of the classes where class probabilities have them; else None.
    """

    samples: Mapping[str, Any]
    options: TableOptions
    lists: tuple[str, ...] = ()
    scored: tuple[str, ...] = ()
    class_names: tuple[str, ...] | None = None

    def objects(self, row: dict[str, Any]) -> list[dict[str, Any]] | Reason:
        """The row itself, or its objects where it is about an image, or why there are none."""
        return objects_of_row(row, self.lists, self.scored) if self.lists else [row]

    @cached_property
    def texts(self) -> frozenset[str]:
        """The keys of numbers whose first value is text: their numbers are text, as in CSV."""
        numbers = {self.options.score_column, *(self.options.bbox_columns or ())}
        numbers |= find_class_columns(list(self.samples), self.options).keys()
        return frozenset(name for name in numbers if name and type(self.samples.get(name)) is str)

    def fault(self, row: dict[str, Any], layout: Layout) -> str | None:
        """Make a row's values those of ``layout``, or tell why they are not."""
        for name in self.texts:
            if type(row.get(name)) is str:
                row[name] = _number_in(row[name])
        if self.class_names is not None:
            name = self.options.class_probs_column
            values = in_class_order(row.get(name), self.class_names)
            if isinstance(values, Reason):
                return _wrong_id(row, layout) or values
            row[name] = values
        fault = _wrong_type(row, layout)
        return Reason.LATE_CLASS if fault is None and self._has_late_class(row) else fault

    def _has_late_class(self, row: dict[str, Any]) -> bool:
        if self.options.class_columns is not None or row.keys() <= self.samples.keys():
            return False
        late = list(row.keys() - self.samples.keys())
        return bool(find_class_columns(late, self.options))


def _lines_of(path: Path, options: TableOptions) -> _Lines:
    """The meaning of the lines of a file.

    Raises:
        OSError: If it cannot be read.
        PredictionReadError: If the first lines hold no object, or more keys than there may be.
    """
    lines = _Lines(_samples(path, _first_rows(path)), options)
    if not lines.samples:
        raise PredictionReadError(
            f"{path} holds no predictions: expected UTF-8 text with a JSON object on at least one "
            "line"
        )

    def first_objects() -> Iterator[dict[str, Any]]:
        for row in _first_rows(path):
            objects = lines.objects(row)
            yield from () if isinstance(objects, Reason) else objects

    if sample_has_row_per_image(lines.samples, options):
        scored, others = columns_of_objects(list(lines.samples), options)
        lines = replace(lines, lists=(*scored, *others), scored=tuple(scored))
        lines = replace(
            lines, samples=dict.fromkeys(lines.samples) | _samples(path, first_objects())
        )
    listed = lines.samples.get(options.class_probs_column)
    if not options.one_column_per_class and _may_have_names(listed):
        numbers = (named_numbers(row.get(options.class_probs_column)) for row in first_objects())
        names = options.class_names or frequent_names([list(row or ()) for row in numbers])
        lines = replace(lines, class_names=tuple(names or ()))
    return lines


def _first_rows(path: Path) -> Iterator[dict[str, Any]]:
    for line in islice(object_lines(path), LINES_SEARCHED_FOR_KEYS):
        row = _parse(line)
        if row is not None:
            yield row


def _may_have_names(value: object) -> bool:
    """True for a mapping, and for a list of objects."""
    return type(value) is dict or (type(value) is list and type(next(iter(value), None)) is dict)


def _object_columns(options: TableOptions, samples: Mapping[str, Any]) -> dict[str, pa.DataType]:
    """The types of the columns of objects, which ``_wrong_type`` makes sure of."""
    box = samples.get(options.bbox_column or "")
    box_type = (
        pa.struct(dict.fromkeys(filter(is_utf8, box), pa.float64()))
        if box and type(box) is dict
        else pa.list_(pa.float64())
    )
    return {
        **({options.score_column: pa.float64()} if options.score_column else {}),
        **({options.category_column: pa.string()} if options.category_column else {}),
        **({options.bbox_column: box_type} if options.bbox_column else {}),
        **dict.fromkeys(options.bbox_columns or (), pa.float64()),
    }


def _samples(path: Path, rows: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """The keys of some rows, each with its first value that is not null or an empty list.

    Keys that are not text that Arrow can hold are left out.
    """
    samples: dict[str, Any] = {}
    for row in rows:
        for name, value in row.items():
            if samples.get(name) in (None, [], {}):
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


def _item_blocks(lines: Iterable[bytes], meaning: _Lines, layout: Layout) -> Iterator[list[_Item]]:
    """The rows of some lines, numbered from 1, some at a time."""
    row_number = 1
    for block in line_blocks(lines):
        items: list[_Item] = []
        for line in block:
            for item in _items(line, row_number, meaning, layout):
                row_number += not isinstance(item, EmptyImage)
                items.append(item)
                # An image may have more objects than there are lines in a block.
                if len(items) >= BLOCK_ROWS:
                    yield items
                    items = []
        yield items


def _items(line: bytes, row_number: int, meaning: _Lines, layout: Layout) -> Iterator[_Item]:
    """The rows of a line; ``row_number`` is that of the first."""
    row = _parse(line)
    objects = Reason.UNREADABLE_LINE if row is None else meaning.objects(row)
    image_id = None if row is None else as_name(row.get(layout.image_id))
    if row is not None and meaning.lists:
        objects = _wrong_id(row, layout, required=True) or objects
    if isinstance(objects, str):
        yield RejectedRow(row_number, objects, _text(line), image_id)
        return
    if not objects and image_id is not None:
        yield EmptyImage(image_id)
    for number, values in enumerate(objects, start=row_number):
        raw = raw_text(values) if meaning.lists else None
        fault = meaning.fault(values, layout)
        if fault is None:
            yield _Row(number, values)
        else:
            yield RejectedRow(number, fault, raw or _text(line), image_id)


def _text(line: bytes) -> str:
    return line.decode("utf-8", errors="backslashreplace").rstrip("\r\n")


def _table_batch(items: Sequence[_Item], layout: Layout) -> TableBatch:
    rows = [item for item in items if isinstance(item, _Row)]
    values = [row.values for row in rows]
    columns = [_column(values, name, layout) for name in layout.columns]
    return TableBatch(
        pa.RecordBatch.from_arrays(columns, names=layout.columns),
        np.array([row.row_number for row in rows], dtype=np.int64),
        [item for item in items if isinstance(item, RejectedRow)],
        [item.image_id for item in items if isinstance(item, EmptyImage)],
    )


def _column(rows: Sequence[dict[str, Any]], name: str, layout: Layout) -> pa.Array:
    values = [row.get(name) for row in rows]
    if name in (layout.image_id, layout.category):
        return pa.array([as_name(value) for value in values], pa.string())
    if name == layout.score or (name in layout.bbox and len(layout.bbox) > 1):
        # Arrow refuses integers that a float64 cannot hold; as_number makes them infinite.
        return pa.array([as_number(value) for value in values], pa.float64())
    if layout.box_fields and name in layout.bbox:
        # Odd ones are those of rows that lack an id or a score, and are rejected for that.
        boxes = [
            {field: as_number(value.get(field)) for field in layout.box_fields}
            if type(value) is dict
            else None
            for value in values
        ]
        return pa.array(boxes, pa.struct(dict.fromkeys(layout.box_fields, pa.float64())))
    if name in layout.bbox:
        return pa.array([four_numbers(value) for value in values], pa.list_(pa.float64()))
    kind = pa.float64() if layout.class_columns else pa.list_(pa.float64())
    return pa.array(values, kind)


def _wrong_type(row: dict[str, Any], layout: Layout) -> str | None:
    """The reason why a row's values do not fit the columns, or None; nulls are judged later."""
    return (
        _wrong_id(row, layout)
        or _wrong_score(row, layout)
        or _wrong_probabilities(row, layout)
        or _wrong_box(row, layout)
    )


def _wrong_id(row: dict[str, Any], layout: Layout, *, required: bool = False) -> Reason | None:
    """The reason why the id of a row does not fit its column, or is missing where it must not."""
    image_id = as_id(row.get(layout.image_id))
    if not isinstance(image_id, Reason):
        return None
    return image_id if required or image_id != Reason.IMAGE_ID_NULL else None


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
