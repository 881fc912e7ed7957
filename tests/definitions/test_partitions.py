"""A pool with partitions: each partition key is a prediction set, and no other is touched."""

import hashlib
import shutil
from functools import partial
from typing import Any

import dagster as dg
import duckdb
import numpy as np
import polars as pl
import pytest
from dagster_duckdb import DuckDBResource

from dagster_active_learning import (
    PredictionAsset,
    PredictionFiles,
    PredictionQuery,
    active_learning_definitions,
)
from dagster_active_learning.definitions.partitions import partition_path
from dagster_active_learning.errors import PredictionReadError
from dagster_active_learning.store.pool_store import PoolStore
from dagster_active_learning.store.set_tables import renew_views

KEYS = ["may", "june", "july"]
FUNCTIONS = ["entropy", "margin"]
DEFINITIONS = {
    "static": dg.StaticPartitionsDefinition(KEYS),
    "dynamic": dg.DynamicPartitionsDefinition(name="models"),
    "daily": dg.DailyPartitionsDefinition("2026-01-01", end_date="2026-01-04"),
}
TABLES = [
    "image_scores", "labeling_candidates", "prediction_sets", "prediction_sources", "predictions",
    "quarantined_predictions", "rankings",
]  # fmt: skip


@pytest.fixture
def instance():
    with dg.DagsterInstance.ephemeral() as ephemeral:
        ephemeral.add_dynamic_partitions("models", KEYS)
        yield ephemeral


def run(database, instance, definitions, *keys, others=(), selection=None, raise_on_error=True):
    several = {
        "dagster/asset_partition_range_start": keys[0],
        "dagster/asset_partition_range_end": keys[-1],
    }
    return dg.materialize(
        [*others, *definitions.assets],
        instance=instance,
        resources={"duckdb": DuckDBResource(database=str(database))},
        partition_key=keys[0] if len(keys) == 1 else None,
        tags=several if len(keys) > 1 else None,
        selection=selection,
        raise_on_error=raise_on_error,
    )


@pytest.fixture
def materialize(database, instance):
    """Materialize one partition, several in one run, or none."""
    return partial(run, database, instance)


def class_probs(key, seed=0):
    """As many images as the key has letters, one broken."""
    random = np.random.default_rng([seed, *key.encode()])
    return [*random.dirichlet(np.ones(3), len(key)), [1, 1, 1]]


@pytest.fixture
def write(write_predictions):
    """Write the predictions of a partition."""

    def write(key, seed=0):
        return write_predictions(class_probs(key, seed), name=f"{key}.parquet")

    return write


@pytest.fixture(scope="module")
def database_of_keys(tmp_path_factory):
    folder = tmp_path_factory.mktemp("keys")
    for key in KEYS:
        rows = class_probs(key)
        ids = [f"image{row}" for row in range(len(rows))]
        predictions = pl.DataFrame({"image_id": ids, "class_probs": [list(row) for row in rows]})
        predictions.write_parquet(folder / f"{key}.parquet")
    with dg.DagsterInstance.ephemeral() as instance:
        run(folder / "test.duckdb", instance, pool(files(folder)), *KEYS)
    return folder / "test.duckdb"


@pytest.fixture
def materialized(write, database_of_keys, database):
    """The files of all keys, and a database that has them: a copy, for the test to change."""
    shutil.copyfile(database_of_keys, database)
    return {key: write(key) for key in KEYS}


@pytest.fixture
def rows(database):
    """All rows of a table of one prediction set."""

    def run(table, key):
        with duckdb.connect(str(database), read_only=True) as connection:
            return connection.execute(
                f"SELECT * FROM pool.{table} WHERE prediction_set = ? ORDER BY ALL", [key]
            ).fetchall()

    return run


def pool(predictions, partitions_def=DEFINITIONS["static"], **settings):
    return active_learning_definitions(
        pool="pool", predictions=predictions, partitions_def=partitions_def,
        acquisition_functions=FUNCTIONS, **settings,
    )  # fmt: skip


def events_of(result, key):
    return {
        event.partition: event.materialization
        for event in result.get_asset_materialization_events()
        if event.asset_key == dg.AssetKey(key)
    }


def files(tmp_path):
    return PredictionFiles(f"{tmp_path}/{{partition_key}}.parquet", "parquet")


ALL_KEYS = [["pool", "predictions"], ["pool", "image_scores"]] + [
    ["pool", "labeling_candidates", name] for name in FUNCTIONS
]


@pytest.mark.parametrize("kind", DEFINITIONS)
def test_the_partition_key_is_the_prediction_set(
    kind, materialize, write, rows, tmp_path, instance
):
    keys = DEFINITIONS[kind].get_partition_keys(dynamic_partitions_store=instance)
    assert len(keys) == 3
    definitions = pool(files(tmp_path), DEFINITIONS[kind])
    for key in keys:
        path = write(key)
        result = materialize(definitions, key)
        ((_, model, source, *_),) = rows("prediction_sets", key)
        assert (model, source) == (None, str(path))
        assert len(rows("image_scores", key)) == len(key)
        assert len(rows("quarantined_predictions", key)) == 1
        for asset in ALL_KEYS:
            (event,) = events_of(result, asset).values()
            assert event.partition == key
            assert event.metadata["dagster/partition_row_count"].value == len(key)
            assert "dagster/row_count" not in event.metadata
    assert len(rows("predictions", keys[0])) == len(keys[0]), "the first is still there"


def test_materializing_a_partition_touches_no_other(materialize, write, rows, tmp_path):
    definitions = pool(files(tmp_path))
    for key in KEYS:
        write(key)
    materialize(definitions, *KEYS)
    before = {(table, key): rows(table, key) for table in TABLES for key in KEYS}
    assert all(before.values())
    for key in KEYS:
        write(key, seed=1)
    materialize(definitions, "june")
    after = {(table, key): rows(table, key) for table in TABLES for key in KEYS}
    changed = {place for place in before if before[place] != after[place]}
    assert changed == {(table, "june") for table in TABLES if table != "quarantined_predictions"}
    assert after["predictions", "june"] != before["predictions", "june"]


@pytest.mark.parametrize(
    "kind",
    [
        pytest.param(kind, marks=[] if kind == "dynamic" else pytest.mark.slow)
        for kind in DEFINITIONS
    ],
)
def test_one_run_materializes_each_partition_of_a_range(
    kind, materialize, write, rows, tmp_path, instance
):
    keys = DEFINITIONS[kind].get_partition_keys(dynamic_partitions_store=instance)
    definitions = pool(files(tmp_path), DEFINITIONS[kind])
    paths = {key: write(key) for key in keys}
    result = materialize(definitions, keys[0], keys[1])
    for asset in ALL_KEYS:
        events = events_of(result, asset)
        assert sorted(events) == sorted(keys[:2])  # Dagster reports them in any order
        for key, event in events.items():
            assert event.metadata["dagster/partition_row_count"].value == len(key)
            lineage = {
                row.data["what"]: row.data["value"] for row in event.metadata["lineage"].records
            }
            assert lineage["prediction set"] == key
            assert lineage["source"] == str(paths[key])
    assert len(rows("labeling_candidates", keys[0])) == len(FUNCTIONS) * len(keys[0])
    assert len(rows("labeling_candidates", keys[1])) == len(FUNCTIONS) * len(keys[1])
    assert rows("prediction_sets", keys[2]) == []
    together = {(table, key): rows(table, key) for table in TABLES for key in keys[:2]}
    for key in keys[:2]:
        materialize(definitions, key)
    without_run = {"prediction_sets", "labeling_candidates", "rankings"}
    for (table, key), found in together.items():
        if table not in without_run:
            assert rows(table, key) == found


def test_backfills_are_single_runs_and_the_manifest_has_no_partitions(tmp_path):
    definitions = pool(files(tmp_path), images=tmp_path / "images")
    policies = {
        asset.op.name: (asset.partitions_def, asset.backfill_policy)
        for asset in definitions.assets or []
    }
    assert policies.pop("pool__images") == (None, None)
    single = (DEFINITIONS["static"], dg.BackfillPolicy.single_run())
    assert list(policies.values()) == [single] * 3


def test_the_manifest_is_that_of_all_partitions(materialize, write, rows, tmp_path, query):
    (tmp_path / "m.csv").write_text("image_id,labeled\nimage0,true\nimage1,false\nimage2,false\n")
    definitions = pool(files(tmp_path), images=tmp_path / "m.csv")
    for key in KEYS:
        write(key)
    # The images are materialized in a run that has a partition key, which is not theirs.
    result = materialize(definitions, "may")
    (images,) = events_of(result, ["pool", "images"]).values()
    assert images.partition is None
    assert images.metadata["dagster/row_count"].value == 3
    materialize(definitions, "june", "july", selection=[dg.AssetKey(key) for key in ALL_KEYS])
    for key in KEYS:
        assert {row[3] for row in rows("labeling_candidates", key)} == {"image1", "image2"}


def data_versions(result, key):
    return {
        partition: event.tags["dagster/data_version"]
        for partition, event in events_of(result, key).items()
    }


def test_data_versions_follow_the_content_of_the_partitions(materialize, write, tmp_path):
    definitions = pool(files(tmp_path))
    predictions = ["pool", "predictions"]
    paths = [write(key) for key in KEYS]
    alone = data_versions(materialize(definitions, "may"), predictions)
    content = hashlib.sha256(paths[0].read_bytes()).hexdigest()
    assert alone == {"may": content}
    together = [data_versions(materialize(definitions, "may", "june"), predictions)]
    together += [data_versions(materialize(definitions, "may", "june"), predictions)]
    assert together[0] == together[1]
    write("june", seed=1)
    changed = data_versions(materialize(definitions, "may", "june"), predictions)
    assert changed["may"] != together[0]["may"]


@pytest.mark.parametrize(
    ("table", "assets"),
    [
        ("predictions", [["pool", "predictions"]]),
        ("prediction_sets", [["pool", "image_scores"]]),
        ("image_scores", [["pool", "labeling_candidates", name] for name in ("margin", "entropy")]),
        ("prediction_sets", [["pool", "exported_candidates"]]),
    ],
)
def test_a_partition_that_fails_leaves_the_others_and_its_own_former_rows(
    table, assets, materialize, materialized, rows, query, database, tmp_path, instance
):
    definitions = pool(files(tmp_path), export=f"{tmp_path}/{{partition_key}}.csv")
    # What the step needs of june.
    if table == "predictions":
        materialized["june"].unlink()
    elif table == "image_scores":
        of_june = "SELECT generation FROM pool.prediction_sets WHERE prediction_set = 'june'"
        scores = f"pool.image_scores_{query(of_june)[0][0]}"
        query(f"CREATE TABLE pool.none AS FROM {scores} WHERE false")
        query(f"DROP VIEW {scores}")
        query(f"ALTER TABLE pool.none RENAME TO {scores.removeprefix('pool.')}")
    else:
        query(f"DELETE FROM pool.{table} WHERE prediction_set = 'june'")
        with duckdb.connect(str(database)) as connection:
            renew_views(PoolStore(connection, "pool").connection)
    before = {(one, key): rows(one, key) for one in TABLES for key in KEYS}
    selection = [dg.AssetKey(key) for key in assets]
    result = materialize(definitions, *KEYS, selection=selection, raise_on_error=False)
    assert not result.success
    for key in KEYS[1:]:
        assert {one: rows(one, key) for one in TABLES} == {one: before[one, key] for one in TABLES}
    # The database has may anew, and Dagster knows it.
    for key in assets:
        asset = dg.AssetRecordsFilter(dg.AssetKey(key))
        new = [
            record
            for record in instance.fetch_materializations(asset, limit=10).records
            if record.run_id == result.run_id
        ]
        assert [record.partition_key for record in new] == ["may"]
        said = new[0].asset_materialization
        assert said.metadata["dagster/partition_row_count"].value > 0
        assert "dagster/row_count" not in said.metadata
        has_version = assets[0][1] in ("predictions", "labeling_candidates")
        assert ("dagster/data_version" in (said.tags or {})) is has_version


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (
            {
                "predictions": PredictionAsset("a"),
                "partitions_def": dg.MultiPartitionsDefinition(
                    {"day": DEFINITIONS["daily"], "model": DEFINITIONS["static"]}
                ),
            },
            "partitions_def has several dimensions, expected one",
        ),
        (
            {"predictions": PredictionAsset("a"), "partitions_def": "daily"},
            "partitions_def is 'daily', expected a PartitionsDefinition",
        ),
        (
            {"predictions": PredictionFiles("p/{partition_key}.csv", "csv"), "partitions_def": None},
            "the pool has no partitions: set partitions_def, or leave {partition_key} out",
        ),
        (
            {"predictions": PredictionQuery("FROM a WHERE b = $partition_key"), "partitions_def": None},
            "the pool has no partitions: set partitions_def, or leave $partition_key out",
        ),
        ({"predictions": PredictionFiles("p.csv", "csv")}, "the same for every partition"),
        (
            {"predictions": PredictionFiles("{partition}/{partition_key}.csv", "csv")},
            "expected no braces but those of {partition_key}",
        ),
        (
            {"predictions": PredictionFiles("{{partition_key}}.csv", "csv")},
            "expected no braces but those of {partition_key}",
        ),
    ],
)  # fmt: skip
def test_what_partitions_cannot_be_is_refused(settings, words):
    with pytest.raises(ValueError, match="partition") as error:
        pool(**settings)
    assert words in str(error.value)


def test_braces_are_literal_where_a_pool_has_no_partitions(
    materialize, write_predictions, query, tmp_path
):
    (tmp_path / "{a}").mkdir()
    write_predictions([[0.5, 0.5]], name="{a}/p.parquet")
    definitions = pool(PredictionFiles(tmp_path / "{a}" / "p.parquet", "parquet"), None)
    assert dg.materialize(
        definitions.assets,
        resources={"duckdb": DuckDBResource(database=str(tmp_path / "test.duckdb"))},
    ).success
    assert query("SELECT prediction_set FROM pool.prediction_sets") == [("default",)]


@pytest.mark.parametrize(
    "key",
    [
        "..", ".", "", "../secret", "a/../../secret", "/etc/passwd", "a//b", "a/", "./a", "a/.",
        "..\\secret", "a\\b", "a\0b", "a/../b",
    ],
)  # fmt: skip
@pytest.mark.parametrize("template", ["{partition_key}", ".{partition_key}", "{partition_key}.csv"])
def test_a_partition_key_never_leaves_the_folder(key, template, tmp_path):
    with pytest.raises(PredictionReadError, match="cannot stand in the path"):
        partition_path(f"{tmp_path}/{template}", key)


@pytest.mark.parametrize(
    "key",
    ["2026-01-01", "2026-01-01-10:00", "2026/01/01", "a b", "a..b", "..a", "é", "a%2Fb", "~", "$HOME"],
)  # fmt: skip
def test_other_keys_stand_in_the_path_as_they_are(key, tmp_path):
    path = partition_path(f"{tmp_path}/{{partition_key}}/{{partition_key}}.csv", key)
    assert path == f"{tmp_path}/{key}/{key}.csv"


@pytest.mark.parametrize("key", ["x" * 10_000, "x" * 252, "ü" * 126, "a/" * 3_000 + "a"])
def test_a_key_that_is_too_long_for_a_file_is_refused_before_anything_is_written(
    key, materialize, rows, tmp_path
):
    with pytest.raises(PredictionReadError, match="cannot stand in the path") as error:
        partition_path(f"{tmp_path}/{{partition_key}}.csv", key)
    assert f"of {len(key):,} characters" in str(error.value)
    assert len(str(error.value)) < 1_000
    source = PredictionQuery("SELECT 'a' AS image_id, [0.5, 0.5] AS class_probs")
    export = f"{tmp_path}/out/{{partition_key}}.csv"
    definitions = pool(source, dg.StaticPartitionsDefinition([key]), export=export)
    with pytest.raises(PredictionReadError, match="cannot stand in the path"):
        materialize(definitions, key)
    assert len(rows("labeling_candidates", key)) == len(FUNCTIONS)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "template", ["s3://bucket/{partition_key}.csv", "in/{partition_key}/p.csv"]
)
def test_a_key_may_be_as_long_as_the_file_system_allows(template):
    key = "x" * (1_000 if template.startswith("s3") else 255)
    assert partition_path(template, key) == template.replace("{partition_key}", key)


WILDCARDS = ["*", "?????", "[a-z]*", "x[1]", "**"]
PLACES = [
    ("{partition_key}.parquet", "{partition_key}.parquet"),
    ("{partition_key}/*.parquet", "{partition_key}/p.parquet"),
    ("in/{partition_key}.parq*", "in/{partition_key}.parquet"),
]


@pytest.mark.parametrize(
    ("key", "template", "written"),
    [
        pytest.param(key, *place, marks=[] if number % 3 == turn else pytest.mark.slow)
        for number, key in enumerate(WILDCARDS)
        for turn, place in enumerate(PLACES)
    ],
)
def test_wildcards_in_a_key_match_only_themselves(
    key, template, written, write_predictions, materialize, rows, tmp_path
):
    """A key ``*`` does not read the files of all the others."""
    for one, class_probs in [("other", [[0.5, 0.5]] * 2), (key, [[0.25, 0.75]])]:
        path = written.replace("{partition_key}", one)
        (tmp_path / path).parent.mkdir(exist_ok=True, parents=True)
        write_predictions(class_probs, name=path)
    source = PredictionFiles(f"{tmp_path}/{template}", "parquet")
    definitions = pool(source, dg.StaticPartitionsDefinition([key, "oth*"]))
    read = [dg.AssetKey(["pool", "predictions"])]
    materialize(definitions, key, selection=read)
    assert len(rows("predictions", key)) == 1
    with pytest.raises(PredictionReadError, match="does not exist"):
        materialize(definitions, "oth*", selection=read)


def test_a_partition_may_be_a_folder_of_files(materialize, rows, tmp_path):
    for key in ("a[1]", "b"):
        (tmp_path / key).mkdir()
        (tmp_path / key / "image.txt").write_text("0 0.5 0.5 0.1 0.1 0.9\n")
    source = PredictionFiles(f"{tmp_path}/{{partition_key}}", "yolo")
    definitions = pool(source, dg.StaticPartitionsDefinition(["a[1]", "b"]), task="detection")
    materialize(definitions, "a[1]", "b")
    assert len(rows("predictions", "a[1]")) == len(rows("predictions", "b")) == 1


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * EXCLUDE (model) FROM output WHERE model = $partition_key",
        "FROM (SELECT image_id, class_probs FROM output WHERE model = $partition_key)",
    ],
)
def test_a_query_binds_the_partition_key(sql, materialize, rows, query):
    query(
        "CREATE TABLE output AS SELECT key AS model, 'image' || i AS image_id, [0.25, 0.75] AS class_probs "
        "FROM range(9) t(i), (VALUES ('may', 3), ('june', 5), ('it''s', 7)) k(key, n) WHERE i < n"
    )
    keys = dg.StaticPartitionsDefinition(["may", "june", "it's"])
    materialize(pool(PredictionQuery(sql), keys), "may", "june")
    materialize(pool(PredictionQuery(sql), keys), "it's")
    counts = [len(rows("predictions", key)) for key in ("may", "june", "it's")]
    assert counts == [3, 5, 7]


def test_a_query_may_do_without_the_partition_key(materialize, rows, query):
    query("CREATE TABLE output AS SELECT 'image' AS image_id, [0.25, 0.75] AS class_probs")
    materialize(pool(PredictionQuery("FROM output")), "may")
    assert len(rows("predictions", "may")) == 1


def upstream_asset():
    @dg.asset(partitions_def=DEFINITIONS["static"], io_manager_key="values")
    def upstream(context: dg.AssetExecutionContext):
        return pl.DataFrame(
            {"image_id": list(context.partition_key), "class_probs": [[0.25, 0.75]] * len(context.partition_key)}
        )  # fmt: skip

    return upstream


def test_an_upstream_asset_with_the_same_partitions(materialize, rows, tmp_path):
    files = dg.FilesystemIOManager(base_dir=str(tmp_path / "values"))
    others = dg.with_resources([upstream_asset()], {"values": files})
    definitions = pool(PredictionAsset("upstream"))
    for key in KEYS:
        materialize(definitions, key, others=others, selection=["upstream"])
    materialize(definitions, "may", others=others, selection=[dg.AssetKey(k) for k in ALL_KEYS])
    assert [row[1] for row in rows("predictions", "may")] == ["a", "m", "y"]
    materialize(definitions, *KEYS, others=others, selection=[dg.AssetKey(k) for k in ALL_KEYS])
    assert [len(rows("predictions", key)) for key in KEYS] == [3, 4, 4]
    assert {row[1] for row in rows("predictions", "july")} == set("july")


class OneTable(dg.IOManager):
    """Loads what an IO manager for databases would: one table, whatever the partitions."""

    def handle_output(self, context, obj):
        pass

    def load_input(self, context) -> Any:  # noqa: ARG002
        return pl.DataFrame({"image_id": ["a"], "class_probs": [[0.25, 0.75]]})


def test_one_table_for_several_partitions_is_refused(materialize, rows):
    others = dg.with_resources([upstream_asset()], {"values": OneTable()})
    selection = [dg.AssetKey(key) for key in ALL_KEYS]
    definitions = pool(PredictionAsset("upstream"))
    with pytest.raises(PredictionReadError, match="gives one DataFrame for 3 partitions"):
        materialize(definitions, *KEYS, others=others, selection=selection)
    materialize(definitions, "may", others=others, selection=selection)
    assert len(rows("predictions", "may")) == 1


class SomePartitions(OneTable):
    """Loads a mapping that lacks a partition."""

    def load_input(self, context) -> Any:
        return {"may": super().load_input(context)}


def test_a_partition_that_upstream_does_not_have_is_named(materialize):
    others = dg.with_resources([upstream_asset()], {"values": SomePartitions()})
    selection = [dg.AssetKey(key) for key in ALL_KEYS]
    with pytest.raises(PredictionReadError, match="no value for the partition 'june'"):
        materialize(pool(PredictionAsset("upstream")), *KEYS, others=others, selection=selection)


def test_a_job_of_a_range_runs_as_a_backfill_does(write, rows, tmp_path, database, instance):
    """What the backfill daemon launches for BackfillPolicy.single_run: one run, a range of keys."""
    for key in KEYS:
        write(key)
    definitions = dg.Definitions.merge(
        # One row of each partition is broken.
        pool(files(tmp_path), DEFINITIONS["dynamic"], max_quarantined_share=0.2),
        dg.Definitions(
            jobs=[dg.define_asset_job("rank_all", "*")],
            resources={"duckdb": DuckDBResource(database=str(database))},
        ),
    )
    result = definitions.resolve_job_def("rank_all").execute_in_process(
        instance=instance,
        tags={
            "dagster/asset_partition_range_start": "june",
            "dagster/asset_partition_range_end": "july",
        },
    )
    assert result.success
    assert [len(rows("image_scores", key)) for key in KEYS] == [0, 4, 4]
