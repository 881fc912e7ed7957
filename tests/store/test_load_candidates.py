"""Candidates as a data frame."""

import duckdb
import polars as pl
import pytest

from dagster_active_learning import load_candidates
from dagster_active_learning.errors import PoolStateError
from dagster_active_learning.store.images import replace_images
from ranked_pools import HOSTILE_IDS, manifest, ranked_files, write_files

SCHEMA = {
    "prediction_set": pl.String,
    "acquisition_function": pl.String,
    "rank": pl.Int64,
    "image_id": pl.String,
    "uri": pl.String,
    "width": pl.Int32,
    "height": pl.Int32,
    "score": pl.Float64,
    "uncertainty": pl.Float64,
    "prediction_count": pl.Int64,
    "predicted_class": pl.String,
    "run_id": pl.String,
}


@pytest.fixture
def filled(store, tmp_path, database):
    """A pool with hostile ids, each more certain than the one before, and its database's path."""
    rows = [(one, [0.5 + n / 64, 0.5 - n / 64]) for n, one in enumerate(HOSTILE_IDS)]
    replace_images(store, manifest(HOSTILE_IDS))
    ranked_files(store, write_files(tmp_path / "files", rows), in_manifest=True)
    store.connection.close()
    return database


@pytest.mark.parametrize(
    "open_one", [str, lambda path: path, lambda path: duckdb.connect(str(path))]
)
def test_candidates_of_a_path_or_a_connection(filled, open_one):
    found = load_candidates(open_one(filled), pool="pool", acquisition_function="margin")
    assert found.schema == SCHEMA
    assert found["rank"].to_list() == list(range(1, len(HOSTILE_IDS) + 1))
    assert found["image_id"].to_list() == HOSTILE_IDS
    assert found["uri"].to_list() == [f"s3://images/{one}" for one in HOSTILE_IDS]
    assert found["score"].to_list() == [n / 32 for n in range(len(HOSTILE_IDS))]
    assert found["uncertainty"].to_list() == [1 - n / 32 for n in range(len(HOSTILE_IDS))]
    assert set(found["predicted_class"]) == {"0"}


def test_all_functions_one_after_the_other_and_the_first_ranks(filled):
    found = load_candidates(filled, pool="pool", prediction_set="set", limit=2)
    names = ["entropy", "least_confidence", "margin", "variance"]
    assert found["acquisition_function"].to_list() == [name for name in names for _ in range(2)]
    assert found["image_id"].to_list() == HOSTILE_IDS[:2] * 4
    empty = load_candidates(filled, pool="pool", acquisition_function="mean_object_score")
    assert empty.height == 0
    assert empty.schema == SCHEMA


def test_a_path_is_only_read_and_closed_again(filled):
    before = filled.read_bytes()
    load_candidates(filled, pool="pool")
    with pytest.raises(PoolStateError):
        load_candidates(filled, pool="other")
    assert filled.read_bytes() == before
    assert not filled.with_suffix(".duckdb.wal").exists()
    duckdb.connect(str(filled), config={"threads": 1}).close()


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"pool": "other"}, PoolStateError, r"has no pool 'other', it has \['pool'\]"),
        ({"prediction_set": "other"}, PoolStateError, "has no prediction set 'other'"),
        ({"acquisition_function": "bald"}, ValueError, "is 'bald', expected one of entropy"),
        ({"limit": 0}, ValueError, "limit is 0"),
    ],
)
def test_what_is_not_there_is_named(filled, arguments, error, words):
    with pytest.raises(error, match=words):
        load_candidates(filled, **{"pool": "pool", **arguments})


def test_a_database_that_is_not_there_is_not_made(tmp_path):
    with pytest.raises(duckdb.IOException, match="nothing.duckdb"):
        load_candidates(tmp_path / "nothing.duckdb", pool="pool")
    assert list(tmp_path.iterdir()) == []
