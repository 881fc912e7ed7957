"""Predictions of a set as the database counts and finds them, against NumPy."""

from collections import Counter

import numpy as np
import pyarrow as pa

from dagster_active_learning.store.predictions import predictions_by_class, predictions_of_first
from pools import column, in_memory, ingest, rank, score


def test_predictions_are_counted_by_their_most_probable_class_or_their_category(filled):
    class_probs = np.array(column(filled, "SELECT class_probs FROM predictions"))
    expected = Counter(str(one) for one in class_probs.argmax(axis=1))
    assert dict(predictions_by_class(filled, "set")) == expected
    filled.connection.execute("UPDATE predictions SET category = 'x' WHERE image_id = 'image0'")
    assert dict(predictions_by_class(filled, "set"))["x"] == 1


def test_what_is_said_about_the_first_candidates(filled):
    first = column(
        filled,
        "SELECT image_id FROM labeling_candidates WHERE rank <= 3 AND acquisition_function IN ('margin', 'entropy')",
    )
    found = predictions_of_first(filled, "set", ["margin", "entropy"], 3)
    assert found.keys() == set(first)
    for image_id, frame in found.items():
        expected = column(
            filled, f"SELECT class_probs FROM predictions WHERE image_id = '{image_id}'"
        )
        assert frame["class_probs"].to_list() == expected


def test_of_an_image_with_many_predictions_only_the_first_are_fetched(store):
    table = pa.table({"image_id": ["a"] * 50 + ["b"] * 2, "class_probs": [[0.5, 0.5]] * 52})
    ingest(store, in_memory(table))
    score(store)
    rank(store, "margin")
    frames = predictions_of_first(store, "set", ["margin"], 2, per_image=3)
    assert {name: frame.height for name, frame in frames.items()} == {"a": 3, "b": 2}
    counts = {name: set(frame["prediction_count"]) for name, frame in frames.items()}
    assert counts == {"a": {50}, "b": {2}}
