"""Arrow batches of canonical columns, file by file: the yield of every reader.

A row that cannot be read as a prediction is not left out: it comes in its place with a ``reason``
and, as ``raw``, what was there, so that whoever stores the rows can keep it in quarantine.
"""

# The functions of pyarrow.compute are made when it is imported.
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from dagster_active_learning.errors import PredictionReadError
from dagster_active_learning.files.links import content_withheld
from dagster_active_learning.files.versions import WatchedFile, combined_sha256
from dagster_active_learning.limits import BATCH_BYTES, DEFAULT_BATCH_ROWS, SMALL_BATCH_ROWS
from dagster_active_learning.text import describe_names

FEWEST_TOGETHER = 1_000
"""Files from which it is worth the time that the kernels take to be compiled."""

FILES_TOGETHER = 4_096
"""Files that are read at once, at the most."""

ImagesNamed = Literal["predicted", "seen", "one"]
"""The images that a file names: those with predictions, all that the model saw, or a single one.

A file of the first kind without rows says that the model found nothing. A file of the last kind is
all that is said about its image.
"""


def canonical_schema(value_type: pa.DataType) -> pa.Schema:
    """The columns of a batch; ``value_type`` is float32 or float64, the source's precision.

    A row without a ``row_number`` is no row of the source: it says that the model saw the image
    and found no object in it.
    """
    return pa.schema(
        [
            ("image_id", pa.string()),
            ("class_probs", pa.list_(value_type)),
            ("score", pa.float64()),
            ("category", pa.string()),
            ("bbox", pa.list_(pa.float64())),
            ("segmentation", pa.string()),
            ("source", pa.dictionary(pa.int32(), pa.string())),
            ("row_number", pa.int64()),
            ("reason", pa.string()),
            ("raw", pa.string()),
        ]
    )


Together = Callable[[Sequence[WatchedFile]], Iterator[tuple[pa.RecordBatch, "Positions"]]]
"""Reads some small files at once: batches, and for each row the position of its file."""

Positions = npt.NDArray[np.int64]


@dataclass(frozen=True)
class PredictionPart:
    """One file of a source, or a whole table or query.

    Attributes:
        source: The file's path, or what names the table or query.
        class_names: Class names in class order, or None where the source does not give them.
        value_type: float32 or float64.
        batches: Starts reading; yields batches of the canonical columns but ``source``.
        sha256: The hash of the content; complete once the batches have been read.
        bbox_unit: What boxes are measured in, ``"pixel"`` or ``"relative"`` to the image's size.
        empty: Whether the file holds no row from which its classes could be told.
        file: The file, where it may be read together with others.
        together: Reads such files, and gives what ``batches`` of each give.
    """

    source: str
    class_names: tuple[str, ...] | None
    value_type: pa.DataType
    batches: Callable[[], Iterator[pa.RecordBatch]]
    sha256: Callable[[], str]
    bbox_unit: str | None = None
    names_in_file: tuple[str, ...] | None = None
    empty: bool = False
    file: WatchedFile | None = None
    together: Together | None = None


@dataclass(frozen=True)
class PredictionStream:
    """The predictions of one source as Arrow batches; iterate it once.

    Attributes:
        name: The path, glob, asset key or query the predictions come from.
        parts: The files, in the order in which they are read.
        class_names: Class names in class order, or None where the source does not give them.
        value_type: float32 or float64: the widest of the parts.
        bbox_unit: What boxes are measured in, where there are boxes.
        batch_rows: The most rows a batch holds.
        images_named: Which images each of the files names.
    """

    name: str
    parts: tuple[PredictionPart, ...]
    class_names: tuple[str, ...] | None
    value_type: pa.DataType
    bbox_unit: str | None
    batch_rows: int
    images_named: ImagesNamed

    @property
    def schema(self) -> pa.Schema:
        """The columns of every batch."""
        return canonical_schema(self.value_type)

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        """Batches of ``schema`` in the order of the source.

        Raises:
            PredictionReadError: If a file cannot be read, two files are about one image where each
                has its own, or no image is named where all should be.
        """
        empty = True
        waiting: list[pa.RecordBatch] = []
        files: dict[str, str] = {}
        waiting_rows = waiting_bytes = 0
        for batch, sources in self._read():
            if self.images_named == "one":
                _check_only_files(batch, sources, files)
            for start in range(0, batch.num_rows, self.batch_rows):
                empty = False
                rows = self._with_source(
                    batch.slice(start, self.batch_rows), sources.slice(start, self.batch_rows)
                )
                waiting_rows += len(rows)
                waiting_bytes += rows.nbytes
                # A folder of small files makes few batches, not one per file.
                if (
                    waiting_rows > min(self.batch_rows, SMALL_BATCH_ROWS)
                    or waiting_bytes > BATCH_BYTES
                ):
                    yield from _joined(waiting)
                    waiting, waiting_rows, waiting_bytes = [], len(rows), rows.nbytes
                waiting.append(rows)
        yield from _joined(waiting)
        if empty and self.images_named != "predicted":
            raise PredictionReadError(f"{self.name} holds no predictions: expected at least one")

    def sha256(self) -> str:
        """The hash of the content, once all batches have been read."""
        return combined_sha256([part.sha256() for part in self.parts])

    def _read(self) -> Iterator[tuple[pa.RecordBatch, pa.DictionaryArray]]:
        """The batches of all parts, and the source of each row."""
        for together, run in groupby(self.parts, key=lambda part: part.together):
            parts = list(run)
            is_many = together is not None and len(parts) >= FEWEST_TOGETHER
            step = FILES_TOGETHER if is_many else 1
            for start in range(0, len(parts), step):
                some = parts[start : start + step]
                sources = pa.array([part.source for part in some])
                files = [part.file for part in some if part.file is not None]
                if together is not None and is_many:
                    batches = together(files)
                else:
                    alone = some[0].batches()
                    batches = ((batch, np.zeros(batch.num_rows, np.int64)) for batch in alone)
                for batch, positions in batches:
                    indices = pa.array(positions.astype(np.int32))
                    yield batch, pa.DictionaryArray.from_arrays(indices, sources)

    def _with_source(self, batch: pa.RecordBatch, sources: pa.DictionaryArray) -> pa.RecordBatch:
        columns = [
            sources if field.name == "source" else batch.column(field.name).cast(field.type)
            for field in self.schema
        ]
        return pa.RecordBatch.from_arrays(columns, schema=self.schema)


def _check_only_files(
    batch: pa.RecordBatch, sources: pa.DictionaryArray, files: dict[str, str]
) -> None:
    """Raise PredictionReadError if an image has a file already, else note those of a batch."""
    _, first_rows = np.unique(sources.indices.to_numpy(), return_index=True)
    rows = pa.array(first_rows)
    image_ids = batch.column("image_id").take(rows).to_pylist()
    for image_id, source in zip(image_ids, sources.take(rows).to_pylist(), strict=True):
        if image_id is not None and files.setdefault(image_id, source) != source:
            raise PredictionReadError(
                f"{files[image_id]} and {source} are both about the image {image_id!r}: expected "
                "one file per image; give one of the images another id, or read their folders as "
                "two prediction sets"
            )


def _joined(batches: list[pa.RecordBatch]) -> list[pa.RecordBatch]:
    if len(batches) < 2:
        return batches
    return pa.Table.from_batches(batches).unify_dictionaries().combine_chunks().to_batches()


def open_stream(
    name: str,
    parts: Sequence[PredictionPart],
    batch_rows: int = DEFAULT_BATCH_ROWS,
    images_named: ImagesNamed = "predicted",
) -> PredictionStream:
    """Join the parts of a source into one stream.

    Raises:
        PredictionReadError: If two parts have different classes.
    """
    telling = [part for part in parts if not part.empty] or parts
    first = telling[0]
    parts = [part if part.empty else _in_order_of(first, part) for part in parts]
    wide = any(part.value_type == pa.float64() for part in parts)
    return PredictionStream(
        name=name,
        parts=tuple(parts),
        class_names=first.class_names,
        value_type=pa.float64() if wide else pa.float32(),
        bbox_unit=first.bbox_unit,
        batch_rows=batch_rows,
        images_named=images_named,
    )


def _in_order_of(first: PredictionPart, part: PredictionPart) -> PredictionPart:
    """A part with its class probabilities in the order of the first part's classes.

    Raises:
        PredictionReadError: If it has other classes.
    """
    if (part.class_names, part.names_in_file) == (first.class_names, first.names_in_file):
        return part
    names, first_names = part.class_names, first.class_names
    if names == first_names:
        # Names given by hand, for columns of other names or in another order.
        names, first_names = part.names_in_file, first.names_in_file
        is_order = False
    else:
        is_order = part.names_in_file in (None, names) and first.names_in_file in (
            None,
            first_names,
        )
    if not is_order or names is None or first_names is None or sorted(names) != sorted(first_names):
        raise PredictionReadError(
            f"{part.source} has the classes {describe_names(names)}, but {first.source} has "
            f"{describe_names(first_names)}: the files of one prediction set must have the same "
            "classes, and in the same order where class_names names them"
        )
    order = np.array([names.index(name) for name in first_names])

    def batches() -> Iterator[pa.RecordBatch]:
        for batch in part.batches():
            position = batch.schema.get_field_index("class_probs")
            class_probs = _reordered(batch.column(position), order)
            yield batch.set_column(position, batch.schema.names[position], class_probs)

    return replace(
        part,
        batches=batches,
        class_names=first.class_names,
        names_in_file=first.names_in_file,
        together=None,
    )


def _reordered(lists: pa.ListArray, order: npt.NDArray[np.int64]) -> pa.ListArray:
    """Lists with as many elements as ``order``, put into this order; others as they are."""
    lengths = np.array(pc.fill_null(pc.list_value_length(lists), 0))
    offsets = np.zeros(len(lengths) + 1, dtype=np.int32)
    np.cumsum(lengths, out=offsets[1:])
    positions = np.arange(offsets[-1])
    starts = offsets[:-1][lengths == len(order), None]
    positions[starts + np.arange(len(order))] = starts + order
    values = lists.flatten().take(pa.array(positions))
    return pa.ListArray.from_arrays(pa.array(offsets), values, mask=lists.is_null())


def with_content_withheld(part: PredictionPart, files: Sequence[str]) -> PredictionPart:
    """The part, with errors that say nothing of the content of links; see ``content_withheld``."""
    if not files:
        return part

    def batches() -> Iterator[pa.RecordBatch]:
        with content_withheld(files):
            yield from part.batches()

    return replace(part, batches=batches, together=None)


def prediction_batch(rows: int, **columns: pa.Array) -> pa.RecordBatch:
    """A batch as a part yields it; the canonical columns that are not given are null."""
    schema = canonical_schema(pa.float32())
    names = [name for name in schema.names if name != "source"]
    return pa.RecordBatch.from_arrays(
        [
            pa.nulls(rows, schema.field(name).type) if columns.get(name) is None else columns[name]
            for name in names
        ],
        names=names,
    )


def with_empty_images(batch: pa.RecordBatch, image_ids: Sequence[str]) -> pa.RecordBatch:
    """The rows of a batch, and behind them the images in which no object was found."""
    if not image_ids:
        return batch
    rows = len(image_ids)
    class_probs = pa.nulls(rows, batch.column("class_probs").type)
    images = prediction_batch(rows, image_id=pa.array(image_ids), class_probs=class_probs)
    return pa.Table.from_batches([batch, images]).combine_chunks().to_batches()[0]


def boxes_array(boxes: npt.NDArray[np.float64], given: npt.NDArray[np.bool_]) -> pa.ListArray:
    """Boxes ``(n, 4)`` as a list column, null in the rows that are not ``given``."""
    offsets = np.zeros(len(given) + 1, dtype=np.int32)
    np.cumsum(given * 4, out=offsets[1:])
    return pa.ListArray.from_arrays(
        pa.array(offsets), pa.array(boxes[given].ravel()), mask=pa.array(~given)
    )
