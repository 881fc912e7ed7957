"""Predictions that repeat another one of the same image, counted where they are side by side."""

# The functions of pyarrow.compute are made when it is imported.
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from dagster_active_learning.acquisition.class_probs import class_prob_matrix
from dagster_active_learning.acquisition.compilation import compiled
from dagster_active_learning.flow.id_hashes import id_hashes
from dagster_active_learning.limits import EXAMPLES
from dagster_active_learning.store.repeated import Repeated, RepeatedImage

_PRIME = np.uint64(1099511628211)
_OFFSET = np.uint64(14695981039346656037)
_ODD = np.uint64(0x9E3779B97F4A7C15)

Contents = npt.NDArray[np.uint64]
"""Hashes of predictions, shape (n_predictions, 2): of the class probabilities, and of all."""


class RepeatedPredictions:
    """Counts what is repeated of batches in which each image's predictions are side by side.

    Predictions are taken for the same by hashes of 64 bits. Only those that have another one of
    their image beside them are hashed.
    """

    def __init__(self) -> None:
        self._open_id: str | None = None
        self._open_index = np.empty(0, np.int64)
        self._open_contents: Callable[[], Contents] = lambda: np.empty((0, 2), np.uint64)
        self._found = Repeated()

    def add(
        self,
        image_ids: pa.Array,
        index: npt.NDArray[np.int64],
        contents: Callable[[int], Contents],
        *,
        alone: bool = False,
    ) -> None:
        """Count the next predictions; the last image may go on in those that follow.

        Args:
            image_ids: Their images.
            index: Their positions in the set.
            contents: Gives the hashes of those from a place in the batch on.
            alone: Whether each prediction so far is known to be the only one of its image.
        """
        if not len(image_ids):
            return
        last = len(image_ids) - 1
        if alone:
            self._open_id, self._open_index = image_ids[-1].as_py(), index[-1:]
            self._open_contents = lambda: contents(last)
            return
        starts = np.ones(len(image_ids), np.bool_)
        starts[1:] = pc.not_equal(image_ids[1:], image_ids[:-1]).to_numpy(zero_copy_only=False)
        starts[0] = image_ids[0].as_py() != self._open_id
        if not starts.all() or self._open_index.size > 1:
            before = self._open_index.size
            hashes = np.concatenate([self._open_contents(), contents(0)])
            index = np.concatenate([self._open_index, index])
            ids = pa.concat_arrays([pa.array([self._open_id] * before, pa.string()), image_ids])
            of_open = np.zeros(before, np.bool_)
            of_open[:1] = True
            starts = np.concatenate([of_open, starts])
            last = int(np.flatnonzero(starts)[-1])
            self._count(ids[:last], starts[:last], index[:last], hashes[:last])
            rest = hashes[last:]
            self._open_contents = lambda: rest
        else:
            self._open_contents = lambda: contents(last)
        self._open_id = image_ids[-1].as_py()
        self._open_index = index[last:]

    def found(self) -> Repeated:
        """What is repeated, once all batches are there."""
        size = self._open_index.size
        if size > 1:
            starts = np.zeros(size, np.bool_)
            starts[0] = True
            ids = pa.array([self._open_id] * size, pa.string())
            self._count(ids, starts, self._open_index, self._open_contents())
        self._open_id, self._open_index = None, self._open_index[:0]
        return self._found

    def _count(
        self,
        image_ids: pa.Array,
        starts: npt.NDArray[np.bool_],
        index: npt.NDArray[np.int64],
        hashes: Contents,
    ) -> None:
        """Count predictions whose images are all there."""
        firsts = np.flatnonzero(starts)
        if not firsts.size:
            return
        of_classes, of_all = hashes.T
        differ = np.minimum.reduceat(of_classes, firsts) != np.maximum.reduceat(of_classes, firsts)
        ends = np.append(firsts[1:], len(starts)) - 1

        def image(rows: npt.NDArray[np.int64]) -> RepeatedImage:
            first, last = int(index[rows[0]]), int(index[rows[-1]])
            return RepeatedImage(image_ids[int(rows[0])].as_py(), len(rows), first, last)

        # The first in the set: in a bucket images are in the order of their ids.
        several_images = np.flatnonzero(differ)
        differing = [
            image(np.arange(int(firsts[place]), int(ends[place]) + 1))
            for place in several_images[np.argsort(index[firsts[several_images]])][:EXAMPLES]
        ]
        # Of the same image and content; sorted, equal ones are side by side.
        keys = _joined(of_all, np.cumsum(starts).astype(np.uint64))
        order = np.argsort(keys, kind="stable")
        ordered = keys[order]
        again = np.concatenate([[False], ordered[1:] == ordered[:-1]])
        groups = np.flatnonzero(~again)
        times = np.diff(np.append(groups, len(again)))
        several = np.flatnonzero(times > 1)
        place = order[groups[several]]
        by_times = several[np.lexsort((index[place], -times[several]))]
        duplicates = [
            image(order[groups[group] : groups[group] + times[group]])
            for group in by_times[:EXAMPLES]
        ]
        self._found = self._found.joined(
            Repeated(int(again.sum()), duplicates, int(differ.sum()), differing)
        )


def prediction_contents(predictions: pa.RecordBatch, *, objects: bool) -> Contents:
    """The hashes of predictions.

    Two objects without a place in the image may be alike in all else: these have the hash of their
    own position.

    Args:
        predictions: Columns class_probs, score, category, bbox and prediction_index.
        objects: Whether they are predictions of objects.
    """
    of_classes = _column(predictions.column("class_probs"), class_prob_matrix)
    of_all = of_classes
    for name, numbers in (("score", 1), ("bbox", 4)):
        of_all = _joined(of_all, _column(predictions.column(name), partial(_matrix, numbers)))
    category = predictions.column("category")
    known = category.is_valid().to_numpy(zero_copy_only=False)
    of_all = _joined(of_all, id_hashes(pc.fill_null(category, "")) * known)
    if objects:
        nowhere = predictions.column("bbox").is_null().to_numpy(zero_copy_only=False)
        own = predictions.column("prediction_index").to_numpy()[nowhere].astype(np.uint64)
        of_all[nowhere] = _joined(own, own)
    return np.stack([of_classes, of_all], axis=1)


def _column(
    column: pa.Array, matrix: Callable[[pa.Array], npt.NDArray[Any]]
) -> npt.NDArray[np.uint64]:
    """Hashes (n_rows,) of a column of numbers, 0 where it has none."""
    hashes = np.zeros(len(column), np.uint64)
    if column.null_count < len(column):
        known = column.is_valid().to_numpy(zero_copy_only=False)
        hashes[known] = _hashes(matrix(column.drop_null()))
    return hashes


def _matrix(numbers: int, column: pa.Array) -> npt.NDArray[np.float64]:
    """A column of floats, or of lists of some, as a matrix."""
    values = column.flatten() if pa.types.is_list(column.type) else column
    return values.to_numpy(zero_copy_only=False).reshape(-1, numbers)


def _hashes(matrix: npt.NDArray[Any]) -> npt.NDArray[np.uint64]:
    """Hashes (n_rows,) of rows of floats; those of 0.0 and -0.0 are the same."""
    hashes = np.empty(len(matrix), np.uint64)
    bits = np.uint32 if matrix.dtype == np.float32 else np.uint64
    _hash_rows(np.ascontiguousarray(matrix + matrix.dtype.type(0)).view(bits), hashes)
    return hashes


@compiled
def _hash_rows(words: npt.NDArray[Any], hashes: npt.NDArray[np.uint64]) -> None:
    for row in range(words.shape[0]):
        value = _OFFSET
        for column in range(words.shape[1]):
            value = (value ^ np.uint64(words[row, column])) * _PRIME
            value ^= value >> np.uint64(29)
        hashes[row] = value


def _joined(
    hashes: npt.NDArray[np.uint64], others: npt.NDArray[np.uint64]
) -> npt.NDArray[np.uint64]:
    joined = (hashes * _ODD) ^ others
    return (joined ^ (joined >> np.uint64(29))) * _PRIME
