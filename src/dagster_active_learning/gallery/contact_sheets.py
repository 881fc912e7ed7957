"""The first candidates on one sheet, as large as a limit on its bytes lets it be."""

from __future__ import annotations

import time
from collections.abc import Sequence

from dagster_active_learning.gallery.image_files import NotShownError, read_image_file
from dagster_active_learning.gallery.sheet import Layout, draw_sheet
from dagster_active_learning.gallery.thumbnails import Thumbnail, make_thumbnail
from dagster_active_learning.gallery.tiles import Tile

MIN_BYTES = 12_000
"""One tile takes less, whatever is in its picture."""

MAX_TILES = 60

READ_SECONDS = 60.0
"""How long the image files of a sheet may take to read, together."""

# Tiles in a row, and colors for all pictures. Photos that are too large get fewer colors first,
# then less room, and then some are left out. Few colors cost less than few pixels: 24 photos take
# 195 KB in 128 colors, 112 KB in 32, and 69 KB in 32 and three quarters of the width.
_STEPS = ((6, 128), (6, 48), (7, 48), (7, 32))


def contact_sheet(tiles: Sequence[Tile], *, max_bytes: int) -> bytes:
    """Draw the images of a candidates list as a PNG up to 1000 pixels wide, on a light ground.

    Under each image are its rank, predicted class, score and id. An image that cannot be shown
    has the reason in its place; nothing about an image raises. Small images are enlarged, very
    small ones with sharp pixels.

    Args:
        tiles: The images, first rank first. Those after the first ``MAX_TILES`` are not read.
        max_bytes: What the PNG may have at the most. For this the pictures get fewer colors, then
            less room, and then the last tiles are left out, which the sheet says.

    Raises:
        ValueError: If ``max_bytes`` is below ``MIN_BYTES``.
    """
    if max_bytes < MIN_BYTES:
        raise ValueError(f"max_bytes is {max_bytes}, expected at least {MIN_BYTES}")
    pictures = _load(tiles[:MAX_TILES])
    content = b""
    for columns, colors in _STEPS:
        content = draw_sheet(tiles, pictures, Layout(columns), colors)
        if len(content) <= max_bytes:
            return content
    columns, colors = _STEPS[-1]
    while len(content) > max_bytes and len(pictures) > 1:
        fitting = len(pictures) * max_bytes // len(content)
        pictures = pictures[: max(1, min(fitting, len(pictures) - 1))]
        content = draw_sheet(tiles, pictures, Layout(columns), colors)
    return content


def _load(tiles: Sequence[Tile]) -> list[Thumbnail | str]:
    """The pictures of tiles, or the reasons why there are none."""
    until = time.monotonic() + READ_SECONDS
    largest = Layout(min(columns for columns, _ in _STEPS)).stage
    pictures: list[Thumbnail | str] = []
    for tile in tiles:
        try:
            content = read_image_file(tile.uri, seconds=max(until - time.monotonic(), 0.0))
            pictures.append(make_thumbnail(content, largest))
        except NotShownError as error:
            pictures.append(str(error))
    return pictures
