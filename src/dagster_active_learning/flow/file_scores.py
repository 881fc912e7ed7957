"""One Parquet file -> its scores and its rows for quarantine: what a worker does of a set in place.

A set's folder has ``scores/``, ``best/``, ``quarantine/``, ``rows/`` and ``done/``, and in each a
file per source file, named by its place in the set. What is done twice has the same bytes;
``done/`` comes last, so that a file that is there need not be read again.

Where an image has rows in several files, or apart from each other in one, wave 1 writes the scores
of predictions, in buckets by a hash of the image's id, and wave 2 adds up a bucket at a time, in
the order of the set: sums of floats in another order have other bits.
"""

# The functions of pyarrow.compute are made when it is imported.
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from dagster_active_learning.acquisition.batches import (
    PredictionScores,
    adjacent_images,
    score_predictions,
)
from dagster_active_learning.acquisition.functions import ACQUISITION_FUNCTIONS
from dagster_active_learning.errors import PredictionReadError
from dagster_active_learning.files.in_place import FileInPlace, Storage
from dagster_active_learning.flow.best_images import (
    BestImages,
    RecentPredictions,
    without_classes,
)
from dagster_active_learning.flow.id_hashes import id_hashes
from dagster_active_learning.flow.progress import Progress
from dagster_active_learning.flow.sorted_rows import SortedRows
from dagster_active_learning.flow.spool import RowSpool
from dagster_active_learning.limits import DEFAULT_BATCH_ROWS
from dagster_active_learning.readers.in_place import stream_of_file
from dagster_active_learning.rules import Rules
from dagster_active_learning.store.set_tables import prediction_schema

ROWS_BETWEEN_BUCKETS = 4 * DEFAULT_BATCH_ROWS
"""Predictions that are put into buckets together: a bucket gets a row group of each such part."""

ROWS_LOOKED_UP = 10_240
"""Rows of a row group of scores: whoever looks for one image reads as many."""


@dataclass(frozen=True)
class FileTask:
    """One file of a set.

    Attributes:
        folder: The set's folder.
        place: Number of the file in the set, from 0.
        file: The file.
        source: Its name in tables.
        row_count: Number of its rows, as its footer says.
        first_index: The position of its first row in the set.
        options: The options of the reader.
        class_names: Names of the classes of the set, None where it has no class probabilities.
        value_type: The set's precision, ``float`` or ``double``.
        rules: How predictions are judged and scored.
        buckets: Number of buckets; 0 where each image has its rows in one file, side by side.
    """

    folder: str
    place: int
    file: FileInPlace
    source: str
    row_count: int
    first_index: int
    options: dict[str, Any]
    class_names: tuple[str, ...] | None
    value_type: str
    rules: Rules
    buckets: int

    @property
    def name(self) -> str:
        """The name of what is written about it."""
        return f"{self.place:08d}"

    def __str__(self) -> str:
        return f"{self.file} ({self.row_count:,} rows)"


@dataclass(frozen=True)
class FileCounts:
    """What is known of a file once it is scored.

    Attributes:
        place: Number of the file in the set, from 0.
        first_index: The position of its first row in the set.
        row_count: Number of rows.
        prediction_count: Those of them that are predictions.
        score_only_count: Predictions without class probabilities.
        run_count: Runs of predictions about one image.
        repeats: Whether an image has several runs; found only where there are no buckets.
        first_id: The image of the first prediction, None without one.
        last_id: That of the last.
        deviation: As ``SortedRows`` has it.
        sha256: As ``FileInPlace.sha256`` gives it.
        groups: The bucket of each row group of the file in ``rows/``.
        by_class: Each class and the number of predictions for it, None for those without a class.
        cuts: As ``BestImages`` has them; none where there are buckets.
        is_new: Whether it was read now, and not before.
    """

    place: int
    first_index: int
    row_count: int
    prediction_count: int
    score_only_count: int
    run_count: int
    repeats: bool
    first_id: str | None
    last_id: str | None
    deviation: float
    sha256: str
    groups: tuple[int, ...]
    by_class: tuple[tuple[str | None, int], ...]
    cuts: dict[str, float]
    is_new: bool = True

    @property
    def quarantined_count(self) -> int:
        """Rows in quarantine."""
        return self.row_count - self.prediction_count

    @property
    def name(self) -> str:
        """The name of what was written about it."""
        return f"{self.place:08d}"


def score_file(task: FileTask) -> FileCounts:
    """Judge and score the predictions of a file, or find that this was done.

    Raises:
        PredictionReadError: If the file cannot be read, is another than it was, or has not as many
            rows as its footer says.
    """
    storage = Storage(task.folder)
    done = storage.read(f"done/{task.name}.json")
    if done is not None:
        task.file.check()
        known: dict[str, Any] = json.loads(done)
        known["by_class"] = tuple((name, count) for name, count in known["by_class"])
        known |= {"groups": tuple(known["groups"]), "is_new": False}
        return FileCounts(**known)
    value_type = pa.float64() if task.value_type == "double" else pa.float32()
    stream = stream_of_file(task.file, task.options, task.class_names, value_type)
    with RowSpool() as quarantined, RowSpool() as empty_images:
        rows = SortedRows(
            stream, task.rules, Progress("read", lambda _: None), quarantined, empty_images
        )
        predictions = rows.predictions(prediction_schema(value_type))
        runs = _Runs(task.first_index, keep_ids=not task.buckets)
        best = BestImages(scored_functions(task.rules), task.rules)
        if task.buckets:
            groups = _write_rows(storage, task, runs, predictions)
        else:
            groups = ()
            _write_scores(storage, task, runs, best, predictions)
        if quarantined.row_count:
            _write_quarantined(storage, task, quarantined)
        row_count = runs.row_count + quarantined.row_count
    sha256 = stream.parts[0].sha256()
    task.file.check()
    if row_count != task.row_count:
        raise PredictionReadError(
            f"{task.file} has {row_count:,} rows, and its footer said {task.row_count:,}: expected "
            "a file that is complete"
        )
    counts = FileCounts(
        place=task.place,
        first_index=task.first_index,
        row_count=row_count,
        prediction_count=runs.row_count,
        score_only_count=runs.score_only_count,
        run_count=runs.run_count,
        repeats=runs.repeats(),
        first_id=runs.first_id,
        last_id=runs.last_id,
        deviation=rows.deviation,
        sha256=sha256,
        groups=groups,
        by_class=tuple(rows.classes.of(rows.class_names or [])),
        cuts=best.cuts,
    )
    storage.write(f"done/{task.name}.json", json.dumps(asdict(counts)).encode())
    return counts


@dataclass(frozen=True)
class BucketTask:
    """The images of one bucket.

    Attributes:
        folder: The set's folder.
        bucket: Number of the bucket.
        parts: Names of the files in ``rows/`` that have predictions of it, in the order of the set,
            each with the row groups that they are in.
        rules: How predictions are scored.
    """

    folder: str
    bucket: int
    parts: tuple[tuple[str, tuple[int, ...]], ...]
    rules: Rules

    @property
    def name(self) -> str:
        """The name of what is written about it."""
        return f"bucket-{self.bucket:06d}"

    def __str__(self) -> str:
        return f"bucket {self.bucket} of {self.folder}"


@dataclass(frozen=True)
class BucketCounts:
    """What is known of a bucket once its images are scored."""

    name: str
    image_count: int
    row_count: int
    cuts: dict[str, float]
    is_new: bool = True


def score_bucket(task: BucketTask) -> BucketCounts:
    """Add up the scores of predictions to scores of images, or find that this was done."""
    storage = Storage(task.folder)
    done = storage.read(f"done/{task.name}.json")
    if done is not None:
        known: dict[str, Any] = json.loads(done)
        known["is_new"] = False
        return BucketCounts(**known)
    tables: list[pa.Table] = []
    for name, groups in task.parts:
        with storage.reading(f"rows/{name}.parquet") as opened, pq.ParquetFile(opened) as file:
            tables.append(file.read_row_groups(list(groups)))
    rows = pa.concat_tables(tables)
    rows = rows.sort_by([("image_id", "ascending"), ("prediction_index", "ascending")])
    runs = _Runs(0, keep_ids=False)
    best = BestImages(scored_functions(task.rules), task.rules)

    def images() -> Iterator[pa.Table]:
        for table in _image_scores(_scores_of_rows(rows, task.rules, runs), task.rules, runs):
            kept = table.filter(pa.array(best.wanted(table)))
            best.add(without_classes(kept))
            yield table

    write_table(storage, f"scores/{task.name}.parquet", images())
    _write_best(storage, task.name, best)
    counts = BucketCounts(task.name, runs.run_count, rows.num_rows, best.cuts)
    storage.write(f"done/{task.name}.json", json.dumps(asdict(counts)).encode())
    return counts


def scored_functions(rules: Rules) -> list[str]:
    """The acquisition functions of which scores are written."""
    return [name for name, one in ACQUISITION_FUNCTIONS.items() if one.applies_to(rules)]


def write_table(storage: Storage, name: str, tables: Iterable[pa.Table]) -> None:
    """Write tables of one schema as row groups of some size; no table is no file."""
    with ExitStack() as closing:
        writer: pq.ParquetWriter | None = None
        for part in _parts(tables, DEFAULT_BATCH_ROWS):
            if writer is None:
                file = closing.enter_context(storage.writing(name))
                # Ids and scores hardly repeat: to look for what does took as long as the kernels.
                writer = closing.enter_context(
                    pq.ParquetWriter(file, part.schema, use_dictionary=False)
                )
            writer.write_table(part, row_group_size=ROWS_LOOKED_UP)


class _Runs:
    """Runs of predictions about one image, in a file or a bucket.

    Args:
        first_index: What to add to the position of a prediction.
        keep_ids: Whether to tell if an image has several runs.
    """

    def __init__(self, first_index: int, *, keep_ids: bool) -> None:
        self._first_index = first_index
        self._keep_ids = keep_ids
        self._starts: deque[npt.NDArray[np.int64]] = deque()
        self._hashes: list[npt.NDArray[np.uint64]] = []
        self._ascending = True
        self.row_count = 0
        self.score_only_count = 0
        self.run_count = 0
        self.first_id: str | None = None
        self.last_id: str | None = None

    def add(self, predictions: pa.RecordBatch) -> None:
        """Count predictions, whose columns are image_id, prediction_index and more."""
        ids = predictions.column("image_id")
        if not len(ids):
            return
        first, last = ids[0].as_py(), ids[-1].as_py()
        starts = np.ones(len(ids), np.bool_)
        starts[0] = first != self.last_id
        starts[1:] = pc.not_equal(ids[1:], ids[:-1]).to_numpy(zero_copy_only=False)
        indices = predictions.column("prediction_index").to_numpy()[starts]
        self._starts.append(indices + self._first_index)
        if self._keep_ids:
            self._hashes.append(id_hashes(ids.filter(pa.array(starts))))
            if self._ascending:
                rising = pc.all(pc.less_equal(ids[:-1], ids[1:])).as_py()
                self._ascending = rising is not False and (
                    self.last_id is None or self.last_id.encode() <= first.encode()
                )
        self.row_count += len(ids)
        if "class_probs" in predictions.schema.names:
            self.score_only_count += predictions.column("class_probs").null_count
        self.run_count += int(starts.sum())
        self.first_id = first if self.first_id is None else self.first_id
        self.last_id = last

    def take(self, count: int) -> npt.NDArray[np.int64]:
        """The positions of the first predictions of the next runs."""
        taken: list[npt.NDArray[np.int64]] = [np.empty(0, np.int64)]
        while count:
            starts = self._starts.popleft()
            if len(starts) > count:
                self._starts.appendleft(starts[count:])
            taken.append(starts[:count])
            count -= len(taken[-1])
        return np.concatenate(taken)

    def repeats(self) -> bool:
        """Whether an image may have several runs: of two with one hash it is taken to be so."""
        if self._ascending or not self._hashes:
            return False
        hashes = np.concatenate(self._hashes)
        self._hashes = []
        hashes.sort()
        return bool((hashes[1:] == hashes[:-1]).any())


def _write_scores(
    storage: Storage,
    task: FileTask,
    runs: _Runs,
    best: BestImages,
    predictions: Iterator[pa.RecordBatch],
) -> None:
    recent = RecentPredictions(task.first_index, task.class_names or (), objects=task.rules.objects)

    def scored() -> Iterator[PredictionScores]:
        for batch in predictions:
            runs.add(batch)
            recent.add(batch)
            yield score_predictions(batch, task.rules)

    def images() -> Iterator[pa.Table]:
        for table in _image_scores(scored(), task.rules, runs):
            kept = table.filter(pa.array(best.wanted(table)))
            best.add(recent.with_classes(kept))
            yield table

    write_table(storage, f"scores/{task.name}.parquet", images())
    _write_best(storage, task.name, best)


def _write_best(storage: Storage, name: str, best: BestImages) -> None:
    table = best.table()
    if table is not None:
        write_table(storage, f"best/{name}.parquet", [table])


def _image_scores(
    scored: Iterator[PredictionScores], rules: Rules, runs: _Runs
) -> Iterator[pa.Table]:
    """Scores of images with the position of the first prediction of each."""
    names = ["image_id", "prediction_count", *scored_functions(rules)]
    for images in adjacent_images(scored, rules):
        first = pa.array(runs.take(images.num_rows))
        yield pa.Table.from_batches([images.select(names).append_column("prediction_index", first)])


def _scores_of_rows(rows: pa.Table, rules: Rules, runs: _Runs) -> Iterator[PredictionScores]:
    """The scores of predictions as wave 1 has kept them."""
    for batch in rows.combine_chunks().to_batches(max_chunksize=DEFAULT_BATCH_ROWS):
        runs.add(batch)
        names = _scores_kept(rules)
        scores = np.stack([batch.column(name).to_numpy(zero_copy_only=False) for name in names])
        validity = np.zeros(batch.num_rows, np.uint8)
        yield PredictionScores(batch, names, scores, validity)


def _scores_kept(rules: Rules) -> tuple[str, ...]:
    """The scores of predictions that those of images are made of."""
    return ("entropy",) if rules.committee else tuple(scored_functions(rules))


def _write_rows(
    storage: Storage, task: FileTask, runs: _Runs, predictions: Iterator[pa.RecordBatch]
) -> tuple[int, ...]:
    """Write scores of predictions in buckets; returns the bucket of each row group."""
    groups: list[int] = []
    with ExitStack() as closing:
        file = closing.enter_context(storage.writing(f"rows/{task.name}.parquet"))
        writer: pq.ParquetWriter | None = None
        for part in _parts(_scored_rows(task, runs, predictions), ROWS_BETWEEN_BUCKETS):
            if writer is None:
                writer = closing.enter_context(
                    pq.ParquetWriter(file, part.schema, use_dictionary=False)
                )
            hashes = id_hashes(part.column("image_id").combine_chunks())
            buckets = (hashes % np.uint64(task.buckets)).astype(np.int64)
            order = np.argsort(buckets, kind="stable")
            ends = np.cumsum(np.bincount(buckets, minlength=task.buckets))
            ordered = part.take(pa.array(order))
            for bucket, (start, end) in enumerate(zip([0, *ends[:-1]], ends, strict=True)):
                if end > start:
                    writer.write_table(ordered.slice(start, end - start), row_group_size=end)
                    groups.append(bucket)
    return tuple(groups)


def _scored_rows(
    task: FileTask, runs: _Runs, predictions: Iterator[pa.RecordBatch]
) -> Iterator[pa.Table]:
    names = _scores_kept(task.rules)
    for batch in predictions:
        runs.add(batch)
        scored = score_predictions(batch, task.rules)
        positions = batch.column("prediction_index").to_numpy() + task.first_index
        columns = {
            "image_id": batch.column("image_id"),
            "prediction_index": pa.array(positions),
            **{name: pa.array(scored.under(name)) for name in names},
        }
        if task.rules.committee:
            columns["class_probs"] = batch.column("class_probs")
        yield pa.table(columns)


def _parts(tables: Iterable[pa.Table], rows: int) -> Iterator[pa.Table]:
    """Tables joined until they have a number of rows, or more."""
    waiting: list[pa.Table] = []
    for table in tables:
        waiting.append(table)
        if sum(one.num_rows for one in waiting) >= rows:
            yield pa.concat_tables(waiting)
            waiting = []
    if waiting:
        yield pa.concat_tables(waiting)


def _write_quarantined(storage: Storage, task: FileTask, quarantined: RowSpool) -> None:
    def tables() -> Iterator[pa.Table]:
        for batch in quarantined.batches():
            # A row's number counts from 1, and all rows of the file.
            index = batch.column("row_number").to_numpy() - 1 + task.first_index
            source = pa.array([task.source] * batch.num_rows, pa.string())
            table = pa.Table.from_batches([batch])
            table = table.set_column(table.schema.get_field_index("source"), "source", source)
            yield table.append_column("prediction_index", pa.array(index))

    write_table(storage, f"quarantine/{task.name}.parquet", tables())
