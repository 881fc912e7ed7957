"""RVC (PDQ) submissions: one JSON file per sequence of images, read image by image."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from dagster_active_learning.errors import PredictionReadError
from dagster_active_learning.files.compression import stem
from dagster_active_learning.files.versions import content_sha256
from dagster_active_learning.readers.json_stream import json_items, json_value, value_fault
from dagster_active_learning.readers.objects import (
    DetectedObject,
    EmptyImage,
    Finding,
    names_in_source,
    object_part,
)
from dagster_active_learning.readers.options import RvcOptions
from dagster_active_learning.readers.quarantine import Reason, RejectedRow, key_fault
from dagster_active_learning.readers.stream import PredictionPart
from dagster_active_learning.readers.text_lines import listed_ids
from dagster_active_learning.readers.values import as_box, read_probabilities
from dagster_active_learning.text import raw_text

BACKGROUND = "background"
"""The last class of the part: what the label probabilities of a box leave over to 1."""


def open_file(path: Path, options: RvcOptions) -> PredictionPart:
    """Open one sequence: ``classes``, and ``detections`` with one list per image.

    ``class_probs`` are the label probabilities and, as one class more, the background: what they
    leave over to 1, and 0 where their sum is above it. Nothing is renormalised. The score is the
    largest label probability; the background is no object.

    Raises:
        PredictionReadError: If the file is no readable JSON or has no usable ``classes``, or the
            list of ids is missing or names an image twice.
    """
    ids_path = None
    if options.image_ids is not None:
        ids_path = path.parent / options.image_ids.replace("{stem}", stem(path))
        if not os.path.isfile(ids_path):
            raise PredictionReadError(
                f"{path} has no list of image ids beside it: expected {ids_path} with one id per "
                "image of the sequence; the option image_ids names another file"
            )
    sha256 = content_sha256([path] if ids_path is None else [path, ids_path])
    classes = _read_classes(path, options)
    image_ids = None if ids_path is None else _read_ids(ids_path)
    return object_part(
        str(path),
        lambda: _objects(path, classes, image_ids),
        options,
        class_names=[*classes, BACKGROUND],
        bbox_unit="pixel",
        sha256=sha256,
    )


def _read_classes(path: Path, options: RvcOptions) -> Sequence[str]:
    names = json_value(path, "classes")
    if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
        raise PredictionReadError(
            f"{path} {value_fault('classes', names)}: expected a list of class names in an RVC file"
        )
    if BACKGROUND in names:
        raise PredictionReadError(
            f"{path} has a class {BACKGROUND!r}: expected classes of objects only, as what the "
            "label probabilities leave over to 1 is the background; take it out of classes and "
            "label_probs"
        )
    return names_in_source(path, names, options.class_names)


def _read_ids(path: Path) -> Sequence[str]:
    ids: dict[str, int] = {}
    for number, line in enumerate(listed_ids(path), start=1):
        if not line or line in ids:
            fault = f"the same as line {ids[line]}" if line else "empty"
            raise PredictionReadError(
                f"{path}: line {number}, {line!r}, is {fault}; expected one id per image, each once"
            )
        ids[line] = number
    return list(ids)


def _objects(
    path: Path, classes: Sequence[str], image_ids: Sequence[str] | None
) -> Iterator[Finding]:
    row_number = position = 0
    for position, image in enumerate(json_items(path, "detections", "images"), start=1):
        if image_ids is None:
            image_id = f"{stem(path)}/{position - 1}"
        elif position <= len(image_ids):
            image_id = image_ids[position - 1]
        else:
            raise _other_length(path, f"more than {len(image_ids)}", len(image_ids))
        if not isinstance(image, list):
            row_number += 1
            yield RejectedRow(row_number, Reason.NO_LIST_OF_OBJECTS, raw_text(image), image_id)
            continue
        if not image:
            yield EmptyImage(image_id)
        for detection in image:
            row_number += 1
            yield _object(row_number, image_id, detection, classes)
    if image_ids is not None and position != len(image_ids):
        raise _other_length(path, str(position), len(image_ids))


def _other_length(path: Path, images: str, ids: int) -> PredictionReadError:
    return PredictionReadError(
        f"{path} has {images} images, but there are {ids} image ids: expected one id per image"
    )


def _object(row_number: int, image_id: str, detection: Any, classes: Sequence[str]) -> Finding:
    def rejected(reason: str) -> RejectedRow:
        return RejectedRow(row_number, reason, raw_text(detection), image_id)

    if not isinstance(detection, dict):
        return rejected(Reason.NO_OBJECT)
    if "bbox" not in detection:
        return rejected(key_fault(detection, "bbox"))
    label_probs = read_probabilities(detection.get("label_probs"), len(classes))
    if isinstance(label_probs, Reason):
        return rejected(label_probs)
    bbox = as_box(detection["bbox"], "xyxy")
    if isinstance(bbox, Reason):
        return rejected(bbox)
    score = max(label_probs)
    return DetectedObject(
        row_number=row_number,
        image_id=image_id,
        score=score,
        class_probs=[*label_probs, max(0.0, 1 - math.fsum(label_probs))],
        category=classes[label_probs.index(score)],
        bbox=bbox,
    )
