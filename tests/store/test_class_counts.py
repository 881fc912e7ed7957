"""Predictions by class, as they are counted when they come and when they are stored."""

from collections import Counter

import numpy as np
import pyarrow as pa
import pytest

from dagster_active_learning.readers.arrow import read_table
from dagster_active_learning.readers.options import TableOptions
from dagster_active_learning.rules import Rules
from dagster_active_learning.store.class_counts import (
    count_predicted_classes,
    predictions_by_class,
)
from dagster_active_learning.store.images import replace_images
from dagster_active_learning.store.prediction_sets import prediction_set
from pools import in_memory, ingest, rows
from ranked_pools import manifest

GENERATOR = np.random.default_rng(7)


def class_probs(n, n_classes, dtype):
    """Rows of which many have several largest values."""
    values = GENERATOR.integers(1, 4, (n, n_classes)).astype(dtype)
    return values / values.sum(axis=1, keepdims=True)


def expected(image_ids, matrix, categories, *, valid=None):
    """The counts in plain Python; ``valid`` are the rows that count."""
    counts = Counter()
    for row in range(len(image_ids)):
        if valid is None or valid[row]:
            probs = matrix[row]
            named = None if probs is None else str(int(np.argmax(probs)))
            counts[categories[row] or named] += 1
    return sorted(counts.items(), key=lambda one: (-one[1], one[0] is None, one[0] or ""))


def counted_again(store):
    store.connection.execute("DELETE FROM predicted_classes")
    count_predicted_classes(store.connection, prediction_set(store, "set").tables)
    return predictions_by_class(store.connection, "set")


@pytest.mark.parametrize("n_classes", [2, 3, 10, 17])
@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_of_class_probs_the_first_of_the_most_probable_counts(store, n_classes, dtype):
    matrix = class_probs(3000, n_classes, dtype)
    matrix[::7] *= 2  # no probabilities: in quarantine, and not counted
    ids = [f"image{row}" for row in range(len(matrix))]
    ingest(store, in_memory(pa.table({"image_id": ids, "class_probs": list(matrix)})))
    valid = np.arange(len(matrix)) % 7 != 0
    counts = expected(ids, matrix, [None] * len(ids), valid=valid)
    assert predictions_by_class(store.connection, "set") == counts
    assert sum(count for _, count in counts) == valid.sum()
    assert counted_again(store) == counts


def test_of_objects_the_category_counts_where_there_is_one(store):
    matrix = [*class_probs(60, 3, "f8")]
    categories = [["cat", None, "2"][row % 3] for row in range(60)]
    for row in range(0, 60, 5):
        matrix[row] = None
    ids = [f"image{row // 4}" for row in range(60)]
    table = pa.table(
        {
            "image_id": ids,
            "class_probs": pa.array(matrix, pa.list_(pa.float64())),
            "score": [0.5] * 60,
            "category": categories,
        }
    )
    options = TableOptions(score_column="score", category_column="category")
    stream = read_table(table, name="table", options=options)
    ingest(store, stream, rules=Rules(task="detection"))
    counts = expected(ids, matrix, categories)
    assert None in dict(counts)
    assert predictions_by_class(store.connection, "set") == counts
    assert counted_again(store) == counts


def test_images_that_the_manifest_does_not_have_do_not_count(store):
    replace_images(store, manifest(["a", "b"]))
    table = pa.table({"image_id": ["a", "c", "b"], "class_probs": [[0.75, 0.25]] * 3})
    ingest(store, in_memory(table), in_manifest=True)
    assert predictions_by_class(store.connection, "set") == [("0", 2)]


def test_counts_go_with_their_set(store):
    table = pa.table({"image_id": ["a", "b"], "class_probs": [[0.75, 0.25], [0.25, 0.75]]})
    ingest(store, in_memory(table))
    ingest(store, in_memory(table.slice(0, 1)))
    assert rows(store, "FROM predicted_classes") == [("set", "0", 1)]
