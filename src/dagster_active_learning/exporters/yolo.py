"""Boxes as a zip archive of YOLO files, as Ultralytics has them.

``labels/NAME.txt`` has one line per object: class number, x and y of the center, width and height
as shares of the image's, and the score. ``data.yaml`` names the classes; ``images.txt`` has the
names of the images in the order in which to label. Masks are written as their boxes
(https://docs.ultralytics.com/datasets/detect/).
"""

from __future__ import annotations

import json
from pathlib import Path, PurePosixPath
from zipfile import ZIP_DEFLATED, ZipFile, ZipInfo

from dagster_active_learning.errors import PoolStateError
from dagster_active_learning.exporters.candidates import Candidates
from dagster_active_learning.exporters.labeling_images import (
    LabelingImage,
    check_objects,
    labeling_images,
    named_images,
)
from dagster_active_learning.text import shown


def write_candidates(candidates: Candidates, path: Path) -> int:
    """Write the images of candidates to a new archive and count them.

    Raises:
        PoolStateError: If the predictions are of whole images, an object has no score, boxes are
            pixels and the manifest does not say the size of an image, or two images would have
            the same file of labels.
    """
    check_objects(candidates, "YOLO")
    unit = candidates.prediction_set.bbox_unit
    numbers = {name: number for number, name in enumerate(candidates.class_names)}
    names: list[str] = []
    owners: dict[str, str] = {}
    with ZipFile(path, "w", ZIP_DEFLATED) as archive:
        for name, image in named_images(labeling_images(candidates)):
            label_file = str(PurePosixPath("labels", name).with_suffix(".txt"))
            if label_file in owners:
                raise PoolStateError(
                    f"the images {shown(owners[label_file])!r} and {shown(image.image_id)!r} would "
                    f"have the same file {shown(label_file)!r}: their names differ in the suffix "
                    "alone, which YOLO does not keep; rename one of them"
                )
            owners[label_file] = image.image_id
            _add(archive, label_file, _lines(image, unit, numbers))
            names.append(name)
        _add(archive, "images.txt", "".join(f"images/{name}\n" for name in names))
        _add(archive, "data.yaml", _data(candidates.class_names))
    return len(names)


def _lines(image: LabelingImage, unit: str | None, numbers: dict[str, int]) -> str:
    lines: list[str] = []
    for predicted in image.objects:
        if predicted.score is None:
            raise PoolStateError(
                f"an object in the image {shown(image.image_id)!r} has no score, which a line of "
                "YOLO needs: export coco, or predict with scores"
            )
        x, y, width, height = image.relative(predicted.bbox, unit)
        fields = (x + width / 2, y + height / 2, width, height, predicted.score)
        lines.append(" ".join([str(numbers[predicted.category]), *(repr(each) for each in fields)]))
    return "".join(f"{line}\n" for line in lines)


def _data(class_names: list[str]) -> str:
    # JSON is YAML, with any text in a name.
    named = [
        f"  {number}: {json.dumps(name, ensure_ascii=False)}\n"
        for number, name in enumerate(class_names)
    ]
    return "".join(["path: .\ntrain: images.txt\nval: images.txt\nnames:\n", *named])


def _add(archive: ZipFile, name: str, text: str) -> None:
    """Add a file without the time: the same content is the same archive."""
    entry = ZipInfo(name)
    entry.compress_type = ZIP_DEFLATED
    archive.writestr(entry, text.encode())
