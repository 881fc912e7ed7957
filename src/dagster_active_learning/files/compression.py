"""Compressed files: what a suffix says, by one rule for every format that is text."""

from __future__ import annotations

import io
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, BinaryIO, cast

if TYPE_CHECKING:
    import pyarrow as pa
    from _typeshed import WriteableBuffer

SUFFIXES = (".gz", ".bz2", ".zst")
"""Suffixes of files that are unpacked while they are read."""


def open_binary(path: Path) -> BinaryIO:
    """Open a file for reading, unpacked where its suffix is one of ``SUFFIXES``.

    Raises:
        OSError: If it cannot be opened; while it is read also if it is not packed as its suffix
            says, or is cut.
    """
    if path.suffix not in SUFFIXES:
        return path.open("rb")
    import pyarrow as pa

    return cast("BinaryIO", io.BufferedReader(_Unpacked(pa.input_stream(path)), 2**17))


def stem(path: PurePath) -> str:
    """The name of a file without its suffix, and without that of its compression."""
    return PurePath(path.stem).stem if path.suffix in SUFFIXES else path.stem


class _Unpacked(io.RawIOBase):
    """A stream of Arrow as Python reads files; its own ``read`` keeps memory when it fails."""

    def __init__(self, stream: pa.NativeFile) -> None:
        self._stream = stream

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        view = memoryview(buffer)
        block = self._stream.read_buffer(len(view))
        view[: len(block)] = memoryview(block).cast("B")
        return len(block)

    def close(self) -> None:
        self._stream.close()
        super().close()
