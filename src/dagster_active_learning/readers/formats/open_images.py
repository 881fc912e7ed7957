"""Objects in CSV files as Open Images has them, plain or compressed as their suffix says."""

from __future__ import annotations

from pathlib import Path

from dagster_active_learning.errors import PredictionReadError
from dagster_active_learning.readers.formats import csv
from dagster_active_learning.readers.options import FixedColumns, ObjectOptions
from dagster_active_learning.readers.stream import PredictionPart

SCORE_COLUMNS = ("Conf", "Confidence", "Score")
"""The score, in the dataset's validation tables, its annotations and its challenge's evaluation."""

NO_COLUMN = "\0"
"""A name that no column has: there are no class probabilities."""


def open_file(path: Path, options: ObjectOptions) -> PredictionPart:
    """Open one CSV file with the columns ImageID, LabelName, Conf, XMin, XMax, YMin and YMax.

    The score may also be called Confidence or Score. Columns are found by these names, in any
    order; other columns are not read. Boxes are relative to the image's size. Rows are counted from
    1, without the header and blank lines. Where ``class_names`` are given, LabelName must be one of
    them.

    Raises:
        PredictionReadError: As ``csv.open_file``.
    """
    names = csv.column_names(path)
    score_columns = [name for name in SCORE_COLUMNS if name in names]
    if len(score_columns) > 1:
        raise PredictionReadError(
            f"{path} has the columns {' and '.join(map(repr, score_columns))}: expected one of "
            "them, the score"
        )
    return csv.open_file(
        path,
        FixedColumns(
            image_id_column="ImageID",
            class_probs_column=NO_COLUMN,
            class_names=options.class_names,
            score_column=(score_columns or SCORE_COLUMNS)[0],
            category_column="LabelName",
            bbox_columns=("XMin", "YMin", "XMax", "YMax"),
            box="xyxy",
            bbox_unit="relative",
            score_transform=options.score_transform,
        ),
    )
