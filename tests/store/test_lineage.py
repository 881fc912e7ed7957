"""The lineage view against the files themselves."""

import json
import re

import pytest

from dagster_active_learning import read_predictions
from dagster_active_learning.rules import Rules
from dagster_active_learning.store.images import replace_images
from dagster_active_learning.store.prediction_sets import prediction_set
from ranked_pools import HOSTILE_IDS, manifest, ranked, ranked_files, sha256, write_files

LINEAGE = """SELECT source, row_number, source_sha256, class_probs FROM candidate_lineage
    WHERE image_id = $image_id AND acquisition_function = 'margin'"""


def files_with_faults(tmp_path):
    """Three files, the second one empty, with rows that go to quarantine between the others."""
    first = [("a", [0.9, 0.1]), ("bad", [0.5, 0.2]), ("b", [0.6, 0.4])]
    second = [(None, [0.5, 0.5]), *((one, [0.8, 0.2]) for one in HOSTILE_IDS), ("c", [0.7, 0.3])]
    return write_files(tmp_path / "files", first, [], second)


def expected_lineage(path):
    """image_id -> file, row from 1, hash and values, read from the files by pyarrow alone."""
    import pyarrow.parquet as pq

    return {
        row["image_id"]: (str(file), number, sha256(file), row["class_probs"])
        for file in sorted(path.parent.glob("*.parquet"))
        for number, row in enumerate(pq.read_table(file).to_pylist(), start=1)
        if row["image_id"] not in (None, "bad")
    }


def test_every_candidate_leads_to_the_row_of_its_file(store, tmp_path):
    path = files_with_faults(tmp_path)
    ranked_files(store, path)
    expected = expected_lineage(path)
    assert len(expected) == 3 + len(HOSTILE_IDS)
    for image_id, origin in expected.items():
        assert store.connection.execute(LINEAGE, {"image_id": image_id}).fetchall() == [origin]
    counts = store.connection.execute(
        "SELECT acquisition_function, count(*) FROM candidate_lineage GROUP BY ALL"
    ).fetchall()
    assert dict(counts) == dict.fromkeys(
        ["entropy", "least_confidence", "margin", "variance"], len(expected)
    )


def test_it_names_set_model_runs_uri_and_scores(store, tmp_path):
    replace_images(store, manifest(["a", "b", "nothing"]))
    path = write_files(tmp_path / "files", [("a", [0.75, 0.25]), ("b", [0.5, 0.5])])
    ranked_files(store, path, in_manifest=True, functions=["margin"])
    rows = store.connection.sql(
        "SELECT * EXCLUDE (ingested_at) FROM candidate_lineage ORDER BY rank"
    ).pl()
    assert rows["image_id"].to_list() == ["b", "a", "nothing"]
    digest = prediction_set(store, "set").source_sha256
    assert rows.row(1, named=True) == {
        "prediction_set": "set", "acquisition_function": "margin", "rank": 2, "image_id": "a",
        "uri": "s3://images/a", "score": 0.5, "uncertainty": 0.5, "predicted_class": "0",
        "entropy": pytest.approx(0.8112781244591328, abs=1e-12), "least_confidence": 0.25,
        "margin": 0.5, "variance": 0.0625, "mean_object_score": None, "mutual_information": None,
        "vote_entropy": None, "prediction_count": 1,
        "prediction_index": 0, "class_probs": [0.75, 0.25], "prediction_score": None,
        "category": None, "source": str(path.parent / "part0.parquet"),
        "source_sha256": sha256(path.parent / "part0.parquet"), "row_number": 1, "model": "model",
        "class_names": ["0", "1"], "prediction_set_source": str(path),
        "prediction_set_sha256": digest, "prediction_run_id": "run", "ranking_run_id": "run",
        "scoring_run_id": "run", "is_current": True,
    }  # fmt: skip
    nothing = rows.row(2, named=True)
    assert nothing["prediction_count"] == 0
    assert nothing["source"] is nothing["row_number"] is nothing["class_probs"] is None


def test_objects_have_a_row_each(store, tmp_path):
    objects = [("a", 0.25, "car"), ("b", 0.5, "bus"), ("a", 0.75, "car")]
    file = tmp_path / "objects.jsonl"
    file.write_text(
        "".join(
            json.dumps({"image_id": one, "score": value, "category": name}) + "\n"
            for one, value, name in objects
        )
    )
    stream = read_predictions(
        file, format="jsonl", score_column="score", category_column="category"
    )
    ranked(store, stream, rules=Rules(task="detection"), functions=["mean_object_score"])
    found = store.connection.execute(
        """SELECT image_id, prediction_score, category, row_number FROM candidate_lineage
        ORDER BY row_number"""
    ).fetchall()
    assert found == [(*row, number) for number, row in enumerate(objects, start=1)]


def test_a_filter_on_the_image_reaches_every_table(store, tmp_path):
    replace_images(store, manifest(["a", "b"]))
    ranked_files(store, write_files(tmp_path / "files", [("a", [0.5, 0.5]), ("b", [1.0, 0.0])]))
    plan = store.connection.execute(
        "EXPLAIN (FORMAT json) SELECT * FROM candidate_lineage WHERE image_id = 'b'"
    ).fetchall()[0][1]
    scans = {}

    def walk(node):
        details = node.get("extra_info", {})
        if "Table" in details:
            table = re.sub(r"_\d+$", "", details["Table"].rpartition(".")[2])
            scans[table] = str(details.get("Filters", ""))
        for child in node.get("children", []):
            walk(child)

    for node in json.loads(plan):
        walk(node)
    # The scores are columns of the predictions.
    for table in ("labeling_candidates", "images", "predictions"):
        assert "image_id = 'b'" in scans[table] or "image_id='b'" in scans[table], scans
