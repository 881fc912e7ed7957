"""Rows that are no predictions: the reasons, and their places among the rows that are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

import pyarrow as pa

from dagster_active_learning.readers.stream import prediction_batch
from dagster_active_learning.text import raw_text


class Reason(StrEnum):
    """One phrase per kind of fault, so that the table can be grouped; ``raw`` has the value."""

    UNREADABLE_LINE = "the line is not a JSON object"
    WRONG_FIELD_COUNT = "the row has not as many fields as the header"
    IMAGE_ID_NULL = "image_id is null"
    IMAGE_ID_NOT_TEXT = "image_id is neither text nor an integer"
    IMAGE_ID_NOT_UTF8 = "image_id is not UTF-8 text"
    CLASS_PROBS_NULL = "class_probs is null"
    CLASS_PROBS_EMPTY = "class_probs is empty"
    CLASS_PROBS_NOT_LIST = "class_probs is not a list"
    PROBABILITY_NULL = "a class probability is null"
    PROBABILITY_NOT_NUMBER = "a class probability is not a number"
    LATE_CLASS = "the row has a class that is not in the first 1,000 lines"
    TOO_FEW_CLASSES = "class_probs has 1 class, expected at least 2, or single_probability"
    OTHER_CLASS_COUNT = "class_probs has another number of classes than the prediction set"
    OTHER_CLASS_NAMES = "class_probs has other names of classes than the prediction set"
    NAN = "a class probability is NaN"
    INFINITE = "a class probability is infinite"
    NEGATIVE = "a class probability is negative"
    ABOVE_ONE = "a class probability is above 1"
    WRONG_SUM = "the class probabilities do not sum to 1"
    SCORE_NULL = "the score is null"
    SCORE_NOT_NUMBER = "the score is not a number"
    SCORE_NOT_FINITE = "the score is NaN or infinite"
    SCORE_OUT_OF_RANGE = "the score is not in 0..1: score_transform declares another scale"
    BBOX_NOT_FOUR_NUMBERS = "the box is not four finite numbers"
    BBOX_NEGATIVE = "the width or height of the box is negative"
    NO_OBJECT = "the row is not a JSON object"
    NO_LIST_OF_OBJECTS = "the image is not a list of objects"
    UNREADABLE_OBJECT = "the line has not the fields of an object"
    NOT_OBJECT_LISTS = "a column of the image's objects is not a list"
    NO_OBJECT_LISTS = "the image has neither scores nor class probabilities of its objects"
    OTHER_LIST_LENGTH = "the lists of the image's objects differ in length"
    NO_TRACK_ID = "the field behind the confidence is no whole number, as a track id is"
    UNKNOWN_IMAGE = "the image is not in the instances file"
    AMBIGUOUS_IMAGE = "image_id may be two images: the id, name or stem of both"
    UNKNOWN_CATEGORY = "the category is not known"
    MODEL_FAILED = "the model failed on the image"
    NOT_IN_MANIFEST = "image_id is not in the pool's manifest"


def key_fault(row: Mapping[str, object], key: str) -> str:
    """The reason why a JSON object is no prediction: one of its keys, one phrase for each."""
    if key not in row:
        return f"the object has no key {key!r}"
    return f"the value of the key {key!r} is of the wrong type"


@dataclass(frozen=True, slots=True)
class RejectedRow:
    """A row that is no prediction: its position in the source (from 1), the reason, its text."""

    row_number: int
    reason: str
    raw: str
    image_id: str | None = None


def with_rejected(batch: pa.RecordBatch, rejected: Sequence[RejectedRow]) -> pa.RecordBatch:
    """The rows of a batch and the rejected ones, in the order of their numbers."""
    if not rejected:
        return batch
    refused = prediction_batch(
        len(rejected),
        image_id=pa.array([row.image_id for row in rejected], pa.string()),
        class_probs=pa.nulls(len(rejected), batch.column("class_probs").type),
        row_number=pa.array([row.row_number for row in rejected], pa.int64()),
        reason=pa.array([row.reason for row in rejected], pa.string()),
        raw=pa.array([raw_text(row.raw) for row in rejected], pa.string()),
    )
    return in_order([batch, refused])


def in_order(batches: Sequence[pa.RecordBatch]) -> pa.RecordBatch:
    """The rows of some batches as one, in the order of their numbers."""
    table = pa.Table.from_batches(batches).sort_by("row_number")
    return table.combine_chunks().to_batches()[0]
