"""A pool whose predictions and scores are in object storage, as Dagster materializes it."""

import io
import resource

import dagster as dg
import duckdb
import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from dagster_duckdb import DuckDBResource

from dagster_active_learning import (
    LabelingBatch,
    LocalWorkers,
    PredictionFiles,
    RuleEvaluation,
    active_learning_definitions,
)
from in_place import random_probs
from object_store import KEY, SECRET, ObjectStore, object_store

ROWS, CLASSES, FILES = 8_000, 80, 3


@pytest.fixture
def server():
    return ObjectStore()


@pytest.fixture
def bucket(server):
    with object_store(application=server) as filesystem:
        yield filesystem


@pytest.fixture(scope="module")
def contents():
    """Parquet files by name; the second has rows that are no predictions."""
    rng = np.random.default_rng(0)
    files = {}
    for file in range(FILES):
        probs = random_probs(rng, ROWS, CLASSES).tolist()
        if file == 1:
            probs[7] = None
            probs[40][0] = 3.0
        ids = [f"{file}-{row:05d}" for row in range(ROWS)]
        lists = pa.array(probs, pa.list_(pa.float32()))
        table = pa.table({"image_id": ids, "class_probs": lists})
        opened = io.BytesIO()
        pq.write_table(table, opened, row_group_size=2000)
        files[f"p{file}.parquet"] = opened.getvalue()
    return files


@pytest.fixture
def local(bucket, contents, tmp_path):
    """The files in a folder; they are in the bucket, too."""
    (tmp_path / "local").mkdir()
    for name, content in contents.items():
        (tmp_path / "local" / name).write_bytes(content)
        bucket.pipe_file(f"bucket/may/{name}", content)
    return tmp_path / "local" / "*.parquet"


def definitions(tmp_path, path, name, **settings):
    images = tmp_path / "images.csv"
    if not images.exists():
        rows = [f"{file}-{row:05d}" for file in range(FILES) for row in range(ROWS)]
        labels = [f"{number % CLASSES}" if number % 9 == 0 else "" for number in range(len(rows))]
        lines = [f"{image},{label}" for image, label in zip(rows, labels, strict=True)]
        # One image without predictions, and one without a place in the manifest.
        images.write_text("\n".join(["image_id,label", *lines[1:], "nowhere,"]))
    settings = {"batch": LabelingBatch(size=20), **settings}
    return dg.Definitions.merge(
        active_learning_definitions(
            pool="pool",
            images=images,
            evaluation=RuleEvaluation(labels_drawn_at_random=True),
            predictions=PredictionFiles(
                path, "parquet", model="may", in_place="storage" in settings
            ),
            **settings,
        ),
        dg.Definitions(
            resources={"duckdb": DuckDBResource(database=str(tmp_path / f"{name}.duckdb"))}
        ),
    )


def materialize(described, *, assets=None):
    """The errors of the steps that failed, as text, and the result."""
    selected = None if assets is None else [dg.AssetKey.from_user_string(key) for key in assets]
    with dg.DagsterInstance.ephemeral() as instance:
        result = described.resolve_implicit_global_asset_job_def().execute_in_process(
            asset_selection=selected, instance=instance, raise_on_error=False
        )
        events = "\n".join(map(repr, instance.all_logs(result.run_id)))
    for secret in (KEY, SECRET):
        assert secret not in events
    failures = [
        event.step_failure_data.error.to_string() for event in result.get_step_failure_events()
    ]
    return "\n".join(failures), result


TABLES = {
    "candidates": "SELECT * EXCLUDE (run_id) FROM pool.labeling_candidates ORDER BY ALL",
    "quarantined": """SELECT * REPLACE (parse_filename(source) AS source)
        FROM pool.quarantined_predictions ORDER BY ALL""",
    "batches": """SELECT * EXCLUDE (created_at, run_id, ranking_run_id)
        FROM pool.labeling_batches ORDER BY ALL""",
    "classes": "FROM pool.predicted_classes ORDER BY ALL",
    "sources": """SELECT parse_filename(source), first_prediction_index, row_count
        FROM pool.prediction_sources ORDER BY ALL""",
    "evaluation": "SELECT * EXCLUDE (generation, predictions_generation, run_id, evaluated_at, source_sha256) FROM pool.rule_evaluations ORDER BY ALL",
    "scores": "FROM pool.image_scores ORDER BY image_id",
    "predictions": "FROM pool.predictions ORDER BY prediction_index",
}


def tables(database, *, register=False):
    with duckdb.connect(str(database), read_only=True) as connection:
        if register:
            connection.register_filesystem(fsspec.filesystem("s3", default_cache_type="none"))
        return {
            name: repr(connection.sql(query).to_arrow_table().to_pylist())
            for name, query in TABLES.items()
        }


@pytest.fixture
def no_large_files():
    """No file of this process and of its workers gets as large as one of predictions."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2 * 2**20, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def checks(result):
    return {
        (one.asset_key.to_user_string(), one.check_name): one.passed
        for one in result.get_asset_check_evaluations()
    }


@pytest.mark.slow
def test_the_whole_pool_is_what_it_is_when_files_are_copied(
    tmp_path, server, local, contents, request
):
    errors, expected = materialize(definitions(tmp_path, local, "copied"))
    assert not errors
    request.getfixturevalue("no_large_files")
    described = definitions(
        tmp_path,
        "s3://bucket/may/*.parquet",
        "in_place",
        storage="s3://bucket/scores",
        engine=LocalWorkers(2),
    )
    server.sent.clear()
    errors, result = materialize(described)
    assert not errors
    assert checks(result) == checks(expected)
    assert all(len(content) > 2 * 2**20 for content in contents.values())
    found, wanted = (
        tables(tmp_path / "in_place.duckdb", register=True),
        tables(tmp_path / "copied.duckdb"),
    )
    for name, text in wanted.items():
        assert found[name] == text, name
    content = (tmp_path / "in_place.duckdb").read_bytes()
    assert b"/may/p1.parquet" in content
    assert SECRET.encode() not in content
    assert KEY.encode() not in content
