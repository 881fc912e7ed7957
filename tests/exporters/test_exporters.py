"""Candidates as files, read back by other programs' readers."""

import csv
import json
import signal
import subprocess
import sys
from pathlib import Path

import duckdb
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dagster_active_learning import limits, read_predictions
from dagster_active_learning.errors import PoolStateError
from dagster_active_learning.exporters import (
    EXPORTERS,
    Exporter,
    export_candidates,
    exporter_of_path,
)
from dagster_active_learning.rules import Rules
from dagster_active_learning.store.candidate_findings import done_candidates
from dagster_active_learning.store.images import replace_images
from dagster_active_learning.store.labeling_candidates import candidate_predictions, candidate_rows
from dagster_active_learning.store.pool_store import PoolStore
from dagster_active_learning.store.prediction_sets import prediction_set
from pools import ingest, rank, score
from ranked_pools import HOSTILE_IDS, manifest, ranked, ranked_files, write_files

TABLES = ("csv", "parquet", "spreadsheet")
"""The exporters of one row per candidate."""


@pytest.fixture
def filled(store, tmp_path):
    """A pool with hostile ids; the last image has no predictions and so no score."""
    rows = [(one, [0.5 + n / 61, 0.5 - n / 61]) for n, one in enumerate(HOSTILE_IDS)]
    replace_images(store, manifest([*HOSTILE_IDS, "nothing"]))
    ranked_files(store, write_files(tmp_path / "files", rows), in_manifest=True)
    return store


def stored(store, where="true"):
    """The candidates by a query of the test's own."""
    return store.connection.execute(
        f"""SELECT prediction_set, acquisition_function, rank, image_id, uri, width, height, score,
            uncertainty, prediction_count, predicted_class, run_id
        FROM labeling_candidates LEFT JOIN images USING (image_id)
        WHERE {where} ORDER BY acquisition_function, rank"""
    ).fetchall()


def test_parquet_holds_the_candidates(filled, tmp_path):
    path = tmp_path / "new" / "folder" / "candidates.parquet"
    assert export_candidates(filled, path, exporter="parquet", prediction_set="set") == 40
    assert [tuple(row.values()) for row in pq.read_table(path).to_pylist()] == stored(filled)
    assert pl.read_parquet(path).schema["score"] == pl.Float64


def test_csv_holds_the_candidates_with_all_texts_as_they_are(filled, tmp_path):
    path = tmp_path / "candidates.csv"
    assert export_candidates(filled, str(path), exporter="csv", prediction_set="set") == 40
    with path.open(newline="", encoding="utf-8") as opened:
        header, *rows = csv.reader(opened)
    assert header[:5] == ["prediction_set", "acquisition_function", "rank", "image_id", "uri"]
    expected = stored(filled)
    # Python's reader gives texts: numbers are read from them to the last bit, null is no text.
    for row, values in zip(rows, expected, strict=True):
        for text, value in zip(row, values, strict=True):
            assert (float(text) if isinstance(value, int | float) else text or None) == value
    assert pl.read_csv(path)["image_id"].to_list() == [row[3] for row in expected]


def test_null_is_not_an_empty_text(filled, tmp_path):
    filled.connection.execute("UPDATE images SET uri = '' WHERE image_id = ' '")
    filled.connection.execute("UPDATE images SET uri = NULL WHERE image_id = 'nothing'")
    path = tmp_path / "candidates.csv"
    export_candidates(filled, path, exporter="csv", prediction_set="set")
    found = dict(
        filled.connection.execute(
            "SELECT image_id, uri FROM read_csv($path, allow_quoted_nulls = false)",
            {"path": str(path)},
        ).fetchall()
    )
    assert found[" "] == ""
    assert found["nothing"] is None


@pytest.mark.parametrize("exporter", TABLES)
def test_one_function_and_the_first_ranks(filled, tmp_path, exporter):
    path = tmp_path / f"candidates.{exporter}"
    count = export_candidates(
        filled, path, exporter=exporter, prediction_set="set", functions=["margin"], limit=3
    )
    read = pl.read_parquet if exporter == "parquet" else pl.read_csv
    assert count == 3
    assert read(path).select("rank", "image_id").rows() == list(enumerate(HOSTILE_IDS[:3], 1))
    none = export_candidates(
        filled, path, exporter=exporter, prediction_set="set", functions=["mean_object_score"]
    )
    assert none == 0
    assert read(path).columns == candidate_rows(filled, "set").schema.names


def relabel(store, image_ids, labeled=()):
    replace_images(store, manifest(image_ids, dict.fromkeys(labeled, "cat")))


@pytest.mark.parametrize("exporter", TABLES)
def test_images_that_are_labeled_or_gone_by_now_are_left_out(filled, tmp_path, exporter):
    """The others keep their ranks and their bytes; the pool's own list has all of them."""
    labeled, gone = HOSTILE_IDS[3], HOSTILE_IDS[5]
    path = tmp_path / "candidates"
    before = export_candidates(filled, path, exporter=exporter, prediction_set="set")
    read = pl.read_parquet if exporter == "parquet" else pl.read_csv
    expected = read(path).filter(~pl.col("rank").is_in([4, 6]))
    relabel(filled, [one for one in [*HOSTILE_IDS, "nothing"] if one != gone], [labeled])
    count = export_candidates(filled, path, exporter=exporter, prediction_set="set")
    assert count == before - 2 * 4
    assert read(path).equals(expected)
    assert candidate_rows(filled, "set").read_all().num_rows == before
    done = done_candidates(filled, ["set"], ["margin", "entropy"])
    assert done.count == 4
    of_margin = [row for row in done.examples if row["acquisition_function"] == "margin"]
    assert [(row["image_id"], row["rank"], row["label"], row["left_the_manifest"]) for row in of_margin] == [
        (labeled, 4, "cat", False), (gone, 6, None, True),
    ]  # fmt: skip
    relabel(filled, [*HOSTILE_IDS, "nothing"])
    assert export_candidates(filled, path, exporter=exporter, prediction_set="set") == before
    assert done_candidates(filled, ["set"], ["margin"]).count == 0


def test_predictions_of_images_that_are_labeled_by_now_are_left_out_too(filled, tmp_path):
    relabel(filled, [*HOSTILE_IDS, "nothing"], [HOSTILE_IDS[0]])
    of_set = (filled, prediction_set(filled, "set"), ["margin"])
    for still_to_label, expected in ((False, [*HOSTILE_IDS, "nothing"]), (True, [*HOSTILE_IDS[1:], "nothing"])):  # fmt: skip
        found = candidate_predictions(*of_set, still_to_label=still_to_label).read_all()
        assert found.column("image_id").to_pylist() == expected


def test_labels_of_a_manifest_that_was_not_ranked_with_count_for_nothing(store, tmp_path):
    ranked_files(store, write_files(tmp_path / "files", [("a", [0.5, 0.5]), ("b", [1.0, 0.0])]))
    relabel(store, ["a"], ["a"])
    path = tmp_path / "candidates.csv"
    assert export_candidates(store, path, exporter="csv", prediction_set="set") == 8
    assert done_candidates(store, ["set"], ["margin"]).count == 0
    assert pl.read_csv(path)["uri"].to_list() == [None] * 8


@pytest.mark.parametrize(
    ("again", "words"),
    [
        (["ingest"], "made of predictions that run run read and scores that run run made; predictions that run run read and no scores of them are stored: materialize pool/image_scores, pool/labeling_candidates/margin first"),
        (["ingest", "score"], "materialize pool/labeling_candidates/margin first"),
        (["score"], "materialize pool/labeling_candidates/margin first"),
    ],
)  # fmt: skip
def test_a_ranking_of_other_predictions_or_scores_is_not_written(filled, tmp_path, again, words):
    path = tmp_path / "candidates.csv"
    of_margin = {"exporter": "csv", "prediction_set": "set", "functions": ["margin"]}
    export_candidates(filled, path, **of_margin)
    before = path.read_bytes()
    stream = read_predictions(tmp_path / "files" / "*.parquet", format="parquet")
    steps = {
        "ingest": lambda: ingest(filled, stream, in_manifest=True),
        "score": lambda: score(filled, in_manifest=True),
    }
    for step in again:
        steps[step]()
    with pytest.raises(PoolStateError, match=f"the ranking by margin of .*{words}"):
        export_candidates(filled, path, **of_margin)
    with pytest.raises(
        PoolStateError,
        match="ranking by entropy .*/entropy, pool/labeling_candidates/least_confidence, ",
    ):
        export_candidates(filled, path, exporter="csv", prediction_set="set")
    assert path.read_bytes() == before
    assert sorted(one.name for one in tmp_path.iterdir()) == [
        "candidates.csv",
        "files",
        "test.duckdb",
        "test.duckdb.wal",
    ]
    score(filled, in_manifest=True)
    rank(filled, "margin", in_manifest=True)
    export_candidates(filled, path, **of_margin)
    assert path.read_bytes() == before


FORMULAS = [
    "=1+1",
    "+1",
    "-1",
    "@SUM(A1)",
    "\tx",
    "\rx",
    "\n=1",
    "\uff1d1",
    "\uff0b1",
    "\uff0d1",
    "\uff20x",
    "'quoted",
    "''",
]
PLAIN = ["a=1", " =1", "1", "", "ü", '"=1"', "a,=1", "a\n=1", "\\=1", "0-1"]


def test_a_spreadsheet_takes_no_text_for_a_formula(store, tmp_path):
    texts = [*FORMULAS, *PLAIN[:3], *PLAIN[4:]]
    images = manifest(texts).set_column(1, "uri", pa.array(texts[::-1]))
    replace_images(store, images)
    rows = [(one, [0.5 + n / 99, 0.5 - n / 99]) for n, one in enumerate(texts)]
    ranked_files(store, write_files(tmp_path / "files", rows), in_manifest=True)
    csv_path, path = tmp_path / "candidates.csv", tmp_path / "spreadsheet.csv"
    for exporter, target in (("csv", csv_path), ("spreadsheet", path)):
        assert export_candidates(store, target, exporter=exporter, prediction_set="set") == 4 * len(texts)  # fmt: skip
    assert path.read_bytes().startswith(b"\xef\xbb\xbf")

    def read(path):
        with path.open(newline="", encoding="utf-8-sig") as opened:
            return list(csv.reader(opened))

    plain, escaped = read(csv_path), read(path)
    assert plain[0] == escaped[0]
    numbers = {plain[0].index(name) for name in ("rank", "score", "uncertainty", "prediction_count", "width", "height")}  # fmt: skip
    for row, expected in zip(escaped[1:], plain[1:], strict=True):
        for index, (text, value) in enumerate(zip(row, expected, strict=True)):
            assert index in numbers or text[:1] not in {*"=+-@\uff1d\uff0b\uff0d\uff20\t\r\n"}
            assert text == (f"'{value}" if value in FORMULAS else value)
    assert {row[3] for row in plain[1:]} == set(texts)


def test_a_spreadsheet_is_asked_for_by_name(monkeypatch):
    assert exporter_of_path("c.csv") == "csv"
    assert EXPORTERS["spreadsheet"].suffix is None
    with pytest.raises(ValueError, match=r"expected the suffix .csv or .parquet$"):
        exporter_of_path("c.xlsx")


@pytest.mark.parametrize("exporter", TABLES)
def test_a_failed_export_leaves_the_older_file_and_nothing_else(
    filled, tmp_path, exporter, monkeypatch
):
    target = tmp_path / "out" / "candidates"
    export_candidates(filled, target, exporter=exporter, prediction_set="set", limit=1)
    before = target.read_bytes()

    def breaks_off(store, *_, **__):
        schema = candidate_rows(store, "set").schema

        def batches():
            yield pa.RecordBatch.from_pylist([dict.fromkeys(schema.names)], schema)
            raise OSError("the disk is full")

        return pa.RecordBatchReader.from_batches(schema, batches())

    with monkeypatch.context() as patch:
        patch.setattr("dagster_active_learning.exporters.candidates.candidate_rows", breaks_off)
        with pytest.raises(OSError, match="the disk is full"):
            export_candidates(filled, target, exporter=exporter, prediction_set="set")
    assert target.read_bytes() == before
    assert [one.name for one in target.parent.iterdir()] == ["candidates"]
    # The connection is free again.
    assert export_candidates(filled, target, exporter=exporter, prediction_set="set") == 40
    assert target.read_bytes() != before


KILLED = """
import os, signal, sys, types
import duckdb
from dagster_active_learning import exporters
from dagster_active_learning.store.pool_store import PoolStore

def write_candidates(candidates, path):
    path.write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)

module = types.ModuleType("half")
module.write_candidates = write_candidates
sys.modules["half"] = module
exporters.EXPORTERS["half"] = exporters.Exporter("half", ".half")
with duckdb.connect(sys.argv[1]) as connection:
    store = PoolStore(connection, "pool")
    exporters.export_candidates(store, sys.argv[2], exporter="half", prediction_set="set")
"""


def test_an_export_that_was_killed_leaves_nothing_after_the_next_one(filled, tmp_path, database):
    target = tmp_path / "out" / "candidates.csv"
    export_candidates(filled, target, exporter="csv", prediction_set="set", limit=1)
    before = target.read_bytes()
    filled.connection.close()
    killed = subprocess.run([sys.executable, "-c", KILLED, str(database), target], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert target.read_bytes() == before
    (leftover,) = set(target.parent.iterdir()) - {target}
    assert leftover.name.startswith(".")
    with duckdb.connect(str(database)) as connection:
        store = PoolStore(connection, "pool")
        export_candidates(store, target, exporter="csv", prediction_set="set")
    assert list(target.parent.iterdir()) == [target]
    assert target.read_bytes() != before


def test_the_longest_name_a_file_can_have(filled, tmp_path):
    path = tmp_path / ("n" * 251 + ".csv")
    assert export_candidates(filled, path, exporter="csv", prediction_set="set", limit=1) == 4


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"exporter": "xlsx"}, ValueError, "unknown exporter 'xlsx': expected one of csv, parquet"),
        ({"prediction_set": "other"}, PoolStateError, "has no prediction set 'other'"),
        ({"functions": ["margin", "bald"]}, ValueError, "is 'bald', expected one of entropy"),
        ({"limit": 0}, ValueError, "limit is 0"),
    ],
)
def test_what_cannot_be_written_is_named_and_nothing_is_written(
    filled, tmp_path, arguments, error, words
):
    out = tmp_path / "out"
    given = {"exporter": "csv", "prediction_set": "set", **arguments}
    with pytest.raises(error, match=words):
        export_candidates(filled, out / "candidates", **given)
    assert not out.exists() or list(out.iterdir()) == []


def test_an_exporter_is_one_module_and_one_line(filled, tmp_path, monkeypatch):
    (tmp_path / "jsonl.py").write_text(
        "import json\n"
        "def write_candidates(candidates, path):\n"
        "    rows = candidates.rows().read_all().to_pylist()\n"
        "    path.write_text(''.join(json.dumps(row) + '\\n' for row in rows))\n"
        "    return len(rows)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(EXPORTERS, "jsonl", Exporter("jsonl", ".jsonl"))
    path = tmp_path / "candidates.jsonl"
    assert export_candidates(filled, path, exporter="jsonl", prediction_set="set") == 40
    first = json.loads(path.read_text().splitlines()[0])
    assert (first["rank"], first["image_id"]) == (1, HOSTILE_IDS[0])


BOXES = """
import json
from itertools import groupby


def write_candidates(candidates, path):
    names = {name: index for index, name in enumerate(candidates.class_names)}
    rows = [row for batch in candidates.predictions() for row in batch.to_pylist()]
    images = [
        {
            "file_name": image_id,
            "boxes": [
                [*row["bbox"], row["prediction_score"], names[row["category"]]]
                for row in predictions
                if row["bbox"] is not None
            ],
        }
        for image_id, predictions in groupby(rows, lambda row: row["image_id"])
    ]
    document = {
        "unit": candidates.prediction_set.bbox_unit,
        "classes": candidates.class_names,
        "images": images,
    }
    path.write_text(json.dumps(document))
    return len(images)
"""


def test_an_exporter_from_outside_writes_boxes(store, tmp_path, monkeypatch):
    """One module and one entry of ``EXPORTERS``; the boxes are those of the file."""
    (tmp_path / "boxes.py").write_text(BOXES)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(EXPORTERS, "boxes", Exporter("boxes", ".json"))
    objects = [
        ("a", 0.75, "car", [1, 2, 3, 4]),
        ("b", 0.5, "bus", [0.5, 0, 10, 20.25]),
        ("a", 0.25, "bus", [5, 6, 7, 8]),
    ]
    names = ("image_id", "score", "category", "bbox")
    lines = [json.dumps(dict(zip(names, row, strict=True))) for row in objects]
    file = tmp_path / "objects.jsonl"
    file.write_text("\n".join(lines))
    replace_images(store, manifest(["a", "b", "empty"]))
    stream = read_predictions(
        file, format="jsonl", score_column="score", category_column="category", bbox_column="bbox"
    )
    ranked(store, stream, rules=Rules(task="detection"), in_manifest=True)
    path = tmp_path / "candidates.json"
    count = export_candidates(
        store,
        path,
        exporter=exporter_of_path(path),
        prediction_set="set",
        functions=["mean_object_score"],
    )
    written = json.loads(path.read_text())
    assert (count, written["unit"], written["classes"]) == (3, "pixel", ["bus", "car"])
    # By the mean of their scores, the lowest first; in the order of the file.
    expected = {
        image_id: [[*box, score, written["classes"].index(name)] for i, score, name, box in objects
                   if i == image_id]
        for image_id in ("empty", "a", "b")
    }  # fmt: skip
    assert {image["file_name"]: image["boxes"] for image in written["images"]} == expected
    assert written["images"][0]["file_name"] == "empty"


READINGS = """
import sys


def write_candidates(candidates, path):
    rows, predictions = iter(candidates.rows()), iter(candidates.predictions())
    first = next(predictions)
    more = [row["image_id"] for batch in candidates.rows() for row in batch.to_pylist()]
    kept = [row["image_id"] for batch in rows for row in batch.to_pylist()]
    path.write_text("")
    sys.modules[__name__].sizes = [len(first), *map(len, predictions)]
    sys.modules[__name__].readings = more, kept
    return len(kept)
"""


def test_candidates_are_read_in_batches_and_several_times_at_once(
    store, tmp_path, monkeypatch, database
):
    (tmp_path / "readings.py").write_text(READINGS)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(EXPORTERS, "readings", Exporter("readings", ".txt"))
    monkeypatch.setattr(limits, "BATCH_BYTES", 100 * 2 * 8)
    ids = [f"image{number:04}" for number in range(5_000)]
    path = write_files(tmp_path / "files", [(image_id, [0.75, 0.25]) for image_id in ids])
    ranked_files(store, path, functions=["margin"], limit=5_000)
    out = tmp_path / "c.txt"
    assert export_candidates(store, out, exporter="readings", prediction_set="set") == 5_000
    readings = sys.modules["readings"]
    assert sum(readings.sizes) == 5_000
    # DuckDB gives vectors of 2,048 rows at a time.
    assert max(readings.sizes) <= 2_048
    assert sorted(readings.readings[0]) == ids
    assert readings.readings[0] == readings.readings[1]
    # Nothing holds the database open.
    store.connection.close()
    duckdb.connect(str(database), config={"threads": 1}).close()


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("c.csv", "csv"),
        ("folder.parquet/c.CSV", "csv"),
        (Path("c.parquet"), "parquet"),
        ("c.coco.json", ValueError("c.coco.json.* expected the name of one of them: coco, studio")),
        ("c.xlsx", ValueError("of no exporter, expected the suffix .csv or .parquet or .json")),
        ("csv", ValueError("of no exporter")),
        (".csv", ValueError("of no exporter")),
    ],
)
def test_the_suffix_names_the_exporter_where_it_is_the_only_one(path, name, monkeypatch):
    for other in ("coco", "studio"):
        monkeypatch.setitem(EXPORTERS, other, Exporter(other, ".json"))
    if isinstance(name, str):
        assert exporter_of_path(path) == name
    else:
        with pytest.raises(ValueError, match=str(name)):
            exporter_of_path(path)
