"""A ranking of a set in place from its best images is the one from all scores, bit for bit."""

import math
from contextlib import contextmanager

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dagster_active_learning import ACQUISITION_FUNCTIONS, flow
from dagster_active_learning.errors import PredictionReadError
from dagster_active_learning.flow import best_images
from dagster_active_learning.flow.best_images import BestImages
from dagster_active_learning.rules import Rules
from dagster_active_learning.store.score_bins import score_bins
from in_place import assert_equal, blank, copied, folder, in_place, write

RULES = [Rules(), Rules(aggregation="sum"), Rules(aggregation="max"), Rules(committee=True)]

# Few values: whole groups of images have the same score.
PROBS = st.sampled_from([[1.0, 0.0, 0.0], [0.5, 0.5, 0.0], [0.5, 0.25, 0.25], [0.75, 0.25, 0.0]])


@st.composite
def scores(draw):
    """Tables of scores by two functions, some of them null, with ids that are no two alike."""
    score = st.one_of(st.none(), st.integers(0, 6).map(float), st.floats(-1, 1))
    sizes = draw(st.lists(st.integers(0, 12), min_size=1, max_size=5))
    parts, first = [], 0
    for size in sizes:
        columns = {
            name: pa.array(draw(st.lists(score, min_size=size, max_size=size)), pa.float64())
            for name in ("entropy", "margin")
        }
        ids = pa.array([f"{first + row}" for row in range(size)], pa.string())
        parts.append(pa.table({"image_id": ids, **columns}))
        first += size
    return parts


@contextmanager
def keeping(count):
    """Within it so few images are kept that small sets have more."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(best_images, "BEST_IMAGES", count)
        yield


def of(parts, rules):
    best = BestImages(["entropy", "margin"], rules)
    for part in parts:
        best.add(part.filter(pa.array(best.wanted(part))))
    return best


@settings(max_examples=200, deadline=None)
@given(parts=scores(), count=st.integers(1, 8), sums=st.booleans(), split=st.integers(0, 5))
def test_all_images_before_the_cut_are_kept_and_no_more_than_wanted(parts, count, sums, split):
    rules = Rules(aggregation="sum" if sums else "mean")
    with keeping(count):
        best = BestImages(["entropy", "margin"], rules)
        for file in (of(one, rules) for one in (parts[:split], parts[split:])):
            if (table := file.table()) is not None:
                best.add(table, file.cuts)
        kept = pl.DataFrame(best.table())
    whole = pl.DataFrame(pa.concat_tables(parts))
    for name in ("entropy", "margin"):
        highest = ACQUISITION_FUNCTIONS[name].label_first_under(rules.aggregation) == "highest"
        cut = best.cuts.get(name, -math.inf if highest else math.inf)
        before = pl.col(name) > cut if highest else pl.col(name) < cut
        expected = whole.filter(before).select("image_id", name).sort("image_id")
        assert kept.filter(before).select("image_id", name).sort("image_id").equals(expected)
        if name in best.cuts:
            assert expected.height <= count
            as_good = whole.filter(pl.col(name) >= cut if highest else pl.col(name) <= cut)
            assert as_good.height > count, "the cut leaves out no more than it must"


@st.composite
def files(draw):
    """Files with images of one or several predictions; of some files images are spread."""
    spread = draw(st.booleans())
    parts = []
    for file in range(draw(st.integers(1, 3))):
        ids = st.integers(0, 8).map(lambda n, file=file: f"{n}" if spread else f"{file}-{n}")
        rows = draw(st.lists(st.tuples(ids, PROBS), min_size=1, max_size=12))
        parts.append(rows if spread else sorted(rows, key=lambda row: row[0]))
    return parts


@pytest.mark.slow
@settings(max_examples=25, deadline=None)
@given(
    parts=files(),
    rules=st.sampled_from(RULES),
    kept=st.integers(1, 10),
    limit=st.integers(1, 8),
    seed=st.integers(-3, 3),
    without=st.sampled_from([None, "first", "last", "exclude"]),
    labeled=st.lists(st.integers(0, 8), max_size=5) | st.none(),
)
def test_rankings_are_those_of_copied_files(parts, rules, kept, limit, seed, without, labeled):
    rules = Rules(
        aggregation=rules.aggregation,
        committee=rules.committee,
        in_manifest=labeled is not None,
        images_without_predictions=without,
    )
    path = folder()
    for place, rows in enumerate(parts):
        write(path / f"{place}.parquet", *(list(column) for column in zip(*rows, strict=True)))
    names = sorted({name for rows in parts for name, _ in rows})
    # With a manifest some images are unknown to it, some have no prediction, some have a label.
    manifest = None if labeled is None else [*names[: max(1, len(names) - 2)], "unseen", "unseen 2"]
    with keeping(kept):
        found = in_place(path / "*.parquet", path / "storage", rules, manifest=manifest)
    expected = copied(path / "*.parquet", rules, manifest=manifest)
    if labeled:
        done = [names[place] for place in labeled if place < len(names)]
        for store in (found, expected):
            store.rows("UPDATE images SET labeled = true WHERE image_id IN $done", done=done)
    assert_equal(ranked(found, rules, limit, seed), ranked(expected, rules, limit, seed))


def ranked(store, rules, limit, seed):
    functions = [one for one in ACQUISITION_FUNCTIONS.values() if one.applies_to(rules)]
    rankings = flow.rank_candidates(
        store, "set", functions, rules=rules, limit=limit, seed=seed, run_id="run"
    )
    rows = "SELECT * EXCLUDE (run_id) FROM labeling_candidates ORDER BY ALL"
    statistics = "SELECT * EXCLUDE (run_id, ranked_at, predictions_generation) "
    statistics += "FROM ranking_statistics ORDER BY ALL"
    bins = score_bins(store, "set", list(rankings), rules)
    return {
        "candidates": store.connection.sql(rows).to_arrow_table(),
        "rankings": rankings,
        "statistics": store.connection.sql(statistics).to_arrow_table(),
        "bins": {name: (one.counts.tolist(), one.edges.tolist()) for name, one in bins.items()},
    }


@pytest.fixture(params=["classification", "detection"])
def single(tmp_path, request):
    """Two files with a prediction per image, some of them with a category, and rules for them."""
    rng = np.random.default_rng(0)
    for file in range(2):
        ids = [f"{file}-{row:04d}" for row in range(400)]
        columns = {
            "animal": pa.array([[None, "cat", "dog"][kind] for kind in rng.integers(3, size=400)])
        }
        probs = rng.dirichlet(np.ones(4), 400).astype(np.float32)
        write(tmp_path / f"{file}.parquet", ids, probs, **columns)
    return tmp_path / "*.parquet", Rules(task=request.param), {"category_column": "animal"}


def test_a_ranking_and_its_histogram_read_neither_all_scores_nor_predictions(tmp_path, single):
    path, rules, options = single
    storage = tmp_path / "storage"
    with keeping(50):
        found = in_place(path, storage, rules, **options)
    expected = copied(path, rules, **options)
    blank([*tmp_path.glob("*.parquet"), *storage.glob("*/*/*.parquet")], found)
    assert_equal(ranked(found, rules, 50, 1), ranked(expected, rules, 50, 1))
    with pytest.raises(PredictionReadError, match="scores/0"):
        ranked(found, rules, 51, 1)
