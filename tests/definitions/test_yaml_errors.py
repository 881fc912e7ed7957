"""Wrong settings of the kinds that people make: the message, its line, and what was meant."""

import json
import re

import pytest
from dagster.components.testing import create_defs_folder_sandbox
from jsonschema import Draft202012Validator

from dagster_active_learning import (
    ActiveLearningComponent,
    PredictionFiles,
    active_learning_definitions,
)
from dagster_active_learning.text import did_you_mean

FILES = ["predictions:", "  path: p.parquet", "  format: parquet"]
FORMATS = (
    "coco, csv, jsonl, kitti, lightly, megadetector, npy, npz, open_images, parquet, rvc, yolo"
)
OF_BATCH = (
    "size, rank_by, random_share, choose_by, class_turns, queue_length, max_in_flight, "
    "return_after_days, max_per_class, class_weights, objects_budget, near_duplicates, export"
)

# The lines below `pool`, which is the third line; the line of the error; what it says.
WRONG = {
    "a format with a typing error": (
        ["predictions:", "  path: p.parquet", "  format: parket"],
        6,
        f"unknown format 'parket': expected one of {FORMATS}; did you mean 'parquet'?",
    ),
    "a function in another language": (
        [*FILES, "acquisition_functions: [entropie]"],
        7,
        (
            "acquisition_functions is ['entropie'], expected different ones of entropy, "
            "least_confidence, margin, variance for the task 'classification'; did you mean 'entropy'?"
        ),
    ),
    "one function without brackets": (
        [*FILES, "acquisition_functions: entropy"],
        7,
        (
            "acquisition_functions is 'entropy', expected a list of different ones of entropy, "
            "least_confidence, margin, variance for the task 'classification'"
        ),
    ),
    "two sources": (
        ["predictions:", "  path: p.parquet", "  query: FROM p"],
        6,
        (
            "predictions has path and query, expected an object with path and format, asset, or "
            "query: one of the three"
        ),
    ),
    "a path alone": (
        ["predictions: p.csv"],
        4,
        (
            "predictions is 'p.csv', expected an object with path and format, asset, or query: one "
            "of the three"
        ),
    ),
    "no format": (
        ["predictions:", "  path: p.parquet"],
        4,
        "predictions lacks format: Format of the files.",
    ),
    "the task too deep": (
        ["predictions:", "  path: labels", "  format: yolo", "  task: detection"],
        7,
        (
            "predictions has no setting 'task': it is a setting of the pool, and stands beside "
            "predictions"
        ),
    ),
    "a task in the plural": (
        [*FILES, "task: detections"],
        7,
        (
            "task is 'detections', expected one of 'classification', 'detection', 'segmentation'; "
            "did you mean 'detection'?"
        ),
    ),
    "an option of tables that is misspelled": (
        ["predictions:", "  query: FROM p", "  class_colums: [a, b]"],
        6,
        (
            "predictions has no setting 'class_colums', expected one of model, image_id_column, "
            "class_probs_column, class_columns, class_column_prefix, class_column_pattern, "
            "class_names, single_probability, score_column, category_column, bbox_column, "
            "bbox_columns, box, bbox_unit, score_transform, query, deps; did you mean 'class_columns'?"
        ),
    ),
    "boxes in an order that there is not": (
        ["predictions:", "  path: p.csv", "  format: csv", "  box: xyxyn", "task: detection"],
        7,
        "box is 'xyxyn', expected one of 'xywh', 'xyxy', 'xcycwh'; did you mean 'xyxy'?",
    ),
    "a manifest of another program": (
        [*FILES, "images: {path: m.csv, format: cvs}"],
        7,
        (
            "format is 'cvs', expected one of 'csv', 'parquet', 'jsonl', 'coco', 'folder'; did you "
            "mean 'csv'?"
        ),
    ),
    "a batch that is its size": (
        [*FILES, "batch: 100"],
        7,
        f"batch is 100, expected an object of {OF_BATCH}; it may be empty: {{}}",
    ),
    "a size in words": (
        [*FILES, "batch:", "  size: hundred"],
        8,
        "size is 'hundred', expected a whole number",
    ),
    "a setting of the batch that is misspelled": (
        [*FILES, "batch:", "  size: 10", "  random: 0.2"],
        9,
        f"batch has no setting 'random', expected one of {OF_BATCH}; did you mean 'random_share'?",
    ),
    "the order of a batch": (
        [*FILES, "batch:", "  rank_by: margins"],
        7,
        (
            "the batch's rank_by is 'margins', expected one of the pool's acquisition functions: "
            "entropy, least_confidence, margin, variance; did you mean 'margin'?"
        ),
    ),
    "a way of choosing": (
        [*FILES, "batch:", "  choose_by: typicle"],
        8,
        (
            "choose_by is 'typicle', expected one of 'queue', 'badge', 'typical'; did you mean "
            "'typical'?"
        ),
    ),
    "partitions in a word": (
        [*FILES, "partitions_def: daily"],
        7,
        (
            "partitions_def is 'daily', expected an object with the key type, one of dynamic, static, "
            "hourly, daily, weekly, time_window, for example {type: dynamic, name: …}"
        ),
    ),
    "partitions of a type that is misspelled": (
        [*FILES, "partitions_def: {type: dialy, start_date: '2026-01-01'}"],
        7,
        (
            "type is 'dialy', expected one of dynamic, static, hourly, daily, weekly, time_window, "
            "for example {type: dynamic, name: …}; did you mean 'daily'?"
        ),
    ),
    "a sensor that is on": (
        [*FILES, "sensor: true"],
        7,
        (
            "sensor is True, expected an object of minimum_interval_seconds, default_status; it may "
            "be empty: {}"
        ),
    ),
    "how often to try again": (
        [*FILES, "op:", "  retry_policy:", "    retries: 3"],
        9,
        (
            "retry_policy has no setting 'retries', expected one of max_retries, delay, backoff, "
            "jitter; did you mean 'max_retries'?"
        ),
    ),
    "a backoff in small letters": (
        [*FILES, "op:", "  retry_policy:", "    delay: 10", "    backoff: exponential"],
        10,
        (
            "backoff is 'exponential', expected one of 'LINEAR', 'EXPONENTIAL'; did you mean "
            "'EXPONENTIAL'?"
        ),
    ),
    "a backoff of no delay": (
        [*FILES, "op:", "  retry_policy:", "    backoff: LINEAR"],
        9,
        "backoff changes the delay of retry_policy, which has none",
    ),
    "a project below a tool": (
        [*FILES, "labeling:", "  label_studio:", "    projekt: signs"],
        9,
        (
            "label_studio has no setting 'projekt', expected one of project, image_address, "
            "local_files_root, embed_max_bytes, export, return_skipped, minimum_interval_seconds, "
            "default_status; did you mean 'project'?"
        ),
    ),
}


def messages(error):
    while error is not None:
        yield str(error)
        error = error.__cause__


def load(text):
    with create_defs_folder_sandbox() as sandbox:
        folder = sandbox.scaffold_component(ActiveLearningComponent, defs_path="signs")
        (folder / "defs.yaml").write_text(text)
        with sandbox.load_component_and_build_defs(defs_path="signs") as (component, _):
            return component


def json_schema():
    model = ActiveLearningComponent.get_model_cls()
    assert model is not None
    return model.model_json_schema()


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_setting_is_told_in_our_words_at_its_line(case):
    import yaml

    lines, number, words = WRONG[case]
    indented = "".join(f"  {line}\n" for line in ["pool: signs", *lines])
    text = f"type: dagster_active_learning.ActiveLearningComponent\nattributes:\n{indented}"
    # Dagster's own check of the YAML would be the first to speak, in words of JSON schema.
    schema = json_schema()
    attributes = yaml.safe_load(text)["attributes"]
    assert list(Draft202012Validator(schema).iter_errors(attributes)) == []
    with pytest.raises(Exception) as error:  # noqa: PT011 - Dagster's own, of several kinds
        load(text)
    told = [message for message in messages(error.value) if words in message]
    assert told, list(messages(error.value))
    # The whole message is a line of its own, and no traceback stands around it.
    assert words in told[-1].splitlines()
    assert f"defs.yaml:{number} " in told[-1]
    assert "Traceback" not in told[-1]


def test_editors_still_know_the_choices():
    schema = json.dumps(json_schema())
    choices = [json.loads(found) for found in re.findall(r'"enum": (\[.*?\])', schema)]
    for name in ("parquet", "entropy", "typical", "xywh", "RUNNING", "detection", "coco"):
        assert any(name in each for each in choices), name


def test_python_says_that_the_task_is_the_pools():
    with pytest.raises(ValueError, match="; task is a setting of the pool, and stands beside"):
        PredictionFiles("labels", "yolo", task="detection")
    with pytest.raises(ValueError, match="did you mean 'box'"):
        PredictionFiles("labels", "yolo", boxx="xywh")
    with pytest.raises(ValueError, match="did you mean 'entropy'"):
        active_learning_definitions(
            pool="a", predictions=PredictionFiles("p", "csv"), acquisition_functions=["Entropy"]
        )


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("parket", "; did you mean 'parquet'?"),
        ("PARQUET", "; did you mean 'parquet'?"),
        ("xlsx", ""),
        (7, ""),
        (None, ""),
        ("", ""),
    ],
)
def test_only_what_is_near_may_have_been_meant(name, said):
    assert did_you_mean(name, ["csv", "parquet", None]) == said
