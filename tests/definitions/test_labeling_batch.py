"""``<pool>/labeling_batch`` and its export as Dagster runs them."""

# What a test expects to be there may be None for the types.
# pyright: reportOptionalMemberAccess=false, reportOptionalIterable=false, reportOperatorIssue=false

import re
from pathlib import Path

import dagster as dg
import duckdb
import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from dagster_duckdb import DuckDBResource

from dagster_active_learning import (
    ActiveLearningComponent,
    LabelingBatch,
    NearDuplicates,
    PredictionFiles,
    active_learning_definitions,
    exporters,
    load_batch,
)
from dagster_active_learning.errors import SettingError
from dagster_active_learning.store import handed_out
from dagster_active_learning.store.handed_out import unfinished_batch
from dagster_active_learning.store.labeling_batches import batch_images
from dagster_active_learning.store.pool_store import PoolStore

IDS = [f"image{number:03d}" for number in range(200)]
MANIFEST = "labeled images.csv"


@pytest.fixture
def folder(tmp_path):
    random = np.random.default_rng(0)
    class_probs = list(random.dirichlet([2, 1, 1], len(IDS)).astype(np.float32))
    names = {"class_names": '["cat", "dog", "a|b"]'}
    table = pa.table({"image_id": IDS, "class_probs": class_probs})
    pq.write_table(table.replace_schema_metadata(names), tmp_path / "p.parquet")
    distinct = random.normal(size=(60, 4)).astype(np.float32)
    vectors = [distinct[place % 60] for place in range(len(IDS))]
    pq.write_table(pa.table({"image_id": IDS, "embedding": vectors}), tmp_path / "e.parquet")
    label(tmp_path, {})
    return tmp_path


def label(folder, labels):
    pl.DataFrame(
        {"image_id": IDS, "label": [labels.get(one) for one in IDS]}, schema={"image_id": pl.String, "label": pl.String}
    ).write_csv(folder / MANIFEST)  # fmt: skip


def definitions(folder, batch, **settings):
    return active_learning_definitions(
        pool="pool",
        predictions=PredictionFiles(folder / "p.parquet", "parquet"),
        images=folder / MANIFEST,
        acquisition_functions=["margin", "entropy"],
        batch=batch,
        **settings,
    )


def run(folder, defs, selection=None):
    return dg.materialize(
        [*defs.assets, *defs.asset_checks],
        resources={"duckdb": DuckDBResource(database=str(folder / "labeling.duckdb"))},
        selection=selection,
    )


def metadata_of(result, key):
    (event,) = [
        event
        for event in result.get_asset_materialization_events()
        if event.asset_key.to_user_string() == key
    ]
    return event.materialization.metadata


def checks_of(result):
    return {
        evaluation.check_name: evaluation
        for evaluation in result.get_asset_check_evaluations()
        if evaluation.asset_key == dg.AssetKey(["pool", "labeling_batch"])
    }


def test_a_run_chooses_a_batch_writes_it_and_hands_it_out(folder):
    batch = LabelingBatch(
        size=20,
        random_share=0.2,
        max_in_flight=45,
        near_duplicates=NearDuplicates(path=folder / "e.parquet", max_distance=0.01),
        export=folder / "batch.csv",
    )
    defs = definitions(folder, batch, export=folder / "rankings.parquet")
    result = run(folder, defs)
    metadata = metadata_of(result, "pool/labeling_batch")
    numbers = {name: metadata[name].value for name in ("batch", "random", "in_flight", "unlabeled", "wanted", "dagster/row_count")}  # fmt: skip
    assert numbers == {
        "batch": "1",
        "random": 4,
        "in_flight": 0,
        "unlabeled": 200,
        "wanted": "20 images",
        "dagster/row_count": 20,
    }
    assert 0 <= metadata["overlap_with_bare_queue"].value < 1
    assert "no uncertainty can be trusted yet" in metadata["cold_start"].value
    assert "| cat |" in metadata["by_class"].value
    assert "█" in metadata["by_class"].value
    assert "a\\|b" in metadata["by_class"].value
    assert metadata["nearest_distances"].value.startswith("![Histogram")
    assert metadata["near_duplicates"].value > 0
    rows = [record.data for record in metadata["images"].records]
    assert [row["position"] for row in rows] == list(range(1, 21))
    assert all(check.passed for check in checks_of(result).values())
    written = pl.read_csv(folder / "batch.csv")
    assert written["image_id"].to_list() == [row["image_id"] for row in rows]
    assert pl.read_parquet(folder / "rankings.parquet").height == 400
    # The export alone again: the same batch, not another one.
    run(folder, defs, "pool/exported_candidates")
    assert pl.read_csv(folder / "batch.csv").equals(written)

    # The queue is what it was: only a batch of it is new.
    second = run(folder, defs, "pool/labeling_batch*")
    assert not set(pl.read_csv(folder / "batch.csv")["image_id"]) & set(written["image_id"])
    assert metadata_of(second, "pool/labeling_batch")["in_flight"].value == 20
    third = run(folder, defs, "pool/labeling_batch*")
    assert metadata_of(third, "pool/labeling_batch")["dagster/row_count"].value == 5
    short = checks_of(third)["quotas_met"]
    assert not short.passed
    assert short.severity == dg.AssetCheckSeverity.WARN
    assert "there is room for 5" in short.description
    # An empty batch does not take the place of the file that is out.
    before = (folder / "batch.csv").read_bytes()
    empty = run(folder, defs, "pool/labeling_batch*")
    assert "room for 0" in metadata_of(empty, "pool/exported_candidates")["not_written"].value
    assert (folder / "batch.csv").read_bytes() == before
    # Labels take images out of the flight.
    label(folder, dict.fromkeys(written["image_id"], "cat"))
    last = run(folder, defs)
    assert metadata_of(last, "pool/labeling_batch")["in_flight"].value == 25
    assert all(check.passed for check in checks_of(last).values())


class Killed(BaseException):
    """The end of a process, at a place that a test chooses."""


@pytest.mark.slow
@pytest.mark.parametrize(
    "moment", ["before the first file", "after the first file", "before the end"]
)
def test_an_export_that_is_killed_is_the_next_one_too(folder, monkeypatch, moment):
    files = {"csv": folder / "batch.csv", "parquet": folder / "batch.parquet"}
    batch = LabelingBatch(size=10, random_share=0, export=files)
    defs = definitions(folder, batch)
    calls = []

    def replace(source, target):
        # Reports take their places, too.
        if Path(target) in files.values():
            calls.append(target)
        if len(calls) == {"before the first file": 1, "after the first file": 2}.get(moment):
            raise Killed
        source.rename(target)

    def end_export(store, batch):
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(exporters.os, "replace", replace)
        if moment == "before the end":
            patch.setattr(handed_out, "end_export", end_export)
        with pytest.raises(Killed):
            run(folder, defs)
    assert [one.exists() for one in files.values()] == [
        moment != "before the first file",
        moment == "before the end",
    ]
    with duckdb.connect(str(folder / "labeling.duckdb")) as connection:
        store = PoolStore(connection, "pool")
        expected = batch_images(store, 1)["image_id"].to_list()
        assert unfinished_batch(store) == 1
    # With other settings, too: the files may be out.
    again = definitions(folder, LabelingBatch(size=20, random_share=0.5, export=files))
    result = run(folder, again)
    assert "writing the files of batch 1 began and did not end" in metadata_of(result, "pool/labeling_batch")["kept"].value  # fmt: skip
    assert pl.read_csv(files["csv"])["image_id"].to_list() == expected
    assert pl.read_parquet(files["parquet"])["image_id"].to_list() == expected
    # What was written to its end is not given again.
    result = run(folder, again)
    assert "kept" not in metadata_of(result, "pool/labeling_batch")
    assert not set(expected) & set(pl.read_csv(files["csv"])["image_id"])


def test_checks_see_what_is_wrong_with_a_batch(folder):
    defs = definitions(folder, LabelingBatch(size=10))
    run(folder, defs)
    with duckdb.connect(str(folder / "labeling.duckdb")) as connection:
        first = "SELECT image_id FROM pool.labeling_batches WHERE position = 1"
        connection.execute(f"UPDATE pool.images SET labeled = true WHERE image_id = ({first})")
        connection.execute("INSERT INTO pool.labeling_batches BY NAME SELECT * REPLACE (0 AS batch, now() AS handed_out_at) FROM pool.labeling_batches WHERE position = 2")  # fmt: skip
    selection = dg.AssetSelection.checks_for_assets(dg.AssetKey(["pool", "labeling_batch"]))
    result = dg.materialize(
        [*defs.assets, *defs.asset_checks],
        resources={"duckdb": DuckDBResource(database=str(folder / "labeling.duckdb"))},
        selection=selection,
    )
    failed = {name for name, check in checks_of(result).items() if not check.passed}
    assert failed == {"no_image_twice", "no_labeled_images", "no_images_in_flight"}


def test_yaml_and_python_are_the_same(folder):
    attributes = {
        "pool": "pool",
        "predictions": {"path": "p.parquet", "format": "parquet"},
        "batch": {
            "size": 5,
            "rank_by": "entropy",
            "random_share": 0.5,
            "choose_by": "queue",
            "class_weights": {"dog": 2.5},
            "max_in_flight": 7,
            "near_duplicates": {"path": "e.parquet", "max_distance": 0.5, "deps": ["model/embed"]},
            "export": {"csv": "batch.csv"},
        },
        "keep_prediction_sets": 3,
    }
    file = folder / "defs.yaml"
    file.write_text(yaml.safe_dump({"type": "dagster_active_learning.ActiveLearningComponent", "attributes": attributes}))  # fmt: skip
    context = dg.ComponentTree.for_test().load_context
    component = ActiveLearningComponent.from_attributes_dict(attributes=attributes, context=context)
    batch = component.batch
    assert (batch.size, batch.rank_by, batch.random_share, batch.max_in_flight) == (5, "entropy", 0.5, 7)  # fmt: skip
    assert dict(batch.class_weights) == {"dog": 2.5}
    assert batch.rules.max_distance == 0.5
    assert str(batch.near_duplicates.path).endswith("e.parquet")
    assert list(batch.near_duplicates.deps) == [dg.AssetKey(["model", "embed"])]
    assert batch.files.paths["csv"].endswith("batch.csv")
    assert component.as_pool().keep_prediction_sets == 3


@pytest.mark.parametrize(
    ("batch", "words"),
    [
        ({"rank_by": "mean_object_score"}, "rank_by is 'mean_object_score', expected one of"),
        ({"size": 2000, "queue_length": 3000}, "size is 2000 and limit is 1000"),
        ({"max_distance": 0.3}, "set it in near_duplicates"),
        ({"export": "batch.txt"}, "batch.txt"),
        ({"choose_by": "badge"}, "choose_by is 'badge', which needs embeddings: say in near_dup"),
        ({"choose_by": "BADGE"}, "choose_by is 'BADGE', expected one of 'queue', 'badge', 'typ"),
    ],
)
def test_a_batch_that_cannot_be_is_refused(folder, batch, words):
    with pytest.raises(SettingError, match=words):
        definitions(folder, LabelingBatch(**batch))


@pytest.mark.parametrize("settings", [{"task": "detection"}, {"inputs": "independent"}])
def test_badge_is_about_one_class_per_image(settings):
    batch = LabelingBatch(choose_by="badge", near_duplicates=NearDuplicates(path="e.parquet"))
    with pytest.raises(SettingError, match="choose_by is 'badge', expected 'queue' or 'typical'"):
        active_learning_definitions(
            pool="pool", predictions=PredictionFiles("p.jsonl", "jsonl"), batch=batch, **settings
        )


@pytest.mark.parametrize(
    ("choose_by", "description", "reason"),
    [
        ("badge", "those whose gradients are far apart", r"badge, rank \d+ "),
        ("typical", "typical ones, which are like many others", " typical "),
    ],
)
def test_images_are_chosen_by_their_embeddings(folder, capfd, choose_by, description, reason):
    batch = LabelingBatch(
        size=10, choose_by=choose_by, near_duplicates=NearDuplicates(path=folder / "e.parquet")
    )
    defs = definitions(folder, batch)
    (spec,) = [one for asset in defs.assets for one in asset.specs if one.key.path[-1] == "labeling_batch"]  # fmt: skip
    assert description in spec.description
    result = run(folder, defs)
    metadata = metadata_of(result, "pool/labeling_batch")
    rows = [record.data for record in metadata["images"].records]
    assert [row["chosen_by"] for row in rows].count(choose_by) == 9
    assert ("cold_start" in metadata) == (choose_by == "badge")
    assert all(check.passed for check in checks_of(result).values())
    assert re.search(reason, capfd.readouterr().err.split("Label these next")[1])


@pytest.mark.parametrize("sources", [{}, {"path": "a", "query": "FROM b"}, {"path": "s3://a/b"}])
def test_embeddings_have_one_local_source(sources):
    with pytest.raises(SettingError, match="near_duplicates has"):
        NearDuplicates(**sources)


def test_detections_are_ranked_by_their_scores_and_an_empty_queue_warns(tmp_path):
    pq.write_table(
        pa.table({"image_id": IDS, "score": np.linspace(0.1, 0.9, len(IDS))}),
        tmp_path / "p.parquet",
    )
    defs = active_learning_definitions(
        pool="pool",
        predictions=PredictionFiles(tmp_path / "p.parquet", "parquet", score_column="score"),
        task="detection",
        batch=LabelingBatch(size=10, random_share=0, objects_budget=7),
    )
    result = run(tmp_path, defs)
    by_asset = {
        evaluation.asset_key.path[-1]: evaluation
        for evaluation in result.get_asset_check_evaluations()
        if evaluation.check_name == "queue_is_not_empty"
    }
    failed = {name for name, evaluation in by_asset.items() if not evaluation.passed}
    assert failed == {"entropy", "least_confidence", "margin", "variance"}
    assert "no class probabilities; leave entropy out" in by_asset["entropy"].description
    batch = load_batch(tmp_path / "labeling.duckdb", pool="pool")
    assert batch["image_id"].to_list() == IDS[:7]
    assert set(batch["acquisition_function"]) == {"mean_object_score"}


def test_old_prediction_sets_go_and_what_a_pool_had_before_its_partitions(folder):
    plain = definitions(folder, None)
    run(folder, plain)
    keys = dg.StaticPartitionsDefinition(["a", "b", "c"])
    for key in ("a", "b", "c"):
        (folder / f"{key}.parquet").write_bytes((folder / "p.parquet").read_bytes())
    defs = active_learning_definitions(
        pool="pool",
        predictions=PredictionFiles(folder / "{partition_key}.parquet", "parquet"),
        images=folder / MANIFEST,
        acquisition_functions=["margin"],
        partitions_def=keys,
        keep_prediction_sets=2,
        batch=LabelingBatch(size=10),
    )
    with dg.DagsterInstance.ephemeral() as instance:
        for key in ("a", "b", "c"):
            dg.materialize(
                [
                    asset
                    for asset in defs.assets
                    if "images" not in asset.node_def.name.split("__")[-1]
                ],
                instance=instance,
                resources={"duckdb": DuckDBResource(database=str(folder / "labeling.duckdb"))},
                partition_key=key,
            )
    with duckdb.connect(str(folder / "labeling.duckdb"), read_only=True) as connection:
        sets = connection.execute("SELECT prediction_set FROM pool.prediction_sets ORDER BY 1").fetchall()  # fmt: skip
        batches = connection.execute("SELECT DISTINCT batch, prediction_set FROM pool.labeling_batches").fetchall()  # fmt: skip
    assert sets == [("b",), ("c",)]
    assert batches == [(1, "c")]
