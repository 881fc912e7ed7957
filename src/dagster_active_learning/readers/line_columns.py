"""The fields of text lines as columns of numbers, of many files at a time."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from dagster_active_learning.acquisition.compilation import compiled, inlined
from dagster_active_learning.readers.decimals import parse_decimal

# Numba has no types, and the bodies of its kernels are not ordinary Python.
# ruff: noqa: ANN001, ANN202, PLR0912
# pyright: reportMissingParameterType=false

MOST_FIELDS = 16


class Lines(NamedTuple):
    """The lines of some files that are not blank.

    Attributes:
        files: The position of each line's file.
        row_numbers: The number of the line in its file, from 1.
        spans: Begin and end of the line without blanks around it ``(n_lines, 2)``.
        field_counts: Number of fields.
        label_ends: The end of the first field, which begins where the line does.
        labels: The first field as a number, NaN where it is not known to be one.
        numbers: The fields behind it ``(n_lines, 15)``; 0 behind the last.
        known: Whether those are few enough, all known numbers, and between blanks.
    """

    files: npt.NDArray[np.int64]
    row_numbers: npt.NDArray[np.int64]
    spans: npt.NDArray[np.int64]
    field_counts: npt.NDArray[np.int64]
    label_ends: npt.NDArray[np.int64]
    labels: npt.NDArray[np.float64]
    numbers: npt.NDArray[np.float64]
    known: npt.NDArray[np.bool_]


def read_lines(text: npt.NDArray[np.uint8], file_ends: npt.NDArray[np.int64]) -> Lines:
    """The lines of files that stand one behind the other, without their byte order marks."""
    most = int(np.count_nonzero(text == ord("\n"))) + len(file_ends)
    lines = Lines(
        np.empty(most, np.int64),
        np.empty(most, np.int64),
        np.empty((most, 2), np.int64),
        np.empty(most, np.int64),
        np.empty(most, np.int64),
        np.empty(most),
        np.zeros((most, MOST_FIELDS - 1)),
        np.empty(most, np.bool_),
    )
    count = _read_lines(text, file_ends, *lines)
    return Lines._make(column[:count] for column in lines)


@inlined
def _is_blank(character):
    return character == ord(" ") or 9 <= character <= 13


@compiled
def _read_lines(
    text, file_ends, files, row_numbers, spans, field_counts, label_ends, labels, numbers, known
):
    count = 0
    position = 0
    for file in range(len(file_ends)):
        row_number = 0
        while position < file_ends[file]:
            end = position
            while end < file_ends[file] and text[end] != ord("\n"):
                end += 1
            start = position
            position = end + 1 if end < file_ends[file] else end
            while start < end and _is_blank(text[start]):
                start += 1
            while start < end and _is_blank(text[end - 1]):
                end -= 1
            if start == end:
                continue
            row_number += 1
            files[count] = file
            row_numbers[count] = row_number
            spans[count, 0], spans[count, 1] = start, end
            known[count] = True
            fields = 0
            while start < end:
                stop = start
                while stop < end and not _is_blank(text[stop]):
                    if text[stop] == ord(","):
                        known[count] = False
                    stop += 1
                number, is_number = np.nan, False
                if fields < MOST_FIELDS:
                    number, is_number = parse_decimal(text, start, stop)
                # As text -0 is a float, which JSON's is not.
                is_number = is_number and (number != 0 or text[start] != ord("-"))
                if fields == 0:
                    label_ends[count] = stop
                    labels[count] = number if is_number else np.nan
                elif is_number:
                    numbers[count, fields - 1] = number
                else:
                    known[count] = False
                fields += 1
                start = stop
                while start < end and _is_blank(text[start]):
                    start += 1
            field_counts[count] = fields
            count += 1
    return count
