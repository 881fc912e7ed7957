"""Folders in the storage of sets in place: which of them go, and when."""

import shutil

import duckdb
import numpy as np
import pytest

from dagster_active_learning import delete_prediction_set, flow
from dagster_active_learning.files.storage import Storage
from dagster_active_learning.flow.housekeeping import DAY
from dagster_active_learning.rules import Rules
from dagster_active_learning.store.in_place_sets import folders_in_use
from dagster_active_learning.store.pool_store import PoolStore
from in_place import (
    add_manifest,
    assert_equal,
    commit,
    content,
    copied,
    pool_store,
    random_probs,
    scored,
    tables,
    write,
)

RUNNING, UNKNOWN = 0, None


@pytest.fixture
def path(tmp_path):
    rng = np.random.default_rng(0)
    for file in range(2):
        ids = [f"{file}-{row:03d}" for row in range(50)]
        write(tmp_path / f"p{file}.parquet", ids, random_probs(rng, 50))
    return tmp_path / "*.parquet"


def own(store, tmp_path):
    return tmp_path / "storage" / store.pool_id


def fill(store, path, tmp_path, name, run_id="run", rules=Rules()):  # noqa: B008
    """Score a set and commit nothing."""
    return scored(path, own(store, tmp_path), rules, prediction_set=name, run_id=run_id)


def remove(store, tmp_path, names, runs, run_id="this"):
    storage = Storage(str(own(store, tmp_path)))
    return flow.remove_former_folders(
        store, storage, names, run_id=run_id, seconds_since_end=runs.__getitem__
    )


def folders(store, tmp_path):
    return {folder.name for folder in own(store, tmp_path).iterdir()}


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
    commit(store, fill(store, path, tmp_path, "set"))
    for run_id in runs:
        left = fill(store, path, tmp_path, "other", run_id).folder.folder
    assert remove(store, tmp_path, ["set"], runs) == goes
    left = left.rpartition("/")[2]
    assert folders(store, tmp_path) == folders_in_use(store) | (set() if goes else {left})


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
        fill(store, path, tmp_path, "set", run_id, Rules(aggregation="max"))
    commit(store, fill(store, path, tmp_path, "set"))
    assert remove(store, tmp_path, ["set"], runs) == goes


SPELLINGS = ["{0}/", "{0}/../storage", "{0} by a link", "file://{0}"]


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_a_folder_in_use_stays_however_the_storage_is_spelled(path, tmp_path, spelling):
    store = pool_store()
    commit(store, fill(store, path, tmp_path, "set"))
    (tmp_path / "storage by a link").symlink_to(tmp_path / "storage")
    storage = Storage(spelling.format(tmp_path / "storage")).within(store.pool_id)
    options = {"run_id": "this", "seconds_since_end": {"run": DAY}.__getitem__}
    assert len(storage.folders()) == 1
    assert flow.remove_former_folders(store, storage, ["set"], **options) == 0
    assert folders(store, tmp_path) == folders_in_use(store)


def test_a_copy_of_the_database_with_an_id_of_its_own_removes_nothing_of_the_original(
    path, tmp_path
):
    database = tmp_path / "labeling.duckdb"
    with pool_store(database).connection as connection:
        store = PoolStore(connection, "pool")
        commit(store, fill(store, path, tmp_path, "set"))
        filled = own(store, tmp_path)
    before = content(filled)
    copy = shutil.copy(database, tmp_path / "copy.duckdb")
    with duckdb.connect(copy) as connection:
        connection.execute("UPDATE pool.schema_version SET pool_id = uuid()")
        store = PoolStore(connection, "pool")
        expected = store.rows("FROM image_scores ORDER BY image_id")
        again = Rules(aggregation="max")
        commit(store, fill(store, path, tmp_path, "set", rules=again), again)
        assert remove(store, tmp_path, ["set"], {"run": DAY}) == 0
        delete_prediction_set(connection, pool="pool", prediction_set="set")
        assert folders(store, tmp_path) == set()
    shutil.copy(database, copy)
    with duckdb.connect(copy) as connection:
        connection.execute("UPDATE pool.schema_version SET pool_id = uuid()")
        delete_prediction_set(connection, pool="pool", prediction_set="set")
    assert content(filled) == before
    with pool_store(database).connection as connection:
        assert connection.execute("FROM image_scores ORDER BY image_id").fetchall() == expected


def shared_images(tmp_path):
    """Files that have the same images."""
    rng = np.random.default_rng(0)
    for file in range(2):
        ids = [f"{row:03d}" for row in range(50)]
        write(tmp_path / f"p{file}.parquet", ids, random_probs(rng, 50))
    return tmp_path / "*.parquet"


MANIFEST = [f"{row:03d}" for row in range(10, 60)]


def of_one_time(folder):
    """The names of files about images of one scoring or ranking, without what tells them apart."""
    kinds = ("not-in-manifest", "without-predictions", "predictions")
    return sorted(kind for kind in kinds for _ in folder.rglob(f"{kind}-*.parquet"))


def test_what_was_written_at_former_scorings_and_rankings_goes_and_nothing_that_is_read(tmp_path):
    path, rules = shared_images(tmp_path), Rules(in_manifest=True)
    store = pool_store()
    add_manifest(store, MANIFEST)
    for limit in (3, 4, 5):
        commit(store, fill(store, path, tmp_path, "set", rules=rules), rules)
        flow.score_in_place(store, "set", rules=rules, run_id="run")
        tables(store, rules, limit=limit)
        tables(store, rules, limit=limit + 3)
    wanted = ["not-in-manifest", "predictions", "without-predictions"]
    assert of_one_time(own(store, tmp_path)) != wanted
    assert remove(store, tmp_path, ["another"], {"run": DAY}) == 0
    assert of_one_time(own(store, tmp_path)) != wanted
    assert remove(store, tmp_path, ["set"], {"run": DAY}) == 0
    assert of_one_time(own(store, tmp_path)) == wanted
    assert_equal(tables(store, rules), tables(copied(path, rules, manifest=MANIFEST), rules))


def test_a_copy_of_the_database_with_an_id_of_its_own_leaves_former_files_of_the_original(tmp_path):
    path, rules = shared_images(tmp_path), Rules(in_manifest=True)
    store = pool_store()
    add_manifest(store, MANIFEST)
    commit(store, fill(store, path, tmp_path, "set", rules=rules), rules)
    flow.score_in_place(store, "set", rules=rules, run_id="run")
    original = own(store, tmp_path)
    before = content(original)
    store.connection.execute("UPDATE schema_version SET pool_id = uuid()")
    assert remove(store, tmp_path, ["set"], {"run": DAY}) == 0
    assert content(original) == before


CUT_MARKERS = [b'{"prediction_set": "se', b"", b"[]", b"7"]


@pytest.mark.parametrize("marker", CUT_MARKERS)
def test_a_folder_whose_marker_is_cut_stays(path, tmp_path, marker):
    store = pool_store()
    former = fill(store, path, tmp_path, "set", rules=Rules(aggregation="max"))
    commit(store, fill(store, path, tmp_path, "set"))
    former.folder.write("set.json", marker)
    assert remove(store, tmp_path, ["set"], {"run": DAY}) == 0


def test_what_is_not_marked_stays(path, tmp_path):
    store = pool_store()
    commit(store, fill(store, path, tmp_path, "set"))
    others = own(store, tmp_path) / "others"
    (others / "runs").mkdir(parents=True)
    (others / "runs" / "a").touch()
    assert remove(store, tmp_path, ["set"], {"a": DAY}) == 0
    assert others.exists()


def test_a_set_that_is_deleted_takes_its_folders_along_and_no_other(path, tmp_path):
    database = tmp_path / "pool.duckdb"
    store = pool_store(database)
    for name in ("gone", "kept"):
        commit(store, fill(store, path, tmp_path, name), prediction_set=name)
    # Scored again: the scores are in a second folder.
    again = Rules(aggregation="max")
    flow.score_in_place(
        store,
        "gone",
        rules=again,
        run_id="run",
        scored=fill(store, path, tmp_path, "gone", rules=again),
    )
    assert len(folders(store, tmp_path)) == 3
    before = sorted(path.parent.glob("*.parquet"))
    delete_prediction_set(store.connection, pool="pool", prediction_set="gone")
    assert folders(store, tmp_path) == folders_in_use(store)
    assert len(folders(store, tmp_path)) == 1
    assert sorted(path.parent.glob("*.parquet")) == before


@pytest.mark.parametrize("marker", [b'{"prediction_set": "another"}', *CUT_MARKERS])
def test_a_folder_whose_marker_is_anothers_or_cut_is_not_deleted_with_the_set(
    path, tmp_path, marker
):
    store = pool_store()
    files = fill(store, path, tmp_path, "set")
    commit(store, files)
    files.folder.write("set.json", marker)
    delete_prediction_set(store.connection, pool="pool", prediction_set="set")
    assert folders(store, tmp_path) == {files.folder.folder.rpartition("/")[2]}
