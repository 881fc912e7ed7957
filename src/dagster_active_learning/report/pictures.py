"""The pictures of a step's pages, each file read once, and the bytes that they may have."""

from __future__ import annotations

from dataclasses import dataclass
from io import BytesIO
from types import TracebackType
from typing import Self

from PIL import Image

from dagster_active_learning.gallery.image_roots import ImageRoots
from dagster_active_learning.gallery.pictures import Thumbnails
from dagster_active_learning.gallery.thumbnails import Placement, Thumbnail

SMALL_BYTES = 28_000_000
"""Bytes of the small pictures of a page: 10,000 photos have 26 million."""

LARGE_SIZE = (1024, 1024)
"""The most width and height of a picture that is opened with a click."""

MOST_LARGE = 100
LARGE_BYTES = 12_000_000
"""Number and bytes of the large pictures of a page."""

LARGE_SECONDS = 15.0
"""The time that a step spends on large pictures, besides that for small ones."""

_EXACT_PIXELS = 16_384
_EXACT_BYTES = 2_600
"""A picture of so few pixels is kept as it is, where that takes no more than others do."""


@dataclass(frozen=True)
class Picture:
    """A picture as the page has it.

    Attributes:
        content: The bytes of a WebP file.
        size: Its width and height.
        placement: The way the image lies in its file.
    """

    content: bytes
    size: tuple[int, int]
    placement: Placement


class Pictures:
    """The small and large pictures of image files, encoded, for all pages of a step.

    A context manager: with its end the process that decodes large pictures is gone.

    Args:
        thumbnails: The small pictures, and the time for them.
        roots: Where image files may be read.
    """

    def __init__(self, thumbnails: Thumbnails, roots: ImageRoots) -> None:
        self._small = thumbnails
        self._large = Thumbnails(roots, size=LARGE_SIZE, seconds=LARGE_SECONDS)
        self._made: dict[tuple[str, bool], Picture | str] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._large.close()

    def small(self, uri: str | None) -> Picture | str:
        """The small picture in a file, or the reason why there is none."""
        return self._picture(uri, self._small, large=False)

    def large(self, uri: str | None) -> Picture | str:
        """The large picture in a file, or the reason why there is none.

        An image that has no more pixels than its small picture has no larger one.
        """
        small = self.small(uri)
        if isinstance(small, str):
            return small
        if sorted(small.size) == sorted(small.placement.stored_size):
            return "its small picture has all its pixels"
        return self._picture(uri, self._large, large=True)

    def _picture(self, uri: str | None, source: Thumbnails, *, large: bool) -> Picture | str:
        key = (uri or "", large)
        if key not in self._made:
            made = source.of(uri)
            self._made[key] = made if isinstance(made, str) else _encoded(made)
        return self._made[key]


def _encoded(thumbnail: Thumbnail) -> Picture:
    placement = Placement(stored_size=thumbnail.stored_size, orientation=thumbnail.orientation)
    return Picture(_webp(thumbnail.picture), thumbnail.picture.size, placement)


def _webp(picture: Image.Image) -> bytes:
    if picture.width * picture.height <= _EXACT_PIXELS:
        content = BytesIO()
        picture.save(content, "WEBP", lossless=True, quality=60, method=2)
        if content.tell() <= _EXACT_BYTES:
            return content.getvalue()
    content = BytesIO()
    # Methods above 2 take longer and save less than a tenth.
    picture.save(content, "WEBP", quality=60, method=2)
    return content.getvalue()
