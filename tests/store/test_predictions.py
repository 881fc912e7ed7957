"""Predictions of a set as the database counts and finds them, against NumPy."""

import json

import pyarrow as pa
import pytest

from dagster_active_learning.readers.arrow import read_table
from dagster_active_learning.readers.options import TableOptions
from dagster_active_learning.rules import Rules
from dagster_active_learning.store.images import replace_images
from dagster_active_learning.store.predictions import (
    BoxCounts,
    box_counts,
    boxes_outside,
    predictions_of_images,
)
from pools import column, in_memory, ingest
from ranked_pools import manifest


def test_what_is_said_about_the_first_candidates(filled):
    first = column(
        filled,
        "SELECT image_id FROM labeling_candidates WHERE rank <= 3 AND acquisition_function IN ('margin', 'entropy')",
    )
    found = predictions_of_images(filled, "set", [*first, "of another pool"])
    assert found.keys() == set(first)
    for image_id, frame in found.items():
        expected = column(
            filled, f"SELECT class_probs FROM predictions WHERE image_id = '{image_id}'"
        )
        assert frame["class_probs"].to_list() == expected


def test_of_an_image_with_many_predictions_only_the_first_are_fetched(store):
    table = pa.table({"image_id": ["a"] * 50 + ["b"] * 2, "class_probs": [[0.5, 0.5]] * 52})
    ingest(store, in_memory(table))
    frames = predictions_of_images(store, "set", ["a", "b"], per_image=3)
    assert {name: frame.height for name, frame in frames.items()} == {"a": 3, "b": 2}
    counts = {name: set(frame["prediction_count"]) for name, frame in frames.items()}
    assert counts == {"a": {50}, "b": {2}}


# The manifest of `manifest` has images of 640 x 480 pixels. A box, then: it leaves its image, and
# it would not if the image were 480 x 640.
BOXES = [
    ((0, 0, 640, 480), False, False),
    ((-1, -1, 642, 482), False, False),
    ((-1.5, 0, 10, 10), True, False),
    ((0, -1.01, 10, 10), True, False),
    ((600, 0, 41, 10), False, False),
    ((600, 0, 41.5, 10), True, False),
    ((0, 400, 10, 81.25), True, True),
    ((400, 500, 80, 140), True, True),
    ((1e300, 0, 1e300, 0), True, False),
    ((5000, 0, 0, 0), True, False),
    (None, False, False),
]


def box_pool(store, boxes, *, unit="pixel", size=(640, 480), also=()):
    ids = [f"image{number}" for number in range(len(boxes))]
    images = manifest(ids)
    for name, value in zip(("width", "height"), size, strict=True):
        position = images.column_names.index(name)
        images = images.set_column(position, name, pa.array([value] * len(ids), pa.int32()))
    replace_images(store, images)
    table = pa.table(
        {
            "image_id": ids,
            "score": [0.5] * len(ids),
            "bbox": pa.array(boxes, pa.list_(pa.float64())),
        }
    )
    options = TableOptions(score_column="score", bbox_column="bbox", bbox_unit=unit)
    stream = read_table(table, name="objects", options=options)
    ingest(store, stream, rules=Rules(task="detection"), in_manifest=True)


def test_boxes_that_leave_their_image_are_counted_and_shown(store):
    box_pool(store, [box for box, *_ in BOXES])
    counts = box_counts(store, ["set"], relative=[], in_manifest=True)
    outside = [(number, box) for number, (box, out, _) in enumerate(BOXES) if out]
    assert counts == BoxCounts(
        boxes=sum(box is not None for box, *_ in BOXES),
        sized=sum(box is not None for box, *_ in BOXES),
        outside=len(outside),
        turned=sum(turned for *_, turned in BOXES),
    )
    found = boxes_outside(store, ["set"], relative=[], in_manifest=True)
    assert [
        (row["image_id"], row["width"], row["height"], json.loads(row["bbox"])) for row in found
    ] == [(f"image{number}", 640, 480, list(box)) for number, box in outside]


@pytest.mark.parametrize("size", [(None, None), (0, 0), (2**31 - 1, 2**31 - 1)])
def test_boxes_in_images_of_unknown_size_are_not_judged(store, size):
    boxes = [(10_000, 0, 10, 10)]
    box_pool(store, boxes, size=size)
    known = int(bool(size[0]))
    assert box_counts(store, ["set"], relative=[], in_manifest=True) == BoxCounts(1, known, 0, 0)
    assert box_counts(store, ["set"], relative=[], in_manifest=False) == BoxCounts(1, 0, 0, 0)


@pytest.mark.parametrize(
    ("box", "size", "outside"),
    [
        ((0, 0, 1, 1), (None, None), False),
        ((0.5, 0.5, 0.5009, 0.5), (None, None), False),
        ((0.5, 0.5, 0.502, 0.5), (None, None), True),
        ((-0.002, 0, 0.5, 0.5), (None, None), True),
        # A pixel of an image with 100 is a hundredth.
        ((-0.009, 0.2, 1.018, 0.5), (100, 100), False),
        ((-0.011, 0.2, 0.5, 0.5), (100, 100), True),
        ((0.2, 0.2, 640, 480), (640, 480), True),
    ],
)
def test_the_size_of_an_image_is_one_where_boxes_are_shares(store, box, size, outside):
    box_pool(store, [box], unit="relative", size=size)
    counts = box_counts(store, ["set"], relative=["set"], in_manifest=True)
    assert counts == BoxCounts(1, 1, int(outside), 0)
