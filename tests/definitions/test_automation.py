"""What materializes a pool by itself: conditions, freshness, job and schedule, each thing once."""

from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg
import numpy as np
import polars as pl
import pytest
from dagster_duckdb import DuckDBResource

from dagster_active_learning import (
    PoolImages,
    PredictionAsset,
    PredictionFiles,
    PredictionFileSensor,
    PredictionQuery,
    active_learning_definitions,
)

DYNAMIC = dg.DynamicPartitionsDefinition(name="models")
DAILY = dg.DailyPartitionsDefinition("2026-01-01", end_date="2026-02-01")
FUNCTIONS = ["entropy", "margin"]
PREDICTIONS, SCORES, *CANDIDATES = KEYS = [
    dg.AssetKey(["pool", "predictions"]),
    dg.AssetKey(["pool", "image_scores"]),
    *(dg.AssetKey(["pool", "labeling_candidates", name]) for name in FUNCTIONS),
]
IMAGES, EXPORT = (dg.AssetKey(["pool", name]) for name in ("images", "exported_candidates"))


@dg.asset(name="model", partitions_def=DYNAMIC)
def model_of_a_partition():
    return pl.DataFrame({"image_id": ["a"], "class_probs": [[0.4, 0.6]]})


@dg.asset
def model():
    return pl.DataFrame({"image_id": ["a"], "class_probs": [[0.4, 0.6]]})


class Pool:
    """A pool with Dagster's automation, tick by tick."""

    def __init__(self, database, instance, others=(), **settings):
        self.definitions = dg.Definitions.merge(
            active_learning_definitions(pool="pool", acquisition_functions=FUNCTIONS, **settings),
            dg.Definitions(
                assets=others, resources={"duckdb": DuckDBResource(database=str(database))}
            ),
        )
        self.instance = instance
        self.cursor = None

    def tick(self):
        """How many partitions automation asks for of each asset."""
        result = dg.evaluate_automation_conditions(
            self.definitions, self.instance, cursor=self.cursor
        )
        self.cursor = result.cursor
        requested = {key: result.get_num_requested(key) for key in [IMAGES, *KEYS, EXPORT]}
        return {key: number for key, number in requested.items() if number}

    def materialize(self, *keys, partition_key=None):
        job = self.definitions.get_job_def("__ASSET_JOB")
        return job.execute_in_process(
            instance=self.instance, asset_selection=list(keys), partition_key=partition_key
        )


@pytest.fixture
def instance():
    with dg.DagsterInstance.ephemeral() as ephemeral:
        yield ephemeral


@pytest.fixture
def files(write_predictions, tmp_path):
    for name in ("may", "june"):
        write_predictions(
            np.random.default_rng(len(name)).dirichlet(np.ones(3), 5), name=f"{name}.parquet"
        )
    return PredictionFiles(f"{tmp_path}/{{partition_key}}.parquet", "parquet")


def test_scores_and_candidates_follow_new_predictions_once(database, instance, files):
    pool = Pool(database, instance, predictions=files, partitions_def=DYNAMIC, automation=True)
    assert pool.tick() == {}
    instance.add_dynamic_partitions("models", ["may", "june"])
    assert pool.tick() == {}, "there are no predictions to follow"
    pool.materialize(PREDICTIONS, partition_key="may")
    assert pool.tick() == dict.fromkeys([SCORES, *CANDIDATES], 1)
    pool.materialize(SCORES, *CANDIDATES, partition_key="may")
    assert pool.tick() == {}
    pool.materialize(PREDICTIONS, partition_key="june")
    pool.materialize(PREDICTIONS, partition_key="may")
    assert pool.tick() == dict.fromkeys([SCORES, *CANDIDATES], 2)


def test_what_the_sensor_runs_automation_does_not_run_again(database, instance, files, tmp_path):
    pool = Pool(
        database,
        instance,
        predictions=files,
        partitions_def=DYNAMIC,
        automation=True,
        sensor=PredictionFileSensor(),
        export=f"{tmp_path}/{{partition_key}}.csv",
    )
    assert pool.tick() == {}
    sensor = pool.definitions.get_sensor_def("pool__prediction_files")
    cursor, requests = None, []
    for _ in range(2):
        result: Any = sensor(dg.build_sensor_context(instance, cursor=cursor))
        cursor, requests = result.cursor, result.run_requests
        for request in result.dynamic_partitions_requests:
            instance.add_dynamic_partitions("models", list(request.partition_keys))
    assert pool.tick() == {}, "the partitions are there, their predictions not yet"
    job = pool.definitions.get_repository_def().get_job(sensor.job_name)
    for request in requests:
        assert job.execute_in_process(
            instance=instance, partition_key=request.partition_key
        ).success
        assert (tmp_path / f"{request.partition_key}.csv").exists()
        assert pool.tick() == {}
    assert {request.partition_key for request in requests} == {"may", "june"}
    pool.materialize(PREDICTIONS, partition_key="may")
    assert pool.tick() == dict.fromkeys([SCORES, *CANDIDATES, EXPORT], 1)


def test_predictions_follow_the_asset_that_makes_them(database, instance):
    pool = Pool(
        database,
        instance,
        [model_of_a_partition],
        predictions=PredictionAsset("model"),
        partitions_def=DYNAMIC,
        automation=True,
    )
    instance.add_dynamic_partitions("models", ["may"])
    assert pool.tick() == {}
    pool.materialize(dg.AssetKey("model"), partition_key="may")
    assert pool.tick() == dict.fromkeys(KEYS, 1)
    pool.materialize(*KEYS, partition_key="may")
    assert pool.tick() == {}


def test_candidates_follow_the_manifest(database, instance, files, tmp_path):
    (tmp_path / "manifest.csv").write_text("image_id\nimage0\nimage1\n")
    pool = Pool(
        database,
        instance,
        predictions=PredictionFiles(tmp_path / "may.parquet", "parquet"),
        images=tmp_path / "manifest.csv",
        max_quarantined_share=1.0,  # what is said about the other images
        automation=True,
    )
    pool.definitions.get_job_def("pool__labeling").execute_in_process(instance=instance)
    assert pool.tick() == {}
    pool.materialize(IMAGES)
    assert pool.tick() == dict.fromkeys([SCORES, *CANDIDATES], 1)


def test_the_manifest_follows_the_asset_that_makes_it(database, instance, files, tmp_path):
    (tmp_path / "manifest.csv").write_text("image_id\nimage0\nimage1\n")
    pool = Pool(
        database,
        instance,
        [model],
        predictions=PredictionFiles(tmp_path / "may.parquet", "parquet"),
        images=PoolImages(tmp_path / "manifest.csv", deps=["model"]),
        max_quarantined_share=1.0,
        automation=True,
    )
    pool.materialize(dg.AssetKey("model"))
    pool.definitions.get_job_def("pool__labeling").execute_in_process(instance=instance)
    assert pool.tick() == {}
    pool.materialize(dg.AssetKey("model"))
    assert pool.tick() == dict.fromkeys([IMAGES, SCORES, *CANDIDATES], 1)
    pool.materialize(IMAGES, SCORES, *CANDIDATES)
    assert pool.tick() == {}


@pytest.mark.parametrize(
    ("predictions", "settings", "expected"),
    [
        (PredictionFiles("p.csv", "csv"), {}, False),
        (PredictionFiles("p.csv", "csv", deps=["model"]), {}, True),
        (
            PredictionFiles("p.csv", "csv", deps=["model"]),
            {"sensor": PredictionFileSensor()},
            False,
        ),
        (PredictionAsset("model"), {}, True),
        (PredictionQuery("FROM model"), {}, False),
        (PredictionQuery("FROM model", deps=["model"]), {}, True),
    ],
)
def test_predictions_have_the_condition_where_something_upstream_says_what_is_new(
    predictions, settings, expected
):
    specs = {
        spec.key: spec
        for automation in (True, False)
        for asset in active_learning_definitions(
            pool="pool" if automation else "plain",
            predictions=predictions,
            acquisition_functions=FUNCTIONS,
            images="manifest.csv",
            automation=automation,
            **settings,
        ).assets
        or []
        for spec in asset.specs
    }
    automated = {key for key, spec in specs.items() if spec.automation_condition}
    assert automated == {SCORES, *CANDIDATES} | ({PREDICTIONS} if expected else set())


def test_the_freshness_policy_is_that_of_the_candidates():
    policy = dg.FreshnessPolicy.time_window(timedelta(days=7))
    definitions = active_learning_definitions(
        pool="pool",
        predictions=PredictionFiles("p.csv", "csv"),
        acquisition_functions=FUNCTIONS,
        freshness_policy=policy,
    )
    policies = {
        spec.key: spec.freshness_policy for one in definitions.assets or [] for spec in one.specs
    }
    assert policies == {PREDICTIONS: None, SCORES: None, **dict.fromkeys(CANDIDATES, policy)}


def test_the_job_of_a_pool_materializes_all_its_assets(database, instance, files, tmp_path, query):
    (tmp_path / "manifest.csv").write_text("image_id\nimage0\nimage1\n")
    instance.add_dynamic_partitions("models", ["may"])
    pool = Pool(
        database,
        instance,
        [model],
        predictions=files,
        images=tmp_path / "manifest.csv",
        max_quarantined_share=1.0,
        partitions_def=DYNAMIC,
    )
    job = pool.definitions.get_job_def("pool__labeling")
    result = job.execute_in_process(instance=instance, partition_key="may")
    done = {event.asset_key for event in result.get_asset_materialization_events()}
    assert done == {dg.AssetKey(["pool", "images"]), *KEYS}
    assert query("SELECT count(*) FROM pool.labeling_candidates") == [(2 * len(FUNCTIONS),)]


@pytest.mark.parametrize(
    ("at", "expected"),
    [
        (datetime(2026, 1, 2, 6, tzinfo=UTC), "2026-01-01"),
        (datetime(2026, 1, 15, 6, tzinfo=UTC), "2026-01-14"),
        (datetime(2026, 1, 1, 6, tzinfo=UTC), None),
    ],
)
def test_a_schedule_of_time_partitions_asks_for_the_last_that_is_over(at, expected):
    definitions = active_learning_definitions(
        pool="pool",
        predictions=PredictionAsset("model"),
        partitions_def=DAILY,
        schedule="0 6 * * *",
    )
    schedule: Any
    (schedule,) = definitions.schedules or []
    asked = schedule(dg.build_schedule_context(scheduled_execution_time=at))
    assert getattr(asked, "partition_key", None) == expected
    assert isinstance(asked, dg.RunRequest if expected else dg.SkipReason)


def test_a_schedule_without_partitions_starts_the_job():
    definitions = active_learning_definitions(
        pool="pool", predictions=PredictionAsset("model"), schedule="0 6 * * 1"
    )
    (schedule,) = definitions.schedules or []
    assert (schedule.job_name, schedule.cron_schedule) == ("pool__labeling", "0 6 * * 1")
    assert schedule.default_status == dg.DefaultScheduleStatus.STOPPED


@pytest.mark.parametrize(
    ("schedule", "partitions_def", "words"),
    [
        ("every day", None, "expected a cron string"),
        ("0 6 * *", DAILY, "expected a cron string"),
        ("0 6 * * *", DYNAMIC, "the time does not say which partition"),
        ("0 6 * * *", dg.StaticPartitionsDefinition(["a"]), "the time does not say which"),
    ],
)
def test_a_schedule_that_cannot_be_is_refused(schedule, partitions_def, words):
    with pytest.raises(ValueError, match=words):
        active_learning_definitions(
            pool="pool",
            predictions=PredictionAsset("model"),
            partitions_def=partitions_def,
            schedule=schedule,
        )


def test_old_time_partitions_follow_their_predictions_too(database, instance, files, tmp_path):
    (tmp_path / "may.parquet").rename(tmp_path / "2026-01-02.parquet")
    pool = Pool(database, instance, predictions=files, partitions_def=DAILY, automation=True)
    assert pool.tick() == {}
    pool.materialize(PREDICTIONS, partition_key="2026-01-02")
    assert pool.tick() == dict.fromkeys([SCORES, *CANDIDATES], 1)
