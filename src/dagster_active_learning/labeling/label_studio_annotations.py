"""The annotations of Label Studio, as its JSON export has them, and the labels they are.

Of one annotator the latest annotation counts, and ground truth before any other. Annotators who
disagree make a conflict, not a label. Who skips an image says nothing about it. An annotation
without a region is a label for objects, "there is none", and no label for a class.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from dagster_active_learning.exporters.label_studio_config import (
    BOXES,
    BRUSHES,
    CHOICE,
    CONTROLS,
    POLYGONS,
    Control,
)
from dagster_active_learning.exporters.masks import bounding_box, brush_pixels, run_lengths_of
from dagster_active_learning.text import raw_text, shown

Outcome = Literal["labeled", "skipped", "conflict", "quarantined"]
"""The outcome of an image that somebody has annotated."""

SAME_OBJECT = 0.5
"""Intersection over union from which two annotators mean the same object."""


@dataclass(frozen=True, kw_only=True)
class Label:
    """One thing that a person says an image shows.

    Attributes:
        image_id: The image.
        category: Its class; None for an image in which there is no object.
        bbox: Of an object x and y of the top left corner, width and height in pixels.
        segmentation: Its mask as COCO has it, as JSON: polygons or run lengths.
        annotator: Number of the person in Label Studio.
        annotated_at: When, as Label Studio says it.
        lead_time_seconds: How long it took, where Label Studio says it.
        ground_truth: Whether it was marked as such.
        task_id: Number of the task.
        annotation_id: Unique id of the annotation.
    """

    image_id: str
    category: str | None
    bbox: list[float] | None = None
    segmentation: str | None = None
    annotator: str
    annotated_at: str
    lead_time_seconds: float | None
    ground_truth: bool
    task_id: int
    annotation_id: str


@dataclass(frozen=True, kw_only=True)
class QuarantinedLabel:
    """An annotation that is no label, and the reason."""

    image_id: str
    annotator: str
    annotated_at: str
    task_id: int
    annotation_id: str
    reason: str
    raw: str


@dataclass(frozen=True)
class Reading:
    """The labels of a project.

    Attributes:
        labels: One per class of an image or object in it.
        quarantined: Annotations that cannot be used.
        outcomes: The outcome of each image that somebody has annotated.
        skipped_at: When each image whose outcome is ``skipped`` was, as Label Studio says it.
        foreign_tasks: Tasks without the id of an image, which others have made.
    """

    labels: list[Label] = field(default_factory=list[Label])
    quarantined: list[QuarantinedLabel] = field(default_factory=list[QuarantinedLabel])
    outcomes: dict[str, Outcome] = field(default_factory=dict[str, Outcome])
    skipped_at: dict[str, str] = field(default_factory=dict[str, str])
    foreign_tasks: int = 0


class _UnusableError(Exception):
    """The reason why an annotation is no label."""


@dataclass(frozen=True)
class _Answer:
    """The latest annotation of one person, and what it says."""

    annotation: Mapping[str, Any]
    labels: list[Label]


Size = tuple[int | None, int | None]


def read_annotations(
    tasks: Sequence[Mapping[str, Any]],
    *,
    task: str,
    class_names: Collection[str],
    sizes: Mapping[str, Size],
) -> Reading:
    """The labels in a JSON export.

    Args:
        tasks: The tasks of the export.
        task: What people label: classification, detection or segmentation.
        class_names: The classes that there are.
        sizes: Width and height in pixels of each image of the pool, where they are known.
    """
    by_image: dict[str, list[Mapping[str, Any]]] = {}
    foreign = 0
    for entry in tasks:
        image_id = entry["data"].get("image_id")
        if not isinstance(image_id, str):
            foreign += 1
            continue
        # A second task of an image is as good as the first.
        annotations = by_image.setdefault(image_id, [])
        annotations += [{**each, "task": entry["id"]} for each in entry["annotations"]]
    reading = Reading(foreign_tasks=foreign)
    for image_id, annotations in by_image.items():
        if annotations:
            _read_image(reading, image_id, annotations, task, class_names, sizes)
    return reading


def _read_image(
    reading: Reading,
    image_id: str,
    annotations: Sequence[Mapping[str, Any]],
    task: str,
    class_names: Collection[str],
    sizes: Mapping[str, Size],
) -> None:
    counting = _counting(annotations)
    said = [each for each in counting if not each.get("was_cancelled")]
    answers: list[_Answer] = []
    for annotation in said:
        try:
            if image_id not in sizes:
                raise _UnusableError("the image is not in the pool's manifest")
            labels = _labels(image_id, annotation, task, class_names, sizes[image_id])
            answers.append(_Answer(annotation, labels))
        except _UnusableError as error:
            reading.quarantined.append(_rejected(image_id, annotation, str(error)))
        # Anybody may write annotations by the tool's API.
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
            reason = f"the annotation cannot be read ({type(error).__name__})"
            reading.quarantined.append(_rejected(image_id, annotation, reason))
    if not said:
        reading.outcomes[image_id] = "skipped"
        reading.skipped_at[image_id] = counting[-1]["updated_at"]
    elif not answers:
        reading.outcomes[image_id] = "quarantined"
    elif any(not _agree(answers[-1].labels, other.labels) for other in answers[:-1]):
        reading.outcomes[image_id] = "conflict"
    else:
        reading.outcomes[image_id] = "labeled"
        reading.labels.extend(answers[-1].labels)


def _rejected(image_id: str, annotation: Mapping[str, Any], reason: str) -> QuarantinedLabel:
    raw = raw_text(annotation.get("result"))
    return QuarantinedLabel(**_origin(image_id, annotation), reason=reason, raw=raw)


def _counting(annotations: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The latest annotation of each person, ground truth alone where there is any, by time."""
    truth = [each for each in annotations if each.get("ground_truth")]
    ordered = sorted(truth or annotations, key=lambda each: (each["updated_at"], each["id"]))
    latest = {_annotator(each): each for each in ordered}
    return [each for each in ordered if latest[_annotator(each)] is each]


def _annotator(annotation: Mapping[str, Any]) -> str:
    person = annotation.get("completed_by")
    return str(person.get("id") if isinstance(person, Mapping) else person)


def _origin(image_id: str, annotation: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "image_id": image_id,
        "annotator": _annotator(annotation),
        "annotated_at": annotation["updated_at"],
        "task_id": annotation["task"],
        # The number of an annotation may be that of another one after it was deleted.
        "annotation_id": str(annotation.get("unique_id") or annotation["id"]),
    }


def _labels(
    image_id: str,
    annotation: Mapping[str, Any],
    task: str,
    class_names: Collection[str],
    size: Size,
) -> list[Label]:
    origin = _origin(image_id, annotation)
    common = Label(
        **origin,
        category=None,
        lead_time_seconds=annotation.get("lead_time"),
        ground_truth=bool(annotation.get("ground_truth")),
    )
    labels: list[Label] = []
    for region in annotation["result"]:
        control = _control(region, task)
        value = region["value"]
        category = _category(value.get(control.type), control, class_names)
        of_region = replace(common, category=category)
        if control is not CHOICE:
            bbox, mask = _SHAPES[control](value, _size(region, size))
            of_region = replace(
                of_region, bbox=bbox, segmentation=None if mask is None else json.dumps(mask)
            )
        labels.append(of_region)
    if task != "classification":
        return labels or [common]
    if len(labels) != 1:
        raise _UnusableError(
            f"the annotation names {len(labels)} classes, expected one"
            if labels
            else "the annotation names no class"
        )
    return labels


def _control(region: Mapping[str, Any], task: str) -> Control:
    name, kind = region.get("from_name"), region.get("type")
    for control in CONTROLS[task]:
        if (name, kind) == (control.name, control.type) and isinstance(region.get("value"), dict):
            return control
    raise _UnusableError(
        f"the control {shown(str(name))!r} of the type {shown(str(kind))!r} is not of the pool's "
        "labeling interface"
    )


def _category(classes: object, control: Control, class_names: Collection[str]) -> str:
    names: list[Any] = classes if isinstance(classes, list) else []
    if len(names) != 1:
        raise _UnusableError(f"a region of {control.tag} has {len(names)} classes, expected one")
    if names[0] not in class_names:
        raise _UnusableError(f"the class {shown(str(names[0]))!r} is not one of the pool's")
    return names[0]


def _size(region: Mapping[str, Any], size: Size) -> tuple[float, float]:
    """Width and height in pixels: as the annotator's browser had them, else of the manifest."""
    width = region.get("original_width") or size[0]
    height = region.get("original_height") or size[1]
    if not width or not height:
        raise _UnusableError("the size of the image is neither in the annotation nor the manifest")
    return width, height


Shape = tuple[list[float], Any]


def _rectangle(value: Mapping[str, Any], size: tuple[float, float]) -> Shape:
    """A rectangle; of a turned one the box around it. It is turned about its top left corner."""
    x, y, width, height = (
        _number(value, name) / 100 * size[place % 2]
        for place, name in enumerate(("x", "y", "width", "height"))
    )
    angle = math.radians(value.get("rotation") or 0)
    if not angle:
        return [x, y, width, height], None
    corners = [(0.0, 0.0), (width, 0.0), (width, height), (0.0, height)]
    cosine, sine = math.cos(angle), math.sin(angle)
    xs = [x + right * cosine - down * sine for right, down in corners]
    ys = [y + right * sine + down * cosine for right, down in corners]
    return [min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)], None


def _polygon(value: Mapping[str, Any], size: tuple[float, float]) -> Shape:
    points: Any = value.get("points")
    if not isinstance(points, list) or len(points) < 3:
        raise _UnusableError("a polygon has fewer than three points")
    xs = [_finite(x) / 100 * size[0] for x, _ in points]
    ys = [_finite(y) / 100 * size[1] for _, y in points]
    outline = [side for point in zip(xs, ys, strict=True) for side in point]
    return [min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)], [outline]


def _brush(value: Mapping[str, Any], size: tuple[float, float]) -> Shape:
    pixels = brush_pixels(value.get("rle") or [], int(size[0]), int(size[1]))
    if pixels is None or not pixels.any():
        raise _UnusableError("a mask of pixels is empty or not that of the image's size")
    return [float(side) for side in bounding_box(pixels)], run_lengths_of(pixels)


_SHAPES: dict[Control, Callable[[Mapping[str, Any], tuple[float, float]], Shape]] = {
    BOXES: _rectangle,
    POLYGONS: _polygon,
    BRUSHES: _brush,
}


def _number(value: Mapping[str, Any], name: str) -> float:
    return _finite(value.get(name))


def _finite(number: object) -> float:
    if not isinstance(number, int | float) or not math.isfinite(number):
        raise _UnusableError(f"a region has {shown(str(number))!r} where a number was expected")
    return float(number)


def _agree(labels: Sequence[Label], others: Sequence[Label]) -> bool:
    """True if two annotators say the same: the same classes, of objects at the same places."""
    rest = list(others)
    for label in labels:
        same = next((other for other in rest if _same(label, other)), None)
        if same is None:
            return False
        rest.remove(same)
    return not rest


def _same(label: Label, other: Label) -> bool:
    if label.category != other.category:
        return False
    if label.bbox is None or other.bbox is None:
        return label.bbox is other.bbox
    x, y, width, height = label.bbox
    left, top, other_width, other_height = other.bbox
    across = min(x + width, left + other_width) - max(x, left)
    down = min(y + height, top + other_height) - max(y, top)
    shared = max(across, 0) * max(down, 0)
    return shared >= SAME_OBJECT * (width * height + other_width * other_height - shared)
