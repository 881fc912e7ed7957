"""Annotations of real exports, and of every rule, become labels or a reason."""

import json
import math
from typing import Any

import numpy as np
import pytest

from dagster_active_learning.exporters.masks import brush_bytes, brush_pixels, run_lengths_of
from dagster_active_learning.labeling.label_studio_annotations import read_annotations

DIGITS = [str(digit) for digit in range(10)]


def read(tasks, task="classification", class_names=DIGITS, sizes=None):
    image_ids = {entry["data"].get("image_id") for entry in tasks}
    sizes = dict.fromkeys(image_ids, (None, None)) if sizes is None else sizes
    return read_annotations(tasks, task=task, class_names=class_names, sizes=sizes)


def test_a_real_export_of_classes_with_every_edge_case(real_predictions):
    path = real_predictions / "label_studio" / "export_digits_edge_cases.json"
    reading = read(json.loads(path.read_text()))
    outcomes = list(reading.outcomes.values())
    assert [outcomes.count(one) for one in ("labeled", "skipped", "conflict", "quarantined")] == [6, 2, 1, 3]  # fmt: skip
    # The later of two by one annotator.
    assert {label.image_id: label.category for label in reading.labels}["digit_0829"] == "4"
    assert sorted(each.reason for each in reading.quarantined) == [
        "the annotation names no class",
        "the class 'zebra' is not one of the pool's",
        "the control 'nope' of the type 'choices' is not of the pool's labeling interface",
    ]


def test_a_real_export_of_boxes_to_a_billionth_of_a_pixel(real_predictions):
    path = real_predictions / "label_studio" / "export_scenes.json"
    reading = read(json.loads(path.read_text()), "detection")
    assert list(reading.outcomes.values()) == ["labeled"] * 11
    empty = [label for label in reading.labels if label.category is None]
    assert len(empty) == 10
    boxes = [label for label in reading.labels if label.category is not None]
    expected = [("scene_109", "8", [12, 4, 19, 30]), ("scene_109", "1", [4, 48, 8, 16])]
    for label, (image_id, category, bbox) in zip(boxes, expected, strict=True):
        assert (label.image_id, label.category) == (image_id, category)
        assert np.allclose(label.bbox or [], bbox, rtol=0, atol=1e-9)


def choice(*names, control="label"):
    return {"from_name": control, "to_name": "image", "type": "choices", "value": {"choices": list(names)}}  # fmt: skip


def box(name, x=10, y=20, width=30, height=40, **more):
    value = {"x": x, "y": y, "width": width, "height": height, "rectanglelabels": [name], **more}
    return {"from_name": "label", "type": "rectanglelabels", "original_width": 200, "original_height": 100, "value": value}  # fmt: skip


def polygon(name, points):
    value = {"points": points, "polygonlabels": [name]}
    return {"from_name": "label", "type": "polygonlabels", "original_width": 200, "original_height": 100, "value": value}  # fmt: skip


def annotation(number, result, *, by=1, at=None, skip=False, truth=False):
    return {
        "id": number,
        "completed_by": by,
        "result": result,
        "was_cancelled": skip,
        "ground_truth": truth,
        "updated_at": f"2026-11-29T03:00:{number if at is None else at:02d}.000000Z",
        "unique_id": f"unique{number}",
    }


def entry(*annotations, image_id="a", number=1):
    return {"id": number, "data": {"image_id": image_id}, "annotations": list(annotations)}


RULES = {
    # The task, the annotations, the outcome and the classes.
    "one": ("classification", [annotation(1, [choice("3")])], "labeled", ["3"]),
    "the later of one annotator": ("classification", [annotation(2, [choice("4")], at=1), annotation(1, [choice("3")], at=2)], "labeled", ["3"]),
    "the later of the same time": ("classification", [annotation(2, [choice("4")], at=1), annotation(1, [choice("3")], at=1)], "labeled", ["4"]),
    "two who agree": ("classification", [annotation(1, [choice("3")]), annotation(2, [choice("3")], by=2)], "labeled", ["3"]),
    "two who do not": ("classification", [annotation(1, [choice("3")]), annotation(2, [choice("4")], by=2)], "conflict", []),
    "ground truth wins": ("classification", [annotation(1, [choice("3")], truth=True), annotation(2, [choice("4")], by=2)], "labeled", ["3"]),
    "two truths": ("classification", [annotation(1, [choice("3")], truth=True), annotation(2, [choice("4")], by=2, truth=True)], "conflict", []),
    "skipped": ("classification", [annotation(1, [], skip=True)], "skipped", []),
    "skipped by one": ("classification", [annotation(1, [], skip=True), annotation(2, [choice("4")], by=2)], "labeled", ["4"]),
    "skipped later": ("classification", [annotation(1, [choice("4")]), annotation(2, [], skip=True)], "skipped", []),
    "no class": ("classification", [annotation(1, [])], "quarantined", []),
    "two classes": ("classification", [annotation(1, [choice("3", "4")])], "quarantined", []),
    "a person with a name": ("classification", [annotation(1, [choice("3")], by={"id": 7, "email": "a@b.c"}), annotation(2, [choice("4")], by=7)], "labeled", ["4"]),
    "one of two is no label": ("classification", [annotation(1, [choice("x")]), annotation(2, [choice("4")], by=2)], "labeled", ["4"]),
    "a choice among boxes": ("detection", [annotation(1, [choice("3")])], "quarantined", []),
    "no object": ("detection", [annotation(1, [])], "labeled", [None]),
    "objects": ("detection", [annotation(1, [box("3"), box("4")])], "labeled", ["3", "4"]),
    "the same objects in another order": ("detection", [annotation(1, [box("3"), box("4", x=60)]), annotation(2, [box("4", x=61), box("3", y=22)], by=2)], "labeled", ["4", "3"]),
    "an object more": ("detection", [annotation(1, [box("3")]), annotation(2, [box("3"), box("3", x=60)], by=2)], "conflict", []),
    "at another place": ("detection", [annotation(1, [box("3")]), annotation(2, [box("3", x=40)], by=2)], "conflict", []),
    "an object or none": ("detection", [annotation(1, [box("3")]), annotation(2, [], by=2)], "conflict", []),
    "not a number": ("detection", [annotation(1, [box("3", x=None)])], "quarantined", []),
    "a point of one number": ("segmentation", [annotation(1, [polygon("3", points=[[1], [2], [3]])])], "quarantined", []),
    "a turn by a text": ("detection", [annotation(1, [box("3", rotation="x")])], "quarantined", []),
    "bytes that are texts": ("segmentation", [annotation(1, [{"from_name": "brush", "type": "brushlabels", "original_width": 8, "original_height": 8, "value": {"rle": ["a"], "brushlabels": ["3"]}}])], "quarantined", []),
    "a region that is no object": ("detection", [annotation(1, ["x"])], "quarantined", []),
    "no list of regions": ("detection", [annotation(1, None), annotation(2, [box("3")], by=2)], "labeled", ["3"]),
    "without a value": ("detection", [annotation(1, [{"from_name": "label", "type": "rectanglelabels"}])], "quarantined", []),
}  # fmt: skip


@pytest.mark.parametrize(("task", "annotations", "outcome", "classes"), RULES.values(), ids=RULES)
def test_rules(task, annotations, outcome, classes):
    reading = read([entry(*annotations)], task)
    assert reading.outcomes == {"a": outcome}
    assert [label.category for label in reading.labels] == classes


def test_tasks_without_an_id_are_counted_and_those_that_nobody_annotated_have_no_outcome():
    foreign = {"id": 1, "data": {"image": "x.png"}, "annotations": [annotation(1, [choice("3")])]}
    reading = read([foreign, entry(image_id="b", number=2)])
    assert (reading.foreign_tasks, reading.outcomes) == (1, {})


def test_two_tasks_of_an_image_are_one():
    tasks = [entry(annotation(1, [choice("3")])), entry(annotation(2, [choice("4")]), number=2)]
    (label,) = read(tasks).labels
    assert (label.category, label.task_id, label.annotation_id) == ("4", 2, "unique2")


def test_an_image_that_the_manifest_does_not_have():
    reading = read([entry(annotation(1, [choice("3")]))], sizes={})
    assert [each.reason for each in reading.quarantined] == ["the image is not in the pool's manifest"]  # fmt: skip


@pytest.mark.parametrize("degrees", [0, 30, 90, 200, 359.5])
def test_a_turned_box_is_the_box_around_it(degrees):
    (label,) = read([entry(annotation(1, [box("3", rotation=degrees)]))], "detection").labels
    turn = complex(math.cos(math.radians(degrees)), math.sin(math.radians(degrees)))
    corners = [20 + 20j + turn * corner for corner in (0, 60, 60 + 40j, 40j)]
    xs, ys = [corner.real for corner in corners], [corner.imag for corner in corners]
    expected = [min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)]
    assert np.allclose(label.bbox or [], expected, rtol=0, atol=1e-9)


def test_a_size_is_taken_from_the_manifest_where_the_annotation_has_none():
    region = {name: value for name, value in box("3").items() if not name.startswith("original")}
    tasks = [entry(annotation(1, [region]))]
    (label,) = read(tasks, "detection", sizes={"a": (1000, 10)}).labels
    assert label.bbox == [100, 2, 300, 4]
    (wrong,) = read(tasks, "detection").quarantined
    assert "the size of the image is neither in the annotation nor the manifest" in wrong.reason


def test_masks():
    pixels = np.zeros((100, 200), bool)
    pixels[10:40, 20:25] = pixels[35:40, 20:60] = True
    size = {"original_width": 200, "original_height": 100}
    brush: dict[str, Any] = {"from_name": "brush", "type": "brushlabels", **size, "value": {"format": "rle", "rle": brush_bytes(pixels), "brushlabels": ["3"]}}  # fmt: skip
    polygon = {"from_name": "label", "type": "polygonlabels", **size, "value": {"points": [[5, 10], [10, 10], [10, 40]], "polygonlabels": ["4"]}}  # fmt: skip
    reading = read([entry(annotation(1, [brush, polygon]))], "segmentation")
    first, second = reading.labels
    assert (first.bbox, json.loads(first.segmentation or "")) == ([20, 10, 40, 30], run_lengths_of(pixels))  # fmt: skip
    assert (second.bbox, json.loads(second.segmentation or "")) == ([10, 10, 10, 30], [[10, 10, 20, 10, 20, 40]])  # fmt: skip
    brush["value"]["rle"] = brush["value"]["rle"][:9]
    assert read([entry(annotation(1, [brush]))], "segmentation").outcomes == {"a": "quarantined"}


@pytest.mark.parametrize("seed", range(10))
def test_a_brush_is_read_as_it_was_written(seed):
    random = np.random.default_rng(seed)
    height, width = random.integers(1, 50, 2)
    pixels = random.uniform(size=(height, width)) < random.choice([0, 0.02, 0.5, 1])
    found = brush_pixels(brush_bytes(pixels), width, height)
    assert found is not None
    assert np.array_equal(found, pixels)
    assert brush_pixels(brush_bytes(pixels), width + 1, height) is None
