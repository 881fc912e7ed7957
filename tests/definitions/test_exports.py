"""Candidates as files that an asset of the pool writes."""

import hashlib
import subprocess
import sys

import dagster as dg
import polars as pl
import pytest
from dagster_duckdb import DuckDBResource

from dagster_active_learning import (
    PoolImages,
    PredictionFiles,
    active_learning_definitions,
    load_candidates,
)
from dagster_active_learning.errors import PoolStateError

ASSET = dg.AssetKey(["pool", "exported_candidates"])


def pool(predictions, **settings):
    return active_learning_definitions(pool="pool", predictions=predictions, **settings)


def materialized(definitions, database, **options):
    """The materializations of the export, by partition."""
    result = dg.materialize(
        definitions.assets,
        resources={"duckdb": DuckDBResource(database=str(database))},
        **options,
    )
    return {
        event.partition: event.materialization.metadata
        for event in result.get_asset_materialization_events()
        if event.asset_key == ASSET
    }


def test_the_candidates_are_written_after_they_are_ranked(database, write_predictions, tmp_path):
    path = write_predictions([[0.5, 0.5], [0.9, 0.1]])
    parquet, csv = tmp_path / "out" / "candidates.parquet", tmp_path / "candidates.CSV"
    definitions = pool(PredictionFiles(path, "parquet"), export=[parquet, str(csv)])
    metadata = materialized(definitions, database)[None]
    expected = load_candidates(database, pool="pool")
    assert pl.read_parquet(parquet).equals(expected)
    assert pl.read_csv(csv)["image_id"].to_list() == expected["image_id"].to_list()
    assert metadata["dagster/row_count"].value == 8
    assert metadata["parquet"].value == str(parquet)
    assert metadata["csv"].value == str(csv)
    assert [record.data for record in metadata["files"].records] == [
        {
            "format": file.suffix[1:].lower(),
            "path": str(file),
            "rows": 8,
            "bytes": file.stat().st_size,
            "sha256": hashlib.sha256(file.read_bytes()).hexdigest(),
        }
        for file in (parquet, csv)
    ]


def test_they_are_written_beside_another_reader(database, write_predictions, tmp_path):
    files = PredictionFiles(write_predictions([[0.5, 0.5]]), "parquet")
    definitions = pool(files, export=tmp_path / "candidates.csv", lock_timeout_seconds=0)
    materialized(definitions, database)
    reader = (
        "import sys, duckdb; c = duckdb.connect(sys.argv[1], read_only=True); print(input('.'))"
    )
    with subprocess.Popen(
        [sys.executable, "-c", reader, str(database)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout
        assert process.stdout.read(1) == b"."
        assert materialized(definitions, database, selection=[ASSET])
        process.communicate(b"\n")
    assert process.returncode == 0


FILES = PredictionFiles("p.csv", "csv")


def export_specs(**settings):
    """The spec of the export, if there is one."""
    specs = [spec for asset in pool(FILES, **settings).assets or () for spec in asset.specs]
    return [spec for spec in specs if spec.key == ASSET]


def test_the_export_depends_on_every_ranking_and_the_manifest_and_is_not_there_by_default():
    rankings = {"entropy", "least_confidence", "margin", "variance"}
    for settings, deps in (({}, rankings), ({"images": "m.csv"}, rankings | {"images"})):
        (spec,) = export_specs(export="c.csv", **settings)
        assert {dep.asset_key.path[-1] for dep in spec.deps} == deps
    assert export_specs() == []


def test_what_is_written_where_is_the_code_version():
    settings = [
        {"export": "c.csv"},
        {"export": "d.csv"},
        {"export": ["c.csv", "c.parquet"]},
        {"export": "c.csv", "acquisition_functions": ["margin"]},
    ]
    versions = [spec.code_version for one in settings for spec in export_specs(**one)]
    assert len(set(versions)) == len(versions) == len(settings)
    assert versions[0] == export_specs(**settings[0])[0].code_version


def test_functions_that_the_pool_had_before_are_left_out(database, write_predictions, tmp_path):
    """Their candidates are still in the database; neither files nor agreement know them."""
    files = PredictionFiles(write_predictions([[0.5, 0.5]]), "parquet")
    before = pool(files, acquisition_functions=["entropy", "variance", "margin"])
    definitions = pool(
        files, acquisition_functions=["margin", "entropy"], export=tmp_path / "candidates.csv"
    )
    events = {}
    for one in (before, definitions):
        result = dg.materialize(
            one.assets, resources={"duckdb": DuckDBResource(database=str(database))}
        )
        for event in result.get_asset_materialization_events():
            events[event.asset_key] = event.materialization.metadata
    assert len(load_candidates(database, pool="pool")) == 3
    written = pl.read_csv(tmp_path / "candidates.csv")["acquisition_function"]
    assert written.to_list() == ["margin", "entropy"]
    ranking = events[dg.AssetKey(["pool", "labeling_candidates", "margin"])]
    compared = [row.data["acquisition_function"] for row in ranking["agreement"].records]
    assert compared == ["entropy"]


def test_each_partition_has_its_file(database, write_predictions, tmp_path):
    for number, key in enumerate(("may", "june*")):
        write_predictions([[0.5, 0.5]] * (number + 1), name=f"{key}.parquet")
    definitions = pool(
        PredictionFiles(f"{tmp_path}/{{partition_key}}.parquet", "parquet"),
        partitions_def=dg.StaticPartitionsDefinition(["may", "june*"]),
        acquisition_functions=["margin"],
        export=f"{tmp_path}/{{partition_key}}/candidates.csv",
    )
    for number, key in enumerate(("may", "june*")):
        metadata = materialized(definitions, database, partition_key=key)[key]
        assert metadata["dagster/partition_row_count"].value == number + 1
        assert pl.read_csv(tmp_path / key / "candidates.csv")[
            "prediction_set"
        ].unique().to_list() == [key]


def months(folder, **settings):
    return pool(
        PredictionFiles(f"{folder}/{{partition_key}}.parquet", "parquet"),
        partitions_def=dg.StaticPartitionsDefinition(["may", "june"]),
        acquisition_functions=["margin", "entropy"],
        images=folder / "m.csv",
        export={"spreadsheet": f"{folder}/{{partition_key}}.csv"},
        **settings,
    )


def run(definitions, database, instance, *assets, partition_key=None, raise_on_error=True):
    """The result of materializing some assets with their checks; all without them."""
    return dg.materialize(
        [*definitions.assets, *definitions.asset_checks],
        instance=instance,
        resources={"duckdb": DuckDBResource(database=str(database))},
        selection=[dg.AssetKey(["pool", *asset.split("/")]) for asset in assets] or None,
        partition_key=partition_key,
        raise_on_error=raise_on_error,
    )


def exported(result):
    """The metadata of the export, and whether its check passed with which numbers."""
    (event,) = [
        event.materialization.metadata
        for event in result.get_asset_materialization_events()
        if event.asset_key == ASSET
    ]
    (check,) = [one for one in result.get_asset_check_evaluations() if one.asset_key == ASSET]
    return event, check


def test_images_that_are_labeled_by_now_are_counted_and_not_written(
    database, write_predictions, tmp_path
):
    for key in ("may", "june"):
        write_predictions([[0.5, 0.5], [0.75, 0.25], [1, 0]], name=f"{key}.parquet")
    images = [f"image{number}" for number in range(3)]
    (tmp_path / "m.csv").write_text("\n".join(["image_id", *images]))
    with dg.DagsterInstance.ephemeral() as instance:
        run(months(tmp_path), database, instance, "images")
        metadata, check = exported(
            run(
                months(tmp_path), database, instance, "predictions", "image_scores",
                "labeling_candidates/margin", "labeling_candidates/entropy", "exported_candidates",
                partition_key="may",
            )
        )  # fmt: skip
        assert (metadata["left_out"].value, metadata["dagster/partition_row_count"].value) == (0, 6)
        assert (check.passed, check.check_name) == (True, "every_candidate_exported")
        (tmp_path / "m.csv").write_text("image_id,labeled\nimage0,true\nimage2,false")
        run(months(tmp_path), database, instance, "images")
        result = run(
            months(tmp_path), database, instance, "exported_candidates", partition_key="may"
        )
    metadata, check = exported(result)
    assert (metadata["left_out"].value, metadata["dagster/partition_row_count"].value) == (4, 2)
    assert pl.read_csv(tmp_path / "may.csv")["image_id"].to_list() == ["image2"] * 2
    assert (check.passed, check.severity) == (False, dg.AssetCheckSeverity.WARN)
    assert (check.metadata["left_out"].value, check.metadata["outdated_rankings"].value) == (4, 0)
    first = check.metadata["examples"].records[0].data
    assert (first["image_id"], first["prediction_set"], first["left_the_manifest"]) == (
        "image0", "may", False,
    )  # fmt: skip


@pytest.mark.parametrize(
    "again", [["predictions"], ["predictions", "image_scores"], ["image_scores"]]
)
def test_a_ranking_of_what_is_stored_no_longer_stops_the_export(
    database, write_predictions, tmp_path, again
):
    files = PredictionFiles(write_predictions([[0.5, 0.5], [0.9, 0.1]]), "parquet")
    definitions = pool(files, export=tmp_path / "candidates.csv", acquisition_functions=["margin"])
    with dg.DagsterInstance.ephemeral() as instance:
        first = run(definitions, database, instance)
        assert exported(first)[1].passed
        before = (tmp_path / "candidates.csv").read_bytes()
        run(definitions, database, instance, *again)
        result = run(definitions, database, instance, "exported_candidates", raise_on_error=False)
        assert not result.success
        (failure,) = [
            event
            for event in result.all_events
            if event.is_step_failure and event.step_failure_data.error
        ]
        assert "PoolStateError" in str(
            getattr(failure.step_failure_data.error, "cause", None)
            or failure.step_failure_data.error
        )
        assert "pool/labeling_candidates/margin first" in str(failure.step_failure_data.error)
        assert (tmp_path / "candidates.csv").read_bytes() == before
        alone = dg.materialize(
            [*(definitions.assets or []), *(definitions.asset_checks or [])], instance=instance,
            resources={"duckdb": DuckDBResource(database=str(database))},
            selection=dg.AssetSelection.checks(dg.AssetCheckKey(ASSET, "every_candidate_exported")),
        )  # fmt: skip
        (check,) = alone.get_asset_check_evaluations()
        assert (check.passed, check.severity) == (False, dg.AssetCheckSeverity.WARN)
        assert check.metadata["outdated_rankings"].value == 1
        steps = [
            *(["image_scores"] if again == ["predictions"] else []),
            "labeling_candidates/margin",
        ]
        run(definitions, database, instance, *steps, "exported_candidates")


@pytest.mark.parametrize(
    ("export", "words"),
    [
        ("candidates.xlsx", "expected the suffix .csv or .parquet"),
        ("candidates", "expected one file per format"),
        ([], "expected one file per format"),
        (["a.csv", "b.csv"], "expected one file per format"),
        ("{partition_key}.csv", "export has the path '{partition_key}.csv', but the pool has no"),
    ],
)
def test_paths_that_cannot_be_used_are_refused(export, words):
    with pytest.raises(ValueError, match="^export") as error:
        pool(PredictionFiles("p.csv", "csv"), export=export)
    assert words in str(error.value)


def test_with_partitions_the_path_names_them():
    with pytest.raises(
        ValueError, match="export has the path 'c.csv', which is the same for every"
    ):
        pool(
            PredictionFiles("{partition_key}.csv", "csv"),
            partitions_def=dg.StaticPartitionsDefinition(["a"]),
            export="c.csv",
        )


@pytest.mark.parametrize(
    ("predictions", "images", "export"),
    [
        (("in/p.csv", "csv"), None, "in/p.csv"),
        (("in/p.csv", "csv"), None, "out/../in/p.csv"),
        (("in/*.csv", "csv"), None, "in/candidates.csv"),
        (("in/**/*.csv", "csv"), None, "in/a/b/candidates.csv"),
        (("in/p?.csv", "csv"), None, {"parquet": "in/p1.csv"}),
        (("linked/*.csv", "csv"), None, "in/candidates.csv"),
        (("in", "yolo"), None, {"csv": "in/candidates.txt"}),
        (("p.parquet", "parquet"), "m.csv", "m.csv"),
        (("p.parquet", "parquet"), PoolImages("m.csv", labeled="l.csv"), "l.csv"),
    ],
)  # fmt: skip
def test_what_is_read_is_no_file_to_write_to(predictions, images, export, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in").mkdir()
    (tmp_path / "linked").symlink_to("in")
    task = "detection" if "yolo" in predictions else "classification"
    with pytest.raises(ValueError, match="export is the file .*, which is what .* reads"):
        pool(PredictionFiles(*predictions), images=images, export=export, task=task)


def test_a_partition_is_no_file_to_write_to():
    partitions = {"partitions_def": dg.StaticPartitionsDefinition(["a"])}
    files = PredictionFiles("in/{partition_key}.csv", "csv")
    with pytest.raises(ValueError, match="which is what predictions reads"):
        pool(files, export="in/{partition_key}.csv", **partitions)
    with pytest.raises(ValueError, match="which is what predictions reads"):
        pool(files, export="in/candidates_{partition_key}.csv", **partitions)
    assert pool(files, export="out/{partition_key}.csv", **partitions).assets
    assert pool(files, export="in/{partition_key}/c.csv", **partitions).assets


def test_the_database_is_no_file_to_write_to(tmp_path, write_predictions):
    database = tmp_path / "database.csv"
    definitions = pool(PredictionFiles(write_predictions([[0.5, 0.5]]), "parquet"), export=database)
    with pytest.raises(PoolStateError, match=r"database\.csv, which is the database itself"):
        materialized(definitions, database)
    assert load_candidates(database, pool="pool").height == 4
