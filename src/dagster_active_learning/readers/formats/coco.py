"""Objects in COCO results, and the tables of COCO instances files, read item by item.

A results file is a JSON array of detections, or a JSON object with the array ``annotations`` and
its own tables ``images`` and ``categories``.
"""

from __future__ import annotations

import codecs
import json
import os
import posixpath
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from dagster_active_learning.errors import PredictionReadError
from dagster_active_learning.files.compression import open_binary
from dagster_active_learning.files.versions import content_sha256
from dagster_active_learning.readers.json_blocks import Block, NotPlainError
from dagster_active_learning.readers.json_stream import (
    NoListError,
    UnreadableJsonError,
    block_values,
    json_items,
    plain_blocks,
)
from dagster_active_learning.readers.objects import (
    DetectedObject,
    EmptyImage,
    Finding,
    object_batch,
    object_part,
    transform_scores,
)
from dagster_active_learning.readers.options import CocoOptions
from dagster_active_learning.readers.quarantine import Reason, RejectedRow, in_order, key_fault
from dagster_active_learning.readers.stream import PredictionPart, boxes_array, prediction_batch
from dagster_active_learning.readers.values import (
    as_box,
    as_id,
    as_name,
    as_number,
    boxes_as_xywh,
    read_probabilities,
)
from dagster_active_learning.text import raw_text

if TYPE_CHECKING:
    from dagster_active_learning.readers.json_columns import Names

_NAME_KEYS = {"images": ("file_name", "coco_url", "id"), "categories": ("name",)}
"""The keys, in each table, whose value an id may stand for: the first that the first entry has."""


@dataclass(frozen=True)
class CocoTables:
    """The names of a results file's numbers, by their text; None where no table gives them."""

    images: dict[str, str] | None = None
    categories: dict[str, str] | None = None

    @cached_property
    def ids(self) -> dict[str, tuple[str, ...]]:
        """The ids of the images that a text may stand for, mostly one.

        It is the id itself or the file's name, with or without its folders and its suffix.
        """
        ids: dict[str, tuple[str, ...]] = {}
        for number, name in (self.images or {}).items():
            path = name.replace("\\", "/")
            paths = (name, path, posixpath.basename(path))
            stems = (posixpath.splitext(path)[0] for path in paths)
            for text in dict.fromkeys((number, *paths, *stems)):
                ids[text] = (*ids.get(text, ()), number)
        return ids


def open_file(path: Path, options: CocoOptions) -> PredictionPart:
    """Open one file of COCO results.

    An image_id that is a number is the id of an image. One that is text may also be the name of its
    file, or the stem, where a table has the names. A row without an image_id is about the image of
    its own file_name. A row needs a score or class probabilities, but no box.

    Raises:
        PredictionReadError: If it or the instances file is no COCO file; while it is read also if
            it is cut short.
    """
    rows = "annotations" if first_character(path) == b"{" else None
    instances = None if options.instances is None else Path(options.instances)
    if instances is not None:
        _check_instances(instances)

    has_own_tables = instances is None and rows is not None

    def read_tables() -> CocoTables:
        if instances is not None:
            return _read_tables(instances, required=True)
        return _read_own_tables(path) if has_own_tables else CocoTables()

    def read() -> Iterator[Finding]:
        tables = read_tables()
        without_object = dict.fromkeys(tables.images or ()) if has_own_tables else {}
        for number, row in enumerate(json_items(path, rows, "detections"), start=1):
            detection, images = _read_row(row, number, tables, options.class_names)
            for image in images:
                without_object.pop(image, None)
            yield detection
        for image in without_object:
            yield EmptyImage((tables.images or {})[image])

    def in_columns() -> Iterator[pa.RecordBatch]:
        blocks = plain_blocks(path, rows)
        for first in blocks:
            tables = read_tables()
            without_object = dict.fromkeys(tables.images or ()) if has_own_tables else {}
            first_number = 1
            for block in chain([first], blocks):
                batch, images = _read_block(block, first_number, tables, options)
                for image in images:
                    without_object.pop(image, None)
                first_number += len(batch)
                yield batch
            empty = [EmptyImage((tables.images or {})[image]) for image in without_object]
            if empty:
                yield object_batch(empty, None)
            return
        raise NotPlainError

    return object_part(
        str(path),
        read,
        options,
        class_names=options.class_names,
        bbox_unit="pixel",
        sha256=content_sha256([path] if instances is None else [path, instances]),
        in_columns=in_columns,
    )


def first_character(path: Path) -> bytes:
    """``b"["`` or ``b"{"``, whichever a JSON file begins with.

    Raises:
        PredictionReadError: If it begins with anything else, or cannot be read.
    """
    try:
        with open_binary(path) as opened:
            beginning = opened.read(4096)
    except OSError as error:
        raise PredictionReadError(f"{path} is not a readable COCO file: {error}") from error
    if beginning.startswith((b"\xff\xfe", b"\xfe\xff")) or b"\0" in beginning[:4]:
        raise PredictionReadError(f"{path} is not UTF-8 text: write the JSON file as UTF-8")
    first = beginning.removeprefix(codecs.BOM_UTF8).lstrip()[:1]
    if first not in (b"[", b"{"):
        fault = f"begins with {beginning[:20]!r}" if beginning else "is empty"
        raise PredictionReadError(f"{path} {fault}: expected the JSON of a COCO file")
    return first


def _check_instances(instances: Path) -> None:
    if not os.path.isfile(instances):
        fault = "is no file" if os.path.exists(instances) else "does not exist"
        raise PredictionReadError(
            f"{instances} {fault}: the option instances is the path of a COCO file with the "
            "tables 'images' and 'categories'"
        )
    first_character(instances)


def _read_own_tables(path: Path) -> CocoTables:
    try:
        return _read_tables(path, required=False)
    except UnreadableJsonError:
        # The number of detections tells where the file broke.
        for _ in json_items(path, "annotations", "detections"):
            pass
        raise


def _read_tables(path: Path, *, required: bool) -> CocoTables:
    images, categories = (_read_table(path, table, required=required) for table in _NAME_KEYS)
    _check_file_names(path, images or {})
    return CocoTables(images, categories)


def _read_table(path: Path, table: str, *, required: bool) -> dict[str, str] | None:
    """The names of images or categories by their ids."""
    names: dict[str, str] = {}
    try:
        for position, (number, name, _) in enumerate(table_entries(path, table), start=1):
            if number in names:
                raise PredictionReadError(
                    f"{path}: {table} has the id {number} twice, for {names[number]!r} and, "
                    f"as entry {position}, for {name!r}"
                )
            names[number] = name
    except NoListError:
        if required:
            raise
        return None
    return names


def table_entries(path: Path, table: str) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    """Id, as text, name and all keys of each entry of the table ``images`` or ``categories``.

    The name of an image without a file_name is the last part of its coco_url, or else its id.

    Raises:
        NoListError: If the file has no such table.
        PredictionReadError: If it cannot be read, or an entry has no id, no name or a key twice.
    """
    name_key = None
    for position, entry in enumerate(json_items(path, table, table, _Entry), start=1):
        if name_key is None and isinstance(entry, _Entry):
            given = (key for key in _NAME_KEYS[table] if entry.get(key) is not None)
            name_key = next(given, _NAME_KEYS[table][0])
        where = f"{path}: entry {position} of {table}"
        number = name = None
        if isinstance(entry, _Entry):
            if entry.repeated_key is not None:
                raise PredictionReadError(f"{where} has the key {entry.repeated_key!r} twice")
            number = as_name(entry.get("id"))
            name = number if name_key == "id" else entry.get(name_key or "")
            if name_key == "coco_url" and isinstance(name, str):
                name = posixpath.basename(name)
        if number is None or not isinstance(name, str) or not name:
            text = json.dumps(entry, ensure_ascii=False)[:200]
            raise PredictionReadError(
                f"{where} is {text}: expected an object with an id"
                + ("" if name_key == "id" else f" and a {name_key or _NAME_KEYS[table][0]}")
            )
        yield number, name, entry


class _Entry(dict[str, Any]):
    """A JSON object that remembers a key it was given twice."""

    repeated_key: str | None = None

    def __setitem__(self, key: str, value: Any) -> None:
        if key in self:
            self.repeated_key = key
        super().__setitem__(key, value)


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

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def _read_block(
    block: Block, first_number: int, tables: CocoTables, options: CocoOptions
) -> tuple[pa.RecordBatch, set[str]]:
    """The rows of a block as ``_read_row`` reads them, and the ids of the images they may be about.

    Most are judged in columns; the others one by one.

    Raises:
        NotPlainError: If a row cannot be read.
    """
    from dagster_active_learning.readers.json_columns import (
        find_values,
        read_fours,
        read_names,
        read_numbers,
    )

    keys = ("image_id", "category_id", "score", "bbox", "segmentation", "class_probs")
    (image, category, score, bbox, segmentation, class_probs), known = find_values(block, keys)
    image_ids = read_names(block.text, image)
    category_ids = read_names(block.text, category)
    scores, has_score = read_numbers(block.text, score)
    boxes, has_box = read_fours(block.text, bbox)
    boxes, is_box = boxes_as_xywh(boxes)
    is_box &= has_box
    known &= image_ids.known & category_ids.known & has_score
    known &= (is_box | (bbox[:, 0] < 0)) & (class_probs[:, 0] < 0)

    names, images = image_ids.names, set[str]()
    if tables.images is not None:
        listed, codes = _by_value(image_ids)
        meant = [_meant_images(name, is_text, tables) for name, is_text in listed]
        found = [_known_image(ids, tables) for ids in meant]
        known &= np.array([not isinstance(name, Reason) for name in found])[codes]
        images.update(chain.from_iterable(meant[code] for code in np.unique(codes[known])))
        names = pa.array(found, pa.string()).take(pa.array(codes))
    listed, codes = _by_value(category_ids)
    found = [_category_name(name, tables.categories, options.class_names) for name, _ in listed]
    known &= np.array([name is not None for name in found])[codes]
    categories = pa.array(found, pa.string()).take(pa.array(codes))
    masks: list[str | None] = [None] * len(known)
    for row in np.flatnonzero(known & (segmentation[:, 0] >= 0)).tolist():
        try:
            mask = json.loads(block.text[slice(*segmentation[row])].tobytes()) or None
        except ValueError as error:
            raise NotPlainError from error
        known[row] = mask is None or _is_mask(mask)
        masks[row] = None if mask is None else json.dumps(mask, ensure_ascii=False)

    rows = np.flatnonzero(known)
    batch = prediction_batch(
        len(rows),
        **{
            name: column if len(rows) == len(known) else column.take(pa.array(rows))
            for name, column in {
                "image_id": names,
                "class_probs": pa.nulls(len(known), pa.list_(pa.float64())),
                "score": pa.array(transform_scores(scores, options.score_transform)),
                "category": categories,
                "bbox": boxes_array(boxes, is_box),
                "segmentation": pa.array(masks, pa.string()),
                "row_number": pa.array(np.arange(first_number, first_number + len(known))),
            }.items()
        },
    )
    if len(rows) == len(known):
        return batch, images
    others = np.flatnonzero(~known)
    findings: list[Finding] = []
    values = block_values(block._replace(starts=block.starts[others], stops=block.stops[others]))
    for number, row in zip((first_number + others).tolist(), values, strict=True):
        finding, seen = _read_row(row, number, tables, options.class_names)
        findings.append(finding)
        images.update(seen)
    return in_order([batch, object_batch(findings, options.score_transform)]), images


def _by_value(ids: Names) -> tuple[list[tuple[str, bool]], npt.NDArray[np.int64]]:
    """Each id once, with whether it is a text, and for each row the position of its id there."""
    encoded = ids.names.dictionary_encode()
    codes = encoded.indices.to_numpy().astype(np.int64) * 2 + ids.is_text
    different = np.flatnonzero(np.bincount(codes))
    positions = np.zeros(2 * len(encoded.dictionary), np.int64)
    positions[different] = np.arange(len(different))
    names = encoded.dictionary.to_pylist()
    return [(names[code // 2], bool(code % 2)) for code in different.tolist()], positions[codes]


def _read_row(
    row: Any, number: int, tables: CocoTables, class_names: Sequence[str] | None
) -> tuple[Finding, tuple[str, ...]]:
    """A detection, or why it is none, and the ids of the images that it may be about."""
    if not isinstance(row, dict):
        return RejectedRow(number, Reason.NO_OBJECT, raw_text(row)), ()
    has_own_name = row.get("image_id") is None and isinstance(row.get("file_name"), str)
    given = row.get("file_name" if has_own_name else "image_id")
    image_id = as_name(given)
    images = () if image_id is None else (image_id,)
    try:
        if image_id is None:
            raise _FaultError(as_id(given) if "image_id" in row else key_fault(row, "image_id"))
        if tables.images is not None:
            images = _meant_images(image_id, isinstance(given, str), tables)
            known = _known_image(images, tables)
            if isinstance(known, Reason):
                raise _FaultError(known)
            image_id = known
        category = as_name(row.get("category_id"))
        if category is None:
            raise _FaultError(key_fault(row, "category_id"))
        category = _category_name(category, tables.categories, class_names)
        if category is None:
            raise _FaultError(Reason.UNKNOWN_CATEGORY)
        return _detection(row, number, image_id, category), images
    except _FaultError as fault:
        return RejectedRow(number, fault.reason, raw_text(row), image_id), images


def _meant_images(image_id: str, is_text: bool, tables: CocoTables) -> tuple[str, ...]:
    """The ids of the images that an image_id may stand for: as text it may be a name."""
    return tables.ids.get(image_id, (image_id,)) if is_text else (image_id,)


def _known_image(images: tuple[str, ...], tables: CocoTables) -> str | Reason:
    """The name of the one image in the tables, or why there is none."""
    if len(images) > 1:
        return Reason.AMBIGUOUS_IMAGE
    known = [name for image in images if (name := (tables.images or {}).get(image)) is not None]
    return known[0] if known else Reason.UNKNOWN_IMAGE


def _category_name(
    number: str, categories: dict[str, str] | None, class_names: Sequence[str] | None
) -> str | None:
    """The name of a category; None if it is not known."""
    name = number if categories is None else categories.get(number)
    return None if class_names is not None and name not in class_names else name


def _detection(row: dict[str, Any], number: int, image_id: str, category: str) -> DetectedObject:
    score, class_probs = row.get("score"), row.get("class_probs")
    if score is None:
        if class_probs is None:
            raise _FaultError(Reason.SCORE_NULL)
    elif (score := as_number(score)) is None:
        raise _FaultError(Reason.SCORE_NOT_NUMBER)
    bbox, segmentation = row.get("bbox"), row.get("segmentation") or None
    if bbox is not None:
        bbox = as_box(bbox)
        if isinstance(bbox, Reason):
            raise _FaultError(bbox)
    if segmentation is not None and not _is_mask(segmentation):
        raise _FaultError(key_fault(row, "segmentation"))
    if class_probs is not None:
        class_probs = read_probabilities(class_probs)
        if isinstance(class_probs, Reason):
            raise _FaultError(class_probs)
    return DetectedObject(
        row_number=number,
        image_id=image_id,
        score=score,
        class_probs=class_probs,
        category=category,
        bbox=bbox,
        segmentation=None if segmentation is None else json.dumps(segmentation, ensure_ascii=False),
    )


def _is_mask(segmentation: Any) -> bool:
    """True for polygons and for a run-length encoding."""
    if isinstance(segmentation, dict):
        return "counts" in segmentation and "size" in segmentation
    return isinstance(segmentation, list)
