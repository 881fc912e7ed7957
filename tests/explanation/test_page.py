"""What is said about one image: every part of the chain, and every reason to be no candidate."""

import json

import duckdb
import pytest

from dagster_active_learning import explain_candidate, read_predictions
from dagster_active_learning.errors import PoolStateError
from dagster_active_learning.rules import Rules
from dagster_active_learning.store.images import replace_images
from dagster_active_learning.store.pool_store import PoolStore
from dagster_active_learning.store.prediction_sets import prediction_set
from pools import ingest, on_tables, score
from ranked_pools import HOSTILE_IDS, manifest, ranked, ranked_files, sha256, write_files


@pytest.fixture
def filled(store, tmp_path):
    """Two files, rows in quarantine, a label, an image without predictions; two candidates."""
    replace_images(
        store, manifest(["a", "b", "c", "tied", "done", "broken", "none"], {"done": "cat"})
    )
    path = write_files(
        tmp_path / "files",
        [("a", [0.5, 0.375, 0.125, 0.0]), ("b", [0.9, 0.1, 0.0, 0.0]), ("a", [0.5, 0.0, 0.0, 0.0])],
        [("c", [0.25] * 4), ("done", [0.25] * 4), ("outside", [1.0, 0.0, 0.0, 0.0])],
        [("broken", [1.0, 0.0]), ("tied", [0.5, 0.375, 0.125, 0.0])],
    )
    ranked_files(store, path, in_manifest=True, limit=2, functions=["margin", "entropy"])
    # Which of two equal scores is first depends on the hash of the ids.
    (second,) = store.connection.execute(
        "SELECT image_id FROM labeling_candidates WHERE rank = 2 AND acquisition_function = 'margin'"
    ).fetchone()
    return store, {"second": second, "tied": {"a": "tied", "tied": "a"}[second]}, tmp_path / "files"


def explain(store, image_id, **arguments):
    return explain_candidate(store.connection, image_id, pool="pool", **arguments)


def test_the_whole_chain_of_a_candidate(filled):
    store, image_ids, files = filled
    part, row = {"a": ("part0.parquet", 1), "tied": ("part2.parquet", 2)}[image_ids["second"]]
    digest = prediction_set(store, "set").source_sha256
    lines = explain(store, image_ids["second"], acquisition_function="margin").splitlines()
    in_quarantine = [line for line in lines if "quarantine" in line or "do not sum" in line]
    assert [line for line in lines if line not in in_quarantine] == [
        f"image '{image_ids['second']}' of pool 'pool', prediction set 'set'",
        f"  file: 's3://images/{image_ids['second']}', not labeled",
        "margin: rank 2 of 2 candidates",
        "  score 0.125 (probability), uncertainty 0.875",
        "  formula p(1) - p(2), mean over the image's predictions",
        "  the lowest scores are labeled first",
        "  predicted class '0'",
        "  ranked by Dagster run run",
        "predictions: 1",
        "  '0' 0.5, '1' 0.375, '2' 0.125, 1 more",
        f"    row {row} of {str(files / part)!r}, SHA-256 {sha256(files / part)}",
        "model: 'model'",
        f"source: {str(files / '*.parquet')!r}, SHA-256 {digest}",
        "  read by Dagster run run",
    ]


URIS = {
    "https://host/a.png?X-Amz-Signature=0f3aSIGNATURE": "https://host/a.png",
    "https://me:HUNTER2@host/a.png": "https://host/a.png",
    "s3://me:HUNTER2@bucket/a?.png?versionId=0f3aSIGNATURE": "s3://bucket/a?.png",
    "images/what?.png": "images/what?.png",
}


@pytest.mark.parametrize(("uri", "shown"), URIS.items())
def test_the_address_of_an_image_is_shown_without_secrets(store, tmp_path, uri, shown):
    table = manifest(["a"])
    replace_images(store, table.set_column(1, "uri", [[uri]]))
    files = write_files(tmp_path / "files", [("a", [0.5, 0.5])])
    ranked_files(store, files, in_manifest=True, functions=["margin"])
    text = explain(store, "a")
    assert f"\n  file: {shown!r}, not labeled\n" in text
    assert "HUNTER2" not in text
    assert "SIGNATURE" not in text


def test_rows_in_quarantine_are_shown_with_file_row_and_reason(filled):
    store, _, files = filled
    lines = explain(store, "a").splitlines()
    start = lines.index("rows in quarantine: 1")
    assert lines[start + 1] == (
        f"  row 3 of {str(files / 'part0.parquet')!r}: the class probabilities do not sum to 1"
    )


def test_every_function_that_ranked_is_explained_unless_one_is_named(filled):
    store, *_ = filled
    every = explain(store, "c")
    assert "entropy: rank 1 of 2 candidates\n  score 2 (bits), uncertainty 1\n" in every
    assert "margin: rank 1 of 2 candidates" in every
    assert "variance" not in every
    assert "entropy" not in explain(store, "c", acquisition_function="margin")


@pytest.mark.parametrize(
    ("image_id", "why"),
    [
        ("b", "its score of 0.8 (probability) is behind the list of 2, in which 0.125 is the last"),
        ("tied", "its score of 0.125 (probability) is that of the last in the list of 2, and equal scores are ordered by a seeded hash"),
        ("done", "the image is labeled"),
        ("outside", "the image is not in the pool's manifest"),
        ("none", "the image has no predictions; images_without_predictions left it out or put it behind the list of 2"),
        ("broken", "the image has no predictions but rows in quarantine; images_without_pred"),
    ],
)  # fmt: skip
def test_why_an_image_is_no_candidate(filled, image_id, why):
    store, image_ids, _ = filled
    text = explain(store, image_ids.get(image_id, image_id), acquisition_function="margin")
    assert f"\nmargin: no candidate: {why}" in text


def test_an_image_that_is_not_there_is_an_error(filled):
    store, *_ = filled
    words = (
        "image 'x' is not in pool 'pool': prediction set 'set' has no row about it, nor has the m"
    )
    with pytest.raises(PoolStateError, match=words):
        explain(store, "x")
    with pytest.raises(ValueError, match="is 'bald', expected one of entropy"):
        explain(store, "a", acquisition_function="bald")
    with pytest.raises(PoolStateError, match="has no prediction set 'other'"):
        explain(store, "a", prediction_set="other")


def test_what_has_not_been_done_yet(store, tmp_path):
    path = write_files(tmp_path / "files", [("a", [0.5, 0.5]), ("bad", [1.0, 1.0])])
    ingest(store, read_predictions(path, format="parquet"))
    assert "\nranks: no candidates yet, or no image could be one: mat" in explain(store, "a")
    one = {"acquisition_function": "entropy"}
    assert "entropy: no candidate: the image has no scores yet: materialize pool/image_scores" in (
        explain(store, "a", **one)
    )
    assert "entropy: no candidate: all rows about the image are in quarantine" in (
        explain(store, "bad", **one)
    )
    score(store)
    assert "entropy: no candidate: nothing is ranked by this function: mat" in (
        explain(store, "a", **one)
    )
    assert "no candidate: a prediction about a whole image has no object score" in (
        explain(store, "a", acquisition_function="mean_object_score")
    )


def test_a_rank_that_is_older_than_what_it_was_made_from(store, tmp_path):
    replace_images(store, manifest(["a", "b"]))
    first = write_files(tmp_path / "first", [("a", [0.5, 0.5]), ("b", [0.75, 0.25])])
    ranked_files(store, first, in_manifest=True, functions=["margin"], limit=1)
    again = "materialize pool/labeling_candidates/margin again"
    assert "again" not in explain(store, "a")

    replace_images(store, manifest(["a", "b"], {"a": None}))
    assert f"\n  labeled since then: {again}" in explain(store, "a")
    replace_images(store, manifest(["a", "b"]))

    second = write_files(tmp_path / "second", [("a", [0.75, 0.25]), ("b", [1.0, 0.0])])
    ingest(store, read_predictions(second, format="parquet"), in_manifest=True)
    assert f"older than the predictions: materialize pool/image_scores, then {again}" in (
        explain(store, "a")
    )
    score(store, in_manifest=True)
    assert f"this rank is old, the score is 0.5 now: {again}" in explain(store, "a")
    statement = "UPDATE image_scores SET margin = 0 WHERE image_id = 'b'"
    store.connection.execute(on_tables(store.connection, statement))
    store.connection.execute("UPDATE labeling_candidates SET score = 0.5")
    assert f"no candidate: its score of 0 (probability) is newer than the list of 1: {again}" in (
        explain(store, "b")
    )


def test_objects_with_scores_alone_and_images_without_any(store, tmp_path):
    file = tmp_path / "objects.jsonl"
    rows = [{"image_id": "a", "score": n / 64, "category": f"kind {n}"} for n in range(25)]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    replace_images(store, manifest(["a", "empty"]))
    stream = read_predictions(
        file, format="jsonl", score_column="score", category_column="category"
    )
    detection = Rules(task="detection")
    ranked(store, stream, rules=detection, in_manifest=True, functions=["mean_object_score"])
    text = explain(store, "a")
    assert "mean_object_score: rank 2 of 2 candidates\n  score 0.1875 (probability)" in text
    assert "\npredictions: 25\n  category 'kind 0', score 0\n    row 1 of " in text
    assert "category 'kind 19'" in text
    assert "category 'kind 20'" not in text
    assert "\n  and 5 more\n" in text
    assert "entropy: no candidate: its predictions have no class probabilities" in (
        explain(store, "a", acquisition_function="entropy")
    )
    empty = explain(store, "empty")
    assert "mean_object_score: rank 1 of 2 candidates\n  score 0 (prob" in empty
    assert "\npredictions: none\n" in empty


def test_a_source_that_says_that_there_is_no_object(store, tmp_path):
    file = tmp_path / "detections.json"
    images = [
        {"file": "seen.jpg", "detections": []},
        {"file": "a.jpg", "detections": [{"category": "1", "conf": 0.5, "bbox": [0, 0, 1, 1]}]},
    ]
    file.write_text(
        json.dumps({"images": images, "detection_categories": {"1": "animal"}, "info": {}})
    )
    detection = Rules(task="detection")
    ranked(store, read_predictions(file, format="megadetector"), rules=detection)
    assert "\npredictions: none: the model found no object in the image\n" in explain(
        store, "seen.jpg"
    )


@pytest.mark.parametrize("image_id", HOSTILE_IDS)
def test_ids_are_shown_so_that_they_cannot_pass_for_text(store, tmp_path, image_id):
    rows = [(image_id, [0.5, 0.5]), (image_id, [0.5, 0.0])]
    replace_images(store, manifest([image_id]))
    ranked_files(
        store, write_files(tmp_path / "files", rows), in_manifest=True, functions=["margin"]
    )
    lines = explain(store, image_id).splitlines()
    assert lines[0] == f"image {image_id!r} of pool 'pool', prediction set 'set'"
    assert len(lines) == 16, "no line break of the id's own"
    assert all(line.isprintable() for line in lines)


def test_a_read_only_database_of_an_earlier_version(database, tmp_path):
    with duckdb.connect(str(database)) as connection:
        store = PoolStore(connection, "pool")
        ranked_files(store, write_files(tmp_path / "files", [("a", [0.5, 0.5])]))
        connection.execute("DROP VIEW candidate_lineage")
        connection.execute("UPDATE rankings SET inputs = NULL, aggregation = NULL")
    with duckdb.connect(str(database), read_only=True) as connection:
        text = explain_candidate(connection, "a", pool="pool")
        assert text == explain_candidate(database, "a", pool="pool")
    assert "the lowest scores are labeled first" in text
    assert "formula" not in text, "which one it was is not known"
