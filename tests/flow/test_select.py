"""A batch out of a pool's tables: the draw, the flight, what is made again and what is fixed."""

# What a test expects to be there may be None for the types.
# pyright: reportOperatorIssue=false

import math
from collections import Counter
from dataclasses import replace

import duckdb
import numpy as np
import polars as pl
import pyarrow as pa
import pytest

from dagster_active_learning import flow, hand_out_batch, load_batch, release_batch
from dagster_active_learning.errors import PoolStateError
from dagster_active_learning.ranking.batch import Embeddings, draw_images
from dagster_active_learning.ranking.batch_rules import BatchRules
from dagster_active_learning.store.handed_out import begin_export, return_overdue, unfinished_batch
from dagster_active_learning.store.images import replace_images
from dagster_active_learning.store.labeling_batches import (
    images_twice,
    in_flight_in_batch,
    labeled_in_batch,
    last_selection,
)
from dagster_active_learning.store.pool_store import PoolStore
from dagster_active_learning.store.predictions import mean_class_probs
from pools import RULES, column, in_memory, ingest, rank, rows, score
from ranked_pools import manifest

IDS = [f"image{number:03d}" for number in range(300)]
CLASSES = ["x", "y", "z"]
MANIFEST_RULES = replace(RULES, in_manifest=True)


def fill(store, labeled=None, seed=0):
    """300 images in three classes, some labeled, ranked by margin."""
    class_probs = np.random.default_rng(seed).dirichlet([1.5, 1, 0.4], len(IDS)).astype(np.float32)
    replace_images(store, manifest(IDS, labeled))
    table = pa.table({"image_id": IDS, "class_probs": list(class_probs)})
    stream = in_memory(table.replace_schema_metadata({"class_names": '["x", "y", "z"]'}))
    ingest(store, stream, in_manifest=True)
    score(store, in_manifest=True)
    rank(store, "margin", in_manifest=True)
    return class_probs


def select(store, seed=0, read_embeddings=None, **settings):
    return flow.select_labeling_batch(
        store,
        "set",
        "margin",
        rules=MANIFEST_RULES,
        batch_rules=BatchRules(**{"size": 30, "random_share": 0.2, **settings}),
        seed=seed,
        run_id="batch run",
        read_embeddings=read_embeddings,
    )


def batch_of(store):
    return rows(store, "SELECT image_id, chosen_by, selection_probability, queue_rank, predicted_class FROM labeling_batches WHERE batch = (SELECT max(batch) FROM labeling_batches) ORDER BY position")  # fmt: skip


def test_a_batch_is_drawn_from_all_images_and_from_the_queue_in_turns(store):
    fill(store, {IDS[0]: "x"})
    report = select(store)
    found = batch_of(store)
    assert len({row[0] for row in found}) == 30
    drawn = [row for row in found if row[1] == "random"]
    assert len(drawn) == 6
    assert {row[2] for row in drawn} == {6 / 299}
    assert max(row[3] for row in drawn) > 100, "from all images, not from the first of the queue"
    counts = Counter(row[4] for row in found if row[1] == "queue")
    assert set(counts) == set(CLASSES)
    assert max(counts.values()) - min(counts.values()) <= 1
    assert report.selection.unlabeled_count == 299
    assert report.selection.shortfall is None
    assert dict(report.by_class) == Counter(row[4] for row in found)
    # The predicted class of an image that is drawn is looked up, whether it is a candidate or not.
    ranking = dict(rows(store, "SELECT image_id, predicted_class FROM labeling_candidates"))
    assert all(ranking[row[0]] == row[4] for row in found)


def test_an_image_that_is_drawn_need_not_be_a_candidate(store):
    class_probs = fill(store)
    rank(store, "margin", limit=40, in_manifest=True)
    select(store)
    drawn = [row for row in batch_of(store) if row[1] == "random"]
    assert any(row[3] is None for row in drawn)
    for image_id, _, _, _, name in drawn:
        assert name == CLASSES[class_probs[IDS.index(image_id)].argmax()]


def test_the_same_tables_give_the_same_batch_and_an_open_one_is_replaced(store):
    fill(store)
    first = select(store)
    expected = batch_of(store)
    assert select(store).sha256 == first.sha256
    assert batch_of(store) == expected
    assert rows(store, "SELECT count(*), max(batch) FROM labeling_batches") == [(30, 1)]
    assert select(store, seed=1).sha256 != first.sha256
    assert rows(store, "SELECT count(*) FROM batch_selections") == [(1,)]
    # A batch of 20 is the beginning of the one of 30.
    select(store, size=20)
    assert [row[:2] for row in batch_of(store)] == [row[:2] for row in expected[:20]]


def test_a_batch_that_is_out_is_fixed_and_in_no_other_one(store, database):
    fill(store)
    select(store)
    first = batch_of(store)
    handed_out = hand_out_batch(store.connection, pool="pool")
    assert handed_out["image_id"].to_list() == [row[0] for row in first]
    with pytest.raises(PoolStateError, match=r"no open batch: materialize pool/labeling_batch"):
        hand_out_batch(store.connection, pool="pool")
    for number in (2, 3):
        report = select(store)
        assert report.selection.batch == number
        assert report.selection.in_flight_count == 30 * (number - 1)
        hand_out_batch(store.connection, pool="pool")
    assert rows(store, "SELECT count(*), count(DISTINCT image_id) FROM labeling_batches") == [(90, 90)]  # fmt: skip
    assert load_batch(store.connection, pool="pool", batch=1).equals(handed_out)
    for wrong in (images_twice, labeled_in_batch, in_flight_in_batch):
        assert wrong(store).count == 0


def test_images_come_back_by_hand_by_time_or_as_labels(store):
    fill(store)
    select(store)
    out = hand_out_batch(store.connection, pool="pool")["image_id"].to_list()
    # Five get their label, three are given back, the others are overdue.
    fill(store, dict.fromkeys(out[:5], "x"))
    assert select(store).selection.in_flight_count == 25
    assert release_batch(store.connection, pool="pool", image_ids=out[:8]) == 3
    assert select(store).selection.in_flight_count == 22
    assert return_overdue(store, 14) == 0
    store.connection.execute("UPDATE labeling_batches SET handed_out_at = now() - to_days(15) WHERE batch = 1")  # fmt: skip
    report = select(store, return_after_days=14)
    assert (report.returned_count, report.selection.in_flight_count) == (22, 0)
    assert report.selection.unlabeled_count == 295
    assert not set(out[:5]) & set(column(store, "SELECT image_id FROM labeling_batches WHERE batch = 2"))  # fmt: skip
    with pytest.raises(PoolStateError, match=r"no batch 7, it has \[1, 2\]"):
        release_batch(store.connection, pool="pool", batch=7)


def test_a_batch_may_be_empty_and_says_why(store):
    fill(store)
    select(store)
    hand_out_batch(store.connection, pool="pool")
    partly = select(store, max_in_flight=37).selection
    assert (partly.image_count, partly.random_count) == (7, 1)
    assert partly.shortfall == (
        "max_in_flight is 37 and 30 images are in flight: there is room for 7"
    )
    empty = select(store, max_in_flight=30).selection
    assert (empty.image_count, empty.wanted_count) == (0, 30)
    assert "room for 0" in empty.shortfall
    assert last_selection(store) == empty
    with pytest.raises(PoolStateError, match="no open batch"):
        hand_out_batch(store.connection, pool="pool")


def test_all_images_are_labeled_in_the_end(store):
    labeled = {}
    for retrained in range(20):
        fill(store, labeled, seed=retrained)
        report = select(store, size=40)
        if not report.selection.image_count:
            break
        out = hand_out_batch(store.connection, pool="pool")["image_id"].to_list()
        assert not set(out) & labeled.keys()
        labeled |= dict.fromkeys(out, "x")
    assert labeled.keys() == set(IDS)
    assert "queue is at its end" in report.selection.shortfall


def test_near_duplicates_are_recorded(store):
    fill(store, {IDS[0]: "x"})
    vectors = np.repeat(np.arange(150, dtype=np.float32), 2)[:, None] * 10
    asked = []

    def read(store, wanted, known):
        asked.extend([wanted, known])
        found = list(dict.fromkeys(wanted))
        return Embeddings(found, vectors[[IDS.index(one) for one in found]], known)

    report = select(store, size=100, read_embeddings=read, max_distance=1.0)
    assert asked[1] == [IDS[0]]
    chosen = [row[0] for row in batch_of(store) if row[1] == "queue"]
    pairs = [int(one[5:]) // 2 for one in chosen]
    assert len(set(pairs)) == len(pairs)
    assert 0 not in pairs, "a duplicate of the labeled image"
    recorded = rows(store, "SELECT image_id, duplicate_of, distance FROM near_duplicates")
    assert len(recorded) == report.selection.duplicate_count > 0
    for image_id, duplicate_of, distance in recorded:
        assert int(image_id[5:]) // 2 == int(duplicate_of[5:]) // 2
        assert distance == 0
    assert len(report.distances) >= 100


def test_a_batch_whose_export_did_not_end_is_kept_until_nobody_can_have_it(store):
    fill(store)
    first = select(store)
    begin_export(store, 1)
    images = batch_of(store)
    kept = select(store, size=5)
    assert (kept.selection, kept.sha256) == (first.selection, first.sha256)
    assert kept.by_class == first.by_class
    assert "materialize pool/exported_candidates" in kept.kept
    assert batch_of(store) == images
    # Handed out by hand it is out, and what is out is not begun again.
    out = hand_out_batch(store.connection, pool="pool")["image_id"].to_list()
    assert out == [row[0] for row in images]
    begin_export(store, 1)
    assert unfinished_batch(store) is None
    assert select(store).selection.batch == 2
    # One that has come back or has its labels is not kept.
    for back in (
        lambda: release_batch(store.connection, pool="pool"),
        lambda: fill(store, dict.fromkeys(column(store, "SELECT image_id FROM labeling_batches"), "x")),
    ):  # fmt: skip
        number = select(store).selection.batch
        begin_export(store, number)
        assert select(store).kept
        back()
        assert select(store).kept is None
        assert rows(store, "SELECT count(*) FROM unfinished_exports") == [(0,)]


def test_a_cold_start_is_said(store):
    fill(store, dict(zip(IDS[:9], "xxxxxyyyy", strict=True)))
    assert select(store).cold_start == (
        "2 of 3 classes have fewer than 5 labels: no uncertainty can be trusted yet; take "
        "random_share: 1 until then, or choose_by: typical where there are embeddings"
    )
    # Where no image is chosen for it, it need not be trusted.
    assert select(store, random_share=1).cold_start is None
    # Labels that the manifest does not name may be of any class: one of y and five of z are missing.
    for unnamed, is_cold in ((5, True), (6, False)):
        names = ["x"] * 5 + ["y"] * 4 + [None] * unnamed
        fill(store, dict(zip(IDS, names, strict=False)))
        assert (select(store).cold_start is not None) == is_cold
    fill(store, dict(zip(IDS[:15], "xxxxxyyyyyzzzzz", strict=True)))
    assert select(store).cold_start is None
    report = select(store, random_share=1)
    assert report.selection.random_count == 30
    probabilities = {row[2] for row in batch_of(store)}
    assert probabilities == {30 / 285}


def embedded(vectors, missing=()):
    """Reads embeddings, of which some are missing."""

    def read(store, wanted, known):
        found = [one for one in dict.fromkeys(wanted) if one not in missing]
        return Embeddings(found, vectors[[IDS.index(one) for one in found]], known)

    return read


def test_badge_chooses_among_the_first_of_the_queue(store):
    class_probs = fill(store)
    vectors = np.random.default_rng(1).normal(size=(300, 8)).astype(np.float32)
    read = embedded(vectors, {IDS[7]})
    report = select(store, read_embeddings=read, choose_by="badge", queue_length=100)
    found = batch_of(store)
    drawn = [row[0] for row in found if row[1] == "random"]
    chosen = [row for row in found if row[1] == "badge"]
    assert (len(drawn), len(chosen)) == (6, 24)
    assert max(row[3] for row in chosen) <= 100 + 20
    # The first is the one with the longest gradient of those that may be chosen.
    kept_back = draw_images([pa.array(IDS)], 20, seed=0, batch=1).image_ids
    queue = column(store, "SELECT image_id FROM labeling_candidates ORDER BY rank")
    queue = [one for one in queue if one not in kept_back][:100]
    assert report.without_embedding == (IDS[7] in queue)
    rows_of = [IDS.index(one) for one in queue if one != IDS[7]]
    residuals = class_probs - np.eye(3)[class_probs.argmax(axis=1)]
    lengths = np.linalg.norm(residuals, axis=1) * np.linalg.norm(vectors, axis=1)
    assert chosen[0][0] == IDS[max(rows_of, key=lambda row: lengths[row])]
    # The same tables give the same batch, and a shorter one is the beginning of a longer one.
    again = select(store, read_embeddings=read, choose_by="badge", queue_length=100)
    assert again.sha256 == report.sha256
    select(store, read_embeddings=read, choose_by="badge", queue_length=100, size=20)
    assert [row[0] for row in batch_of(store)] == [row[0] for row in found[:20]]
    assert select(store, seed=1, read_embeddings=read, choose_by="badge").sha256 != report.sha256


def test_typical_images_are_of_all_images_and_not_of_the_queue(store):
    fill(store, {IDS[0]: "x"})
    rank(store, "margin", limit=40, in_manifest=True)
    # Two heaps, the first with the label, and twice five images that are like few others.
    random = np.random.default_rng(2)
    vectors = random.normal(scale=0.1, size=(300, 6)).astype(np.float32)
    vectors[150:290, 0] += 10
    vectors[290:295, 1] += 30
    vectors[295:, 2] += 30
    report = select(
        store, size=3, random_share=0, read_embeddings=embedded(vectors), choose_by="typical"
    )
    found = batch_of(store)
    assert [row[1] for row in found] == ["typical"] * 3
    assert report.cold_start is None
    numbers = [IDS.index(row[0]) for row in found]
    assert 150 <= numbers[0] < 290, "the heap without a label first"
    assert all(number < 290 for number in numbers)
    before = [row[0] for row in found]
    select(store, size=3, random_share=0, read_embeddings=embedded(vectors), choose_by="typical")
    assert [row[0] for row in batch_of(store)] == before
    # A sample of queue_length of them is looked at, behind what is kept back for the random share.
    report = select(
        store, random_share=0.5, read_embeddings=embedded(vectors), choose_by="typical",
        queue_length=60,
    )  # fmt: skip
    assert sum(report.queue_by_class.values()) == 60
    assert Counter(row[1] for row in batch_of(store)) == {"random": 15, "typical": 15}


@pytest.mark.parametrize("choose_by", ["badge", "typical"])
def test_embeddings_of_other_images_are_refused(store, choose_by):
    fill(store)
    with pytest.raises(PoolStateError, match="none of the 270 candidates .* has an embedding"):
        select(
            store,
            size=30,
            random_share=0.1,
            queue_length=300,
            read_embeddings=embedded(np.zeros((300, 2), np.float32), set(IDS)),
            choose_by=choose_by,
        )


def test_badge_takes_the_mean_of_a_committee(store):
    fill(store)
    votes = {"a": [[0.5, 0.3, 0.2], [0.1, 0.6, 0.3]], "b": [[1, 0, 0]]}
    table = pa.table(
        {
            "image_id": ["a", "b", "a"],
            "class_probs": [votes["a"][0], votes["b"][0], votes["a"][1]],
        }
    )
    ingest(store, in_memory(table), prediction_set="votes")
    means = mean_class_probs(store, "votes", ["a", "b", "c"])
    assert {name: mean.tolist() for name, mean in means.items()} == {
        name: np.mean(of_image, axis=0).tolist() for name, of_image in votes.items()
    }
    assert mean_class_probs(store, "votes", ["c"]) == {}


def test_a_ranking_that_is_missing_or_of_other_scores_is_refused(store):
    with pytest.raises(PoolStateError, match="no prediction set 'set'"):
        select(store)
    fill(store)
    score(store, in_manifest=True)
    with pytest.raises(PoolStateError, match=r"materialize pool/labeling_candidates/margin"):
        select(store)
    store.connection.execute("DELETE FROM rankings")
    with pytest.raises(PoolStateError, match=r"no ranking by margin .*labeling_candidates/margin"):
        select(store)


def test_the_draw_is_of_the_images_that_are_left_in_each_batch(store):
    """An image that the queue of the first batch would have had is drawn no more often later.

    With one order for all batches, what the first keeps back from its queue would come first.
    """
    fill(store)
    first_ranks = set(column(store, "SELECT image_id FROM labeling_candidates WHERE rank <= 60"))
    times = Counter()
    for seed in range(60):
        store.connection.execute("DELETE FROM labeling_batches")
        for _ in range(2):
            select(store, seed=seed, size=60, class_turns=False, queue_length=100)
            out = hand_out_batch(store.connection, pool="pool")
        drawn = out.filter(pl.col("chosen_by") == "random")["image_id"].to_list()
        left = 300 - 60
        times["drawn"] += sum(one in first_ranks for one in drawn)
        in_first = column(store, "SELECT image_id FROM labeling_batches WHERE batch = 1")
        times["expected"] += 12 * len(first_ranks - set(in_first)) / left
    assert abs(times["drawn"] - times["expected"]) < 4 * math.sqrt(times["expected"])


def test_without_a_manifest_images_are_those_that_have_scores(store):
    class_probs = np.random.default_rng(0).dirichlet([1, 1, 1], len(IDS)).astype(np.float32)
    ingest(store, in_memory(pa.table({"image_id": IDS, "class_probs": list(class_probs)})))
    score(store)
    rank(store, "margin")
    report = flow.select_labeling_batch(
        store, "set", "margin", rules=RULES, batch_rules=BatchRules(size=10), seed=0, run_id="run"
    )
    assert report.selection.unlabeled_count == 300
    assert report.cold_start is None
    hand_out_batch(store.connection, pool="pool")
    assert release_batch(store.connection, pool="pool", batch=1) == 10


def test_a_database_file_is_opened_to_hand_out_and_closed(store, database):
    fill(store)
    select(store)
    store.connection.close()
    assert hand_out_batch(database, pool="pool").height == 30
    assert load_batch(database, pool="pool").height == 30
    assert release_batch(database, pool="pool") == 30
    with duckdb.connect(str(database)) as connection:
        assert images_twice(PoolStore(connection, "pool")).count == 0
