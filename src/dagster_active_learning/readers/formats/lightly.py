"""Lightly predictions: one JSON file per image, and ``schema.json`` above them."""

from __future__ import annotations

import codecs
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from dagster_active_learning.errors import PredictionReadError
from dagster_active_learning.files.compression import SUFFIXES, open_binary
from dagster_active_learning.files.versions import (
    WatchedFile,
    combined_sha256,
    content_sha256,
)
from dagster_active_learning.readers.json_stream import DEEPEST_NESTING, ShallowFile
from dagster_active_learning.readers.objects import (
    BYTES_TOGETHER,
    OBJECTS_PER_BATCH,
    DetectedObject,
    EmptyImage,
    Finding,
    names_in_source,
    object_batch,
    object_part,
)
from dagster_active_learning.readers.options import ObjectOptions
from dagster_active_learning.readers.quarantine import Reason, RejectedRow, key_fault
from dagster_active_learning.readers.stream import Positions, PredictionPart
from dagster_active_learning.readers.values import as_box, as_number, as_whole, read_probabilities
from dagster_active_learning.text import is_utf8, raw_text

SCHEMA_FILE = "schema.json"
PIECE_BYTES = 2**20

TASKS_FILE = "tasks.json"
"""The list of tasks; it stands above the tasks' folders, and a recursive glob finds it."""


@dataclass(frozen=True)
class Schema:
    """The content of ``schema.json``.

    Attributes:
        task: The task's type, for example ``"object-detection"``; empty where it is not given.
        categories: Names of the categories by their id, in class order.
    """

    task: str
    categories: Mapping[int, str]


def open_file(path: Path, options: ObjectOptions) -> PredictionPart:
    """Open the predictions of one image.

    The categories are those of ``schema.json`` in the file's folder, or else in the nearest folder
    above. It and the list of tasks, which a glob finds as well, are parts without rows.
    ``probabilities``, where there are any, are in the order of the schema's categories.

    Raises:
        PredictionReadError: If there is no ``schema.json``, or it is not what it should be.
    """
    if path.name == TASKS_FILE and isinstance(_load(path), list):
        tasks = object_part(
            str(path),
            tuple,
            options,
            class_names=None,
            bbox_unit=None,
            sha256=content_sha256([path]),
        )
        return replace(tasks, empty=True)
    is_schema = path.name == SCHEMA_FILE
    schema_path = path if is_schema else _find_schema(path)
    file = WatchedFile(path)
    file.watch()
    schema_sha256 = content_sha256([schema_path])
    status = schema_path.stat()
    schema = _read_schema(schema_path, status.st_mtime_ns, status.st_size)
    is_together = not is_schema and path.suffix not in SUFFIXES
    return object_part(
        str(path),
        lambda: () if is_schema else _objects(path, _load(path), schema),
        options,
        class_names=names_in_source(
            schema_path, list(schema.categories.values()), options.class_names
        ),
        bbox_unit="pixel",
        sha256=file.sha256
        if is_schema
        else lambda: combined_sha256([file.sha256(), schema_sha256()]),
        file=file,
        together=_FilesTogether(schema, options) if is_together else None,
    )


@dataclass(frozen=True)
class _FilesTogether:
    """Files of one schema: thousands of them give a few batches, not one each."""

    schema: Schema
    options: ObjectOptions

    def __call__(self, files: Sequence[WatchedFile]) -> Iterator[tuple[pa.RecordBatch, Positions]]:
        """Batches of the files' rows, and for each row the position of its file."""
        findings: list[Finding] = []
        positions: list[int] = []
        for position, file in enumerate(files):
            of_file = list(_objects(file.path, _load_small(file), self.schema))
            # Rejected rows go to their places by their numbers, which are those of one file.
            is_alone = any(isinstance(finding, RejectedRow) for finding in of_file)
            if findings and (is_alone or len(findings) + len(of_file) > OBJECTS_PER_BATCH):
                yield self._batch(findings, positions)
                findings, positions = [], []
            findings += of_file
            positions += [position] * len(of_file)
            if is_alone:
                yield self._batch(findings, positions)
                findings, positions = [], []
        if findings:
            yield self._batch(findings, positions)

    def _batch(
        self, findings: Sequence[Finding], positions: Sequence[int]
    ) -> tuple[pa.RecordBatch, Positions]:
        batch = object_batch(findings, self.options.score_transform)
        # There, images without objects are behind all others.
        is_empty = np.array([isinstance(finding, EmptyImage) for finding in findings])
        of_rows = np.array(positions)[np.argsort(is_empty, kind="stable")]
        order = np.argsort(of_rows, kind="stable")
        return batch.take(pa.array(order)), of_rows[order]


def _find_schema(path: Path) -> Path:
    for folder in path.absolute().parents:
        if os.path.isfile(folder / SCHEMA_FILE):
            return folder / SCHEMA_FILE
    raise PredictionReadError(
        f"{path} has no {SCHEMA_FILE} in its folder, nor in one above: expected "
        f"{path.parent / SCHEMA_FILE} with the task's categories"
    )


@lru_cache(maxsize=16)
def _read_schema(path: Path, _modified: int, _size: int) -> Schema:
    # There is one schema for all images of a task: it is read once, and again when it changed.
    document = _load(path)
    listed = document.get("categories") if isinstance(document, dict) else None
    if not isinstance(listed, list) or not listed:
        raise PredictionReadError(
            f"{path} has no list of categories: expected "
            '{"task_type": ..., "categories": [{"id": 0, "name": ...}, ...]}'
        )
    categories: dict[int, str] = {}
    for position, category in enumerate(listed):
        number = as_whole(category.get("id")) if isinstance(category, dict) else None
        name = category.get("name") if isinstance(category, dict) else None
        if number is None or not isinstance(name, str) or not is_utf8(name):
            raise PredictionReadError(
                f"{path}: category {position} is {raw_text(category)[:200]!r}, expected an object "
                "with an integer as id and text as name"
            )
        if number in categories:
            raise PredictionReadError(
                f"{path}: category {position} has the id {number} as another has: expected each "
                "id once"
            )
        categories[number] = name
    task = document.get("task_type") or document.get("task_description") or ""
    return Schema(task=str(task), categories=categories)


def _load_small(file: WatchedFile) -> Any:
    """The same as ``_load`` gives; a small file is read once, and its hash then known."""
    try:
        content = file.read(BYTES_TOGETHER)
    except OSError:
        content = None
    if content is None or content.count(b"[") + content.count(b"{") > DEEPEST_NESTING:
        return _load(file.path)
    return _parsed(file.path, content.removeprefix(codecs.BOM_UTF8))


def _load(path: Path) -> Any:
    """One JSON file, which does not take too much memory."""
    try:
        with open_binary(path) as file:
            # The whole file is one element.
            shallow = ShallowFile(path, file, element_depth=0)
            text = b"".join(iter(lambda: shallow.read(PIECE_BYTES), b""))
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from error
    return _parsed(path, text)


def _parsed(path: Path, text: bytes) -> Any:
    try:
        return json.loads(text.decode("utf-8"))
    except ValueError as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> PredictionReadError:
    return PredictionReadError(
        f"{path} is not readable UTF-8 JSON: {error}"
        + ("; expected a file that is complete" if _ends_too_soon(error) else "")
    )


def _ends_too_soon(error: Exception) -> bool:
    """True where the end of a file is what the parser could not read."""
    if isinstance(error, UnicodeDecodeError):
        return error.reason == "unexpected end of data"
    if not isinstance(error, json.JSONDecodeError):
        return False
    return error.pos >= len(error.doc.rstrip()) or error.msg.startswith("Unterminated string")


def _objects(path: Path, document: Any, schema: Schema) -> Iterator[Finding]:
    if not isinstance(document, dict) or not isinstance(document.get("predictions"), list):
        raise PredictionReadError(
            f"{path} holds {raw_text(document)[:200]!r}: expected the predictions of one image as "
            '{"file_name": ..., "predictions": [...]}'
        )
    image_id = document.get("file_name")
    if not isinstance(image_id, str) or not image_id or not is_utf8(image_id):
        # The file cannot say which image it is about: all it holds is one row.
        yield RejectedRow(1, _name_fault(image_id), raw_text(document))
        return
    if not document["predictions"]:
        yield EmptyImage(image_id)
    for row_number, prediction in enumerate(document["predictions"], start=1):
        yield _object(row_number, image_id, prediction, schema)


def _name_fault(file_name: object) -> Reason:
    if file_name is None or file_name == "":
        return Reason.IMAGE_ID_NULL
    return Reason.IMAGE_ID_NOT_UTF8 if isinstance(file_name, str) else Reason.IMAGE_ID_NOT_TEXT


def _object(row_number: int, image_id: str, prediction: Any, schema: Schema) -> Finding:
    keys = prediction if isinstance(prediction, dict) else {}
    category_id = as_whole(keys.get("category_id"))
    category = None if category_id is None else schema.categories.get(category_id)
    listed = keys.get("probabilities")
    class_probs = None if listed is None else read_probabilities(listed, len(schema.categories))
    if isinstance(class_probs, list) and len(class_probs) == 1:
        class_probs = None  # Of one class it says nothing: the score does.
    score = as_number(keys.get("score"))
    bbox = as_box(keys["bbox"]) if "bbox" in keys else None
    segmentation = keys.get("segmentation")
    if not isinstance(prediction, dict):
        reason = Reason.NO_OBJECT
    elif category_id is None:
        reason = key_fault(keys, "category_id")
    elif category is None:
        reason = Reason.UNKNOWN_CATEGORY
    elif isinstance(class_probs, Reason):
        reason = class_probs
    elif score is None and keys.get("score") is not None:
        reason = Reason.SCORE_NOT_NUMBER
    elif score is None and class_probs is None:
        reason = Reason.SCORE_NULL
    elif isinstance(bbox, Reason):
        reason = bbox
    elif bbox is None and segmentation is None and schema.task == "object-detection":
        reason = key_fault(keys, "bbox")
    else:
        return DetectedObject(
            row_number=row_number,
            image_id=image_id,
            score=score,
            class_probs=class_probs,
            category=category,
            bbox=bbox,
            segmentation=None if segmentation is None else json.dumps(segmentation),
        )
    return RejectedRow(row_number, reason, raw_text(prediction), image_id)
