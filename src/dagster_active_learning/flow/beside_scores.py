"""What is kept of images beside their scores, so that nobody reads their predictions for it.

It is the position of an image's first prediction, the class of an image with one prediction, and of
objects how far the boxes of an image reach.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from dagster_active_learning.rules import Rules
from dagster_active_learning.store.set_columns import BOX_COUNT, BOX_REACH, CLASS_POSITION

EDGES = "box_edges"
"""A column of predictions: left, top, right and bottom edge of the box, NaN without one."""


def kept_beside(rules: Rules) -> pa.Schema:
    """The columns of scores of images that are no scores."""
    fields = [pa.field("prediction_index", pa.int64(), nullable=False)]
    if rules.objects:
        fields.append(pa.field(BOX_COUNT, pa.int64(), nullable=False))
        fields += [pa.field(name, pa.float64()) for name in BOX_REACH]
    elif not rules.committee:
        fields.append(CLASS_POSITION)
    return pa.schema(fields)


def beside_predictions(predictions: pa.RecordBatch, rules: Rules) -> dict[str, pa.Array]:
    """The columns of predictions that those of images are made of, with one value per row each."""
    if rules.objects:
        return {EDGES: pa.FixedSizeListArray.from_arrays(pa.array(_edges(predictions).ravel()), 4)}
    if rules.committee:
        return {}
    return {CLASS_POSITION.name: predictions.column(CLASS_POSITION.name)}


class BesideScores:
    """Makes the columns of ``kept_beside`` for images whose predictions are side by side.

    Args:
        rules: What the predictions are.
        first_index: What to add to the position of a prediction.
    """

    def __init__(self, rules: Rules, first_index: int) -> None:
        self._rules = rules
        self._first_index = first_index
        self._waiting: list[list[npt.NDArray[np.generic]]] = []

    def add(self, predictions: pa.RecordBatch) -> None:
        """Take the next predictions.

        Args:
            predictions: The column prediction_index, and those of ``beside_predictions`` or what
                they are made of.
        """
        columns = [predictions.column("prediction_index").to_numpy()]
        if self._rules.objects:
            columns.append(_edges(predictions))
        elif not self._rules.committee:
            columns.append(predictions.column(CLASS_POSITION.name).fill_null(-1).to_numpy())
        self._waiting.append(columns)

    def of_images(self, counts: npt.NDArray[np.int64]) -> list[pa.Array]:
        """The columns of the next images.

        Args:
            counts: (n_images,) the number of predictions of each.
        """
        index, *others = map(np.concatenate, zip(*self._waiting, strict=True))
        total = int(counts.sum())
        firsts = np.cumsum(counts) - counts
        self._waiting = [[column[total:] for column in (index, *others)]]
        columns = [pa.array(index[firsts] + self._first_index)]
        if self._rules.objects:
            columns += _reach(others[0][:total], firsts)
        elif not self._rules.committee:
            classes = others[0][firsts]
            unknown = (counts != 1) | (classes < 0)
            columns.append(pa.array(classes, mask=unknown if unknown.any() else None))
        return columns


def _reach(edges: npt.NDArray[np.float64], firsts: npt.NDArray[np.int64]) -> list[pa.Array]:
    """The number of boxes of each image, and their outermost edges."""
    left, top, right, bottom = edges.T
    counts = np.add.reduceat(~np.isnan(left), firsts, dtype=np.int64) if firsts.size else firsts
    reach = [
        outermost.reduceat(edge, firsts) if firsts.size else np.empty(0)
        for outermost, edge in (
            (np.fmin, left), (np.fmin, top), (np.fmax, right), (np.fmax, bottom),
        )
    ]  # fmt: skip
    return [pa.array(counts), *(pa.array(edge, mask=counts == 0) for edge in reach)]


def _edges(predictions: pa.RecordBatch) -> npt.NDArray[np.float64]:
    """The edges of boxes, shape (n_predictions, 4)."""
    if EDGES in predictions.schema.names:
        return predictions.column(EDGES).flatten().to_numpy().reshape(-1, 4)
    boxes = predictions.column("bbox")
    edges = np.full((len(boxes), 4), np.nan)
    known = boxes.is_valid().to_numpy(zero_copy_only=False)
    edges[known] = boxes.flatten().to_numpy().reshape(-1, 4)
    edges[:, 2:] += edges[:, :2]
    return edges
