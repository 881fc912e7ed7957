"""Names and types of what goes into the computation and comes out: the only contract by position.

Everywhere else rows and columns are found by their names.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dagster_active_learning.acquisition.functions import ACQUISITION_FUNCTIONS

if TYPE_CHECKING:
    import pyarrow as pa

KERNEL_ROWS: tuple[str, ...] = ("entropy", "least_confidence", "margin", "variance", "largest")
"""The rows of the fused kernel's output; ``largest``, the last, is there for objects alone."""

COMMITTEE_ROWS: tuple[str, ...] = ("mutual_information", "vote_entropy")
"""What the members of a committee give beside the functions of their mean."""


def prediction_batch_schema(value_type: pa.DataType) -> pa.Schema:
    """The columns of a batch of predictions that are read; it may have others.

    ``class_probs`` are probabilities, also where the source gave logits: ``softmax`` of them. For
    objects they may be null, where ``score``, the detector's own in 0..1, is not. Other predictions
    need no ``score``.

    Args:
        value_type: float32 or float64, the precision to score in.
    """
    import pyarrow as pa

    return pa.schema(
        [
            ("image_id", pa.string()),
            ("class_probs", pa.list_(value_type)),
            ("score", pa.float64()),
        ]
    )


def image_score_schema(image_ids: pa.DataType | None = None) -> pa.Schema:
    """The columns of a batch of image scores: those of ``image_scores`` from image_id on.

    Args:
        image_ids: The type of the ids; text if not given.
    """
    import pyarrow as pa

    return pa.schema(
        [
            ("image_id", image_ids or pa.string()),
            ("prediction_count", pa.int64()),
            *((name, pa.float64()) for name in ACQUISITION_FUNCTIONS),
        ]
    )
