"""Masks as run lengths: COCO's, and those of labeling tools.

COCO counts pixels down the columns, from the first column on, first those outside the mask. The
counts are a list, or a text in which each has five bits per character
(https://github.com/cocodataset/cocoapi/blob/master/common/maskApi.c).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from dagster_active_learning.errors import PoolStateError
from dagster_active_learning.text import shown

Pixels = npt.NDArray[np.bool_]


MAX_MASK_PIXELS = 2**30
"""Pixels of a mask that can be decoded; each takes a byte."""


def is_run_lengths(mask: Any) -> bool:
    """True if a mask is COCO's run lengths: a size (height, width) and counts."""
    return isinstance(mask, dict) and "counts" in mask and "size" in mask


def mask_pixels(run_lengths: dict[str, Any]) -> Pixels:
    """The pixels of COCO's run lengths, shape (height, width).

    Raises:
        PoolStateError: If the size is no height and width of ``MAX_MASK_PIXELS`` at the most, or
            the counts are not those of as many pixels.
    """
    height, width = _size(run_lengths["size"])
    lengths = _lengths(run_lengths["counts"])
    if min(lengths, default=0) < 0 or sum(lengths) != height * width:
        raise PoolStateError(
            f"a mask of {height} x {width} pixels has run lengths of {sum(lengths)} pixels, "
            f"expected {height * width}: {_CORRECT}"
        )
    inside = np.arange(len(lengths)) % 2 == 1
    return np.repeat(inside, lengths).reshape(width, height).T


_CORRECT = "correct the predictions and materialize them again"


def _size(size: Any) -> tuple[int, int]:
    match size:
        case [int(height), int(width)] if (
            min(height, width) >= 0 and height * width <= MAX_MASK_PIXELS
        ):
            return height, width
        case _:
            raise PoolStateError(
                f"a mask has the size {shown(repr(size))}, expected a height and a width in "
                f"pixels, {MAX_MASK_PIXELS:,} pixels at the most: {_CORRECT}"
            )


def _lengths(counts: Any) -> list[int]:
    if isinstance(counts, str):
        return _lengths_in_text(counts)
    if isinstance(counts, list) and all(type(count) is int for count in counts):  # pyright: ignore[reportUnknownVariableType]
        return counts
    raise PoolStateError(
        f"the run lengths of a mask are {shown(repr(counts))}, expected a text or a list of whole "
        f"numbers: {_CORRECT}"
    )


def _lengths_in_text(text: str) -> list[int]:
    lengths: list[int] = []
    place = 0
    while place < len(text):
        value = shift = 0
        more = True
        while more:
            if place == len(text):
                raise PoolStateError(
                    f"the run lengths of a mask end within a number: {text[-20:]!r}; {_CORRECT}"
                )
            bits = ord(text[place]) - 48
            value |= (bits & 0x1F) << shift
            more = bool(bits & 0x20)
            place += 1
            shift += 5
            if not more and bits & 0x10:
                value |= -1 << shift
        # From the fourth on, each is the difference to the last but one.
        lengths.append(value + lengths[-2] if len(lengths) > 2 else value)
    return lengths


def bounding_box(pixels: Pixels) -> tuple[int, int, int, int]:
    """Left and top pixel, width and height; zeros where no pixel is in the mask."""
    rows, columns = (np.flatnonzero(pixels.any(axis=axis)) for axis in (1, 0))
    if not len(rows):
        return 0, 0, 0, 0
    left, top = int(columns[0]), int(rows[0])
    return left, top, int(columns[-1]) - left + 1, int(rows[-1]) - top + 1


def run_lengths_by_row(pixels: Pixels) -> list[int]:
    """Lengths of runs along the rows, from the first row on, first those outside the mask."""
    flat = pixels.ravel()
    changes = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    lengths = np.diff(np.concatenate(([0], changes, [flat.size]))).tolist()
    return [0, *lengths] if flat.size and flat[0] else lengths


_RUN_BITS = 16
"""Bits of a run's length less one in ``brush_bytes``; longer runs are cut."""


def brush_bytes(pixels: Pixels) -> list[int]:
    """A mask as the bytes of Label Studio's brush, which has four channels per pixel.

    A head says the number of values (32 bits), their bits less one (5) and four widths of lengths
    less one (4 each). Then each run has a bit 1, the number of a width (2 bits), the length less
    one, and the value (8 bits).
    """
    values = np.repeat(pixels.ravel(), 4)
    changes = np.flatnonzero(values[1:] != values[:-1]) + 1
    edges = [0, *changes.tolist(), len(values)] if len(values) else []
    bits = [f"{len(values):032b}", f"{7:05b}", f"{_RUN_BITS - 1:04b}" * 4]
    for start, end in pairwise(edges):
        value = "1" * 8 if values[start] else "0" * 8
        for first in range(start, end, 2**_RUN_BITS):
            length = min(end - first, 2**_RUN_BITS)
            bits.append(f"100{length - 1:0{_RUN_BITS}b}{value}")
    text = "".join(bits)
    text += "0" * (-len(text) % 8)
    return [int(text[place : place + 8], 2) for place in range(0, len(text), 8)]


def brush_pixels(coded: Sequence[int], width: int, height: int) -> Pixels | None:
    """The mask in the bytes of Label Studio's brush, shape (height, width).

    None if they are not those of an image of that size.
    """
    text = "".join(f"{byte:08b}" for byte in coded)
    place = 0

    def number(bits: int) -> int:
        nonlocal place
        place += bits
        return int(text[place - bits : place], 2)

    try:
        count, bits = number(32), number(5) + 1
        widths = [number(4) + 1 for _ in range(4)]
        if count != 4 * width * height:
            return None
        values: list[Pixels] = []
        done = 0
        while done < count:
            is_run = number(1)
            length = number(widths[number(2)]) + 1
            read = [number(bits)] * length if is_run else [number(bits) for _ in range(length)]
            values.append(np.array(read, dtype=bool))
            done += length
    except ValueError:
        # They end within a number.
        return None
    # The last of the four channels is what the brush has painted.
    return np.concatenate([*values, np.zeros(0, bool)])[:count].reshape(height, width, 4)[..., 3]


def run_lengths_of(pixels: Pixels) -> dict[str, Any]:
    """A mask as COCO's run lengths, with the counts as a list."""
    return {"size": [*pixels.shape], "counts": run_lengths_by_row(pixels.T)}
