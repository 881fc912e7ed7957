"""The steps of a labeling batch, as tables and properties against plain Python."""

# What a test expects to be there may be None for the types.
# pyright: reportOperatorIssue=false, reportPrivateImportUsage=false

import math
import subprocess
import sys
from collections import Counter

import numba
import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dagster_active_learning.errors import SettingError
from dagster_active_learning.ranking.batch import (
    BatchRules,
    Draw,
    Embeddings,
    draw_images,
    select_batch,
)
from dagster_active_learning.ranking.kernels import hash_ids, nearest_row

IDS = [f"image{number}" for number in range(1747)]


def queue_of(classes):
    """A queue of images q0, q1, … of these predicted classes."""
    ids = [f"q{number}" for number in range(len(classes))]
    return pl.DataFrame(
        {"image_id": ids, "predicted_class": pl.Series(list(classes), dtype=pl.String)}
    )


def select(queue, *, drawn=(), size=None, embeddings=None, objects=None, image_count=1000, **rules):
    declared = BatchRules(**{"random_share": 0.0, "size": size or queue.height, **rules})
    described = {
        image_id: (name, (objects or {}).get(image_id, 1)) for image_id, name in queue.iter_rows()
    }
    described |= dict.fromkeys(drawn, ("drawn", 1))
    draw = Draw(list(drawn), image_count)
    return select_batch(
        queue, draw, described, declared, size=size or declared.size, embeddings=embeddings
    )


def ids_of(selection):
    return selection.images["image_id"].to_list()


# The draw


def hashed(image_id, seed):
    """SplitMix64 over eight bytes at a time, the last eight at the end, in plain Python."""
    mask = 2**64 - 1

    def mixed(value):
        value = (value + 0x9E3779B97F4A7C15) & mask
        value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & mask
        value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & mask
        return value ^ (value >> 31)

    text = image_id.encode()
    value = mixed((seed % 2**64) ^ len(text))
    whole = len(text) // 8 * 8
    words = [text[first : first + 8] for first in range(0, whole, 8)]
    if whole < len(text):
        words.append(text[-8:])
    for word in words:
        value = mixed(value ^ int.from_bytes(word, "little"))
    return value


@given(ids=st.lists(st.text(max_size=30), max_size=20), seed=st.integers(-(2**63), 2**63 - 1))
@settings(max_examples=60, deadline=None)
def test_hashes_are_those_of_plain_python(ids, seed):
    array = pa.array(ids, pa.string())
    assert hash_ids(array, seed).tolist() == [hashed(one, seed) for one in ids]
    assert hash_ids(array[1:], seed).tolist() == [hashed(one, seed) for one in ids[1:]]


@pytest.mark.parametrize("batch_rows", [70, 600, 2000])
def test_a_draw_is_the_same_for_every_order_and_size_of_batches(batch_rows):
    expected = draw_images([pa.array(IDS)], 20, seed=3, batch=1)
    shuffled = list(np.random.default_rng(0).permutation(IDS))
    parts = [pa.array(shuffled[at : at + batch_rows]) for at in range(0, len(IDS), batch_rows)]
    assert draw_images(parts, 20, seed=3, batch=1) == expected
    assert expected.image_count == len(IDS)
    assert len(set(expected.image_ids)) == 20
    # A shorter draw is the beginning of a longer one, and another seed or batch is another draw.
    assert draw_images(parts, 5, seed=3, batch=1).image_ids == expected.image_ids[:5]
    for seed, batch in ((4, 1), (3, 2)):
        other = draw_images(parts, 20, seed=seed, batch=batch).image_ids
        assert len(set(other) & set(expected.image_ids)) < 8
    assert draw_images(parts, 0, seed=3, batch=1).image_ids == []
    assert len(draw_images([pa.array(["a", "b"])], 9, seed=0, batch=1).image_ids) == 2


def test_each_image_is_drawn_as_often_as_its_probability_says():
    """Chi-square over 200 seeds: images by how often they are drawn, and by their place."""
    times = Counter()
    for seed in range(200):
        times.update(draw_images([pa.array(IDS)], 20, seed=seed, batch=1).image_ids)
    counts = np.array([times[one] for one in IDS])
    expected = 200 * 20 / len(IDS)
    # Without replacement in each draw, the variance is that of a share 20 / 1747 less.
    statistic = ((counts - expected) ** 2 / (expected * (1 - 20 / len(IDS)))).sum()
    freedom = len(IDS) - 1
    assert abs(statistic - freedom) < 4 * math.sqrt(2 * freedom)
    quarters = counts.reshape(-1)[:1744].reshape(4, -1).sum(axis=1)
    assert ((quarters - 998.3) ** 2 / 998.3).sum() < 16.3


# Classes in turn


@pytest.mark.parametrize(
    ("classes", "settings", "expected"),
    [
        ("aabab", {}, [2, 0, 4, 1, 3]),  # b has the fewest
        ("aabab", {"class_turns": False}, [0, 1, 2, 3, 4]),
        ("aaaa", {}, [0, 1, 2, 3]),
        # b ends in its third turn and c in its fifth: the others go on.
        ("aaaaabbcccc", {}, [5, 7, 0, 6, 8, 1, 9, 2, 10, 3, 4]),
        ("aaaaabbcccc", {"class_weights": {"b": 3}}, [5, 6, 7, 0, 8, 1, 9, 2, 10, 3, 4]),
        ("ba", {}, [1, 0]),  # as many each: by name
        ("aaaabb", {"class_weights": {"a": 2}}, [0, 4, 1, 2, 5, 3]),
        ("aaaabb", {"max_per_class": 1}, [4, 0]),
        (["a", None, "b", "a", None], {}, [2, 0, 3, 1, 4]),  # no class, no turn
        ([None, None, None], {"max_per_class": 1}, [0, 1, 2]),
    ],
)
def test_classes_take_turns(classes, settings, expected):
    assert ids_of(select(queue_of(classes), **settings)) == [f"q{place}" for place in expected]


@given(classes=st.lists(st.sampled_from("abcde"), min_size=1, max_size=80), size=st.integers(1, 80))
@settings(max_examples=60, deadline=None)
def test_counts_of_classes_differ_by_one_where_the_queue_has_enough(classes, size):
    queue = queue_of(classes)
    chosen = select(queue, size=size, queue_length=80)
    counts = Counter(dict(queue.iter_rows())[one] for one in ids_of(chosen))
    available = Counter(classes)
    most = max(counts.values())
    for name in available:
        assert counts[name] >= min(available[name], most - 1)
    # Within a class the order is that of the queue.
    for name in counts:
        of_class = [int(one[1:]) for one in ids_of(chosen) if classes[int(one[1:])] == name]
        assert of_class == sorted(of_class)


# The random share


@given(
    size=st.integers(1, 60),
    share=st.sampled_from([0.0, 0.1, 0.2, 0.25, 1 / 3, 0.5, 1.0]),
    turns=st.booleans(),
    cap=st.sampled_from([None, 3]),
)
@settings(max_examples=60, deadline=None)
def test_a_batch_is_the_beginning_of_a_longer_one(size, share, turns, cap):
    random = np.random.default_rng(0)
    queue = queue_of(random.choice(list("abcd"), 80))
    drawn = [f"d{number}" for number in range(60)]
    options = {"drawn": drawn, "random_share": share, "class_turns": turns, "max_per_class": cap}
    whole = select(queue, size=60, queue_length=60, **options).images
    part = select(queue, size=size, queue_length=60, **options).images
    for name in ("image_id", "chosen_by", "position"):
        assert part[name].to_list() == whole[name].to_list()[: part.height]
    of_random = (part["chosen_by"] == "random").sum()
    assert of_random == math.floor(size * share + 0.5)
    probabilities = part.filter(pl.col("chosen_by") == "random")["selection_probability"]
    assert set(probabilities) <= {of_random / 1000}
    assert part.filter(pl.col("chosen_by") == "queue")["selection_probability"].null_count() == (
        part.height - of_random
    )


def test_a_short_batch_says_why():
    short = select(queue_of("ab"), size=10, drawn=["d0"], random_share=0.2)
    assert ids_of(short) == ["q0", "q1", "d0"]
    assert short.shortfall == (
        "the queue is at its end: 6 places; no image is left to be drawn at random: 1 places"
    )
    assert select(queue_of("ab"), size=2).shortfall is None


def test_a_budget_of_objects_ends_a_batch():
    objects = {"q0": 3, "q1": 4, "q2": 1, "q3": 5}
    options = {"objects": objects, "class_turns": False}
    for budget, expected in ((1, 1), (6, 1), (7, 2), (8, 3), (12, 3), (13, 4)):
        found = select(queue_of("aaaa"), objects_budget=budget, **options)
        assert len(ids_of(found)) == expected
        assert (found.shortfall is None) == (expected == 4)
    assert "beyond the objects_budget of 12" in select(queue_of("aaaa"), objects_budget=12, **options).shortfall  # fmt: skip


# Near-duplicates


def test_near_duplicates_of_kept_and_labeled_images_are_left_out():
    queue = queue_of("aaaa")
    points = {"q0": 0.0, "q1": 0.5, "q2": 5.0, "q3": 9.0, "old": 9.5}
    vectors = np.array([[value, 0] for value in points.values()], np.float32)

    def run(limit):
        embeddings = Embeddings(list(points), vectors, ["old"])
        return select(queue, embeddings=embeddings, max_distance=limit)

    found = run(0.5)
    assert ids_of(found) == ["q0", "q2"]
    assert found.duplicates.rows() == [("q1", "q0", 0.5), ("q3", "old", 0.5)]
    assert found.images["nearest_distance"].to_list() == [9.5, 4.5]
    assert "queue is at its end" in found.shortfall
    without_limit = run(None)
    assert ids_of(without_limit) == ["q0", "q1", "q2", "q3"]
    assert without_limit.images["nearest_distance"].to_list() == [9.5, 0.5, 4.5, 0.5]


def test_an_image_that_is_left_out_costs_its_class_no_turn():
    queue = queue_of("aaab")
    vectors = np.array([[0.0], [0.1], [5.0], [9.0]], np.float32)
    embeddings = Embeddings(queue["image_id"].to_list(), vectors, [])
    assert ids_of(select(queue, embeddings=embeddings, max_distance=1.0)) == ["q3", "q0", "q2"]


def test_a_class_whose_last_images_are_left_out_leaves_its_turns_to_the_others():
    queue = queue_of("aaaaabbcccc")
    vectors = np.arange(11, dtype=np.float32)[:, None] * 10
    vectors[6] = vectors[5]
    embeddings = Embeddings(queue["image_id"].to_list(), vectors, [])
    chosen = select(queue, size=8, queue_length=11, embeddings=embeddings, max_distance=1.0)
    assert ids_of(chosen) == [f"q{place}" for place in (5, 7, 0, 8, 1, 9, 2, 10)]
    assert chosen.duplicates["image_id"].to_list() == ["q6"]
    assert chosen.shortfall is None


def test_an_image_without_an_embedding_is_kept():
    embeddings = Embeddings(["q0"], np.zeros((1, 3), np.float32), [])
    found = select(queue_of("aa"), embeddings=embeddings, max_distance=9.0)
    assert found.images["nearest_distance"].to_list() == [None, None]
    assert ids_of(found) == ["q0", "q1"]


@pytest.mark.parametrize("dimensions", [1, 7, 8, 128, 130])
def test_distances_are_numpys_and_the_same_bits_for_any_thread_count(dimensions):
    random = np.random.default_rng(dimensions)
    rows = random.normal(size=(3000, dimensions)).astype(np.float32)
    rows[2000] = rows[10]
    results = set()
    for threads in (1, min(2, numba.config.NUMBA_NUM_THREADS)):
        numba.set_num_threads(threads)
        results.add(nearest_row(rows, rows[2000] + np.float32(0.001)))
    numba.set_num_threads(numba.config.NUMBA_NUM_THREADS)
    ((row, distance),) = results
    distances = np.sqrt(((rows.astype("f8") - (rows[2000] + np.float32(0.001))) ** 2).sum(axis=1))
    assert row == distances.argmin()
    assert distance == pytest.approx(distances[row], rel=1e-9)


PROCESS = """
import numpy as np, polars as pl, pyarrow as pa
from dagster_active_learning.ranking.batch import *
ids = [f"image{number}" for number in range(400)]
random = np.random.default_rng(5)
vectors = random.normal(size=(400, 9)).astype("f4")
classes = random.choice(list("abc"), 400)
order = np.random.default_rng(SHUFFLE).permutation(400)
draw = draw_images([pa.array([ids[one] for one in order])], 40, seed=0, batch=1)
queue = pl.DataFrame({"image_id": ids, "predicted_class": classes}).filter(~pl.col("image_id").is_in(draw.image_ids))
embeddings = Embeddings([ids[one] for one in order], vectors[order], ids[::17])
described = {one: (name, 1) for one, name in zip(ids, classes)}
rules = BatchRules(size=60, queue_length=200, random_share=0.2, max_distance=2.0)
chosen = select_batch(queue.head(200), draw, described, rules, size=60, embeddings=embeddings)
print(chosen.images.write_csv(), chosen.duplicates.write_csv())
"""


def test_threads_order_of_the_input_and_another_process_change_nothing():
    outputs = {
        subprocess.run(
            [sys.executable, "-c", PROCESS.replace("SHUFFLE", str(shuffle))],
            env={**__import__("os").environ, "NUMBA_NUM_THREADS": threads},
            capture_output=True, text=True, check=True,
        ).stdout
        for threads, shuffle in (("1", 0), ("2", 1))
    }  # fmt: skip
    assert len(outputs) == 1


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"size": 0}, "size is 0, expected a whole number of at least 1"),
        ({"size": True}, "size is True"),
        ({"size": 200, "queue_length": 100}, "queue_length is 100, expected at least the size"),
        ({"random_share": 1.5}, "random_share is 1.5"),
        ({"max_per_class": 0}, "max_per_class is 0"),
        ({"class_weights": {"a": 0}}, "class_weights has 0 for 'a'"),
        ({"objects_budget": -1}, "objects_budget is -1"),
        ({"max_distance": float("nan")}, "max_distance is nan"),
        ({"class_turns": "yes"}, "class_turns is 'yes'"),
        ({"choose_by": "rank"}, "choose_by is 'rank', expected one of 'queue', 'badge', 'typical'"),
        ({"choose_by": "badge", "class_weights": {"a": 2}}, "class_weights are turns in the queue"),
    ],
)
def test_a_setting_that_cannot_be_used_is_named(settings, words):
    with pytest.raises(SettingError, match=words) as error:
        BatchRules(**settings)
    assert error.value.setting in words
