"""Text files read line by line: objects of yolo and kitti, JSON Lines, lists of ids.

Fields stay bytes until they are used: a byte that is not UTF-8 costs its line, not the file.
"""

from __future__ import annotations

import codecs
import math
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from dagster_active_learning.errors import PredictionReadError
from dagster_active_learning.files.compression import open_binary
from dagster_active_learning.readers.quarantine import Reason

LINE_BYTES = 8 * 2**20
"""A line longer than this is an error: a polygon of 100,000 points is still shorter."""


def bounded_lines(path: Path, opened: BinaryIO) -> Iterator[bytes]:
    """The lines of an open file with their ends, none of them longer than memory should hold.

    Raises:
        PredictionReadError: If a line is longer than ``LINE_BYTES``.
    """
    number = 0
    while line := opened.readline(LINE_BYTES + 1):
        number += 1
        if len(line) > LINE_BYTES:
            raise PredictionReadError(
                f"{path} has more than {LINE_BYTES} bytes in line {number}: expected "
                "a text file with one object or one id per line"
            )
        yield line


def listed_ids(path: Path) -> Iterator[str]:
    """The ids of a UTF-8 text file with one id per line, without the ends of the lines.

    Blank lines at the end are no ids; others come as they are.

    Raises:
        PredictionReadError: If the file cannot be read or is not UTF-8 text, or a line is longer
            than ``LINE_BYTES``.
    """
    try:
        blank: list[str] = []
        with open_binary(path) as opened:
            for number, line in enumerate(bounded_lines(path, opened)):
                text = line.removeprefix(codecs.BOM_UTF8) if number == 0 else line
                listed = text.decode().removesuffix("\n").removesuffix("\r")
                blank.append(listed)
                if listed.strip():
                    yield from blank
                    blank = []
    except (OSError, UnicodeDecodeError) as error:
        raise PredictionReadError(f"{path} is not a readable UTF-8 list of ids: {error}") from error


def numbered_lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """The lines of a file that are not blank, counted from 1.

    Raises:
        PredictionReadError: If the file cannot be read, or a line is longer than ``LINE_BYTES``.
    """
    row_number = 0
    try:
        with open_binary(path) as opened:
            for before, line in enumerate(bounded_lines(path, opened)):
                text = line if before else line.removeprefix(codecs.BOM_UTF8)
                if stripped := text.strip():
                    row_number += 1
                    yield row_number, stripped
    except OSError as error:
        raise PredictionReadError(
            f"{path} cannot be read after row {row_number}: {error}"
        ) from error


def raw_line(line: bytes) -> str:
    r"""A line as text for the quarantine table, its bytes that are not UTF-8 as ``\xff``."""
    return line.decode("utf-8", errors="backslashreplace")


def split_fields(line: bytes) -> list[bytes]:
    """The fields of a line: between its commas if it has any, else between its blanks."""
    return [field.strip() for field in line.split(b",")] if b"," in line else line.split()


def as_text(field: bytes) -> str | None:
    """A field as text, such as the name of a class; None if it is none."""
    try:
        text = field.decode()
    except UnicodeDecodeError:
        return None
    return None if "\0" in text else text


def as_float(field: bytes) -> float | None:
    """A field as a number, which may be NaN or infinite; None if it is none."""
    try:
        # Python's own notation 1_000 is no number anywhere else.
        return None if b"_" in field else float(field)
    except ValueError:
        return None


def as_score(field: bytes) -> float | Reason:
    """A field as the detector's score, of any scale, or why it is none."""
    score = as_float(field)
    if score is None:
        return Reason.SCORE_NOT_NUMBER
    return score if math.isfinite(score) else Reason.SCORE_NOT_FINITE


def as_finite(fields: list[bytes]) -> list[float] | None:
    """Fields as finite numbers; None if one is anything else."""
    numbers = [number for field in fields if (number := as_float(field)) is not None]
    return numbers if len(numbers) == len(fields) and all(map(math.isfinite, numbers)) else None
