"""Values of JSON objects as columns, taken from their bytes by compiled kernels.

Each function says which values it knows. The others are not wrong: they are written as few are, and
their rows are for the rules of ``values``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from dagster_active_learning.acquisition.compilation import compiled, inlined
from dagster_active_learning.readers.decimals import parse_decimal
from dagster_active_learning.readers.json_blocks import Block

# Numba has no types, and the bodies of its kernels are not ordinary Python.
# ruff: noqa: ANN001, ANN202, PLR0912
# pyright: reportMissingParameterType=false

Spans = npt.NDArray[np.int64]
"""Begin and end of a value of each row ``(n_rows, 2)``, both -1 where there is none or null."""

LONGEST_ID = 300
"""Digits of a number that is an id; Python makes no integer of more than 4,300."""


class Names(NamedTuple):
    """Values that are ids or names, as text.

    Attributes:
        names: The texts; empty where not known.
        is_text: Whether the value is a text, not a number.
        known: Whether it is an id, and which.
    """

    names: pa.StringArray
    is_text: npt.NDArray[np.bool_]
    known: npt.NDArray[np.bool_]


def find_values(block: Block, keys: Sequence[str]) -> tuple[list[Spans], npt.NDArray[np.bool_]]:
    """Where the values of some keys are in each element, and whether that is known.

    It is not where an element is no object, or has a key twice or with an escaped character.
    """
    encoded = [key.encode() for key in keys]
    ends = np.cumsum([len(key) for key in encoded])
    spans = np.full((len(keys), len(block.starts), 2), -1, np.int64)
    known = np.empty(len(block.starts), np.bool_)
    text = np.frombuffer(b"".join(encoded), np.uint8)
    _find_values(block.text, block.starts, text, ends, spans, known)
    return list(spans), known


def read_names(text: npt.NDArray[np.uint8], spans: Spans) -> Names:
    """Ids: texts, whole numbers, and floats such as ``7.0``."""
    lengths = np.maximum(spans[:, 1] - spans[:, 0], 0)
    characters = np.empty(int(lengths.sum()), np.uint8)
    offsets = np.zeros(len(spans) + 1, np.int32)
    is_text = np.empty(len(spans), np.bool_)
    known = np.empty(len(spans), np.bool_)
    _copy_names(text, spans, characters, offsets, is_text, known)
    names = pa.StringArray.from_buffers(
        len(spans), pa.py_buffer(offsets), pa.py_buffer(characters[: offsets[-1]])
    )
    return Names(names, is_text, known)


def read_numbers(
    text: npt.NDArray[np.uint8], spans: Spans
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
    """Numbers, and which are known."""
    numbers = np.empty(len(spans))
    known = np.empty(len(spans), np.bool_)
    _parse_numbers(text, spans, numbers, known)
    return numbers, known


def read_fours(
    text: npt.NDArray[np.uint8], spans: Spans
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
    """Lists of four numbers ``(n_rows, 4)``, and which are known."""
    numbers = np.zeros((len(spans), 4))
    known = np.empty(len(spans), np.bool_)
    _parse_fours(text, spans, numbers, known)
    return numbers, known


@inlined
def _after_blanks(text, position):
    while text[position] <= ord(" "):
        position += 1
    return position


@inlined
def _end(text, position):
    """The end of a value that is known to be JSON."""
    depth = 0
    while True:
        character = text[position]
        if character == ord('"'):
            position += 1
            while text[position] != ord('"'):
                position += 2 if text[position] == ord("\\") else 1
            position += 1
        elif character == ord("[") or character == ord("{"):
            depth += 1
            position += 1
            continue
        elif character == ord("]") or character == ord("}"):
            depth -= 1
            position += 1
        elif depth:
            position += 1
            continue
        else:
            while not (
                text[position] <= ord(" ")
                or text[position] == ord(",")
                or text[position] == ord("]")
                or text[position] == ord("}")
            ):
                position += 1
        if depth == 0:
            return position


@compiled
def _find_values(text, starts, keys, key_ends, spans, known):
    for row in range(len(starts)):
        position = starts[row]
        known[row] = text[position] == ord("{")
        if not known[row]:
            continue
        position = _after_blanks(text, position + 1)
        while text[position] != ord("}"):
            name = position + 1
            position = name
            while text[position] != ord('"'):
                if text[position] == ord("\\"):
                    known[row] = False
                    position += 1
                position += 1
            length = position - name
            position = _after_blanks(text, position + 1)
            value = _after_blanks(text, position + 1)
            position = _end(text, value)
            key_start = 0
            for key in range(len(key_ends)):
                if key_ends[key] - key_start == length:
                    place = 0
                    while place < length and keys[key_start + place] == text[name + place]:
                        place += 1
                    if place == length:
                        if spans[key, row, 0] != -1:
                            known[row] = False
                        spans[key, row, 0] = value
                        spans[key, row, 1] = position
                        break
                key_start = key_ends[key]
            position = _after_blanks(text, position)
            if text[position] == ord(","):
                position = _after_blanks(text, position + 1)
        for key in range(len(key_ends)):
            if spans[key, row, 0] != -1 and text[spans[key, row, 0]] == ord("n"):
                spans[key, row, 0] = -1
                spans[key, row, 1] = -1


@compiled
def _copy_names(text, spans, characters, offsets, is_text, known):
    copied = 0
    for row in range(len(spans)):
        start, stop = spans[row, 0], spans[row, 1]
        known[row] = is_text[row] = False
        offsets[row + 1] = copied
        if start < 0:
            continue
        if text[start] == ord('"'):
            is_text[row] = True
            start += 1
            stop -= 1
            known[row] = stop > start
            for position in range(start, stop):
                if text[position] == ord("\\"):
                    known[row] = False
        else:
            digits = start + (text[start] == ord("-"))
            end = digits
            while end < stop and ord("0") <= text[end] <= ord("9"):
                end += 1
            known[row] = digits < end and end - digits <= LONGEST_ID
            if end < stop:
                # A float is the number that was written only if it has few digits.
                known[row] = known[row] and text[end] == ord(".") and end - digits <= 15
                for position in range(end + 1, stop):
                    if text[position] != ord("0"):
                        known[row] = False
            if end - digits == 1 and text[digits] == ord("0"):
                start = digits  # -0
            stop = end
        if known[row]:
            for position in range(start, stop):
                characters[copied] = text[position]
                copied += 1
            offsets[row + 1] = copied


@compiled
def _parse_numbers(text, spans, numbers, known):
    for row in range(len(spans)):
        if spans[row, 0] < 0:
            numbers[row], known[row] = np.nan, False
        else:
            numbers[row], known[row] = parse_decimal(text, spans[row, 0], spans[row, 1])


@compiled
def _parse_fours(text, spans, numbers, known):
    for row in range(len(spans)):
        start = spans[row, 0]
        known[row] = False
        if start < 0 or text[start] != ord("["):
            continue
        position = start + 1
        for column in range(4):
            position = _after_blanks(text, position)
            stop = position
            while not (text[stop] <= ord(" ") or text[stop] == ord(",") or text[stop] == ord("]")):
                stop += 1
            numbers[row, column], is_number = parse_decimal(text, position, stop)
            position = _after_blanks(text, stop)
            if not is_number or text[position] != (ord("]") if column == 3 else ord(",")):
                break
            position += 1
            known[row] = column == 3
