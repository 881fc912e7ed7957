"""Sets whose files and scores are in an object store that fails, and what is said of it."""

import pickle
from collections import Counter

import duckdb
import fsspec
import numpy as np
import pytest

from dagster_active_learning import explain_candidate, load_candidates
from dagster_active_learning.errors import PredictionReadError, StorageError
from dagster_active_learning.files.in_place import FileInPlace, check_all
from dagster_active_learning.flow import best_images
from dagster_active_learning.readers.in_place import open_in_place
from dagster_active_learning.store.filesystems import (
    read_error,
    register_filesystems_in_use,
)
from dagster_active_learning.store.pool_store import PoolStore
from dagster_active_learning.store.score_findings import scored_image_count
from in_place import commit, copied, pool_store, random_probs, scored, tables, write
from object_store import KEY, SECRET, ObjectStore, no_fault, object_store

FILES = "s3://bucket/may/*.parquet"


@pytest.fixture(scope="module")
def running():
    server = ObjectStore()
    with object_store(application=server) as filesystem:
        yield server, filesystem


@pytest.fixture
def server(running, tmp_path):
    """The store with three files, which are in a folder too."""
    server, filesystem = running
    server.fault = no_fault
    rng = np.random.default_rng(0)
    for file in range(3):
        probs = random_probs(rng, 300).tolist()
        probs[7 * file] = None
        name = f"p{file}.parquet"
        write(tmp_path / name, [f"{file}-{row:03d}" for row in range(300)], probs, 100)
        filesystem.pipe_file(f"bucket/may/{name}", (tmp_path / name).read_bytes())
    if filesystem.exists("bucket/scores"):
        filesystem.rm("bucket/scores", recursive=True)
    server.sent.clear()
    yield server
    server.fault = no_fault


@pytest.fixture
def filesystem(running, server):
    return running[1]


def contents(filesystem):
    filesystem.invalidate_cache()
    return {name: filesystem.cat_file(name) for name in filesystem.find("bucket/scores")}


FAULTS = {
    "not allowed": (403, r"p1\.parquet cannot be read"),
    "a body that ends in its middle": ("cut", r"p1\.parquet cannot be read"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_file_that_cannot_be_read_names_itself_and_the_retry_completes(
    tmp_path, server, filesystem, fault
):
    answer, words = FAULTS[fault]
    done = []

    def fails_after_the_first_file(method, path):
        done.extend([path] * (method == "PUT" and "/done/" in path))
        return answer if method == "GET" and path.endswith("p1.parquet") and done else None

    store = pool_store()
    server.fault = fails_after_the_first_file
    with pytest.raises(PredictionReadError, match=f"s3://bucket/may/{words}") as failure:
        scored(FILES, "s3://bucket/scores")
    for secret in (KEY, SECRET):
        assert secret not in repr(failure.value)
    # As it comes from a worker.
    assert str(pickle.loads(pickle.dumps(failure.value))) == str(failure.value)
    server.fault = no_fault
    before = contents(filesystem)
    assert before
    files = scored(FILES, "s3://bucket/scores")
    assert [file.is_new for file in files.files] == [False, True, True]
    commit(store, files)
    after = contents(filesystem)
    assert {name: after[name] for name in before} == before
    expected = copied(str(tmp_path / "*.parquet"))
    for query in ("FROM image_scores ORDER BY image_id", "FROM predictions ORDER BY 2"):
        assert store.rows(query) == expected.rows(query)


def test_a_store_that_takes_no_scores_names_the_file(server):
    server.fault = lambda method, _: 403 if method in ("PUT", "POST") else None
    with pytest.raises(StorageError, match=r"s3://bucket/scores/\w+/runs/run cannot be written"):
        scored(FILES, "s3://bucket/scores")


def test_a_bucket_that_is_not_there_is_named(server):
    with pytest.raises(StorageError, match=r"^s3://none/\w+/runs/run cannot be written: .*bucket"):
        scored(FILES, "s3://none")
    with pytest.raises(PredictionReadError, match=r"^s3://none/\*\.parquet does not exist"):
        scored("s3://none/*.parquet", "s3://bucket/scores")


def test_a_store_that_is_not_there_names_the_file(server, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    kind = fsspec.get_filesystem_class("s3")
    kind.clear_instance_cache()
    monkeypatch.setattr(kind, "retries", 1)
    try:
        with pytest.raises(
            PredictionReadError, match=r"s3://bucket/may/\*\.parquet cannot be read"
        ):
            open_in_place(FILES)
        with pytest.raises(PredictionReadError, match=r"s3://bucket/a\.parquet cannot be read"):
            FileInPlace.now_at("s3://bucket/a.parquet")
    finally:
        kind.clear_instance_cache()


@pytest.mark.parametrize("files", ["bucket/may/p1.parquet", "bucket/scores/*/scores/*"])
def test_a_view_says_which_file_it_cannot_read(server, filesystem, files):
    store = pool_store()
    commit(store, scored(FILES, "s3://bucket/scores"))
    (file, *_) = filesystem.glob(files)
    for fault, words in ((403, "cannot be read"), ("cut", "cannot be read"), (404, "is gone")):
        server.fault = lambda method, path, fault=fault: (
            fault if file in path and (fault != "cut" or method == "GET") else None
        )
        with pytest.raises(duckdb.Error) as failure:
            store.rows("SELECT sum(prediction_index) FROM predictions NATURAL JOIN image_scores")
        assert str(read_error(failure.value)).startswith(f"s3://{file} {words}")


@pytest.mark.parametrize("change", ["changed", "gone"])
def test_files_that_are_others_by_now_are_named(server, filesystem, change):
    files = scored(FILES, "s3://bucket/scores").places
    check_all(files)
    if change == "gone":
        filesystem.rm("bucket/may/p1.parquet")
    else:
        filesystem.pipe_file("bucket/may/p1.parquet", filesystem.cat_file("bucket/may/p0.parquet"))
    words = {"changed": "changed since", "gone": "is gone"}[change]
    with pytest.raises(PredictionReadError, match=rf"s3://bucket/may/p1\.parquet {words}"):
        check_all(files)


@pytest.mark.parametrize("damage", ["gone", "cut"])
def test_scores_in_the_store_that_are_not_as_they_were_written_are_named_and_made_again(
    filesystem, damage
):
    store = pool_store()
    commit(store, scored(FILES, "s3://bucket/scores"))
    before = contents(filesystem)
    (place,) = filesystem.glob("bucket/scores/*/scores/00000001.parquet")
    filesystem.rm(place)
    if damage == "cut":
        filesystem.pipe_file(place, before[place][:-100])
    words = rf"s3://{place} (is gone|has [\d,]+ bytes.*): materialize image_scores again"
    with pytest.raises(PredictionReadError, match=words):
        scored_image_count(PoolStore(store.connection, "pool"), ["set"])
    files = scored(FILES, "s3://bucket/scores")
    assert [file.is_new for file in files.files] == [False, True, False]
    assert contents(filesystem) == before
    assert scored_image_count(PoolStore(store.connection, "pool"), ["set"]) == 897


WITH_SECRETS = [
    "s3://AKIA:HUNTER2@bucket/may/*.parquet",
    "https://someone:HUNTER2@127.0.0.1:9/may.parquet",
    "https://127.0.0.1:9/may.parquet?X-Amz-Signature=HUNTER2",
    "zip://*.parquet::s3://bucket/may.zip",
]


@pytest.mark.parametrize("address", WITH_SECRETS)
def test_an_address_that_would_have_to_be_stored_with_more_than_is_shown_is_refused(address):
    with pytest.raises(PredictionReadError, match="cannot be read in place") as error:
        open_in_place(address)
    assert "HUNTER2" not in str(error.value)


@pytest.mark.parametrize("images_kept", [2_000, 1])
def test_what_is_read_of_a_pool_says_which_file_it_cannot_read(
    server, tmp_path, monkeypatch, images_kept
):
    monkeypatch.setattr(best_images, "IMAGES_WITH_PREDICTIONS", images_kept)
    database = str(tmp_path / "pool.duckdb")
    store = pool_store(database)
    commit(store, scored(FILES, "s3://bucket/scores"))
    tables(store)
    store.connection.close()
    image = load_candidates(database, pool="pool", acquisition_function="margin")["image_id"][-1]
    source = f"may/p{image[0]}.parquet"
    file = source if images_kept == 1 else "predictions.parquet"
    server.fault = lambda method, path: 403 if method == "GET" and file in path else None
    with pytest.raises(PredictionReadError, match=rf"s3://bucket/\S*{file} cannot be read: Perm"):
        explain_candidate(database, image, pool="pool")
    server.fault = no_fault
    assert f"s3://bucket/{source}" in explain_candidate(database, image, pool="pool")


def test_a_file_is_asked_about_twice_however_often_a_view_opens_it(server):
    store = pool_store()
    commit(store, scored(FILES, "s3://bucket/scores"))
    register_filesystems_in_use(store.connection, "pool")
    server.sent.clear()
    for _ in range(5):
        store.rows("SELECT sum(class_probs[1]) FROM predictions")
    asked = Counter(path for method, path, _ in server.sent if method == "HEAD" and "/may/" in path)
    assert set(asked.values()) == {2}
    assert len(asked) == 3


def test_what_was_known_of_a_file_is_forgotten_when_a_pool_is_opened(server, filesystem, tmp_path):
    store = pool_store()
    commit(store, scored(FILES, "s3://bucket/scores"))
    query = "SELECT count(*) FILTER (starts_with(image_id, '1-')) FROM predictions"
    assert store.rows(query) == [(299,)]
    write(tmp_path / "other.parquet", ["1-000", "1-001"], [[0.25, 0.75], [0.5, 0.5]])
    filesystem.pipe_file("bucket/may/p1.parquet", (tmp_path / "other.parquet").read_bytes())
    register_filesystems_in_use(store.connection, "pool")
    assert store.rows(query) == [(2,)]
