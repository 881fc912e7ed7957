"""Committees in a pool: votes of several files or rows, and the record of what was declared."""

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dagster_active_learning import explain_candidate, read_predictions, score_images
from dagster_active_learning.errors import PoolStateError
from dagster_active_learning.rules import Rules
from dagster_active_learning.store.pool_store import PoolStore
from dagster_active_learning.store.score_findings import wrongly_scored_images
from dagster_active_learning.store.score_statistics import MemberCounts, member_counts
from pools import in_memory, ingest, rank, rows, score

COMMITTEE = Rules(committee=True)
FUNCTIONS = ["entropy", "least_confidence", "margin", "variance"]
MEMBERS = np.random.default_rng(3).dirichlet(np.ones(3), (3, 50)).astype(np.float32)
IDS = [f"image{row:02}" for row in range(50)]


def one_file_per_member(folder):
    for number, member in enumerate(MEMBERS):
        table = pa.table({"image_id": IDS, "class_probs": list(member)})
        pq.write_table(table, folder / f"member{number}.parquet")
    return read_predictions(folder / "*.parquet", format="parquet")


def one_row_after_the_other(_):
    rows = MEMBERS.transpose(1, 0, 2).reshape(-1, 3)
    return in_memory(pa.table({"image_id": np.repeat(IDS, 3), "class_probs": list(rows)}))


def prediction_sets_by_a_query(folder):
    """Members that another pool of the database has as prediction sets of its own."""
    with duckdb.connect() as connection:
        networks = PoolStore(connection, "networks")
        for number, member in enumerate(MEMBERS):
            table = pa.table({"image_id": IDS, "class_probs": list(member)})
            ingest(networks, in_memory(table), prediction_set=f"network{number}")
        relation = connection.sql(
            """SELECT image_id, class_probs FROM networks.predictions
            WHERE prediction_set IN ('network0', 'network1', 'network2')
            ORDER BY prediction_set, prediction_index"""
        )
        return in_memory(relation.to_arrow_table())


@pytest.mark.parametrize(
    "votes", [one_file_per_member, one_row_after_the_other, prediction_sets_by_a_query]
)
@pytest.mark.parametrize("batch_rows", [None, 1, 7])
def test_votes_of_several_files_and_of_rows_of_one(store, tmp_path, votes, batch_rows):
    stored = ingest(store, votes(tmp_path))
    assert (stored.prediction_count, stored.image_count) == (150, 50)
    scores = score(store, batch_rows, rules=COMMITTEE)
    mean = MEMBERS.astype(np.float64).mean(axis=0)
    assert scores["prediction_count"].to_list() == [3] * 50
    assert scores["mean_object_score"].null_count() == 50
    margins = np.sort(mean, axis=1)[:, -1] - np.sort(mean, axis=1)[:, -2]
    np.testing.assert_allclose(scores["margin"], margins, atol=1e-12)
    # The same bits as without a database.
    direct = score_images(MEMBERS.reshape(-1, 3), IDS * 3, committee=True)
    names = [*FUNCTIONS, "mutual_information", "vote_entropy"]
    assert scores.select(names).equals(direct.select(names))
    assert member_counts(store, "set") == MemberCounts(members=3, most=3, images_with_fewer=0)
    _, ranked = rank(store, "margin", rules=COMMITTEE)
    assert [row[0] for row in ranked] == [IDS[place] for place in np.argsort(margins)]
    assert [row[4] for row in ranked] == [
        str(mean[place].argmax()) for place in np.argsort(margins)
    ]


def test_members_that_are_missing_do_not_count(store):
    table = {"image_id": ["a", "b", "a"], "class_probs": [[0.9, 0.1], [0.75, 0.25], [0.2, 0.8]]}
    ingest(store, in_memory(pa.table(table)))
    scores = score(store, rules=COMMITTEE)
    assert scores.select("image_id", "prediction_count").rows() == [("a", 2), ("b", 1)]
    assert scores["margin"].to_list() == pytest.approx([0.1, 0.5])
    assert scores["mutual_information"][1] == scores["vote_entropy"][1] == 0
    assert member_counts(store, "set") == MemberCounts(members=2, most=2, images_with_fewer=1)
    assert wrongly_scored_images(store, ["set"], COMMITTEE).count == 0


def test_candidates_by_votes_say_how_the_members_voted(store):
    probs = [
        [0.9, 0.1, 0],
        [0.2, 0.8, 0],
        [0, 0.7, 0.3],
        [0.6, 0.4, 0],
        [0.7, 0.3, 0],
        [0.8, 0.2, 0],
    ]
    ingest(store, in_memory(pa.table({"image_id": ["a"] * 3 + ["b"] * 3, "class_probs": probs})))
    score(store, rules=COMMITTEE)
    _, ranked = rank(store, "vote_entropy", rules=COMMITTEE)
    uncertainty = (np.log2(3) - 2 / 3) / np.log2(3)
    assert [(row[0], row[3]) for row in ranked] == [("a", pytest.approx(uncertainty)), ("b", 0.0)]
    text = explain_candidate(
        store.connection, "a", pool="pool", acquisition_function="vote_entropy"
    )
    assert (
        "formula -Σ v·log2 v, v the share of the members whose largest p is the class's\n" in text
    )


def test_a_committee_is_recorded_and_never_taken_for_the_mean_of_scores(store):
    table = {"image_id": ["a", "a"], "class_probs": [[0.9, 0.1], [0.2, 0.8]]}
    ingest(store, in_memory(pa.table(table)))
    score(store)
    with pytest.raises(PoolStateError, match="committee False, and the pool has committee True"):
        rank(store, "margin", rules=COMMITTEE)
    score(store, rules=COMMITTEE)
    rank(store, "margin", rules=COMMITTEE)
    for table in ("scorings", "rankings"):
        assert rows(store, f"SELECT committee FROM {table}") == [(True,)]
    text = explain_candidate(store.connection, "a", pool="pool", acquisition_function="margin")
    assert "formula p(1) - p(2), of the mean of the class probabilities" in text
