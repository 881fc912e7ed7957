"""The total order: by score, then a seeded hash, then the id; the same for every batch size."""

import hashlib

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dagster_active_learning.ranking.total_order import rank_images

LOWEST_FIRST, HIGHEST_FIRST = "lowest", "highest"


def images(scores, ids=None) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "image_id": ids or [f"image{row}" for row in range(len(scores))],
            "score": pl.Series(scores, dtype=pl.Float64),
            "prediction_count": [int(score is not None) for score in scores],
        }
    )


def ranked(frame: pl.DataFrame, label_first, *, limit=1000, seed=0, batch_rows=None) -> list[str]:
    batches = frame.iter_slices(batch_rows) if batch_rows else [frame]
    result = rank_images(batches, label_first, limit=limit, seed=seed)
    assert result["rank"].to_list() == list(range(1, result.height + 1))
    return result["image_id"].to_list()


def reference(frame: pl.DataFrame, label_first, limit: int, seed: int) -> list[str]:
    """The order in plain Python: nothing is shared with the code under test."""
    sign = -1 if label_first == "highest" else 1

    def key(row):
        hashed = hashlib.blake2b(
            row["image_id"].encode(), digest_size=8, key=seed.to_bytes(8, "little", signed=True)
        ).digest()
        score = row["score"]
        return (
            score is None,
            0 if score is None else sign * score,
            int.from_bytes(hashed, "little"),
            row["image_id"],
        )

    return [row["image_id"] for row in sorted(frame.to_dicts(), key=key)][:limit]


@pytest.mark.parametrize(
    ("label_first", "expected"), [(LOWEST_FIRST, ["b", "c", "a"]), (HIGHEST_FIRST, ["a", "c", "b"])]
)
def test_the_uncertain_end_of_the_scale_comes_first(label_first, expected):
    assert ranked(images([0.9, 0.1, 0.5], ["a", "b", "c"]), label_first) == expected


@given(
    scores=st.lists(st.sampled_from([None, 0.0, 0.25, 0.5, 1.0]), min_size=1, max_size=60),
    limit=st.integers(1, 70),
    seed=st.integers(-(2**63), 2**63 - 1),
    batch_rows=st.integers(1, 60),
    label_first=st.sampled_from([LOWEST_FIRST, HIGHEST_FIRST]),
)
@settings(max_examples=300, deadline=None)
def test_order_is_that_of_plain_python_whatever_the_batches(
    scores, limit, seed, batch_rows, label_first
):
    frame = images(scores)
    expected = reference(frame, label_first, limit, seed)
    assert ranked(frame, label_first, limit=limit, seed=seed) == expected
    assert ranked(frame, label_first, limit=limit, seed=seed, batch_rows=batch_rows) == expected
    assert ranked(frame.reverse(), label_first, limit=limit, seed=seed) == expected


def test_another_seed_reorders_ties_and_nothing_else():
    frame = images([0.5] * 50 + [0.25] + [0.75])
    first, second = (ranked(frame, LOWEST_FIRST, seed=seed) for seed in (1, 2))
    assert first != second
    assert sorted(first) == sorted(second)
    assert first[0] == second[0] == "image50"
    assert first[-1] == second[-1] == "image51"


@pytest.mark.parametrize("label_first", [LOWEST_FIRST, HIGHEST_FIRST])
@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        (None, ["scored", "empty"]),
        ("last", ["scored", "empty"]),
        ("first", ["empty", "scored"]),
        ("exclude", ["scored"]),
    ],
)
def test_images_without_predictions_rank_where_the_policy_says(label_first, policy, expected):
    frame = pl.DataFrame(
        {
            "image_id": ["empty", "unscored", "scored"],
            "score": [None, None, 0.5],
            "prediction_count": [0, 3, 1],
        }
    )
    result = rank_images([frame], LOWEST_FIRST, limit=9, seed=0, images_without_predictions=policy)
    assert result["image_id"].to_list() == expected


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        (None, ["empty", "doubtful", "sure"]),
        ("first", ["empty", "doubtful", "sure"]),
        ("last", ["doubtful", "sure", "empty"]),
        ("exclude", ["doubtful", "sure"]),
    ],
)
def test_an_image_without_objects_ranks_by_its_score_of_0_unless_a_policy_is_set(policy, expected):
    frame = pl.DataFrame(
        {
            "image_id": ["sure", "empty", "doubtful"],
            "score": [0.9, 0.0, 0.4],
            "prediction_count": [3, 0, 1],
        }
    )
    result = rank_images([frame], LOWEST_FIRST, limit=9, seed=0, images_without_predictions=policy)
    assert result["image_id"].to_list() == expected
    assert result["score"][expected.index("sure")] == 0.9


def test_a_limit_beyond_the_images_ranks_them_all_and_no_image_ranks_none():
    assert len(ranked(images([0.1, 0.2]), LOWEST_FIRST, limit=10)) == 2
    assert rank_images([], LOWEST_FIRST, limit=10, seed=0).height == 0


def test_the_first_of_many_scores_are_those_of_a_numpy_sort():
    scores = np.random.default_rng(0).random(200_000)
    frame = images(scores)
    expected = [f"image{row}" for row in np.argsort(scores, kind="stable")[:100]]
    assert ranked(frame, LOWEST_FIRST, limit=100, batch_rows=7_777) == expected
