"""The columns of a prediction set's tables.

Workers that score files in place need them, and no database.
"""

from __future__ import annotations

import pyarrow as pa

from dagster_active_learning.acquisition.schemas import KERNEL_ROWS

NUMBERS_BESIDE_CLASSES = 8
"""Numbers of a prediction that are no class probabilities, such as those of a box, and room."""

CLASS_POSITION = pa.field("class_position", pa.int32())
"""The position of a prediction's most probable class; null where it has no class probabilities. The
scores of images in place have it too, null where an image has several predictions."""

BOX_COUNT = "box_count"
"""A column of the scores of images in place: the number of boxes."""

BOX_REACH = ("box_left", "box_top", "box_right", "box_bottom")
"""Columns of the scores of images in place: the outermost edges of the boxes, null without any."""


def prediction_schema(value_type: pa.DataType) -> pa.Schema:
    """The columns of ``predictions`` from image_id on, with class probabilities of a precision."""
    return pa.schema(
        [
            ("image_id", pa.string()),
            ("prediction_index", pa.int64()),
            ("class_probs", pa.list_(value_type)),
            ("score", pa.float64()),
            ("category", pa.string()),
            ("bbox", pa.list_(pa.float64())),
            ("segmentation", pa.string()),
        ]
    )


def sql_type(kind: pa.DataType) -> str:
    """The type of a column of a set's tables, as DuckDB writes it."""
    if pa.types.is_list(kind):
        return f"{sql_type(kind.value_type)}[]"
    names = {
        pa.string(): "VARCHAR", pa.int64(): "BIGINT", pa.float32(): "FLOAT", pa.float64(): "DOUBLE"
    }  # fmt: skip
    return names[kind]


def score_column(row: str) -> str:
    """The column of a set's predictions with their scores, by a row of the fused kernel."""
    return f"{row}_score"


SCORE_COLUMNS = tuple(map(score_column, KERNEL_ROWS))
