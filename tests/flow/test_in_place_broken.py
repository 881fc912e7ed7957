"""A set in place with a file that is gone or broken stands in nobody's way but its own."""

from pathlib import Path

import duckdb
import numpy as np
import pytest

from dagster_active_learning import (
    ACQUISITION_FUNCTIONS,
    delete_prediction_set,
    flow,
    read_predictions,
)
from dagster_active_learning.errors import DatabaseUnavailableError, PredictionReadError
from dagster_active_learning.store.pool_store import PoolStore
from dagster_active_learning.store.prediction_sets import clear_prediction_set
from dagster_active_learning.store.predictions import predictions_of_images
from dagster_active_learning.store.score_findings import scored_image_count
from dagster_active_learning.store.set_tables import renew_views
from in_place import DAMAGES, RULES, commit, random_probs, scored, write
from pools import ingest

MARGIN = [ACQUISITION_FUNCTIONS["margin"]]


def no_file(file):
    file.unlink()
    file.mkdir()


ALL_DAMAGES = [*DAMAGES, no_file]


@pytest.fixture
def store(tmp_path):
    """A pool of a file with the sets ``broken`` and ``whole``, of two files each."""
    store = PoolStore(duckdb.connect(str(tmp_path / "pool.duckdb")), "pool")
    for name in ("broken", "whole"):
        add(store, tmp_path, name)
    return store


def add(store, folder, name):
    rng = np.random.default_rng(len(name))
    (folder / name).mkdir(exist_ok=True)
    for file in range(2):
        ids = [f"{file}-{row:03d}" for row in range(50)]
        write(folder / name / f"p{file}.parquet", ids, random_probs(rng, 50))
    files = scored(folder / name / "*.parquet", folder / "storage", prediction_set=name)
    commit(store, files, prediction_set=name)


def rank(store, name):
    return flow.rank_candidates(store, name, MARGIN, rules=RULES, limit=10, seed=0, run_id="run")


def count(store, view, name):
    return store.rows(f"SELECT count(*) FROM {view} WHERE prediction_set = '{name}'")[0][0]


@pytest.mark.parametrize("damage", ALL_DAMAGES)
@pytest.mark.parametrize("place", [0, 1])
def test_other_sets_go_on(store, tmp_path, damage, place):
    expected = rank(store, "whole")
    damage(tmp_path / "broken" / f"p{place}.parquet")
    add(store, tmp_path, "whole")
    flow.score_in_place(store, "whole", rules=RULES, run_id="again")
    assert rank(store, "whole") == expected
    assert len(predictions_of_images(store, "whole", ["0-007", "1-007"])) == 2
    add(store, tmp_path, "new")
    assert rank(store, "new")["margin"].candidate_count == 10
    views = [count(store, view, "whole") for view in ("predictions", "image_scores")]
    assert views == [100, 100]
    assert count(store, "candidate_lineage", "whole") == 10


@pytest.mark.parametrize("damage", ALL_DAMAGES)
def test_what_reads_the_broken_set_names_the_file(store, tmp_path, damage):
    damage(tmp_path / "broken" / "p1.parquet")
    named = r"broken/p1\.parquet"
    with pytest.raises(PredictionReadError, match=named):
        predictions_of_images(store, "broken", ["0-007"])
    with pytest.raises(PredictionReadError, match=named):
        rank(store, "broken")
    add(store, tmp_path, "whole")
    with pytest.raises(duckdb.Error, match=named):
        count(store, "predictions", "broken")


@pytest.mark.parametrize("damage", ALL_DAMAGES)
def test_a_broken_set_can_be_deleted_and_replaced(store, tmp_path, damage):
    database = tmp_path / "pool.duckdb"
    damage(tmp_path / "broken" / "p0.parquet")
    store.connection.close()
    delete_prediction_set(str(database), pool="pool", prediction_set="broken")
    with duckdb.connect(str(database)) as connection:
        store = PoolStore(connection, "pool")
        assert [store.rows(f"SELECT count(*) FROM {view}") for view in ("predictions", "image_scores")] == [[(100,)]] * 2  # fmt: skip
        cleared = tmp_path / "broken" / "p0.parquet"
        cleared.rmdir() if cleared.is_dir() else cleared.unlink(missing_ok=True)
        add(store, tmp_path, "broken")
        assert rank(store, "broken")["margin"].candidate_count == 10


def test_a_file_that_is_put_back_is_read_once_the_scores_are_made_again(store, tmp_path):
    file = tmp_path / "broken" / "p0.parquet"
    file.rename(tmp_path / "aside")
    add(store, tmp_path, "whole")
    (tmp_path / "aside").rename(file)
    assert rank(store, "broken")["margin"].candidate_count == 10
    flow.score_in_place(store, "broken", rules=RULES, run_id="again")
    assert count(store, "predictions", "broken") == 100


@pytest.mark.parametrize("in_place", [True, False])
def test_of_two_connections_that_read_sets_one_is_told_to_run_again(store, tmp_path, in_place):
    path = tmp_path / "whole/*.parquet"
    files = scored(path, tmp_path / "storage", prediction_set="whole")

    def read(other):
        if in_place:
            commit(other, files, prediction_set="whole")
        else:
            stream = read_predictions(str(path), format="parquet")
            ingest(other, stream, prediction_set="whole")

    other = PoolStore(store.connection.cursor(), "pool")
    before = store.rows("SELECT * FROM prediction_sets ORDER BY 1")
    with store.transaction():
        clear_prediction_set(store, "broken")
        renew_views(store.connection)
        with pytest.raises(
            DatabaseUnavailableError, match="another connection .* run the step again"
        ):
            read(other)
        assert other.rows("SELECT * FROM prediction_sets ORDER BY 1") == before
    read(other)
    assert other.rows("SELECT prediction_set FROM prediction_sets") == [("whole",)]


def rank_broken(store):
    rank(store, "broken")


def count_broken(store):
    scored_image_count(store, ["broken"])


@pytest.mark.parametrize(
    ("lost", "read"), [("scores/00000000.parquet", count_broken), ("best.parquet", rank_broken)]
)
def test_a_file_in_the_storage_that_is_gone_is_named(store, tmp_path, lost, read):
    ((folder,),) = store.rows("SELECT folder FROM in_place_sets WHERE prediction_set = 'broken'")
    Path(folder, lost).unlink()
    with pytest.raises(PredictionReadError, match=f"{lost} is gone.* materialize"):
        read(store)
    add(store, tmp_path, "whole")
    assert rank(store, "whole")["margin"].candidate_count == 10
