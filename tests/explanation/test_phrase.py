"""Reasons in words: what a person reads about a candidate."""

import polars as pl
import pytest

from dagster_active_learning import ACQUISITION_FUNCTIONS
from dagster_active_learning.explanation.phrase import candidate_reason
from dagster_active_learning.rules import Rules

OBJECTS = Rules(task="detection")
BINARY = Rules(task="detection", score_only="binary")
CLASSES = ["cat", "dog", "cow"]


def predicted(*rows):
    """Predictions of (class_probs, score, category)."""
    schema = {
        "class_probs": pl.List(pl.Float32),
        "score": pl.Float64,
        "category": pl.String,
        "bbox": pl.List(pl.Float64),
    }
    return pl.DataFrame([(*row, None) for row in rows], schema=schema, orient="row")


UNSURE, SURE = [0.25, 0.34, 0.41], [0.02, 0.9, 0.08]


@pytest.mark.parametrize(
    ("function", "predictions", "rules", "words"),
    [
        ("margin", predicted((UNSURE, None, None)), Rules(), "cow vs dog: 0.41 / 0.34"),
        ("entropy", predicted((UNSURE, None, None)), Rules(), "cow vs dog vs cat: 0.41 / 0.34 / 0.25"),
        ("variance", predicted((SURE, None, None)), Rules(), "dog vs cow vs cat: 0.90 / 0.08 / 0.02"),
        ("least_confidence", predicted((UNSURE, None, None)), Rules(), "no class above 0.41 (cow)"),
        ("margin", predicted((SURE, None, None), (UNSURE, None, None)), Rules(), "worst of 2 predictions: cow vs dog: 0.41 / 0.34"),
        ("margin", predicted((SURE, None, None), (UNSURE, None, None)), Rules(committee=True), "mean of 2 predictions: dog vs cow: 0.62 / 0.24"),
        ("entropy", predicted((UNSURE, None, None)), Rules(committee=True), "cow vs dog vs cat: 0.41 / 0.34 / 0.25"),
        ("margin", None, Rules(committee=True), "no predictions"),
        ("vote_entropy", predicted((SURE, None, None), (UNSURE, None, None), (SURE, None, None)), Rules(committee=True), "votes of 3 predictions: dog 2, cow 1"),
        ("mutual_information", predicted((UNSURE, None, None)), Rules(committee=True), "cow 1"),
        ("vote_entropy", predicted(([0.6, 0.7, 0.1], None, None), ([0.1, 0.55, 0.4], None, None)), Rules(committee=True, inputs="independent"), "votes of 2 predictions: dog 2, cat 1"),
        ("vote_entropy", predicted(([0.1, 0.4, 0.1], None, None)), Rules(committee=True, inputs="independent"), "for no class"),
        ("margin", None, Rules(), "no predictions"),
        ("entropy", predicted(([0.1, 0.55, 0.4], None, None)), Rules(inputs="independent"), "undecided: dog 0.55, cow 0.40"),
        ("margin", None, OBJECTS, "no objects"),
        ("mean_object_score", None, OBJECTS, "no objects"),
        ("mean_object_score", predicted((None, 0.31, "car")), OBJECTS, "only object: car 0.31"),
        ("mean_object_score", predicted((None, 0.31, None)), OBJECTS, "only object: 0.31"),
        ("mean_object_score", predicted((None, 0.8, "bus"), (None, 0.31, "car"), (SURE, None, None)), OBJECTS, "worst of 3 objects: car 0.31"),
        ("mean_object_score", predicted((SURE, None, None), (UNSURE, None, None)), OBJECTS, "worst of 2 objects: cow 0.41"),
        ("mean_object_score", predicted((UNSURE, 0.7, None), (SURE, 0.6, None)), OBJECTS, "worst of 2 objects: dog 0.60"),
        ("margin", predicted((SURE, 0.2, None), (UNSURE, 0.9, None)), OBJECTS, "worst of 2 objects: cow vs dog: 0.41 / 0.34"),
        ("margin", predicted((None, 0.9, "car"), (None, 0.55, "bus")), BINARY, "worst of 2 objects: bus vs not bus: 0.55 / 0.45"),
        ("entropy", predicted((None, 0.55, None)), BINARY, "only object: object vs not object: 0.55 / 0.45"),
    ],
)  # fmt: skip
def test_the_reason_is_about_what_the_function_found(function, predictions, rules, words):
    reason = candidate_reason(
        ACQUISITION_FUNCTIONS[function],
        predictions,
        class_names=CLASSES,
        rules=rules,
        has_quarantined=False,
    )
    assert reason == words


@pytest.mark.parametrize("rules", [Rules(), OBJECTS])
def test_rows_in_quarantine_are_not_rows_that_are_not_there(rules):
    margin = ACQUISITION_FUNCTIONS["margin"]
    reason = candidate_reason(margin, None, class_names=[], rules=rules, has_quarantined=True)
    assert reason == "all its rows are in quarantine"


def test_a_reason_says_of_how_many_objects_it_knows():
    margin = ACQUISITION_FUNCTIONS["margin"]
    frame = pl.DataFrame(
        {"class_probs": [[0.9, 0.1], [0.6, 0.4]], "prediction_count": [200_000, 200_000]}
    ).with_columns(score=pl.lit(None, pl.Float64), category=pl.lit(None, pl.String))
    options = {"class_names": ["a", "b"], "rules": Rules(task="detection")}
    reason = candidate_reason(margin, frame, has_quarantined=False, **options)
    assert reason == "worst of the first 2 of 200,000 objects: a vs b: 0.60 / 0.40"
