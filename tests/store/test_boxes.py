"""Boxes that leave their images, as the database finds them, copied and in place."""

import json

import numpy as np
import pyarrow as pa
import pytest

from counted_files import CountedFiles
from dagster_active_learning.readers.arrow import read_table
from dagster_active_learning.readers.options import TableOptions
from dagster_active_learning.rules import Rules
from dagster_active_learning.store.boxes import BoxCounts, BoxFindings, boxes_outside
from dagster_active_learning.store.images import replace_images
from in_place import copied, in_place, write
from pools import ingest
from ranked_pools import manifest

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
    found = boxes_outside(store, ["set"], relative=[], in_manifest=True)
    outside = [(number, box) for number, (box, out, _) in enumerate(BOXES) if out]
    assert found.counts == BoxCounts(
        boxes=sum(box is not None for box, *_ in BOXES),
        sized=sum(box is not None for box, *_ in BOXES),
        outside=len(outside),
        turned=sum(turned for *_, turned in BOXES),
    )
    assert [
        (row["image_id"], row["width"], row["height"], json.loads(row["bbox"]))
        for row in found.examples
    ] == [(f"image{number}", 640, 480, list(box)) for number, box in outside]


@pytest.mark.parametrize("size", [(None, None), (0, 0), (2**31 - 1, 2**31 - 1)])
def test_boxes_in_images_of_unknown_size_are_not_judged(store, size):
    boxes = [(10_000, 0, 10, 10)]
    box_pool(store, boxes, size=size)
    known = int(bool(size[0]))
    for in_manifest, sized in ((True, known), (False, 0)):
        found = boxes_outside(store, ["set"], relative=[], in_manifest=in_manifest)
        assert found == BoxFindings(BoxCounts(1, sized, 0, 0), [])


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
    found = boxes_outside(store, ["set"], relative=["set"], in_manifest=True)
    assert found.counts == BoxCounts(1, 1, int(outside), 0)


def write_boxes(folder, ids_of, *, beyond, unit=1.0):
    """Files of objects; every fourth has no box, and some leave images of 640 x 480."""
    for file in range(3):
        rng = np.random.default_rng(file)
        ids = ids_of(file)
        boxes = rng.uniform(0, 1, (len(ids), 4)) * [400, 300, 200, 150]
        if beyond:
            boxes[rng.random(len(ids)) < 0.1] += [100, -2, 0, 0]
            boxes[rng.random(len(ids)) < 0.1] += [0, 100, 0, 200]
        rows = [None if row % 4 == 3 else (box * unit).tolist() for row, box in enumerate(boxes)]
        write(
            folder / f"{file}.parquet",
            ids,
            rng.dirichlet(np.ones(3), len(ids)),
            row_group_size=17,
            score=pa.array(rng.random(len(ids))),
            bbox=pa.array(rows, pa.list_(pa.float64())),
        )


def side_by_side(file):
    return [f"{file}-{row // 3:03d}" for row in range(90)]


def in_all_files(file):
    return [f"{row % 31:03d}" for row in range(90)]


def sized(store, ids):
    """Images of which some have no size, and one is not in the manifest."""
    sizes = [(640, 480), (480, 640), (None, 480), (0, 0), (2000, 2000), (700, 500)]
    images = manifest(ids)
    for place, name in enumerate(("width", "height")):
        values = pa.array([sizes[row % 6][place] for row in range(len(ids))], pa.int32())
        images = images.set_column(images.column_names.index(name), name, values)
    replace_images(store, images)


@pytest.mark.parametrize("unit", [1.0, 1 / 640], ids=["pixel", "relative"])
@pytest.mark.parametrize("ids_of", [side_by_side, in_all_files])
def test_boxes_in_place_are_found_as_those_that_are_copied(tmp_path, ids_of, unit):
    write_boxes(tmp_path, ids_of, beyond=True, unit=unit)
    ids = sorted({image_id for file in range(3) for image_id in ids_of(file)})
    rules = Rules(task="detection", in_manifest=True)
    options = {
        "manifest": ids[1:],
        "bbox_unit": "pixel" if unit == 1 else "relative",
        "score_column": "score",
        "bbox_column": "bbox",
    }
    found = in_place(f"{tmp_path}/*.parquet", tmp_path / "storage", rules, **options)
    expected = copied(tmp_path / "*.parquet", rules, **options)
    relative = [] if unit == 1 else ["set"]
    results = []
    for store in (found, expected):
        sized(store, ids[1:])
        results.append(boxes_outside(store, ["set"], relative=relative, in_manifest=True))
    assert results[0] == results[1]
    counts = results[1].counts
    assert 0 < counts.outside < counts.sized
    if not relative:
        assert 0 < counts.turned < counts.outside
        assert counts.sized < counts.boxes


@pytest.mark.parametrize("ids_of", [side_by_side, in_all_files])
def test_boxes_inside_of_their_images_are_not_read(tmp_path, ids_of):
    write_boxes(tmp_path, ids_of, beyond=False)
    rules = Rules(task="detection")
    options = {"score_column": "score", "bbox_column": "bbox"}
    address = f"counted://{tmp_path}"
    store = in_place(f"{address}/*.parquet", f"{address}/storage", rules, **options)
    ids = sorted({image_id for file in range(3) for image_id in ids_of(file)})
    sizes = manifest(ids)
    replace_images(store, sizes)
    CountedFiles.read.clear()
    found = boxes_outside(store, ["set"], relative=[], in_manifest=True)
    assert found == BoxFindings(BoxCounts(3 * 68, 3 * 68, 0, 0), [])
    assert {path.split("/")[-2] for path in CountedFiles.read} == {"scores"}
