"""Folders in the storage of sets in place: which of them go, and when."""

import numpy as np
import pytest

from dagster_active_learning import delete_prediction_set, flow
from dagster_active_learning.files.in_place import Storage
from dagster_active_learning.flow.housekeeping import DAY
from dagster_active_learning.rules import Rules
from dagster_active_learning.store.in_place_sets import folders_in_use
from in_place import commit, pool_store, random_probs, scored, write

RUNNING, UNKNOWN = 0, None


@pytest.fixture
def path(tmp_path):
    rng = np.random.default_rng(0)
    for file in range(2):
        ids = [f"{file}-{row:03d}" for row in range(50)]
        write(tmp_path / f"p{file}.parquet", ids, random_probs(rng, 50))
    return tmp_path / "*.parquet"


def fill(path, tmp_path, name, run_id="run", rules=Rules()):  # noqa: B008
    """Score a set and commit nothing."""
    return scored(path, tmp_path / "storage", rules, prediction_set=name, run_id=run_id)


def remove(store, tmp_path, names, runs, run_id="this"):
    storage = Storage(str(tmp_path / "storage"))
    return flow.remove_former_folders(
        store, storage, names, run_id=run_id, seconds_since_end=runs.__getitem__
    )


@pytest.mark.parametrize(
    ("runs", "goes"),
    [
        ({"a": RUNNING}, False),
        ({"a": UNKNOWN}, False),
        ({"a": DAY - 1}, False),
        ({"a": DAY}, True),
        ({"a": DAY, "b": RUNNING}, False),
        ({"a": DAY, "b": UNKNOWN}, False),
        ({"a": 2 * DAY, "b": DAY}, True),
    ],
)
def test_a_folder_that_was_never_committed_goes_a_day_after_all_its_runs(
    path, tmp_path, runs, goes
):
    store = pool_store()
    commit(store, fill(path, tmp_path, "set"))
    for run_id in runs:
        left = fill(path, tmp_path, "other", run_id).folder.folder
    assert remove(store, tmp_path, ["set"], runs) == goes
    folders = {str(folder) for folder in (tmp_path / "storage").iterdir()}
    assert folders == folders_in_use(store) | (set() if goes else {left})


@pytest.mark.parametrize(
    ("runs", "goes"),
    [
        ({"a": 1}, True),
        ({"a": UNKNOWN}, True),
        ({"a": RUNNING}, False),
        ({"this": RUNNING}, True),
        ({"this": RUNNING, "a": RUNNING}, False),
    ],
)
def test_a_former_folder_of_the_set_itself_goes_unless_another_run_fills_it(
    path, tmp_path, runs, goes
):
    store = pool_store()
    for run_id in runs:
        fill(path, tmp_path, "set", run_id, Rules(aggregation="max"))
    commit(store, fill(path, tmp_path, "set"))
    assert remove(store, tmp_path, ["set"], runs) == goes


def test_what_is_not_marked_stays(path, tmp_path):
    store = pool_store()
    commit(store, fill(path, tmp_path, "set"))
    others = tmp_path / "storage" / "others"
    (others / "runs").mkdir(parents=True)
    (others / "runs" / "a").touch()
    assert remove(store, tmp_path, ["set"], {"a": DAY}) == 0
    assert others.exists()


def test_a_set_that_is_deleted_takes_its_folders_along_and_no_other(path, tmp_path):
    database = tmp_path / "pool.duckdb"
    store = pool_store(database)
    for name in ("gone", "kept"):
        commit(store, fill(path, tmp_path, name), prediction_set=name)
    # Scored again: the scores are in a second folder.
    again = Rules(aggregation="max")
    flow.score_in_place(
        store, "gone", rules=again, run_id="run", scored=fill(path, tmp_path, "gone", rules=again)
    )
    assert len(list((tmp_path / "storage").iterdir())) == 3
    before = sorted(path.parent.glob("*.parquet"))
    delete_prediction_set(store.connection, pool="pool", prediction_set="gone")
    folders = {str(folder) for folder in (tmp_path / "storage").iterdir()}
    assert folders == folders_in_use(store)
    assert len(folders) == 1
    assert sorted(path.parent.glob("*.parquet")) == before


def test_a_folder_whose_marker_is_anothers_is_not_deleted_with_the_set(path, tmp_path):
    store = pool_store()
    files = fill(path, tmp_path, "set")
    commit(store, files)
    files.folder.write("set.json", b'{"prediction_set": "another"}')
    delete_prediction_set(store.connection, pool="pool", prediction_set="set")
    assert [str(folder) for folder in (tmp_path / "storage").iterdir()] == [files.folder.folder]
