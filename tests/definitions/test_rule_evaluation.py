"""``<pool>/rule_evaluation`` as Dagster runs it."""

# What a test expects to be there may be None for the types.
# pyright: reportOptionalMemberAccess=false, reportOptionalIterable=false, reportOperatorIssue=false

import json

import dagster as dg
import duckdb
import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from dagster_duckdb import DuckDBResource
from dagster_shared.serdes import serialize_value

from dagster_active_learning import (
    ActiveLearningComponent,
    LabelingBatch,
    LabelStudio,
    PredictionFiles,
    RuleEvaluation,
    active_learning_definitions,
    hand_out_batch,
)
from dagster_active_learning.errors import SettingError

IDS = [f"image{number:03d}" for number in range(300)]
CLASSES = ["cat", "dog", "a|b"]


@pytest.fixture
def folder(tmp_path):
    random = np.random.default_rng(0)
    class_probs = random.dirichlet([1, 1, 1], len(IDS))
    table = pa.table({"image_id": IDS, "class_probs": list(class_probs)})
    for name in ("p", "q"):
        pq.write_table(table.replace_schema_metadata({"class_names": json.dumps(CLASSES)}), tmp_path / f"{name}.parquet")  # fmt: skip
    truth = (random.random(len(IDS))[:, None] > np.cumsum(class_probs, axis=1)).sum(axis=1)
    (tmp_path / "truth.json").write_text(json.dumps([CLASSES[min(one, 2)] for one in truth]))
    label(tmp_path, [])
    return tmp_path


def label(folder, image_ids):
    truth = dict(zip(IDS, json.loads((folder / "truth.json").read_text()), strict=True))
    labels = [truth[one] if one in {*image_ids} else None for one in IDS]
    pl.DataFrame({"image_id": IDS, "label": labels}, schema={"image_id": pl.String, "label": pl.String}).write_csv(folder / "m.csv")  # fmt: skip


def definitions(folder, **settings):
    return active_learning_definitions(
        **{
            "pool": "pool",
            "predictions": PredictionFiles(folder / "p.parquet", "parquet"),
            "images": folder / "m.csv",
            "acquisition_functions": ["margin"],
            "batch": LabelingBatch(size=150, random_share=0.8),
            "evaluation": RuleEvaluation(),
            **settings,
        }
    )


def run(folder, defs, *selection, **options):
    return dg.materialize(
        [*defs.assets, *defs.asset_checks],
        resources={"duckdb": DuckDBResource(database=str(folder / "labeling.duckdb"))},
        selection=[f"pool/{table}" for table in selection] or None,
        **options,
    )


def evaluation_of(result):
    (event,) = [
        event
        for event in result.get_asset_materialization_events()
        if event.asset_key.path[-1] == "rule_evaluation"
    ]
    assert len(serialize_value(event.materialization)) < 100_000
    return event.materialization.metadata


def text_of(metadata, name):
    """A sentence, whose lines are short in the UI."""
    lines = metadata[name].value.splitlines()
    assert all(len(line) <= 46 for line in lines)
    return " ".join(line.strip() for line in lines)


def checks_of(result):
    return {
        evaluation.check_name: evaluation
        for evaluation in result.get_asset_check_evaluations()
        if evaluation.asset_key.path[-1] == "rule_evaluation"
    }


def test_labels_of_a_batch_judge_the_rules_and_those_of_the_queue_do_not(folder):
    defs = definitions(folder)
    first = run(folder, defs)
    assert "no image with scores has a label yet" in text_of(evaluation_of(first), "not_evaluated")
    check = checks_of(first)["enough_random_labels"]
    assert (check.passed, check.severity) == (False, dg.AssetCheckSeverity.WARN)
    assert checks_of(first)["labels_are_classes"].passed

    batch = hand_out_batch(folder / "labeling.duckdb", pool="pool")
    label(folder, batch.filter(pl.col("chosen_by") == "queue")["image_id"])
    refused = run(folder, defs, "images", "rule_evaluation")
    metadata = evaluation_of(refused)
    assert "30 came from the queue. Labels from the queue cannot judge" in text_of(metadata, "not_evaluated")  # fmt: skip
    assert metadata["dagster/row_count"].value == 0
    assert "answer" not in metadata
    assert "curves" not in metadata

    label(folder, batch["image_id"])
    result = run(folder, defs, "images", "rule_evaluation")
    metadata = evaluation_of(result)
    numbers = ("random_labels", "labels", "labels_of_queue", "dagster/row_count")
    assert [metadata[name].value for name in numbers] == [120, 150, 30, 4]
    assert text_of(metadata, "answer") == "no difference found, keep margin (120 labels)"
    assert "this model, as it is" in text_of(metadata, "question")
    assert "retraining is another question" in text_of(metadata, "question")
    assert [*metadata][:3] == ["answer", "curves", "reliability"]
    assert metadata["curves"].value.startswith("![Errors found")
    assert metadata["reliability"].value.startswith("![Accuracy over confidence")
    rules = [record.data for record in metadata["rules"].records]
    assert {row["function"] for row in rules} == {"entropy", "least_confidence", "margin", "variance"}  # fmt: skip
    for row in rules:
        low, high = map(float, row["interval of AUROC"].split(" to "))
        assert low < row["AUROC"] < high
    by_class = {record.data["class"]: record.data for record in metadata["by_class"].records}
    assert by_class.keys() == {*CLASSES}
    assert sum(row["errors"] for row in by_class.values()) == metadata["errors"].value
    assert 0.2 < metadata["error_rate"].value < 0.6
    assert 0.5 < metadata["auroc_margin"].value < 1
    assert metadata["temperature"].value > 0
    with duckdb.connect(str(folder / "labeling.duckdb"), read_only=True) as connection:
        stored = connection.execute("SELECT count(*), max(label_count), max(compared_with) FROM pool.rule_evaluations").fetchall()  # fmt: skip
    assert stored == [(4, 120, "margin")]


def test_a_test_set_judges_each_partition_and_other_labels_are_named(folder):
    label(folder, IDS[:250])
    text = (folder / "m.csv").read_text().replace("image000,", "image000,horse").replace("horsecat", "horse").replace("horsedog", "horse").replace("horsea|b", "horse")  # fmt: skip
    (folder / "m.csv").write_text(text)
    defs = definitions(
        folder,
        predictions=PredictionFiles(folder / "{partition_key}.parquet", "parquet"),
        partitions_def=dg.StaticPartitionsDefinition(["p", "q"]),
        evaluation=RuleEvaluation(labels_drawn_at_random=True, first=40),
        batch=None,
    )
    with dg.DagsterInstance.ephemeral() as instance:
        run(folder, defs, "images", instance=instance)
        for key in ("p", "q"):
            tables = ("predictions", "image_scores", "rule_evaluation")
            result = run(folder, defs, *tables, instance=instance, partition_key=key)
            metadata = evaluation_of(result)
            assert metadata["dagster/partition_row_count"].value == 4
            assert metadata["labels_of_no_class"].value == 1
            assert "error rate among the first 40" in metadata["rules"].records[0].data
    checks = checks_of(result)
    assert checks["enough_random_labels"].passed
    assert not checks["labels_are_classes"].passed
    assert checks["labels_are_classes"].metadata["examples"].records[0].data["label"] == "horse"


def test_objects_are_judged_by_boxes(tmp_path):
    random = np.random.default_rng(1)
    boxes = [[float(side) for side in (*random.integers(0, 50, 2), 20, 20)] for _ in range(80)]
    ids = [str(number // 2) for number in range(80)]
    found = {
        "image_id": ids,
        "score": random.random(80),
        "category": ["car"] * 80,
        "bbox": boxes,
    }
    pq.write_table(pa.table(found), tmp_path / "p.parquet")
    pl.DataFrame({"image_id": [str(number) for number in range(40)]}).write_csv(tmp_path / "m.csv")
    drawn = [{"image_id": int(image), "category_id": 1, "bbox": box} for image, box in list(zip(ids, boxes, strict=True))[:50]]  # fmt: skip
    content = {
        "images": [{"id": number, "file_name": f"{number}.jpg"} for number in range(40)],
        "categories": [{"id": 1, "name": "car"}],
        "annotations": drawn,
    }
    (tmp_path / "boxes.json").write_text(json.dumps(content))
    defs = active_learning_definitions(
        pool="pool",
        predictions=PredictionFiles(tmp_path / "p.parquet", "parquet", score_column="score", category_column="category", bbox_column="bbox"),
        images=tmp_path / "m.csv",
        task="detection",
        acquisition_functions=["mean_object_score"],
        evaluation=RuleEvaluation(labels_drawn_at_random=True, boxes=tmp_path / "boxes.json"),
    )  # fmt: skip
    result = run(tmp_path, defs)
    metadata = evaluation_of(result)
    assert {"answer", "answer_by_box", "curves"} <= metadata.keys()
    assert "reliability" not in metadata
    rules = {record.data["function"]: record.data for record in metadata["rules"].records}
    assert rules.keys() == {"mean_object_score, mean", "mean_object_score, sum"}
    assert all("errors per box" in row for row in rules.values())
    (car,) = [record.data for record in metadata["by_class"].records]
    assert (car["boxes"], car["not found"], car["false positives"]) == (50, 0, 30)
    assert "labels_are_classes" not in checks_of(result)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"images": None, "batch": None}, "evaluation needs labels, and the pool has no manifest"),
        ({"evaluation": RuleEvaluation(boxes="b.json")}, "has boxes, and the pool's predictions are about whole"),
        ({"task": "detection", "batch": None, "acquisition_functions": None}, "evaluation has no boxes"),
        ({"evaluation": True}, "evaluation is True, expected RuleEvaluation"),
    ],
)  # fmt: skip
def test_an_evaluation_that_cannot_be_is_refused(folder, settings, words):
    with pytest.raises(SettingError, match=words):
        definitions(folder, **settings)


@pytest.mark.parametrize("task", ["classification", "detection"])
def test_labels_of_a_labeling_tool_come_before_what_is_judged_by_them(folder, task):
    """Objects then need no file of boxes: those that people draw in the tool are there."""
    defs = definitions(
        folder, task=task, acquisition_functions=None, labeling=LabelStudio(project="images")
    )
    deps = {
        key: asset.asset_deps[key]
        for asset in defs.assets
        if isinstance(asset, dg.AssetsDefinition)
        for key in asset.keys
    }
    assert dg.AssetKey(["pool", "labels"]) in deps[dg.AssetKey(["pool", "rule_evaluation"])]


@pytest.mark.parametrize("settings", [{"boxes_image_id": "stem"}, {"boxes": "s3://bucket/b.json"}])
def test_boxes_are_a_local_file(settings):
    (name,) = settings
    with pytest.raises(SettingError, match=f"{name} is "):
        RuleEvaluation(**settings)


@pytest.mark.parametrize(
    "evaluation",
    [
        {},
        {"first": 40, "labels_held_out": True},
        {"boxes": "boxes.json", "boxes_image_id": "file_name", "labels_drawn_at_random": True},
    ],
)
def test_yaml_and_python_are_the_same(evaluation):
    attributes = {
        "pool": "pool",
        "predictions": {"path": "p.parquet", "format": "parquet"},
        "images": "m.csv",
        "task": "detection" if "boxes" in evaluation else "classification",
        "evaluation": evaluation,
    }
    context = dg.ComponentTree.for_test().load_context
    component = ActiveLearningComponent.from_attributes_dict(attributes=attributes, context=context)
    described = component.as_pool().evaluation
    assert described.rules == RuleEvaluation(**evaluation).rules
    assert described.boxes_image_id == evaluation.get("boxes_image_id", "id")
    assert described.boxes == evaluation.get("boxes")
