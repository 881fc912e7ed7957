"""One Parquet file -> its scores and its rows for quarantine: what a worker does of a set in place.

A set's folder has ``scores/``, ``best/``, ``predictions/``, ``quarantine/``, ``rows/`` and
``done/``, and in each a file per source file, named by its place in the set. What is done twice has
the same bytes; ``done/`` comes last, so that a file that is there need not be read again.

Where an image has rows in several files, or apart from each other in one, the scores of predictions
are written to ``rows/``, in buckets by a hash of the image's id, and a second wave adds them up.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from dagster_active_learning.acquisition.batches import PredictionScores, score_predictions
from dagster_active_learning.acquisition.functions import ACQUISITION_FUNCTIONS
from dagster_active_learning.errors import PredictionReadError
from dagster_active_learning.files.in_place import FileInPlace
from dagster_active_learning.files.storage import Storage
from dagster_active_learning.flow.best_images import (
    BestImages,
    RecentPredictions,
    images_with_predictions,
)
from dagster_active_learning.flow.bucket_rows import (
    PART_BYTES,
    ROWS_BETWEEN_BUCKETS,
    rows_within,
    write_rows,
)
from dagster_active_learning.flow.finished_tasks import Finished, finish, finished
from dagster_active_learning.flow.id_hashes import id_hashes
from dagster_active_learning.flow.progress import Progress
from dagster_active_learning.flow.repeated_predictions import (
    Contents,
    RepeatedPredictions,
    prediction_contents,
)
from dagster_active_learning.flow.runs import Runs
from dagster_active_learning.flow.score_tables import (
    counted_columns,
    image_scores,
    scored_functions,
    scores_alone,
    write_best,
    write_table,
)
from dagster_active_learning.flow.sorted_rows import (
    SortedRows,
    kept_functions,
)
from dagster_active_learning.flow.spool import RowSpool
from dagster_active_learning.readers.in_place import check_text, stream_of_file
from dagster_active_learning.readers.quarantine import Reason
from dagster_active_learning.rules import Rules
from dagster_active_learning.store.repeated import Repeated
from dagster_active_learning.store.score_counts import Counts, count_scores, join_counts
from dagster_active_learning.store.set_columns import (
    CLASS_POSITION,
    prediction_schema,
    score_column,
)

NOT_TEXT = frozenset({Reason.IMAGE_ID_NOT_UTF8, Reason.UNKNOWN_CATEGORY})
"""Reasons of rows that may have a text which is not UTF-8."""


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
class FileCounts(Finished):
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
        groups: The bucket of each batch of the file in ``rows/``.
        by_class: Each class and the number of predictions for it, None for those without a class.
        cuts: As ``BestImages`` has them; none where there are buckets.
        scores: The ``counted_columns`` in numbers; none where there are buckets.
        repeated: What is ``Repeated``; nothing where there are buckets.
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
    groups: Sequence[int]
    by_class: Sequence[tuple[str | None, int]]
    cuts: dict[str, float]
    scores: Counts
    repeated: Sequence[Any]

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
    known = finished(storage, task.name, FileCounts)
    if known is not None:
        task.file.check()
        return known
    value_type = pa.float64() if task.value_type == "double" else pa.float32()
    stream = stream_of_file(task.file, task.options, task.class_names, value_type)
    with RowSpool() as quarantined, RowSpool() as empty_images:
        progress = Progress("read", lambda _: None)
        functions = kept_functions(task.rules)
        rows = SortedRows(stream, task.rules, progress, quarantined, empty_images, functions)
        kept = [pa.field(score_column(str(one.scores)), pa.float64()) for one in functions]
        schema = pa.schema([*prediction_schema(value_type), CLASS_POSITION, *kept])
        predictions = _Predictions(rows.predictions(schema), task.rules)
        best = BestImages(scored_functions(task.rules), task.rules)
        groups: tuple[int, ...] = ()
        scores: Counts = {}
        repeated = Repeated()
        repeats = False
        if task.buckets:
            most = rows_within(PART_BYTES, task.rules, task.class_names, task.value_type)
            groups = write_rows(
                storage,
                task.name,
                predictions,
                first_index=task.first_index,
                rules=task.rules,
                buckets=task.buckets,
                part_rows=min(most, ROWS_BETWEEN_BUCKETS),
            )
        else:
            hashes, scores, repeated = _write_scores(storage, task, best, predictions, rows.images)
            repeats = not rows.images.ascending and _has_equal(hashes)
        if quarantined.row_count:
            _write_quarantined(storage, task, quarantined)
        row_count = rows.images.row_count + quarantined.row_count
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
        prediction_count=rows.images.row_count,
        score_only_count=predictions.score_only_count,
        run_count=rows.images.run_count,
        repeats=repeats,
        first_id=rows.images.first_id,
        last_id=rows.images.last_id,
        deviation=rows.deviation,
        sha256=sha256,
        groups=groups,
        by_class=tuple(rows.classes.of(rows.class_names or [])),
        cuts=best.cuts,
        scores=scores,
        repeated=repeated,
        files=storage.written,
    )
    finish(storage, task.name, counts)
    return counts


class _Predictions:
    """The scores of a file's predictions, batch after batch.

    Attributes:
        score_only_count: Predictions without class probabilities.
    """

    def __init__(self, batches: Iterator[pa.RecordBatch], rules: Rules) -> None:
        self._batches = batches
        self._rules = rules
        self._kept = bool(kept_functions(rules))
        self.score_only_count = 0

    def __iter__(self) -> Iterator[PredictionScores]:
        for batch in self._batches:
            self.score_only_count += batch.column("class_probs").null_count
            yield self._judged(batch) if self._kept else score_predictions(batch, self._rules)

    def _judged(self, batch: pa.RecordBatch) -> PredictionScores:
        """The scores from the pass that has judged the predictions."""
        names = tuple(scored_functions(self._rules))
        columns = (score_column(str(ACQUISITION_FUNCTIONS[name].scores)) for name in names)
        scores = np.stack([batch.column(column).to_numpy() for column in columns])
        return PredictionScores(batch, names, scores, np.zeros(batch.num_rows, np.uint8))


def _write_scores(
    storage: Storage,
    task: FileTask,
    best: BestImages,
    predictions: Iterable[PredictionScores],
    runs: Runs,
) -> tuple[list[npt.NDArray[np.uint64]], Counts, Repeated]:
    """Write scores of images, and the best of them; returns hashes of their ids, and numbers."""
    first = images_with_predictions(scored_functions(task.rules), task.rules)
    recent = RecentPredictions(task.first_index, task.class_names or (), objects=task.rules.objects)
    hashes: list[npt.NDArray[np.uint64]] = []
    counts: list[Counts] = []
    repeated = RepeatedPredictions()

    def scored() -> Iterator[PredictionScores]:
        for batch in predictions:
            recent.add(batch.predictions)
            _count_repeated(repeated, batch.predictions, task, runs)
            yield batch

    def images() -> Iterator[pa.Table]:
        for table in image_scores(scored(), task.rules, task.first_index):
            hashes.extend(map(id_hashes, table.column("image_id").chunks))
            counts.append(count_scores(table, counted_columns(task.rules)))
            alone = scores_alone(table)
            best.add(recent.with_classes(alone.filter(pa.array(best.wanted(alone)))))
            first.add(recent.with_predictions(alone.filter(pa.array(first.wanted(alone)))))
            yield table

    write_table(storage, f"scores/{task.name}.parquet", images())
    write_best(storage, task.name, best)
    if (of_first := first.table()) is not None:
        write_table(storage, f"predictions/{task.name}.parquet", [of_first])
    return hashes, join_counts(counts), repeated.found()


def _count_repeated(
    repeated: RepeatedPredictions, predictions: pa.RecordBatch, task: FileTask, runs: Runs
) -> None:
    def contents(start: int) -> Contents:
        return prediction_contents(predictions.slice(start), objects=task.rules.objects)

    index = predictions.column("prediction_index").to_numpy() + task.first_index
    alone = runs.run_count == runs.row_count
    repeated.add(predictions.column("image_id"), index, contents, alone=alone)


def _has_equal(hashes: list[npt.NDArray[np.uint64]]) -> bool:
    """Whether two hashes are equal: images of one hash are taken to be one image."""
    ordered = np.concatenate(hashes)
    ordered.sort()
    return bool((ordered[1:] == ordered[:-1]).any())


def _write_quarantined(storage: Storage, task: FileTask, quarantined: RowSpool) -> None:
    reasons = set[str]()

    def tables() -> Iterator[pa.Table]:
        for batch in quarantined.batches():
            # A row's number counts from 1, and all rows of the file.
            index = batch.column("row_number").to_numpy() - 1 + task.first_index
            source = pa.array([task.source] * batch.num_rows, pa.string())
            table = pa.Table.from_batches([batch])
            table = table.set_column(table.schema.get_field_index("source"), "source", source)
            reasons.update(batch.column("reason").unique().to_pylist())
            yield table.append_column("prediction_index", pa.array(index))

    write_table(storage, f"quarantine/{task.name}.parquet", tables())
    if not reasons.isdisjoint(NOT_TEXT):
        check_text(task.file, task.options)
