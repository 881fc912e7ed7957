"""One rule per kind of value in JSON and text: numbers, whole numbers, ids, boxes.

``columns`` has the same rules for columns of tables.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from decimal import Decimal
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from dagster_active_learning.readers.quarantine import Reason
from dagster_active_learning.text import is_utf8

LARGEST_WHOLE_FLOAT = 2**53 - 1
"""Above it a float need not be the whole number that was written: of 2^53 + 1 it is 2^53."""

Box = tuple[float, float, float, float]
"""x, y (top left), width, height."""

_BOX_FIELDS: Sequence[tuple[str | None, tuple[str, str, str, str]]] = (
    ("xyxy", ("xmin", "ymin", "xmax", "ymax")),
    ("xyxy", ("x_min", "y_min", "x_max", "y_max")),
    ("xyxy", ("x1", "y1", "x2", "y2")),
    ("xyxy", ("xtl", "ytl", "xbr", "ybr")),
    ("xyxy", ("left", "top", "right", "bottom")),
    ("xywh", ("left", "top", "width", "height")),
    ("xywh", ("xmin", "ymin", "width", "height")),
    ("xcycwh", ("xc", "yc", "w", "h")),
    ("xcycwh", ("cx", "cy", "w", "h")),
    ("xcycwh", ("x_center", "y_center", "width", "height")),
    (None, ("x", "y", "width", "height")),
    (None, ("x", "y", "w", "h")),
)
"""Names of the four fields of a box, and their meaning, None where the option ``box`` gives it."""


class BoxFields(NamedTuple):
    """The names of a box's four fields, and the meaning of their numbers, as ``box`` names it."""

    names: tuple[str, ...]
    kind: str


def as_number(value: object) -> float | None:
    """A JSON number as float; None for anything else, true and false included."""
    if isinstance(value, bool) or not isinstance(value, (int, float, Decimal)):
        return None
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def as_whole(value: object) -> int | None:
    """A whole number, which many tools write as a float: 3 and 3.0; None for anything else."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return value
    if isinstance(value, float) and value.is_integer() and abs(value) <= LARGEST_WHOLE_FLOAT:
        return int(value)
    return None


def as_id(value: object) -> str | Reason:
    """An id as text, from text or a whole number, or why it is none.

    It is a number in one tool's files and text in another's.
    """
    if value is None or value == "":
        return Reason.IMAGE_ID_NULL
    if isinstance(value, str):
        return value if is_utf8(value) else Reason.IMAGE_ID_NOT_UTF8
    number = as_whole(value)
    return Reason.IMAGE_ID_NOT_TEXT if number is None else str(number)


def as_name(value: object) -> str | None:
    """The name of a class, or the number that stands for it, as text; None for anything else."""
    name = as_id(value)
    return None if isinstance(name, Reason) else name


def box_fields(names: Sequence[str], kind: str) -> BoxFields | None:
    """The fields of a box in an object with these names, in any case; None if there are no such.

    Args:
        names: All names of the object.
        kind: The option ``box``, which decides where names leave a choice: x and y may be a corner
            or, as Roboflow has it, a center.
    """
    by_lower_case = {name.lower(): name for name in names}
    for known_kind, known in _BOX_FIELDS:
        if by_lower_case.keys() >= set(known):
            named = tuple(by_lower_case[name] for name in known)
            return BoxFields(named, (known_kind or kind))
    return None


def four_numbers(values: object) -> Box | None:
    """Four finite JSON numbers; None for anything else."""
    if not isinstance(values, (list, tuple)) or len(values) != 4:
        return None
    a, b, c, d = (as_number(value) for value in values)
    if a is None or b is None or c is None or d is None:
        return None
    return (a, b, c, d) if math.isfinite(a + b + c + d) else None


def as_box(values: object, kind: str = "xywh") -> Box | Reason:
    """Four JSON numbers as x, y, width and height, or why they are none.

    Args:
        values: The numbers.
        kind: Their meaning, as the option ``box`` names it.
    """
    box = four_numbers(values)
    if box is None:
        return Reason.BBOX_NOT_FOUR_NUMBERS
    x, y, width, height = box
    if kind == "xyxy":
        width, height = width - x, height - y
    elif kind == "xcycwh":
        x, y = x - width / 2, y - height / 2
    if not all(map(math.isfinite, (x, y, width, height))):
        return Reason.BBOX_NOT_FOUR_NUMBERS
    return Reason.BBOX_NEGATIVE if min(width, height) < 0 else (x, y, width, height)


def boxes_as_xywh(
    numbers: npt.NDArray[np.float64], kind: str = "xywh"
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
    """Boxes ``(n, 4)`` as ``as_box`` has them, and which of them are boxes."""
    with np.errstate(over="ignore", invalid="ignore"):
        x, y, width, height = numbers.T
        known = np.isfinite(x + y + width + height)
        if kind == "xyxy":
            width, height = width - x, height - y
        elif kind == "xcycwh":
            x, y = x - width / 2, y - height / 2
        boxes = np.stack([x, y, width, height], axis=1)
        known &= np.isfinite(boxes).all(axis=1) & (width >= 0) & (height >= 0)
    return boxes, known


def read_probabilities(values: object, n_classes: int | None = None) -> list[float] | Reason:
    """A JSON list of one number per class, or why it is none; any number of them by default."""
    if values is None:
        return Reason.CLASS_PROBS_NULL
    if not isinstance(values, list):
        return Reason.CLASS_PROBS_NOT_LIST
    if not values:
        return Reason.CLASS_PROBS_EMPTY
    if any(value is None for value in values):
        return Reason.PROBABILITY_NULL
    numbers = [number for value in values if (number := as_number(value)) is not None]
    if len(numbers) != len(values):
        return Reason.PROBABILITY_NOT_NUMBER
    return numbers if n_classes in (None, len(numbers)) else Reason.OTHER_CLASS_COUNT


def bounds(polygon: Sequence[float]) -> Box:
    """Left, top, right and bottom of a polygon: x1, y1, x2, y2 and so on."""
    xs, ys = polygon[::2], polygon[1::2]
    return min(xs), min(ys), max(xs), max(ys)
