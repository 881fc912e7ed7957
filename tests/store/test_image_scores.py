"""Scores as the database counts them, against NumPy."""

import numpy as np
import pyarrow as pa
import pytest

from dagster_active_learning.acquisition.schemas import image_score_schema
from dagster_active_learning.store.image_scores import replace_image_scores, score_bins
from dagster_active_learning.store.prediction_sets import prediction_set
from pools import column, in_memory, ingest

NAMES = ["entropy", "least_confidence", "margin", "variance"]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("bins", [1, 60])
def test_bins_are_those_of_numpy(filled, name, bins):
    scores = column(filled, f"SELECT {name} FROM image_scores WHERE {name} IS NOT NULL")
    found = score_bins(filled, "set", name, bins)
    assert found is not None
    counts, edges = np.histogram(scores, bins)
    np.testing.assert_array_equal(found.counts, counts)
    np.testing.assert_allclose(found.edges, edges)


@pytest.mark.parametrize("scores", [[0.5], [0.5, np.nextafter(0.5, 1)], [0.0, 0.0]])
def test_scores_that_are_all_the_same_are_in_one_bin(store, scores):
    ingest(store, in_memory(pa.table({"image_id": ["a"], "class_probs": [[0.5, 0.5]]})))
    rows = [
        {"image_id": str(number), "prediction_count": 1, "entropy": score}
        for number, score in enumerate(scores)
    ]
    batch = pa.RecordBatch.from_pylist(rows, image_score_schema())
    replace_image_scores(store, prediction_set(store, "set").tables, [batch])
    found = score_bins(store, "set", "entropy", 60)
    assert found is not None
    assert found.counts.sum() == found.counts.max() == len(scores)
    assert (np.diff(found.edges) > 0).all()


def test_no_scores_are_no_bins(filled):
    assert score_bins(filled, "set", "mean_object_score", 60) is None
    assert score_bins(filled, "other", "margin", 60) is None
