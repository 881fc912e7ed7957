"""Objects of every format: their scores as probabilities, and scores that are none."""

import json
import math

import numpy as np
import pytest

from dagster_active_learning import read_predictions
from dagster_active_learning.readers.objects import DetectedObject, object_part, transform_scores
from dagster_active_learning.readers.options import ObjectOptions
from dagster_active_learning.readers.quarantine import Reason

TRANSFORMS = [None, "sigmoid", "percent"]
# A score and what it is under each of the transforms.
FINITE = [
    (0.0, 0.0, 0.5, 0.0),
    (1.0, 1.0, 1 / (1 + math.exp(-1)), 0.01),
    (97.85, 97.85, 1.0, 0.9785),
    (-2.5, -2.5, 1 / (1 + math.exp(2.5)), -0.025),
    (-1e308, -1e308, 0.0, -1e306),
    (1e308, 1e308, 1.0, 1e306),
]


@pytest.mark.parametrize("position", range(3))
def test_finite_scores_become_what_is_declared(position):
    found = transform_scores(np.array([row[0] for row in FINITE]), TRANSFORMS[position])
    assert found.tolist() == pytest.approx([row[position + 1] for row in FINITE], rel=1e-12)


@pytest.mark.parametrize("transform", TRANSFORMS)
@pytest.mark.parametrize("score", [math.inf, -math.inf, math.nan])
@pytest.mark.parametrize("class_probs", [None, [0.5, 0.5]])
def test_a_score_that_is_not_finite_is_no_score_whatever_the_scale(transform, score, class_probs):
    objects = [
        DetectedObject(row_number=row, image_id="a", score=one, class_probs=class_probs)
        for row, one in enumerate((0.5, score, 0.25), start=1)
    ]
    part = object_part(
        "file",
        lambda: objects,
        ObjectOptions(score_transform=transform),
        class_names=None,
        bbox_unit=None,
        sha256=str,
    )
    rows = [row for batch in part.batches() for row in batch.to_pylist()]
    assert [row["reason"] for row in rows] == [None, Reason.SCORE_NOT_FINITE, None]
    assert [math.isfinite(row["score"]) for row in rows] == [True, False, True]
    assert rows[1]["raw"]


def test_a_number_too_large_for_a_score_is_not_finite(tmp_path):
    (tmp_path / "schema.json").write_text(json.dumps({"categories": [{"id": 0, "name": "cat"}]}))
    prediction = '{"category_id": 0, "bbox": [1, 2, 3, 4], "score": %s}'
    predictions = ", ".join(prediction % score for score in ("1e400", "-1e400", "0"))
    (tmp_path / "a.json").write_text(f'{{"file_name": "a", "predictions": [{predictions}]}}')
    stream = read_predictions(tmp_path, format="lightly", score_transform="sigmoid")
    rows = [row for batch in stream for row in batch.to_pylist()]
    assert [row["reason"] for row in rows] == [Reason.SCORE_NOT_FINITE] * 2 + [None]
    assert rows[2]["score"] == 0.5
