"""The Dagster face: keys, dependencies, metadata, versions, run config and sources."""

import subprocess
import sys

import dagster as dg
import duckdb
import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from dagster_duckdb import DuckDBResource

from dagster_active_learning import (
    ACQUISITION_FUNCTIONS,
    PoolImages,
    PredictionAsset,
    PredictionFiles,
    PredictionQuery,
    active_learning_definitions,
)
from dagster_active_learning.errors import PoolStateError, PredictionReadError

FUNCTIONS = ["entropy", "least_confidence", "margin", "variance"]
CANDIDATES = [f"pool/labeling_candidates/{name}" for name in FUNCTIONS]
SCORED = ["pool/predictions", "pool/image_scores"]


@pytest.fixture
def instance():
    with dg.DagsterInstance.ephemeral() as ephemeral:
        yield ephemeral


@pytest.fixture
def materialize(database, instance):
    """Materialize assets of some definitions, all by default, in the test's database."""

    def run(definitions, selection=None, *, others=(), run_config=None, raise_on_error=True):
        return dg.materialize(
            [*others, *definitions.assets],
            instance=instance,
            resources={"duckdb": DuckDBResource(database=str(database))},
            selection=selection,
            run_config=run_config,
            raise_on_error=raise_on_error,
        )

    return run


def pool(predictions, **settings):
    return active_learning_definitions(pool="pool", predictions=predictions, **settings)


def metadata_of(result, key):
    (event,) = [
        event
        for event in result.get_asset_materialization_events()
        if event.asset_key == dg.AssetKey.from_user_string(key)
    ]
    return event.materialization.metadata


def random_class_probs(n_images=60, n_classes=3):
    return np.random.default_rng(0).dirichlet(np.ones(n_classes), n_images).astype(np.float32)


def records(metadata_value):
    return [record.data for record in metadata_value.records]


def specs_of(definitions):
    resources = dg.Definitions(resources={"duckdb": DuckDBResource(database="unused.duckdb")})
    definitions = dg.Definitions.merge(definitions, resources)
    return {spec.key.to_user_string(): spec for spec in definitions.resolve_all_asset_specs()}


def test_keys_and_dependencies(tmp_path):
    definitions = pool(
        PredictionFiles("p.parquet", "parquet", deps=["model"]),
        images=PoolImages("m.csv", deps=["exported"]),
    )
    deps = {
        key: {dep.asset_key.to_user_string() for dep in spec.deps}
        for key, spec in specs_of(definitions).items()
    }
    assert deps == {
        "exported": set(),
        "model": set(),
        "pool/images": {"exported"},
        "pool/predictions": {"model", "pool/images"},
        "pool/image_scores": {"pool/predictions", "pool/images"},
        **{key: {"pool/image_scores", "pool/images"} for key in CANDIDATES},
    }


def test_group_kinds_and_versions_are_set():
    for key, spec in specs_of(pool(PredictionFiles("p.csv", "csv"))).items():
        assert spec.group_name == "pool"
        assert "duckdb" in spec.kinds
        assert spec.kinds & {"numba", "polars"}, key
        assert spec.code_version
        assert spec.description
    one, other = (
        specs_of(pool(PredictionFiles("p.csv", "csv", class_column_prefix=prefix)))
        for prefix in ("a", "b")
    )
    assert one["pool/predictions"].code_version != other["pool/predictions"].code_version
    assert one["pool/image_scores"].code_version == other["pool/image_scores"].code_version


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"pool": "a b"}, "in asset keys and, without quotes, in SQL; for example a_b"),
        (
            {"pool": "2024_pool"},
            "with no digit in front: it is a name in asset keys and, without quotes, in SQL; for example pool_2024_pool",
        ),
        ({"pool": "street-signs/2024"}, "in SQL; for example street_signs_2024"),
        ({"pool": ""}, "pool is '', expected letters, digits and underscores"),
        ({"pool": 'x"; DROP TABLE images'}, "expected letters, digits and underscores"),
        ({"task": "regression"}, "task is 'regression', expected one of 'classification'"),
        ({"inputs": "odds"}, "inputs is 'odds', expected one of 'probabilities'"),
        ({"aggregation": "median"}, "aggregation is 'median', expected one of 'mean'"),
        ({"score_only": "yes"}, "score_only is 'yes', expected one of 'binary'"),
        ({"images_without_predictions": "no"}, "expected one of 'last', 'first', 'exclude', None"),
        ({"limit": 0}, "limit is 0, expected an integer of at least 1"),
        ({"seed": 2**63}, "expected an integer of 64 bits"),
        ({"acquisition_functions": []}, "expected different ones of entropy"),
        ({"acquisition_functions": ["margin", "margin"]}, "expected different ones of entropy"),
        ({"acquisition_functions": ["mean_object_score"]}, "for the task 'classification'"),
        (
            {"predictions": PredictionFiles("p.json", "rvc"), "inputs": "independent"},
            "inputs is 'independent', but what class probabilities of the format 'rvc' leave over",
        ),
        (
            {"predictions": PredictionFiles("labels", "yolo"), "inputs": "logits"},
            "inputs is 'logits', but what class probabilities of the format 'yolo' leave over",
        ),
        ({"images": "manifest.txt"}, "expected one of csv, jsonl, parquet"),
    ],
)
def test_settings_that_cannot_be_used_are_refused(settings, words):
    with pytest.raises(ValueError, match="expected") as error:
        active_learning_definitions(
            **{"pool": "pool", "predictions": PredictionFiles("p.csv", "csv"), **settings}
        )
    assert words in str(error.value)


def test_a_run_ranks_the_images_and_says_how(materialize, write_predictions, query):
    class_probs = random_class_probs()
    path = write_predictions(class_probs)
    result = materialize(pool(PredictionFiles(path, "parquet", model="resnet"), limit=20))
    margins = np.diff(np.sort(class_probs, axis=1)[:, -2:])[:, 0]
    expected = [f"image{row}" for row in np.argsort(margins)[:20]]
    assert query(
        "SELECT image_id FROM pool.labeling_candidates WHERE acquisition_function = 'margin' ORDER BY rank"
    ) == [(image_id,) for image_id in expected]
    assert query("SELECT DISTINCT run_id FROM pool.labeling_candidates") == [(result.run_id,)]

    metadata = metadata_of(result, "pool/labeling_candidates/margin")
    assert metadata["dagster/row_count"].value == 20
    assert metadata["dagster/table_name"].value == "test.pool.labeling_candidates"
    assert metadata["images_to_choose_from"].value == 60
    assert metadata["score_at_cut"].value == pytest.approx(
        np.sort(margins)[19], rel=5e-4
    )  # rounded
    assert metadata["mean_score"].value == pytest.approx(np.sort(margins)[:20].mean(), rel=5e-4)
    columns = {column.name: column for column in metadata["dagster/column_schema"].value.columns}
    assert columns["rank"].type == "BIGINT"
    assert columns["rank"].description == "Place in the queue, from 1"
    lineage = {row["what"]: row["value"] for row in records(metadata["lineage"])}
    sha256 = records(metadata_of(result, "pool/predictions")["lineage"])[2]["value"]
    assert lineage == {
        "model": "resnet",
        "source": str(path),
        "SHA-256 of the source": sha256,
        "prediction set": "default",
        "run that read the predictions": result.run_id,
        "acquisition function": "Margin",
        "formula": "p(1) - p(2), mean over the image's predictions, probability",
        "labeled first": "lowest score",
    }
    preview = records(metadata["preview"])
    assert [row["image_id"] for row in preview] == expected
    deps = metadata["dagster/column_lineage"].value.deps_by_column
    assert deps["score"][0].asset_key == dg.AssetKey(["pool", "image_scores"])
    assert deps["score"][0].column_name == "margin"


def test_counts_and_reasons_of_what_was_read(materialize, write_predictions):
    path = write_predictions([[0.5, 0.5], [0.5, 0.6], [0.5, 0.7]])
    metadata = metadata_of(materialize(pool(PredictionFiles(path, "parquet"))), "pool/predictions")
    assert metadata["dagster/row_count"].value == 1
    assert metadata["quarantined"].value == 2
    (reason,) = records(metadata["quarantined_by_reason"])
    assert reason["reason"] == "the class probabilities do not sum to 1"
    assert (reason["rows"], reason["first_source"], reason["first_row"]) == (2, str(path), 2)


def data_version(instance, key):
    event = instance.get_latest_materialization_event(dg.AssetKey.from_user_string(key))
    return event.asset_materialization.tags["dagster/data_version"]


def test_data_versions_follow_the_content(materialize, write_predictions, instance):
    path = write_predictions(random_class_probs())
    keys = ["pool/predictions", "pool/image_scores", *CANDIDATES]

    def versions():
        materialize(pool(PredictionFiles(path, "parquet")))
        return {key: data_version(instance, key) for key in keys}

    first = versions()
    path.touch()
    assert versions() == first, "the same content, another time"
    write_predictions(random_class_probs()[::-1])
    changed = versions()
    assert all(changed[key] != first[key] for key in keys)


def test_each_ranking_is_materialized_alone(materialize, write_predictions, query):
    definitions = pool(PredictionFiles(write_predictions(random_class_probs()), "parquet"))
    materialize(definitions, SCORED)
    for number, key in enumerate(CANDIDATES, start=1):
        result = materialize(definitions, [key])
        assert [
            event.asset_key.to_user_string() for event in result.get_asset_materialization_events()
        ] == [key]
        ranked = query("SELECT DISTINCT acquisition_function FROM pool.labeling_candidates")
        assert {name for (name,) in ranked} == set(FUNCTIONS[:number])


def test_run_config_overrides_limit_and_seed(materialize, write_predictions, query):
    definitions = pool(PredictionFiles(write_predictions([[0.5, 0.5]] * 40), "parquet"), limit=30)

    def ranked(**config):
        run_config = {"ops": {"pool__labeling_candidates": {"config": config}}}
        materialize(definitions, ["pool/labeling_candidates/margin"], run_config=run_config)
        return query(
            "SELECT image_id FROM pool.labeling_candidates WHERE acquisition_function = 'margin' ORDER BY rank"
        )

    materialize(definitions, SCORED)
    default = ranked()
    assert len(default) == 30
    assert ranked(limit=7) == default[:7]
    assert ranked(limit=7, seed=1) != default[:7]
    with pytest.raises(ValueError, match="limit is 0"):
        ranked(limit=0)


def test_labeled_images_are_never_candidates_and_need_no_new_predictions(
    materialize, write_predictions, query, tmp_path
):
    manifest = tmp_path / "manifest.csv"
    definitions = pool(
        PredictionFiles(write_predictions([[0.5, 0.5]] * 3), "parquet"), images=manifest
    )

    def candidates():
        return query(
            "SELECT image_id FROM pool.labeling_candidates WHERE acquisition_function = 'margin' ORDER BY ALL"
        )

    manifest.write_text("image_id,labeled\nimage0,true\nimage1,false\nimage2,\n")
    result = materialize(definitions)
    assert candidates() == [("image1",), ("image2",)]
    assert metadata_of(result, "pool/images")["labeled"].value == 1
    manifest.write_text("image_id,labeled\nimage0,true\nimage1,true\nimage2,\n")
    materialize(definitions, ["pool/images", *CANDIDATES])
    assert candidates() == [("image2",)]


FRAMES = {
    "polars": lambda ids, p: pl.DataFrame({"image_id": ids, "class_probs": p}),
    "polars array": lambda ids, p: pl.DataFrame({"image_id": ids, "class_probs": pl.Series(p, dtype=pl.Array(pl.Float32, 3))}),
    "arrow": lambda ids, p: pa.table({"image_id": ids, "class_probs": list(p)}),
    "arrow batch": lambda ids, p: pa.record_batch({"image_id": ids, "class_probs": list(p)}),
    "duckdb relation": lambda ids, p: duckdb.connect().from_arrow(pa.table({"image_id": ids, "class_probs": list(p)})),
}  # fmt: skip


@pytest.mark.parametrize("kind", FRAMES)
def test_a_table_that_an_upstream_asset_returns(materialize, query, instance, kind):
    class_probs = random_class_probs()

    @dg.asset(key=["ml", "predictions"], io_manager_key="memory")
    def upstream():
        return FRAMES[kind]([f"image{row}" for row in range(60)], class_probs)

    definitions = pool(PredictionAsset(["ml", "predictions"], model="m"))
    assets = dg.with_resources([upstream], {"memory": dg.mem_io_manager})
    versions = set()
    for _ in range(2):
        result = materialize(definitions, ["pool/predictions", "ml/predictions"], others=assets)
        versions.add(data_version(instance, "pool/predictions"))
    assert len(versions) == 1
    lineage = records(metadata_of(result, "pool/predictions")["lineage"])
    assert lineage[1]["value"] == "asset ml/predictions"
    stored = query("SELECT class_probs FROM pool.predictions ORDER BY prediction_index")
    np.testing.assert_array_equal([row[0] for row in stored], class_probs)


def test_content_hash_does_not_depend_on_chunks_or_the_kind_of_table(materialize, instance):
    class_probs = list(random_class_probs())
    ids = [f"image{row}" for row in range(60)]
    whole = pa.table({"image_id": ids, "class_probs": class_probs})
    tables = [whole, pl.DataFrame(whole), pa.concat_tables([whole.slice(0, 7), whole.slice(7)])]
    versions = set()
    for table in tables:
        upstream = dg.asset(name="upstream", io_manager_key="memory")(lambda: table)  # noqa: B023
        assets = dg.with_resources([upstream], {"memory": dg.mem_io_manager})
        materialize(
            pool(PredictionAsset("upstream")), ["upstream", "pool/predictions"], others=assets
        )
        versions.add(data_version(instance, "pool/predictions"))
    assert len(versions) == 1


def test_another_score_is_another_content(materialize, instance):
    versions = set()
    for score in (0.25, 0.5):
        table = pl.DataFrame({"image_id": ["a"], "score": [score]})
        upstream = dg.asset(name="upstream", io_manager_key="memory")(lambda: table)  # noqa: B023
        assets = dg.with_resources([upstream], {"memory": dg.mem_io_manager})
        source = PredictionAsset("upstream", score_column="score")
        materialize(pool(source, task="detection"), ["upstream", "pool/predictions"], others=assets)
        versions.add(data_version(instance, "pool/predictions"))
    assert len(versions) == 2


def test_what_is_no_table_is_refused_by_name(materialize):
    @dg.asset(name="upstream", io_manager_key="memory")
    def upstream():
        return {"image_id": ["a"]}

    assets = dg.with_resources([upstream], {"memory": dg.mem_io_manager})
    with pytest.raises(
        PredictionReadError, match="asset upstream is a builtins.dict, expected a polars"
    ):
        materialize(pool(PredictionAsset("upstream")), others=assets)


@pytest.mark.parametrize(
    "sql", ["FROM model.output", "SELECT * FROM model.output WHERE class_probs IS NOT NULL"]
)
def test_a_duckdb_query_or_table(materialize, query, sql):
    query("CREATE SCHEMA model")
    query(
        "CREATE TABLE model.output AS SELECT 'image' || i AS image_id, [0.25::FLOAT, 0.75] AS class_probs FROM range(5000) t(i)"
    )
    result = materialize(pool(PredictionQuery(sql)), ["pool/predictions"])
    assert metadata_of(result, "pool/predictions")["dagster/row_count"].value == 5000
    assert query("SELECT DISTINCT typeof(class_probs) FROM pool.predictions") == [("FLOAT[]",)]


def test_a_query_that_fails_says_so(materialize):
    with pytest.raises(PredictionReadError, match="the query 'FROM nowhere' fails"):
        materialize(pool(PredictionQuery("FROM nowhere")))


def test_steps_without_what_they_need_say_what_to_materialize(
    materialize, write_predictions, tmp_path
):
    (tmp_path / "manifest.csv").write_text("image_id\nimage0\n")
    files = PredictionFiles(write_predictions([[0.5, 0.5]]), "parquet")
    with pytest.raises(PoolStateError, match="materialize pool/images first"):
        materialize(pool(files, images=tmp_path / "manifest.csv"), ["pool/predictions"])
    with pytest.raises(PoolStateError, match="materialize pool/predictions first"):
        materialize(pool(files), ["pool/image_scores"])


def test_a_database_in_memory_is_refused(instance, write_predictions):
    files = PredictionFiles(write_predictions([[0.5, 0.5]]), "parquet")
    with pytest.raises(dg.DagsterInvalidDefinitionError, match="give it the path of a file"):
        dg.materialize(
            pool(files).assets,
            instance=instance,
            resources={"duckdb": DuckDBResource(database=":memory:")},
        )


def test_the_database_is_not_open_while_a_source_is_opened(
    materialize, write_predictions, database, query
):
    class Elsewhere(PredictionFiles):
        """Takes long to download."""

        def open(self, value, partition_key=None):
            # DuckDB refuses it as long as the process has a connection of another configuration.
            duckdb.connect(str(database), config={"threads": 1}).close()
            return super().open(value, partition_key)

    materialize(pool(Elsewhere(write_predictions([[0.5, 0.5]]), "parquet")))
    assert len(query("FROM pool.predictions")) == 1


def test_a_failed_step_leaves_the_former_state_and_no_open_connection(
    materialize, write_predictions, query
):
    definitions = pool(PredictionFiles(write_predictions([[0.5, 0.5]]), "parquet"))
    materialize(definitions)
    write_predictions([[0.5, 0.6]])
    assert not materialize(definitions, raise_on_error=False).success
    assert query("SELECT class_probs FROM pool.predictions") == [([0.5, 0.5],)]


def test_a_pool_may_be_named_as_the_database_is(tmp_path, instance, write_predictions):
    dg.materialize(
        pool(PredictionFiles(write_predictions([[0.5, 0.5]]), "parquet")).assets,
        instance=instance,
        resources={"duckdb": DuckDBResource(database=str(tmp_path / "pool.duckdb"))},
    )
    with duckdb.connect(str(tmp_path / "pool.duckdb")) as connection:
        assert len(connection.execute("FROM pool.labeling_candidates").fetchall()) == 4


def test_a_step_after_a_failed_one_in_the_same_process_does_not_wait_for_it(tmp_path):
    """A result left open by the failed step would let DuckDB wait without end."""
    script = tmp_path / "run.py"
    script.write_text(
        """
import sys
import dagster as dg, numpy as np, pyarrow as pa, pyarrow.parquet as pq
from dagster_duckdb import DuckDBResource
from dagster_active_learning import PredictionFiles, active_learning_definitions
from dagster_active_learning.flow import rank

def fail(batches, *args, **kwargs):
    next(iter(batches))
    raise RuntimeError("in the middle of a result")

rank.rank_images = fail
folder = sys.argv[1]
ids = [str(row) for row in range(300_000)]
rows = pa.table({"image_id": ids, "class_probs": [np.array([0.5, 0.5])] * len(ids)})
pq.write_table(rows, folder + "/p.parquet")
pools = [
    active_learning_definitions(pool=name, predictions=PredictionFiles(folder + "/p.parquet", "parquet"))
    for name in ("first", "second")
]
database = DuckDBResource(database=folder + "/test.duckdb")
assets = [asset for pool in pools for asset in pool.assets]
result = dg.materialize(assets, resources={"duckdb": database}, raise_on_error=False)
assert sum(event.is_step_failure for event in result.all_events) == 2
print("done")
"""
    )
    done = subprocess.run(
        [sys.executable, str(script), str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert done.stdout.strip() == "done", done.stderr[-2000:]


def test_two_pools_share_a_database(materialize, write_predictions, query):
    path = write_predictions(random_class_probs())
    for name in ("day", "night"):
        materialize(
            active_learning_definitions(
                pool=name,
                predictions=PredictionFiles(path, "parquet"),
                acquisition_functions=["margin"],
            )
        )
    assert (
        query("SELECT count(*) FROM day.predictions")
        == query("SELECT count(*) FROM night.predictions")
        == [(60,)]
    )
    assert ACQUISITION_FUNCTIONS["margin"].level == "image"
