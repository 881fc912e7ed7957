"""Objects in images, read one by one, as batches of canonical columns.

Shared by the formats that are no tables: a reader yields the objects of a file, in its order, and
this module makes Arrow columns of them.
"""

from __future__ import annotations

import codecs
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from dagster_active_learning.errors import PredictionReadError
from dagster_active_learning.files.compression import SUFFIXES, stem
from dagster_active_learning.files.versions import WatchedFile, changed_file
from dagster_active_learning.readers.json_blocks import NotPlainError
from dagster_active_learning.readers.options import ObjectOptions
from dagster_active_learning.readers.quarantine import Reason, RejectedRow, in_order, with_rejected
from dagster_active_learning.readers.stream import PredictionPart, Together, prediction_batch
from dagster_active_learning.readers.text_lines import numbered_lines, raw_line
from dagster_active_learning.readers.values import Box
from dagster_active_learning.text import describe_names

if TYPE_CHECKING:
    from dagster_active_learning.readers.line_columns import Lines

OBJECTS_PER_BATCH = 8_192

BYTES_TOGETHER = 2**20
"""Bytes of the text files that are read at once, at the most; a larger file is read alone."""

_ROW_BITS = 32

NO_IMAGES = frozenset(
    {
        "classes",
        "labels",
        "notes",
        "predefined_classes",
        "README",
        "README.dataset",
        "README.roboflow",
    }
)
"""Names, without suffix, of text files that tools put into a folder of label files."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DetectedObject:
    """One object the model found.

    Attributes:
        row_number: Position among the objects of the file, from 1; rejected ones count too.
        image_id: The image it is in.
        score: The detector's own score, before ``score_transform``.
        class_probs: One probability per class, in class order, or None.
        category: Name of the class the detector decided for.
        bbox: Where it is.
        segmentation: The mask as it came, as JSON text.
    """

    row_number: int
    image_id: str
    score: float | None = None
    class_probs: Sequence[float] | None = None
    category: str | None = None
    bbox: Box | None = None
    segmentation: str | None = None


@dataclass(frozen=True, slots=True)
class EmptyImage:
    """An image the model saw and found no object in."""

    image_id: str


Finding = DetectedObject | EmptyImage | RejectedRow


def objects_of_lines(
    path: Path, read_object: Callable[[int, bytes], DetectedObject | Reason]
) -> Iterator[Finding]:
    """The objects of a text file about one image, whose id is the file's name without its suffix.

    Args:
        path: The file. One without lines says that no object was found, unless its name is in
            ``NO_IMAGES``; such a file is about no image unless its first line is an object.
        read_object: Makes an object, or the reason why there is none, of a row number and a line.
    """
    row_number = 0
    for row_number, line in numbered_lines(path):
        result = read_object(row_number, line)
        if row_number == 1 and isinstance(result, Reason) and stem(path) in NO_IMAGES:
            return
        if isinstance(result, Reason):
            yield RejectedRow(row_number, result, raw_line(line), stem(path))
        else:
            yield result
    if row_number == 0 and stem(path) not in NO_IMAGES:
        yield EmptyImage(stem(path))


@dataclass(frozen=True)
class LinesTogether:
    """Text files about one image each, read some thousand at once.

    Attributes:
        options: The options of the format.
        judge: Makes canonical columns of lines, and says which of them it knows.
        read_object: Makes an object, or the reason why there is none, of the id of an image, a row
            number, a line and the options.
    """

    options: ObjectOptions
    judge: Callable[[bytes, Lines, Any], tuple[dict[str, pa.Array], npt.NDArray[np.bool_]]]
    read_object: Callable[[str, int, bytes, Any], DetectedObject | Reason]

    def __call__(
        self, files: Sequence[WatchedFile]
    ) -> Iterator[tuple[pa.RecordBatch, npt.NDArray[np.int64]]]:
        """Batches of the files' rows, and for each row the position of its file.

        Raises:
            PredictionReadError: If a file cannot be read.
        """
        contents: list[bytes] = []
        first = size = 0
        for position, file in enumerate(files):
            try:
                content = file.read(BYTES_TOGETHER)
            except OSError as error:
                raise PredictionReadError(
                    f"{file.path} cannot be read after row 0: {error}"
                ) from error
            if content is None:
                raise changed_file(file.path)
            if contents and size + len(content) > BYTES_TOGETHER:
                yield self._batch(files, first, contents)
                contents, first, size = [], position, 0
            contents.append(content.removeprefix(codecs.BOM_UTF8))
            size += len(content)
        if contents:
            yield self._batch(files, first, contents)

    def _batch(
        self, files: Sequence[WatchedFile], first: int, contents: Sequence[bytes]
    ) -> tuple[pa.RecordBatch, npt.NDArray[np.int64]]:
        from dagster_active_learning.readers.line_columns import read_lines

        text = b"".join(contents)
        lines = read_lines(
            np.frombuffer(text, np.uint8), np.cumsum([len(content) for content in contents])
        )
        # A row's place among those of all files; row 0 is that of an image without objects.
        places = (lines.files << _ROW_BITS) + lines.row_numbers
        image_ids = [file.stem for file in files[first : first + len(contents)]]
        columns, known = self.judge(text, lines, self.options)
        good = pa.array(np.flatnonzero(known))
        columns = {name: column.take(good) for name, column in columns.items()}
        ids = pa.array(image_ids, pa.string()).take(pa.array(lines.files[known]))
        batches = [
            prediction_batch(
                len(good),
                image_id=ids,
                class_probs=pa.nulls(len(good), pa.list_(pa.float64())),
                row_number=pa.array(places[known]),
                **columns,
            )
        ]
        other: list[Finding] = []
        for row in np.flatnonzero(~known).tolist():
            line, place = text[slice(*lines.spans[row].tolist())], int(places[row])
            image_id = image_ids[lines.files[row]]
            result = self.read_object(image_id, place, line, self.options)
            if isinstance(result, Reason):
                result = RejectedRow(place, result, raw_line(line), image_id)
            other.append(result)
        if other:
            batches.append(object_batch(other, self.options.score_transform))
        empty = np.setdiff1d(np.arange(len(contents)), lines.files)
        if len(empty):
            batches.append(
                prediction_batch(
                    len(empty),
                    image_id=pa.array([image_ids[position] for position in empty.tolist()]),
                    class_probs=pa.nulls(len(empty), pa.list_(pa.float64())),
                    row_number=pa.array(empty << _ROW_BITS),
                )
            )
        batch = batches[0] if len(batches) == 1 else in_order(batches)
        places = batch.column("row_number").to_numpy()
        rows = places & (2**_ROW_BITS - 1)
        number = batch.schema.get_field_index("row_number")
        batch = batch.set_column(number, "row_number", pa.array(rows, mask=rows == 0))
        return batch, first + (places >> _ROW_BITS)


def object_part(
    source: str,
    read: Callable[[], Iterable[Finding]],
    options: ObjectOptions,
    *,
    class_names: Sequence[str] | None,
    bbox_unit: str | None,
    sha256: Callable[[], str],
    in_columns: Callable[[], Iterator[pa.RecordBatch]] | None = None,
    empty: bool = False,
    file: WatchedFile | None = None,
    together: Together | None = None,
) -> PredictionPart:
    """A file of objects as a part of a stream.

    Args:
        source: The file's path.
        read: Starts reading the file; its objects come in the file's order.
        options: Among them how scores are transformed.
        class_names: Class names in class order; None where the file does not give them.
        bbox_unit: ``"pixel"`` or ``"relative"``.
        sha256: Gives the hash of the content once the file has been read.
        in_columns: Reads the same faster, as far as it can: ``NotPlainError`` is how it ends where
            it cannot go on.
        empty: See ``PredictionPart``, as for the two that follow.
        file: The file, where it may be read together with others.
        together: Reads such files.
    """

    def batches() -> Iterator[pa.RecordBatch]:
        rows = 0
        if in_columns is not None:
            try:
                for batch in in_columns():
                    rows += len(batch)
                    yield batch
                return
            except NotPlainError:
                pass
        items = islice(read(), rows, None)
        while block := list(islice(items, OBJECTS_PER_BATCH)):
            yield object_batch(block, options.score_transform)

    return PredictionPart(
        source=source,
        class_names=tuple(class_names) if class_names else None,
        value_type=pa.float64(),
        batches=batches,
        sha256=sha256,
        bbox_unit=bbox_unit,
        empty=empty,
        file=file,
        together=together,
    )


def first_line_of(file: WatchedFile) -> tuple[bytes, bool]:
    """The first line that is not blank, and whether ``LinesTogether`` may read the file.

    Raises:
        PredictionReadError: If it cannot be read.
    """
    if file.stem not in NO_IMAGES and file.path.suffix not in SUFFIXES:
        try:
            content = file.read(BYTES_TOGETHER)
        except OSError:
            content = None
        if content is not None:
            content = content.removeprefix(codecs.BOM_UTF8).lstrip()
            return content.partition(b"\n")[0].rstrip(), True
    file.watch()
    _, line = next(numbered_lines(file.path), (0, b""))
    return line, False


def transform_scores(
    scores: npt.NDArray[np.float64], transform: str | None
) -> npt.NDArray[np.float64]:
    """Scores as probabilities, as ``score_transform`` declares.

    What is NaN or infinite stays so, and is no score: the sigmoid would make 1 of infinity.
    """
    if transform == "percent":
        return scores / 100
    if transform == "sigmoid":
        with np.errstate(over="ignore"):
            return np.where(np.isfinite(scores), 1 / (1 + np.exp(-scores)), scores)
    return scores


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


def object_batch(items: Sequence[Finding], transform: str | None) -> pa.RecordBatch:
    """Objects as canonical columns, the rejected rows in their places, images behind them."""
    objects = [item for item in items if isinstance(item, DetectedObject)]
    images = [item for item in items if isinstance(item, EmptyImage)]
    scores = np.array([math.nan if item.score is None else item.score for item in objects])
    transformed = transform_scores(scores, transform)
    without = np.array([item.score is None for item in objects], dtype=bool)
    missing = [_why_unscored(item) for item in objects]
    raw = [None if why is None else str(item) for why, item in zip(missing, objects, strict=True)]
    rows = len(objects) + len(images)
    padding = [None] * len(images)
    batch = prediction_batch(
        rows,
        image_id=pa.array([item.image_id for item in [*objects, *images]], pa.string()),
        class_probs=pa.array(
            [item.class_probs for item in objects] + padding, pa.list_(pa.float64())
        ),
        score=pa.concat_arrays(
            [pa.array(transformed, mask=without), pa.nulls(len(images), pa.float64())]
        ),
        category=pa.array([item.category for item in objects] + padding, pa.string()),
        bbox=pa.array([item.bbox for item in objects] + padding, pa.list_(pa.float64())),
        segmentation=pa.array([item.segmentation for item in objects] + padding, pa.string()),
        row_number=pa.array([item.row_number for item in objects] + padding, pa.int64()),
        reason=pa.array(missing + padding, pa.string()),
        raw=pa.array(raw + padding, pa.string()),
    )
    return with_rejected(batch, [item for item in items if isinstance(item, RejectedRow)])


def _why_unscored(item: DetectedObject) -> Reason | None:
    """The reason why an object has no score; if its numbers are probabilities is judged later."""
    if item.score is None:
        return Reason.SCORE_NULL if item.class_probs is None else None
    return None if math.isfinite(item.score) else Reason.SCORE_NOT_FINITE
