"""An acquisition function that is added to the table of functions, and pools made before it was."""

from dataclasses import replace

import duckdb
import numpy as np
import pyarrow as pa
import pytest

from dagster_active_learning import ACQUISITION_FUNCTIONS, explain_candidate, flow
from dagster_active_learning.errors import PoolStateError
from dagster_active_learning.rules import Rules
from dagster_active_learning.store.candidate_findings import (
    broken_ranks,
    missing_candidates,
    outdated_candidates,
)
from dagster_active_learning.store.image_scores import (
    add_image_scores,
    image_score_schema,
    images_without_predictions,
    replace_image_scores,
)
from dagster_active_learning.store.images import replace_images
from dagster_active_learning.store.labeling_candidates import candidate_rows
from dagster_active_learning.store.pool_store import PoolStore
from dagster_active_learning.store.pools import existing_pool
from dagster_active_learning.store.prediction_sets import prediction_set
from dagster_active_learning.store.score_bins import score_bins
from dagster_active_learning.store.score_findings import (
    Bounds,
    scores_out_of_bounds,
    wrongly_scored_images,
)
from dagster_active_learning.store.score_statistics import score_statistics
from dagster_active_learning.store.set_tables import renew_views
from pools import column, in_memory, ingest, on_tables, rows, score
from ranked_pools import manifest, ranked_files, write_files

NAMES = ["toy", "select", 'a "quoted" name', "Größe"]
COMMENT = 'The image\'s "worth"; 100 % toy'
ROWS = [("a", [0.5, 0.5]), ("b", [0.75, 0.25]), ("c", [0.25, 0.75])]
TOY = {"a": 0.25, "b": 8.0, "c": 0.5}


@pytest.fixture
def add_function(monkeypatch):
    """Add a function like another one under a name of its own, labeled highest first."""

    def add(name, like="margin"):
        function = replace(
            ACQUISITION_FUNCTIONS[like], name=name, label_first="highest", column_comment=COMMENT
        )
        monkeypatch.setitem(ACQUISITION_FUNCTIONS, name, function)
        return function

    return add


def quoted(name):
    return '"' + name.replace('"', '""') + '"'


def filled(store, tmp_path):
    """Three images, scored and ranked."""
    ranked_files(store, write_files(tmp_path / "files", ROWS))


def put_scores(store, scores):
    replace_image_scores(store, prediction_set(store, "set").tables, scores)
    renew_views(store.connection)


def toy_scores(name):
    """Scores of the three images; those of the new function are ``TOY``."""
    known = dict.fromkeys(["entropy", "least_confidence", "margin", "variance"], 0.125)
    rows = [{"image_id": i, "prediction_count": 1, name: s, **known} for i, s in TOY.items()]
    return [pa.RecordBatch.from_pylist(rows, image_score_schema())]


@pytest.mark.parametrize("name", NAMES)
def test_a_pool_gets_the_column_at_the_next_write(database, tmp_path, add_function, name):
    with duckdb.connect(str(database)) as connection:
        filled(PoolStore(connection, "pool"), tmp_path)
        before = connection.execute("FROM image_scores ORDER BY image_id").fetchall()
    add_function(name)
    with existing_pool(database, "pool") as store:
        assert name not in [each.name for each in store.columns("image_scores")]
        with pytest.raises(PoolStateError, match="no scores by .* yet: materialize pool/image_sco"):
            score_bins(store, "set", [name], Rules())
        with pytest.raises(PoolStateError, match="no scores by .* yet"):
            wrongly_scored_images(store, ["set"], Rules())
    with duckdb.connect(str(database)) as connection:
        store = PoolStore(connection, "pool")
        for table in ("image_scores", "candidate_lineage"):
            (new,) = [each for each in store.columns(table) if each.name == name]
            assert new.type == "DOUBLE"
            assert new.comment
        assert store.columns("image_scores")[-1].comment == COMMENT
        after = connection.execute("FROM image_scores ORDER BY image_id").fetchall()
        assert after == [(*row, None) for row in before]
        assert column(store, f"SELECT DISTINCT {quoted(name)} FROM candidate_lineage") == [None]
        put_scores(store, toy_scores(name))
        lineage = f"SELECT DISTINCT image_id, {quoted(name)} FROM candidate_lineage"
        assert dict(rows(store, lineage)) == TOY


@pytest.mark.parametrize("name", NAMES)
def test_every_statement_about_scores_knows_it(store, tmp_path, add_function, name):
    function = add_function(name)
    store = PoolStore(store.connection, "pool")
    filled(store, tmp_path)
    put_scores(store, toy_scores(name))
    statistics = score_statistics(store, "set")
    assert statistics.images == 3
    assert statistics.without_predictions == 0
    assert statistics.means[name] == sum(TOY.values()) / 3
    bounds = [Bounds("set", name, 0, 1, 0.01), Bounds("set", "margin", 0, 1, 0.01)]
    (outside,) = scores_out_of_bounds(store, bounds).examples
    assert (outside["image_id"], outside["acquisition_function"], outside["score"]) == (
        "b", name, 8.0,
    )  # fmt: skip
    bins = score_bins(store, "set", [name, "margin"], Rules())
    np.testing.assert_array_equal(
        bins[name].counts, np.histogram(list(TOY.values()), bins[name].edges)[0]
    )
    rules = Rules()
    arguments = {"rules": rules, "limit": 2, "seed": 0, "run_id": "run"}
    ranking = flow.rank_candidates(store, "set", [function], **arguments)[name]
    assert ranking.score_at_cut == 0.5
    ranked = candidate_rows(store, "set").read_all().to_pylist()[-2:]
    assert [(row["acquisition_function"], row["image_id"]) for row in ranked] == [
        (name, "b"), (name, "c"),
    ]  # fmt: skip
    of_set = (store, ["set"], function, rules)
    assert broken_ranks(*of_set).count == outdated_candidates(*of_set).count == 0
    assert missing_candidates(*of_set, limit=2).count == 0
    statement = f"UPDATE image_scores SET {quoted(name)} = 9 WHERE image_id = 'a'"
    store.connection.execute(on_tables(store.connection, statement))
    assert outdated_candidates(*of_set).count == 0
    (missing,) = missing_candidates(*of_set, limit=2).examples
    assert missing["image_id"] == "a"
    text = explain_candidate(store.connection, "b", pool="pool", acquisition_function=name)
    assert f"{name}: rank 1 of 2" in text


def test_a_score_that_is_missing_is_found_by_its_level(store, tmp_path, add_function):
    add_function("toy")
    add_function("worth", like="mean_object_score")
    store = PoolStore(store.connection, "pool")
    ingest_and_score(store, tmp_path)
    put_scores(store, toy_scores("toy"))
    assert wrongly_scored_images(store, ["set"], Rules()).count == 0
    # An image without its score; a score of objects where there are none.
    for statement in (
        "UPDATE image_scores SET toy = NULL WHERE image_id = 'a'",
        "ALTER TABLE image_scores ADD COLUMN worth DOUBLE",
        "UPDATE image_scores SET worth = 1 WHERE image_id = 'c'",
    ):
        store.connection.execute(on_tables(store.connection, statement))
    wrong = wrongly_scored_images(store, ["set"], Rules()).examples
    assert [row["image_id"] for row in wrong] == ["a", "c"]
    assert {row["problem"] for row in wrong} == {"predictions and not all scores"}


def ingest_and_score(store, tmp_path):
    from dagster_active_learning import read_predictions

    path = write_files(tmp_path / "files", ROWS)
    ingest(store, read_predictions(path, format="parquet"))
    score(store)


@pytest.mark.parametrize(("task", "expected"), [("detection", 0.0), ("classification", None)])
def test_images_without_objects_have_the_score_0_of_objects(store, add_function, task, expected):
    add_function("toy")
    add_function("worth", like="mean_object_score")
    store = PoolStore(store.connection, "pool")
    replace_images(store, manifest(["empty"]))
    ingest(store, in_memory(pa.table({"image_id": ["a"], "class_probs": [[0.5, 0.5]]})))
    tables = prediction_set(store, "set").tables
    rules = Rules(task=task, in_manifest=True)
    add_image_scores(store, tables, images_without_predictions(store, tables, rules))
    renew_views(store.connection)
    scores = store.relation("SELECT * EXCLUDE (prediction_set) FROM image_scores").pl().to_dicts()
    assert scores == [
        {
            "image_id": "empty", "prediction_count": 0, "entropy": None, "least_confidence": None,
            "margin": None, "variance": None, "mean_object_score": expected,
            "mutual_information": None, "vote_entropy": None, "toy": None, "worth": expected,
        }
    ]  # fmt: skip


def test_an_image_scored_before_the_function_was_there_says_so(database, tmp_path, add_function):
    with duckdb.connect(str(database)) as connection:
        filled(PoolStore(connection, "pool"), tmp_path)
    add_function("toy")
    expected = "toy: no candidate: the image has no score by it yet: materialize pool/image_scores"
    arguments = {"pool": "pool", "acquisition_function": "toy"}
    assert expected in explain_candidate(database, "a", **arguments)
    with duckdb.connect(str(database)) as connection:
        PoolStore(connection, "pool")
        assert expected in explain_candidate(connection, "a", **arguments)


def test_columns_are_found_by_their_names(store, tmp_path):
    """Not by their places: a pool that got a column late has it behind the others."""
    filled(store, tmp_path)
    query = "SELECT image_id, entropy, least_confidence, margin, variance FROM image_scores"
    expected = sorted(rows(store, query))
    for table, name, kind in (
        ("prediction_sources", "source", "VARCHAR DEFAULT 'file'"),
        ("quarantined_predictions", "reason", "VARCHAR"),
        ("labeling_candidates", "rank", "BIGINT"),
        ("rankings", "candidate_limit", "BIGINT"),
        ("prediction_sets", "source", "VARCHAR"),
        ("images", "labeled", "BOOLEAN"),
    ):
        store.connection.execute(f"ALTER TABLE {table} DROP COLUMN {name}")
        store.connection.execute(f"ALTER TABLE {table} ADD COLUMN {name} {kind}")
    store = PoolStore(store.connection, "pool")
    replace_images(store, manifest(["a", "b", "c"]))
    path = write_files(tmp_path / "again", [*ROWS, ("bad", [1.0, 1.0])])
    ranked_files(store, path, in_manifest=True)
    assert sorted(rows(store, query)) == expected
    assert column(store, "SELECT image_id FROM quarantined_predictions") == ["bad"]
    assert column(store, "SELECT labeled FROM images") == [False] * 3
    assert dict(rows(store, "SELECT DISTINCT acquisition_function, candidate_limit FROM rankings"))
    ranks = "SELECT rank FROM labeling_candidates WHERE acquisition_function = 'margin' ORDER BY 1"
    assert column(store, ranks) == [1, 2, 3]


@pytest.mark.parametrize(
    ("n_predictions", "table", "suffix"), [(1, "predictions", "_score"), (2, "image_scores", "")]
)
def test_scores_are_not_compressed_and_those_that_are_all_null_not_stored(
    store, tmp_path, n_predictions, table, suffix
):
    ranked_files(store, write_files(tmp_path / "files", ROWS * n_predictions))
    name = prediction_set(store, "set").tables.name(table).strip('"')
    ((sql,),) = rows(store, f"SELECT sql FROM duckdb_tables() WHERE table_name = '{name}'")
    for name, function in ACQUISITION_FUNCTIONS.items():
        is_stored = f"{name}{suffix} DOUBLE USING COMPRESSION Uncompressed" in sql
        assert is_stored == (function.level == "image")
    assert sql.count(" DOUBLE ") == 4
