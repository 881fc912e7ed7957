"""Text in a picture: as it is, on one line, and not wider than its room."""

from __future__ import annotations

import unicodedata
from bisect import bisect_left
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from PIL import ImageFont

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

# More never fits on a line, and measuring it takes time.
_LONGEST = 200


@lru_cache
def load_font(size: int, *, bold: bool = False) -> Font:
    """The font that comes with matplotlib, which has Latin, Greek, Cyrillic and more.

    Where a distribution has taken it out, the font in Pillow, which has ASCII.
    """
    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    # Nothing else of matplotlib is needed: importing it takes longer than a sheet of pictures.
    matplotlib = find_spec("matplotlib")
    folder = Path(str(matplotlib and matplotlib.origin)).parent / "mpl-data" / "fonts" / "ttf"
    try:
        return ImageFont.truetype(str(folder / name), size)
    except OSError:
        return ImageFont.load_default(size)


def literal(text: str) -> str:
    r"""Text that shows all that is in it: no line breaks, nothing invisible, nothing that turns it.

    Control characters, marks that stack up and characters the font does not have are written as
    in a Python string, ``\n`` or ``\u4eba``. Of long text the middle is left out.
    """
    if len(text) > _LONGEST:
        text = f"{text[: _LONGEST // 2]}…{text[-_LONGEST // 2 :]}"
    return "".join(
        character if _can_be_drawn(character) else character.encode("unicode_escape").decode()
        for character in unicodedata.normalize("NFC", text)
    )


def number_text(value: float) -> str:
    """A score as people read it: 0.613, 12,345, 1.5e+09."""
    if 1000 <= abs(value) < 1e7:
        return f"{value:,.0f}"
    return f"{value:.3f}" if abs(value) < 1000 else f"{value:.3g}"


def shorten(text: str, font: Font, width: float, *, middle: bool = False) -> str:
    """The text as ``literal`` gives it, with … for the part that does not fit.

    That is the end or the middle: file names mostly differ near the end.
    """
    text = literal(text)
    if font.getlength(text) <= width:
        return text

    def cut(kept: int) -> str:
        tail = kept * 2 // 3 if middle else 0
        return f"{text[: kept - tail]}…{text[len(text) - tail :]}"

    too_long = bisect_left(
        range(len(text)), True, key=lambda kept: font.getlength(cut(kept)) > width
    )
    return cut(max(too_long - 1, 0))


def wrap(text: str, font: Font, width: float, lines: int) -> list[str]:
    """The text as ``literal`` gives it, on at most ``lines`` lines, shortened if need be."""
    wrapped: list[str] = []
    words = literal(text).split()
    while words and len(wrapped) < lines - 1:
        count = 1
        while count < len(words) and font.getlength(" ".join(words[: count + 1])) <= width:
            count += 1
        wrapped.append(shorten(" ".join(words[:count]), font, width))
        words = words[count:]
    return [*wrapped, shorten(" ".join(words), font, width)] if words else wrapped


@lru_cache(maxsize=4096)
def _can_be_drawn(character: str) -> bool:
    if not character.isprintable() or unicodedata.category(character) in ("Mn", "Me"):
        return False
    # A font draws all characters that it does not have as it draws this one, which is none.
    return character == " " or all(
        _pixels(character, bold=bold) != _pixels("\uffff", bold=bold) for bold in (False, True)
    )


def _pixels(character: str, *, bold: bool) -> bytes:
    mask: Any = load_font(16, bold=bold).getmask(character)
    return bytes(mask)
