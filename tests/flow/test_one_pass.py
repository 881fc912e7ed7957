"""Scores that are computed while predictions are read are those of the predictions, bit for bit."""

import numpy as np
import polars as pl
import pytest

from dagster_active_learning import read_predictions
from dagster_active_learning.rules import Rules
from dagster_active_learning.store.images import replace_images
from dagster_active_learning.store.scorings import scoring_problem
from pools import ingest, rows, score
from ranked_pools import manifest
from reference import ROW_SCORES, prediction_scores

SCORES = "SELECT * FROM image_scores ORDER BY image_id"

RULES = {
    "classification": Rules(),
    "logits": Rules(inputs="logits"),
    "independent": Rules(inputs="independent"),
    "a committee": Rules(committee=True),
    "detection": Rules(task="detection"),
    "the largest of objects": Rules(task="detection", aggregation="max"),
    "lone scores are binary": Rules(task="detection", score_only="binary"),
}


def write(path, rules, *, images, lone=0, broken=()):
    """Predictions of random class probabilities, 3 classes; some have a score alone."""
    random = np.random.default_rng(7)
    n_rows = len(images)
    class_probs = random.dirichlet([0.4] * 3, n_rows).astype(np.float32)
    if rules.inputs == "logits":
        class_probs = np.log(class_probs + 1e-3)
    lists: list[list[float] | None] = class_probs.tolist()
    for row in broken:
        lists[row] = [2.0, 2.0, 2.0] if rules.inputs != "logits" else [np.nan] * 3
    columns: dict[str, pl.Series] = {"image_id": pl.Series(images)}
    if rules.objects:
        scores: list[float | None] = random.uniform(0, 1, n_rows).tolist()
        for row in range(0, n_rows, 3):
            scores[row] = None
        for row in range(1, 1 + 3 * lone, 3):
            lists[row] = None
        columns["score"] = pl.Series(scores, dtype=pl.Float64)
    columns["class_probs"] = pl.Series(lists, dtype=pl.List(pl.Float32))
    pl.DataFrame(columns).write_parquet(path)
    return path


def read(path, rules):
    options = {"score_column": "score"} if rules.objects else {}
    return read_predictions(path, format="parquet", **options)


def apart(n_rows):
    return [f"image{row}" for row in range(n_rows)]


def crowded(n_rows):
    return [f"image{row % 4}" for row in range(n_rows)]


@pytest.mark.parametrize("images", [apart, crowded])
@pytest.mark.parametrize("broken", [(), (0, 5)])
@pytest.mark.parametrize("kind", RULES)
def test_scores_beside_predictions_are_those_of_the_predictions(
    store, tmp_path, kind, images, broken
):
    rules = RULES[kind]
    path = write(tmp_path / "p.parquet", rules, images=images(20), lone=2, broken=broken)
    ingest(store, read(path, rules), rules=rules)
    score(store, rules=rules)
    in_one_pass = rows(store, SCORES)
    assert len(in_one_pass) == (4 if images is crowded else 20 - len(broken))
    # Once more, from what is stored.
    score(store, batch_rows=7, rules=rules)
    assert rows(store, SCORES) == in_one_pass


@pytest.mark.parametrize("kind", ["classification", "logits", "independent"])
@pytest.mark.parametrize("broken", [(), (0, 5)])
def test_predictions_are_not_read_again_to_score_them(store, tmp_path, kind, broken, monkeypatch):
    rules = RULES[kind]
    path = write(tmp_path / "p.parquet", rules, images=apart(20), broken=broken)
    ingest(store, read(path, rules), rules=rules)
    assert scoring_problem(store, "set", rules) is not None, "the images are not scored yet"
    monkeypatch.setattr("dagster_active_learning.flow.score.predictions_by_image", None)
    score(store, rules=rules)
    assert scoring_problem(store, "set", rules) is None
    stored = rows(store, "SELECT image_id, class_probs FROM predictions ORDER BY image_id")
    expected = prediction_scores(np.array([class_probs for _, class_probs in stored], np.float64))
    names = [name for name in ROW_SCORES if name != "mean_object_score"]
    scores = rows(store, f"SELECT image_id, {', '.join(names)} FROM image_scores ORDER BY image_id")
    assert [image_id for image_id, *_ in scores] == [image_id for image_id, _ in stored]
    for place, name in enumerate(names, start=1):
        if kind != "independent" or name != "entropy":
            found = np.array([row[place] for row in scores])
            np.testing.assert_allclose(found, expected[name], rtol=0, atol=1e-6)


def test_scores_of_the_reading_are_not_those_of_a_sum(store, tmp_path):
    path = write(tmp_path / "p.parquet", Rules(), images=apart(20))
    ingest(store, read(path, Rules()))
    score(store, rules=Rules(aggregation="sum"))
    of_sum = rows(store, SCORES)
    score(store, rules=Rules(aggregation="sum"))
    assert rows(store, SCORES) == of_sum


def test_images_that_the_manifest_lacks_have_no_scores(store, tmp_path):
    path = write(tmp_path / "p.parquet", Rules(), images=apart(20))
    replace_images(store, manifest(apart(5)))
    ingest(store, read(path, Rules()), in_manifest=True)
    score(store, in_manifest=True)
    assert rows(store, "SELECT image_id FROM image_scores ORDER BY 1") == [
        (image_id,) for image_id in apart(5)
    ]
