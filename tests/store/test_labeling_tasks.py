"""What is recorded of images that go to a labeling tool."""

from datetime import UTC, datetime, timedelta

import pytest

from dagster_active_learning.store import labeling_tasks
from pools import column, rows

BATCH = """
INSERT INTO labeling_batches BY NAME
SELECT $batch AS batch, row_number() OVER () AS position, unnest($ids) AS image_id,
    'queue' AS chosen_by, 'margin' AS acquisition_function, 1 AS prediction_count,
    'set' AS prediction_set, 'r' AS ranking_run_id, 'r' AS run_id, now() AS created_at,
    now() AS handed_out_at
"""
IN_FLIGHT = "SELECT image_id FROM labeling_batches WHERE returned_at IS NULL ORDER BY image_id"
LATER = datetime.now(UTC) + timedelta(days=1)


@pytest.fixture
def pool(store):
    for image_id in "abc":
        store.connection.execute("INSERT INTO images VALUES (?, 'x', 8, 8, false, NULL)", [image_id])  # fmt: skip
    return store


def hand_out(store, batch, image_ids):
    store.connection.execute(BATCH, {"batch": batch, "ids": [*image_ids]})
    request(store, batch)


def request(store, batch):
    labeling_tasks.drop_needless(store, "p")
    labeling_tasks.request_images(store, batch, tool="label_studio", project="p", run_id="r")


def pending(store):
    return [image_id for batch in labeling_tasks.pending_batches(store) for image_id in batch.image_ids]  # fmt: skip


def send(store, task_ids):
    labeling_tasks.mark_sent(store, "p", task_ids, "r")


def read(store, task_ids, skipped_at=None, *, listed_at=LATER):
    skipped_at = skipped_at or {}
    outcomes = dict.fromkeys(skipped_at, "skipped")
    return labeling_tasks.mark_read(
        store, "p", task_ids, outcomes, skipped_at, listed_at=listed_at, return_skipped=True
    )


def test_a_skipped_image_comes_back_once_per_skip(pool):
    hand_out(pool, 1, "ab")
    send(pool, {"a": 1, "b": 2})
    skipped = {"a": datetime.now(UTC).isoformat()}
    read(pool, {"a": 1, "b": 2}, skipped)
    assert column(pool, IN_FLIGHT) == ["b"]
    # In the next batch its annotation is the old one, until somebody skips it anew.
    hand_out(pool, 2, "a")
    send(pool, {"a": 1})
    for _ in range(2):
        read(pool, {"a": 1, "b": 2}, skipped)
        assert column(pool, IN_FLIGHT) == ["a", "b"]
    outcomes = "SELECT batch, outcome FROM labeling_tasks WHERE image_id = 'a' ORDER BY batch"
    assert rows(pool, outcomes) == [(1, "skipped"), (2, None)]
    read(pool, {"a": 1, "b": 2}, {"a": datetime.now(UTC).isoformat()})
    assert column(pool, IN_FLIGHT) == ["b"]


def test_an_image_that_left_the_manifest_is_not_sent_and_not_missed(pool):
    hand_out(pool, 1, "ab")
    pool.connection.execute("DELETE FROM images WHERE image_id = 'a'")
    hand_out(pool, 2, "c")
    assert pending(pool) == ["b", "c"]
    assert [row["image_id"] for row in labeling_tasks.with_the_tool(pool, "p")] == ["b", "c"]
    # It is in the manifest again.
    pool.connection.execute("INSERT INTO images VALUES ('a', 'x', 8, 8, false, NULL)")
    request(pool, 2)
    assert pending(pool) == ["a", "b", "c"]


def test_a_task_that_was_sent_after_the_listing_is_not_deleted(pool):
    hand_out(pool, 1, "a")
    listed_at = datetime.now(UTC)
    send(pool, {"a": 1})
    assert read(pool, {}, listed_at=listed_at) == 0
    assert column(pool, IN_FLIGHT) == ["a"]
    assert read(pool, {}) == 1
    assert column(pool, IN_FLIGHT) == []
