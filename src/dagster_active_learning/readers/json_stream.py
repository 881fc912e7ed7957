"""Parts of one large JSON file, read element by element: memory never holds the whole of it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import ijson
import numpy as np

from dagster_active_learning.errors import PredictionReadError

DEEPEST_NESTING = 200
"""ijson keeps the path of every open bracket: 100,000 of them in a row would take 25 GB."""

ESCAPED_BYTE = re.compile(rb"\\.", re.DOTALL)


def json_value(path: Path, key: str) -> Any:
    """The value of a key of the outermost object, wherever in the file it stands; else None.

    Raises:
        PredictionReadError: If the file is no readable JSON up to there.
    """
    return next(_stream(path, key, f"while {key!r} was looked for"), None)


def json_items(path: Path, key: str) -> Iterator[Any]:
    """The elements of a list that is a value of the outermost object, one by one.

    Raises:
        PredictionReadError: If the file is no readable JSON or has no such list.
    """
    read = 0
    for item in _stream(path, f"{key}.item", f"in {key!r}"):
        read += 1
        yield item
    if not read and not _has_list(path, key):
        raise PredictionReadError(
            f'{path} has no list {key!r} in an outermost object: expected {{"{key}": [...], ...}}'
        )


class ShallowFile:
    """A JSON file that raises PredictionReadError where brackets nest too deep to be read."""

    def __init__(self, path: Path, file: BinaryIO) -> None:
        self.path = path
        self.file = file
        self.bytes_read = 0
        self._depth = 0
        self._quotes = 0
        self._escape = b""

    def read(self, size: int = -1) -> bytes:
        """The next bytes of the file, once their brackets have been counted."""
        chunk = self.file.read(size)
        self.bytes_read += len(chunk)
        text = ESCAPED_BYTE.sub(b"", self._escape + chunk)
        self._escape = b"\\" if text.endswith(b"\\") else b""
        characters = np.frombuffer(text, np.uint8)
        quotes = np.cumsum(characters == ord('"')) + self._quotes
        # The 6th bit is all that tells [ from { and ] from }.
        brackets = characters | 0x20
        steps = (brackets == ord("{")).astype(np.int64) - (brackets == ord("}"))
        depths = np.cumsum(np.where(quotes % 2, 0, steps)) + self._depth
        if not len(depths):
            return chunk
        self._quotes, self._depth = int(quotes[-1]), int(depths[-1])
        if depths.max() > DEEPEST_NESTING:
            raise PredictionReadError(
                f"{self.path} nests lists and objects more than {DEEPEST_NESTING} deep within its "
                f"first {self.bytes_read:,} bytes: expected predictions"
            )
        return chunk


def _stream(path: Path, prefix: str, where: str) -> Iterator[Any]:
    read = 0
    with path.open("rb") as opened:
        file = ShallowFile(path, opened)
        values = ijson.items(file, prefix, use_float=True)
        while True:
            try:
                value = next(values)
            except StopIteration:
                return
            except (ijson.JSONError, UnicodeDecodeError) as error:
                raise PredictionReadError(
                    f"{path} is not readable UTF-8 JSON: {first_line(error)}, {where} after "
                    f"{read} elements, within the first {file.bytes_read:,} bytes; expected a "
                    "file that is complete"
                ) from error
            read += 1
            yield value


def _has_list(path: Path, key: str) -> bool:
    """Whether a key of the outermost object holds a list, in a file that was read to its end."""
    with path.open("rb") as opened:
        return any(
            prefix == key and event == "start_array"
            for prefix, event, _ in ijson.parse(ShallowFile(path, opened))
        )


def first_line(error: Exception) -> str:
    """What the parser says, without the picture of the place that it adds."""
    # Where its context is not UTF-8, yajl's message is the text of a bytes object.
    return re.split(r"\n|\\n", str(error).removeprefix("b'").removeprefix('b"'))[0]
