"""Parts of one large JSON file, read element by element: memory never holds the whole of it."""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

import ijson
import numpy as np
import numpy.typing as npt

from dagster_active_learning.errors import PredictionReadError
from dagster_active_learning.files.compression import open_binary
from dagster_active_learning.readers.json_blocks import Block, NotPlainError
from dagster_active_learning.readers.odd_numbers import OddNumbers, restored
from dagster_active_learning.text import describe_names, raw_text

DEEPEST_NESTING = 200
"""ijson keeps the path of every open bracket: 100,000 of them in a row would take 25 GB."""

LONGEST_OUTLINE = 2**20
"""Bytes that a file may hold outside the lists and objects in its outermost object."""

LONGEST_ELEMENT = 32 * 2**20
"""Bytes of one element of a list, or of one text: they are held in memory as a whole, as Python
objects of up to ten times the size."""

ESCAPED_BYTE = re.compile(rb"\\.", re.DOTALL)

CHARACTER_ESCAPE = re.compile(
    rb"\\(?:u[dD][89abAB]..\\u[dD][c-fC-F]..|u(?![dD][89a-fA-F])....|[^u])", re.DOTALL
)
LONGEST_ESCAPE = len(rb"\ud83e\udd8a")
HALF_PAIR = re.compile(rb"u[dD][89a-fA-F]..", re.DOTALL)

OUTLINE_KEY = re.compile(rb'"([^"]*)"\s*:')

NO_STRUCTURE = bytes(set(range(256)) - set(b'"[]{}'))


SMALLEST_LARGE_FILE = 16 * 2**20
"""Bytes from which a file is worth the time that the kernels take to be compiled."""


class UnreadableJsonError(PredictionReadError):
    """A file is no JSON to its end."""


class NoListError(PredictionReadError):
    """A file has no such key in an outermost object."""


def json_value(path: Path, key: str) -> Any:
    """The value of a key of the outermost object, wherever in the file it stands; else None.

    It is held in memory as a whole.

    Raises:
        UnreadableJsonError: If the file is no JSON up to there.
        PredictionReadError: If it cannot be read or nests too deep.
    """
    with _opened(path) as file:
        return next(_values(file, key, f"while {key!r} was looked for"), None)


def value_fault(key: str, value: Any) -> str:
    """The words of an error for a value of ``json_value`` that is not what it should be."""
    if value is None:
        return f"has no value of the key {key!r}"
    return f"has as {key!r} {raw_text(value)[:200]}"


def json_items(
    path: Path,
    key: str | None,
    name: str,
    map_type: type[dict[str, Any]] | None = None,
) -> Iterator[Any]:
    """The elements of a list, one by one.

    Args:
        path: The file.
        key: The list is its value in the outermost object; None for a list that is the whole file.
        name: What messages call the elements, in the plural.
        map_type: What the objects in the list become.

    Raises:
        UnreadableJsonError: If the file is no JSON to its end.
        NoListError: If the outermost value is no object with the key.
        PredictionReadError: If the key's value is no list, or is there twice, or the file cannot
            be read or nests too deep.
    """
    read = 0
    try:
        for block in plain_blocks(path, key):
            values = block_values(block, map_type)
            yield from values
            read += len(values)
    except NotPlainError:
        yield from islice(_parsed_items(path, key, name, map_type), read, None)


def _parsed_items(
    path: Path, key: str | None, name: str, map_type: type[dict[str, Any]] | None
) -> Iterator[Any]:
    with _opened(path, element_depth=1 if key is None else 2) as file:
        prefix = "item" if key is None else f"{key}.item"
        yield from _values(file, prefix, f"after {{}} {name}", map_type)
        if key is not None:
            _check_list(file, key)
        elif file.is_in_text:
            # The parser does not mind a text that begins behind the whole and never ends.
            raise UnreadableJsonError(
                f"{path} is not readable UTF-8 JSON to its end: there is a quote behind the list; "
                "expected a JSON array and nothing behind it"
            )


def plain_blocks(path: Path, key: str | None) -> Iterator[Block]:
    """The blocks of a large file: a small one is read before the kernels are there.

    Raises:
        NotPlainError: If it is no such file, or is not plainly right; see ``element_blocks``.
    """
    try:
        if path.stat().st_size < SMALLEST_LARGE_FILE:
            raise NotPlainError
        from dagster_active_learning.readers.json_scan import element_blocks

        for block in element_blocks(path, key):
            # A backslash that is left begins half of a pair.
            if block.may_have_half_pairs and b"\\" in CHARACTER_ESCAPE.sub(b"", block.joined()):
                raise NotPlainError
            yield block
    except OSError as error:
        raise NotPlainError from error


def block_values(block: Block, map_type: type[dict[str, Any]] | None = None) -> list[Any]:
    """The elements of a block, as ``json_items`` gives them.

    Raises:
        NotPlainError: If a number is longer than Python reads.
    """

    def as_map(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        result = (map_type or dict)()
        for key, value in pairs:
            result[key] = value
        return result

    try:
        return json.loads(block.joined(), object_pairs_hook=as_map if map_type else None)
    except ValueError as error:
        raise NotPlainError from error


class ShallowFile:
    """A JSON file that raises PredictionReadError where it would take too much memory to be read.

    That is where brackets nest too deep, or where an element of a list at ``element_depth``, or a
    text, is too long. A UTF-8 byte order mark at its beginning is left out.

    Attributes:
        bytes_read: How many bytes were read so far.
        outline: What was read of an outermost object without all that is in its lists and objects,
            and without escaped characters: ``{"info": {}, "images": []}``; ``[]`` for a list.
    """

    def __init__(self, path: Path, file: BinaryIO | OddNumbers, element_depth: int = 2) -> None:
        self.path = path
        self.file = file
        self.bytes_read = 0
        self._element_depth = element_depth
        self._element_start = 0
        self.outline = b""
        self._depth = 0
        self._quotes = 0
        self._escape = b""
        # A packed file cannot go back.
        self._beginning = file.read(len(codecs.BOM_UTF8)).removeprefix(codecs.BOM_UTF8)

    @property
    def is_in_text(self) -> bool:
        """Whether the bytes read so far end within a text."""
        return self._quotes % 2 == 1

    def read(self, size: int = -1) -> bytes:
        """The next bytes of the file, once their brackets have been counted."""
        if self._beginning and size >= 0:
            chunk, self._beginning = self._beginning[:size], self._beginning[size:]
        else:
            chunk = self._beginning + self.file.read(size)
            self._beginning = b""
        self.bytes_read += len(chunk)
        text = ESCAPED_BYTE.sub(b"", self._escape + chunk)
        self._escape = b"\\" if text.endswith(b"\\") else b""
        text = text.removesuffix(b"\\")
        quotes, depths = self._count(text.translate(None, NO_STRUCTURE))
        if depths.max(initial=self._depth) > DEEPEST_NESTING:
            raise PredictionReadError(
                f"{self.path} nests lists and objects more than {DEEPEST_NESTING} deep within its "
                f"first {self.bytes_read:,} bytes: expected predictions"
            )
        if len(depths) and depths.min() <= self._element_depth:
            self._element_start = self.bytes_read
        elif self.bytes_read - self._element_start > LONGEST_ELEMENT:
            raise PredictionReadError(
                f"{self.path} has more than {LONGEST_ELEMENT:,} bytes in one element or text that "
                f"begins within its first {self._element_start:,} bytes: expected predictions"
            )
        if depths.min(initial=self._depth) < 2 and self.outline != b"[]":
            self._add_to_outline(text)
        if len(depths):
            self._quotes, self._depth = int(quotes[-1]), int(depths[-1])
        return chunk

    def _count(self, text: bytes) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """The number of quotes so far, and of open brackets, after each character."""
        characters = np.frombuffer(text, np.uint8)
        quotes = np.cumsum(characters == ord('"')) + self._quotes
        # The 6th bit is all that tells [ from { and ] from }.
        brackets = characters | 0x20
        steps = (brackets == ord("{")).astype(np.int64) - (brackets == ord("}"))
        return quotes, np.cumsum(np.where(quotes % 2, 0, steps)) + self._depth

    def _add_to_outline(self, text: bytes) -> None:
        _, depths = self._count(text)
        before = np.append(self._depth, depths)[: len(depths)]
        outside = np.frombuffer(text, np.uint8)[np.minimum(before, depths) < 2]
        self.outline = (self.outline + outside.tobytes()).lstrip()
        if self.outline.startswith(b"["):
            self.outline = b"[]"
        elif len(self.outline) > LONGEST_OUTLINE:
            raise PredictionReadError(
                f"{self.path} holds more than {LONGEST_OUTLINE:,} bytes outside the lists and "
                "objects in its outermost object: expected predictions"
            )


class _PairedFile(ShallowFile):
    """A JSON file that also raises PredictionReadError where a text has half of a surrogate pair.

    That stands for no character. The parser makes a question mark of it: two ids become one.
    """

    def __init__(self, path: Path, file: OddNumbers, element_depth: int) -> None:
        super().__init__(path, file, element_depth)
        self.numbers = file
        self._cut = b""

    def read(self, size: int = -1) -> bytes:
        """The next bytes of the file, once what they stand for is known."""
        chunk = super().read(size)
        # A backslash that is left begins half of a pair, or an escape that the chunk's end cuts.
        _, backslash, rest = CHARACTER_ESCAPE.sub(b"", self._cut + chunk).partition(b"\\")
        self._cut = backslash + rest
        if len(self._cut) >= LONGEST_ESCAPE or not chunk:
            self.check_last_escape()
        return chunk

    def check_last_escape(self) -> None:
        """Raise PredictionReadError if the bytes read so far end with half of a pair, and text."""
        half = HALF_PAIR.match(self._cut, 1)
        if half:
            raise PredictionReadError(
                f"{self.path} has half of a surrogate pair, \\{half[0].decode(errors='replace')}, "
                f"within its first {self.bytes_read:,} bytes: it stands for no character; expected "
                "text that can be written as UTF-8"
            )


@contextmanager
def _opened(path: Path, element_depth: int = 2) -> Generator[_PairedFile]:
    try:
        with open_binary(path) as opened:
            yield _PairedFile(path, OddNumbers(opened), element_depth)
    except OSError as error:
        raise PredictionReadError(f"{path} cannot be read: {error}") from error


def _values(
    file: _PairedFile, prefix: str, where: str, map_type: type[dict[str, Any]] | None = None
) -> Iterator[Any]:
    """The values at a prefix; messages say ``where`` a file broke, ``{}`` being the values read."""
    read = 0
    try:
        for value in ijson.items(file, prefix, map_type=map_type, use_float=True):
            read += 1
            yield restored(value) if file.numbers.found else value
    except (ijson.JSONError, UnicodeDecodeError) as error:
        if isinstance(error, UnicodeDecodeError):
            file.check_last_escape()
        raise UnreadableJsonError(
            f"{file.path} is not readable UTF-8 JSON {where.format(read)}: {_first_line(error)}, "
            f"within the first {file.bytes_read:,} bytes"
            + ("; expected a file that is complete" if "premature EOF" in str(error) else "")
        ) from error


def _check_list(file: ShallowFile, key: str) -> None:
    """Raise if a file that was read to its end has not one list as the value of a key."""
    expected = f'expected a JSON object with {key!r}: {{"{key}": [...], ...}}'
    try:
        # An object becomes the tuple of all its values of the key. yajl takes \v and \f for blanks.
        values: Any = json.loads(
            file.outline.translate(None, b"\v\f"),
            object_pairs_hook=lambda pairs: tuple(value for name, value in pairs if name == key),
        )
    except ValueError as error:
        raise UnreadableJsonError(
            f"{file.path} is not readable UTF-8 JSON to its end: {error}; expected a JSON object "
            "and nothing behind it"
        ) from error
    if values == ([],):
        return
    if isinstance(values, tuple) and len(values) > 1:
        raise PredictionReadError(f"{file.path} has the key {key!r} twice: {expected}")
    if isinstance(values, tuple) and values:
        raise PredictionReadError(
            f"{file.path} has no list {key!r}: {key!r} is no array; {expected}"
        )
    if isinstance(values, list):
        raise NoListError(f"{file.path} is a JSON array: {expected}")
    keys = [raw.decode(errors="replace") for raw in OUTLINE_KEY.findall(file.outline)]
    listed = f"; its keys are {describe_names(keys)}" if keys else ""
    raise NoListError(f"{file.path} has no list {key!r}: {expected}{listed}")


def _first_line(error: Exception) -> str:
    """The words of the parser, without the picture of the place that it adds."""
    # Where its context is not UTF-8, yajl's message is the text of a bytes object.
    return re.split(r"\n|\\n", str(error).removeprefix("b'").removeprefix('b"'))[0]
