"""Text files that YOLO tools write, one per image: boxes, polygons, or the classes of the image.

The number of fields, class number first, tells what a line of an object holds:

======================  ==========================================================================
5                       a box without confidence: no prediction
6                       a box and its confidence
7                       a box, its confidence and a track id, which is not kept; a field that is no
                        whole number is no track id, and the line goes to quarantine
8, 10, 12, …            a polygon of 3 or more points and its confidence
9, 11, 13, …            a polygon without confidence: no prediction
======================  ==========================================================================

With ``confidence="second"`` there are no track ids, and 7 is a polygon without confidence. The
format cannot tell a track id from a confidence where a line has the one without the other. Fields
are separated by blanks or by commas. Where ``class_names`` are given, a line may begin with one of
them in place of its number.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from dagster_active_learning.errors import PredictionReadError
from dagster_active_learning.files.compression import stem
from dagster_active_learning.files.versions import WatchedFile
from dagster_active_learning.readers.objects import (
    DetectedObject,
    Finding,
    LinesTogether,
    first_line_of,
    object_part,
    objects_of_lines,
    transform_scores,
)
from dagster_active_learning.readers.options import YoloOptions
from dagster_active_learning.readers.quarantine import Reason, RejectedRow
from dagster_active_learning.readers.stream import PredictionPart, boxes_array
from dagster_active_learning.readers.text_lines import (
    as_finite,
    as_float,
    as_score,
    as_text,
    numbered_lines,
    raw_line,
    split_fields,
)
from dagster_active_learning.readers.values import (
    LARGEST_WHOLE_FLOAT,
    as_box,
    as_whole,
    bounds,
    boxes_as_xywh,
)

if TYPE_CHECKING:
    from dagster_active_learning.readers.line_columns import Lines

OTHER = "other"
"""The class that holds what the classes left out of a classification file have together."""


def open_file(path: Path, options: YoloOptions) -> PredictionPart:
    """Open the file of one image; image_id is the file's name without its suffix.

    A file whose first line is ``probability name`` is a classification: one prediction, with the
    classes of the option ``class_names`` and one more, ``"other"``, for the rest up to 1, because
    only the likeliest classes are written. In any other file each line is an object. Rows are the
    lines that are not blank, counted from 1. A file without lines says that no object was found.
    ``classes.txt`` and its like, which tools put beside the labels, are about no image.

    Probabilities have two decimals. Where they are those of few classes, their sum may be 1.01 or
    1.02 (of 3 classes in one file of 8): such a prediction goes to quarantine, for nothing is
    renormalised. Write the whole vector to a table instead.

    Raises:
        PredictionReadError: If it cannot be read, or is a classification without ``class_names``.
    """
    file = WatchedFile(path)
    first_line, is_together = first_line_of(file)
    if _is_classification(first_line, options.class_names):
        if options.class_names is None:
            raise PredictionReadError(
                f"{path} holds the classes of an image ({raw_line(first_line)[:100]!r}), which "
                "needs the option class_names: all names the model has, in class order"
            )
        names = list(options.class_names)
        return object_part(
            str(path),
            lambda: _classification(path, names),
            options,
            class_names=[*names, OTHER if OTHER not in names else f"{OTHER} classes"],
            bbox_unit=None,
            sha256=file.sha256,
        )
    return object_part(
        str(path),
        lambda: objects_of_lines(
            path, lambda number, line: _object(file.stem, number, line, options)
        ),
        options,
        class_names=options.class_names,
        bbox_unit=options.bbox_unit,
        sha256=file.sha256,
        empty=not first_line,
        file=file,
        together=LinesTogether(options, _judge, _object) if is_together else None,
    )


def _is_classification(line: bytes, class_names: Sequence[str] | None) -> bool:
    fields = line.split(maxsplit=1)
    if len(fields) < 2 or b"." not in fields[0] or as_float(fields[0]) is None:
        return False
    # The classes of a model may be called 0, 1, 2, …
    named = class_names is not None and as_text(fields[1]) in class_names
    return named or any(as_float(field) is None for field in fields[1].split())


def _classification(path: Path, class_names: Sequence[str]) -> Iterator[Finding]:
    """The one prediction of a file, or the first line that makes it none."""
    probabilities: dict[str, float] = {}
    for row_number, line in numbered_lines(path):
        number, *rest = line.split(maxsplit=1)
        probability = as_float(number)
        name = as_text(rest[0]) if rest else None
        if not rest or name in probabilities:
            reason = Reason.UNREADABLE_OBJECT
        elif probability is None:
            reason = Reason.PROBABILITY_NOT_NUMBER
        elif name is None or name not in class_names:
            reason = Reason.UNKNOWN_CATEGORY
        else:
            probabilities[name] = probability
            continue
        yield RejectedRow(row_number, reason, raw_line(line), stem(path))
        return
    # Two decimals per class can exceed 1 together: the sum then shows it, nothing is rescaled.
    other = max(0.0, 1 - sum(probabilities.values()))
    yield DetectedObject(
        row_number=1,
        image_id=stem(path),
        class_probs=[*(probabilities.get(name, 0.0) for name in class_names), other],
    )


def _object(  # noqa: PLR0911 - a table
    image_id: str, row_number: int, line: bytes, options: YoloOptions
) -> DetectedObject | Reason:
    """The object of a line, or why there is none."""
    label, *fields = split_fields(line)
    if len(fields) == 6 and options.confidence == "last":
        track_id = as_float(fields.pop())
        if track_id is None or as_whole(track_id) is None:
            return Reason.NO_TRACK_ID
    if len(fields) < 4:
        return Reason.UNREADABLE_OBJECT
    if len(fields) % 2 == 0:
        return Reason.SCORE_NULL
    category = _category(label, options.class_names)
    if category is None:
        return Reason.UNKNOWN_CATEGORY
    score = as_score(fields.pop(0 if options.confidence == "second" else -1))
    if isinstance(score, Reason):
        return score
    coordinates = as_finite(fields)
    is_box = len(fields) == 4
    if coordinates is None:
        return Reason.BBOX_NOT_FOUR_NUMBERS if is_box else Reason.UNREADABLE_OBJECT
    bbox = as_box(coordinates, options.box) if is_box else as_box(bounds(coordinates), "xyxy")
    if isinstance(bbox, Reason):
        return bbox
    return DetectedObject(
        row_number=row_number,
        image_id=image_id,
        score=score,
        category=category,
        bbox=bbox,
        segmentation=None if is_box else json.dumps(coordinates),
    )


def _judge(
    _text: bytes, lines: Lines, options: YoloOptions
) -> tuple[dict[str, pa.Array], npt.NDArray[np.bool_]]:
    """The boxes of lines, and which lines are known to be boxes: what ``_object`` makes of them."""
    is_last = options.confidence == "last"
    numbers = lines.numbers
    known = lines.known & _is_class(lines.labels, options.class_names)
    with_track_id = lines.field_counts == 7
    with_track_id &= is_last & _is_whole(numbers[:, 5])
    known &= (lines.field_counts == 6) | with_track_id
    boxes, is_box = boxes_as_xywh(numbers[:, :4] if is_last else numbers[:, 1:5], options.box)
    known &= is_box
    classes = np.where(known, lines.labels, 0).astype(np.int64)
    if options.class_names is None:
        categories = pa.array(classes).cast(pa.string())
    else:
        categories = pa.array(options.class_names, pa.string()).take(pa.array(classes))
    scores = np.where(known, numbers[:, 4 if is_last else 0], 0)
    columns = {
        "score": pa.array(transform_scores(scores, options.score_transform)),
        "category": categories,
        "bbox": boxes_array(boxes, np.ones(len(boxes), np.bool_)),
    }
    return columns, known


def _is_whole(numbers: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
    return (np.abs(numbers) <= LARGEST_WHOLE_FLOAT) & (numbers == np.floor(numbers))


def _is_class(
    labels: npt.NDArray[np.float64], class_names: Sequence[str] | None
) -> npt.NDArray[np.bool_]:
    return (
        _is_whole(labels)
        & (labels >= 0)
        & (labels < (np.inf if class_names is None else len(class_names)))
    )


def _category(field: bytes, class_names: Sequence[str] | None) -> str | None:
    """The name of a class, from its number or, where ``class_names`` has it, from itself.

    NumPy writes the number 0 as ``0.0`` among floats.
    """
    value = as_float(field)
    if value is None:
        name = as_text(field)
        return name if class_names is not None and name in class_names else None
    number = as_whole(value)
    if number is None or number < 0:
        return None
    if class_names is None:
        return str(number)
    return class_names[number] if number < len(class_names) else None
