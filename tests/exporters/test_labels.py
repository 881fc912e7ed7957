"""Labels in files: a manifest that the pool itself reads, and COCO's own reader."""

import json
from typing import Any, cast

import numpy as np
import polars as pl
import pytest
from pycocotools import mask as coco_masks
from pycocotools.coco import COCO

from dagster_active_learning.exporters import export_labels
from dagster_active_learning.exporters.masks import run_lengths_of
from dagster_active_learning.readers.manifest import read_images
from dagster_active_learning.store.images import replace_images
from dagster_active_learning.store.labels import replace_labels

SHAPE = np.zeros((40, 60), bool)
SHAPE[5:20, 10:13] = SHAPE[17:20, 10:30] = True

# Ids, uris and labels that a file may spoil.
IMAGES = {
    "007": ("s3://b/007.png", True, "a, b"),
    "=1+1": ('c:\\x "y".png', False, None),
    "line\nbreak": (None, True, None),
    "ä/ö 1.png": ("/p/ä/ö 1.png", False, None),
    "none": ("none.png", False, None),
    "nobody said": ("n.png", False, None),
}


def label(image_id, category, bbox=None, segmentation=None):
    return {
        "image_id": image_id, "category": category, "bbox": bbox, "segmentation": segmentation, "lead_time_seconds": None,
        "ground_truth": False, "annotator": "1", "annotated_at": "2026-11-29T03:00:00Z", "task_id": 1, "annotation_id": image_id,
    }  # fmt: skip


@pytest.fixture
def labeled(store):
    """Fill a pool with images and labels."""

    def fill(*labels):
        rows = [
            {"image_id": image_id, "uri": uri, "width": 60, "height": 40, "labeled": labeled, "label": said}
            for image_id, (uri, labeled, said) in IMAGES.items()
        ]  # fmt: skip
        replace_images(store, pl.DataFrame(rows, schema_overrides={"width": pl.Int32, "height": pl.Int32}).to_arrow())  # fmt: skip
        replace_labels(store, labels, [], tool="label_studio", project="p", run_id="r")
        return store

    return fill


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_a_manifest_is_read_by_the_pool_with_the_same_labels(labeled, tmp_path, suffix):
    store = labeled(label("=1+1", "+c"), label("ä/ö 1.png", "007"), label("007", "another"))
    path = tmp_path / f"labels.{suffix}"
    assert export_labels(store, path) == 4
    read = read_images(path, suffix).to_pylist()
    expected = store.relation("FROM images WHERE labeled ORDER BY rowid").to_arrow_table().to_pylist()  # fmt: skip
    assert read == expected
    # The manifest has the first word.
    assert {row["image_id"]: row["label"] for row in read} == {"007": "a, b", "=1+1": "+c", "line\nbreak": None, "ä/ö 1.png": "007"}  # fmt: skip


def test_pycocotools_reads_the_objects(labeled, tmp_path):
    boxes = [[12.25, 4, 19, 30.125], [0.1, 0.2, 1 / 3, 39.8]]
    outline = [[1, 2, 30, 2, 30.5, 38], [40, 10, 50, 10, 50, 20, 40, 20]]
    run_lengths = run_lengths_of(SHAPE)
    store = labeled(
        label("=1+1", "car", boxes[0]),
        label("ä/ö 1.png", "car", [1, 2, 49, 36], json.dumps(outline)),
        label("=1+1", "bicycle", boxes[1]),
        label("none", None),
        label("line\nbreak", "car", [10, 5, 20, 15], json.dumps(run_lengths)),
    )
    path = tmp_path / "labels.json"
    assert export_labels(store, path) == 4
    coco = COCO(path)
    images = cast("list[dict[str, Any]]", list(coco.imgs.values()))
    found = {image["image_id"]: image for image in images}
    assert found.keys() == {"=1+1", "ä/ö 1.png", "none", "line\nbreak"}
    assert (found["none"]["width"], found["none"]["height"]) == (60, 40)
    names = {each["id"]: each["name"] for each in coco.cats.values()}

    def objects(image_id):
        return coco.loadAnns(coco.getAnnIds([found[image_id]["id"]]))

    assert [(names[each["category_id"]], each["bbox"]) for each in objects("=1+1")] == [("car", boxes[0]), ("bicycle", boxes[1])]  # fmt: skip
    assert not any("score" in each or "segmentation" in each for each in objects("=1+1"))
    assert objects("none") == []
    (polygons,), (pixels,) = objects("ä/ö 1.png"), objects("line\nbreak")
    assert polygons["segmentation"] == outline
    expected = coco_masks.decode(
        coco_masks.merge(coco_masks.frPyObjects(cast("Any", outline), 40, 60))
    )
    assert np.array_equal(coco.annToMask(polygons), expected)
    assert np.array_equal(coco.annToMask(pixels), SHAPE)
    assert [each["area"] for each in objects("=1+1")] == [19 * 30.125, 1 / 3 * 39.8]
    # A triangle and a square.
    assert (polygons["area"], pixels["area"]) == (29 * 36 / 2 + 100, SHAPE.sum())


def test_classes_keep_the_places_that_the_predictions_give_them(labeled, tmp_path):
    store = labeled(label("none", "tram", [1, 2, 3, 4]), label("none", "car", [1, 2, 3, 4]))
    store.connection.execute(
        "INSERT INTO prediction_sets BY NAME SELECT 'p' AS prediction_set, 'f' AS source, 'x' AS source_sha256, "
        "['bicycle', 'car'] AS class_names, 0 AS prediction_count, 0 AS image_count, 0 AS image_run_count, "
        "0 AS quarantined_count, 0 AS score_only_count, 'FLOAT[]' AS value_type, 1 AS generation, 'r' AS run_id, now() AS ingested_at"
    )
    export_labels(store, tmp_path / "labels.json")
    categories = json.loads((tmp_path / "labels.json").read_text())["categories"]
    assert [each["name"] for each in categories] == ["bicycle", "car", "tram"]


def test_a_pool_without_labels_has_files_without_images(labeled, tmp_path):
    store = labeled()
    assert export_labels(store, tmp_path / "labels.json") == 0
    assert json.loads((tmp_path / "labels.json").read_text())["images"] == []
    assert export_labels(store, tmp_path / "labels.csv") == 2
