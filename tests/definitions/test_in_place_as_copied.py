"""All that a pool says of a set in place is what it says where the files are copied."""

import json

import dagster as dg
import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dagster_active_learning import (
    LabelingBatch,
    ModelChurn,
    NearDuplicates,
    RuleEvaluation,
)
from dagster_active_learning.flow import best_images
from in_place import random_probs, write
from in_place_pools import Case, assert_as_copied

IMAGES = 240
FILES = 3
KEYS = ("may", "june")


def rows_of(file, per_file):
    """The ids of a file, in their order."""
    return [f"{number:04d}" for number in range(file, IMAGES, per_file)]


def own_images(folder, key="p"):
    """Each image in one file."""
    rng = np.random.default_rng(len(key))
    for file in range(FILES):
        probs = random_probs(rng, IMAGES // FILES).tolist()
        probs[7] = None
        write(folder / f"{key}{file}.parquet", rows_of(file, FILES), probs)


def shared_images(folder, key="p"):
    """Each image in all files."""
    rng = np.random.default_rng(len(key))
    for file in range(FILES):
        probs = random_probs(rng, IMAGES).tolist()
        probs[file] = None
        write(folder / f"{key}{file}.parquet", rows_of(0, 1), probs)


def two_sets(folder):
    for key in KEYS:
        own_images(folder, key)


def several_each(folder):
    """Each image has two predictions, side by side in one file; some are the same."""
    rng = np.random.default_rng(0)
    for file in range(FILES):
        ids = [name for name in rows_of(file, FILES) for _ in range(2)]
        probs = random_probs(rng, len(ids))
        probs[21] = probs[20]
        write(folder / f"p{file}.parquet", ids, probs)


def objects(folder):
    """Boxes of an image are in several files, some of them twice, some beyond the image."""
    rng = np.random.default_rng(0)
    for file in range(FILES):
        ids = [name for name in rows_of(0, 1)[file:] for _ in range(rng.integers(0, 3))]
        ids += ids[:2]
        boxes = rng.integers(0, 600, (len(ids), 2)).astype(float)
        boxes = np.hstack([boxes, boxes + rng.integers(1, 100, (len(ids), 2))])
        boxes[-2:] = boxes[:2]
        probs = random_probs(rng, len(ids))
        probs[-2:] = probs[:2]
        write(folder / f"p{file}.parquet", ids, probs, bbox=pa.array(boxes.tolist()))
    drawn = [
        {"id": number + 1, "image_id": number, "category_id": 1, "bbox": [10, 10, 80, 80]}
        for number in range(0, IMAGES, 5)
    ]
    images = [
        {"id": number, "file_name": name, "width": 640, "height": 480}
        for number, name in enumerate(rows_of(0, 1))
    ]
    content = {"images": images, "categories": [{"id": 1, "name": "1"}], "annotations": drawn}
    (folder / "boxes.json").write_text(json.dumps(content))


CASES = {
    "an image per row": Case(
        own_images,
        lambda _: {"evaluation": RuleEvaluation(labels_drawn_at_random=True)},
    ),
    "badge": Case(
        own_images,
        lambda folder: {"batch": batch(folder, choose_by="badge")},
    ),
    "typical images": Case(
        shared_images, lambda folder: {"batch": batch(folder, choose_by="typical")}
    ),
    "votes": Case(
        shared_images,
        lambda _: {
            "committee": True,
            "evaluation": RuleEvaluation(labels_drawn_at_random=True),
        },
    ),
    "several predictions": Case(several_each, lambda _: {"aggregation": "max"}),
    "several predictions, all images known": Case(several_each, not_in_manifest=0),
    "predictions in several files, all images known": Case(shared_images, not_in_manifest=0),
    "objects, all images known": Case(
        objects,
        lambda _: {"task": "detection"},
        {"box": "xyxy", "bbox_column": "bbox"},
        not_in_manifest=0,
    ),
    "predictions in several files": Case(
        shared_images, lambda _: {"aggregation": "sum", "images_without_predictions": "first"}
    ),
    "objects": Case(
        objects,
        lambda folder: {
            "task": "detection",
            "evaluation": RuleEvaluation(
                labels_drawn_at_random=True, boxes=folder / "boxes.json", boxes_image_id="file_name"
            ),
        },
        {"box": "xyxy", "bbox_column": "bbox"},
    ),
    "two sets": Case(
        two_sets,
        lambda _: {
            "partitions_def": dg.StaticPartitionsDefinition(list(KEYS)),
            "churn": ModelChurn(),
        },
        keys=KEYS,
    ),
}


def batch(folder, **settings):
    return LabelingBatch(
        size=12, near_duplicates=NearDuplicates(path=folder / "e.parquet"), **settings
    )


@pytest.mark.parametrize(
    "case",
    [pytest.param(name, marks=[pytest.mark.slow] * (name != "an image per row")) for name in CASES],
)
def test_a_pool_in_place_is_the_pool_of_copied_files(tmp_path, case, monkeypatch):
    # Few images are kept: some of those that are looked at are not among them.
    monkeypatch.setattr(best_images, "BEST_IMAGES", 40)
    monkeypatch.setattr(best_images, "IMAGES_WITH_PREDICTIONS", 15)
    made = CASES[case]
    made.make(tmp_path)
    names = [*rows_of(0, 1)[: IMAGES - made.not_in_manifest], "unseen", "unseen too"]
    labels = [f"{number % 5}" if number % 3 == 0 else None for number in range(len(names))]
    manifest = {"image_id": names, "label": labels, "width": 640, "height": 480}
    pl.DataFrame(manifest).write_csv(tmp_path / "m.csv")
    vectors = np.random.default_rng(1).normal(size=(len(names), 4)).astype(np.float32)
    embeddings = pa.table({"image_id": names, "embedding": list(vectors)})
    pq.write_table(embeddings, tmp_path / "e.parquet")
    assert_as_copied(tmp_path, made)
