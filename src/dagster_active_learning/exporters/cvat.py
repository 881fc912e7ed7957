"""Candidates as CVAT's XML 1.1 for images, in the order in which to label.

Classes of images are tags, objects are boxes, polygons or masks; the score is the attribute
``score`` of each. The format knows an image by the name of its file
(https://docs.cvat.ai/docs/dataset_management/formats/format-cvat/). A task of these images in this
order is made with the exporter ``cvat_manifest``.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any
from xml.sax.saxutils import XMLGenerator

from dagster_active_learning.errors import PoolStateError
from dagster_active_learning.exporters.candidates import Candidates
from dagster_active_learning.exporters.labeling_images import (
    LabelingImage,
    PredictedObject,
    has_objects,
    image_count,
    is_printable,
    labeling_images,
    named_images,
    pixels_in_mask,
)
from dagster_active_learning.exporters.masks import bounding_box, run_lengths_by_row
from dagster_active_learning.text import shown


def write_candidates(candidates: Candidates, path: Path) -> int:
    """Write the images of candidates to a new file and count them.

    Raises:
        PoolStateError: If the manifest does not say the size of an image, a class or the name of a
            file has a control character, which XML cannot have, or two files have the same name.
    """
    written = 0
    with path.open("wb") as file:
        document = _Document(file)
        document.open("annotations")
        document.text("version", "1.1")
        _write_meta(document, candidates)
        for number, (name, image) in enumerate(named_images(labeling_images(candidates))):
            width, height = image.size
            document.open("image", id=number, name=name, width=width, height=height)
            _write_image(document, image, candidates)
            document.close("image")
            written += 1
        document.close("annotations")
        document.end()
    return written


class _Document(XMLGenerator):
    """XML that is written element by element."""

    def __init__(self, file: object) -> None:
        super().__init__(file, "utf-8", short_empty_elements=True)  # pyright: ignore[reportArgumentType]
        self.startDocument()

    def open(self, element: str, /, **attributes: object) -> None:
        self.startElement(element, {key: str(value) for key, value in attributes.items()})  # pyright: ignore[reportArgumentType]

    def close(self, element: str) -> None:
        self.endElement(element)
        self.ignorableWhitespace("\n")

    def text(self, element: str, text: str, /, **attributes: object) -> None:
        self.open(element, **attributes)
        self.characters(text)
        self.close(element)

    def end(self) -> None:
        self.endDocument()


def _write_meta(document: _Document, candidates: Candidates) -> None:
    document.open("meta")
    document.open("task")
    document.text("name", candidates.prediction_set.prediction_set)
    document.text("size", str(image_count(candidates)))
    document.text("mode", "annotation")
    document.text("overlap", "0")
    document.open("labels")
    for name in candidates.class_names:
        if not is_printable(name):
            raise PoolStateError(
                f"the class {shown(name)!r} has a control character, which XML cannot have: rename "
                "it in the predictions"
            )
        document.open("label")
        document.text("name", name)
        document.text("type", "any" if has_objects(candidates) else "tag")
        document.open("attributes")
        document.open("attribute")
        document.text("name", "score")
        document.text("mutable", "False")
        document.text("input_type", "text")
        document.text("default_value", "")
        document.text("values", "")
        for closed in ("attribute", "attributes", "label"):
            document.close(closed)
    for closed in ("labels", "task", "meta"):
        document.close(closed)


def _write_image(document: _Document, image: LabelingImage, candidates: Candidates) -> None:
    if not has_objects(candidates):
        if image.predicted_class is not None:
            document.open("tag", label=image.predicted_class, source="auto")
            _write_score(document, image.class_score)
            document.close("tag")
        return
    unit = candidates.prediction_set.bbox_unit
    for number, predicted in enumerate(image.objects, 1):
        common: dict[str, object] = {
            "label": predicted.category,
            "source": "auto",
            "occluded": 0,
            "z_order": 0,
        }
        if predicted.polygons:
            # Several outlines of one object are a group.
            group = {"group_id": number} if len(predicted.polygons) > 1 else {}
            for outline in predicted.polygons:
                pixels = image.in_pixels(outline, unit)
                pairs = zip(pixels[::2], pixels[1::2], strict=True)
                points = ";".join(f"{x!r},{y!r}" for x, y in pairs)
                _write_shape(document, "polygon", predicted, common | {"points": points} | group)
        elif predicted.run_lengths is not None:
            _write_shape(
                document, "mask", predicted, common | _mask(predicted.run_lengths, image.image_id)
            )
        else:
            left, top, width, height = image.in_pixels(predicted.bbox, unit)
            corners = {"xtl": left, "ytl": top, "xbr": left + width, "ybr": top + height}
            _write_shape(document, "box", predicted, common | corners)


def _mask(run_lengths: dict[str, Any], image_id: str) -> dict[str, object]:
    """The pixels in the box around a mask, by rows, first those outside it."""
    pixels = pixels_in_mask(run_lengths, image_id)
    left, top, width, height = bounding_box(pixels)
    inside = pixels[top : top + height, left : left + width]
    lengths = ", ".join(map(str, run_lengths_by_row(inside)))
    return {"rle": lengths, "left": left, "top": top, "width": width, "height": height}


def _write_shape(
    document: _Document, shape: str, predicted: PredictedObject, attributes: Mapping[str, object]
) -> None:
    document.open(shape, **attributes)
    _write_score(document, predicted.score)
    document.close(shape)


def _write_score(document: _Document, score: float | None) -> None:
    if score is not None:
        document.text("attribute", repr(score), name="score")
