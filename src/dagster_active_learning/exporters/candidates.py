"""Candidates as an exporter gets them."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack

import pyarrow as pa

from dagster_active_learning.limits import rows_for
from dagster_active_learning.store.labeling_batches import batch_rows
from dagster_active_learning.store.labeling_candidates import candidate_predictions, candidate_rows
from dagster_active_learning.store.pool_store import PoolStore
from dagster_active_learning.store.prediction_sets import PredictionSet


class Candidates:
    """The candidates of a prediction set, and what the model predicted about them.

    Images that have their label by now, or have left the manifest, are not among them: there may be
    gaps between the ranks.

    Each call starts a new reading, and several may go on at the same time. All are closed when the
    export is at its end.

    Args:
        store: The pool.
        prediction_set: The set, with its model, ``class_names`` and ``bbox_unit``.
        functions: Names of the acquisition functions; all without it.
        limit: The last rank of each function; all ranks without it.
        closing: Closes the readings.

    Attributes:
        prediction_set: The set, with its model, ``class_names`` and ``bbox_unit``.
    """

    def __init__(
        self,
        store: PoolStore,
        prediction_set: PredictionSet,
        functions: Sequence[str] | None,
        limit: int | None,
        closing: ExitStack,
    ) -> None:
        self.prediction_set = prediction_set
        self._store = store
        self._functions = functions
        self._limit = limit
        self._closing = closing

    @property
    def class_names(self) -> list[str]:
        """The K class names, in the order of the class probabilities."""
        return self.prediction_set.class_names

    def rows(self) -> pa.RecordBatchReader:
        """One row per candidate, with the columns of ``load_candidates``."""
        name = self.prediction_set.prediction_set
        return self._closing.enter_context(
            candidate_rows(
                self._store, name, self._functions, limit=self._limit, still_to_label=True
            )
        )

    def predictions(self) -> pa.RecordBatchReader:
        """One row per prediction of each candidate, a single row where it has none.

        The columns are those of ``rows``, which repeat with each prediction, and prediction_index,
        class_probs, prediction_score, category, bbox (x and y of the top left corner, width and
        height, in ``prediction_set.bbox_unit``) and segmentation. These are null where there is no
        prediction.
        """
        return self._closing.enter_context(
            candidate_predictions(
                self._store,
                self.prediction_set,
                self._functions,
                limit=self._limit,
                still_to_label=True,
            )
        )


class BatchCandidates(Candidates):
    """The images of a labeling batch, in its order, which is their rank here.

    The rows have the columns of ``Candidates``, and batch, chosen_by, queue_rank and
    selection_probability.

    Args:
        store: The pool.
        prediction_set: The set whose ranking the batch was made of.
        batch: The number of the batch.
        closing: Closes the readings.
    """

    def __init__(
        self, store: PoolStore, prediction_set: PredictionSet, batch: int, closing: ExitStack
    ) -> None:
        super().__init__(store, prediction_set, None, None, closing)
        self._batch = batch

    def rows(self) -> pa.RecordBatchReader:
        """One row per image of the batch that has no label by now."""
        return self._closing.enter_context(batch_rows(self._store, self._batch))

    def predictions(self) -> pa.RecordBatchReader:
        """One row per prediction of each image, a single row where it has none."""
        stored = self.prediction_set
        return self._closing.enter_context(
            batch_rows(
                self._store,
                self._batch,
                value_type=stored.value_type,
                rows=rows_for(len(stored.class_names) * 8),
            )
        )
