"""Batches of predictions -> batches of image scores, against plain float64 NumPy."""

import subprocess
import sys

import numpy as np
import pyarrow as pa
import pytest

from dagster_active_learning.acquisition.batches import (
    adjacent_images,
    score_batch,
    score_predictions,
    single_images,
)
from dagster_active_learning.acquisition.schemas import image_score_schema, prediction_batch_schema
from dagster_active_learning.acquisition.validity import Validity
from dagster_active_learning.rules import Rules
from reference import ROW_SCORES, prediction_scores, uncertainties

CLASSIFICATION = [
    Rules(inputs=inputs, aggregation=aggregation)
    for inputs in ("probabilities", "logits", "independent")
    for aggregation in ("mean", "max", "min", "sum")
]
DETECTION = [
    Rules(task="detection", inputs=inputs, aggregation=aggregation, score_only=score_only)
    for inputs in ("probabilities", "independent")
    for aggregation in ("mean", "max", "min", "sum")
    for score_only in (None, "binary")
]
AGGREGATE = {"mean": np.mean, "max": np.max, "min": np.min, "sum": np.sum}


def batch_of(rules, n_predictions=60, *, ids=None, value_type=None):
    """Predictions of images in any order; a third of the objects have no class probabilities."""
    random = np.random.default_rng(n_predictions)
    if rules.inputs == "independent":
        rows = random.random((n_predictions, 4))
    else:
        rows = random.dirichlet(np.full(4, 0.5), n_predictions)
    lists, scores = rows.tolist(), random.random(n_predictions).tolist()
    if rules.objects:
        lists = [None if row % 3 == 1 else values for row, values in enumerate(lists)]
        scores = [None if row % 3 == 2 else score for row, score in enumerate(scores)]
    ids = ids or [f"image{number}" for number in random.integers(0, 12, n_predictions)]
    schema = prediction_batch_schema(value_type or pa.float64())
    return pa.record_batch([pa.array(ids), lists, scores], schema=schema)


def reference_scores(batch, rules):
    """The scores of each prediction by function, NaN where there is none."""
    scores = {name: [] for name in ROW_SCORES}
    for row in batch.to_pylist():
        class_probs, given = row["class_probs"], row["score"]
        if class_probs is None and rules.score_only == "binary":
            of_row = prediction_scores([[given, 1 - given]])
        elif class_probs is None:
            of_row = {}
        else:
            of_row = prediction_scores([class_probs])
            if rules.inputs == "independent":
                pairs = prediction_scores([[p, 1 - p] for p in class_probs])
                of_row["entropy"] = [pairs["entropy"].sum()]
        if not rules.objects:
            of_row.pop("mean_object_score")
        elif given is not None:
            of_row["mean_object_score"] = [given]
        if rules.aggregation == "sum":
            n_classes = 2 if class_probs is None else len(class_probs)
            independent = rules.inputs == "independent" and class_probs is not None
            of_row = {
                name: [uncertainties(name, values[0], n_classes, independent=independent)]
                for name, values in of_row.items()
            }
        for name in ROW_SCORES:
            scores[name].append(of_row.get(name, [np.nan])[0])
    return scores


def assert_scores(images, batch, rules):
    ids = batch.column("image_id").to_pylist()
    expected = reference_scores(batch, rules)
    assert images.schema == image_score_schema()
    for row in images.to_pylist():
        members = [place for place, image_id in enumerate(ids) if image_id == row["image_id"]]
        assert row["prediction_count"] == len(members)
        for name in ROW_SCORES:
            score = AGGREGATE[rules.aggregation]([expected[name][place] for place in members])
            if np.isnan(score):
                assert row[name] is None
            else:
                assert row[name] == pytest.approx(score, abs=1e-12)


@pytest.mark.parametrize("rules", [*CLASSIFICATION, *DETECTION], ids=str)
def test_images_anywhere_in_a_batch(rules):
    batch = batch_of(rules)
    images = score_batch(batch, rules)
    assert_scores(images, batch, rules)
    ids = batch.column("image_id").to_pylist()
    assert images.column("image_id").to_pylist() == list(dict.fromkeys(ids))


@pytest.mark.parametrize("rules", [*CLASSIFICATION, *DETECTION], ids=str)
@pytest.mark.parametrize("batch_rows", [1, 7, 20])
def test_images_across_the_ends_of_batches_have_the_same_bits(rules, batch_rows):
    ids = [f"image{row // 4}" for row in range(17)] + ["alone", "last", "last"]
    whole = batch_of(rules, len(ids), ids=ids)
    parts = [whole.slice(start, batch_rows) for start in range(0, len(ids), batch_rows)]
    scored = (score_predictions(part, rules) for part in [whole[:0], *parts, whole[:0]])
    images = pa.Table.from_batches(list(adjacent_images(scored, rules)))
    assert images.combine_chunks().to_batches() == [score_batch(whole, rules)]


@pytest.mark.parametrize("rules", [*CLASSIFICATION, *DETECTION], ids=str)
def test_images_of_one_prediction_each(rules):
    batch = batch_of(rules, ids=[f"image{row}" for row in range(60)])
    assert single_images(score_predictions(batch, rules)) == score_batch(batch, rules)


def test_no_predictions_are_no_images():
    rules = Rules()
    assert score_batch(batch_of(rules)[:0], rules).num_rows == 0
    assert list(adjacent_images([], rules)) == []
    assert list(adjacent_images([score_predictions(batch_of(rules)[:0], rules)], rules)) == []


def test_many_predictions_of_an_image_beyond_the_cache():
    rules = Rules()
    batch = batch_of(rules, 70_000, ids=["a", "b"] * 35_000, value_type=pa.float32())
    margins = prediction_scores(batch.column("class_probs").to_pylist())["margin"]
    scores = score_batch(batch, rules).column("margin").to_pylist()
    assert scores == pytest.approx([margins[::2].mean(), margins[1::2].mean()], abs=1e-6)


INVALID = {
    Validity.NOT_FINITE: [0.5, np.nan, 0.5],
    Validity.NEGATIVE: [-0.5, 1.0, 0.5],
    Validity.ABOVE_ONE: [1.5, 0.0, 0.0],
    Validity.WRONG_SUM: [0.5, 0.0, 0.0],
}


@pytest.mark.parametrize("rules", [Rules(), Rules(task="detection")], ids=str)
@pytest.mark.parametrize("reason", INVALID, ids=lambda reason: reason.name)
def test_scores_and_validity_come_together(rules, reason):
    lists = [[0.5, 0.25, 0.25], INVALID[reason], [0.0, 0.0, 1.0]]
    columns = [pa.array(list("abc")), lists, [None, None, 0.25]]
    batch = pa.record_batch(columns, schema=prediction_batch_schema(pa.float32()))
    scored = score_predictions(batch, rules)
    assert scored.validity.tolist() == [Validity.VALID, reason, Validity.VALID]
    np.testing.assert_array_equal(scored.under("margin"), [0.25, np.nan, 1.0])
    assert single_images(scored).column("margin").to_pylist() == [0.25, None, 1.0]
    with pytest.raises(ValueError, match=r"class_probs: row 1 is \[.*\].*; expected"):
        score_batch(batch, rules)


def test_an_id_that_is_null_is_an_error():
    batch = batch_of(Rules(), 2, ids=["a", None])
    with pytest.raises(ValueError, match="image_ids: row 1 is null"):
        score_batch(batch, Rules())


def test_another_engine_needs_neither_a_database_nor_polars():
    code = (
        "import sys\nfrom dagster_active_learning.acquisition.batches import score_batch\n"
        "print([name for name in ('duckdb', 'polars', 'dagster') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
