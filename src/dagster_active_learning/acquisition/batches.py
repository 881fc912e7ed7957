"""A batch of predictions and `Rules` in, image scores out: what every engine runs.

Arrow in, Arrow out, by the names of `schemas`; it needs the kernels, NumPy and Arrow, and no
database. Predictions are scored and judged in one pass (`score_predictions`), and their scores then
joined to scores of images, which stand alone (`single_images`), together in a stream of batches
(`adjacent_images`) or anywhere in one batch (`score_batch`). Of a committee the class probabilities
and entropies are joined, and what they come to is scored. The scores are the same bits for each way
and for any size of the batches.
"""

# The functions of pyarrow.compute are made when it is imported.
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from dagster_active_learning.acquisition.class_probs import class_prob_matrix
from dagster_active_learning.acquisition.committee import (
    score_committees,
    score_members,
    total_width,
)
from dagster_active_learning.acquisition.functions import (
    ACQUISITION_FUNCTIONS,
    AcquisitionFunction,
)
from dagster_active_learning.acquisition.kernels import add_by_image, add_votes_by_image
from dagster_active_learning.acquisition.matrices import score_matrix
from dagster_active_learning.acquisition.schemas import image_score_schema
from dagster_active_learning.acquisition.validity import Validity, describe_fault
from dagster_active_learning.rules import Rules

_Scores = npt.NDArray[np.float64]

_BEFORE_THE_FIRST = {"mean": 0.0, "sum": 0.0, "max": -np.inf, "min": np.inf}

_ROWS_AT_A_TIME = 1 << 16
"""Predictions whose scores stay in the processor's cache until they are added up."""


@dataclass(frozen=True)
class PredictionScores:
    """The scores of a batch of predictions.

    Attributes:
        predictions: The batch.
        functions: The names of the acquisition functions that apply, one per row of scores; only
            the entropy of a committee's members, of which the scores of their image are made.
        scores: (n_functions, n_predictions) float64, NaN where there is no score. What is added
            up to a sum is the scores' uncertainties, 0..1 each: functions of which low scores are
            labeled first would be upside down.
        validity: (n_predictions,) uint8, the `Validity` of the class probabilities; valid where a
            prediction has none.
    """

    predictions: pa.RecordBatch
    functions: tuple[str, ...]
    scores: _Scores
    validity: npt.NDArray[np.uint8]

    def under(self, function: str) -> _Scores:
        """The scores (n_predictions,) under one acquisition function."""
        return self.scores[self.functions.index(function)]


def score_predictions(predictions: pa.RecordBatch, rules: Rules) -> PredictionScores:
    """Score and judge predictions in one pass over their class probabilities.

    Args:
        predictions: A batch with the columns of `prediction_batch_schema`; those of images need no
            score, nor those whose scores are not joined an image_id.
        rules: How predictions are scored.

    Raises:
        TypeError: If the class probabilities are not lists of numbers.
        ValueError: If their numbers differ, or a prediction that is not an object has none.
    """
    class_probs = predictions.column("class_probs")
    if rules.committee:
        entropies, validity = score_members(class_prob_matrix(class_probs), rules)
        return PredictionScores(predictions, ("entropy",), entropies, validity)
    functions = _functions_of(rules)
    if rules.objects:
        scores, validity = _score_objects(
            class_probs,
            predictions.column("score").to_numpy(zero_copy_only=False),
            functions,
            rules,
        )
    else:
        matrix = class_prob_matrix(class_probs)
        scores, validity = score_matrix(matrix, functions, rules)
        _make_summable(scores, functions, matrix.shape[1], rules)
    names = tuple(function.name for function in functions)
    return PredictionScores(predictions, names, scores, validity)


def single_images(scored: PredictionScores) -> pa.RecordBatch:
    """Scores of images that have one prediction each and no committee: those of the predictions."""
    image_ids = scored.predictions.column("image_id")
    counts = np.ones(len(image_ids), np.int64)
    return _image_scores(image_ids, counts, scored.functions, scored.scores)


def adjacent_images(scored: Iterable[PredictionScores], rules: Rules) -> Iterator[pa.RecordBatch]:
    """Scores of images whose predictions stand together, also across the ends of batches.

    Args:
        scored: The scores of predictions, batch after batch.
        rules: How predictions are scored, the same for all batches.

    Yields:
        Batches of `image_score_schema`, each image in one of them, in the order of the predictions.
    """
    # The last image of a batch stays open: the next batch may go on with it.
    open_images = None
    for batch in scored:
        image_ids = batch.predictions.column("image_id")
        if not len(image_ids):
            continue
        if open_images is None:
            open_images = _ImageTotals.before_the_first(image_ids[:0], batch.predictions, rules)
        n_open = len(open_images.counts)
        ids = pa.concat_arrays([open_images.image_ids, image_ids])
        starts = np.ones(len(ids), np.bool_)
        starts[1:] = pc.not_equal(ids[1:], ids[:-1]).to_numpy(zero_copy_only=False)
        if starts.all() and not rules.committee:
            yield open_images.image_scores_with(ids[:-1], batch)
            open_images = _ImageTotals.of_last(ids, batch, rules)
            continue
        images = _ImageTotals.before_the_first(
            ids.filter(pa.array(starts)), batch.predictions, rules
        )
        images.totals[:n_open], images.counts[:n_open] = open_images.totals, open_images.counts
        images.add(batch, np.cumsum(starts)[n_open:] - 1)
        open_images = images.part(slice(-1, None))
        yield images.part(slice(None, -1)).image_scores()
    if open_images is not None:
        yield open_images.image_scores()


def score_batch(predictions: pa.RecordBatch, rules: Rules) -> pa.RecordBatch:
    """Scores of images whose predictions stand anywhere in a batch.

    Args:
        predictions: A batch with the columns of `prediction_batch_schema`.
        rules: How predictions are scored.

    Returns:
        A batch of `image_score_schema`, the images in order of first appearance.

    Raises:
        TypeError: If the class probabilities are not lists of numbers.
        ValueError: If their numbers differ, or a prediction is not valid; the message names the
            first such row.
    """
    encoded = predictions.column("image_id").dictionary_encode()
    if encoded.null_count:
        row = int(np.flatnonzero(encoded.is_null().to_numpy(zero_copy_only=False))[0])
        raise ValueError(f"image_ids: row {row} is null, expected the id of an image")
    image_index = encoded.indices.to_numpy().astype(np.int64)
    images = _ImageTotals.before_the_first(encoded.dictionary, predictions, rules)
    for start in range(0, predictions.num_rows, _ROWS_AT_A_TIME):
        scored = score_predictions(predictions.slice(start, _ROWS_AT_A_TIME), rules)
        check_validity(scored, rules, start)
        images.add(scored, image_index[start : start + len(scored.validity)])
    return images.image_scores()


def check_validity(scored: PredictionScores, rules: Rules, rows_before: int = 0) -> None:
    """Raise ValueError unless the predictions of a batch are valid.

    Args:
        scored: The scores of a batch.
        rules: How it was scored.
        rows_before: What to add to the position of a row in the message.
    """
    if not scored.validity.any():
        return
    row = int(np.flatnonzero(scored.validity)[0])
    class_probs = scored.predictions.column("class_probs")[row].values
    values = class_probs.to_numpy(zero_copy_only=False)
    fault = describe_fault(values, int(scored.validity[row]), rules.sum_tolerance)
    raise ValueError(f"class_probs: row {rows_before + row} is {fault}")


@dataclass(frozen=True)
class _ImageTotals:
    """Images, and what their predictions add up to so far.

    Attributes:
        image_ids: (n_images,) the ids.
        rules: How predictions are scored.
        totals: (n_images, n_functions) the sums, largest or smallest of their scores; of a
            committee (n_images, total_width(n_classes)) what its votes add up to.
        counts: (n_images,) how many predictions there are.
    """

    image_ids: pa.Array
    rules: Rules
    totals: _Scores
    counts: npt.NDArray[np.int64]

    @classmethod
    def before_the_first(
        cls, image_ids: pa.Array, predictions: pa.RecordBatch, rules: Rules
    ) -> _ImageTotals:
        """Images of which no prediction has been added; the first of them tell their size."""
        if rules.committee:
            width = total_width(_votes(predictions[:1]).shape[1])
        else:
            width = len(_functions_of(rules))
        totals = np.full((len(image_ids), width), _BEFORE_THE_FIRST[rules.aggregation])
        return cls(image_ids, rules, totals, np.zeros(len(image_ids), np.int64))

    @classmethod
    def of_last(cls, image_ids: pa.Array, scored: PredictionScores, rules: Rules) -> _ImageTotals:
        """The last image of a batch in which it has one prediction."""
        totals = np.ascontiguousarray(_totals_of_one(scored.scores[:, -1:], rules).T)
        return cls(image_ids[-1:], rules, totals, np.ones(1, np.int64))

    def add(self, scored: PredictionScores, image_index: npt.NDArray[np.int64]) -> None:
        """Add predictions, whose images stand at ``image_index`` (n_predictions,)."""
        if self.rules.committee:
            add_votes_by_image(
                _votes(scored.predictions),
                scored.under("entropy"),
                image_index,
                self.totals,
                self.counts,
                independent=self.rules.inputs == "independent",
            )
            return
        keep = "sum" if self.rules.aggregation == "mean" else self.rules.aggregation
        scores = np.ascontiguousarray(scored.scores)
        add_by_image(scores, image_index, self.totals, self.counts, keep=keep)

    def part(self, images: slice) -> _ImageTotals:
        """Some of the images."""
        return replace(
            self,
            image_ids=self.image_ids[images],
            totals=self.totals[images],
            counts=self.counts[images],
        )

    def image_scores(self) -> pa.RecordBatch:
        """The images' scores, where no prediction of them is to come."""
        names = tuple(function.name for function in _functions_of(self.rules))
        return _image_scores(self.image_ids, self.counts, names, self._scores())

    def image_scores_with(self, image_ids: pa.Array, scored: PredictionScores) -> pa.RecordBatch:
        """The images' scores, and those of images with one prediction each, all but the last."""
        n_images = len(self.counts)
        counts = np.ones(len(image_ids), np.int64)
        counts[:n_images] = self.counts
        scores = np.empty((len(scored.functions), len(image_ids)))
        scores[:, :n_images] = self._scores()
        scores[:, n_images:] = _totals_of_one(scored.scores[:, :-1], self.rules)
        return _image_scores(image_ids, counts, scored.functions, scores)

    def _scores(self) -> _Scores:
        """The scores (n_functions, n_images)."""
        if self.rules.committee:
            functions = _functions_of(self.rules)
            return score_committees(self.totals, self.counts, functions, self.rules)
        mean = self.rules.aggregation == "mean"
        totals = self.totals / self.counts[:, None] if mean else self.totals
        return np.ascontiguousarray(totals.T)


def _totals_of_one(scores: _Scores, rules: Rules) -> _Scores:
    """The totals of images with one prediction each: a sum makes 0.0 of -0.0."""
    return scores + _BEFORE_THE_FIRST["sum"] if rules.aggregation in ("mean", "sum") else scores


def _image_scores(
    image_ids: pa.Array,
    counts: npt.NDArray[np.int64],
    functions: tuple[str, ...],
    scores: _Scores,
) -> pa.RecordBatch:
    """A batch of `image_score_schema` from scores (n_functions, n_images); NaN becomes null."""
    schema = image_score_schema(image_ids.type)
    columns: dict[str, pa.Array] = {"image_id": image_ids, "prediction_count": pa.array(counts)}
    for name, row in zip(functions, scores, strict=True):
        missing = np.isnan(row)
        # Without a mask nothing is copied: Arrow's own search for NaN took 7 times as long.
        columns[name] = pa.array(row, mask=missing if missing.any() else None)
    for name in schema.names:
        if name not in columns:
            columns[name] = pa.nulls(len(counts), pa.float64())
    return pa.RecordBatch.from_arrays([columns[name] for name in schema.names], schema=schema)


def _votes(predictions: pa.RecordBatch) -> npt.NDArray[Any]:
    """The class probabilities (n_predictions, n_classes) of a committee's members."""
    return class_prob_matrix(predictions.column("class_probs"))


def _functions_of(rules: Rules) -> list[AcquisitionFunction]:
    return [function for function in ACQUISITION_FUNCTIONS.values() if function.applies_to(rules)]


def _score_objects(
    class_probs: pa.Array,
    own_scores: _Scores,
    functions: Sequence[AcquisitionFunction],
    rules: Rules,
) -> tuple[_Scores, npt.NDArray[np.uint8]]:
    """Score and judge objects, some of which may have no class probabilities.

    Args:
        class_probs: (n_predictions,) lists, null for objects that have none.
        own_scores: (n_predictions,) the detector's own scores, NaN where it gives none.
        functions: The acquisition functions.
        rules: How predictions are scored; ``score_only`` says whether a score s without class
            probabilities stands for [s, 1-s].
    """
    if class_probs.null_count:
        has_class_probs = class_probs.is_valid().to_numpy(zero_copy_only=False)
        scores = np.full((len(functions), len(class_probs)), np.nan)
        validity = np.full(len(class_probs), Validity.VALID, np.uint8)
        if has_class_probs.any():
            matrix = class_prob_matrix(class_probs.drop_null())
            of_matrix, validity[has_class_probs] = score_matrix(matrix, functions, rules)
            _make_summable(of_matrix, functions, matrix.shape[1], rules)
            scores[:, has_class_probs] = of_matrix
        if rules.score_only == "binary":
            alone = own_scores[~has_class_probs]
            pairs = np.column_stack([alone, 1 - alone])
            of_pairs = replace(rules, inputs="probabilities")
            scores_of_pairs, _ = score_matrix(pairs, functions, of_pairs)
            _make_summable(scores_of_pairs, functions, 2, of_pairs)
            scores[:, ~has_class_probs] = scores_of_pairs
    else:
        matrix = class_prob_matrix(class_probs)
        scores, validity = score_matrix(matrix, functions, rules)
        _make_summable(scores, functions, matrix.shape[1], rules)
    is_given = ~np.isnan(own_scores)
    for function, row in zip(functions, scores, strict=True):
        if function.level == "object":
            given = own_scores[is_given]
            # Of an object's score the number of classes says nothing.
            row[is_given] = function.uncertainty(given, 2) if rules.aggregation == "sum" else given
    return scores, validity


def _make_summable(
    scores: _Scores, functions: Sequence[AcquisitionFunction], n_classes: int, rules: Rules
) -> None:
    """Put the uncertainty in the place of each score (n_functions, n_predictions) of a sum."""
    if rules.aggregation == "sum":
        for function, row in zip(functions, scores, strict=True):
            row[:] = function.uncertainty(row, n_classes, rules.inputs)
