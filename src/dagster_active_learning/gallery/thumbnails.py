"""An image file's content as a small upright picture, whatever kind of image it is."""

from __future__ import annotations

import math
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import numpy as np
from PIL import Image, UnidentifiedImageError

from dagster_active_learning.gallery.image_files import NotShownError

MAX_PIXELS = 50_000_000
"""Images with more are not decoded: 50 million take up to 0.6 GB for a moment."""

# Pillow would also try formats that run other programs (EPS) or that no camera writes.
_FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP")

_ORIENTATION_TAG = 0x0112
# What makes a stored image upright, by its EXIF orientation: whether to mirror it left to right,
# then top to bottom, and then to swap x and y.
_TURNS = {
    1: (False, False, False),
    2: (True, False, False),
    3: (True, True, False),
    4: (False, True, False),
    5: (False, False, True),
    6: (False, True, True),
    7: (True, True, True),
    8: (True, False, True),
}

# Under transparent pixels: neither black nor white drawings vanish on it.
_BEHIND = (216, 218, 222, 255)

Corners = tuple[float, float, float, float]


@dataclass(frozen=True)
class Thumbnail:
    """A small picture of an image.

    Attributes:
        picture: In RGB, upright, not larger than was asked for and never enlarged.
        stored_size: Width and height in the file, in pixels, before it is turned upright.
        orientation: The EXIF orientation, 1 to 8.
    """

    picture: Image.Image
    stored_size: tuple[int, int]
    orientation: int

    def corners(self, bbox: Corners, unit: str) -> Corners | None:
        """Where a box of the stored image lies in the upright picture.

        Args:
            bbox: x, y, width, height.
            unit: ``"pixel"`` or ``"relative"``.

        Returns:
            Left, top, right and bottom as shares of the picture's width and height, cut at its
            edges; None if nothing of the box is inside, or it is no box.
        """
        if not all(map(math.isfinite, bbox)):
            return None
        width, height = self.stored_size if unit == "pixel" else (1, 1)
        mirror_x, mirror_y, swap = _TURNS[self.orientation]
        xs = _inside(bbox[0] / width, (bbox[0] + bbox[2]) / width, mirror=mirror_x)
        ys = _inside(bbox[1] / height, (bbox[1] + bbox[3]) / height, mirror=mirror_y)
        if xs[0] >= xs[1] or ys[0] >= ys[1]:
            return None
        if swap:
            xs, ys = ys, xs
        return (xs[0], ys[0], xs[1], ys[1])


def _inside(start: float, end: float, *, mirror: bool) -> tuple[float, float]:
    start, end = min(max(start, 0.0), 1.0), min(max(end, 0.0), 1.0)
    return (1 - end, 1 - start) if mirror else (start, end)


def make_thumbnail(content: bytes, size: tuple[int, int]) -> Thumbnail:
    """Decode an image and reduce it; of several frames or pages the first.

    Grey values of more than 8 bits are stretched between the darkest and the brightest one in the
    image: scanners and sensors use a small part of 16 bits, which would all be black.

    Args:
        content: What is in the image file.
        size: The largest width and height that the picture may have.

    Raises:
        NotShownError: If it is no image that Pillow reads, is broken, or has more than
            ``MAX_PIXELS``.
    """
    Image.init()
    formats = [name for name in _FORMATS if name in Image.OPEN]
    try:
        with Image.open(BytesIO(content), formats=formats) as image:
            return _reduced(image, size)
    except NotShownError:
        raise
    except UnidentifiedImageError as error:
        raise NotShownError("not an image in a known format") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise NotShownError(f"too large: more than {MAX_PIXELS:,} pixels") from error
    # Decoders raise nearly anything for broken files: SyntaxError, ValueError, struct.error …
    except Exception as error:
        raise NotShownError(f"broken: {str(error) or type(error).__name__}") from error


def _reduced(image: Image.Image, size: tuple[int, int]) -> Thumbnail:
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise NotShownError(f"too large: {width:,} x {height:,} pixels")
    orientation = _orientation(image)
    mirror_x, mirror_y, swap = _TURNS[orientation]
    if image.format == "TIFF":
        # Pillow turns these by itself, and gives their size as it is then.
        stored_size = (height, width) if swap else (width, height)
        return Thumbnail(_as_rgb(image, size), stored_size, orientation)
    picture = _as_rgb(image, (size[1], size[0]) if swap else size)
    for wanted, method in (
        (mirror_x, Image.Transpose.FLIP_LEFT_RIGHT),
        (mirror_y, Image.Transpose.FLIP_TOP_BOTTOM),
        (swap, Image.Transpose.TRANSPOSE),
    ):
        if wanted:
            picture = picture.transpose(method)
    return Thumbnail(picture, (width, height), orientation)


def _orientation(image: Image.Image) -> int:
    try:
        found: Any = image.getexif().get(_ORIENTATION_TAG)
    # An image whose EXIF data are broken is shown all the same, as it is stored.
    except Exception:
        return 1
    return found if found in _TURNS else 1


def _as_rgb(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """A reduced copy in RGB; of JPEG files no more is decoded than that takes."""
    if image.mode == "F" or image.mode.startswith("I"):
        return _stretched(image, size).convert("RGB")
    if image.has_transparency_data:
        # Pillow takes two steps from premultiplied grey.
        image = (image.convert("LA") if image.mode == "La" else image).convert("RGBA")
        image.thumbnail(size)
        return Image.alpha_composite(Image.new("RGBA", image.size, _BEHIND), image).convert("RGB")
    if image.mode in ("1", "P"):
        # Neither shades between two bits nor between two places in a palette can be averaged.
        image = image.convert("RGB")
    image.thumbnail(size)
    return image.convert("RGB")


def _stretched(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    floats = image if image.mode == "F" else image.convert("I").convert("F")
    # Averages do not leave the range of the values, as sharper filters do.
    floats.thumbnail(size, Image.Resampling.BOX)
    values = np.asarray(floats, np.float64)
    finite = np.isfinite(values)
    if not finite.any():
        raise NotShownError("broken: no finite value in it")
    low, high = values[finite].min(), values[finite].max()
    shares = (np.where(finite, values, low) - low) / ((high - low) or 1.0)
    return Image.fromarray((shares * 255).round().astype(np.uint8))
