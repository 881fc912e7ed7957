"""Which rows of a source are predictions, and which go to quarantine and why.

Where an image has one prediction as a rule, the pass that judges class probabilities scores them,
too: `kept_functions`.
"""

# The functions of pyarrow.compute are made when it is imported.
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from dagster_active_learning.acquisition.class_probs import class_prob_matrix, softmax
from dagster_active_learning.acquisition.compilation import one_thread
from dagster_active_learning.acquisition.functions import (
    ACQUISITION_FUNCTIONS,
    AcquisitionFunction,
)
from dagster_active_learning.acquisition.kernels import check_class_probs
from dagster_active_learning.acquisition.matrices import score_matrix
from dagster_active_learning.acquisition.most_probable import most_probable_class
from dagster_active_learning.acquisition.validity import Validity
from dagster_active_learning.files.addresses import redacted
from dagster_active_learning.flow.progress import Progress
from dagster_active_learning.flow.runs import Runs
from dagster_active_learning.flow.spool import RowSpool
from dagster_active_learning.readers.quarantine import Reason
from dagster_active_learning.readers.stream import PredictionStream
from dagster_active_learning.rules import Rules
from dagster_active_learning.store.prediction_sources import SourceFile
from dagster_active_learning.store.set_columns import CLASS_POSITION, score_column
from dagster_active_learning.text import raw_text

ROWS_THAT_DECIDE_CLASS_COUNT = 1_024
"""Predictions at the beginning that give the number of classes, where no names give it."""

STORED_COLUMNS = ("image_id", "class_probs", "score", "category", "bbox", "segmentation")


def kept_functions(rules: Rules) -> tuple[AcquisitionFunction, ...]:
    """The functions by which predictions are scored while they are read, one per kernel row.

    There is none where an image's scores are not those of its one prediction, or where a function
    is computed outside of the kernel: what it computes may be another thing tomorrow.
    """
    functions = [one for one in ACQUISITION_FUNCTIONS.values() if one.applies_to(rules)]
    if rules.objects or rules.committee or rules.aggregation == "sum":
        return ()
    by_row = {one.scores: one for one in functions if isinstance(one.scores, str)}
    of_kernel = all(isinstance(one.scores, str) for one in functions)
    return tuple(by_row.values()) if of_kernel else ()


class SortedRows:
    """The rows of a stream: predictions, rows for quarantine, images without objects.

    The last two wait on disk until the predictions are stored: one statement runs at a time.

    Args:
        stream: The rows.
        rules: What the predictions are.
        progress: Told how many rows are read.
        quarantined: Takes the rows for quarantine.
        empty_images: Takes the images without objects.
        functions: By which predictions are scored meanwhile; the scores are columns of theirs.
            A further column is ``class_position``, see ``CLASS_POSITION``.

    Attributes:
        sources: The rows of each file, once ``predictions`` is at its end.
        images: Numbers of predictions and images.
        classes: Numbers of predictions for each class.
        class_names: The names of the classes; None if nothing gives their number.
        deviation: The largest distance of a sum from 1, or of a value from 0..1, for which a row
            was refused; 0 without such a row.
    """

    def __init__(
        self,
        stream: PredictionStream,
        rules: Rules,
        progress: Progress,
        quarantined: RowSpool,
        empty_images: RowSpool,
        functions: Sequence[AcquisitionFunction] = (),
    ) -> None:
        self._stream = stream
        self._rules = rules
        self._functions = functions
        self._progress = progress
        self._quarantined = quarantined
        self._empty_images = empty_images
        self.deviation = 0.0
        self.sources = _SourceRows()
        self.images = Runs()
        self.classes = _PredictedClasses()
        self.class_names = None if stream.class_names is None else list(stream.class_names)

    def predictions(self, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
        """The rows that can be scored; the others are put aside."""
        n_classes, batches = class_count(self._stream)
        for batch in batches:
            rows, without_objects = _split_rows(batch)
            if without_objects is not None:
                self._empty_images.add(without_objects)
            if n_classes is None:
                readable = readable_lengths(rows)
                n_classes = int(readable[0]) if readable.size else None
            if n_classes is not None and self.class_names is None:
                self.class_names = [str(position) for position in range(n_classes)]
            first_index = self.sources.count(rows)
            sorted_rows = _sort_out(rows, n_classes, first_index, self._rules, self._functions)
            if sorted_rows.quarantined is not None:
                self._quarantined.add(sorted_rows.quarantined)
            self.deviation = max(self.deviation, sorted_rows.deviation)
            accepted = sorted_rows.predictions
            self.images.count(accepted.column("image_id"))
            self.classes.count(accepted.column("category"), sorted_rows.class_positions)
            self._progress.add(rows.num_rows)
            yield from accepted.select(schema.names).cast(schema).to_batches()


class _SourceRows:
    """The positions that the rows of each source have in a prediction set."""

    def __init__(self) -> None:
        self._sources: dict[str, tuple[int, int]] = {}
        self._rows = 0

    def count(self, rows: pa.RecordBatch) -> int:
        """Count the rows of a batch; returns the position of the first of them."""
        first_of_batch = self._rows
        if not rows.num_rows:
            return first_of_batch
        sources = rows.column("source")
        indices = sources.indices.to_numpy()
        starts = [0, *(np.flatnonzero(np.diff(indices)) + 1).tolist()]
        for start, stop in zip(starts, [*starts[1:], len(indices)], strict=True):
            name = sources.dictionary[int(indices[start])].as_py()
            first, before = self._sources.get(name, (first_of_batch + start, 0))
            self._sources[name] = (first, before + stop - start)
        self._rows += len(indices)
        return first_of_batch

    def files(self, hashes: dict[str, str]) -> list[SourceFile]:
        """Every source with its rows; one without rows has them at the end of those before."""
        files: list[SourceFile] = []
        position = 0
        for name, sha256 in hashes.items():
            first, row_count = self._sources.get(name, (position, 0))
            files.append(SourceFile(name, sha256, first, row_count))
            position = first + row_count
        return files


class _PredictedClasses:
    """Numbers of predictions for each class: its category, else the first of the most probable."""

    def __init__(self) -> None:
        self._by_position = np.zeros(0, np.int64)
        self._by_category: Counter[str] = Counter()
        self._without_class = 0

    def count(self, categories: pa.ChunkedArray, positions: npt.NDArray[np.int64]) -> None:
        """Count predictions, with the positions of the classes of those without a category."""
        by_position = np.bincount(positions, minlength=self._by_position.size)
        by_position[: self._by_position.size] += self._by_position
        self._by_position = by_position
        self._without_class += categories.null_count - positions.size
        if categories.null_count < len(categories):
            for one in pc.value_counts(categories.drop_null()).to_pylist():
                self._by_category[one["values"]] += one["counts"]

    def of(self, class_names: Sequence[str]) -> list[tuple[str | None, int]]:
        """Each class that has predictions with their number; those without a class last."""
        counts = Counter(self._by_category)
        for position in np.flatnonzero(self._by_position).tolist():
            counts[class_names[position]] += int(self._by_position[position])
        rows: list[tuple[str | None, int]] = [*counts.items()]
        return [*rows, (None, self._without_class)] if self._without_class else rows


def _split_rows(batch: pa.RecordBatch) -> tuple[pa.RecordBatch, pa.Table | None]:
    """The rows of the source, and the images in which the model found nothing, if any."""
    row_number = batch.column("row_number")
    if not row_number.null_count:
        return batch, None
    seen = batch.filter(row_number.is_null()).select(["image_id"])
    return batch.filter(row_number.is_valid()), pa.Table.from_batches([seen])


def class_count(stream: PredictionStream) -> tuple[int | None, Iterator[pa.RecordBatch]]:
    """The number of classes of a source, and its batches from the first on.

    Without class names it is the most frequent number among the first predictions, so that one
    broken row at the top does not put all the others in quarantine; None if none is readable.
    """
    batches = iter(stream)
    if stream.class_names is not None:
        return len(stream.class_names), batches
    first_batches: list[pa.RecordBatch] = []
    lengths = [np.empty(0, np.int64)]
    missing = ROWS_THAT_DECIDE_CLASS_COUNT
    for batch in batches:
        first_batches.append(batch)
        lengths.append(readable_lengths(batch.slice(0, missing)))
        missing -= batch.num_rows
        if missing <= 0:
            break
    class_counts, frequency = np.unique(np.concatenate(lengths), return_counts=True)
    n_classes = int(class_counts[frequency.argmax()]) if class_counts.size else None
    return n_classes, chain(first_batches, batches)


def readable_lengths(batch: pa.RecordBatch) -> npt.NDArray[np.int64]:
    """Numbers of class probabilities of the rows that can be predictions."""
    lengths = _lengths(batch.column("class_probs"))
    return lengths[_is_null(batch.column("reason")) & (lengths >= 2)]


class _SortedBatch(NamedTuple):
    """The predictions of a batch, its rows for quarantine, and how far off those of them are.

    ``class_positions`` are those of the most probable class of predictions without a category.
    """

    predictions: pa.Table
    class_positions: npt.NDArray[np.int64]
    quarantined: pa.Table | None
    deviation: float


def _sort_out(
    batch: pa.RecordBatch,
    n_classes: int | None,
    first_index: int,
    rules: Rules,
    functions: Sequence[AcquisitionFunction],
) -> _SortedBatch:
    """The rows of a batch that can be scored, and those that go to quarantine, if any."""
    readable = _is_null(batch.column("reason"))
    judged = _judge_class_probs(batch.column("class_probs"), readable, n_classes, rules, functions)
    validity = judged.validity
    accepted = readable & (validity == Validity.VALID)
    scores = batch.column("score")
    if rules.objects and scores.null_count < len(scores):
        values = scores.to_numpy(zero_copy_only=False)
        without_score = _is_null(scores)
        in_range = (values >= -rules.sum_tolerance) & (values <= 1 + rules.sum_tolerance)
        without_probs = _is_null(batch.column("class_probs"))
        accepted = readable & (in_range | without_score) & (accepted | (without_probs & in_range))

    positions = pa.array(np.arange(first_index, first_index + batch.num_rows))
    columns = {name: batch.column(name) for name in STORED_COLUMNS}
    columns |= {"class_probs": judged.class_probs, "prediction_index": positions}
    class_positions = judged.class_positions(accepted)
    classed = accepted & judged.fitting
    columns[CLASS_POSITION.name] = _scattered(class_positions, classed)
    if columns["category"].null_count < len(classed):
        class_positions = class_positions[_is_null(columns["category"])[classed]]
    predictions = pa.table(columns | judged.scores)
    if accepted.all():
        return _SortedBatch(predictions, class_positions, None, judged.deviation)
    refused = np.flatnonzero(~accepted)
    rows = batch.take(pa.array(refused)).to_pylist()
    quarantined = pa.table(
        {
            **{
                name: pa.array([row[name] for row in rows], kind)
                for name, kind in (
                    ("source", pa.string()),
                    ("row_number", pa.int64()),
                    ("image_id", pa.string()),
                )
            },
            "reason": pa.array(
                [
                    row["reason"] or _reason(row, code, rules)
                    for row, code in zip(rows, validity[refused].tolist(), strict=True)
                ],
                pa.string(),
            ),
            "raw": pa.array(
                [redacted(row["raw"] or raw_text(_shown(row))) for row in rows], pa.string()
            ),
        }
    )
    return _SortedBatch(
        predictions.filter(pa.array(accepted)), class_positions, quarantined, judged.deviation
    )


class _JudgedClassProbs(NamedTuple):
    """The class probabilities of a batch, and what is known of them.

    Attributes:
        class_probs: (n_rows,) lists, made of logits if they are logits.
        fitting: (n_rows,) bool, which rows are in ``matrix``.
        matrix: (n_fitting, n_classes) their class probabilities.
        validity: (n_rows,) uint8, the `Validity` of each row.
        scores: (n_rows,) of each function, by the name of their column.
        deviation: The largest one of rows which a higher ``sum_tolerance`` would let pass.
    """

    class_probs: pa.ListArray
    fitting: npt.NDArray[np.bool_]
    matrix: npt.NDArray[Any]
    validity: npt.NDArray[np.uint8]
    scores: dict[str, pa.Array]
    deviation: float

    def class_positions(self, wanted: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
        """The first most probable class of those of the rows that have class probabilities.

        Args:
            wanted: (n_rows,) bool, rows whose class probabilities are valid, if they have any.
        """
        rows = wanted[self.fitting]
        matrix = self.matrix if rows.all() else self.matrix[rows]
        return most_probable_class(matrix)


def _judge_class_probs(
    class_probs: pa.ListArray,
    readable: npt.NDArray[np.bool_],
    n_classes: int | None,
    rules: Rules,
    functions: Sequence[AcquisitionFunction],
) -> _JudgedClassProbs:
    """Judge class probabilities, and score them in the same pass if there are functions."""
    lengths = _lengths(class_probs)
    fitting = readable & (lengths == n_classes) & (lengths >= 2)
    matrix = class_prob_matrix(class_probs if fitting.all() else class_probs.filter(fitting))
    if rules.inputs == "logits":
        matrix = softmax(matrix)
    validity = np.full(len(class_probs), Validity.OTHER_CLASS_COUNT, dtype=np.uint8)
    scores = np.empty((len(functions), len(matrix)))
    deviation = 0.0
    if len(matrix):
        with one_thread():
            scores, of_matrix = _score_and_judge(matrix, functions, rules)
        validity[fitting] = of_matrix
        deviation = _largest_deviation(matrix, of_matrix, rules)
    if not fitting.all():
        of_all = np.full((len(functions), len(class_probs)), np.nan)
        of_all[:, fitting] = scores
        scores = of_all
    if rules.inputs == "logits":
        offsets = np.zeros(len(class_probs) + 1, dtype=np.int32)
        np.cumsum(np.where(fitting, lengths, 0), out=offsets[1:])
        class_probs = pa.ListArray.from_arrays(
            pa.array(offsets), pa.array(matrix.ravel()), mask=pa.array(~fitting)
        )
    columns = {
        score_column(str(function.scores)): pa.array(row)
        for function, row in zip(functions, scores, strict=True)
    }
    return _JudgedClassProbs(class_probs, fitting, matrix, validity, columns, deviation)


def _score_and_judge(
    matrix: npt.NDArray[Any], functions: Sequence[AcquisitionFunction], rules: Rules
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.uint8]]:
    """Scores (n_functions, n_rows) and the `Validity` of class probabilities in one pass."""
    if functions:
        return score_matrix(matrix, functions, rules)
    validity = check_class_probs(
        matrix,
        sum_tolerance=np.inf if rules.inputs == "independent" else rules.sum_tolerance,
        value_tolerance=rules.sum_tolerance,
    )
    return np.empty((0, len(matrix))), validity


def _largest_deviation(
    matrix: npt.NDArray[Any], validity: npt.NDArray[np.uint8], rules: Rules
) -> float:
    off = np.isin(validity, (Validity.NEGATIVE, Validity.ABOVE_ONE, Validity.WRONG_SUM))
    if not off.any():
        return 0.0
    rows = matrix[off].astype(np.float64)
    deviations = [-rows.min(), rows.max() - 1]
    if rules.inputs != "independent":
        deviations.append(np.abs(rows.sum(axis=1) - 1).max())
    return float(max(deviations))


def _reason(row: dict[str, object], code: int, rules: Rules) -> Reason:
    class_probs, score = row["class_probs"], row["score"]
    if isinstance(class_probs, list):
        if len(class_probs) < 2:
            return Reason.TOO_FEW_CLASSES
        if code == Validity.NOT_FINITE:
            return Reason.NAN if any(map(math.isnan, class_probs)) else Reason.INFINITE
        if code != Validity.VALID:
            return Reason[Validity(code).name]
    elif not rules.objects:
        return Reason.CLASS_PROBS_NULL
    if isinstance(score, float):
        return Reason.SCORE_OUT_OF_RANGE if math.isfinite(score) else Reason.SCORE_NOT_FINITE
    return Reason.SCORE_NULL


def _scattered(values: npt.NDArray[np.int64], rows: npt.NDArray[np.bool_]) -> pa.Array:
    """Values of some rows as a column of all."""
    if rows.all():
        return pa.array(values)
    of_all = np.zeros(len(rows), np.int64)
    of_all[rows] = values
    return pa.array(of_all, mask=~rows)


def _shown(row: dict[str, object]) -> dict[str, object]:
    """The values of a row that the quarantine table shows: all that were read."""
    return {
        name: row[name]
        for name in STORED_COLUMNS
        if name in ("image_id", "class_probs") or row[name] is not None
    }


def _lengths(class_probs: pa.ListArray) -> npt.NDArray[np.int64]:
    lengths = pc.fill_null(pc.list_value_length(class_probs), 0)
    return lengths.to_numpy(zero_copy_only=False)


def _is_null(column: pa.Array) -> npt.NDArray[np.bool_]:
    return column.is_null().to_numpy(zero_copy_only=False)
