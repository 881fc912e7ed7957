"""Numbers that a JSON parser refuses, so that one of them costs its row and not the file.

Python writes NaN and Infinity, which are no JSON, and integers of any length; the parser ends with
the first of them, wherever it stands. Here they become texts before the parser sees them, and
numbers again behind it.
"""

from __future__ import annotations

import math
import re
from typing import Any, BinaryIO
from uuid import uuid4

MARK = f"number {uuid4().hex}: "
"""Begins a text in place of a number; no file has it by chance."""

LONGEST_NUMBER = 400
"""Characters of a number that may be cut by the end of a block."""

_END_OF_NUMBER = re.compile(rb"[-+.0-9A-Za-z]{1,%d}\Z" % LONGEST_NUMBER)
_ESCAPED = re.compile(rb"\\.", re.DOTALL)
_NINES = bytes.maketrans(b"E012345678", b"e999999999")
_LONG_INTEGER = b"9" * 19
_TEXT = rb'"(?:[^"\\]|\\.)*"?'
_TOKEN = re.compile(_TEXT + rb"|-?(?:NaN|Infinity|\d[-+.\deE]*)", re.DOTALL)
_NUMBER = re.compile(rb"-?(?:NaN|Infinity|(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][-+]?\d+)?)")
_REST_OF_TEXT = re.compile(rb'(?:[^"\\]|\\.)*"?', re.DOTALL)


class OddNumbers:
    """A JSON file with its odd numbers as texts that begin with ``MARK``.

    Attributes:
        found: Whether there was one so far.
    """

    def __init__(self, file: BinaryIO) -> None:
        self.found = False
        self._file = file
        self._in_text = False
        self._rest = b""

    def read(self, size: int = -1) -> bytes:
        """The next bytes, about as many as are asked for; none only at the end."""
        if size == 0:
            return b""
        while True:
            block = self._file.read(size)
            chunk, self._rest = self._rest + block, b""
            if block and size > 0:
                chunk = self._hold_back(chunk)
            if chunk or not block:
                return self._without_odd_numbers(chunk)

    def _hold_back(self, chunk: bytes) -> bytes:
        """The chunk up to a number or an escape that its end may cut."""
        cut = _END_OF_NUMBER.search(chunk, max(0, len(chunk) - LONGEST_NUMBER))
        end = cut.start() if cut else len(chunk)
        slashes = end - len(chunk[:end].rstrip(b"\\"))
        if slashes % 2:
            end -= 1
        self._rest = chunk[end:]
        return chunk[:end]

    def _without_odd_numbers(self, chunk: bytes) -> bytes:
        if _may_have_odd_numbers(chunk):
            rest = _REST_OF_TEXT.match(chunk) if self._in_text else None
            start = rest.end() if rest else 0
            marked = chunk[:start] + _TOKEN.sub(self._marked, chunk[start:])
        else:
            marked = chunk
        quotes = _ESCAPED.sub(b"", chunk) if b"\\" in chunk else chunk
        self._in_text ^= quotes.count(b'"') % 2 == 1
        return marked

    def _marked(self, token: re.Match[bytes]) -> bytes:
        text = token[0]
        if text.startswith(b'"') or not _is_odd(text):
            return text
        self.found = True
        return b'"%s%s"' % (MARK.encode(), text)


def _may_have_odd_numbers(chunk: bytes) -> bool:
    """False for nearly all blocks, in a fifth of the time that the parser takes for them."""
    if b"NaN" in chunk or b"Infinity" in chunk:
        return True
    nines = chunk.translate(_NINES)
    if b"e999" in nines or b"e+999" in nines:
        return True
    position = nines.find(_LONG_INTEGER)
    while position >= 0:
        if nines[position - 1 : position] != b".":
            return True
        # The digits of a fraction.
        position = nines.find(_LONG_INTEGER, position + len(_LONG_INTEGER))
    return False


def _is_odd(text: bytes) -> bool:
    """True for a number that the parser refuses, false for text that is no number at all."""
    if not _NUMBER.fullmatch(text):
        return False
    # The parser refuses the smallest integer of 64 bits, too.
    return not math.isfinite(float(text)) or (
        text.lstrip(b"-").isdigit() and not abs(int(text)) < 2**63
    )


def restored(value: Any) -> Any:
    """A JSON value with its odd numbers in place of their texts; lists and objects are changed."""
    if isinstance(value, str):
        text = value.removeprefix(MARK)
        if text is value or text == value:
            return value
        try:
            return int(text)
        except ValueError:
            # No integer, or of more than 4,300 digits, which Python does not make.
            return float(text)
    if isinstance(value, list):
        value[:] = map(restored, value)
    elif isinstance(value, dict):
        for key, inner in value.items():
            # Not by the object's own method, which may count the keys.
            dict.__setitem__(value, key, restored(inner))
    return value
