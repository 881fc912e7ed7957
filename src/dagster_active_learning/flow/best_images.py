"""Scores of images -> those of the images that come first by each acquisition function.

A ranking of few images then reads these, and not the scores of all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from dagster_active_learning.acquisition.functions import ACQUISITION_FUNCTIONS
from dagster_active_learning.flow.sorted_rows import CLASS_POSITION
from dagster_active_learning.rules import Rules

BEST_IMAGES = 10_000
"""Images that are kept of each function: ten times the candidates that a pool has by default, so
that new labels need no look at other scores."""


class BestImages:
    """The best images of tables that come one after the other, by some functions.

    For each function it has all images whose scores come before a cut, and these are
    ``BEST_IMAGES`` at the most. Of those at the cut some may be missing: which of equal images
    comes first, a seed says later.

    Args:
        functions: Names of the functions; each has a column in the tables.
        rules: How images are scored, which gives the end of the scores that comes first.
    """

    def __init__(self, functions: Sequence[str], rules: Rules) -> None:
        self._signs = {
            name: -1.0 if function.label_first_under(rules.aggregation) == "highest" else 1.0
            for name, function in ACQUISITION_FUNCTIONS.items()
            if name in functions
        }
        self._count = BEST_IMAGES
        # As what sorts lowest first; nothing is cut off at infinity.
        self._cuts = dict.fromkeys(functions, np.inf)
        self._kept: list[pa.Table] = []
        self._waiting = 0

    @property
    def cuts(self) -> dict[str, float]:
        """The score at the cut, by the functions that have one; of others all images are kept."""
        return {name: self._signs[name] * cut for name, cut in self._cuts.items() if cut < np.inf}

    def wanted(self, images: pa.Table) -> npt.NDArray[np.bool_]:
        """Which images of a table may be among the best, shape (n_images,)."""
        wanted = np.zeros(images.num_rows, np.bool_)
        for name, cut in self._cuts.items():
            wanted |= self._order(images, name) < cut
        return wanted

    def add(self, images: pa.Table, cuts: Mapping[str, float] | None = None) -> None:
        """Add images, each of them once, of which those that are not ``wanted`` may be left out.

        Args:
            images: The columns of the functions and more, the same in each table.
            cuts: The ``cuts`` of images that are the best of others.
        """
        for name, cut in (cuts or {}).items():
            self._cuts[name] = min(self._cuts[name], self._signs[name] * cut)
        self._kept.append(images)
        self._waiting += images.num_rows
        if self._waiting > 2 * self._count:
            self._cut()

    def table(self) -> pa.Table | None:
        """The best images by any of the functions, as they came; None if nothing was added."""
        if not self._kept:
            return None
        self._cut()
        return self._kept[0]

    def _cut(self) -> None:
        """Leave out what is not among the best."""
        images = pa.concat_tables(self._kept).combine_chunks()
        for name, cut in self._cuts.items():
            order = self._order(images, name)
            order = order[order < cut]
            if order.size > self._count:
                self._cuts[name] = float(np.partition(order, self._count)[self._count])
        self._kept = [images.filter(pa.array(self.wanted(images)))]
        self._waiting = 0

    def _order(self, images: pa.Table, name: str) -> npt.NDArray[np.float64]:
        """What sorts images lowest first, shape (n_images,); NaN where there is no score."""
        scores = images.column(name).to_numpy()
        return self._signs[name] * scores


class RecentPredictions:
    """The predictions that the images whose scores come next are made of, where they have one.

    Args:
        first_index: What to add to the position of a prediction.
        class_names: Names of the classes.
        objects: Whether they are predictions of objects.
    """

    def __init__(self, first_index: int, class_names: Sequence[str], *, objects: bool) -> None:
        self._first_index = first_index
        self._class_names = np.array(class_names, np.object_)
        self._objects = objects
        self._rows: list[pa.Table] = []

    def add(self, batch: pa.RecordBatch) -> None:
        """Take the next batch. The last image of the one before comes with its images."""
        rows = pa.Table.from_batches([batch])
        self._rows = [pa.concat_tables([*(before[-1:] for before in self._rows), rows])]

    def with_classes(self, images: pa.Table) -> pa.Table:
        """Images with the class of their prediction, known where an image has one alone."""
        (recent,) = self._rows
        single = images.column("prediction_count").to_numpy() == 1
        positions = recent.column("prediction_index").to_numpy() + self._first_index
        wanted = images.column("prediction_index").to_numpy()[single]
        told = recent.select(["category", CLASS_POSITION.name])
        rows = told.take(pa.array(np.searchsorted(positions, wanted)))
        classes = np.full(images.num_rows, None, np.object_)
        classes[single] = self._classes(rows)
        return _with_classes(images, pa.array(classes, pa.string()), single)

    def _classes(self, predictions: pa.Table) -> npt.NDArray[np.object_]:
        """The class of each prediction: of objects the category, else the most probable class."""
        classes = np.full(predictions.num_rows, None, np.object_)
        position = predictions.column(CLASS_POSITION.name)
        has_position = position.is_valid().to_numpy()
        classes[has_position] = self._class_names[position.drop_null().to_numpy()]
        if self._objects:
            category = predictions.column("category")
            named = category.is_valid().to_numpy()
            classes[named] = category.to_numpy()[named]
        return classes


def without_classes(images: pa.Table) -> pa.Table:
    """Images with several predictions, or whose predictions are elsewhere."""
    return _with_classes(
        images, pa.nulls(images.num_rows, pa.string()), np.zeros(images.num_rows, np.bool_)
    )


def _with_classes(images: pa.Table, classes: pa.Array, known: npt.NDArray[np.bool_]) -> pa.Table:
    return images.append_column("predicted_class", classes).append_column(
        "class_is_known", pa.array(known)
    )
