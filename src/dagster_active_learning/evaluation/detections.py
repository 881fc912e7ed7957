"""Errors of a detector: its boxes matched with those that people drew, as COCO matches them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from dagster_active_learning.evaluation.finding_errors import Floats

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Boxes:
    """Boxes of many images.

    Attributes:
        image: (n_boxes,) the index of each box's image, from 0.
        category: (n_boxes,) the index of its class.
        box: (n_boxes, 4) x and y of the top left corner, width and height.
        score: (n_boxes,) the detector's score; None for boxes that people drew.
        is_crowd: (n_boxes,) true for a box that people drew around many objects; detections in it
            are neither right nor wrong.
    """

    image: npt.ArrayLike
    category: npt.ArrayLike
    box: npt.ArrayLike
    score: npt.ArrayLike | None = None
    is_crowd: npt.ArrayLike | None = None


@dataclass(frozen=True, kw_only=True)
class DetectionErrors:
    """The errors of a detector.

    Attributes:
        true_positives: (n_images,) detections with a box of their class.
        false_positives: (n_images,) detections without.
        false_negatives: (n_images,) boxes that were not detected.
        matched: (n_detections,) true for a detection that has a box; crowds are no boxes.
        ignored: (n_detections,) true for a detection that lies in a crowd.
        found: (n_boxes,) true for a box that has a detection.
    """

    true_positives: Ints
    false_positives: Ints
    false_negatives: Ints
    matched: npt.NDArray[np.bool_]
    ignored: npt.NDArray[np.bool_]
    found: npt.NDArray[np.bool_]

    @property
    def counts(self) -> Ints:
        """(n_images,) the number of errors of each image."""
        return self.false_positives + self.false_negatives


def match_detections(
    detections: Boxes, truth: Boxes, n_images: int, *, min_overlap: float = 0.5
) -> DetectionErrors:
    """Match detections with the boxes that people drew.

    Greedy, as pycocotools does it: in each image and class the detection with the highest score
    takes the box it overlaps most, of those that are left, if the overlap is large enough; boxes
    before crowds. All detections count, of any size: pycocotools leaves out all but the first
    ``maxDets`` of an image and class, and boxes outside of ``areaRng``.

    Args:
        detections: The boxes of the detector, with scores.
        truth: The boxes that people drew.
        n_images: The number of images, also of those without boxes.
        min_overlap: The least intersection over union of a match.

    Raises:
        ValueError: If shapes differ, or an index of an image is none.

    Example:
        >>> detections = Boxes(image=[0, 0], category=[1, 1], box=[[0, 0, 10, 10], [50, 50, 5, 5]],
        ...                    score=[0.9, 0.4])
        >>> truth = Boxes(image=[0, 1], category=[1, 1], box=[[1, 0, 10, 10], [0, 0, 8, 8]])
        >>> found = match_detections(detections, truth, n_images=2)
        >>> found.true_positives.tolist(), found.false_positives.tolist()
        ([1, 0], [1, 0])
    """
    image, category, box = _checked("detections", detections, n_images)
    true_image, true_category, true_box = _checked("truth", truth, n_images)
    score = np.asarray([] if detections.score is None else detections.score, np.float64)
    if score.shape != image.shape:
        raise ValueError(f"detections have the scores {score.shape}, expected {image.shape}")
    crowd = np.zeros(true_image.shape, np.bool_)
    if truth.is_crowd is not None:
        crowd |= np.asarray(truth.is_crowd, np.bool_)
    matched, ignored = (np.zeros(image.shape, np.bool_) for _ in range(2))
    found = np.zeros(true_image.shape, np.bool_)
    true_order = np.lexsort((crowd, true_category, true_image))
    true_groups = _groups(true_image, true_category, true_order)
    order = np.lexsort((-score, category, image))
    for key, rows in _groups(image, category, order).items():
        true_rows = true_groups.get(key)
        if true_rows is not None:
            of_crowd = crowd[true_rows]
            overlaps = _overlaps(box[rows], true_box[true_rows], of_crowd)
            for row, place in zip(rows, _greedy(overlaps, of_crowd, min_overlap), strict=True):
                if place >= 0:
                    ignored[row] = of_crowd[place]
                    matched[row] = not of_crowd[place]
                    found[true_rows[place]] = True

    def count(images: Ints, chosen: npt.NDArray[np.bool_]) -> Ints:
        return np.bincount(images[chosen], minlength=n_images)

    return DetectionErrors(
        true_positives=count(image, matched),
        false_positives=count(image, ~matched & ~ignored),
        false_negatives=count(true_image, ~found & ~crowd),
        matched=matched,
        ignored=ignored,
        found=found,
    )


def _greedy(overlaps: Floats, is_crowd: npt.NDArray[np.bool_], least: float) -> list[int]:
    """The place of the box that each detection takes, -1 for none."""
    is_free = np.ones(overlaps.shape[1], np.bool_)
    n_boxes = int((~is_crowd).sum())
    places: list[int] = []
    for row in overlaps:
        place = _last_largest(row[:n_boxes], is_free[:n_boxes], least)
        if place < 0:
            place = _last_largest(row[n_boxes:], is_free[n_boxes:], least)
            place += n_boxes if place >= 0 else 0
        if 0 <= place < n_boxes:  # A crowd has room for more.
            is_free[place] = False
        places.append(place)
    return places


def _last_largest(row: Floats, is_free: npt.NDArray[np.bool_], least: float) -> int:
    """The place of the largest overlap that is free; of equal ones the last, as in pycocotools."""
    possible = np.where(is_free, row, -1.0)
    if not possible.size or possible.max() < min(least, 1 - 1e-10):
        return -1
    return int(possible.size - 1 - possible[::-1].argmax())


def _overlaps(boxes: Floats, others: Floats, is_crowd: npt.NDArray[np.bool_]) -> Floats:
    """Intersection over union; of a crowd over the detection's own area."""
    left, top, width, height = (boxes[:, None, side] for side in range(4))
    other_left, other_top, other_width, other_height = (others[None, :, side] for side in range(4))
    across = np.minimum(left + width, other_left + other_width) - np.maximum(left, other_left)
    down = np.minimum(top + height, other_top + other_height) - np.maximum(top, other_top)
    common = np.maximum(across, 0) * np.maximum(down, 0)
    area = width * height
    union = np.where(is_crowd, area, area + other_width * other_height - common)
    return np.divide(common, union, out=np.zeros_like(common), where=union > 0)


def _groups(image: Ints, category: Ints, order: Ints) -> dict[tuple[int, int], Ints]:
    """The rows of each image and class, in an order in which these stand together."""
    if not order.size:
        return {}
    of_image, of_category = image[order], category[order]
    begins = (of_image[1:] != of_image[:-1]) | (of_category[1:] != of_category[:-1])
    parts = np.split(order, np.flatnonzero(begins) + 1)
    return {(int(image[part[0]]), int(category[part[0]])): part for part in parts}


def _checked(name: str, boxes: Boxes, n_images: int) -> tuple[Ints, Ints, Floats]:
    image = np.asarray(boxes.image, np.int64)
    category = np.asarray(boxes.category, np.int64)
    box = np.asarray(boxes.box, np.float64).reshape(-1, 4)
    if not image.shape == category.shape == box.shape[:1]:
        raise ValueError(
            f"{name} have the shapes {image.shape}, {category.shape} and {box.shape}: expected "
            "(n_boxes,), (n_boxes,) and (n_boxes, 4)"
        )
    if image.size and not (image.min() >= 0 and image.max() < n_images):
        raise ValueError(f"{name} have indices of images that are not in 0 to {n_images - 1}")
    return image, category, box
