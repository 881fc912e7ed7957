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
"""How long the image files of a prediction set's sheets may take to read, together."""

# Tiles in a row, colors for all pictures, and the least share of the first one's bytes that this
# takes. Images that are too large get fewer colors first, then less room, and then some are left
# out. Few pixels save more than few colors: 24 photos take 183 KB at first, 141 KB in 48 colors,
# 81 KB in 8 columns, 52 KB in 10 and 38 KB in 12.
_STEPS = (
    (6, 128, 1.0),
    (6, 48, 0.7),
    (8, 48, 0.4),
    (10, 32, 0.24),
    (12, 32, 0.16),
    (12, 16, 0.0),
)
_LARGEST = Layout(6).stage


class Thumbnails:
    """The pictures of image files, each read and decoded once for all the sheets that it is on."""

    def __init__(self) -> None:
        self._until = time.monotonic() + READ_SECONDS
        self._made: dict[str | None, Thumbnail | str] = {}

    def of(self, uri: str | None) -> Thumbnail | str:
        """The picture in a file, or the reason why there is none."""
        if uri not in self._made:
            self._made[uri] = self._make(uri)
        return self._made[uri]

    def _make(self, uri: str | None) -> Thumbnail | str:
        try:
            content = read_image_file(uri, seconds=max(self._until - time.monotonic(), 0.0))
            return make_thumbnail(content, _LARGEST)
        except NotShownError as error:
            return str(error)


def contact_sheet(tiles: Sequence[Tile], thumbnails: Thumbnails, *, max_bytes: int) -> bytes:
    """Draw the images of a candidates list as a PNG up to 1000 pixels wide, on a light ground.

    Under each image are its rank, predicted class, score and id. An image that cannot be shown
    has the reason in its place; nothing about an image raises. Small images are enlarged, very
    small ones with sharp pixels.

    Args:
        tiles: The images, first rank first. Those after the first ``MAX_TILES`` are not read.
        thumbnails: Where the pictures are from; with the same ones for several sheets, an image
            that is on all of them is read once.
        max_bytes: What the PNG may have at the most. For this the pictures get fewer colors, then
            less room, and then the last tiles are left out, which the sheet says.

    Raises:
        ValueError: If ``max_bytes`` is below ``MIN_BYTES``.
    """
    if max_bytes < MIN_BYTES:
        raise ValueError(f"max_bytes is {max_bytes}, expected at least {MIN_BYTES}")
    pictures = [thumbnails.of(tile.uri) for tile in tiles[:MAX_TILES]]

    content, first_bytes = b"", 0
    for columns, colors, share in _STEPS:
        # What would be too large is not drawn, which takes 30 ms.
        if first_bytes * share <= max_bytes:
            content = draw_sheet(tiles, pictures, Layout(columns), colors)
            first_bytes = first_bytes or len(content)
            if len(content) <= max_bytes:
                return content
    columns, colors, _ = _STEPS[-1]
    while len(content) > max_bytes and len(pictures) > 1:
        fitting = len(pictures) * max_bytes // len(content)
        pictures = pictures[: max(1, min(fitting, len(pictures) - 1))]
        content = draw_sheet(tiles, pictures, Layout(columns), colors)
    return content
