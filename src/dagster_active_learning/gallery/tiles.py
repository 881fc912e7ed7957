"""The images of a contact sheet."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class Box:
    """An object in an image.

    Attributes:
        bbox: x and y of the top left corner, width and height, in the tile's ``bbox_unit``.
        label: The object's class, where the model names one.
        score: The detector's own score, where it gives one.
    """

    bbox: tuple[float, float, float, float]
    label: str | None = None
    score: float | None = None


@dataclass(frozen=True, kw_only=True)
class Tile:
    """An image with the words under it and the boxes on it.

    Attributes:
        rank: Place in the queue, from 1.
        image_id: The image's id.
        uri: The place of the image file: a path (a relative one starts at the working directory),
            a file:// URI, or a URI of any file system that fsspec knows. It may hold secrets.
        score: The image's score in the acquisition function's own unit.
        reason: Words that stand in place of the score.
        predicted_class: The class the model gives the image.
        stands_for: Words in place of the class, where the tile stands for images like it.
        boxes: The objects in it; the first ``MAX_OBJECTS`` are drawn, the others need not be given.
        object_count: The number of all its objects, where not all are given.
        bbox_unit: The unit of boxes: pixels, or shares of the image's width and height.
        image_size: Width and height that the manifest has. Boxes are those of the image turned
            upright, as its EXIF orientation says, unless this is its size before it is turned.
    """

    rank: int
    image_id: str
    uri: str | None = field(repr=False)
    score: float | None = None
    reason: str | None = None
    predicted_class: str | None = None
    stands_for: str | None = None
    boxes: tuple[Box, ...] = ()
    object_count: int = 0
    bbox_unit: Literal["pixel", "relative"] = "pixel"
    image_size: tuple[int, int] | None = None
