"""Elements of a list in a large JSON file, found by a compiled kernel: as bytes, block by block.

The kernel is stricter than any parser: where a file is not plainly right it says so, and a parser
that knows what to complain of has its turn.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np

from dagster_active_learning.acquisition.compilation import compiled, inlined
from dagster_active_learning.files.compression import open_binary
from dagster_active_learning.readers.json_blocks import Block, NotPlainError

# Numba has no types, and the bodies of its kernels are not ordinary Python.
# ruff: noqa: ANN001, ANN202, PLR0911, PLR0912
# pyright: reportMissingParameterType=false

BLOCK_BYTES = 2**20
"""Bytes read at a time: what stays in the processor's cache between the passes over them."""

LONGEST_PLAIN = 8 * 2**20
"""Bytes of an element that are held; a longer one is for the parser."""

DEEPEST_PLAIN = 64

MOST_ELEMENTS = 2**14
"""Elements of a block."""

LONGEST_PLAIN_OUTLINE = 2**16
"""Bytes outside the lists in the outermost object."""

BLANKS = b" \t\n\r"

MORE, CLOSED, FULL, STRANGE = range(4)
"""How a scan ends: at the end of the bytes, of the list, of the room, before something strange."""


def element_blocks(path: Path, key: str | None) -> Iterator[Block]:
    """The elements of a list, in blocks of a bounded size.

    Args:
        path: A UTF-8 file, packed or not.
        key: The list is its value in the outermost object; None for a list that is the whole file.

    Raises:
        NotPlainError: If the file is broken, has no such list, or is written strangely. All that
            came before is as a parser would have it.
        OSError: If it cannot be read.
    """
    with open_binary(path) as file:
        window = _Window(file)
        if window.take(3) != b"\xef\xbb\xbf":
            window.back(3)
        opening = window.next_character()
        if key is None and opening == b"[":
            yield from _elements(window)
        elif key is not None and opening == b"{":
            yield from _elements_of_key(window, key.encode())
        else:
            raise NotPlainError
        if window.next_character():
            raise NotPlainError


def _elements_of_key(window: _Window, key: bytes) -> Iterator[Block]:
    is_found = False
    outline = 0
    character = window.next_character()
    while character != b"}":
        if character != b'"':
            raise NotPlainError
        window.back(1)
        name = window.value()
        # For the parser, what stands behind a point is a key within the key.
        if b"\\" in name or name.startswith(b'"%b.' % key) or window.next_character() != b":":
            raise NotPlainError
        is_wanted = name == b'"%b"' % key
        is_list = window.next_character() == b"["
        if is_wanted and (is_found or not is_list):
            raise NotPlainError
        if is_list:
            for block in _elements(window):
                if is_wanted:
                    yield block
        else:
            window.back(1)
            outline += len(window.value())
        outline += len(name)
        is_found |= is_wanted
        if outline + window.blanks > LONGEST_PLAIN_OUTLINE:
            raise NotPlainError
        character = window.next_character()
        if character == b",":
            character = window.next_character()
            if character == b"}":
                raise NotPlainError
        elif character != b"}":
            raise NotPlainError
    if not is_found:
        raise NotPlainError


def _elements(window: _Window) -> Iterator[Block]:
    """The elements of a list whose bracket was taken."""
    if window.next_character() == b"]":
        return
    window.back(1)
    while True:
        starts = np.empty(MOST_ELEMENTS, np.int64)
        stops = np.empty(MOST_ELEMENTS, np.int64)
        count, position, end, may_have_half_pairs, is_ascii = _scan_elements(
            window.text, window.position, starts, stops
        )
        if end == STRANGE:
            raise NotPlainError
        if count:
            text = window.text[window.position : position]
            if not is_ascii:
                _check_utf8(text.tobytes())
            starts, stops = starts[:count] - window.position, stops[:count] - window.position
            yield Block(text, starts, stops, bool(may_have_half_pairs))
        window.position = position
        if end == CLOSED:
            return
        if end == MORE:
            window.refill()


def _check_utf8(text: bytes) -> None:
    try:
        text.decode()
    except UnicodeDecodeError as error:
        raise NotPlainError from error


class _Window:
    """The part of a file that is held.

    Attributes:
        text: The part.
        position: Where in it the next character is.
        blanks: Number of blanks that were passed over.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.text = np.empty(0, np.uint8)
        self.position = 0
        self.blanks = 0

    def refill(self) -> None:
        """Hold the next bytes, too, but no longer those that were passed."""
        rest = self.text[self.position :].tobytes()
        block = self._file.read(BLOCK_BYTES)
        if not block or len(rest) > LONGEST_PLAIN:
            raise NotPlainError
        self.text, self.position = np.frombuffer(rest + block, np.uint8), 0

    def take(self, count: int) -> bytes:
        """The next bytes, fewer only at the end of the file."""
        while len(self.text) < self.position + count:
            try:
                self.refill()
            except NotPlainError:
                break
        taken = self.text[self.position : self.position + count].tobytes()
        self.position += len(taken)
        return taken

    def back(self, count: int) -> None:
        """Take the last bytes again."""
        self.position = max(0, self.position - count)

    def next_character(self) -> bytes:
        """The next character that is no blank; empty at the end of the file."""
        while (character := self.take(1)) and character in BLANKS:
            self.blanks += 1
            if self.blanks > LONGEST_PLAIN_OUTLINE:
                raise NotPlainError
        return character

    def value(self) -> bytes:
        """A value that is held as a whole."""
        while True:
            stop, found = _value_end(self.text, self.position, len(self.text))
            if stop == _STRANGE or found & 1:
                raise NotPlainError
            # A number may go on.
            if stop == _INCOMPLETE or stop == len(self.text):
                self.refill()
                continue
            value = self.text[self.position : stop].tobytes()
            _check_utf8(value)
            self.position = stop
            return value


_INCOMPLETE, _STRANGE = -1, -2

_IS_ORDINARY = np.array(
    [0x20 <= character < 0x80 and chr(character) not in '"\\' for character in range(256)]
)
"""The characters of a text that stand for themselves and are ASCII."""


@inlined
def _blanks_end(text, position, stop):
    while position < stop and (
        text[position] == ord(" ")
        or text[position] == ord("\n")
        or text[position] == ord("\t")
        or text[position] == ord("\r")
    ):
        position += 1
    return position


@inlined
def _text_end(text, position, stop):
    r"""The end of a text whose quote was passed; and 1 if it has ``\u``, 2 if it is not ASCII."""
    found = 0
    while position < stop:
        character = text[position]
        if _IS_ORDINARY[character]:
            position += 1
            continue
        if character == ord('"'):
            return position + 1, found
        if character < 0x20:
            return _STRANGE, found
        if character >= 0x80:
            found |= 2
        if character == ord("\\"):
            position += 1
            if position == stop:
                return _INCOMPLETE, found
            escaped = text[position]
            if escaped == ord("u"):
                found |= 1
                if stop - position < 5:
                    return _INCOMPLETE, found
                for digit in text[position + 1 : position + 5]:
                    if not (
                        ord("0") <= digit <= ord("9")
                        or ord("a") <= digit <= ord("f")
                        or ord("A") <= digit <= ord("F")
                    ):
                        return _STRANGE, found
                position += 4
            elif not (
                escaped == ord('"')
                or escaped == ord("\\")
                or escaped == ord("/")
                or escaped == ord("b")
                or escaped == ord("f")
                or escaped == ord("n")
                or escaped == ord("r")
                or escaped == ord("t")
            ):
                return _STRANGE, found
        position += 1
    return _INCOMPLETE, found


@inlined
def _digits_end(text, position, stop):
    while position < stop and ord("0") <= text[position] <= ord("9"):
        position += 1
    return position


@inlined
def _number_end(text, position, stop):
    if text[position] == ord("-"):
        position += 1
        if position == stop:
            return _INCOMPLETE
    if ord("1") <= text[position] <= ord("9"):
        position = _digits_end(text, position, stop)
    elif text[position] == ord("0"):
        position += 1
    else:
        return _word_end(text, position, stop) if text[position] == ord("I") else _STRANGE
    if position < stop and text[position] == ord("."):
        digits = position + 1
        position = _digits_end(text, digits, stop)
        if position == digits:
            return _INCOMPLETE if position == stop else _STRANGE
    if position < stop and (text[position] == ord("e") or text[position] == ord("E")):
        digits = position + 1
        if digits < stop and (text[digits] == ord("-") or text[digits] == ord("+")):
            digits += 1
        position = _digits_end(text, digits, stop)
        if position == digits:
            return _INCOMPLETE if position == stop else _STRANGE
    return position


_WORDS = np.frombuffer(b"true    false   null    NaN     Infinity", np.uint8).reshape(5, 8)


@inlined
def _word_end(text, position, stop):
    """The end of one of the words that stand for a value, NaN among them as Python writes it."""
    for word in range(len(_WORDS)):
        if text[position] != _WORDS[word, 0]:
            continue
        for place in range(8):
            if _WORDS[word, place] == ord(" "):
                return position + place
            if position + place == stop:
                return _INCOMPLETE
            if text[position + place] != _WORDS[word, place]:
                return _STRANGE
        return position + 8
    return _STRANGE


@compiled
def _value_end(text, position, stop):
    """The end of a JSON value, ``_INCOMPLETE`` or ``_STRANGE``; and what ``_text_end`` found."""
    # One bit per open bracket, that of the innermost the lowest: 1 for an object.
    brackets = np.uint64(0)
    depth = 0
    found = 0
    expects_value = True
    while True:
        position = _blanks_end(text, position, stop)
        if position == stop:
            return _INCOMPLETE, found
        character = text[position]
        if expects_value:
            if character == ord("{") or character == ord("["):
                if depth == DEEPEST_PLAIN:
                    return _STRANGE, found
                is_object = character == ord("{")
                brackets = np.uint64(np.uint64(brackets << np.uint64(1)) | np.uint64(is_object))
                depth += 1
                position = _blanks_end(text, position + 1, stop)
                if position == stop:
                    return _INCOMPLETE, found
                is_empty = text[position] == (ord("}") if is_object else ord("]"))
                expects_value = not is_empty
            elif character == ord('"'):
                position, more = _text_end(text, position + 1, stop)
                found |= more
                expects_value = False
            elif character == ord("-") or ord("0") <= character <= ord("9"):
                position = _number_end(text, position, stop)
                expects_value = False
            else:
                position = _word_end(text, position, stop)
                expects_value = False
        elif character == ord(","):
            position = _blanks_end(text, position + 1, stop)
            if position == stop:
                return _INCOMPLETE, found
            expects_value = True
        elif character == (ord("}") if brackets & np.uint64(1) else ord("]")):
            brackets = np.uint64(brackets >> np.uint64(1))
            depth -= 1
            position += 1
        else:
            return _STRANGE, found
        if position < 0:
            return position, found
        if depth == 0:
            return position, found
        if expects_value and brackets & np.uint64(1):
            if text[position] != ord('"'):
                return _STRANGE, found
            position, more = _text_end(text, position + 1, stop)
            found |= more
            if position < 0:
                return position, found
            position = _blanks_end(text, position, stop)
            if position == stop:
                return _INCOMPLETE, found
            if text[position] != ord(":"):
                return _STRANGE, found
            position += 1


@compiled
def _scan_elements(text, position, starts, stops):
    """The elements that end before the text does: their number, and where the next begins."""
    stop = len(text)
    count = 0
    found = 0
    end = MORE
    while True:
        if count == len(starts):
            end = FULL
            break
        start = _blanks_end(text, position, stop)
        if start == stop:
            break
        element_end, more = _value_end(text, start, stop)
        if element_end == _STRANGE:
            end = STRANGE
            break
        if element_end == _INCOMPLETE:
            break
        following = _blanks_end(text, element_end, stop)
        if following == stop:
            break
        found |= more
        starts[count] = start
        stops[count] = element_end
        count += 1
        position = following + 1
        if text[following] == ord("]"):
            end = CLOSED
            break
        if text[following] != ord(","):
            end = STRANGE
            break
    return count, position, end, found & 1, found & 2 == 0
