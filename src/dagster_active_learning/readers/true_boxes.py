"""Boxes that people drew, from a COCO instances file: what a detector is judged by."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from dagster_active_learning.errors import PredictionReadError
from dagster_active_learning.readers.formats.coco import first_character, table_entries
from dagster_active_learning.readers.json_stream import json_items
from dagster_active_learning.readers.quarantine import Reason
from dagster_active_learning.readers.values import Box, as_box, as_name, as_number


@dataclass(frozen=True)
class TrueBoxes:
    """The boxes of labeled images.

    Attributes:
        image_ids: The labeled images, also those without an object.
        sizes: (n_images, 2) width and height of each in pixels, NaN where the file has none.
        image: (n_boxes,) the place of each box's image in ``image_ids``.
        category: (n_boxes,) the name of its class.
        box: (n_boxes, 4) x and y of the top left corner, width and height in pixels.
        is_crowd: (n_boxes,) true where it is around many objects.
    """

    image_ids: list[str]
    sizes: npt.NDArray[np.float64]
    image: npt.NDArray[np.int64]
    category: list[str]
    box: npt.NDArray[np.float64]
    is_crowd: npt.NDArray[np.bool_]


def read_true_boxes(path: Path, *, image_id: Literal["id", "file_name"] = "id") -> TrueBoxes:
    """Read the boxes of a COCO instances file; masks and what else it has are left out.

    Args:
        path: The file, with the tables images, annotations and categories.
        image_id: Which of an image's names is its id in the pool.

    Raises:
        PredictionReadError: If the file cannot be read as that, or an annotation is about an image
            or of a category that it does not have.
    """
    first_character(path)
    places: dict[str, int] = {}
    ids: list[str] = []
    sizes: list[tuple[float, float]] = []
    for number, name, image in table_entries(path, "images"):
        if number in places:
            raise PredictionReadError(f"{path}: two images have the id {number!r}")
        places[number] = len(ids)
        ids.append(number if image_id == "id" else name)
        sizes.append((_size(image.get("width")), _size(image.get("height"))))
    repeated = len(ids) - len(set(ids))
    if repeated:
        raise PredictionReadError(
            f"{path}: {repeated} images have the {image_id} of another one; every image has an id "
            "of its own"
        )
    categories = {number: name for number, name, _ in table_entries(path, "categories")}
    images: list[int] = []
    names: list[str] = []
    boxes: list[Box] = []
    crowds: list[bool] = []
    for position, row in enumerate(json_items(path, "annotations", "annotations"), start=1):
        where = f"{path}: entry {position} of annotations"
        entry: dict[str, Any] = row if isinstance(row, dict) else {}
        place = places.get(as_name(entry.get("image_id")) or "")
        category = categories.get(as_name(entry.get("category_id")) or "")
        box = as_box(entry.get("bbox"))
        if place is None or category is None or isinstance(box, Reason):
            text = json.dumps(row, ensure_ascii=False, default=str)[:200]
            raise PredictionReadError(
                f"{where} is {text}: expected an image_id and a category_id of the file, and a "
                "bbox of four numbers"
            )
        images.append(place)
        names.append(category)
        boxes.append(box)
        crowds.append(bool(entry.get("iscrowd", 0)))
    return TrueBoxes(
        image_ids=ids,
        sizes=np.array(sizes, np.float64).reshape(-1, 2),
        image=np.array(images, np.int64),
        category=names,
        box=np.array(boxes, np.float64).reshape(-1, 4),
        is_crowd=np.array(crowds, np.bool_),
    )


def _size(value: object) -> float:
    number = as_number(value)
    return number if number is not None and number > 0 else math.nan
