"""Code versions: each setting changes those of exactly the assets whose content it decides."""

from dataclasses import dataclass, make_dataclass
from datetime import timedelta

import dagster as dg
import pytest

from dagster_active_learning import (
    LabelingBatch,
    LabelStudio,
    LocalWorkers,
    ModelChurn,
    NearDuplicates,
    OpSettings,
    PoolImages,
    PredictionAsset,
    PredictionFiles,
    PredictionFileSensor,
    PredictionQuery,
    RuleEvaluation,
    active_learning_definitions,
)
from dagster_active_learning.definitions.code_versions import changed, code_version
from dagster_active_learning.definitions.pool import Pool

MANIFEST = PoolImages("images.json", format="coco")
SETTINGS = {
    "pool": "pool",
    "predictions": PredictionFiles("p.jsonl", "jsonl"),
    "images": MANIFEST,
    "task": "detection",
    "export": "candidates.csv",
}

IMAGES, PREDICTIONS, SCORES, CANDIDATES, EXPORT = (
    "images",
    "predictions",
    "image_scores",
    "labeling_candidates",
    "exported_candidates",
)
ALL_BUT_IMAGES = {PREDICTIONS, SCORES, CANDIDATES}


def versions(**settings):
    """The code versions of a pool's assets by table; all candidates have the same."""
    found = {}
    definitions = active_learning_definitions(**{**SETTINGS, **settings})
    for asset in definitions.assets or []:
        for spec in asset.specs:
            found.setdefault(spec.key.path[1], set()).add(spec.code_version)
    assert all(len(of_table) == 1 for of_table in found.values())
    return {table: of_table.pop() for table, of_table in found.items()}


def files(**options):
    return PredictionFiles("p.jsonl", "jsonl", **options)


def manifest(**options):
    return PoolImages("images.json", format="coco", **options)


CASES = {
    # What is read and what it becomes.
    "another path": ({"predictions": PredictionFiles("q.jsonl", "jsonl")}, set()),
    "another format": ({"predictions": PredictionFiles("p.csv", "csv")}, {PREDICTIONS}),
    "another column": ({"predictions": files(image_id_column="id")}, {PREDICTIONS}),
    "class names": ({"predictions": files(class_names=["a", "b"])}, {PREDICTIONS}),
    "an option as it is by default": ({"predictions": files(bbox_unit="pixel")}, set()),
    "a model": ({"predictions": files(model="may")}, {PREDICTIONS}),
    "deps": ({"predictions": files(deps=["ml"])}, set()),
    "another upstream asset": ({"predictions": PredictionAsset("ml")}, {PREDICTIONS}),
    "a query": ({"predictions": PredictionQuery("FROM ml")}, {PREDICTIONS}),
    "another manifest": ({"images": PoolImages("other.json", format="coco")}, set()),
    "a manifest of another format": ({"images": PoolImages("m.csv")}, {IMAGES}),
    "other ids": ({"images": manifest(image_id="file_name")}, {IMAGES}),
    "ids as they are by default": ({"images": manifest(image_id="id")}, set()),
    "labeled images": ({"images": manifest(labeled=["1"])}, {IMAGES}),
    "a file of labeled images": ({"images": manifest(labeled="labeled.txt")}, {IMAGES}),
    "deps of the manifest": ({"images": manifest(deps=["export"])}, set()),
    "image_roots": ({"image_roots": ["s3://bucket/images"]}, set()),
    "report": ({"report": "reports"}, set()),
    "no report": ({"report": False}, set()),
    # How it is scored and ranked.
    "task": ({"task": "segmentation"}, ALL_BUT_IMAGES),
    "inputs": ({"inputs": "logits"}, ALL_BUT_IMAGES),
    "aggregation": ({"aggregation": "max"}, {SCORES}),
    "score_only": ({"score_only": "binary"}, {SCORES, CANDIDATES}),
    "images_without_predictions": ({"images_without_predictions": "first"}, {CANDIDATES}),
    "limit": ({"limit": 7}, {CANDIDATES}),
    "seed": ({"seed": 1}, {CANDIDATES}),
    "limit as it is by default": ({"limit": 1000}, set()),
    "no limit": ({"limit": None}, {CANDIDATES}),
    "sum_tolerance": ({"sum_tolerance": 0.01}, {PREDICTIONS, SCORES}),
    "committee as it is by default": ({"committee": False}, set()),
    "acquisition_functions": ({"acquisition_functions": ["margin"]}, {EXPORT}),
    "another file": ({"export": "others.csv"}, {EXPORT}),
    "the same file by its exporter": ({"export": {"csv": "candidates.csv"}}, set()),
    "batch": ({"batch": LabelingBatch(size=7)}, set()),
    "churn": (
        {
            "churn": ModelChurn(),
            "task": "classification",
            "partitions_def": dg.StaticPartitionsDefinition(["may"]),
            "predictions": PredictionFiles("{partition_key}.jsonl", "jsonl"),
            "export": "{partition_key}.csv",
        },
        {PREDICTIONS, SCORES, CANDIDATES, EXPORT},  # By the task and the export.
    ),
    "evaluation": ({"evaluation": RuleEvaluation(boxes="boxes.json")}, set()),
    "labeling": (
        {"labeling": LabelStudio(project="street signs"), "batch": LabelingBatch(size=7)},
        set(),
    ),
    # The content is that of the same files copied.
    "in place": (
        {
            "predictions": PredictionFiles("p.parquet", "parquet", in_place=True),
            "storage": "scores",
            "engine": LocalWorkers(2),
        },
        {PREDICTIONS},  # By the format.
    ),
    "keep_prediction_sets": ({"keep_prediction_sets": 7}, set()),
    # When and where, and what is checked.
    "max_quarantined_share": ({"max_quarantined_share": 0.5}, set()),
    "min_coverage": ({"min_coverage": 0.5}, set()),
    "max_jump": ({"max_jump": 0.5}, set()),
    "lock_timeout_seconds": ({"lock_timeout_seconds": 1}, set()),
    "group_name": ({"group_name": "labeling"}, set()),
    "sensor": ({"sensor": PredictionFileSensor()}, set()),
    "automation": ({"automation": True}, set()),
    "freshness_policy": (
        {"freshness_policy": dg.FreshnessPolicy.time_window(timedelta(days=1))},
        set(),
    ),
    "schedule": ({"schedule": "0 6 * * *"}, set()),
    "op": ({"op": OpSettings(tags={"team": "vision"}, pool="gpu")}, set()),
    # The export's path names the partition, so that it is another path.
    "partitions_def": (
        {
            "partitions_def": dg.StaticPartitionsDefinition(["may"]),
            "predictions": PredictionFiles("{partition_key}.jsonl", "jsonl"),
            "export": "{partition_key}.csv",
        },
        {EXPORT},
    ),
}


@pytest.mark.parametrize(("settings", "expected"), CASES.values(), ids=CASES)
def test_a_setting_changes_the_assets_that_it_decides(settings, expected):
    before, after = versions(), versions(**settings)
    assert {table for table in before if before[table] != after[table]} == expected


EMBEDDINGS = NearDuplicates(path="e.parquet")


@pytest.mark.parametrize(
    ("batch", "is_another"),
    [
        ({"choose_by": "queue"}, False),
        ({"choose_by": "badge"}, True),
        ({"choose_by": "typical"}, True),
        ({"export": "batch.csv"}, False),
        ({"class_turns": False}, True),
    ],
)
def test_a_setting_of_the_batch_changes_the_batch_that_it_decides(batch, is_another):
    before, after = (
        versions(task="classification", batch=LabelingBatch(near_duplicates=EMBEDDINGS, **one))[
            "labeling_batch"
        ]
        for one in ({}, batch)
    )
    assert (before != after) == is_another


def test_every_setting_is_in_the_table():
    varied = {name for settings, _ in CASES.values() for name in settings}
    declared = Pool.__dataclass_fields__.keys() - {"name", "get_asset_spec", "execute"}
    assert declared <= varied


def test_a_committee_decides_the_scores():
    before, after = (versions(task="classification", committee=one) for one in (False, True))
    assert {table for table in before if before[table] != after[table]} == {SCORES}


def test_whether_there_is_a_manifest_decides_what_is_read_scored_and_ranked():
    with_manifest, without = versions(), versions(images=None)
    assert {table for table in without if without[table] != with_manifest[table]} == ALL_BUT_IMAGES


def test_an_option_that_is_added_changes_no_version():
    @dataclass(frozen=True)
    class Options:
        column: str = "id"
        names: tuple[str, ...] | None = None

    more = make_dataclass(
        "Options",
        [("unit", str, "pixel"), ("column", str, "id"), ("names", object, None), ("z", int, 0)],
        frozen=True,
    )
    for values in ({}, {"column": "key"}, {"names": ("a", "b")}):
        assert code_version(changed(Options(**values))) == code_version(changed(more(**values)))
    assert code_version(changed(more(unit="relative"))) != code_version(changed(more()))


def test_a_version_depends_on_values_not_on_the_order_or_kind_of_sequence():
    assert code_version({"a": 1, "b": ["x"]}) == code_version({"b": ("x",), "a": 1})
    assert code_version({"a": 1}) != code_version({"a": "1"})


def test_labels_and_seed_decide_the_evaluation_and_where_boxes_are_does_not():
    def version(seed=0, **evaluation):
        described = RuleEvaluation(**{"boxes": "boxes.json", **evaluation})
        return versions(seed=seed, evaluation=described)["rule_evaluation"]

    before = version()
    assert version(boxes="other.json") == version(boxes_image_id="file_name") == before
    others = [version(seed=1), version(first=7), version(labels_held_out=True), version(labels_drawn_at_random=True)]  # fmt: skip
    assert len({before, *others}) == 5
