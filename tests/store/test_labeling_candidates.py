"""Candidates of a pool: as a data frame, in their order, counted and compared."""

import time
from collections import Counter

import duckdb
import numpy as np
import polars as pl
import pytest

from dagster_active_learning import load_candidates, read_predictions
from dagster_active_learning.errors import PoolStateError
from dagster_active_learning.store.images import replace_images
from dagster_active_learning.store.labeling_candidates import (
    candidate_rows,
    candidates_by_class,
    candidates_without_predictions,
)
from dagster_active_learning.store.quarantined_predictions import quarantined_of_first
from dagster_active_learning.store.ranking_overlap import (
    common_candidates,
    common_with,
    former_candidates,
)
from pools import column, ingest, rank, score
from ranked_pools import HOSTILE_IDS, manifest, ranked_files, write_files

NAMES = ["entropy", "least_confidence", "margin", "variance"]

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
def hostile(store, tmp_path, database):
    """A pool with hostile ids, each more certain than the one before, and its database's path."""
    rows = [(one, [0.5 + n / 64, 0.5 - n / 64]) for n, one in enumerate(HOSTILE_IDS)]
    replace_images(store, manifest(HOSTILE_IDS))
    ranked_files(store, write_files(tmp_path / "files", rows), in_manifest=True)
    store.connection.close()
    return database


@pytest.mark.parametrize(
    "open_one", [str, lambda path: path, lambda path: duckdb.connect(str(path))]
)
def test_candidates_of_a_path_or_a_connection(hostile, open_one):
    found = load_candidates(open_one(hostile), pool="pool", acquisition_function="margin")
    assert found.schema == SCHEMA
    assert found["rank"].to_list() == list(range(1, len(HOSTILE_IDS) + 1))
    assert found["image_id"].to_list() == HOSTILE_IDS
    assert found["uri"].to_list() == [f"s3://images/{one}" for one in HOSTILE_IDS]
    assert found["score"].to_list() == [n / 32 for n in range(len(HOSTILE_IDS))]
    assert found["uncertainty"].to_list() == [1 - n / 32 for n in range(len(HOSTILE_IDS))]
    assert set(found["predicted_class"]) == {"0"}


def test_all_functions_one_after_the_other_and_the_first_ranks(hostile):
    found = load_candidates(hostile, pool="pool", prediction_set="set", limit=2)
    names = ["entropy", "least_confidence", "margin", "variance"]
    assert found["acquisition_function"].to_list() == [name for name in names for _ in range(2)]
    assert found["image_id"].to_list() == HOSTILE_IDS[:2] * 4
    empty = load_candidates(hostile, pool="pool", acquisition_function="mean_object_score")
    assert empty.height == 0
    assert empty.schema == SCHEMA


def test_a_path_is_only_read_and_closed_again(hostile):
    before = hostile.read_bytes()
    load_candidates(hostile, pool="pool")
    with pytest.raises(PoolStateError):
        load_candidates(hostile, pool="other")
    assert hostile.read_bytes() == before
    assert not hostile.with_suffix(".duckdb.wal").exists()
    duckdb.connect(str(hostile), config={"threads": 1}).close()


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"pool": "other"}, PoolStateError, r"has no pool 'other', it has \['pool'\]"),
        ({"prediction_set": "other"}, PoolStateError, "has no prediction set 'other'"),
        ({"acquisition_function": "bald"}, ValueError, "is 'bald', expected one of entropy"),
        ({"limit": 0}, ValueError, "limit is 0"),
    ],
)
def test_what_is_not_there_is_named(hostile, arguments, error, words):
    with pytest.raises(error, match=words):
        load_candidates(hostile, **{"pool": "pool", **arguments})


def test_a_database_that_is_not_there_is_not_made(tmp_path):
    with pytest.raises(duckdb.IOException, match="nothing.duckdb"):
        load_candidates(tmp_path / "nothing.duckdb", pool="pool")
    assert list(tmp_path.iterdir()) == []


def test_candidates_come_in_the_order_of_functions_and_ranks(store, tmp_path):
    rows = [(f"image{row}", [1 - row / 20_000, row / 20_000]) for row in range(10_000)]
    ranked_files(store, write_files(tmp_path / "files", rows), functions=["margin", "entropy"])
    found = candidate_rows(store, "set").read_all().to_pylist()
    assert [(row["acquisition_function"], row["rank"]) for row in found] == [
        (name, rank) for name in ("entropy", "margin") for rank in range(1, 1001)
    ]
    first = candidate_rows(store, "set", ["margin"], limit=3).read_all().to_pylist()
    assert [row["image_id"] for row in first] == ["image9999", "image9998", "image9997"]
    for wrong, words in (
        ({"limit": 0}, "limit is 0"),
        ({"functions": ["margin", "x"]}, "is 'x', ex"),
    ):
        with pytest.raises(ValueError, match=words):
            candidate_rows(store, "set", **wrong)
    assert score(store).height == 10_000


@pytest.mark.parametrize("name", NAMES)
def test_candidates_are_counted_by_class_and_in_common(filled, name):
    lists = {
        one: set(
            column(
                filled,
                f"SELECT image_id FROM labeling_candidates WHERE acquisition_function = '{one}'",
            )
        )
        for one in NAMES
    }
    others = [one for one in NAMES if one != name]
    common = {one: len(lists[one] & lists[name]) for one in others}
    assert common_candidates(filled, "set", name, others) == common
    assert common_candidates(filled, "set", name, others[:1]) == {others[0]: common[others[0]]}
    classes = column(
        filled,
        f"SELECT predicted_class FROM labeling_candidates WHERE acquisition_function = '{name}'",
    )
    counted = candidates_by_class(filled, "set", name)
    assert dict(counted) == Counter(classes)
    assert [count for _, count in counted] == sorted(Counter(classes).values(), reverse=True)


def test_the_work_for_predicted_classes_grows_with_the_classes_not_with_their_square(
    store, tmp_path
):
    n_classes = 4_000
    rows = [(f"image{row}", np.eye(n_classes)[row * 17 % n_classes].tolist()) for row in range(100)]
    path = write_files(tmp_path / "files", rows)
    ingest(store, read_predictions(path, format="parquet"))
    score(store)
    begin = time.process_time()
    rank(store, "margin")
    # The square took 60 s of all threads together; it is 0.3 s now.
    assert time.process_time() - begin < 10
    found = candidate_rows(store, "set", ["margin"]).read_all().to_pylist()
    assert {row["image_id"]: row["predicted_class"] for row in found} == {
        f"image{row}": str(row * 17 % n_classes) for row in range(100)
    }


def test_the_former_ranking_of_a_set_is_compared_after_it_was_replaced(filled):
    former = former_candidates(filled, "set", "margin", other_set=False)
    assert former is not None
    assert former.prediction_set == "set"
    filled.connection.execute("DELETE FROM labeling_candidates WHERE rank > 30")
    filled.connection.execute(
        "INSERT INTO labeling_candidates VALUES ('set', 'margin', 31, 'new', 0, 1, 1, 'a', 'run')"
    )
    assert common_with(filled, "set", "margin", former) == 30
    assert former_candidates(filled, "set", "mean_object_score", other_set=False) is None


def test_the_other_set_is_the_one_that_was_read_before(filled):
    # By the numbers of the readings, whatever the clock said.
    for name, before in (("older", 0.9), ("before", 0.6), ("unranked", 0.3), ("after", -1)):
        filled.connection.execute(
            f"""INSERT INTO prediction_sets SELECT * REPLACE ('{name}' AS prediction_set,
                generation - {int(before * 10)} AS generation,
                ingested_at + INTERVAL '{int(before * 10)} hours' AS ingested_at)
            FROM prediction_sets WHERE prediction_set = 'set'"""
        )
        if name != "unranked":
            filled.connection.execute(
                "INSERT INTO labeling_candidates VALUES (?, 'margin', 1, ?, 0, 1, 1, 'a', 'run')",
                [name, f"of {name}"],
            )
    former = former_candidates(filled, "set", "margin", other_set=True)
    assert former is not None
    assert former.prediction_set == "before"
    assert former.image_ids.column("image_id").to_pylist() == ["of before"]
    assert former_candidates(filled, "older", "margin", other_set=True) is None
    assert former_candidates(filled, "set", "entropy", other_set=True) is None


def test_images_without_predictions_and_with_rows_in_quarantine(store, tmp_path):
    replace_images(store, manifest(["good", "broken", "missing"]))
    path = write_files(tmp_path / "files", [("good", [0.5, 0.5]), ("broken", [1.0, 1.0])])
    ranked_files(store, path, in_manifest=True)
    for name in NAMES:
        assert candidates_without_predictions(store, "set", name) == 2
    assert quarantined_of_first(store, "set", NAMES, 24) == {"broken"}
