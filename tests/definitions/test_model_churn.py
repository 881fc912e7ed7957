"""``<pool>/model_churn`` as Dagster runs it."""

# What a test expects to be there may be None for the types.
# pyright: reportOptionalMemberAccess=false, reportOptionalSubscript=false, reportOperatorIssue=false

import json

import dagster as dg
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from dagster_duckdb import DuckDBResource

from dagster_active_learning import (
    ActiveLearningComponent,
    LabelingBatch,
    ModelChurn,
    PredictionFiles,
    active_learning_definitions,
)
from dagster_active_learning.errors import SettingError

CLASSES = {"may": ["cat", "dog"], "june": ["dog", "cat", "fox"]}
"""Another model has the classes in another order, and one more."""

ROWS = {
    "may": [("a", [0.9, 0.1]), ("b", [0.6, 0.4]), ("c", [0.2, 0.8]), ("d", [0.5, 0.5])],
    "june": [("a", [0.1, 0.9, 0]), ("b", [0.7, 0.3, 0]), ("c", [0, 0, 1]), ("e", [1, 0, 0])],
}
SEVERAL = {"may": [("c", [0.7, 0.3])], "june": [("b", [0.9, 0.05, 0.05])]}
"""More predictions of an image: what counts is the mean. In May c becomes (.45, .55), a dog."""


@pytest.fixture
def folder(tmp_path):
    for name, rows in ROWS.items():
        ids, probs = zip(*rows, *SEVERAL[name], strict=True)
        table = pa.table({"image_id": ids, "class_probs": [np.array(one, float) for one in probs]})
        pq.write_table(table.replace_schema_metadata({"class_names": json.dumps(CLASSES[name])}), tmp_path / f"{name}.parquet")  # fmt: skip
    (tmp_path / "m.csv").write_text("image_id,label\na,cat\nb,cat\nc,fox\nd,\ne,\n")
    return tmp_path


def definitions(folder, **churn):
    return active_learning_definitions(
        pool="pool",
        predictions=PredictionFiles(folder / "{partition_key}.parquet", "parquet"),
        images=folder / "m.csv",
        acquisition_functions=["margin"],
        partitions_def=dg.StaticPartitionsDefinition(["may", "june"]),
        batch=LabelingBatch(size=1),
        churn=ModelChurn(**churn),
    )


def run(folder, defs, instance, key, *selection):
    result = dg.materialize(
        [*defs.assets, *defs.asset_checks],
        resources={"duckdb": DuckDBResource(database=str(folder / "labeling.duckdb"))},
        selection=[f"pool/{table}" for table in selection],
        instance=instance,
        partition_key=key,
    )
    events = {e.asset_key.path[-1]: e.materialization.metadata for e in result.get_asset_materialization_events()}  # fmt: skip
    checks = {e.check_name: e for e in result.get_asset_check_evaluations()}
    return events.get("model_churn"), checks.get("few_classes_changed")


def test_a_set_is_compared_with_the_one_before(folder):
    defs = definitions(folder, max_changed_share=0.5)
    tables = ("predictions", "image_scores", "labeling_candidates/margin", "model_churn")
    with dg.DagsterInstance.ephemeral() as instance:
        run(folder, defs, instance, None, "images")
        metadata, check = run(folder, defs, instance, "may", *tables)
        assert "no prediction set to compare" in metadata["not_compared"].value
        assert check.passed
        metadata, check = run(folder, defs, instance, "june", *tables)
        named = definitions(folder, against="june")
        same, _ = run(folder, named, instance, "june", "model_churn")
        back, _ = run(folder, named, instance, "may", "model_churn")
    names = ("dagster/partition_row_count", "images", "labels", "new_errors", "fixed_errors")
    # Of a, b and c: a stays a cat; b, a cat, is a dog now; c, a fox, is one at last.
    assert [metadata[name].value for name in names] == [2, 3, 3, 1, 1]
    assert metadata["compared_with"].value == "may"
    assert metadata["changed_share"].value == 0.6667
    assert metadata["error_rate_of_changed"].value == 0.5
    assert metadata["error_rate_of_others"].value == 0
    changes = {(row.data["before"], row.data["after"]): row.data["images"] for row in metadata["changes"].records}  # fmt: skip
    assert changes == {("cat", "dog"): 1, ("dog", "fox"): 1}
    images = [tuple(row.data.values()) for row in metadata["changed_images"].records]
    assert images == [("b", "cat", "dog", "cat", "new error"), ("c", "dog", "fox", "fox", "fixed")]
    # A batch is one image: of d and e, which have no label, each model has seen the other one.
    sheets = ("only_this_set_asks_for", "only_the_set_before_asks_for")
    assert list(metadata or {})[1:3] == [*sheets]
    assert all("no images to show" in metadata[sheet].value for sheet in sheets)
    (margin,) = [row.data for row in metadata["rankings"].records]
    # Candidates have no label: d and e, of which each model has seen one.
    assert margin["candidates of both"] <= margin["candidates"]
    assert (check.passed, check.severity) == (False, dg.AssetCheckSeverity.WARN)
    assert "66.7%" in check.description
    assert "not_compared" in same
    assert back["dagster/partition_row_count"].value == 2


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"churn": ModelChurn()}, "churn compares prediction sets, and the pool has one"),
        (
            {"churn": ModelChurn(), "task": "detection"},
            "churn compares the classes of whole images",
        ),
        ({"churn": True}, "churn is True, expected ModelChurn"),
    ],
)
def test_a_comparison_that_cannot_be_is_refused(settings, words):
    with pytest.raises(SettingError, match=words):
        active_learning_definitions(pool="pool", predictions=PredictionFiles("p.parquet", "parquet"), **settings)  # fmt: skip
    with pytest.raises(SettingError, match="max_changed_share is 2"):
        ModelChurn(max_changed_share=2)


def test_yaml_and_python_are_the_same():
    attributes = {
        "pool": "pool",
        "predictions": {"path": "{partition_key}.parquet", "format": "parquet"},
        "partitions_def": {"type": "static", "partition_keys": ["may"]},
        "churn": {"against": "may", "max_changed_share": 0.25},
    }
    context = dg.ComponentTree.for_test().load_context
    component = ActiveLearningComponent.from_attributes_dict(attributes=attributes, context=context)
    assert component.as_pool().churn == ModelChurn(against="may", max_changed_share=0.25)
