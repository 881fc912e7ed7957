"""The color of a class, which is the same in every picture of a pool."""

from __future__ import annotations

from collections.abc import Mapping
from zlib import crc32

from dagster_active_learning.gallery.png import Color

# The first five are told apart by people who do not see all colors (Okabe and Ito); all of them are
# easy to see on photos.
CLASS_COLORS = (
    (213, 94, 0), (0, 114, 178), (0, 158, 115), (204, 121, 167), (230, 159, 0),
    (91, 74, 155), (140, 86, 75), (64, 160, 214), (110, 118, 130), (134, 134, 20),
)  # fmt: skip


def class_color(position: int) -> Color:
    """The color of the class at a position, from 0, of the class names; of many some share one."""
    return CLASS_COLORS[position % len(CLASS_COLORS)]


def color_of(name: str | None, positions: Mapping[str, int]) -> Color:
    """The color of a class by its name; one that has no position has one of its own, too."""
    name = name or ""
    position = positions.get(name)
    # Any number will do that is the same in the next run.
    return class_color(
        crc32(name.encode("utf-8", "surrogatepass")) if position is None else position
    )
