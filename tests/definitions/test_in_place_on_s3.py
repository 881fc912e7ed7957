"""A whole pool whose files, scores and rows in quarantine are in an object store."""

import logging

import dagster as dg
import duckdb
import numpy as np
import pytest
from dagster_duckdb import DuckDBResource
from s3fs import S3FileSystem

from dagster_active_learning import (
    LabelingBatch,
    LocalWorkers,
    PredictionFiles,
    active_learning_definitions,
    explain_candidate,
    load_candidates,
)
from dagster_active_learning.errors import PredictionReadError
from in_place import random_probs, write
from object_store import SECRET, object_store

CANDIDATES = "SELECT * EXCLUDE (run_id) FROM pool.labeling_candidates ORDER BY ALL"
SCORES = "FROM pool.image_scores ORDER BY image_id"


@pytest.fixture
def bucket(tmp_path):
    rng = np.random.default_rng(0)
    with object_store() as filesystem:
        for file in range(3):
            probs = random_probs(rng, 100).tolist()
            probs[7] = None
            name = f"p{file}.parquet"
            write(tmp_path / name, [f"{file}-{row:03d}" for row in range(100)], probs)
            filesystem.put(str(tmp_path / name), f"bucket/predictions/{name}")
        yield filesystem


def materialize(database, predictions, **settings):
    described = dg.Definitions.merge(
        active_learning_definitions(
            pool="pool", predictions=predictions, batch=LabelingBatch(size=10), **settings
        ),
        dg.Definitions(resources={"duckdb": DuckDBResource(database=str(database))}),
    )
    instance = dg.DagsterInstance.ephemeral()
    result = described.resolve_implicit_global_asset_job_def().execute_in_process(
        instance=instance, raise_on_error=False
    )
    return result, instance.all_logs(result.run_id)


def refuse(*_, **__):
    raise AssertionError("a file is copied to the disk")


def test_a_pool_on_s3_is_what_it_is_on_a_disk(tmp_path, bucket, monkeypatch, caplog):
    caplog.set_level(logging.DEBUG)
    on_disk, on_s3 = tmp_path / "disk.duckdb", tmp_path / "s3.duckdb"
    assert materialize(on_disk, PredictionFiles(tmp_path / "*.parquet", "parquet"))[0].success
    monkeypatch.setattr(S3FileSystem, "_get_file", refuse)
    result, events = materialize(
        on_s3,
        PredictionFiles("s3://bucket/predictions/*.parquet", "parquet", in_place=True),
        storage="s3://bucket/scores",
        engine=LocalWorkers(1),
    )
    assert result.success
    for query in (CANDIDATES, SCORES):
        found = []
        for database in (on_disk, on_s3):
            with duckdb.connect(str(database)) as connection:
                # A connection of one's own reads addresses by what one gives it.
                connection.register_filesystem(bucket)
                found.append(connection.execute(query).fetchall())
        assert found[0] == found[1]
    first = load_candidates(str(on_s3), pool="pool", acquisition_function="margin", limit=1)
    page = explain_candidate(str(on_s3), first["image_id"][0], pool="pool")
    assert "s3://bucket/predictions/p" in page
    for text in (repr(events), caplog.text, page):
        assert SECRET not in text
    assert SECRET.encode() not in on_s3.read_bytes()
    stored = b"".join(bucket.cat(bucket.find("bucket/scores")).values())
    assert SECRET.encode() not in stored


def test_an_object_that_is_another_since_names_itself(tmp_path, bucket):
    files = PredictionFiles("s3://bucket/predictions/*.parquet", "parquet", in_place=True)
    settings = {"storage": "s3://bucket/scores", "engine": LocalWorkers(1)}
    assert materialize(tmp_path / "s3.duckdb", files, **settings)[0].success
    write(tmp_path / "p1.parquet", ["other"], [[0.5, 0.5]])
    bucket.put(str(tmp_path / "p1.parquet"), "bucket/predictions/p1.parquet")
    first = load_candidates(str(tmp_path / "s3.duckdb"), pool="pool", limit=1)
    with pytest.raises(PredictionReadError, match=r"s3://bucket/predictions/p1\.parquet changed"):
        explain_candidate(str(tmp_path / "s3.duckdb"), first["image_id"][0], pool="pool")
