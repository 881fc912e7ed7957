"""The labels of a pool as files that training reads.

A manifest has the images that have their label, with the columns that the pool's own manifest may
have. A COCO file has the objects that people see in images; images without any are in it too.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

from dagster_active_learning.exporters import coco, csv, parquet
from dagster_active_learning.exporters.labeling_images import LabelingImage, PredictedObject
from dagster_active_learning.exporters.masks import is_run_lengths
from dagster_active_learning.store.images import labeled_images
from dagster_active_learning.store.labels import label_rows
from dagster_active_learning.store.pool_store import PoolStore
from dagster_active_learning.store.prediction_sets import known_class_names


def write_csv(store: PoolStore, path: Path) -> int:
    """Write the labeled images to a new CSV file and count them."""
    return csv.write_rows(labeled_images(store), path)


def write_parquet(store: PoolStore, path: Path) -> int:
    """Write the labeled images to a new Parquet file and count them."""
    return parquet.write_rows(labeled_images(store), path)


def write_coco(store: PoolStore, path: Path) -> int:
    """Write the images with labels of objects to a new COCO file and count them."""
    rows = label_rows(store)
    categories = {row["category"]: None for row in rows if row["category"] is not None}
    return coco.write_images(
        lambda: _images(rows),
        path,
        # A class that models had once, too.
        class_names=[*(dict.fromkeys(known_class_names(store)) | categories)],
        bbox_unit="pixel",
    )


def _images(rows: list[dict[str, Any]]) -> Iterator[LabelingImage]:
    for _, group in groupby(rows, lambda row: row["image_id"]):
        of_image = list(group)
        objects = [_object(row) for row in of_image if row["bbox"] is not None]
        yield LabelingImage(of_image[0], None, None, objects)


def _object(row: dict[str, Any]) -> PredictedObject:
    mask: Any = [] if row["segmentation"] is None else json.loads(row["segmentation"])
    run_lengths, polygons = (mask, []) if is_run_lengths(mask) else (None, mask)
    return PredictedObject(row["category"], None, row["bbox"], polygons, run_lengths)
