"""Objects in CSV files as Open Images has them, plain or compressed as their suffix says."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa

from dagster_active_learning.readers import csv
from dagster_active_learning.readers.options import ObjectOptions, TableOptions
from dagster_active_learning.readers.stream import PredictionPart, boxes_array

NO_COLUMN = "\0"
"""A name that no column has: there are no class probabilities."""


def open_file(path: Path, options: ObjectOptions) -> PredictionPart:
    """Open one CSV file with the columns ImageID, LabelName, Conf, XMin, XMax, YMin and YMax.

    They are found by these names, in any order; other columns are not read. Boxes are relative to
    the image's size. Rows are counted from 1, without the header and blank lines. Where
    ``class_names`` are given, LabelName must be one of them.

    Raises:
        PredictionReadError: As ``csv.open_file``.
    """
    part = csv.open_file(
        path,
        TableOptions(
            image_id_column="ImageID",
            class_probs_column=NO_COLUMN,
            class_names=options.class_names,
            score_column="Conf",
            category_column="LabelName",
            bbox_columns=("XMin", "YMin", "XMax", "YMax"),
            bbox_unit="relative",
            score_transform=options.score_transform,
        ),
    )

    def batches() -> Iterator[pa.RecordBatch]:
        for batch in part.batches():
            yield _with_sizes(batch)

    return replace(part, batches=batches)


def _with_sizes(batch: pa.RecordBatch) -> pa.RecordBatch:
    """The batch with x, y, width, height for two corners."""
    corners = batch.column("bbox")
    given = corners.is_valid().to_numpy(zero_copy_only=False)
    boxes = np.full((len(corners), 4), np.nan)
    boxes[given] = np.array(corners.flatten()).reshape(-1, 4)
    boxes[:, 2:] -= boxes[:, :2]
    position = batch.schema.get_field_index("bbox")
    return batch.set_column(position, "bbox", boxes_array(boxes, given))
