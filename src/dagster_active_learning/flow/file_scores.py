"""One Parquet file -> its scores and its rows for quarantine: what a worker does of a set in place.

A set's folder has ``scores/``, ``best/``, ``quarantine/``, ``rows/`` and ``done/``, and in each a
file per source file, named by its place in the set. What is done twice has the same bytes;
``done/`` comes last, so that a file that is there need not be read again.

Where an image has rows in several files, or apart from each other in one, the scores of predictions
are written to ``rows/``, in buckets by a hash of the image's id, and a second wave adds them up.
"""

# The functions of pyarrow.compute are made when it is imported.
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from dagster_active_learning.acquisition.batches import PredictionScores, score_predictions
from dagster_active_learning.errors import PredictionReadError
from dagster_active_learning.files.in_place import FileInPlace, Storage
from dagster_active_learning.flow.best_images import BestImages, RecentPredictions
from dagster_active_learning.flow.id_hashes import id_hashes
from dagster_active_learning.flow.progress import Progress
from dagster_active_learning.flow.runs import Runs
from dagster_active_learning.flow.score_tables import (
    image_scores,
    joined,
    scored_functions,
    scores_kept,
    write_best,
    write_table,
)
from dagster_active_learning.flow.sorted_rows import SortedRows
from dagster_active_learning.flow.spool import RowSpool
from dagster_active_learning.limits import DEFAULT_BATCH_ROWS
from dagster_active_learning.readers.in_place import stream_of_file
from dagster_active_learning.rules import Rules
from dagster_active_learning.store.set_tables import prediction_schema

ROWS_BETWEEN_BUCKETS = 4 * DEFAULT_BATCH_ROWS
"""Predictions that are put into buckets together: a bucket gets a row group of each such part."""


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
        runs = Runs(task.first_index, keep_ids=not task.buckets)
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


def _write_scores(
    storage: Storage,
    task: FileTask,
    runs: Runs,
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
        for table in image_scores(scored(), task.rules, runs):
            kept = table.filter(pa.array(best.wanted(table)))
            best.add(recent.with_classes(kept))
            yield table

    write_table(storage, f"scores/{task.name}.parquet", images())
    write_best(storage, task.name, best)


def _write_rows(
    storage: Storage, task: FileTask, runs: Runs, predictions: Iterator[pa.RecordBatch]
) -> tuple[int, ...]:
    """Write scores of predictions in buckets; returns the bucket of each row group."""
    groups: list[int] = []
    with ExitStack() as closing:
        file = closing.enter_context(storage.writing(f"rows/{task.name}.parquet"))
        writer: pq.ParquetWriter | None = None
        for part in joined(_scored_rows(task, runs, predictions), ROWS_BETWEEN_BUCKETS):
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
    task: FileTask, runs: Runs, predictions: Iterator[pa.RecordBatch]
) -> Iterator[pa.Table]:
    names = scores_kept(task.rules)
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
