"""MegaDetector results: one JSON file with every image, read image by image."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from dagster_active_learning.errors import PredictionReadError
from dagster_active_learning.files.versions import content_sha256
from dagster_active_learning.readers.json_stream import json_items, json_value, value_fault
from dagster_active_learning.readers.objects import (
    DetectedObject,
    EmptyImage,
    Finding,
    names_in_source,
    object_part,
)
from dagster_active_learning.readers.options import ObjectOptions
from dagster_active_learning.readers.quarantine import Reason, RejectedRow, key_fault
from dagster_active_learning.readers.stream import PredictionPart
from dagster_active_learning.readers.values import as_box, as_id, as_name, as_number
from dagster_active_learning.text import raw_text


def open_file(path: Path, options: ObjectOptions) -> PredictionPart:
    """Open one results file: ``images`` and ``detection_categories``, in either order.

    The scores of ``classifications`` are not read: they come from another model, which sees the
    crop, and are no class probabilities of the detector. An image the detector failed on is a
    row with ``Reason.MODEL_FAILED``, never an image without objects. A detection whose conf is
    negative was suppressed, as an object that stands in the same place in many images: it is no
    object, and no row. Where ``score_transform`` takes logits, conf may be negative.

    Raises:
        PredictionReadError: If the file is no readable JSON or has no ``detection_categories``.
    """
    sha256 = content_sha256([path])
    categories = _read_categories(path)
    names = names_in_source(path, list(dict.fromkeys(categories.values())), options.class_names)
    return object_part(
        str(path),
        lambda: _objects(path, categories, has_suppressed=options.score_transform != "sigmoid"),
        options,
        class_names=names,
        bbox_unit="relative",
        sha256=sha256,
    )


def _read_categories(path: Path) -> Mapping[str, str]:
    names = json_value(path, "detection_categories")
    if not isinstance(names, dict) or not all(isinstance(name, str) for name in names.values()):
        raise PredictionReadError(
            f"{path} {value_fault('detection_categories', names)}: expected an object of "
            'names such as {"1": "animal"} in a MegaDetector results file'
        )
    return names


def _objects(
    path: Path, categories: Mapping[str, str], *, has_suppressed: bool
) -> Iterator[Finding]:
    row_number = 0
    for image in json_items(path, "images", "images"):
        fault = _image_fault(image)
        if fault is not None:
            row_number += 1
            file = image.get("file") if isinstance(image, dict) else None
            image_id = as_name(file) if isinstance(file, str) else None
            yield RejectedRow(row_number, fault, raw_text(image), image_id)
            continue
        suppressed = [
            has_suppressed and _is_suppressed(detection) for detection in image["detections"]
        ]
        if all(suppressed):
            yield EmptyImage(image["file"])
        for detection, is_suppressed in zip(image["detections"], suppressed, strict=True):
            row_number += 1
            if not is_suppressed:
                yield _object(row_number, image["file"], detection, categories)


def _is_suppressed(detection: Any) -> bool:
    """True for a detection that the elimination of repeated ones has marked."""
    conf = as_number(detection.get("conf")) if isinstance(detection, dict) else None
    return conf is not None and conf < 0


def _image_fault(image: Any) -> str | None:
    """The reason why an image, with all its detections, is one row of the quarantine; else None."""
    if not isinstance(image, dict):
        return Reason.NO_OBJECT
    file = image.get("file")
    if not isinstance(file, str):
        return Reason.IMAGE_ID_NULL if file is None else Reason.IMAGE_ID_NOT_TEXT
    fault = as_id(file)
    if isinstance(fault, Reason):
        return fault
    if image.get("failure") is not None:
        return Reason.MODEL_FAILED
    return None if isinstance(image.get("detections"), list) else key_fault(image, "detections")


def _object(
    row_number: int, image_id: str, detection: Any, categories: Mapping[str, str]
) -> Finding:
    keys = detection if isinstance(detection, dict) else {}
    category, conf = keys.get("category"), keys.get("conf")
    score, bbox = as_number(conf), as_box(keys.get("bbox"))
    if not isinstance(detection, dict):
        reason = Reason.NO_OBJECT
    elif not isinstance(category, str):
        reason = key_fault(keys, "category")
    elif "bbox" not in keys:
        reason = key_fault(keys, "bbox")
    elif category not in categories:
        reason = Reason.UNKNOWN_CATEGORY
    elif score is None:
        reason = Reason.SCORE_NULL if conf is None else Reason.SCORE_NOT_NUMBER
    elif isinstance(bbox, Reason):
        reason = bbox
    else:
        return DetectedObject(
            row_number=row_number,
            image_id=image_id,
            score=score,
            category=categories[category],
            bbox=bbox,
        )
    return RejectedRow(row_number, reason, raw_text(detection), image_id)
