"""Objects in COCO results, and the tables of COCO instances files, read item by item.

A results file is a JSON array of detections, or a JSON object with the array ``annotations`` and
its own tables ``images`` and ``categories``.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ijson

from dagster_active_learning.errors import PredictionReadError
from dagster_active_learning.readers.json_stream import DEEPEST_NESTING, first_line
from dagster_active_learning.readers.objects import (
    DetectedObject,
    EmptyImage,
    Found,
    as_box,
    as_number,
    object_part,
)
from dagster_active_learning.readers.options import CocoOptions
from dagster_active_learning.readers.reasons import Reason
from dagster_active_learning.readers.stream import PredictionPart, RejectedRow, content_sha256

TOP_LEVEL = ""
"""The name of the array that is the whole file."""


_UTF8_MARK = b"\xef\xbb\xbf"


@dataclass(frozen=True)
class CocoTables:
    """What the numbers of a results file stand for, by their text; None where nothing says it."""

    images: dict[str, str] | None = None
    categories: dict[str, str] | None = None


def open_file(path: Path, options: CocoOptions) -> PredictionPart:
    """Open one file of COCO results.

    Raises:
        PredictionReadError: If it or the instances file is no COCO file; while it is read also if
            it is cut short.
    """
    rows = "annotations" if first_character(path) == b"{" else TOP_LEVEL
    instances = None if options.instances is None else Path(options.instances)
    if instances is not None:
        _check_instances(instances)

    def read() -> Iterator[Found]:
        has_own_tables = instances is None and rows != TOP_LEVEL
        if instances is not None:
            tables = _read_tables(instances, required=True)
        else:
            tables = _read_tables(path, required=False) if has_own_tables else CocoTables()
        without_object = dict.fromkeys(tables.images or ()) if has_own_tables else {}
        arrays = CocoArrays(path, [rows])
        for number, (_, row) in enumerate(arrays, start=1):
            found, image = _read_row(row, number, tables)
            if image is not None:
                without_object.pop(image, None)
            yield found
        if rows not in arrays.item_counts:
            raise PredictionReadError(
                f"{path} is a JSON object without the array 'annotations': expected COCO results, "
                "an array of detections or an object with 'annotations'"
            )
        for image in without_object:
            yield EmptyImage((tables.images or {})[image])

    return object_part(
        str(path),
        read,
        options,
        class_names=options.class_names,
        bbox_unit="pixel",
        sha256=content_sha256([path] if instances is None else [path, instances]),
    )


def first_character(path: Path) -> bytes:
    """``b"["`` or ``b"{"``, whichever a JSON file begins with.

    Raises:
        PredictionReadError: If it begins with anything else, or cannot be read.
    """
    try:
        with path.open("rb") as opened:
            beginning = opened.read(4096)
    except OSError as error:
        raise PredictionReadError(f"{path} is not a readable COCO file: {error}") from error
    if beginning.startswith((b"\xff\xfe", b"\xfe\xff")) or b"\0" in beginning[:4]:
        raise PredictionReadError(f"{path} is not UTF-8 text: write the JSON file as UTF-8")
    first = beginning.removeprefix(_UTF8_MARK).lstrip()[:1]
    if first not in (b"[", b"{"):
        found = f"begins with {beginning[:20]!r}" if beginning else "is empty"
        raise PredictionReadError(f"{path} {found}: expected the JSON of a COCO file")
    return first


class CocoArrays:
    """The items of the arrays of a COCO file, one by one, with the name of their array.

    Only one item is in memory at a time. ijson's own ``items`` would do nearly the same, but keeps
    the path of every level, so that a file of 200 kB that is nothing but brackets takes 25 GB.

    Args:
        path: The file.
        names: The arrays wanted: keys of the JSON object, or ``TOP_LEVEL``.

    Attributes:
        item_counts: How many items each array was found to have so far, also those not wanted.
        repeated_key: A key that an item has twice, if one has.
    """

    def __init__(self, path: Path, names: Collection[str]) -> None:
        self.path = path
        self.item_counts: dict[str, int] = {}
        self.repeated_key: str | None = None
        self._names = names

    def __iter__(self) -> Iterator[tuple[str, Any]]:
        """Pairs of the array's name and the item.

        Raises:
            PredictionReadError: If the file is not JSON to its end, or an array is not one.
        """
        try:
            with self.path.open("rb") as opened:
                if opened.read(len(_UTF8_MARK)) != _UTF8_MARK:
                    opened.seek(0)
                events = iter(ijson.basic_parse(opened, use_float=True))
                yield from self._top_level(events)
                for _ in events:  # what follows the value is an error
                    pass
        except ijson.JSONError as error:
            raise self._error(f"{first_line(error)}; expected JSON to its end") from error
        except OSError as error:
            raise self._error(str(error)) from error

    def _top_level(self, events: Iterator[tuple[str, Any]]) -> Iterator[tuple[str, Any]]:
        event, _ = next(events)
        if event == "start_array":
            if TOP_LEVEL not in self._names:
                raise PredictionReadError(
                    f"{self.path} is a JSON array: expected a JSON object with "
                    f"{' and '.join(map(repr, self._names))}"
                )
            yield from self._items(TOP_LEVEL, events)
            return
        for event, name in events:
            if event == "end_map":
                return
            first, value = next(events)
            if first == "start_array":
                if name in self.item_counts:
                    raise self._error(f"it has the key {name!r} twice")
                yield from self._items(name, events)
            elif name in self._names:
                raise self._error(f"{name!r} is no array: expected an array of objects")
            else:
                self._value(first, value, events, build=False)

    def _items(self, name: str, events: Iterator[tuple[str, Any]]) -> Iterator[tuple[str, Any]]:
        wanted = name in self._names
        self.item_counts[name] = 0
        for event, value in events:
            if event == "end_array":
                return
            item = self._value(event, value, events, build=wanted)
            self.item_counts[name] += 1
            if wanted:
                yield name, item

    def _value(
        self, event: str, value: Any, events: Iterator[tuple[str, Any]], *, build: bool
    ) -> Any:
        """The value that begins with an event; None instead of it where it is not to be built."""
        if event not in ("start_map", "start_array"):
            return value
        whole: Any = {} if event == "start_map" else []
        inside = whole
        key = ""
        outer: list[Any] = []
        for inner, scalar in events:
            if inner == "map_key":
                key = scalar
                if build and key in inside:
                    self.repeated_key = key
                continue
            if inner in ("end_map", "end_array"):
                if not outer:
                    return whole
                inside = outer.pop()
                continue
            nested = inner in ("start_map", "start_array")
            item: Any = ({} if inner == "start_map" else []) if nested else scalar
            if build:
                if isinstance(inside, list):
                    inside.append(item)
                else:
                    inside[key] = item
            if nested:
                if len(outer) == DEEPEST_NESTING:
                    raise self._error(f"it is nested more than {DEEPEST_NESTING} levels deep")
                outer.append(inside)
                inside = item
        return whole

    def _error(self, what: str) -> PredictionReadError:
        counts = [
            f"{count} {'detections' if name in (TOP_LEVEL, 'annotations') else name}"
            for name, count in self.item_counts.items()
        ]
        return PredictionReadError(
            f"{self.path} cannot be read after {', '.join(counts) or 'its beginning'}: {what}"
        )


def _check_instances(instances: Path) -> None:
    if not instances.is_file():
        found = "is no file" if instances.exists() else "does not exist"
        raise PredictionReadError(
            f"{instances} {found}: the option instances is the path of a COCO file with the "
            "tables 'images' and 'categories'"
        )
    first_character(instances)


def _read_tables(path: Path, *, required: bool) -> CocoTables:
    """The names of images and categories by their ids."""
    keys = {"images": "file_name", "categories": "name"}
    tables: dict[str, dict[str, str]] = {table: {} for table in keys}
    arrays = CocoArrays(path, list(keys))
    for table, entry in arrays:
        position = arrays.item_counts[table]
        number, name = table_entry(arrays, table, entry, keys[table])
        if number in tables[table]:
            raise PredictionReadError(
                f"{path}: {table} has the id {number} twice, for {tables[table][number]!r} and, "
                f"as entry {position}, for {name!r}"
            )
        tables[table][number] = name
    missing = [table for table in keys if table not in arrays.item_counts]
    if required and missing:
        raise PredictionReadError(
            f"{path} has no table {missing[0]!r}: an instances file has 'images' and 'categories'"
        )
    _check_file_names(path, tables["images"])
    return CocoTables(
        images=None if "images" in missing else tables["images"],
        categories=None if "categories" in missing else tables["categories"],
    )


def table_entry(arrays: CocoArrays, table: str, entry: Any, name_key: str) -> tuple[str, str]:
    """Id, as text, and name of the entry of a table that was just read.

    Raises:
        PredictionReadError: If it has not both, or a key twice.
    """
    where = f"{arrays.path}: entry {arrays.item_counts[table]} of {table}"
    if arrays.repeated_key is not None:
        raise PredictionReadError(f"{where} has the key {arrays.repeated_key!r} twice")
    number = _as_id(entry.get("id")) if isinstance(entry, dict) else None
    name = entry.get(name_key) if isinstance(entry, dict) else None
    if number is None or not isinstance(name, str) or not name:
        raise PredictionReadError(
            f"{where} is {_as_json(entry)[:200]}: expected an object with an id and a {name_key}"
        )
    return number, name


def _check_file_names(path: Path, images: dict[str, str]) -> None:
    """Raise PredictionReadError if two images have one name: they would become one image."""
    ids: dict[str, str] = {}
    for number, name in images.items():
        if name in ids:
            raise PredictionReadError(
                f"{path}: the images {ids[name]} and {number} have the same file_name {name!r}; "
                "image_id is the file_name, which must be another for every image"
            )
        ids[name] = number


class _FaultError(Exception):
    """A row is no detection."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(reason)
        self.reason = reason


def _read_row(row: Any, number: int, tables: CocoTables) -> tuple[Found, str | None]:
    """A detection, or why it is none, and the id it gives its image."""
    if not isinstance(row, dict):
        return RejectedRow(number, Reason.UNREADABLE_OBJECT, _as_json(row)), None
    image = image_id = _as_id(row.get("image_id"))
    try:
        if image is None:
            raise _FaultError(_why_no_id(row))
        if tables.images is not None:
            image_id = tables.images.get(image)
            if image_id is None:
                raise _FaultError(Reason.UNKNOWN_IMAGE)
        return _detection(row, number, image_id or image, tables.categories), image
    except _FaultError as fault:
        return RejectedRow(number, fault.reason, _as_json(row), image_id or image), image


def _why_no_id(row: dict[str, Any]) -> Reason:
    if "image_id" not in row:
        return Reason.UNREADABLE_OBJECT
    return Reason.IMAGE_ID_NULL if row["image_id"] in (None, "") else Reason.IMAGE_ID_NOT_TEXT


def _detection(
    row: dict[str, Any], number: int, image_id: str, categories: dict[str, str] | None
) -> DetectedObject:
    category = _as_id(row.get("category_id"))
    if category is None:
        raise _FaultError(Reason.UNREADABLE_OBJECT)
    if categories is not None:
        if category not in categories:
            raise _FaultError(Reason.UNKNOWN_CATEGORY)
        category = categories[category]
    score, class_probs = row.get("score"), row.get("class_probs")
    if score is None:
        if class_probs is None:
            raise _FaultError(Reason.SCORE_NULL)
    elif (score := as_number(score)) is None:
        raise _FaultError(Reason.SCORE_NOT_NUMBER)
    bbox, segmentation = row.get("bbox"), row.get("segmentation") or None
    if bbox is not None:
        bbox = as_box(bbox)
        if bbox is None:
            raise _FaultError(Reason.BBOX_NOT_FOUR_NUMBERS)
    elif segmentation is None:
        raise _FaultError(Reason.UNREADABLE_OBJECT)
    if segmentation is not None and not _is_mask(segmentation):
        raise _FaultError(Reason.UNREADABLE_OBJECT)
    return DetectedObject(
        row_number=number,
        image_id=image_id,
        score=score,
        class_probs=None if class_probs is None else _numbers(class_probs),
        category=category,
        bbox=bbox,
        segmentation=None if segmentation is None else _as_json(segmentation),
    )


def _numbers(class_probs: Any) -> list[float]:
    if not isinstance(class_probs, list):
        raise _FaultError(Reason.CLASS_PROBS_NOT_LIST)
    if not class_probs:
        raise _FaultError(Reason.CLASS_PROBS_EMPTY)
    numbers: list[float] = []
    for one in class_probs:
        number = as_number(one)
        if number is None:
            missing = one is None
            raise _FaultError(Reason.PROBABILITY_NULL if missing else Reason.PROBABILITY_NOT_NUMBER)
        numbers.append(number)
    return numbers


def _is_mask(segmentation: Any) -> bool:
    """Whether it is polygons or a run-length encoding."""
    if isinstance(segmentation, dict):
        return "counts" in segmentation and "size" in segmentation
    return isinstance(segmentation, list)


def _as_id(value: object) -> str | None:
    """An id as text: it is a number in one tool's files and text in another's."""
    if isinstance(value, bool) or not isinstance(value, (int, str)):
        return None
    return str(value) or None


def _as_json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
