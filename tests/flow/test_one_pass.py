"""Scores that are made while predictions are read, beside those made of stored predictions."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dagster_active_learning import ACQUISITION_FUNCTIONS, read_predictions
from dagster_active_learning.rules import Rules
from dagster_active_learning.store import kept_scores
from dagster_active_learning.store.images import replace_images
from dagster_active_learning.store.prediction_sets import prediction_set
from pools import column, ingest, rank, rows, score
from ranked_pools import manifest

N_ROWS = 5000
N_CLASSES = 7


@pytest.fixture
def write(tmp_path):
    """Predictions in three files, some of them not valid; the glob of the files."""

    def write(ids, *dtypes, inputs="probabilities"):
        dtypes = dtypes or ("f4",)
        generator = np.random.default_rng(5)
        values = generator.standard_normal((len(ids), N_CLASSES))
        if inputs == "independent":
            values = 1 / (1 + np.exp(-values))
        elif inputs == "probabilities":
            values = np.exp(values) / np.exp(values).sum(axis=1, keepdims=True)
        values[::97] = np.nan
        for number, part in enumerate(np.array_split(np.arange(len(ids)), 3)):
            flat = pa.array(values[part].astype(dtypes[number % len(dtypes)]).ravel())
            lists = pa.FixedSizeListArray.from_arrays(flat, N_CLASSES)
            lists = lists.cast(pa.list_(flat.type))
            table = pa.table({"image_id": [ids[row] for row in part], "class_probs": lists})
            pq.write_table(table, tmp_path / f"{number}.parquet", row_group_size=700)
        return tmp_path / "*.parquet"

    return write


def ids(n=N_ROWS, *, shuffled=False):
    names = [f"image{number:05}" for number in range(n)]
    return list(np.random.default_rng(1).permutation(names)) if shuffled else names


def kinds(store):
    """Whether the scores of the only set are a table of their own, or columns of predictions."""
    (number,) = column(store, "SELECT generation FROM prediction_sets")
    query = f"SELECT table_type FROM information_schema.tables WHERE table_name = 'image_scores_{number}'"
    return column(store, query)


KEPT, OWN = ["VIEW"], ["BASE TABLE"]


def scored_twice(store, path, **options):
    """Scores that were kept, and those made of the stored predictions."""
    reading = dict(options)
    ingest(store, read_predictions(path, format="parquet"), **reading)
    first = score(store, **options)
    kind = kinds(store)
    store.connection.execute("UPDATE prediction_sets SET scored_by = NULL")
    again = score(store, batch_rows=611, **options)
    assert kinds(store) == OWN
    return kind, first, again


@pytest.mark.parametrize("dtypes", [("f2",), ("f4",), ("f8",), ("f4", "f8", "f2")])
@pytest.mark.parametrize("inputs", ["probabilities", "logits", "independent"])
@pytest.mark.parametrize("shuffled", [False, True])
def test_they_are_the_same_bits(store, write, dtypes, inputs, shuffled):
    rules = Rules(inputs=inputs, sum_tolerance=0.01)
    path = write(ids(shuffled=shuffled), *dtypes, inputs=inputs)
    kind, first, again = scored_twice(store, path, rules=rules)
    assert kind == KEPT
    assert first.height == N_ROWS - len(range(0, N_ROWS, 97))
    assert first.equals(again)
    assert first["entropy"].null_count() == 0


def test_images_of_the_manifest_without_predictions_have_their_row(store, write):
    replace_images(store, manifest([*ids(), "unseen"]))
    kind, first, again = scored_twice(store, write(ids()), in_manifest=True)
    assert kind == OWN
    assert first.equals(again)
    in_quarantine = len(range(0, N_ROWS, 97))
    assert first.filter(first["prediction_count"] == 0).height == 1 + in_quarantine


def test_unknown_images_are_not_scored(store, write):
    valid = [name for row, name in enumerate(ids()) if row % 97]
    replace_images(store, manifest(valid[:-10]))
    kind, first, again = scored_twice(store, write(ids()), in_manifest=True)
    assert kind == KEPT
    assert first.equals(again)
    assert first["image_id"].to_list() == valid[:-10]


def test_of_several_predictions_of_an_image_none_is_kept(store, write):
    kind, first, again = scored_twice(store, write([*ids()[:-1], "image00001"]))
    assert kind == OWN
    assert first.equals(again)
    assert "entropy_score" not in columns_of_predictions(store)


def columns_of_predictions(store):
    (number,) = column(store, "SELECT generation FROM prediction_sets")
    return [one.name for one in store.columns(f"predictions_{number}")]


@pytest.mark.parametrize("rules", [Rules(aggregation="sum"), Rules(committee=True)])
def test_other_scores_than_those_of_a_prediction_are_not_kept(store, write, rules):
    path = write(ids())
    ingest(store, read_predictions(path, format="parquet"), rules=rules)
    assert not [name for name in columns_of_predictions(store) if name.endswith("_score")]
    score(store, rules=rules)
    assert kinds(store) == OWN


def test_those_of_a_mean_are_not_those_of_a_sum(store, write):
    ingest(store, read_predictions(write(ids()), format="parquet"))
    means = score(store)
    assert kinds(store) == KEPT
    sums = score(store, rules=Rules(aggregation="sum"))
    assert kinds(store) == OWN
    # A margin becomes an uncertainty.
    assert sums["margin"].to_list() == pytest.approx((1 - means["margin"]).to_list())
    assert score(store).equals(means)
    assert kinds(store) == KEPT


def test_another_version_of_the_package_scores_again(store, write, monkeypatch):
    ingest(store, read_predictions(write(ids()), format="parquet"))
    monkeypatch.setattr(kept_scores, "this_version", lambda: "99.0")
    score(store)
    assert kinds(store) == OWN


def test_a_function_of_the_kernel_under_another_name_is_kept(store, write, monkeypatch):
    like = ACQUISITION_FUNCTIONS["margin"]
    monkeypatch.setitem(ACQUISITION_FUNCTIONS, "gap", replace(like, name="gap"))
    ingest(store, read_predictions(write(ids()), format="parquet"))
    scores = score(store)
    assert kinds(store) == KEPT
    assert scores["gap"].equals(scores["margin"].alias("gap"))


def test_a_function_outside_of_the_kernel_is_computed_when_images_are_scored(
    store, write, monkeypatch
):
    """What it computes may be another thing by then."""
    function = replace(
        ACQUISITION_FUNCTIONS["margin"], name="toy", scores=lambda class_probs: class_probs[:, 0]
    )
    monkeypatch.setitem(ACQUISITION_FUNCTIONS, "toy", function)
    ingest(store, read_predictions(write(ids()), format="parquet"))
    other = replace(function, scores=lambda class_probs: class_probs[:, 1])
    monkeypatch.setitem(ACQUISITION_FUNCTIONS, "toy", other)
    scores = score(store)
    assert kinds(store) == OWN
    second = rows(store, "SELECT image_id, class_probs[2] FROM predictions")
    assert dict(zip(scores["image_id"], scores["toy"], strict=True)) == dict(second)


def test_a_set_without_scores_has_none_to_show(store, write):
    ingest(store, read_predictions(write(ids()), format="parquet"))
    assert rows(store, "FROM image_scores") == []
    assert prediction_set(store, "set").scored_by == kept_scores.this_version()


def test_the_ranking_of_kept_scores_is_that_of_others(store, write):
    path = write(ids(shuffled=True))
    ingest(store, read_predictions(path, format="parquet"))
    score(store)
    kept, candidates = rank(store, "entropy", limit=50)
    store.connection.execute("UPDATE prediction_sets SET scored_by = NULL")
    score(store)
    assert rank(store, "entropy", limit=50) == (kept, candidates)
