"""Predictions of real models in place: all that a pool says of them is what it says of copies."""

import json

import dagster as dg
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dagster_active_learning import RuleEvaluation
from in_place_pools import Case, assert_as_copied

NETWORKS = ("lenet5", "wideresnet", "vgg16")
DETECTORS = ("faster_rcnn_resnet50", "rfcn_resnet101", "ssd_inception_v2")
OF_OBJECTS = {"score_column": "score", "category_column": "category", "bbox_column": "bbox"}


def by_polars(columns, file):
    pl.DataFrame(columns).write_parquet(file)


def by_pandas(columns, file):
    frame = {name: list(values) for name, values in columns.items()}
    pd.DataFrame(frame).to_parquet(file)


def by_pyarrow(columns, file):
    lists = {name: list(values) for name, values in columns.items()}
    pq.write_table(pa.table(lists), file, row_group_size=1_000)


WRITERS = (by_polars, by_pandas, by_pyarrow)


def manifest(folder, ids, labels=None):
    """The images of a pool, of which every third has a label; one has no predictions."""
    labels = [None] * len(ids) if labels is None else labels
    columns = {
        "image_id": [*ids, "unseen"],
        "label": [one if row % 3 == 0 else None for row, one in enumerate([*labels, None])],
        "width": 640,
        "height": 640,
    }
    pl.DataFrame(columns).write_csv(folder / "m.csv")


def ids_of(rows):
    return [f"{row:05d}" for row in range(rows)]


EVALUATION = {"evaluation": RuleEvaluation(labels_drawn_at_random=True)}


def committee(real, folder):
    """Three networks about the same images, a file each."""
    labels = np.load(real / "cifar10_networks" / "labels.npy")
    manifest(folder, ids_of(len(labels)), labels.tolist())
    for name, write in zip(NETWORKS, WRITERS, strict=True):
        probs = np.load(real / "cifar10_networks" / f"{name}_probabilities.npy")
        write({"image_id": ids_of(len(probs)), "class_probs": probs}, folder / f"p-{name}.parquet")
    return Case(None, lambda _: {"committee": True, **EVALUATION})


def sentiments(real, folder):
    """Rows that sum to 1.00002 and reach 1.00001, of two classes."""
    labels = np.load(real / "label_errors" / "imdb_labels.npy")
    probs = np.load(real / "label_errors" / "imdb_probabilities.npy")
    ids = ids_of(len(labels))
    manifest(folder, ids, labels.tolist())
    for place, write in enumerate(WRITERS):
        part = slice(place * len(ids) // 3, (place + 1) * len(ids) // 3)
        write({"image_id": ids[part], "class_probs": probs[part]}, folder / f"p{place}.parquet")
    return Case(None, lambda _: EVALUATION)


def detections(real, folder):
    """Three detectors, a partition each."""
    truth = json.loads((real / "coco_detections" / "instances.json").read_text())
    names = {one["id"]: one["name"] for one in truth["categories"]}
    manifest(folder, [str(image["id"]) for image in truth["images"]])
    for detector, write in zip(DETECTORS, WRITERS, strict=True):
        frame = pl.read_json(real / "coco_detections" / f"{detector}_results.json")
        named = frame.select(
            pl.col("image_id").cast(pl.String),
            pl.col("category_id").replace_strict(names).alias("category"),
            "bbox",
            "score",
        )
        write(named.to_dict(as_series=False), folder / f"{detector}.parquet")
    settings = {
        "task": "detection",
        "partitions_def": dg.StaticPartitionsDefinition(list(DETECTORS)),
    }
    return Case(None, lambda _: settings, OF_OBJECTS, keys=DETECTORS)


@pytest.mark.slow
@pytest.mark.parametrize("make", [committee, detections, sentiments])
def test_a_pool_in_place_is_the_pool_of_copied_files(tmp_path, real_predictions, make):
    found = assert_as_copied(tmp_path, make(real_predictions, tmp_path))
    assert found["table quarantined_predictions"] == []
