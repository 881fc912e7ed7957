"""Objects in the text files of the KITTI devkit, one file per image.

A line holds 16 columns: type, truncated, occluded, alpha, left, top, right, bottom, height, width,
length, x, y, z, rotation_y, score. Boxes are in pixels and may reach outside the image; the score
has no bounds, so most detectors need the option ``score_transform``.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from dagster_active_learning.files.versions import WatchedFile
from dagster_active_learning.readers.objects import (
    DetectedObject,
    LinesTogether,
    first_line_of,
    object_part,
    objects_of_lines,
    transform_scores,
)
from dagster_active_learning.readers.options import ObjectOptions
from dagster_active_learning.readers.quarantine import Reason
from dagster_active_learning.readers.stream import PredictionPart, boxes_array
from dagster_active_learning.readers.text_lines import (
    as_finite,
    as_float,
    as_score,
    as_text,
    split_fields,
)
from dagster_active_learning.readers.values import as_box, boxes_as_xywh

if TYPE_CHECKING:
    from dagster_active_learning.readers.line_columns import Lines

COLUMNS = 16
BOX = slice(4, 8)


def open_file(path: Path, options: ObjectOptions) -> PredictionPart:
    """Open the file of one image; image_id is the file's name without its suffix.

    Rows are the lines that are not blank, counted from 1. Every type is kept as the category it
    names, ``DontCare`` too, as long as it is one of ``class_names``, where they are given. A file
    without lines says that no object was found.
    """
    file = WatchedFile(path)
    _, is_together = first_line_of(file)
    return object_part(
        str(path),
        lambda: objects_of_lines(
            path, lambda number, line: _object(file.stem, number, line, options)
        ),
        options,
        class_names=options.class_names,
        bbox_unit="pixel",
        sha256=file.sha256,
        file=file,
        together=LinesTogether(options, _judge, _object) if is_together else None,
    )


def _judge(
    text: bytes, lines: Lines, options: ObjectOptions
) -> tuple[dict[str, pa.Array], npt.NDArray[np.bool_]]:
    """The objects of lines, and which lines are known to be some: what ``_object`` says of them."""
    known = lines.known & (lines.field_counts == COLUMNS)
    boxes, is_box = boxes_as_xywh(lines.numbers[:, 3:7], "xyxy")
    known &= is_box
    ends = zip(lines.spans[:, 0].tolist(), lines.label_ends.tolist(), strict=True)
    names = [as_text(text[start:end]) for start, end in ends]
    allowed = None if options.class_names is None else frozenset(options.class_names)
    is_allowed = [name is not None and (allowed is None or name in allowed) for name in names]
    known &= np.array(is_allowed, np.bool_)
    scores = np.where(known, lines.numbers[:, COLUMNS - 2], 0)
    columns = {
        "score": pa.array(transform_scores(scores, options.score_transform)),
        "category": pa.array(names, pa.string()),
        "bbox": boxes_array(boxes, np.ones(len(boxes), np.bool_)),
    }
    return columns, known


def _object(  # noqa: PLR0911 - a table
    image_id: str, row_number: int, line: bytes, options: ObjectOptions
) -> DetectedObject | Reason:
    """The object of a line, or why there is none."""
    fields = split_fields(line)
    if len(fields) == COLUMNS - 1:
        return Reason.SCORE_NULL
    if len(fields) != COLUMNS:
        return Reason.UNREADABLE_OBJECT
    category = as_text(fields[0])
    names = options.class_names
    if category is None or (names is not None and category not in names):
        return Reason.UNKNOWN_CATEGORY
    score = as_score(fields[-1])
    if isinstance(score, Reason):
        return score
    corners = as_finite(fields[BOX])
    if corners is None:
        return Reason.BBOX_NOT_FOUR_NUMBERS
    # A type with a blank in it moves all columns by one: text then stands where a number belongs.
    if any(as_float(field) is None for field in fields[1:-1]):
        return Reason.UNREADABLE_OBJECT
    bbox = as_box(corners, "xyxy")
    if isinstance(bbox, Reason):
        return bbox
    return DetectedObject(
        row_number=row_number, image_id=image_id, score=score, category=category, bbox=bbox
    )
