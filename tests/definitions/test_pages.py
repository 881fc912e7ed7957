"""The pages of rankings and batches as Dagster's steps write them and link to them."""

# What a test expects to be there may be None for the types.
# pyright: reportOptionalMemberAccess=false

import json
import re
from pathlib import Path

import dagster as dg
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from dagster_duckdb import DuckDBResource

from dagster_active_learning import (
    LabelingBatch,
    NearDuplicates,
    PredictionFiles,
    active_learning_definitions,
)
from dagster_active_learning.errors import SettingError

IDS = [f"image{number:02d}" for number in range(40)]
CLASSES = ["cat", "dog", "eel"]


def predictions(path, seed=0, ids=IDS):
    vectors = np.random.default_rng(seed).dirichlet([2, 1, 1], len(ids)).astype(np.float32)
    table = pa.table({"image_id": ids, "class_probs": list(vectors)})
    names = {"class_names": json.dumps(CLASSES)}
    pq.write_table(table.replace_schema_metadata(names), path)
    return dict(zip(ids, vectors, strict=True))


@pytest.fixture
def folder(tmp_path):
    predictions(tmp_path / "p.parquet")
    return tmp_path


def definitions(folder, **settings):
    return active_learning_definitions(
        **{
            "pool": "pool",
            "predictions": PredictionFiles(folder / "p.parquet", "parquet", model="may"),
            "acquisition_functions": ["margin", "entropy"],
            **settings,
        }
    )


def run(folder, defs, **options):
    """Materialize the definitions; the metadata of each asset."""
    result = dg.materialize(
        defs.assets,
        resources={"duckdb": DuckDBResource(database=str(folder / "labeling.duckdb"))},
        **options,
    )
    return {
        event.asset_key.to_user_string(): event.materialization.metadata
        for event in result.get_asset_materialization_events()
    }


def data_of(path):
    (text,) = re.findall(r'id="data">(.*?)</script>', Path(path).read_text("utf-8"), re.DOTALL)
    return json.loads(text)


def ids_of(data, number=0):
    return [data["ids"][image] for image in data["lists"][number]["images"]]


def margin_order(vectors):
    """Images by the difference of their two largest probabilities, as NumPy computes it."""
    top = {one: np.sort(vector.astype(np.float64))[::-1] for one, vector in vectors.items()}
    return sorted(top, key=lambda one: top[one][0] - top[one][1])


def test_each_ranking_has_a_page_beside_the_database_with_the_other_functions_beside_it(folder):
    metadata = run(folder, definitions(folder))
    path = folder / "labeling_reports" / "pool" / "labeling_candidates" / "margin.html"
    report = metadata["pool/labeling_candidates/margin"]["report"]
    assert report == dg.MetadataValue.path(str(path))
    summary = metadata["pool/labeling_candidates/margin"]["summary"].value
    assert summary.endswith(f"report `{path}`")
    assert len(summary) < 1_000
    content = Path(path).read_text("utf-8")
    assert "<dd>p.parquet</dd>" in content
    assert str(folder) not in content
    data = data_of(path)
    order = margin_order(predictions(folder / "again.parquet"))
    assert ids_of(data) == order
    assert [one["name"] for one in data["lists"]] == ["margin", "entropy"]
    entropy = data_of(metadata["pool/labeling_candidates/entropy"]["report"].value)
    assert [one["name"] for one in entropy["lists"]] == ["entropy", "margin"]
    assert ids_of(entropy, 1) == order
    assert [one["name"] for one in data["classes"]] == CLASSES
    first = data["lists"][0]["reasons"][0]
    assert re.fullmatch(r"(cat|dog|eel) vs (cat|dog|eel): 0\.\d\d / 0\.\d\d", first)
    assert sum(data["lists"][0]["counts"]) == len(IDS)


def test_a_folder_of_ones_own_and_none_at_all(folder):
    report = run(folder, definitions(folder, report=folder / "own"))
    path = report["pool/labeling_candidates/margin"]["report"].value
    assert Path(path) == folder / "own" / "pool" / "labeling_candidates" / "margin.html"
    none = run(folder, definitions(folder, report=False))
    assert "report" not in none["pool/labeling_candidates/margin"]
    assert not (folder / "labeling_reports").exists()


@pytest.mark.parametrize(
    ("report", "database", "expected"),
    [
        ("~/reports", "a.duckdb", "home/reports"),
        (Path("~/reports"), "a.duckdb", "home/reports"),
        (True, "~/pools/a.duckdb", "home/pools/a_reports"),
        (True, "pools/a.duckdb", "pools/a_reports"),
        ("~nobody-has-this-name/reports", "a.duckdb", "~nobody-has-this-name/reports"),
    ],
)
def test_a_tilde_is_the_home_folder(monkeypatch, report, database, expected):
    from dagster_active_learning.definitions.reports import report_folder

    monkeypatch.setenv("HOME", "home")
    assert report_folder(report, database) == Path(expected)


@pytest.mark.parametrize("report", ["", "s3://bucket/reports", None, 7])
def test_a_folder_that_cannot_be_one_is_refused(folder, report):
    with pytest.raises(SettingError, match="report is .*, expected a local folder"):
        definitions(folder, report=report)


def test_a_ranking_that_is_made_again_replaces_its_page_and_leaves_no_other_file(folder):
    run(folder, definitions(folder, limit=5))
    run(folder, definitions(folder, limit=7))
    pages = folder / "labeling_reports" / "pool" / "labeling_candidates"
    assert sorted(path.name for path in pages.iterdir()) == ["entropy.html", "margin.html"]
    assert len(ids_of(data_of(pages / "margin.html"))) == 7


def test_a_page_that_cannot_be_written_fails_nothing_and_is_said_so(folder):
    (folder / "labeling_reports").write_text("a file in its place")
    metadata = run(folder, definitions(folder, batch=LabelingBatch(size=5)))
    for key in ("labeling_candidates/margin", "labeling_batch"):
        assert metadata[f"pool/{key}"]["report"].value.startswith("not written: ")
        assert "report" not in str(metadata[f"pool/{key}"]["summary"].value)
    assert metadata["pool/labeling_batch"]["dagster/row_count"].value == 5


def failing(*_args, **_settings):
    raise MemoryError("no room for it")


@pytest.mark.parametrize(
    ("settings", "broken", "reason"),
    [
        ({"report": "reports\0"}, None, "ValueError: embedded null byte"),
        ({}, "report.reading.read_rankings", "MemoryError: no room for it"),
        ({}, "report.writing.write_page", "MemoryError: no room for it"),
        ({}, "report.pictures.Pictures", "MemoryError: no room for it"),
    ],
    ids=["folder", "reading", "writing", "pictures"],
)
def test_nothing_that_happens_to_a_page_fails_its_step(
    folder, monkeypatch, settings, broken, reason
):
    if broken:
        monkeypatch.setattr(f"dagster_active_learning.{broken}", failing)
    metadata = run(folder, definitions(folder, batch=LabelingBatch(size=5), **settings))
    for key in ("labeling_candidates/margin", "labeling_candidates/entropy", "labeling_batch"):
        assert metadata[f"pool/{key}"]["report"].value == f"not written: {reason}"
        assert "report" not in str(metadata[f"pool/{key}"]["summary"].value)
    assert metadata["pool/labeling_batch"]["dagster/row_count"].value == 5


def test_no_candidate_at_all_is_a_page(folder):
    (folder / "manifest.csv").write_text(
        "image_id,label\n" + "".join(f"{one},cat\n" for one in IDS)
    )
    metadata = run(folder, definitions(folder, images=folder / "manifest.csv"))
    assert ids_of(data_of(metadata["pool/labeling_candidates/margin"]["report"].value)) == []


def test_each_partition_has_a_page_with_the_model_before_it_beside_it(folder):
    vectors = {}
    for seed, name in enumerate(["april", "may"]):
        (folder / "sets").mkdir(exist_ok=True)
        vectors[name] = predictions(folder / "sets" / f"{name}.parquet", seed=seed)
    defs = definitions(
        folder,
        predictions=PredictionFiles(str(folder / "sets" / "{partition_key}.parquet"), "parquet"),
        partitions_def=dg.StaticPartitionsDefinition(["april", "may"]),
    )
    run(folder, defs, partition_key="april")
    metadata = run(folder, defs, partition_key="may")
    path = Path(metadata["pool/labeling_candidates/margin"]["report"].value)
    assert (path.parent.name, path.name) == ("margin", "may.html")
    data = data_of(path)
    names = [one["name"] for one in data["lists"]]
    assert names == ["margin", "entropy", "margin, prediction set april"]
    assert ids_of(data, 0) == margin_order(vectors["may"])
    assert ids_of(data, 2) == margin_order(vectors["april"])
    assert data_of(path.with_name("april.html"))["lists"][0]["name"] == "margin"


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("/home/me/secret/may.parquet", "may.parquet"),
        ("s3://bucket/runs/*.parquet", "*.parquet"),
        ("C:\\runs\\may\\", "may"),
        ("may.json", "may.json"),
        ("query SELECT * FROM '/home/me/may.parquet'", "a query"),
        ("asset ml/predictions", "asset ml/predictions"),
    ],
)
def test_a_page_names_a_file_and_not_its_place(source, name):
    from dagster_active_learning.definitions.pages import _without_place

    assert _without_place(source) == name


@pytest.mark.parametrize(
    ("key", "name"),
    [
        ("2026-05", "2026-05"),
        ("../../etc", "..%2F..%2Fetc"),
        ("a/b|c:d", "a%2Fb%7Cc%3Ad"),
        ("ä", "%C3%A4"),
        (".", "."),
    ],
)
def test_a_partition_key_is_a_name_in_the_folder(key, name):
    from dagster_active_learning.definitions.pages import _file_name

    assert _file_name(key) == name


def test_long_partition_keys_have_different_names():
    from dagster_active_learning.definitions.pages import _file_name

    names = {_file_name("x" * 300 + end) for end in "abc"}
    assert len(names) == 3
    assert max(map(len, names)) < 250


def test_a_batch_has_a_page_with_the_way_each_image_was_chosen_and_the_plane_of_embeddings(folder):
    rng = np.random.default_rng(5)
    vectors = list(rng.normal(size=(len(IDS), 6)).astype(np.float32))
    pq.write_table(pa.table({"image_id": IDS, "embedding": vectors}), folder / "e.parquet")
    batch = LabelingBatch(
        size=10,
        random_share=0.3,
        rank_by="margin",
        near_duplicates=NearDuplicates(path=folder / "e.parquet"),
    )
    metadata = run(folder, definitions(folder, batch=batch))
    path = Path(metadata["pool/labeling_batch"]["report"].value)
    assert path == folder / "labeling_reports" / "pool" / "labeling_batch" / "batch_1.html"
    assert str(path) in str(metadata["pool/labeling_batch"]["summary"].value)
    data = data_of(path)
    assert [one["name"] for one in data["lists"]] == ["batch 1", "margin", "entropy"]
    shown = [record.data for record in metadata["pool/labeling_batch"]["images"].records]
    assert ids_of(data) == [row["image_id"] for row in shown]
    assert data["lists"][0]["chosen"] == [row["chosen_by"] for row in shown]
    assert data["lists"][0]["chosen"].count("random") == 3
    assert all(data["points"][image] for image in data["lists"][0]["images"])
    ranking = data_of(metadata["pool/labeling_candidates/margin"]["report"].value)
    assert sum(point is not None for point in ranking["points"]) == len(IDS)


def test_embeddings_that_are_not_there_are_said_so_and_fail_no_ranking(folder):
    batch = LabelingBatch(size=5, near_duplicates=NearDuplicates(path=folder / "gone.parquet"))
    # The batch cannot do without them.
    metadata = run(folder, definitions(folder, batch=batch), raise_on_error=False)
    path = metadata["pool/labeling_candidates/margin"]["report"].value
    assert data_of(path)["points"] == []
    content = Path(path).read_text("utf-8")
    assert "There is no plot of embeddings" in content
    assert str(folder) not in content
