"""Runs of predictions about one image, and where each begins."""

# The functions of pyarrow.compute are made when it is imported.
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

from collections import deque

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from dagster_active_learning.flow.id_hashes import id_hashes


class Runs:
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
