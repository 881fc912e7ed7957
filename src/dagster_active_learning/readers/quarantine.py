"""Why a row cannot be scored: the words of ``quarantined_predictions.reason``."""

from __future__ import annotations

from enum import StrEnum


class Reason(StrEnum):
    """One phrase a kind of fault, so that the table can be grouped by it; ``raw`` has the value."""

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
    TOO_FEW_CLASSES = "class_probs has 1 class, expected at least 2"
    OTHER_CLASS_COUNT = "class_probs has another number of classes than the prediction set"
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
    UNREADABLE_OBJECT = "the object lacks a key or has a value of the wrong type"
    UNKNOWN_IMAGE = "the image is not in the instances file"
    UNKNOWN_CATEGORY = "the category is not known"
    MODEL_FAILED = "the model failed on the image"
    NOT_IN_MANIFEST = "image_id is not in the pool's manifest"
