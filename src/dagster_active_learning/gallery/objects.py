"""The objects in an image: their boxes, and where there is room their class and score."""

from __future__ import annotations

from collections.abc import Mapping

from PIL import ImageDraw

from dagster_active_learning.gallery.class_colors import color_of
from dagster_active_learning.gallery.png import Color
from dagster_active_learning.gallery.text import literal, load_font
from dagster_active_learning.gallery.thumbnails import Corners, Thumbnail
from dagster_active_learning.gallery.tiles import Box, Tile

MAX_OBJECTS = 100
"""The most that are drawn in an image: more would hide it."""

OBJECT_INK = (255, 255, 255)

_LINE_WIDTH = 2
_TAG_HEIGHT = 13
_TAG_PADDING = 3
# A text may be this much wider than its box: more would look as if it were another's.
_TAG_BEYOND = 14
_COUNT_COLOR = (28, 33, 40)


def draw_objects(
    draw: ImageDraw.ImageDraw,
    tile: Tile,
    thumbnail: Thumbnail,
    place: tuple[int, int, int, int],
    positions: Mapping[str, int],
) -> None:
    """Draw the boxes of a tile, large ones first, so that small ones in them are seen.

    Args:
        draw: The ground of the tile.
        tile: The image with its boxes.
        thumbnail: The image's picture.
        place: Left, top, width and height of the picture in the tile.
        positions: The position of each class, which says its color.
    """
    objects: list[tuple[Box, Corners]] = []
    for box in tile.boxes[:MAX_OBJECTS]:
        corners = thumbnail.corners(box.bbox, tile.bbox_unit, tile.image_size)
        if corners is not None:
            objects.append((box, _in_tile(corners, place)))
    for box, corners in sorted(objects, key=lambda drawn: -_area(drawn[1])):
        draw.rectangle(corners, outline=color_of(box.label, positions), width=_LINE_WIDTH)
    tags: list[Corners] = []
    left, top, width, height = place
    object_count = max(tile.object_count, len(tile.boxes))
    if object_count > MAX_OBJECTS:
        count = f"{MAX_OBJECTS} of {object_count:,} objects"
        bottom = (left, top + height - 1, left + width, top + height - 1)
        _draw_tag(draw, count, bottom, place, _COUNT_COLOR, tags)
    for box, corners in objects:
        color = color_of(box.label, positions)
        score = None if box.score is None else f"{box.score:.2f}"
        text = " ".join(part for part in (box.label, score) if part is not None)
        for shown in filter(None, (text, score)):
            if _draw_tag(draw, shown, corners, place, color, tags):
                break


def _draw_tag(
    draw: ImageDraw.ImageDraw,
    text: str,
    box: Corners,
    place: tuple[int, int, int, int],
    color: Color,
    tags: list[Corners],
) -> bool:
    """Write above a box, below it or, if it is large, in it, where that hides no earlier text."""
    font = load_font(9)
    text = literal(text)
    width = font.getlength(text) + 2 * _TAG_PADDING
    if width > box[2] - box[0] + _TAG_BEYOND:
        return False
    left = max(place[0], min(box[0], place[0] + place[2] - width))
    tops = [box[1] - _TAG_HEIGHT + 1, box[3]]
    if box[3] - box[1] >= 3 * _TAG_HEIGHT:
        tops.append(box[1])
    for top in tops:
        tag = (left, top, left + width - 1, top + _TAG_HEIGHT - 1)
        inside = place[1] <= top and tag[3] < place[1] + place[3] and tag[2] < place[0] + place[2]
        if inside and not any(_overlap(tag, other) for other in tags):
            tags.append(tag)
            draw.rectangle(tag, fill=color)
            draw.text((left + _TAG_PADDING, top + 1), text, OBJECT_INK, font)
            return True
    return False


def _overlap(one: Corners, other: Corners) -> bool:
    return one[0] <= other[2] and other[0] <= one[2] and one[1] <= other[3] and other[1] <= one[3]


def _in_tile(corners: Corners, place: tuple[int, int, int, int]) -> Corners:
    left, top, width, height = place
    return (
        left + round(corners[0] * (width - 1)),
        top + round(corners[1] * (height - 1)),
        left + round(corners[2] * (width - 1)),
        top + round(corners[3] * (height - 1)),
    )


def _area(corners: Corners) -> float:
    return (corners[2] - corners[0]) * (corners[3] - corners[1])
