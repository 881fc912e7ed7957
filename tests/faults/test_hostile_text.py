"""Ids, names, keys and paths with characters that mean something elsewhere: here they are text."""

import csv
import json

import dagster as dg
import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from dagster_duckdb import DuckDBResource

from dagster_active_learning import (
    PoolImages,
    PredictionFiles,
    active_learning_definitions,
    explain_candidate,
    load_candidates,
    read_predictions,
)
from dagster_active_learning.definitions.metadata.predictions import NAMES_BYTES
from dagster_active_learning.definitions.partitions import partition_path
from dagster_active_learning.errors import PredictionReadError
from dagster_active_learning.exporters import export_candidates
from dagster_active_learning.rules import Rules
from dagster_active_learning.store.images import replace_images
from dagster_active_learning.store.pool_store import PoolStore
from dagster_active_learning.text import shown as shown_text
from pools import ingest, rank, score
from ranked_pools import manifest

TEXTS = {
    "single quote": "it's",
    "double quotes": 'say "x"',
    "SQL": "'; DROP TABLE predictions; --",
    "identifier": 'x"; DROP SCHEMA pool CASCADE; --',
    "parameter": "$image_id",
    "placeholder": "{name} {0} %s %(x)s",
    "newline": "a\nb",
    "carriage return": "a\rb\r\nc",
    "NUL": "a\0b",
    "emoji": "🦊🏽‍🚀",
    "right to left": "gnp.\u202eexe",
    "marks": "\ufeffa\u200b\u0301",
    "long": "x" * 10_000,
    "parent folder": "../../etc/passwd",
    "absolute": "/etc/passwd",
    "formula": "=1+1",
    "formulas": '@SUM(1) +1 -1 =cmd|" /C calc"!A0',
    "Markdown": "[x](javascript:alert(1)) ![](http://x/y.png) **b** | c",
    "HTML": "<script>alert(1)</script><img src=x onerror=alert(1)>&amp;",
    "blank": " ",
    "null word": "NULL",
    "escape": "\\x41 \\n \\",
    "terminal": "\x1b[2J\x07",
}
NAMED_FILES = [
    name for name, text in TEXTS.items() if not set(text) & {"\0", "/"} and len(text) < 200
]
# As ids of images and as names of classes: each is the class of the image of its name, and their
# margins grow in this order.
NAMES = list(TEXTS.values())
TOPS = [0.5 + (row + 1) / 64 for row in range(len(NAMES))]
CLASS_PROBS = [
    [0.0] * row + [top, 1 - top] + [0.0] * (len(NAMES) - row - 2)
    if row + 1 < len(NAMES)
    else [1 - top] + [0.0] * (row - 1) + [top]
    for row, top in enumerate(TOPS)
]


def write_parquet(folder):
    columns = {
        f"p_{name}": column
        for name, column in zip(NAMES, zip(*CLASS_PROBS, strict=True), strict=True)
    }
    pq.write_table(pa.table({"image_id": NAMES, **columns}), folder / "p.parquet")
    return folder / "p.parquet", {"class_column_prefix": "p_"}


def write_csv(folder):
    with (folder / "p.csv").open("w", newline="", encoding="utf-8") as opened:
        writer = csv.writer(opened, quoting=csv.QUOTE_ALL)
        writer.writerow(["image_id", *(f"p_{name}" for name in NAMES)])
        writer.writerows([name, *row] for name, row in zip(NAMES, CLASS_PROBS, strict=True))
    return folder / "p.csv", {"class_column_prefix": "p_"}


def write_jsonl(folder):
    columns = ["image_id", *(f"p_{name}" for name in NAMES)]
    lines = [
        json.dumps(dict(zip(columns, [name, *row], strict=True)))
        for name, row in zip(NAMES, CLASS_PROBS, strict=True)
    ]
    (folder / "p.jsonl").write_text("\n".join(lines))
    return folder / "p.jsonl", {"class_column_prefix": "p_"}


def write_npz(folder):
    # NumPy's own text ends at its last character that is not NUL.
    np.savez(
        folder / "p.npz",
        class_probs=np.array(CLASS_PROBS),
        image_ids=np.array(NAMES),
        class_names=np.array(NAMES),
    )
    return folder / "p.npz", {}


WRITERS = {"parquet": write_parquet, "csv": write_csv, "jsonl": write_jsonl, "npz": write_npz}


@pytest.mark.parametrize("name", WRITERS)
def test_texts_go_through_the_whole_flow_as_they_are(database, tmp_path, name):
    path, options = WRITERS[name](tmp_path)
    with duckdb.connect(str(database)) as connection:
        store = PoolStore(connection, "pool")
        replace_images(store, manifest(NAMES))
        stored = ingest(
            store,
            read_predictions(path, format=name, **options),
            prediction_set="set",
            in_manifest=True,
        )
        assert stored.class_names == NAMES
        score(store, in_manifest=True)
        _, ranked = rank(store, "margin", in_manifest=True)
        assert [(row[0], row[1]) for row in ranked] == [
            (text, position) for position, text in enumerate(NAMES, 1)
        ]
        assert [row[4] for row in ranked] == NAMES, "the predicted classes"
        for text in NAMES if name == "parquet" else []:
            assert repr(text) in explain_candidate(connection, text, pool="pool")
        for kind in ("csv", "parquet"):
            target = tmp_path / f"out.{kind}"
            export_candidates(store, target, exporter=kind, prediction_set="set")
            read = {"csv": pyarrow.csv.read_csv, "parquet": pq.read_table}[kind]
            arguments = (
                {"parse_options": pyarrow.csv.ParseOptions(newlines_in_values=True)}
                if kind == "csv"
                else {}
            )
            found = read(target, **arguments).to_pydict()
            assert found["image_id"] == NAMES
            assert found["predicted_class"] == NAMES
    loaded = load_candidates(database, pool="pool")
    assert loaded["image_id"].to_list() == NAMES
    assert loaded["uri"].to_list() == [f"s3://images/{text}" for text in NAMES]


def test_texts_in_quarantine_are_as_they_are(store, tmp_path):
    ids, class_probs = [*NAMES, "good"], [[0.5, 0.0]] * len(NAMES) + [[0.5, 0.5]]
    pq.write_table(pa.table({"image_id": ids, "class_probs": class_probs}), tmp_path / "p.parquet")
    ingest(store, read_predictions(tmp_path / "p.parquet", format="parquet"))
    refused = store.connection.execute(
        "SELECT image_id, raw FROM quarantined_predictions ORDER BY row_number"
    ).fetchall()
    assert [image_id for image_id, _ in refused] == NAMES
    for text, raw in refused:
        # A long row is cut, and says so.
        assert json.loads(raw)["image_id"] == text if len(text) < 10_000 else "characters)" in raw


def test_names_of_sets_models_and_categories_are_text(store, tmp_path):
    for number, text in enumerate(NAMES, 1):
        rows = [{"image_id": text, "score": 0.5, "category": text, "bbox": [1, 2, 3, 4]}] * 2
        (tmp_path / "p.jsonl").write_text("\n".join(map(json.dumps, rows)))
        stream = read_predictions(
            tmp_path / "p.jsonl",
            format="jsonl",
            score_column="score",
            category_column="category",
            bbox_column="bbox",
        )
        stored = ingest(store, stream, prediction_set=text, rules=Rules(task="detection"))
        assert (stored.prediction_set, stored.class_names) == (text, [text])
        again = ingest(
            store, read_predictions(tmp_path / "p.jsonl", format="jsonl", score_column="score"),
            prediction_set=text, rules=Rules(task="detection"),
        )  # fmt: skip
        assert again.prediction_count == 2
        assert store.connection.execute("SELECT count(*) FROM predictions").fetchone() == (
            2 * number,
        )


@pytest.mark.parametrize("text", [TEXTS[name] for name in NAMED_FILES], ids=NAMED_FILES)
@pytest.mark.parametrize("in_folder", [False, True], ids=["file", "folder"])
def test_a_file_may_be_named_so(tmp_path, text, in_folder):
    folder = tmp_path / text if in_folder else tmp_path
    folder.mkdir(exist_ok=True)
    path = folder / f"{text}.txt"
    path.write_text("0 0.5 0.5 0.25 0.25 0.9\n")
    for chosen in (path, folder):
        (batch,) = read_predictions(chosen, format="yolo")
        assert batch.column("image_id").to_pylist() == [text]
        assert batch.column("source").to_pylist() == [str(path)]
    (folder / f"{text}.png").write_bytes(b"")
    images, _ = PoolImages(folder, format="folder").read()
    assert images.column("image_id").to_pylist() == [f"{text}.png"]
    (folder / "m.csv").write_text("image_id\na\n")
    labeled = folder / f"{text}.ids"
    labeled.write_text("a\n")
    assert PoolImages(folder / "m.csv", labeled=labeled).read()[0]["labeled"].to_pylist() == [True]


PATHS = {
    "NUL": "a\0b",
    "too long": "x" * 10_000,
    "too long a name": f"{'x' * 300}.txt",
    "too long a pattern": "x" * 10_000 + "*",
    "a surrogate": "a\udcff",
}


@pytest.mark.parametrize("path", PATHS.values(), ids=PATHS)
@pytest.mark.parametrize(
    "read",
    {
        "predictions": lambda path, _: read_predictions(path, format="csv"),
        "folder of predictions": lambda path, _: read_predictions(path, format="yolo"),
        "instances": lambda path, folder: read_predictions(
            folder / "p.json", format="coco", instances=path
        ),
        "ids of npy": lambda path, folder: read_predictions(
            folder / "p.npy", format="npy", image_ids=path
        ),
        "ids of rvc": lambda path, folder: read_predictions(
            folder / "r.json", format="rvc", image_ids=path
        ),
        "labeled": lambda path, folder: PoolImages(folder / "m.csv", labeled=path).read(),
        "manifest": lambda path, _: PoolImages(path, format="csv").read(),
        "folder of images": lambda path, _: PoolImages(path, format="folder").read(),
    }.items(),
    ids=lambda item: item[0],
)  # fmt: skip
def test_a_path_that_no_file_can_have_is_a_clear_error(tmp_path, read, path):
    (tmp_path / "p.json").write_text("[]")
    (tmp_path / "r.json").write_text('{"classes": ["a"], "detections": []}')
    (tmp_path / "m.csv").write_text("image_id\na\n")
    np.save(tmp_path / "p.npy", np.array([[0.5, 0.5]]))
    with pytest.raises(PredictionReadError):
        read[1](path, tmp_path)


@pytest.mark.parametrize(
    "key", ["..", "../x", "a/../../x", "/etc", "a//b", "", ".", "a\\..\\b", "a\0b"], ids=repr
)
def test_a_partition_key_never_leaves_the_folder(tmp_path, key):
    with pytest.raises(PredictionReadError, match="partition key"):
        partition_path(f"{tmp_path}/{{partition_key}}.csv", key)


def test_dagster_shows_texts_as_they_are(tmp_path, database):
    key, (evil_class, evil_id) = "'; DROP TABLE x; --", (TEXTS["HTML"], TEXTS["Markdown"])
    for text in (key, TEXTS["formula"]):
        pq.write_table(
            pa.table(
                {"image_id": [evil_id, "b"], f"p_{evil_class}": [0.5, 2.0], "p_b": [0.5, 0.0]}
            ),
            tmp_path / f"{text}.parquet",
        )
    definitions = active_learning_definitions(
        pool="pool",
        predictions=PredictionFiles(
            tmp_path / "{partition_key}.parquet",
            "parquet",
            class_column_prefix="p_",
            model=TEXTS["right to left"],
        ),
        partitions_def=dg.StaticPartitionsDefinition([key, TEXTS["formula"]]),
    )
    with dg.DagsterInstance.ephemeral() as instance:
        for one in (key, TEXTS["formula"]):
            result = dg.materialize(
                definitions.assets,
                instance=instance,
                resources={"duckdb": DuckDBResource(database=str(database))},
                partition_key=one,
            )
            assert result.success
        shown = {}
        for event in result.get_asset_materialization_events():
            shown |= event.materialization.metadata
    lineage = {row.data["what"]: row.data["value"] for row in shown["lineage"].records}
    assert lineage["model"] == shown_text(TEXTS["right to left"])
    assert lineage["prediction set"] == TEXTS["formula"]
    assert shown["class_names"] == dg.TextMetadataValue(shown_text(f"{evil_class}, b", NAMES_BYTES))
    assert [row.data["image_id"] for row in shown["preview"].records] == [shown_text(evil_id)]
    loaded = load_candidates(
        database, pool="pool", prediction_set=key, acquisition_function="margin"
    )
    assert loaded["image_id"].to_list() == [evil_id]
