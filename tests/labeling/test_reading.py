"""Annotations of a real export are stored as labels, and read again they change nothing."""

import json
from datetime import UTC, datetime

import polars as pl

from dagster_active_learning.labeling.label_studio_client import ListedTask
from dagster_active_learning.labeling.reading import store_annotations
from dagster_active_learning.store.images import replace_images
from pools import rows

CLASSES = """
INSERT INTO prediction_sets BY NAME SELECT 'set' AS prediction_set, 'f' AS source,
    'x' AS source_sha256, list(range::VARCHAR) AS class_names, 0 AS prediction_count,
    0 AS image_count, 0 AS image_run_count, 0 AS quarantined_count, 0 AS score_only_count,
    'FLOAT[]' AS value_type, 1 AS generation, 'r' AS run_id, now() AS ingested_at
FROM range(10)
"""


def test_a_real_export_read_again_changes_nothing(store, real_predictions):
    path = real_predictions / "label_studio" / "export_digits_edge_cases.json"
    tasks = json.loads(path.read_text())
    ids = [task["data"]["image_id"] for task in tasks]
    manifest = {"image_id": ids, "uri": ids, "width": 8, "height": 8, "labeled": False, "label": None}  # fmt: skip
    replace_images(store, pl.DataFrame(manifest, schema_overrides={"label": pl.String}).to_arrow())
    store.connection.execute(CLASSES)
    listed = [
        ListedTask(task["id"], task["data"]["image_id"], len(task["annotations"])) for task in tasks
    ]
    tables = [
        "SELECT * EXCLUDE (run_id, read_at) FROM labels ORDER BY ALL",
        "SELECT * EXCLUDE (run_id, read_at) FROM quarantined_labels ORDER BY ALL",
        "FROM images ORDER BY image_id",
    ]

    def read():
        report = store_annotations(
            store, listed, tasks, listed_at=datetime.now(UTC), task="classification", project="p", return_skipped=False, run_id="r"
        )  # fmt: skip
        return report, [rows(store, table) for table in tables]

    first, stored = read()
    assert first.outcomes == {"labeled": 6, "skipped": 2, "conflict": 1, "quarantined": 3}
    assert (first.newly_labeled, len(stored[0]), len(stored[1])) == (6, 6, 3)
    assert rows(store, "SELECT label FROM images WHERE image_id = 'digit_0829'") == [("4",)]
    second, again = read()
    assert (second.newly_labeled, second.withdrawn, again) == (0, 0, stored)
