"""Scores as the database counts them, against NumPy."""

import numpy as np
import polars as pl
import pyarrow as pa
import pytest

from dagster_active_learning.acquisition.schemas import image_score_schema
from dagster_active_learning.rules import Rules
from dagster_active_learning.store.image_scores import replace_image_scores
from dagster_active_learning.store.images import replace_images
from dagster_active_learning.store.prediction_sets import prediction_set
from dagster_active_learning.store.score_bins import score_bins
from pools import column, in_memory, ingest, score
from reference import prediction_scores

NAMES = ["entropy", "least_confidence", "margin", "variance"]


@pytest.mark.parametrize("name", NAMES)
def test_bins_are_those_of_numpy(filled, name):
    scores = column(filled, f"SELECT {name} FROM image_scores WHERE {name} IS NOT NULL")
    found = score_bins(filled, "set", NAMES, Rules())[name]
    counts, _ = np.histogram(scores, found.edges)
    np.testing.assert_array_equal(found.counts, counts)
    assert counts.sum() == len(scores)
    assert 31 <= counts.size <= 60


@pytest.mark.parametrize("scores", [[0.5], [0.5, np.nextafter(0.5, 1)], [0.0, 0.0]])
def test_scores_that_are_all_the_same_are_in_one_bin(store, scores):
    ingest(store, in_memory(pa.table({"image_id": ["a"], "class_probs": [[0.5, 0.5]]})))
    rows = [
        {"image_id": str(number), "prediction_count": 1, "entropy": score}
        for number, score in enumerate(scores)
    ]
    batch = pa.RecordBatch.from_pylist(rows, image_score_schema())
    replace_image_scores(store, prediction_set(store, "set").tables, [batch])
    found = score_bins(store, "set", ["entropy"], Rules())["entropy"]
    assert found.counts.sum() == found.counts.max() == len(scores)
    assert (np.diff(found.edges) > 0).all()


def test_no_scores_are_no_bins(filled):
    found = score_bins(filled, "set", ["mean_object_score", "margin"], Rules())
    assert list(found) == ["margin"]
    assert score_bins(filled, "other", ["margin"], Rules()) == {}


def test_bins_count_only_images_that_can_be_chosen(store):
    """Neither labeled ones nor those that the manifest does not have."""
    random = np.random.default_rng(0)
    class_probs = random.dirichlet(np.ones(3), 300)
    ids = [f"image{row}" for row in range(300)]
    ingest(store, in_memory(pa.table({"image_id": ids, "class_probs": list(class_probs)})))
    score(store)
    labeled = random.random(250) < 0.4
    manifest = pl.DataFrame({"image_id": ids[:250], "labeled": labeled}).with_columns(
        pl.lit(None, pl.String).alias("uri"),
        pl.lit(None, pl.Int32).alias("width"),
        pl.lit(None, pl.Int32).alias("height"),
        pl.lit(None, pl.String).alias("label"),
    )
    replace_images(store, manifest.to_arrow())
    found = score_bins(store, "set", NAMES, Rules(in_manifest=True))
    for name in NAMES:
        scores = np.asarray(prediction_scores(class_probs)[name])
        edges = found[name].edges
        counts, _ = np.histogram(scores[:250][~labeled], edges)
        # They are those of all images, as the picture of another ranking of them has them.
        assert edges[0] <= scores.min() < edges[1]
        assert edges[-2] < scores.max() <= edges[-1]
        np.testing.assert_array_equal(found[name].counts, counts)
