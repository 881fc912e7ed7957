"""The objects in an image as the page draws them over its picture: shares of width and height."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from dagster_active_learning.errors import PoolStateError
from dagster_active_learning.exporters.masks import Pixels, is_run_lengths, mask_pixels
from dagster_active_learning.gallery.thumbnails import MAX_PIXELS, Placement
from dagster_active_learning.report.contents import PageObject

_DECIMALS = 4
"""Of shares: a tenth of a pixel of a large picture."""

_MOST_POINTS = 80
"""Points of an outline; of one that has more each second or third … is drawn."""

_MOST_OUTLINES = 8

_MASK_SIDE = 72
"""Rows and columns of a mask of pixels, at the most."""


def drawn_object(
    found: PageObject,
    classes: dict[str, int],
    placement: Placement,
    unit: str,
    image_size: tuple[int, int] | None,
) -> list[Any]:
    """An object as class, score, corners and the path of its mask, None where it has none.

    Corners are left, top, right and bottom. The path is one of SVG in shares of the picture.
    """
    corners = None if found.bbox is None else placement.corners(found.bbox, unit, image_size)
    return [
        None if found.label is None else classes.setdefault(found.label, len(classes)),
        None if found.score is None else round(found.score, 3),
        None if corners is None else [round(share, _DECIMALS) for share in corners],
        _mask_path(found.mask, placement, unit, image_size),
    ]


def _mask_path(
    mask: Any, placement: Placement, unit: str, image_size: tuple[int, int] | None
) -> str | None:
    if is_run_lengths(mask):
        if not _is_size(mask["size"]):
            return None
        try:
            return _path_of_pixels(mask_pixels(mask), placement, image_size)
        # Whatever a file has in the place of run lengths: a page is made all the same.
        except (PoolStateError, ValueError, TypeError, OverflowError):
            return None
    outlines = [outline for outline in mask or () if len(outline) >= 6][:_MOST_OUTLINES]
    return "".join(_path_of(outline, placement, unit, image_size) for outline in outlines) or None


def _is_size(size: Any) -> bool:
    """True for a height and a width of so many pixels as may be decoded."""
    match size:
        case [int(height), int(width)]:
            return 0 <= height * width <= MAX_PIXELS
        case _:
            return False


def _path_of(
    outline: Sequence[float],
    placement: Placement,
    unit: str,
    image_size: tuple[int, int] | None,
) -> str:
    points = [
        (x, y)
        for x, y in zip(outline[::2], outline[1::2], strict=False)
        if math.isfinite(x) and math.isfinite(y)
    ]
    if len(points) < 3:
        return ""
    step = -(-len(points) // _MOST_POINTS)
    placed = placement.points(points[::step], unit, image_size)
    return f"M{'L'.join(f'{x:.{_DECIMALS}f} {y:.{_DECIMALS}f}' for x, y in placed)}Z"


def _path_of_pixels(
    pixels: Pixels, placement: Placement, image_size: tuple[int, int] | None
) -> str | None:
    """The rows of a mask as bars, in the upright picture."""
    mirror_x, mirror_y, swap = placement.turn(image_size)
    pixels = pixels[:: -1 if mirror_y else 1, :: -1 if mirror_x else 1]
    pixels = pixels.T if swap else pixels
    height, width = (min(side, _MASK_SIDE) for side in pixels.shape)
    if not height or not width:
        return None
    rows = (np.arange(height) * 2 + 1) * pixels.shape[0] // (2 * height)
    columns = (np.arange(width) * 2 + 1) * pixels.shape[1] // (2 * width)
    edges = np.diff(np.pad(pixels[rows][:, columns].astype(np.int8), ((0, 0), (1, 1))))
    starts, ends = np.argwhere(edges == 1), np.argwhere(edges == -1)
    bars = [
        f"M{start / width:.{_DECIMALS}f} {row / height:.{_DECIMALS}f}"
        f"h{(end - start) / width:.{_DECIMALS}f}v{1 / height:.{_DECIMALS}f}"
        f"h{(start - end) / width:.{_DECIMALS}f}z"
        for (row, start), (_, end) in zip(starts.tolist(), ends.tolist(), strict=True)
    ]
    return "".join(bars) or None
