"""An image file's content as a small upright picture, whatever kind of image it is."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from io import BytesIO
from typing import Any

from PIL import Image, UnidentifiedImageError
from PIL.ImageFile import ImageFile

from dagster_active_learning.gallery.not_shown import NotShownError

MAX_PIXELS = 50_000_000
"""Images with more are not decoded."""

MAX_DECODED_BYTES = 512 * 2**20
"""Images whose decoder takes more, the picture included, are not decoded."""

MAX_SCANNED_PIXELS = 1_000_000_000
"""JPEG files whose scans have more pixels together are not decoded: they take 4 seconds."""

MAX_INTERPRETED_BYTES = 1_000_000
"""Images with more pixels or bytes are not decoded if their decoder is written in Python.

Numbers in plain text take 2 seconds.
"""

# Pillow would also try formats that run other programs (EPS) or that no camera writes.
_FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP")

# The memory of a decoder per pixel: measured with photos, for AVIF with 12 bits per channel. The
# others keep the picture, 4 bytes, or the coefficients of a progressive JPEG file, up to 8.
_BYTES_PER_PIXEL = {"AVIF": 16, "JPEG2000": 25, "WEBP": 17}
_OTHER_BYTES_PER_PIXEL = 8
_STRIP_PIXELS = 1_000_000
_REDUCING_GAP = 2

_ORIENTATION_TAG = 0x0112
# The steps that make a stored image upright, by its EXIF orientation: to mirror it left to right,
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


@dataclass(frozen=True, kw_only=True)
class Placement:
    """The way an image lies in its file, by which places in it are found in its upright picture.

    Most detectors turn an image upright before they look at it: OpenCV does so by itself. A place
    is one in the upright image, unless ``image_size``, the width and height of the image that the
    place is in, where they are known, says that it is one in the stored image.

    Attributes:
        stored_size: Width and height in the file, in pixels, before it is turned upright.
        orientation: The EXIF orientation, 1 to 8.
    """

    stored_size: tuple[int, int]
    orientation: int

    def corners(
        self, bbox: Corners, unit: str, image_size: tuple[int, int] | None = None
    ) -> Corners | None:
        """The place of a box in the upright picture.

        Args:
            bbox: x, y, width, height.
            unit: ``"pixel"`` or ``"relative"``.
            image_size: Width and height of the image that the box is in, where they are known.

        Returns:
            Left, top, right and bottom as shares of the picture's width and height, cut at its
            edges; None if nothing of the box is inside, or it is no box.
        """
        if not all(map(math.isfinite, bbox)):
            return None
        left, top, width, height = bbox
        ends = self.points([(left, top), (left + width, top + height)], unit, image_size)
        (x1, y1), (x2, y2) = ends
        # A width or height below 0 is no box, whichever way it is turned.
        if width <= 0 or height <= 0 or x1 == x2 or y1 == y2:
            return None
        return (min(x1, x2), min(y1, y2), max(x1, x2), max(y1, y2))

    def points(
        self,
        points: Iterable[tuple[float, float]],
        unit: str,
        image_size: tuple[int, int] | None = None,
    ) -> list[tuple[float, float]]:
        """Points as shares of the upright picture's width and height, those outside at its edges.

        Args:
            points: x and y of each, finite.
            unit: ``"pixel"`` or ``"relative"``.
            image_size: Width and height of the image that they are in, where they are known.
        """
        mirror_x, mirror_y, swap = self.turn(image_size)
        width, height = self.stored_size
        if _TURNS[self.orientation][2] and not swap:
            width, height = height, width
        if unit == "relative":
            width = height = 1
        placed = [
            (_inside(x / width, mirror=mirror_x), _inside(y / height, mirror=mirror_y))
            for x, y in points
        ]
        return [(y, x) for x, y in placed] if swap else placed

    def turn(self, image_size: tuple[int, int] | None) -> tuple[bool, bool, bool]:
        """Whether places are to be mirrored left to right, top to bottom, and x and y swapped.

        Args:
            image_size: Width and height of the image that the places are in, where known.
        """
        turn = _TURNS[self.orientation]
        width, height = self.stored_size
        is_stored = turn[2] and width != height and image_size == self.stored_size
        return turn if is_stored else _TURNS[1]


@dataclass(frozen=True, kw_only=True)
class Thumbnail(Placement):
    """A small picture of an image.

    Attributes:
        picture: In RGB, upright, within the size that was asked for and never enlarged.
    """

    picture: Image.Image


def _inside(share: float, *, mirror: bool) -> float:
    share = min(max(share, 0.0), 1.0)
    return 1 - share if mirror else share


def make_thumbnail(content: bytes, size: tuple[int, int]) -> Thumbnail:
    """Decode an image and reduce it; of several frames or pages the first.

    Grey values of more than 8 bits are stretched between the darkest and the brightest one in the
    image: scanners and sensors use a small part of 16 bits, which would all be black.

    An image whose header shows that it takes long or much memory is not decoded. Not every header
    shows it: whatever the content, only a process that can be ended bounds both.

    Args:
        content: The bytes of the image file.
        size: The largest width and height that the picture may have.

    Raises:
        NotShownError: If it is no image that Pillow reads, is broken, has more than
            ``MAX_PIXELS``, or takes too long or too much memory.
    """
    Image.init()
    formats = [name for name in _FORMATS if name in Image.OPEN]
    try:
        with Image.open(BytesIO(content), formats=formats) as image:
            return _reduced(image, content, size)
    except NotShownError:
        raise
    except UnidentifiedImageError as error:
        raise NotShownError("not an image in a known format") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise NotShownError(f"too large: more than {MAX_PIXELS:,} pixels") from error
    except MemoryError as error:
        raise NotShownError("too large: the memory for pictures does not hold it") from error
    # Decoders raise nearly anything for broken files: SyntaxError, ValueError, struct.error …
    except Exception as error:
        raise NotShownError(f"broken: {str(error) or type(error).__name__}") from error


def _reduced(image: ImageFile, content: bytes, size: tuple[int, int]) -> Thumbnail:
    width, height = image.size
    halvings = _halvings(content, image.size, size) if image.format == "JPEG2000" else 0
    _check_effort(image, content, halvings)
    if halvings:
        _decode_halved(image, halvings)
    orientation = _orientation(image)
    mirror_x, mirror_y, swap = _TURNS[orientation]
    if image.format == "TIFF":
        # Pillow turns these by itself, and gives their size as it is then.
        stored_size = (height, width) if swap else (width, height)
        picture = _as_rgb(image, size)
        return Thumbnail(picture=picture, stored_size=stored_size, orientation=orientation)
    picture = _as_rgb(image, (size[1], size[0]) if swap else size)
    for is_needed, method in (
        (mirror_x, Image.Transpose.FLIP_LEFT_RIGHT),
        (mirror_y, Image.Transpose.FLIP_TOP_BOTTOM),
        (swap, Image.Transpose.TRANSPOSE),
    ):
        if is_needed:
            picture = picture.transpose(method)
    return Thumbnail(picture=picture, stored_size=(width, height), orientation=orientation)


def _orientation(image: Image.Image) -> int:
    try:
        orientation: Any = image.getexif().get(_ORIENTATION_TAG)
    # An image whose EXIF data are broken is shown all the same, as it is stored.
    except Exception:
        return 1
    return orientation if orientation in _TURNS else 1


def _check_effort(image: ImageFile, content: bytes, halvings: int) -> None:
    """Raise if an image takes too long or too much memory, as far as its header shows."""
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise NotShownError(f"too large: {width:,} x {height:,} pixels")
    bytes_per_pixel = _BYTES_PER_PIXEL.get(image.format or "", _OTHER_BYTES_PER_PIXEL)
    if (width * height >> 2 * halvings) * bytes_per_pixel > MAX_DECODED_BYTES:
        raise NotShownError(f"too large: {width:,} x {height:,} pixels of {image.format}")
    # In the pixels of a JPEG file, zero follows each 255.
    scans = content.count(b"\xff\xda") if image.format in ("JPEG", "MPO") else 1
    if width * height * scans > MAX_SCANNED_PIXELS:
        raise NotShownError(f"too large: {width:,} x {height:,} pixels in {scans:,} scans")
    interpreted = any(tile[0] in Image.DECODERS for tile in image.tile)
    if interpreted and max(len(content), width * height) > MAX_INTERPRETED_BYTES:
        raise NotShownError("too large: this kind of file takes too long to decode")


def _halvings(content: bytes, image_size: tuple[int, int], size: tuple[int, int]) -> int:
    """The number of times that a JPEG 2000 decoder can halve an image that stays large enough.

    Halved three times, 16 megapixels take 0.14 seconds instead of 4, and a tenth of the memory.
    """
    scale = max(image_size[0] / size[0], image_size[1] / size[1])
    most = max(math.floor(math.log2(scale / _REDUCING_GAP)), 0) if scale > 0 else 0
    # The file's header says how many sizes it has, in a segment after that of the image's size.
    at = content.find(b"\xff\x4f\xff\x51") + 2
    while at < len(content) and content[at : at + 2] != b"\xff\x52":
        at += 2 + int.from_bytes(content[at + 2 : at + 4])
    return min(most, int.from_bytes(content[at + 9 : at + 10]))


def _decode_halved(image: Any, halvings: int) -> None:
    image.reduce = halvings
    image.load()
    # As long as it is not 0, it hides the method of this name.
    image.reduce = 0


def _as_rgb(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """A reduced copy in RGB; of JPEG files no more is decoded than that takes."""
    if image.mode == "F" or image.mode.startswith("I"):
        return _stretched(image, size).convert("RGB")
    if image.has_transparency_data:
        image = _converted(image, size, _as_rgba)
        image.thumbnail(size)
        return Image.alpha_composite(Image.new("RGBA", image.size, _BEHIND), image).convert("RGB")
    if image.mode in ("1", "P"):
        # Neither shades between two bits nor between two places in a palette can be averaged.
        image = _converted(image, size, lambda part: part.convert("RGB"))
    image.thumbnail(size)
    return image.convert("RGB")


def _as_rgba(part: Image.Image) -> Image.Image:
    # Pillow takes two steps from premultiplied grey.
    return (part.convert("LA") if part.mode == "La" else part).convert("RGBA")


def _converted(
    image: Image.Image, size: tuple[int, int], convert: Callable[[Image.Image], Image.Image]
) -> Image.Image:
    """Convert an image and reduce it to at least twice the size that its picture will have.

    Strip by strip: converted as a whole, 50 million pixels take up to 400 MB more.
    """
    width, height = image.size
    scale = max(width / size[0], height / size[1], 1)
    factors = (
        int(width / max(width / scale, 1) / _REDUCING_GAP) or 1,
        int(height / max(height / scale, 1) / _REDUCING_GAP) or 1,
    )
    rows = max(_STRIP_PIXELS // width // factors[1], 1) * factors[1]
    reduced = None
    for top in range(0, height, rows):
        strip = image.crop((0, top, width, min(top + rows, height)))
        part = convert(strip).reduce(factors)
        if reduced is None:
            reduced = Image.new(part.mode, (part.width, math.ceil(height / factors[1])))
        reduced.paste(part, (0, top // factors[1]))
    return reduced or image


def _stretched(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    import numpy as np

    floats = _converted(image, size, lambda part: _as_integers(part).convert("F"))
    # Averages do not leave the range of the values, as sharper filters do.
    floats.thumbnail(size, Image.Resampling.BOX)
    values = np.asarray(floats, np.float64)
    finite = np.isfinite(values)
    if not finite.any():
        raise NotShownError("broken: no finite value in it")
    low, high = values[finite].min(), values[finite].max()
    shares = (np.where(finite, values, low) - low) / ((high - low) or 1.0)
    return Image.fromarray((shares * 255).round().astype(np.uint8))


def _as_integers(part: Image.Image) -> Image.Image:
    return part if part.mode == "F" else part.convert("I")
