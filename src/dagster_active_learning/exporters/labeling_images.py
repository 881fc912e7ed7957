"""The images of candidates one by one, each with what the model predicted about it.

What exporters of whole images share: tables have one row per candidate, the files of labeling tools
one entry per image.
"""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import unquote, urlsplit

import numpy as np

from dagster_active_learning.errors import PoolStateError
from dagster_active_learning.exporters.candidates import Candidates
from dagster_active_learning.exporters.masks import (
    Pixels,
    bounding_box,
    is_run_lengths,
    mask_pixels,
)
from dagster_active_learning.files.addresses import is_address
from dagster_active_learning.text import shown


@dataclass(frozen=True)
class PredictedObject:
    """An object that the model found in an image.

    Attributes:
        category: Its class.
        score: The detector's own score, or the highest class probability where it gives none.
        bbox: x and y of the top left corner, width and height, in the unit of the prediction set.
        polygons: For segmentation the outlines of its mask as x, y, x, y, …, in the same unit;
            empty where the mask is no polygon, or there is none.
        run_lengths: For segmentation the mask as COCO's run lengths with keys size and counts, if
            it is one.
    """

    category: str
    score: float | None
    bbox: list[float]
    polygons: list[list[float]] = field(default_factory=list)
    run_lengths: dict[str, Any] | None = None


@dataclass(frozen=True)
class LabelingImage:
    """An image to label.

    Attributes:
        row: The image's row, with the columns of ``Candidates.rows``.
        predicted_class: The class with the highest mean probability, of objects the most frequent
            one; None without one, and where the predictions were read again with other classes.
        class_score: Mean probability of the predicted class over the image's predictions; None
            without class probabilities, and for objects.
        objects: The objects found in it, in the order of the predictions.
    """

    row: dict[str, Any]
    predicted_class: str | None
    class_score: float | None
    objects: list[PredictedObject]

    @property
    def image_id(self) -> str:
        """The image's id."""
        return self.row["image_id"]

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels.

        Raises:
            PoolStateError: If the pool's manifest does not say them.
        """
        width, height = self.row["width"], self.row["height"]
        if not width or not height:
            raise PoolStateError(
                f"the image {shown(self.image_id)!r} has the width {width} and the height "
                f"{height}, expected its size in pixels: give the manifest the columns width and "
                "height"
            )
        return width, height

    def in_pixels(self, coordinates: Sequence[float], unit: str | None) -> list[float]:
        """Coordinates x, y, x, y, … in pixels.

        Raises:
            PoolStateError: If they are relative, and the manifest does not say the image's size.
        """
        if unit == "pixel":
            return [*coordinates]
        size = self.size
        return [value * size[place % 2] for place, value in enumerate(coordinates)]

    def relative(self, coordinates: Sequence[float], unit: str | None) -> list[float]:
        """Coordinates x, y, x, y, … as shares of the image's width and height.

        Raises:
            PoolStateError: If they are pixels, and the manifest does not say the image's size.
        """
        if unit != "pixel":
            return [*coordinates]
        size = self.size
        return [value / size[place % 2] for place, value in enumerate(coordinates)]


def task_of(candidates: Candidates) -> str:
    """What the predictions are made for: classification, detection or segmentation.

    Where an earlier version read them, which did not keep it, boxes tell.
    """
    stored = candidates.prediction_set
    return stored.task or ("classification" if stored.bbox_unit is None else "detection")


def has_objects(candidates: Candidates) -> bool:
    """True if the predictions are of objects in images, not of whole images."""
    return task_of(candidates) != "classification"


def check_objects(candidates: Candidates, format: str) -> None:
    """Raise PoolStateError if there are no objects to write, because images have one class each."""
    if not has_objects(candidates):
        raise PoolStateError(
            f"{format} files hold objects, and the predictions of prediction set "
            f"{candidates.prediction_set.prediction_set!r} are of whole images: export them as "
            "label_studio, cvat, csv or parquet"
        )


def labeling_images(candidates: Candidates) -> Iterator[LabelingImage]:
    """The images of candidates with their predictions, in their order.

    An image that is a candidate of several acquisition functions comes once, at its first place.
    """
    objects = has_objects(candidates)
    class_names = candidates.class_names
    seen: set[str] = set()
    rows = (row for batch in candidates.predictions() for row in batch.to_pylist())
    for _, group in groupby(rows, lambda row: (row["acquisition_function"], row["image_id"])):
        first = next(group)
        if first["image_id"] in seen:
            continue
        seen.add(first["image_id"])
        predictions = [row for row in (first, *group) if row["prediction_index"] is not None]
        predicted_class = first["predicted_class"]
        if predicted_class not in class_names:
            predicted_class = None
        yield LabelingImage(
            first,
            predicted_class,
            None if objects else _class_score(predicted_class, predictions, class_names),
            [_object(row, candidates) for row in predictions] if objects else [],
        )


def image_count(candidates: Candidates) -> int:
    """The number of images among candidates."""
    ids = (batch.column("image_id").to_pylist() for batch in candidates.rows())
    return len({image_id for some in ids for image_id in some})


def file_name(image: LabelingImage) -> str:
    """The name of an image's file as another tool knows it, with ``/`` between folders.

    It is the image's id where its uri ends with it, such as a path below a folder of images; else
    the last part of the uri, without a query; without a uri the id.
    """
    uri = image.row["uri"]
    if uri is None:
        return image.image_id
    path = unquote(urlsplit(uri).path) if is_address(uri) else uri
    if f"/{path}".endswith(f"/{image.image_id}"):
        return image.image_id
    return PurePosixPath(path).name or image.image_id


def named_images(images: Iterable[LabelingImage]) -> Iterator[tuple[str, LabelingImage]]:
    """Images with the names of their files, for formats that know an image by that name.

    Raises:
        PoolStateError: If a name leads out of its folder, has a control character, or is that of
            two images.
    """
    ids: dict[str, str] = {}
    for image in images:
        name = file_name(image)
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts or not is_printable(name):
            raise PoolStateError(
                f"the image {shown(image.image_id)!r} has the file {shown(name)!r}, expected a "
                "name without line breaks and other control characters, and no way out of its "
                "folder: rename it in the manifest, or export csv or parquet"
            )
        if name in ids:
            raise PoolStateError(
                f"the images {shown(ids[name])!r} and {shown(image.image_id)!r} have the same file "
                f"name {shown(name)!r}, by which the tool tells them apart: give them ids with "
                "which their uris end, such as paths below the folder of images"
            )
        ids[name] = image.image_id
        yield name, image


def is_printable(text: str) -> bool:
    """False for text with control characters, which XML and file names cannot have."""
    return not any(unicodedata.category(character) in ("Cc", "Cs") for character in text)


def _class_score(
    predicted_class: str | None, predictions: Sequence[dict[str, Any]], class_names: Sequence[str]
) -> float | None:
    vectors = [each["class_probs"] for each in predictions if each["class_probs"] is not None]
    if not vectors or predicted_class is None:
        return None
    means = np.mean(np.asarray(vectors, np.float64), axis=0)
    return float(means[class_names.index(predicted_class)])


def _object(row: dict[str, Any], candidates: Candidates) -> PredictedObject:
    class_probs: list[float] = row["class_probs"] or []
    score, category = row["prediction_score"], row["category"]
    if score is None and class_probs:
        score = max(class_probs)
    if category is None:
        category = candidates.class_names[class_probs.index(max(class_probs))]
    # Of a detector that gives masks too, the boxes are wanted.
    text = row["segmentation"] if task_of(candidates) == "segmentation" else None
    mask = None if text is None else json.loads(text)
    relative = candidates.prediction_set.bbox_unit != "pixel"
    outlines = polygons(mask, relative=relative)
    run_lengths = mask if is_run_lengths(mask) else None
    bbox = row["bbox"]
    if bbox is None:
        bbox = _box_of(outlines, run_lengths, row["image_id"])
    return PredictedObject(category, score, bbox, outlines, run_lengths)


def polygons(mask: Any, *, relative: bool) -> list[list[float]]:
    """The outlines of a mask: lists in a list as COCO has them, one list as YOLO has it."""
    if not isinstance(mask, list):
        return []
    # Whole numbers in one list are run lengths of a tool of its own.
    outlines: list[Any] = [mask] if relative and mask and not isinstance(mask[0], list) else mask
    are_outlines = all(
        isinstance(outline, list)
        and len(outline) >= 6
        and len(outline) % 2 == 0
        and all(isinstance(value, int | float) for value in outline)
        for outline in outlines
    )
    return [[float(value) for value in outline] for outline in outlines] if are_outlines else []


def pixels_in_mask(run_lengths: dict[str, Any], image_id: str) -> Pixels:
    """The pixels of COCO's run lengths in an image, shape (height, width).

    Raises:
        PoolStateError: If they are none, as ``mask_pixels`` says; names the image.
    """
    try:
        return mask_pixels(run_lengths)
    except PoolStateError as error:
        raise PoolStateError(f"the image {shown(image_id)!r}: {error}") from None


def _box_of(
    outlines: Sequence[Sequence[float]], run_lengths: dict[str, Any] | None, image_id: str
) -> list[float]:
    if outlines:
        xs = [x for outline in outlines for x in outline[::2]]
        ys = [y for outline in outlines for y in outline[1::2]]
        return [min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)]
    if run_lengths is not None:
        return [float(side) for side in bounding_box(pixels_in_mask(run_lengths, image_id))]
    raise PoolStateError(
        f"an object in the image {shown(image_id)!r} has neither a box nor a mask that can be "
        "read: predict boxes, or export csv or parquet"
    )
