"""MegaDetector results: one JSON file with every image, read image by image.

Also what formats of one large JSON file share: ``json_value`` and ``json_items`` read a part of
such a file without ever holding the whole of it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import ijson
import numpy as np

from dagster_active_learning.errors import PredictionReadError
from dagster_active_learning.readers.objects import (
    DetectedObject,
    EmptyImage,
    Found,
    as_box,
    as_number,
    object_part,
)
from dagster_active_learning.readers.options import ObjectOptions
from dagster_active_learning.readers.reasons import Reason
from dagster_active_learning.readers.stream import (
    PredictionPart,
    RejectedRow,
    content_sha256,
    describe_names,
    raw_text,
)

DEEPEST_NESTING = 200
"""ijson keeps the path of every open bracket: 100,000 of them in a row would take 25 GB."""

ESCAPED_BYTE = re.compile(rb"\\.", re.DOTALL)


def open_file(path: Path, options: ObjectOptions) -> PredictionPart:
    """Open one results file: ``images`` and ``detection_categories``, in either order.

    The scores of ``classifications`` are not read: they come from another model, which sees the
    crop, and are no class probabilities of the detector. An image the detector failed on is a
    row with ``Reason.MODEL_FAILED``, never an image without objects.

    Raises:
        PredictionReadError: If the file is no readable JSON or has no ``detection_categories``.
    """
    sha256 = content_sha256([path])
    categories = _read_categories(path)
    names = names_in_source(path, list(dict.fromkeys(categories.values())), options.class_names)
    return object_part(
        str(path),
        lambda: _objects(path, categories),
        options,
        class_names=names,
        bbox_unit="relative",
        sha256=sha256,
    )


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


def names_in_source(
    source: Path, names: Sequence[str], class_names: Sequence[str] | None
) -> Sequence[str]:
    """The class names of a file that carries them, after a look at the option.

    Raises:
        PredictionReadError: If a name is there twice, or the option says something else.
    """
    if len(set(names)) != len(names):
        raise PredictionReadError(
            f"{source} has the classes {describe_names(names)}: expected each name once"
        )
    if class_names is not None and list(class_names) != list(names):
        raise PredictionReadError(
            f"{source} has the classes {describe_names(names)}, but the option class_names is "
            f"{describe_names(class_names)}: leave it out, the source carries the names"
        )
    return names


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
                    f"{path} is not readable UTF-8 JSON: {_first_line(error)}, {where} after "
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


def _first_line(error: Exception) -> str:
    # Where its context is not UTF-8, yajl's message is the text of a bytes object.
    return re.split(r"\n|\\n", str(error).removeprefix("b'").removeprefix('b"'))[0]


def _read_categories(path: Path) -> Mapping[str, str]:
    found = json_value(path, "detection_categories")
    if not isinstance(found, dict) or not all(isinstance(name, str) for name in found.values()):
        raise PredictionReadError(
            f"{path} has as 'detection_categories' {raw_text(found)[:200]}: expected an object of "
            'names such as {"1": "animal"} in a MegaDetector results file'
        )
    return found


def _objects(path: Path, categories: Mapping[str, str]) -> Iterator[Found]:
    row_number = 0
    for image in json_items(path, "images"):
        fault = _image_fault(image)
        if fault is not None:
            row_number += 1
            file = image.get("file") if isinstance(image, dict) else None
            image_id = file if isinstance(file, str) and file else None
            yield RejectedRow(row_number, fault, raw_text(image), image_id)
            continue
        if not image["detections"]:
            yield EmptyImage(image["file"])
        for detection in image["detections"]:
            row_number += 1
            yield _object(row_number, image["file"], detection, categories)


def _image_fault(image: Any) -> Reason | None:
    """Why an image is one row of the quarantine, with all that is said about it."""
    if not isinstance(image, dict):
        return Reason.UNREADABLE_OBJECT
    file = image.get("file")
    if file is None or file == "":
        return Reason.IMAGE_ID_NULL
    if not isinstance(file, str):
        return Reason.IMAGE_ID_NOT_TEXT
    if image.get("failure") is not None:
        return Reason.MODEL_FAILED
    return None if isinstance(image.get("detections"), list) else Reason.UNREADABLE_OBJECT


def _object(row_number: int, image_id: str, detection: Any, categories: Mapping[str, str]) -> Found:
    found = detection if isinstance(detection, dict) else {}
    category, conf = found.get("category"), found.get("conf")
    score, bbox = as_number(conf), as_box(found.get("bbox"))
    if not isinstance(category, str) or "bbox" not in found:
        reason = Reason.UNREADABLE_OBJECT
    elif category not in categories:
        reason = Reason.UNKNOWN_CATEGORY
    elif score is None:
        reason = Reason.SCORE_NULL if conf is None else Reason.SCORE_NOT_NUMBER
    elif bbox is None:
        reason = Reason.BBOX_NOT_FOUR_NUMBERS
    else:
        return DetectedObject(
            row_number=row_number,
            image_id=image_id,
            score=score,
            category=categories[category],
            bbox=bbox,
        )
    return RejectedRow(row_number, reason, raw_text(detection), image_id)
