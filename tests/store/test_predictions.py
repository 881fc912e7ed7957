"""Predictions of a set as the database counts and finds them, against NumPy."""

import pyarrow as pa

from dagster_active_learning.store.predictions import predictions_of_images
from pools import column, in_memory, ingest


def test_what_is_said_about_the_first_candidates(filled):
    first = column(
        filled,
        "SELECT image_id FROM labeling_candidates WHERE rank <= 3 AND acquisition_function IN ('margin', 'entropy')",
    )
    found = predictions_of_images(filled, "set", [*first, "of another pool"])
    assert found.keys() == set(first)
    for image_id, frame in found.items():
        expected = column(
            filled, f"SELECT class_probs FROM predictions WHERE image_id = '{image_id}'"
        )
        assert frame["class_probs"].to_list() == expected


def test_of_an_image_with_many_predictions_only_the_first_are_fetched(store):
    table = pa.table({"image_id": ["a"] * 50 + ["b"] * 2, "class_probs": [[0.5, 0.5]] * 52})
    ingest(store, in_memory(table))
    frames = predictions_of_images(store, "set", ["a", "b"], per_image=3)
    assert {name: frame.height for name, frame in frames.items()} == {"a": 3, "b": 2}
    counts = {name: set(frame["prediction_count"]) for name, frame in frames.items()}
    assert counts == {"a": {50}, "b": {2}}
