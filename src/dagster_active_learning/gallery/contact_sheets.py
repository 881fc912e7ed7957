"""The first candidates on one sheet, as large as a limit on its bytes lets it be."""

from __future__ import annotations

from collections.abc import Sequence

from dagster_active_learning.gallery.pictures import Thumbnails
from dagster_active_learning.gallery.sheet import Layout, draw_sheet
from dagster_active_learning.gallery.tiles import Tile

MIN_BYTES = 12_000
"""One tile takes less, whatever is in its picture."""

MAX_TILES = 60

# Tiles per row, colors for all pictures, and the least share of the first sheet's bytes that such a
# sheet takes. Pictures that are too large get fewer colors first, then less room, and then some are
# left out. Few pixels save more than few colors: 24 photos take 183 KB at first, 141 KB in 48
# colors, 81 KB in 8 columns, 52 KB in 10 and 38 KB in 12.
_STEPS = (
    (6, 128, 1.0),
    (6, 48, 0.7),
    (8, 48, 0.4),
    (10, 32, 0.24),
    (12, 32, 0.16),
    (12, 16, 0.0),
)


def contact_sheet(
    tiles: Sequence[Tile],
    thumbnails: Thumbnails,
    *,
    class_names: Sequence[str] = (),
    max_bytes: int,
) -> bytes:
    """Draw the images of a candidates list as a PNG up to 1000 pixels wide, on a light ground.

    Under each image are its rank, predicted class, score and id. An image that cannot be shown
    has the reason in its place; nothing about an image raises. Small images are enlarged, very
    small ones with sharp pixels.

    Args:
        tiles: The images, first rank first. Those after the first ``MAX_TILES`` are not read.
        thumbnails: The pictures. Sheets that share them read each image once.
        class_names: The classes in their order, which says the color of each.
        max_bytes: The most bytes that the PNG may have. Pictures that are too large get fewer
            colors, then less room, and then the last tiles are left out, which the sheet says.

    Raises:
        ValueError: If ``max_bytes`` is below ``MIN_BYTES``.
    """
    if max_bytes < MIN_BYTES:
        raise ValueError(f"max_bytes is {max_bytes}, expected at least {MIN_BYTES}")
    positions = {name: position for position, name in enumerate(class_names)}
    pictures = [thumbnails.of(tile.uri) for tile in tiles[:MAX_TILES]]

    content, first_bytes = b"", 0
    for columns, colors, share in _STEPS:
        # A sheet that would be too large is not drawn: drawing takes 30 ms.
        if first_bytes * share <= max_bytes:
            content = draw_sheet(tiles, pictures, Layout(columns), colors, positions)
            first_bytes = first_bytes or len(content)
            if len(content) <= max_bytes:
                return content
    columns, colors, _ = _STEPS[-1]
    while len(content) > max_bytes and len(pictures) > 1:
        fitting = len(pictures) * max_bytes // len(content)
        pictures = pictures[: max(1, min(fitting, len(pictures) - 1))]
        content = draw_sheet(tiles, pictures, Layout(columns), colors, positions)
    return content
