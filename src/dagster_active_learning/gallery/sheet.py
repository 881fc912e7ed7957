"""The drawing of a sheet of tiles: the places of things on it, and their looks."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw

from dagster_active_learning.gallery.class_colors import CLASS_COLORS, color_of
from dagster_active_learning.gallery.objects import OBJECT_INK, draw_objects
from dagster_active_learning.gallery.png import Color, encode_png, main_colors
from dagster_active_learning.gallery.text import load_font, number_text, shorten, wrap
from dagster_active_learning.gallery.thumbnails import Thumbnail
from dagster_active_learning.gallery.tiles import Tile

_SHEET_WIDTH = 1000
_MARGIN = 12
_GAP = 8
_PADDING = 8
_LINE = 16
_RADIUS = 5
_WIDE_COLUMNS = 8
_SWATCH = 8

# Hardly tinted: greys of a picture may become these, as Pillow finds near colors, not the nearest.
_GROUND = (240, 241, 243)
_CARD = (255, 255, 255)
_BORDER = (209, 211, 215)
_STAGE = (230, 231, 234)
_TEXT = (28, 30, 34)
_MUTED = (104, 108, 116)
_REASON = (150, 60, 48)

# The edges of letters have shades between the ground and the ink.
_INKS = (
    (_GROUND, _MUTED),
    (_CARD, _TEXT),
    (_CARD, _MUTED),
    (_STAGE, _REASON),
    *((color, OBJECT_INK) for color in CLASS_COLORS),
    *((_CARD, color) for color in CLASS_COLORS),
)
_SHADES = 4


@dataclass(frozen=True)
class Layout:
    """The places of things on a sheet with ``columns`` tiles per row."""

    columns: int

    @property
    def tile_width(self) -> int:
        """In pixels."""
        return (_SHEET_WIDTH - 2 * _MARGIN + _GAP) // self.columns - _GAP

    @property
    def stage(self) -> tuple[int, int]:
        """Width and height of the room for a picture: most photos are a little wider than high."""
        return (self.tile_width, self.tile_width * 3 // 4)

    @property
    def is_narrow(self) -> bool:
        """True where class and id need a line each."""
        return self.columns > _WIDE_COLUMNS

    @property
    def tile_height(self) -> int:
        """In pixels."""
        return self.stage[1] + (3 if self.is_narrow else 2) * _LINE + _PADDING + 2

    def corner(self, place: int) -> tuple[int, int]:
        """Left and top of a tile, by its place from 0."""
        row, column = divmod(place, self.columns)
        return (
            _MARGIN + column * (self.tile_width + _GAP),
            _MARGIN + row * (self.tile_height + _GAP),
        )

    def sheet_size(self, count: int) -> tuple[int, int]:
        """Width and height of a sheet of ``count`` tiles, with room for two at least."""
        in_row = min(max(count, 2), self.columns)
        rows = math.ceil(count / self.columns)
        return (
            2 * _MARGIN + in_row * (self.tile_width + _GAP) - _GAP,
            2 * _MARGIN + rows * (self.tile_height + _GAP) - _GAP,
        )


def draw_sheet(
    tiles: Sequence[Tile],
    pictures: Sequence[Thumbnail | str],
    layout: Layout,
    colors: int,
    positions: Mapping[str, int],
) -> bytes:
    """Draw tiles as a PNG.

    Args:
        tiles: All tiles.
        pictures: For each of the first tiles, its picture or the reason why there is none. The
            other tiles are left out, and a line below says so.
        layout: The places of things.
        colors: The number of colors that all pictures have together.
        positions: The position of each class, which says its color.
    """
    shown = tiles[: len(pictures)]
    width, height = layout.sheet_size(len(shown))
    note = _note(len(shown), len(tiles))
    sheet = Image.new("RGB", (width, height + (_LINE if note else 0)), _GROUND)
    card = Image.new("L", (layout.tile_width, layout.tile_height))
    ImageDraw.Draw(card).rounded_rectangle(((0, 0), _last(card.size)), _RADIUS, fill=255)
    fitted: list[Image.Image] = []
    for place, (tile, picture) in enumerate(zip(shown, pictures, strict=True)):
        drawn = Image.new("RGB", card.size, _CARD)
        draw = ImageDraw.Draw(drawn)
        draw.rectangle(((0, 0), _last(layout.stage)), fill=_STAGE)
        if isinstance(picture, str):
            _draw_reason(draw, picture, layout.stage)
        else:
            fitted.append(_fit(picture.picture, layout.stage))
            left = (layout.stage[0] - fitted[-1].width) // 2
            top = (layout.stage[1] - fitted[-1].height) // 2
            drawn.paste(fitted[-1], (left, top))
            draw_objects(draw, tile, picture, (left, top, *fitted[-1].size), positions)
        at = (_PADDING, layout.stage[1] + _PADDING // 2)
        _draw_caption(draw, tile, at, layout, positions)
        draw.rounded_rectangle(((0, 0), _last(card.size)), _RADIUS, outline=_BORDER)
        sheet.paste(drawn, layout.corner(place), card)
    if note:
        font = load_font(11)
        text = shorten(note, font, width - 2 * _MARGIN)
        at = (_MARGIN, height - _MARGIN + _PADDING // 2)
        ImageDraw.Draw(sheet).text(at, text, _MUTED, font)
    return encode_png(sheet, [*_own_colors(), *main_colors(fitted, colors)])


def _last(size: tuple[int, int]) -> tuple[int, int]:
    return (size[0] - 1, size[1] - 1)


def _note(shown: int, count: int) -> str:
    if not count:
        return "No candidates"
    return "" if shown == count else f"The first {shown} of {count}: more do not fit"


def _fit(picture: Image.Image, stage: tuple[int, int]) -> Image.Image:
    """A picture as large as its room; one with few pixels keeps them sharp."""
    scale = min(stage[0] / picture.width, stage[1] / picture.height)
    # Reduced with a sharper filter, photos take up to a tenth more bytes.
    method = Image.Resampling.BILINEAR if scale < 1 else Image.Resampling.LANCZOS
    if scale >= 3:
        scale, method = math.floor(scale), Image.Resampling.NEAREST
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    return picture.resize(size, method)


def _draw_reason(draw: ImageDraw.ImageDraw, reason: str, stage: tuple[int, int]) -> None:
    plain, bold = load_font(11), load_font(11, bold=True)
    lines = [("not shown", bold)]
    lines += [(line, plain) for line in wrap(reason, plain, stage[0] - 2 * _PADDING, 4)]
    top = (stage[1] - len(lines) * _LINE) // 2
    for number, (line, font) in enumerate(lines):
        left = (stage[0] - font.getlength(line)) / 2
        draw.text((left, top + number * _LINE), line, _REASON, font)


def _draw_caption(
    draw: ImageDraw.ImageDraw,
    tile: Tile,
    at: tuple[int, int],
    layout: Layout,
    positions: Mapping[str, int],
) -> None:
    """Write rank and class, below score and id; in a narrow tile rank and score, class, id."""
    left, top = at
    width = layout.tile_width - 2 * _PADDING
    right = left + width
    plain, bold = load_font(11), load_font(12, bold=True)
    rank = f"{tile.rank:,}"
    draw.text((left, top), rank, _MUTED, bold)
    score = "no score" if tile.score is None else number_text(tile.score)
    score = score if tile.reason is None else shorten(tile.reason, plain, width // 2)
    if layout.is_narrow:
        draw.text((right - plain.getlength(score), top), score, _TEXT, plain)
        _draw_class(draw, tile, (left, top + _LINE), width, positions)
        image_id = shorten(tile.image_id, plain, width, middle=True)
        draw.text((left, top + 2 * _LINE), image_id, _MUTED, plain)
    else:
        indent = bold.getlength(rank) + _PADDING
        _draw_class(draw, tile, (left + indent, top), width - indent, positions)
        draw.text((left, top + _LINE), score, _TEXT, plain)
        room = width - plain.getlength(score) - _PADDING
        image_id = shorten(tile.image_id, plain, room, middle=True)
        draw.text((right - plain.getlength(image_id), top + _LINE), image_id, _MUTED, plain)


def _draw_class(
    draw: ImageDraw.ImageDraw,
    tile: Tile,
    at: tuple[float, float],
    width: float,
    positions: Mapping[str, int],
) -> None:
    """Write the class behind a square of its color, or what stands in its place."""
    if tile.predicted_class is None:
        words = "no class" if tile.stands_for is None else tile.stands_for
        draw.text(at, shorten(words, load_font(11), width), _MUTED, load_font(11))
        return
    left, top = at
    color = color_of(tile.predicted_class, positions)
    draw.rectangle((left, top + 3, left + _SWATCH - 1, top + 2 + _SWATCH), color)
    bold, indent = load_font(12, bold=True), _SWATCH + _PADDING // 2
    draw.text(
        (left + indent, top), shorten(tile.predicted_class, bold, width - indent), _TEXT, bold
    )


def _own_colors() -> list[Color]:
    """Colors of all that is no picture, which it keeps however few the pictures have."""
    shades = [_shade(ground, ink, step) for ground, ink in _INKS for step in range(_SHADES + 1)]
    return list(dict.fromkeys([_BORDER, *shades]))


def _shade(ground: Color, ink: Color, step: int) -> Color:
    red, green, blue = (
        round(start + (end - start) * step / _SHADES)
        for start, end in zip(ground, ink, strict=True)
    )
    return (red, green, blue)
