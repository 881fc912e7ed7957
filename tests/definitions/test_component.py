"""The component: the same pool from YAML as from Python, errors with a line, what may be changed."""

import dataclasses
import inspect
import json
import re
import subprocess
import sys
import textwrap
from datetime import timedelta
from typing import Any

import dagster as dg
import duckdb
import numpy as np
import pytest
from dagster.components.testing import create_defs_folder_sandbox
from dagster_duckdb import DuckDBResource

from dagster_active_learning import (
    ActiveLearningComponent,
    OpSettings,
    PoolImages,
    PredictionAsset,
    PredictionFiles,
    PredictionFileSensor,
    PredictionQuery,
    active_learning_definitions,
)
from dagster_active_learning.definitions.yaml_models import (
    ManifestModel,
    PredictionAssetModel,
    PredictionFilesModel,
    PredictionQueryModel,
)
from dagster_active_learning.readers.formats import FORMATS
from dagster_active_learning.readers.options import TableOptions
from documents import blocks

TYPE = "dagster_active_learning.ActiveLearningComponent"


@pytest.fixture
def sandbox():
    with create_defs_folder_sandbox() as made:
        yield made


@pytest.fixture
def load(sandbox):
    """Load a component and its definitions from the attributes of a defs.yaml."""

    def run(attributes, *, type=TYPE, also=""):
        folder = sandbox.defs_folder_path / "pool"
        folder.mkdir(exist_ok=True)
        body = textwrap.indent(textwrap.dedent(attributes).strip(), "  ")
        (folder / "defs.yaml").write_text(f"type: {type}\n{also}attributes:\n{body}\n")
        with sandbox.load_component_and_build_defs(folder) as (component, definitions):
            return component, definitions

    return run


def described(definitions):
    """All that Dagster knows of some definitions, but where their code is."""
    return {
        "jobs": [(job.name, job.selection, job.description) for job in definitions.jobs],
        "sensors": [
            {
                **{name: getattr(sensor, name) for name in SENSOR_FIELDS},
                "target": [target.resolvable_to_job.selection for target in sensor.targets],
            }
            for sensor in definitions.sensors
        ],
        "schedules": [
            (schedule.name, schedule.cron_schedule, schedule.job_name, schedule.execution_timezone)
            for schedule in definitions.schedules
        ],
        **described_assets(definitions),
    }


def described_assets(definitions):
    return {
        asset.op.name: {
            "specs": [
                {
                    **{name: getattr(spec, name) for name in SPEC_FIELDS},
                    "metadata": {
                        name: value
                        for name, value in spec.metadata.items()
                        if name not in ("dagster/code_references", "dagster/component_origin")
                    },
                }
                for spec in asset.specs
            ],
            "config": asset.op.config_schema.as_field().config_type.key,
            "defaults": {
                name: field.default_value
                for name, field in getattr(
                    asset.op.config_schema.as_field().config_type, "fields", {}
                ).items()
            },
            "resources": asset.required_resource_keys,
            "pool": asset.op.pool,
            "op_tags": asset.op.tags,
            "retry_policy": asset.op.retry_policy,
            "backfill_policy": asset.backfill_policy,
            "can_subset": asset.can_subset,
            "inputs": asset.keys_by_input_name,
        }
        for asset in definitions.assets
    }


SPEC_FIELDS = (
    "key", "deps", "description", "group_name", "kinds", "code_version", "skippable", "owners",
    "tags", "partitions_def", "automation_condition", "freshness_policy",
)  # fmt: skip


SENSOR_FIELDS = (
    "name", "default_status", "minimum_interval_seconds", "description",
)  # fmt: skip


def settings_of(component):
    """The component's settings, with sources and manifests as all that they hold."""
    return {
        field.name: vars(value) if isinstance(value, (PoolImages, *SOURCES)) else value
        for field in dataclasses.fields(component)
        for value in [getattr(component, field.name)]
        if field.name != "translation"
    }


SOURCES = (PredictionFiles, PredictionAsset, PredictionQuery)

FILES = PredictionFiles("/data/p.csv", "csv")

EQUAL = {
    "files": (
        """
        pool: signs
        predictions: {path: /data/p.csv, format: csv}
        """,
        {"predictions": FILES},
    ),
    "every setting": (
        """
        pool: signs
        predictions:
          path: /data/*.jsonl
          format: jsonl
          model: resnet50
          deps: [ml/predict, other]
          image_id_column: id
          class_column_pattern: p_(.*)
          score_column: s
          category_column: c
          bbox_columns: [x, "y", w, h]
          bbox_unit: relative
          score_transform: percent
          class_names: ["0", "01"]
        images:
          path: /data/instances.json
          format: coco
          image_id: file_name
          labeled: ["1", "2"]
          deps: [ml/export]
        task: detection
        acquisition_functions: [mean_object_score, margin]
        limit: 7
        seed: -3
        inputs: independent
        aggregation: max
        score_only: binary
        images_without_predictions: exclude
        max_quarantined_share: 0.25
        min_coverage: 0.5
        group_name: labeling
        export: [/out/c.parquet, /out/c.csv]
        """,
        {
            "predictions": PredictionFiles(
                "/data/*.jsonl",
                "jsonl",
                model="resnet50",
                deps=[dg.AssetKey(["ml", "predict"]), dg.AssetKey("other")],
                image_id_column="id",
                class_column_pattern="p_(.*)",
                score_column="s",
                category_column="c",
                bbox_columns=["x", "y", "w", "h"],
                bbox_unit="relative",
                score_transform="percent",
                class_names=["0", "01"],
            ),
            "images": PoolImages(
                "/data/instances.json",
                format="coco",
                image_id="file_name",
                labeled=["1", "2"],
                deps=[dg.AssetKey(["ml", "export"])],
            ),
            "task": "detection",
            "acquisition_functions": ["mean_object_score", "margin"],
            "limit": 7,
            "seed": -3,
            "inputs": "independent",
            "aggregation": "max",
            "score_only": "binary",
            "images_without_predictions": "exclude",
            "max_quarantined_share": 0.25,
            "min_coverage": 0.5,
            "group_name": "labeling",
            "export": ["/out/c.parquet", "/out/c.csv"],
        },
    ),
    "asset": (
        """
        pool: signs
        predictions: {asset: ml/predictions, model: m, class_columns: [a, b]}
        """,
        {
            "predictions": PredictionAsset(
                ["ml", "predictions"], model="m", class_columns=["a", "b"]
            )
        },
    ),
    "query": (
        """
        pool: signs
        predictions:
          query: |-
            SELECT * FROM model.output WHERE name = '{x}'
          deps: [model/output]
          class_probs_column: p
        """,
        {
            "predictions": PredictionQuery(
                "SELECT * FROM model.output WHERE name = '{x}'",
                deps=[dg.AssetKey(["model", "output"])],
                class_probs_column="p",
            )
        },
    ),
    "other formats": (
        """
        pool: signs
        task: segmentation
        predictions: {path: /data/labels, format: yolo, confidence: second, box: xyxy, bbox_unit: pixel}
        images: {path: /data/images, labeled: /data/labeled.txt}
        """,
        {
            "task": "segmentation",
            "predictions": PredictionFiles(
                "/data/labels", "yolo", confidence="second", box="xyxy", bbox_unit="pixel"
            ),
            "images": PoolImages("/data/images", labeled="/data/labeled.txt"),
        },
    ),
    "static partitions": (
        """
        pool: signs
        predictions: {path: "/data/{partition_key}.csv", format: csv}
        partitions_def: {type: static, partition_keys: ["1", b]}
        """,
        {
            "predictions": PredictionFiles("/data/{partition_key}.csv", "csv"),
            "partitions_def": dg.StaticPartitionsDefinition(["1", "b"]),
        },
    ),
    "dynamic partitions": (
        """
        pool: signs
        predictions: {query: FROM model.output WHERE run = $partition_key}
        partitions_def: {type: dynamic, name: runs}
        """,
        {
            "predictions": PredictionQuery("FROM model.output WHERE run = $partition_key"),
            "partitions_def": dg.DynamicPartitionsDefinition(name="runs"),
        },
    ),
    "daily partitions": (
        """
        pool: signs
        predictions: {asset: ml/predictions}
        partitions_def: {type: daily, start_date: "2026-01-01"}
        """,
        {
            "predictions": PredictionAsset(["ml", "predictions"]),
            "partitions_def": dg.DailyPartitionsDefinition("2026-01-01"),
        },
    ),
    "automation": (
        """
        pool: signs
        predictions: {path: s3://bucket/*.csv, format: csv}
        sensor: {minimum_interval_seconds: 7, default_status: RUNNING}
        automation: true
        freshness_policy: "{{ dg.FreshnessPolicy.time_window(datetime.timedelta(days=7)) }}"
        schedule: 0 6 * * *
        """,
        {
            "predictions": PredictionFiles("s3://bucket/*.csv", "csv"),
            "sensor": PredictionFileSensor(
                minimum_interval_seconds=7, default_status=dg.DefaultSensorStatus.RUNNING
            ),
            "automation": True,
            "freshness_policy": dg.FreshnessPolicy.time_window(timedelta(days=7)),
            "schedule": "0 6 * * *",
        },
    ),
    "a sensor by itself": (
        """
        pool: signs
        predictions: {path: "/data/{partition_key}.csv", format: csv}
        partitions_def: {type: dynamic, name: runs}
        sensor: {}
        """,
        {
            "predictions": PredictionFiles("/data/{partition_key}.csv", "csv"),
            "partitions_def": dg.DynamicPartitionsDefinition(name="runs"),
            "sensor": PredictionFileSensor(),
        },
    ),
    "partitions from a template": (
        """
        pool: signs
        predictions: {asset: ml/predictions}
        partitions_def: "{{ dg.DailyPartitionsDefinition(start_date='2026-01-01') }}"
        """,
        {
            "predictions": PredictionAsset(["ml", "predictions"]),
            "partitions_def": dg.DailyPartitionsDefinition("2026-01-01"),
        },
    ),
    "op": (
        """
        pool: signs
        predictions: {asset: ml/predictions}
        op:
          tags: {team: vision, dagster-k8s/config: {container_config: {resources: {}}}}
          retry_policy: {max_retries: "{{ 1 + 1 }}", delay: 30, backoff: EXPONENTIAL}
          pool: gpu
        """,
        {
            "predictions": PredictionAsset(["ml", "predictions"]),
            "op": OpSettings(
                tags={
                    "team": "vision",
                    "dagster-k8s/config": {"container_config": {"resources": {}}},
                },
                retry_policy=dg.RetryPolicy(
                    max_retries=2, delay=30, backoff=dg.Backoff.EXPONENTIAL
                ),
                pool="gpu",
            ),
        },
    ),
    "no report": (
        """
        pool: signs
        predictions: {asset: ml/predictions}
        report: false
        """,
        {"predictions": PredictionAsset(["ml", "predictions"]), "report": False},
    ),
    "committee": (
        """
        pool: signs
        predictions: {asset: ml/predictions}
        committee: true
        """,
        {"predictions": PredictionAsset(["ml", "predictions"]), "committee": True},
    ),
}


def test_a_tilde_in_paths_is_the_home_folder(load, monkeypatch):
    monkeypatch.setenv("HOME", "/home/somebody")
    component, _ = load(
        """
        pool: pool
        predictions: {path: ~/*.parquet, format: parquet, in_place: true}
        storage: ~/scores
        images: ~/images.csv
        image_roots: [~/images]
        report: ~/pages
        export: ~/candidates.csv
        """
    )
    given = [component.predictions.path, component.storage, component.report, component.export]
    names = ["*.parquet", "scores", "pages", "candidates.csv"]
    assert given == [f"/home/somebody/{name}" for name in names]
    assert [*component.image_roots] == ["/home/somebody/images"]
    assert str(component.images.path) == "/home/somebody/images.csv"


def test_a_query_of_the_guide_makes_prediction_sets_of_two_models_in_one_file(load, tmp_path):
    """Each model has one prediction per image then, and its own scores."""
    rows = [(model, f"i{row}") for model in ("v1", "v2") for row in range(4)]
    first = {"v1": 0.9, "v2": 0.2}
    lines = [f"{model},{name},{first[model]},{1 - first[model]:.1f}" for model, name in rows]
    (tmp_path / "two_models.csv").write_text(
        "\n".join(["model_version,image_id,prob_cat,prob_dog", *lines])
    )
    (text,) = [
        block.text
        for block in blocks(".github/docs/pool.md", "yaml")
        if "  query: FROM read_csv" in block.text
    ]
    attributes = text.replace("/data", str(tmp_path))
    _, definitions = load(f"pool: signs\n{attributes}")
    database = tmp_path / "signs.duckdb"
    for key in ("v1", "v2"):
        done = dg.materialize(
            [*definitions.assets, *definitions.asset_checks],
            resources={"duckdb": DuckDBResource(database=str(database))},
            partition_key=key,
        )
        # The two models say the opposite of each other, which one check is there to say.
        assert all(
            one.passed or one.check_name == "like_the_sets_before"
            for one in done.get_asset_check_evaluations()
        )
    with duckdb.connect(str(database), read_only=True) as connection:
        scores = "SELECT prediction_set, count(*), min(margin), max(prediction_count) FROM signs.image_scores GROUP BY ALL ORDER BY ALL"
        assert connection.execute(scores).fetchall() == [
            ("v1", 4, pytest.approx(0.8), 1), ("v2", 4, pytest.approx(0.6), 1),
        ]  # fmt: skip


@pytest.mark.parametrize("case", EQUAL)
def test_yaml_and_python_give_equal_definitions(load, case):
    attributes, settings = EQUAL[case]
    component, definitions = load(attributes)
    assert settings_of(component) == settings_of(ActiveLearningComponent(pool="signs", **settings))
    assert described(definitions) == described(
        active_learning_definitions(pool="signs", **settings)
    )


def test_another_setting_gives_other_definitions():
    one, other = (
        described(active_learning_definitions(pool="signs", predictions=FILES, limit=limit))
        for limit in (5, 6)
    )
    assert one != other


def test_the_component_has_the_settings_of_the_function():
    function = inspect.signature(active_learning_definitions).parameters
    component = inspect.signature(ActiveLearningComponent).parameters
    assert [*function, "translation"] == list(component)
    for name, parameter in function.items():
        assert component[name].default == parameter.default, name


def test_the_models_have_the_options_of_the_readers():
    tables = set(TableOptions.__dataclass_fields__)
    of_files = {"path", "format", "model", "deps", "in_place"}.union(
        *(one.options.__dataclass_fields__ for one in FORMATS.values())
    )
    assert set(PredictionFilesModel.model_fields) == of_files
    assert set(PredictionAssetModel.model_fields) == {"asset", "model"} | tables
    assert set(PredictionQueryModel.model_fields) == {"query", "model", "deps"} | tables
    images = set(inspect.signature(PoolImages).parameters)
    assert set(ManifestModel.model_fields) == images


def test_every_setting_is_described_in_the_schema():
    schema = ActiveLearningComponent.model().model_json_schema()
    own = [ActiveLearningComponent.model().__name__, *OWN_MODELS]
    undescribed = [
        f"{name}.{field}"
        for name, model in {own[0]: schema, **schema["$defs"]}.items()
        if name in own
        for field, about in model["properties"].items()
        if not about.get("description") and field != "type"
    ]
    assert set(OWN_MODELS) <= schema["$defs"].keys()
    assert undescribed == []


OWN_MODELS = (
    "PredictionFilesModel", "PredictionAssetModel", "PredictionQueryModel", "ManifestModel",
    "DynamicPartitionsModel", "SensorModel",
)  # fmt: skip


def test_paths_are_relative_to_the_yaml_file(load, sandbox):
    component, _ = load("""
    pool: signs
    task: detection
    predictions: {path: ../*.json, format: coco, instances: instances.json}
    images: {path: "{{ context.project_root }}/images", labeled: labeled.txt}
    report: ../reports
    """)
    defs = sandbox.defs_folder_path.resolve()
    assert component.predictions.path == f"{defs}/*.json"
    assert component.report == f"{defs}/reports"
    assert str(component.predictions.settings()).count(f"{defs}/pool/instances.json") == 1
    assert component.as_pool().manifest.path == sandbox.project_root.resolve() / "images"
    assert component.as_pool().manifest.labeled == defs / "pool" / "labeled.txt"
    component, _ = load("pool: signs\npredictions: {asset: a}\nimages: manifest.csv")
    assert component.as_pool().manifest.path == defs / "pool" / "manifest.csv"


TEXTS = [
    "12e4567", "1234e10", "1_000", "007", "0x1f", "2024.10", "None", "True", "[a]", "['a']",
    "('a','b')", "1.", "5e3", " x ", "\\n", "'quoted'", '"model"', "1j", "b'x'", "1_0.5",
]  # fmt: skip


@pytest.mark.parametrize("text", TEXTS)
def test_text_of_the_environment_stays_as_it_is(load, monkeypatch, text):
    """Dagster's own templates make numbers, lists and None of text that looks like Python."""
    monkeypatch.setenv("TEXT", text)
    component, _ = load("""
    pool: signs
    predictions: {path: "/{{ env.TEXT }}/{partition_key}", format: csv, model: "{{ env.TEXT }}"}
    images: "/{{ env.TEXT }}.csv"
    partitions_def: {type: static, partition_keys: ["{{ env.TEXT }}", "v-{{ env.TEXT }}"]}
    group_name: g
    export: {csv: "/out/{{ env.TEXT }}/{partition_key}.csv"}
    """)
    assert component.predictions.model == text
    assert component.predictions.path == f"/{text}/{{partition_key}}"
    assert str(component.as_pool().manifest.path) == f"/{text}.csv"
    assert component.partitions_def.get_partition_keys() == [text, f"v-{text}"]
    assert component.export == {"csv": f"/out/{text}/{{partition_key}}.csv"}


@pytest.mark.parametrize(
    ("written", "model"),
    [
        ("7", "7"), ("1_000", "1_000"), ("None", "None"), ("{a}", "{a}"),
        ("{{ env.MODEL }}", "resnet"), ("{{ 6 + 1 }}", "7"), ("a {{ env.MODEL }}", "a resnet"),
    ],
)  # fmt: skip
def test_text_stays_text_and_templates_are_filled_in(load, monkeypatch, written, model):
    monkeypatch.setenv("MODEL", "resnet")
    component, _ = load(f"""
    pool: "{{{{ 'signs' }}}}"
    predictions: {{asset: a, model: "{written}", class_names: ["{written}", other]}}
    limit: "{{{{ 40 + 2 }}}}"
    """)
    assert (component.pool, component.limit, component.predictions.model) == ("signs", 42, model)
    assert repr([model, "other"]) in str(component.predictions.settings())


def messages(error):
    while error is not None:
        yield str(error)
        error = error.__cause__


WRONG = {
    "pool": (["pool: a b", "predictions: {asset: a}"], 3, "expected letters, digits"),
    "limit": (["pool: a", "predictions: {asset: a}", "limit: 0"], 5, "limit is 0, expected"),
    "limit in a template": (
        ["pool: a", "predictions: {asset: a}", "limit: '{{ 1 - 1 }}'"],
        5,
        "limit is 0, expected",
    ),
    "limit as text": (["pool: a", "limit: many", "predictions: {asset: a}"], 4, "limit is 'many'"),
    "seed": (["pool: a", "predictions: {asset: a}", f"seed: {2**63}"], 5, "integer of 64 bits"),
    "lock_timeout_seconds": (
        ["pool: a", "predictions: {asset: a}", "lock_timeout_seconds: -1"],
        5,
        "lock_timeout_seconds is -1",
    ),
    "task": (["pool: a", "predictions: {asset: a}", "task: no"], 5, "task"),
    "report": (["pool: a", "predictions: {asset: a}", "report: 7"], 5, "report is 7, expected a"),
    "report elsewhere": (
        ["pool: a", "predictions: {asset: a}", "report: s3://me:secret@bucket/a"],
        5,
        "report is 's3://bucket/a', expected a local folder",
    ),
    "task as text": (["pool: a", "task: odd", "predictions: {asset: a}"], 4, "task is 'odd'"),
    "inputs": (["pool: a", "predictions: {asset: a}", "inputs: odds"], 5, "inputs is 'odds'"),
    "aggregation": (["pool: a", "aggregation: x", "predictions: {asset: a}"], 4, "is 'x'"),
    "score_only": (["pool: a", "score_only: x", "predictions: {asset: a}"], 4, "is 'x'"),
    "images_without_predictions": (
        ["pool: a", "predictions: {asset: a}", "images_without_predictions: x"],
        5,
        "is 'x'",
    ),
    "function": (
        ["pool: a", "predictions: {asset: a}", "acquisition_functions: [entropi]"],
        5,
        "'entropy'",
    ),
    "function of another task": (
        ["pool: a", "predictions: {asset: a}", "acquisition_functions: [mean_object_score]"],
        5,
        "expected different ones of entropy",
    ),
    "predictions as a path": (["pool: a", "predictions: p.csv"], 4, "path and format, asset, or"),
    "format": (["pool: a", "predictions: {path: p, format: x}"], 4, "one of coco, csv,"),
    "option of another format": (
        ["pool: a", "predictions: {path: p, format: npy, bbox_column: b}"],
        4,
        "format 'npy' has no option 'bbox_column'",
    ),
    "unknown option": (
        ["pool: a", "predictions: {asset: a, columns: b}"],
        4,
        "no setting 'columns'",
    ),
    "two sources": (["pool: a", "predictions: {asset: a, query: b}"], 4, "has asset and query"),
    "manifest": (["pool: a", "predictions: {asset: a}", "images: m.txt"], 5, "expected one of csv"),
    "unknown setting": (["pool: a", "predictions: {asset: a}", "limits: 5"], 5, "not permitted"),
    "template that gives nothing": (
        ["pool: '{{ env.NOWHERE_SET }}'", "predictions: {asset: a}"],
        3,
        "gives None, expected text",
    ),
    "name that no template has": (
        [
            "pool: a",
            "predictions:",
            "  format: csv",
            "  path: '{{ data_folder }}/a.csv'",
        ],
        6,
        "'data_folder' is undefined; there are env, dg, datetime",
    ),
    "name in a path alone": (
        ["pool: a", "predictions: {asset: a}", "images: '{{ data_folder }}/m.csv'"],
        5,
        "'data_folder' is undefined",
    ),
    "attribute that is not there": (
        ["pool: a", "predictions: {asset: a}", "export: ['{{ context.nothing }}/c.csv']"],
        5,
        "has no attribute 'nothing'; there are env, dg,",
    ),
    "template that gives no text": (
        ["pool: a", "predictions: {asset: a}", "images: \"{{ dict(path='m.csv') }}\""],
        5,
        "gives {'path': 'm.csv'}, expected text",
    ),
    "automation as a word": (
        ["pool: a", "automation: maybe", "predictions: {asset: a}"],
        4,
        "automation is 'maybe', expected true or false",
    ),
    "automation as text": (
        ["pool: a", "predictions: {asset: a}", "automation: 'false'"],
        5,
        "automation is 'false'",
    ),
    "automation from the environment": (
        ["pool: a", "predictions: {asset: a}", "automation: '{{ env.HOME }}'"],
        5,
        "a template may compare, as in {{ env.NAME == 'yes' }}",
    ),
    "freshness_policy as text": (
        ["pool: a", "predictions: {asset: a}", "freshness_policy: daily"],
        5,
        "freshness_policy is 'daily', expected a FreshnessPolicy",
    ),
    "freshness_policy as a number": (
        ["pool: a", "freshness_policy: '{{ 7 }}'", "predictions: {asset: a}"],
        4,
        "freshness_policy is 7",
    ),
    "group_name": (
        ["pool: a", "predictions: {asset: a}", "group_name: my group"],
        5,
        "group_name is 'my group': \"my group\" is not a valid asset group name",
    ),
    "asset without a name": (["pool: a", "predictions: {asset: ''}"], 4, "is the asset ''"),
    "export to an address": (
        ["pool: a", "predictions: {asset: a}", "export: s3://bucket/c.csv"],
        5,
        "export is the address 's3://bucket/c.csv', expected a local path",
    ),
    "manifest at an address": (
        ["pool: a", "predictions: {asset: a}", "images: s3://bucket/m.csv"],
        5,
        "images is the address 's3://bucket/m.csv', expected a local path",
    ),
    "labeled at an address": (
        ["pool: a", "predictions: {asset: a}", "images: {path: m.csv, labeled: s3://b/m.txt}"],
        5,
        "labeled is the address 's3://b/m.txt'",
    ),
    "owner": (
        ["pool: a", "predictions: {asset: a}", "translation: {owners: [x]}"],
        5,
        "translation of a/predictions: Invalid owner 'x'",
    ),
    "one key for all": (
        ["pool: a", "translation: {key: foo}", "predictions: {asset: a}"],
        4,
        "translation gives 6 assets the key 'foo'",
    ),
    "partitions by translation": (
        [
            "pool: a",
            "predictions: {asset: a}",
            "translation: {partitions_def: {type: daily, start_date: '2026-01-01'}}",
        ],
        5,
        "set partitions_def of the pool instead",
    ),
    "several dimensions": (
        ["pool: a", "predictions: {asset: a}", "partitions_def: {type: multi}"],
        5,
        "'multi'",
    ),
    "partitions as text": (
        ["pool: a", "partitions_def: daily", "predictions: {asset: a}"],
        4,
        "partitions_def is 'daily'",
    ),
    "sensor of what is no file": (
        ["pool: a", "predictions: {asset: a}", "sensor: {}"],
        5,
        "sensor watches files, but predictions is a PredictionAsset",
    ),
    "sensor as text": (
        ["pool: a", "sensor: hourly", "predictions: {path: p, format: csv}"],
        4,
        "sensor is 'hourly', expected an object of minimum_interval_seconds",
    ),
    "sensor from a template": (
        ["pool: a", "sensor: '{{ dict(x=5) }}'", "predictions: {path: p, format: csv}"],
        4,
        "sensor is {'x': 5}, expected a PredictionFileSensor",
    ),
    "sensor of keys that are no names": (
        [
            "pool: a",
            "predictions: {path: '{partition_key}.csv', format: csv}",
            "partitions_def: {type: static, partition_keys: [a, b/c]}",
            "sensor: {}",
        ],
        6,
        "partitions_def has 'b/c': expected keys without '/'",
    ),
    "sensor of days in folders": (
        [
            "pool: a",
            "predictions: {path: '{partition_key}.csv', format: csv}",
            "partitions_def: \"{{ dg.DailyPartitionsDefinition('2026/01/01', fmt='%Y/%m/%d') }}\"",
            "sensor: {}",
        ],
        6,
        "partitions_def has '%Y/%m/%d': expected keys without '/'",
    ),
    "sensor without a pause": (
        ["pool: a", "sensor: {minimum_interval_seconds: 0}", "predictions: {asset: a}"],
        4,
        "greater than or equal to 1",
    ),
    "schedule": (["pool: a", "schedule: daily at 6", "predictions: {asset: a}"], 4, "cron string"),
    "schedule of partitions without a time": (
        [
            "pool: a",
            "predictions: {asset: a}",
            "partitions_def: {type: dynamic, name: n}",
            "schedule: 0 6 * * *",
        ],
        6,
        "the time does not say which partition",
    ),
    "partitions without their place in the path": (
        [
            "pool: a",
            "partitions_def: {type: dynamic, name: n}",
            "predictions: {path: p.csv, format: csv}",
        ],
        5,
        "the same for every partition",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_value_gives_an_error_with_its_line(load, case):
    lines, number, words = WRONG[case]
    with pytest.raises(Exception) as error:  # noqa: PT011 - Dagster's own, of several kinds
        load("\n".join(lines))
    told = [message for message in messages(error.value) if words in message]
    assert told, list(messages(error.value))
    assert f"defs.yaml:{number}" in told[-1]


@pytest.mark.parametrize(
    ("setting", "value", "words"),
    [
        ("images", 7, "images is 7, expected a path or PoolImages"),
        ("sensor", True, "sensor is True, expected a PredictionFileSensor"),
        ("op", {"pool": "a"}, "op is {'pool': 'a'}, expected OpSettings"),
        ("automation", "yes", "automation is 'yes', expected true or false"),
        ("freshness_policy", timedelta(days=7), "expected a FreshnessPolicy"),
    ],
)
def test_python_refuses_what_it_is_not(setting, value, words):
    with pytest.raises(ValueError, match=f"^{setting} is ") as error:
        active_learning_definitions(pool="signs", predictions=FILES, **{setting: value})
    assert words in str(error.value)


def test_every_step_and_every_check_is_run_with_the_settings_of_op():
    policy = dg.RetryPolicy(max_retries=2, delay=30)
    definitions = active_learning_definitions(
        pool="signs",
        predictions=FILES,
        images="manifest.csv",
        export="candidates.csv",
        op=OpSettings(tags={"team": "vision"}, retry_policy=policy, pool="gpu"),
    )
    steps = [each.op for each in [*(definitions.assets or ()), *(definitions.asset_checks or ())]]
    assert len(steps) > 8
    for step in steps:
        assert (step.tags["team"], step.retry_policy, step.pool) == ("vision", policy, "gpu")
    without = active_learning_definitions(pool="signs", predictions=FILES)
    for step in (each.op for each in without.assets or ()):
        assert (step.retry_policy, step.pool) == (None, "duckdb")


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"tags": ["a"]}, "tags is ['a'], expected values by their names"),
        ({"retry_policy": 3}, "retry_policy is 3, expected a RetryPolicy"),
        ({"pool": ""}, "pool is '', expected the name of a pool"),
    ],
)
def test_op_settings_that_cannot_be_used(settings, words):
    with pytest.raises(ValueError, match=re.escape(words)):
        OpSettings(**settings)


def test_translation_changes_assets_and_what_depends_on_them(load, write_predictions, database):
    path = write_predictions(np.random.default_rng(0).dirichlet(np.ones(3), 20))
    _, definitions = load(f"""
    pool: signs
    predictions: {{path: {path}, format: parquet}}
    acquisition_functions: [margin, entropy]
    translation:
      key: "vision/{{{{ table }}}}/{{{{ acquisition_function or 'all' }}}}"
      group_name: "{{{{ pool }}}}_group"
      owners: ["team:vision"]
      tags: {{table: "{{{{ spec.metadata['dagster/table_name'] }}}}"}}
    """)
    specs = {
        spec.key.to_user_string(): spec for asset in definitions.assets for spec in asset.specs
    }
    deps = {
        key: [dep.asset_key.to_user_string() for dep in spec.deps] for key, spec in specs.items()
    }
    assert deps == {
        "vision/predictions/all": [],
        "vision/image_scores/all": ["vision/predictions/all"],
        "vision/labeling_candidates/margin": ["vision/image_scores/all"],
        "vision/labeling_candidates/entropy": ["vision/image_scores/all"],
    }
    scores = specs["vision/image_scores/all"]
    assert (scores.group_name, list(scores.owners)) == ("signs_group", ["team:vision"])
    assert scores.tags["table"] == "signs.image_scores"
    result = dg.materialize(
        definitions.assets,
        resources={"duckdb": DuckDBResource(database=str(database))},
        selection=[*list(specs)[:2], "vision/labeling_candidates/margin"],
    )
    events = {
        "/".join(event.asset_key.path if event.asset_key else []): event.materialization.metadata
        for event in result.get_asset_materialization_events()
    }
    assert set(events) == {*list(specs)[:2], "vision/labeling_candidates/margin"}
    lineage: Any = events["vision/labeling_candidates/margin"]["dagster/column_lineage"]
    assert lineage.value.deps_by_column["score"] == [
        dg.TableColumnDep(dg.AssetKey(["vision", "image_scores", "all"]), "margin")
    ]


class WatchedPool(ActiveLearningComponent):
    """A pool as a user extends it."""

    def get_asset_spec(self, spec, asset):
        return super().get_asset_spec(spec, asset).merge_attributes(tags={"table": asset.table})

    def execute(self, context, materialize):
        for result in super().execute(context, materialize):
            yield result._replace(metadata={**(result.metadata or {}), "watched": True})


def test_a_subclass_changes_specs_and_execution(write_predictions, database):
    pool = WatchedPool(
        pool="signs",
        predictions=PredictionFiles(write_predictions([[0.5, 0.5]]), "parquet"),
        translation=lambda spec, asset: spec.replace_attributes(group_name=asset.pool * 2),
    )
    definitions = pool.build_defs(None)
    result = dg.materialize(
        definitions.assets, resources={"duckdb": DuckDBResource(database=str(database))}
    )
    for asset in definitions.assets or []:
        for spec in asset.specs:
            assert spec.group_name == "signssigns"
            assert spec.tags["table"] == spec.metadata["dagster/table_name"].split(".")[1]
    events = result.get_asset_materialization_events()
    assert len(events) == 6
    assert all(event.materialization.metadata["watched"].value for event in events)
    assert "dagster/row_count" in events[0].materialization.metadata


def test_a_subclass_changes_each_partition_of_a_run(write_predictions, database, tmp_path):
    pool = WatchedPool(
        pool="signs",
        predictions=PredictionFiles(f"{tmp_path}/{{partition_key}}.parquet", "parquet"),
        partitions_def=dg.StaticPartitionsDefinition(["june", "may"]),
        acquisition_functions=["margin"],
    )
    for key in ("june", "may"):
        write_predictions([[0.5, 0.5]] * len(key), name=f"{key}.parquet")
    definitions = pool.build_defs(None)
    result = dg.materialize(
        definitions.assets,
        resources={"duckdb": DuckDBResource(database=str(database))},
        tags={
            "dagster/asset_partition_range_start": "june",
            "dagster/asset_partition_range_end": "may",
        },
    )
    tables = {spec.tags["table"] for asset in definitions.assets or [] for spec in asset.specs}
    assert tables == {"predictions", "image_scores", "labeling_candidates"}
    events = result.get_asset_materialization_events()
    assert len(events) == 6
    for event in events:
        metadata = event.materialization.metadata
        assert metadata["watched"].value
        assert metadata["dagster/partition_row_count"].value == len(str(event.partition))


def test_a_pool_in_yaml_refers_to_its_line(load, sandbox):
    _, definitions = load("pool: signs\npredictions: {asset: a}")
    for asset in definitions.assets:
        for spec in asset.specs:
            (place,) = spec.metadata["dagster/code_references"].code_references
            assert place.file_path == str(sandbox.defs_folder_path / "pool" / "defs.yaml")
            assert place.line_number == 1


class ReferredPool(ActiveLearningComponent):
    """A pool whose assets say themselves where their code is."""

    def get_asset_spec(self, spec, asset):
        spec = super().get_asset_spec(spec, asset)
        return spec.merge_attributes(metadata={"dagster/code_references": "own"})


def test_what_a_subclass_says_of_an_asset_is_kept():
    pool = ReferredPool(pool="signs", predictions=FILES)
    added = {"dagster/code_references": "added", "more": True}
    for asset in pool.definitions(metadata=added).assets or []:
        for spec in asset.specs:
            assert (spec.metadata["dagster/code_references"], spec.metadata["more"]) == (
                "own",
                True,
            )


@pytest.mark.parametrize(
    ("name", "pool"), [("street_signs", "street_signs"), ("2-day shift", "pool_2_day_shift")]
)
def test_what_is_scaffolded_can_be_loaded(sandbox, name, pool):
    from dagster.components.component_scaffolding import scaffold_object

    folder = sandbox.defs_folder_path / name
    for append in (False, True):
        path = folder / "defs.yaml" if append else folder
        scaffold_object(path, TYPE, None, "yaml", sandbox.project_root, append=append)
        with sandbox.load_component_and_build_defs(folder) as (component, _):
            pools = component.components if append else [component]
            assert [one.pool for one in pools] == [pool] * (1 + append)
    text = (folder / "defs.yaml").read_text()
    assert "{{ context.project_root }}" in text
    for setting in inspect.signature(ActiveLearningComponent).parameters:
        assert f"{setting}:" in text


def commented_settings():
    """Each setting that the scaffold has in a comment, with the lines below it, as YAML."""
    from dagster_active_learning.definitions.scaffolder import DEFS_YAML, IMAGES, PREDICTIONS

    text = DEFS_YAML.format(type_name=TYPE, pool="signs", predictions=PREDICTIONS, images=IMAGES)
    lines = [line.removeprefix("  # ") for line in text.splitlines() if line.startswith("  # ")]
    settings = {}
    for line in lines:
        if (found := re.match(r"([a-z_]+):( |$)", line)) and found[1] in SETTINGS:
            name = found[1] if found[1] not in settings else f"{found[1]} again"
            settings[name] = [line]
        elif line.startswith("  ") and settings:
            settings[name].append(line)
    return {name: "\n".join(lines) for name, lines in settings.items()}


SETTINGS = inspect.signature(ActiveLearningComponent).parameters

# What a commented setting needs besides the predictions of an asset.
IN_PLACE = "predictions: {path: /data/p.parquet, format: parquet, in_place: true}"
NEEDED = {
    "storage": IN_PLACE,
    "engine": f"{IN_PLACE}\nstorage: /data/scores",
    "partitions_def": "predictions: {path: '{partition_key}.csv', format: csv}",
    "sensor": "predictions: {path: p.csv, format: csv}",
    "labeling": "batch: {}\nimages: manifest.csv",
    "evaluation": "images: manifest.csv",
    "churn": "partitions_def: {type: dynamic, name: n}",
    "score_only": "task: detection",
    "committee": "aggregation: mean",
}


@pytest.mark.parametrize("name", commented_settings())
def test_every_comment_of_the_scaffold_is_a_setting_that_can_be_used(load, name):
    setting = commented_settings()[name]
    needed = NEEDED.get(name, "")
    has_source = re.search("^predictions:", f"{setting}\n{needed}", re.M)
    source = "" if has_source else "predictions: {asset: a}"
    component, definitions = load("\n".join(["pool: signs", source, needed, setting]))
    assert definitions.assets
    given = name.removesuffix(" again")
    default = SETTINGS[given].default
    assert getattr(component, given) != default or setting.startswith(UNCHANGED)


UNCHANGED = ("limit: 1000", "seed: 0", "max_quarantined_share: 0.05", "lock_timeout_seconds: 600")
"""Comments that say the default."""


def test_the_scaffold_has_every_setting_in_a_comment_or_not():
    commented = {name.removesuffix(" again") for name in commented_settings()}
    assert {*SETTINGS} - commented == {"pool"}


def scaffold(sandbox, folder, format, **params):
    from dagster.components.component_scaffolding import scaffold_object

    scaffold_object(folder, TYPE, json.dumps(params), format, sandbox.project_root)


def test_scaffold_in_python_and_with_a_database(sandbox):
    folder = sandbox.defs_folder_path / "signs"
    scaffold(sandbox, folder, "python", database="data/a\"b'.duckdb")
    assert "import ActiveLearningComponent" in (folder / "component.py").read_text()
    (folder / "component.py").unlink()
    folder.rmdir()
    with pytest.raises(FileExistsError):
        scaffold(sandbox, folder, "yaml", database="other.duckdb")
    with sandbox.build_all_defs() as definitions:
        database = definitions.resources["duckdb"].database
    assert database == str(sandbox.project_root.resolve() / "data" / "a\"b'.duckdb")
    with pytest.raises(ValueError, match="expected the format yaml"):
        scaffold(sandbox, sandbox.defs_folder_path / "others", "python", example=True)


def test_git_leaves_the_database_of_a_scaffold_alone(sandbox, tmp_path):
    ignored = sandbox.project_root / ".gitignore"
    ignored.write_text("*.pyc\n.dagster_home/")
    scaffold(
        sandbox, sandbox.defs_folder_path / "signs", "yaml", database=str(tmp_path / "a.duckdb")
    )
    assert ignored.read_text().splitlines() == [
        "*.pyc",
        ".dagster_home/",
        "*.duckdb",
        "*.duckdb.wal",
    ]
    with sandbox.build_all_defs() as definitions:
        assert definitions.resources["duckdb"].database == str(tmp_path / "a.duckdb")


def test_the_example_of_the_scaffold_is_ranked_at_once(sandbox):
    scaffold(sandbox, sandbox.defs_folder_path / "signs", "yaml", database="a.duckdb", example=True)
    with sandbox.build_all_defs() as definitions, dg.DagsterInstance.ephemeral() as instance:
        assets = [
            each for each in definitions.assets or () if isinstance(each, dg.AssetsDefinition)
        ]
        result = dg.materialize(
            [*assets, *(definitions.asset_checks or ())],
            instance=instance,
            resources={"duckdb": definitions.resources["duckdb"]},
        )
    checks = result.get_asset_check_evaluations()
    assert checks
    assert all(check.passed for check in checks)
    rows = {
        event.asset_key.to_user_string(): event.materialization.metadata["dagster/row_count"].value
        for event in result.get_asset_materialization_events()
        if event.asset_key is not None
    }
    assert rows["signs/images"] == rows["signs/predictions"] == 60
    assert rows["signs/labeling_candidates/margin"] == 54


def test_dg_finds_the_component_and_loads_nothing_heavy_for_it():
    check = """
    import sys
    from dagster.components.core.package_entry import discover_entry_point_package_objects
    found = [key.to_typename() for key in discover_entry_point_package_objects()]
    print([name for name in found if name.startswith("dagster_active_learning")])
    print([name for name in ("duckdb", "numba", "polars", "pyarrow", "matplotlib", "PIL") if name in sys.modules])
    """
    done = subprocess.run(
        [sys.executable, "-W", "error::UserWarning", "-c", textwrap.dedent(check)],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.splitlines() == [f"['{TYPE}']", "[]"]
