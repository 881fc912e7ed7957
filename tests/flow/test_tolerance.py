"""One tolerance for all probabilities: what passes, what does not, and what is said of it."""

import numpy as np
import pyarrow as pa
import pytest

from dagster_active_learning import score_images
from dagster_active_learning.errors import PredictionReadError
from dagster_active_learning.readers.arrow import read_table
from dagster_active_learning.readers.options import TableOptions
from dagster_active_learning.rules import Rules
from pools import in_memory, ingest, rows, score

OBJECTS = TableOptions(score_column="score")


def bfloat16(values):
    """Values rounded to the 8 significant bits of bfloat16, ties to even."""
    bits = np.asarray(values, np.float32).view(np.uint32)
    rounded = bits + 0x7FFF + ((bits >> 16) & 1)
    return (rounded & 0xFFFF0000).astype(np.uint32).view(np.float32)


def objects(scores):
    table = pa.table({"image_id": [f"i{n}" for n in range(len(scores))], "score": scores})
    return read_table(table, name="table", options=OBJECTS)


def classes(class_probs):
    ids = [f"i{n}" for n in range(len(class_probs))]
    return in_memory(pa.table({"image_id": ids, "class_probs": list(class_probs)}))


@pytest.mark.parametrize(
    ("score_of_object", "tolerance", "passes"),
    [
        (1.0000001, 1e-3, True),
        (1.001, 1e-3, True),
        (-0.0009, 1e-3, True),
        (1.0011, 1e-3, False),
        (-0.0011, 1e-3, False),
        (1.01, 0.02, True),
        (1.03, 0.02, False),
    ],
)
def test_a_score_a_rounding_step_outside_is_legal(store, score_of_object, tolerance, passes):
    rules = Rules(task="detection", sum_tolerance=tolerance)
    stored = ingest(store, objects([0.5, score_of_object]), rules=rules)
    assert (stored.prediction_count, stored.quarantined_count) == ((2, 0) if passes else (1, 1))
    if passes:
        # The surest object counts, as it is.
        assert score(store, rules=rules)["mean_object_score"].to_list() == [0.5, score_of_object]


@pytest.mark.parametrize("value", [1.0000001, 1.0005, -0.0005])
def test_score_images_takes_the_same_scores(value):
    scored = score_images(None, ["a", "b"], scores=[0.5, value])
    assert scored["mean_object_score"].to_list() == [0.5, value]
    with pytest.raises(ValueError, match=r"scores: row 1 is 1\.01"):
        score_images(None, ["a", "b"], scores=[0.5, 1.01])
    assert score_images(None, ["a"], scores=[1.01], sum_tolerance=0.02).height == 1


def test_low_precision_passes_where_it_is_declared(store):
    class_probs = bfloat16(np.random.default_rng(0).dirichlet(np.ones(10), 2_000))
    off = np.abs(class_probs.astype(np.float64).sum(axis=1) - 1)
    assert 0.1 < (off > 1e-3).mean() < 0.6, "the rows that are refused without it"
    reports = []
    stored = ingest(store, classes(class_probs), report=reports.append)
    assert stored.quarantined_count == (off > 1e-3).sum()
    (advice,) = [text for text in reports if "sum_tolerance" in text]
    assert f"off by up to {off.max():.4g}, 0.001 is allowed" in advice
    rules = Rules(sum_tolerance=0.02)
    stored = ingest(store, classes(class_probs), rules=rules)
    assert (stored.prediction_count, stored.quarantined_count) == (2_000, 0)
    # Never renormalised, and scored under the same rule.
    assert rows(store, "SELECT max(abs(list_sum(class_probs) - 1)) FROM predictions")[0][0] > 1e-3
    ordered = np.sort(class_probs, axis=1)
    expected = ordered[:, -1].astype(np.float64) - ordered[:, -2]
    scores = score(store, rules=rules).sort("image_id")
    by_id = dict(zip(scores["image_id"], scores["margin"], strict=True))
    assert [by_id[f"i{n}"] for n in range(2_000)] == pytest.approx(expected, abs=1e-6)
    assert rows(store, "SELECT sum_tolerance FROM prediction_sets") == [(0.02,)]


def test_an_error_names_the_largest_deviation_and_the_option(store):
    class_probs = [[0.5, 0.48], [0.5, 0.4875], [-0.25, 1.25]]
    with pytest.raises(PredictionReadError) as error:
        ingest(store, classes(class_probs))
    assert "off by up to 0.25, 0.001 is allowed (sum_tolerance)" in str(error.value)


@pytest.mark.parametrize("inputs", ["independent", "logits"])
def test_sums_are_free_where_the_inputs_say_so(store, inputs):
    reports = []
    ingest(store, classes([[0.9, 0.9]]), rules=Rules(inputs=inputs), report=reports.append)
    assert not [text for text in reports if "sum_tolerance" in text]


@pytest.mark.parametrize("tolerance", [0, -1, 0.6, float("nan"), "0.1", True, None])
def test_a_tolerance_that_is_none_is_refused(tolerance):
    with pytest.raises(ValueError, match="^sum_tolerance is .*, expected a number above 0"):
        Rules(sum_tolerance=tolerance)
