"""Objects as a COCO file: images in the order in which to label, boxes with their scores.

Boxes are in pixels, masks as they came; the area is that of the mask, if there is one. Ids are
numbers from 1; an image has its own id as ``image_id`` too. Beside the keys of COCO's instances
stands the ``score`` of its results (https://cocodataset.org/#format-data,
https://cocodataset.org/#format-results).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TextIO

from dagster_active_learning.exporters.candidates import Candidates
from dagster_active_learning.exporters.labeling_images import (
    LabelingImage,
    PredictedObject,
    check_objects,
    file_name,
    labeling_images,
    pixels_in_mask,
)


def write_candidates(candidates: Candidates, path: Path) -> int:
    """Write the images of candidates to a new file and count them.

    Raises:
        PoolStateError: If the predictions are of whole images, or boxes are relative and the
            manifest does not say the size of an image.
    """
    check_objects(candidates, "COCO")
    return write_images(
        lambda: labeling_images(candidates),
        path,
        class_names=candidates.class_names,
        bbox_unit=candidates.prediction_set.bbox_unit,
    )


def write_images(
    read: Callable[[], Iterator[LabelingImage]],
    path: Path,
    *,
    class_names: Sequence[str],
    bbox_unit: str | None,
) -> int:
    """Write images and the objects in them to a new file and count the images.

    Args:
        read: Reads the images, twice: all of them stand before the first object.
        path: The file.
        class_names: The classes that there may be.
        bbox_unit: What the boxes and outlines are measured in.
    """
    categories = {name: number for number, name in enumerate(class_names, 1)}
    written = 0

    def images() -> Iterator[dict[str, Any]]:
        nonlocal written
        for written, image in enumerate(read(), 1):
            yield _image(written, image)

    def annotations() -> Iterator[dict[str, Any]]:
        count = 0
        for number, image in enumerate(read(), 1):
            for predicted in image.objects:
                count += 1
                ids = {
                    "id": count,
                    "image_id": number,
                    "category_id": categories[predicted.category],
                }
                yield ids | _annotation(image, predicted, bbox_unit)

    with path.open("w", encoding="utf-8") as file:
        file.write('{"images": ')
        _write_list(file, images())
        file.write(',\n"annotations": ')
        _write_list(file, annotations())
        file.write(',\n"categories": ')
        _write_list(file, ({"id": number, "name": name} for name, number in categories.items()))
        file.write("}\n")
    return written


def _image(number: int, image: LabelingImage) -> dict[str, Any]:
    row = image.row
    known = {name: row[name] for name in ("width", "height") if row[name] is not None}
    uri = {} if row["uri"] is None else {"coco_url": row["uri"]}
    return {"id": number, "file_name": file_name(image), **uri, **known, "image_id": image.image_id}


def _annotation(
    image: LabelingImage, predicted: PredictedObject, unit: str | None
) -> dict[str, Any]:
    bbox = image.in_pixels(predicted.bbox, unit)
    score = {} if predicted.score is None else {"score": predicted.score}
    outlines = [image.in_pixels(outline, unit) for outline in predicted.polygons]
    mask = predicted.run_lengths or outlines
    return {
        "bbox": bbox,
        "area": _area(bbox, outlines, predicted.run_lengths, image.image_id),
        "iscrowd": 0,
        **score,
        **({"segmentation": mask} if mask else {}),
    }


def _area(
    bbox: Sequence[float],
    outlines: Sequence[Sequence[float]],
    run_lengths: dict[str, Any] | None,
    image_id: str,
) -> float:
    """Area in pixels: of the mask where there is one, of its outlines by the shoelace formula."""
    if run_lengths is not None:
        return int(pixels_in_mask(run_lengths, image_id).sum())
    if not outlines:
        return bbox[2] * bbox[3]
    return sum(
        abs(
            sum(
                outline[place - 2] * outline[place + 1] - outline[place] * outline[place - 1]
                for place in range(0, len(outline), 2)
            )
        )
        / 2
        for outline in outlines
    )


def _write_list(file: TextIO, entries: Iterable[dict[str, Any]]) -> None:
    """Write a list some lines at a time: there may be millions of entries."""
    file.write("[")
    for number, entry in enumerate(entries):
        file.write("\n" if number == 0 else ",\n")
        json.dump(entry, file, ensure_ascii=False)
    file.write("]")
