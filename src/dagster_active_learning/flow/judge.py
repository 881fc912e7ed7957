"""Predictions of labeled images, judged by their labels: which are wrong, and of which class."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from dagster_active_learning.errors import PoolStateError
from dagster_active_learning.evaluation import (
    Boxes,
    Calibration,
    match_detections,
    measure_calibration,
)
from dagster_active_learning.readers.true_boxes import TrueBoxes
from dagster_active_learning.rules import Rules
from dagster_active_learning.store.labels import drawn_boxes
from dagster_active_learning.store.pool_store import PoolStore
from dagster_active_learning.store.prediction_sets import PredictionSet
from dagster_active_learning.store.rule_evaluations import predictions_of_labeled

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class ClassErrors:
    """The errors of one class.

    Attributes:
        name: The class, as the labels name it.
        label_count: Images with it, or boxes of it.
        error_count: Images that are taken for another; of boxes those that were not found.
        false_positive_count: Images that are taken for it and are another; of objects detections
            without a box.
        most_taken_for: The class that images of it are most often taken for; None for objects, and
            without errors.
    """

    name: str
    label_count: int
    error_count: int
    false_positive_count: int
    most_taken_for: str | None = None


@dataclass(frozen=True, kw_only=True)
class Judged:
    """The predictions of labeled images, judged by their labels.

    Attributes:
        errors: (n_images,) true where the model is wrong; of objects, about any of them.
        classes: The errors by class, the class with the most errors first.
        other_labels: Labels that are no class of the model, by their number: it cannot be right.
        calibration: The calibration of its class probabilities, None without any.
        error_counts: (n_images,) of objects the false positives and false negatives.
        box_counts: (n_images,) of objects the predicted boxes.
    """

    errors: npt.NDArray[np.bool_]
    classes: Sequence[ClassErrors]
    other_labels: Mapping[str, int]
    calibration: Calibration | None = None
    error_counts: npt.NDArray[np.int64] | None = None
    box_counts: npt.NDArray[np.int64] | None = None


def judged_images(
    store: PoolStore, stored: PredictionSet, rules: Rules, images: pl.DataFrame
) -> Judged:
    """Classes of whole images, the one with the highest mean probability."""
    totals, counts = class_prob_totals(store, stored, images["image_id"].to_list())
    means = totals / counts[:, None]
    predicted = means.argmax(axis=1)
    names, labels = stored.class_names, images["label"].to_list()
    truth = true_classes(stored, images)
    known = truth >= 0
    return Judged(
        errors=predicted != truth,
        classes=_class_errors(labels, [names[index] for index in predicted]),
        other_labels=Counter(
            label for label, is_class in zip(labels, known, strict=True) if not is_class
        ),
        calibration=(
            measure_calibration(means[known], truth[known], images["weight"].to_numpy()[known])
            if known.any() and rules.inputs != "independent"
            else None
        ),
    )


def class_prob_totals(
    store: PoolStore, stored: PredictionSet, image_ids: Sequence[str]
) -> tuple[npt.NDArray[np.float64], Ints]:
    """The sums (n_images, n_classes) of the images' class probabilities, and of how many each."""
    places = {image_id: place for place, image_id in enumerate(image_ids)}
    n_classes = len(stored.class_names)
    totals, counts = np.zeros((len(places), n_classes)), np.zeros(len(places), np.int64)
    for batch in predictions_of_labeled(store, stored, image_ids):
        at = np.array([places[image_id] for image_id in batch["image_id"]], np.int64)
        probs = batch["class_probs"].explode().to_numpy().reshape(batch.height, n_classes)
        np.add.at(totals, at, probs)
        np.add.at(counts, at, 1)
    return totals, counts


def true_classes(stored: PredictionSet, images: pl.DataFrame) -> Ints:
    """The index (n_images,) of each image's label among the classes, -1 where it is none."""
    indices = {name: index for index, name in enumerate(stored.class_names)}
    return np.array([indices.get(label, -1) for label in images["label"].to_list()], np.int64)


def _class_errors(labels: Sequence[str], predicted: Sequence[str]) -> list[ClassErrors]:
    pairs = Counter(zip(labels, predicted, strict=True))
    of_label, of_prediction = Counter(labels), Counter(predicted)
    classes: list[ClassErrors] = []
    for name, count in of_label.items():
        taken_for = [
            (times, other) for (label, other), times in pairs.items() if label == name != other
        ]
        right = pairs[name, name]
        classes.append(
            ClassErrors(
                name=name,
                label_count=count,
                error_count=count - right,
                false_positive_count=of_prediction[name] - right,
                most_taken_for=max(taken_for)[1] if taken_for else None,
            )
        )
    return _most_errors_first(classes)


def _most_errors_first(classes: Sequence[ClassErrors]) -> list[ClassErrors]:
    return sorted(
        classes, key=lambda each: (-each.error_count - each.false_positive_count, each.name)
    )


def boxes_of_labels(store: PoolStore) -> TrueBoxes:
    """The boxes that people drew in a labeling tool, as a COCO file would have them."""
    rows = drawn_boxes(store)
    images = rows.unique("image_id", keep="first", maintain_order=True)
    places = {image_id: place for place, image_id in enumerate(images["image_id"].to_list())}
    boxes = rows.filter(pl.col("bbox").is_not_null())
    return TrueBoxes(
        image_ids=[*places],
        sizes=images.select("width", "height").to_numpy().astype(np.float64),
        image=np.array([places[image_id] for image_id in boxes["image_id"].to_list()], np.int64),
        category=boxes["category"].to_list(),
        box=np.array(boxes["bbox"].to_list(), np.float64).reshape(-1, 4),
        is_crowd=np.zeros(boxes.height, np.bool_),
    )


def judged_objects(
    store: PoolStore, stored: PredictionSet, images: pl.DataFrame, truth: TrueBoxes
) -> Judged:
    """Boxes, matched with those that people drew."""
    ids = images["image_id"].to_list()
    places = {image_id: place for place, image_id in enumerate(ids)}
    of_file = np.array([places.get(image_id, -1) for image_id in truth.image_ids], np.int64)
    image = of_file[truth.image]
    is_used = image >= 0
    categories: dict[str, int] = {}

    def index(name: str) -> int:
        return categories.setdefault(name, len(categories))

    true_category = np.array([index(name) for name in truth.category], np.int64)[is_used]
    sizes = np.full((len(ids), 2), np.nan)
    sizes[of_file[of_file >= 0]] = truth.sizes[of_file >= 0]
    found: list[tuple[int, int, float, Sequence[float]]] = []
    without_box = 0
    for batch in predictions_of_labeled(store, stored, ids):
        for _, image_id, class_probs, score, category, bbox in batch.iter_rows():
            if bbox is None:
                without_box += 1
                continue
            if class_probs is not None:
                best = int(np.argmax(class_probs))
                category = stored.class_names[best] if category is None else category  # noqa: PLW2901
                score = class_probs[best] if score is None else score  # noqa: PLW2901
            found.append((places[image_id], index(str(category)), float(score), bbox))
    if without_box:
        raise PoolStateError(
            f"{without_box:,} predictions of labeled images have no box: an evaluation of objects "
            "matches boxes; read them with the predictions, or leave evaluation out"
        )
    boxes = np.array([box for *_, box in found], np.float64).reshape(-1, 4)
    at = np.array([place for place, *_ in found], np.int64)
    if stored.bbox_unit == "relative":
        unsized = np.isnan(sizes[at]).any(axis=1)
        if unsized.any():
            raise PoolStateError(
                f"image {ids[at[unsized][0]]!r} has no width and height among the boxes that "
                "people drew, and the predicted boxes are relative to them: add them to its images"
            )
        boxes *= np.tile(sizes[at], 2)
    detections = Boxes(at, [each[1] for each in found], boxes, [each[2] for each in found])
    is_crowd = truth.is_crowd[is_used]
    drawn = Boxes(image[is_used], true_category, truth.box[is_used], is_crowd=is_crowd)
    errors = match_detections(detections, drawn, len(ids))
    of_detection = np.array([each[1] for each in found], np.int64)
    not_crowd = ~is_crowd
    n_categories = len(categories)

    def count(
        category: npt.NDArray[np.int64], chosen: npt.NDArray[np.bool_]
    ) -> npt.NDArray[np.int64]:
        return np.bincount(category[chosen], minlength=n_categories)

    drawn_counts = count(true_category, not_crowd)
    missed = count(true_category, not_crowd & ~errors.found)
    wrong = count(of_detection, ~errors.matched & ~errors.ignored)
    return Judged(
        errors=errors.counts > 0,
        classes=_most_errors_first(
            [
                ClassErrors(
                    name=name,
                    label_count=int(drawn_counts[place]),
                    error_count=int(missed[place]),
                    false_positive_count=int(wrong[place]),
                )
                for name, place in categories.items()
                if drawn_counts[place] or wrong[place]
            ]
        ),
        other_labels=Counter(
            name
            for name, used in zip(truth.category, is_used, strict=True)
            if used and name not in stored.class_names
        ),
        error_counts=errors.counts,
        box_counts=np.bincount(at, minlength=len(ids)),
    )
