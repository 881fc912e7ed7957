"""Candidates as tasks of Label Studio, with what the model predicted, in their order.

A JSON file to import into a project with the labeling interface of ``label_studio_config`` and the
setting "Sequential sampling" (https://labelstud.io/guide/tasks).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dagster_active_learning.errors import PoolStateError
from dagster_active_learning.exporters.candidates import Candidates
from dagster_active_learning.exporters.label_studio_config import (
    BOXES,
    BRUSHES,
    CHOICE,
    POLYGONS,
)
from dagster_active_learning.exporters.labeling_images import (
    LabelingImage,
    PredictedObject,
    has_objects,
    labeling_images,
    pixels_in_mask,
    task_of,
)
from dagster_active_learning.exporters.masks import brush_bytes
from dagster_active_learning.text import shown

IN_META = (
    "batch",
    "rank",
    "chosen_by",
    "acquisition_function",
    "uncertainty",
    "prediction_set",
    "run_id",
)
"""Columns of a candidate that go along with its task. They are not in its data: Label Studio takes
tasks for duplicates only where all of their data is the same."""


def write_candidates(candidates: Candidates, path: Path) -> int:
    """Write the images of candidates to a new file and count them.

    Raises:
        PoolStateError: If the manifest does not say where an image is, or boxes are pixels and it
            does not say the image's size.
    """
    written = 0
    with path.open("w", encoding="utf-8") as file:
        file.write("[")
        for image in labeling_images(candidates):
            address = image.row["uri"]
            if address is None:
                raise PoolStateError(
                    f"the image {shown(image.image_id)!r} has no uri, at which Label Studio could "
                    "show it: give the pool a manifest with the column uri"
                )
            file.write("\n" if written == 0 else ",\n")
            json.dump(task(image, candidates, address), file, ensure_ascii=False)
            written += 1
        file.write("]\n")
    return written


def task(image: LabelingImage, candidates: Candidates, address: str) -> dict[str, Any]:
    """The task of an image.

    The prediction's score is the certainty, 1 less the uncertainty: Label Studio shows it as a
    percentage, and its "Uncertainty sampling" begins with the lowest.

    Args:
        image: The image.
        candidates: The candidates it is one of.
        address: Where Label Studio finds it.
    """
    stored = candidates.prediction_set
    uncertainty = image.row["uncertainty"]
    score = {} if uncertainty is None else {"score": 1 - uncertainty}
    if has_objects(candidates):
        of_masks = task_of(candidates) == "segmentation"
        regions = [
            region
            for predicted in image.objects
            for region in _regions(image, predicted, stored.bbox_unit, of_masks=of_masks)
        ]
    else:
        regions = _choice(image)
    for number, region in enumerate(regions):
        region["id"] = f"r{number}"
    prediction = {
        "model_version": stored.model or stored.prediction_set,
        "result": regions,
        **score,
    }
    return {
        "data": {"image": address, "image_id": image.image_id},
        "meta": {name: image.row[name] for name in IN_META if image.row.get(name) is not None},
        "predictions": [prediction],
    }


def _choice(image: LabelingImage) -> list[dict[str, Any]]:
    if image.predicted_class is None:
        return []
    score = {} if image.class_score is None else {"score": image.class_score}
    return [{**CHOICE.region, "value": {"choices": [image.predicted_class]}, **score}]


def _regions(
    image: LabelingImage, predicted: PredictedObject, unit: str | None, *, of_masks: bool
) -> list[dict[str, Any]]:
    """The regions of an object: its box, or for masks one per outline, or its pixels."""
    score = {} if predicted.score is None else {"score": predicted.score}
    width, height = image.row["width"], image.row["height"]
    size = {"original_width": width, "original_height": height} if width and height else {}
    common = {"image_rotation": 0, **size, **score}
    if of_masks and predicted.run_lengths is None:
        outlines = [
            _percent(image.relative(outline, unit))
            for outline in predicted.polygons or [_corners(predicted.bbox)]
        ]
        return [
            {
                **POLYGONS.region,
                **common,
                "value": {
                    "points": [
                        list(pair) for pair in zip(outline[::2], outline[1::2], strict=True)
                    ],
                    "closed": True,
                    POLYGONS.type: [predicted.category],
                },
            }
            for outline in outlines
        ]
    if predicted.run_lengths is not None:
        pixels = pixels_in_mask(predicted.run_lengths, image.image_id)
        height, width = pixels.shape
        value = {
            "format": "rle",
            "rle": brush_bytes(pixels),
            BRUSHES.type: [predicted.category],
        }
        of_mask = {"original_width": width, "original_height": height}
        return [{**BRUSHES.region, **common, **of_mask, "value": value}]
    x, y, width, height = _percent(image.relative(predicted.bbox, unit))
    value = {
        "x": x,
        "y": y,
        "width": width,
        "height": height,
        "rotation": 0,
        BOXES.type: [predicted.category],
    }
    return [{**BOXES.region, **common, "value": value}]


def _corners(bbox: Sequence[float]) -> list[float]:
    x, y, width, height = bbox
    return [x, y, x + width, y, x + width, y + height, x, y + height]


def _percent(shares: list[float]) -> list[float]:
    return [share * 100 for share in shares]
