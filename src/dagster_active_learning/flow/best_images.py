"""Scores of images -> those of the images that come first by each acquisition function.

A ranking of few images then reads these, and not the scores of all; who looks at the first of them
reads their predictions, and not the files of all.
"""

# The functions of pyarrow.compute are made when it is imported.
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from dagster_active_learning.acquisition.functions import ACQUISITION_FUNCTIONS
from dagster_active_learning.rules import Rules
from dagster_active_learning.store.set_columns import CLASS_POSITION, NUMBERS_BESIDE_CLASSES

BEST_IMAGES = 10_000
"""Images that are kept of each function: ten times the candidates that a pool has by default, so
that new labels need no look at other scores."""

IMAGES_WITH_PREDICTIONS = 2_000
"""Images of each function whose predictions are kept: twice the candidates."""

NUMBERS_OF_AN_IMAGE = 2_000
"""Numbers in the predictions of an image that is one of them: 2,000 such images take 16 MB."""

PREDICTION_COLUMNS = ("class_probs", "score", "category", "bbox")
"""What is kept of a prediction."""


class BestImages:
    """The best images of tables that come one after the other, by some functions.

    For each function it has all images whose scores come before a cut, and these are
    ``count`` at the most. Of those at the cut some may be missing: which of equal images
    comes first, a seed says later.

    Args:
        functions: Names of the functions; each has a column in the tables.
        rules: How images are scored, which gives the end of the scores that comes first.
        count: How many images of a function are kept; ``BEST_IMAGES`` without it.
    """

    def __init__(self, functions: Sequence[str], rules: Rules, count: int | None = None) -> None:
        self._signs = {
            name: -1.0 if function.label_first_under(rules.aggregation) == "highest" else 1.0
            for name, function in ACQUISITION_FUNCTIONS.items()
            if name in functions
        }
        self._count = BEST_IMAGES if count is None else count
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
        for name in self._cuts:
            order = self._order(images, name)
            is_before = order < self._cuts[name]
            if np.count_nonzero(is_before) > self._count:
                before = np.partition(order[is_before], self._count)
                self._cuts[name] = float(before[self._count])
                is_before = order < self._cuts[name]
            wanted |= is_before
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
        self._kept = [images.filter(pa.array(self.wanted(images)))]
        self._waiting = 0

    def _order(self, images: pa.Table, name: str) -> npt.NDArray[np.float64]:
        """What sorts images lowest first, shape (n_images,); NaN where there is no score."""
        scores = images.column(name).to_numpy()
        return self._signs[name] * scores


def images_with_predictions(functions: Sequence[str], rules: Rules) -> BestImages:
    """For the first of the best images by some functions, whose predictions are kept too."""
    return BestImages(functions, rules, IMAGES_WITH_PREDICTIONS)


class RecentPredictions:
    """The predictions that the images whose scores come next are made of.

    Args:
        first_index: What to add to the position of a prediction.
        class_names: Names of the classes.
        objects: Whether they are predictions of objects.
    """

    def __init__(self, first_index: int, class_names: Sequence[str], *, objects: bool) -> None:
        self._first_index = first_index
        self._class_names = pa.array(class_names, pa.string())
        self._objects = objects
        self._rows: list[pa.Table] = []

    def add(self, batch: pa.RecordBatch) -> None:
        """Take the next batch. The last image of those before comes with its images."""
        rows = pa.Table.from_batches([batch])
        self._rows = [pa.concat_tables([*map(_of_last_image, self._rows), rows])]

    def with_classes(self, images: pa.Table) -> pa.Table:
        """Images with the class of their prediction, known where an image has one alone."""
        (recent,) = self._rows
        single = images.column("prediction_count").to_numpy() == 1
        told = recent.select(["category", CLASS_POSITION.name])
        rows = told.take(pa.array(self._places(images), mask=~single))
        return _with_classes(images, self._classes(rows), single)

    def with_predictions(self, images: pa.Table) -> pa.Table:
        """Images with a column of their predictions, without those that have too long ones."""
        (recent,) = self._rows
        numbers = len(self._class_names) + NUMBERS_BESIDE_CLASSES
        counts = images.column("prediction_count").to_numpy()
        is_short = counts * numbers <= NUMBERS_OF_AN_IMAGE
        images, counts = images.filter(pa.array(is_short)), counts[is_short]
        ends = np.cumsum(counts)
        places = np.repeat(self._places(images) - ends + counts, counts) + np.arange(counts.sum())
        rows = recent.select(["prediction_index", *PREDICTION_COLUMNS]).take(pa.array(places))
        index = rows.column("prediction_index").to_numpy() + self._first_index
        columns = {"prediction_index": pa.array(index)} | {
            name: rows.column(name).combine_chunks() for name in PREDICTION_COLUMNS
        }
        predictions = pa.StructArray.from_arrays([*columns.values()], [*columns])
        offsets = np.concatenate([[0], ends]).astype(np.int32)
        lists = pa.ListArray.from_arrays(pa.array(offsets), predictions)
        return images.append_column("predictions", lists)

    def _places(self, images: pa.Table) -> npt.NDArray[np.int64]:
        """Where the first prediction of each image stands, shape (n_images,)."""
        (recent,) = self._rows
        positions = recent.column("prediction_index").to_numpy() + self._first_index
        return np.searchsorted(positions, images.column("prediction_index").to_numpy())

    def _classes(self, predictions: pa.Table) -> pa.ChunkedArray:
        """The class of each prediction: of objects the category, else the most probable class."""
        classes = self._class_names.take(predictions.column(CLASS_POSITION.name))
        return pc.coalesce(predictions.column("category"), classes) if self._objects else classes


def _of_last_image(rows: pa.Table) -> pa.Table:
    """The last rows of one image, as many as can be wanted."""
    last = rows.slice(max(0, rows.num_rows - NUMBERS_OF_AN_IMAGE))
    ids = last.column("image_id")
    others = np.flatnonzero(pc.not_equal(ids, ids[-1]).to_numpy()) if len(ids) else ids
    return last.slice(int(others[-1]) + 1) if len(others) else last


def one_row_per_prediction(images: pa.Table) -> pa.Table:
    """Images with their predictions, as ``with_predictions`` gives them, in the order of ids."""
    images = images.sort_by("image_id").combine_chunks()
    predictions = images.column("predictions").combine_chunks()
    of_images = images.drop_columns(["prediction_index", "predictions"])
    rows = of_images.take(pc.list_parent_indices(predictions))
    flat = pc.list_flatten(predictions)
    for place in range(flat.type.num_fields):
        rows = rows.append_column(flat.type.field(place), pc.struct_field(flat, place))
    return rows


def without_classes(images: pa.Table) -> pa.Table:
    """Images with several predictions, or whose predictions are elsewhere."""
    return _with_classes(
        images, pa.nulls(images.num_rows, pa.string()), np.zeros(images.num_rows, np.bool_)
    )


def _with_classes(
    images: pa.Table, classes: pa.Array | pa.ChunkedArray, known: npt.NDArray[np.bool_]
) -> pa.Table:
    return images.append_column("predicted_class", classes).append_column(
        "class_is_known", pa.array(known)
    )
