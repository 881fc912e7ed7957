"""A pool whose predictions stay where they are, as Dagster materializes it."""

import re
import time

import dagster as dg
import duckdb
import numpy as np
import pytest
from dagster_duckdb import DuckDBResource
from fsspec.implementations.local import LocalFileSystem

from dagster_active_learning import (
    LabelingBatch,
    LocalWorkers,
    PredictionAsset,
    PredictionFiles,
    active_learning_definitions,
    explain_candidate,
    load_candidates,
)
from dagster_active_learning.definitions.assets import asset
from dagster_active_learning.errors import SettingError
from in_place import InThisProcess, content, random_probs, write

TABLES = {
    "candidates": "SELECT * EXCLUDE (run_id) FROM pool.labeling_candidates ORDER BY ALL",
    "scores": "FROM pool.image_scores ORDER BY image_id",
    "quarantined": "FROM pool.quarantined_predictions ORDER BY ALL",
    "batches": """SELECT * EXCLUDE (created_at, run_id, ranking_run_id)
        FROM pool.labeling_batches ORDER BY ALL""",
}


@pytest.fixture
def predictions(tmp_path):
    rng = np.random.default_rng(0)
    for file in range(3):
        probs = random_probs(rng, 200).tolist()
        probs[7] = None
        write(tmp_path / f"p{file}.parquet", [f"{file}-{row:03d}" for row in range(200)], probs)
    return tmp_path / "*.parquet"


def definitions(tmp_path, path, *, in_place=True, **settings):
    if in_place:
        settings = {"storage": tmp_path / "storage", "engine": InThisProcess(), **settings}
    database = tmp_path / ("in_place.duckdb" if in_place else "copied.duckdb")
    return dg.Definitions.merge(
        active_learning_definitions(
            pool="pool",
            predictions=PredictionFiles(path, "parquet", in_place=in_place, model="may"),
            batch=LabelingBatch(size=20),
            **settings,
        ),
        dg.Definitions(resources={"duckdb": DuckDBResource(database=str(database))}),
    )


def materialize(described, *, assets=None, raise_on_error=True):
    selected = None if assets is None else [dg.AssetKey.from_user_string(key) for key in assets]
    return described.resolve_implicit_global_asset_job_def().execute_in_process(
        asset_selection=selected,
        instance=dg.DagsterInstance.ephemeral(),
        raise_on_error=raise_on_error,
    )


def tables(database):
    with duckdb.connect(str(database), read_only=True) as connection:
        return {name: connection.execute(query).fetchall() for name, query in TABLES.items()}


def failed_checks(result):
    return [one.check_name for one in result.get_asset_check_evaluations() if not one.passed]


def test_the_whole_pool_is_what_it_is_when_files_are_copied(tmp_path, predictions):
    results = [
        materialize(definitions(tmp_path, predictions, in_place=in_place))
        for in_place in (True, False)
    ]
    in_place, copied = (tables(tmp_path / f"{name}.duckdb") for name in ("in_place", "copied"))
    assert in_place == copied
    assert len(in_place["batches"]) == 20
    assert [failed_checks(result) for result in results] == [[], []]


def test_an_explanation_reads_the_files(tmp_path, predictions):
    databases = [str(tmp_path / f"{name}.duckdb") for name in ("in_place", "copied")]
    pages = []
    for database, in_place in zip(databases, (True, False), strict=True):
        materialize(definitions(tmp_path, predictions, in_place=in_place))
        first = load_candidates(database, pool="pool", acquisition_function="margin", limit=1)
        pages.append(explain_candidate(database, first["image_id"][0], pool="pool"))
    runs = r"[0-9a-f-]{36}|\d{4}-\d\d-\d\d [\d:.+]+"
    assert re.sub(runs, "…", pages[0]) == re.sub(runs, "…", pages[1])


def test_a_tilde_in_paths_is_the_home_folder(tmp_path, predictions, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    described = definitions(
        tmp_path,
        f"~/{predictions.name}",
        storage="~/storage",
        export=["~/export/candidates.csv"],
    )
    assert materialize(described).success
    assert {"storage", "export"} <= {path.name for path in tmp_path.iterdir()}
    assert not (tmp_path / "~").exists()


def test_workers_of_this_machine_score_the_files(tmp_path, predictions):
    materialize(definitions(tmp_path, predictions, engine=LocalWorkers(2)))
    materialize(definitions(tmp_path, predictions, in_place=False))
    assert tables(tmp_path / "in_place.duckdb") == tables(tmp_path / "copied.duckdb")


def test_other_rules_score_the_files_again_and_the_former_scores_go(tmp_path, predictions):
    materialize(definitions(tmp_path, predictions))
    former = set((tmp_path / "storage/pool").glob("*/*"))
    assert len(former) == 1
    described = definitions(tmp_path, predictions, aggregation="max")
    materialize(described, assets=["pool/image_scores", "pool/labeling_candidates/margin"])
    folders = set((tmp_path / "storage/pool").glob("*/*"))
    assert former < folders, "the rows in quarantine are still read from there"
    materialize(described)
    assert len(set((tmp_path / "storage/pool").glob("*/*"))) == 1


def test_a_file_that_changed_since_fails_what_reads_it_and_nothing_else(tmp_path, predictions):
    described = definitions(tmp_path, predictions)
    materialize(described)
    rng = np.random.default_rng(1)
    write(tmp_path / "p1.parquet", [f"1-{row:03d}" for row in range(200)], random_probs(rng, 200))
    failing = materialize(
        described, assets=["pool/labeling_candidates/margin"], raise_on_error=False
    )
    assert not failing.success
    (failure,) = failing.get_step_failure_events()[:1]
    assert "p1.parquet changed since it was read" in str(failure.step_failure_data.error)
    assert materialize(described).success


def test_pools_of_two_databases_with_one_name_and_one_storage_leave_each_other_alone(
    tmp_path, predictions
):
    """They have the same files, so that all that decides what is written is the same."""
    storage = tmp_path / "storage"

    def run(name, **settings):
        (tmp_path / name).mkdir(exist_ok=True)
        materialize(definitions(tmp_path / name, predictions, storage=storage, **settings))
        return tables(tmp_path / name / "in_place.duckdb")

    first = run("first")
    folders = content(storage)
    second = run("second")
    assert second == first
    assert len(list(storage.glob("pool/*"))) == 2
    run("second", aggregation="max")
    found = content(storage)
    assert {name: found[name] for name in folders} == folders
    assert run("first") == first


def test_folders_that_are_not_this_pools_stay(tmp_path, predictions):
    others = tmp_path / "storage/pool/notes"
    others.mkdir(parents=True)
    (others / "set.txt").write_text("mine")
    materialize(definitions(tmp_path, predictions))
    assert (others / "set.txt").read_text() == "mine"


@pytest.mark.parametrize(
    ("settings", "fault"),
    [
        ({"storage": None}, "the pool has no storage"),
        ({"storage": "s3://me:secret@bucket/scores"}, "with a user, a password"),
        ({"storage": 7}, "expected a folder"),
        ({"engine": "local"}, "expected LocalWorkers"),
        ({"inputs": "logits"}, "a view over the files shows"),
        ({"predictions": PredictionAsset("ml")}, "predictions are not read in place"),
    ],
)
def test_settings_that_do_not_fit_are_refused(settings, fault):
    files = PredictionFiles("p.parquet", "parquet", in_place=True)
    with pytest.raises(SettingError, match=fault) as error:
        active_learning_definitions(
            **{"pool": "pool", "predictions": files, "storage": "scores", **settings}
        )
    assert "secret" not in str(error.value)


@pytest.mark.parametrize("place", ["{}", "s3://bucket{}"])
@pytest.mark.parametrize(
    ("path", "storage", "reaches"),
    [
        ("/data/**/*.parquet", "/data/scores", True),
        ("/data/*/*/*/*/*.parquet", "/data/scores/", True),
        ("/data/*/*/*/*/p*.parquet", "/data/scores", True),
        ("/data/*/*/*/*/*/*.parquet", "/data/scores", True),
        ("/data/*.parquet", "/data/scores", False),
        ("/data/*.parquet", "/data", False),
        ("/data/**/*.parquet", "/scores", False),
        ("/data/predictions/**/*.parquet", "/data/scores", False),
    ],
)
def test_a_storage_whose_files_would_be_predictions_is_refused(place, path, storage, reaches):
    settings = {
        "pool": "pool",
        "predictions": PredictionFiles(place.format(path), "parquet", in_place=True),
        "storage": place.format(storage),
    }
    if reaches:
        with pytest.raises(SettingError, match="a folder that the path does not reach"):
            active_learning_definitions(**settings)
    else:
        assert active_learning_definitions(**settings).assets


@pytest.mark.parametrize(
    ("path", "format", "fault"),
    [
        ("p.csv", "csv", "only Parquet files"),
        ("https://host/p.parquet?X-Amz-Signature=secret", "parquet", "kept in the database"),
    ],
)
def test_files_that_cannot_stay_in_place_are_refused(path, format, fault):
    with pytest.raises(ValueError, match=fault) as error:
        PredictionFiles(path, format, in_place=True)
    assert "secret" not in str(error.value)


def test_workers_are_a_number():
    with pytest.raises(SettingError, match="expected an integer of at least 1"):
        LocalWorkers(0)


def test_former_scores_that_cannot_be_removed_are_a_warning(
    tmp_path, predictions, monkeypatch, capfd
):
    described = definitions(tmp_path, predictions)
    materialize(described, assets=["pool/predictions"])

    def refuse(*_, **__):
        raise PermissionError("Access Denied")

    monkeypatch.setattr(LocalFileSystem, "rm", refuse)
    write(tmp_path / "p0.parquet", ["0", "1"], [[0.2, 0.2, 0.2, 0.2, 0.2]] * 2)
    result = materialize(described, assets=["pool/predictions", "pool/image_scores"])
    assert result.success
    assert len(list((tmp_path / "storage/pool").glob("*/*"))) == 2
    assert re.search("WARNING .*former scores stay in .*Access Denied", capfd.readouterr().err)


def test_partitions_that_are_no_longer_kept_take_their_folders_along(tmp_path):
    keys = ["2026-01", "2026-02", "2026-03"]
    rng = np.random.default_rng(0)
    for key in keys:
        write(tmp_path / f"{key}.parquet", [f"{n:03d}" for n in range(50)], random_probs(rng, 50))
    described = definitions(
        tmp_path,
        tmp_path / "{partition_key}.parquet",
        partitions_def=dg.StaticPartitionsDefinition(keys),
        keep_prediction_sets=2,
    )
    with dg.DagsterInstance.ephemeral() as instance:
        for key in keys:
            described.resolve_implicit_global_asset_job_def().execute_in_process(
                asset_selection=[dg.AssetKey(["pool", "predictions"])],
                instance=instance,
                partition_key=key,
            )
    with duckdb.connect(str(tmp_path / "in_place.duckdb")) as connection:
        rows = connection.execute(
            "SELECT prediction_set, folder FROM pool.in_place_sets"
        ).fetchall()
    assert sorted(name for name, _ in rows) == keys[1:]
    folders = {str(folder) for folder in (tmp_path / "storage/pool").glob("*/*")}
    assert folders == {folder for _, folder in rows}


def test_a_folder_of_a_failed_run_stays_for_a_day(tmp_path, monkeypatch):
    path, storage = tmp_path / "{partition_key}.parquet", tmp_path / "storage/pool"
    for key in "ab":
        write(tmp_path / f"{key}.parquet", ["1", "2"], [[0.5, 0.5], [0.25, 0.75]])
    with dg.DagsterInstance.ephemeral() as instance:

        def run(described, **options):
            job = described.resolve_implicit_global_asset_job_def()
            selected = [dg.AssetKey(["pool", "predictions"])]
            return job.execute_in_process(asset_selection=selected, instance=instance, **options)

        class Failing(InThisProcess):
            def run(self, function, tasks, *report):
                yield next(super().run(function, tasks, *report))
                raise RuntimeError("no more workers")

        keys = dg.StaticPartitionsDefinition(["a", "b"])
        failing = definitions(tmp_path, path, engine=Failing(), partitions_def=keys)
        assert not run(failing, partition_key="a", raise_on_error=False).success
        (left,) = storage.glob("*/*")
        described = definitions(tmp_path, path, partitions_def=keys)
        run(described, partition_key="b")
        assert left.exists()
        day_later = time.time() + 90_000
        monkeypatch.setattr(asset.time, "time", lambda: day_later)
        run(described, partition_key="b")
        assert not left.exists()
