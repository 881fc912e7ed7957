"""Elements of a large JSON file as bytes, without the compiler that finds them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt


class NotPlainError(Exception):
    """A file is not plainly right, at least not for the kernel."""


class Block(NamedTuple):
    r"""Some elements of a list.

    Attributes:
        text: Bytes that hold them.
        starts: Where each begins.
        stops: Where each ends.
        may_have_half_pairs: Whether a text in them has characters as ``\u`` and four digits.
    """

    text: npt.NDArray[np.uint8]
    starts: npt.NDArray[np.int64]
    stops: npt.NDArray[np.int64]
    may_have_half_pairs: bool

    def joined(self) -> bytes:
        """The elements as one JSON list."""
        text = self.text.tobytes()
        spans = zip(self.starts.tolist(), self.stops.tolist(), strict=True)
        return b"[%b]" % b",".join(text[start:stop] for start, stop in spans)
