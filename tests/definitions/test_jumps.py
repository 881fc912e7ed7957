"""The check of jumps between prediction sets, and their comparison in Python and SQL."""

import dagster as dg
import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from dagster_duckdb import DuckDBResource

from dagster_active_learning import (
    PredictionFiles,
    active_learning_definitions,
    compare_prediction_sets,
    delete_prediction_set,
)
from dagster_active_learning.definitions.checks.jumps import jumps
from dagster_active_learning.errors import PoolStateError
from dagster_active_learning.store.pools import existing_pool
from dagster_active_learning.store.ranking_statistics import KeptRanking, last_rankings
from reference import prediction_scores

IMAGES, CLASSES, LIMIT = 400, 3, 50


def probs(seed, sharpness=1.0, favored=0.0):
    """Class probabilities: sharper ones are surer, and one class may be favored."""
    random = np.random.default_rng(seed)
    logits = random.normal(size=(IMAGES, CLASSES)) * sharpness
    logits[:, 0] += favored
    values = np.exp(logits)
    return (values / values.sum(1, keepdims=True)).astype(np.float32)


@pytest.fixture
def run(tmp_path):
    """Materialize a prediction set with given class probabilities; the check's evaluation."""
    keys = [f"week{number}" for number in range(9)]

    def run(key, class_probs, **settings):
        ids = [f"image{row}" for row in range(IMAGES)]
        table = pa.table({"image_id": ids, "class_probs": list(class_probs)})
        pq.write_table(table, tmp_path / f"{key}.parquet")
        definitions = active_learning_definitions(
            pool="pool",
            predictions=PredictionFiles(tmp_path / "{partition_key}.parquet", "parquet", model=key),
            partitions_def=dg.StaticPartitionsDefinition(keys),
            acquisition_functions=["margin", "entropy"],
            limit=LIMIT,
            **settings,
        )
        result = dg.materialize(
            [*(definitions.assets or ()), *(definitions.asset_checks or ())],
            partition_key=key,
            resources={"duckdb": DuckDBResource(database=str(tmp_path / "a.duckdb"))},
        )
        found = {
            (each.asset_key.path[-1], each.check_name): each
            for each in result.get_asset_check_evaluations()
        }
        return found.get(("margin", "like_the_sets_before"))

    return run


def test_a_jump_warns_and_says_of_what(run):
    first = run("week0", probs(0))
    assert first.passed
    assert "no prediction set before" in first.description
    assert run("week1", probs(1)).passed, "another sample of the same is no jump"
    surer = run("week2", probs(2, sharpness=6))
    assert (surer.passed, surer.severity) == (False, dg.AssetCheckSeverity.WARN)
    assert "mean_uncertainty is" in surer.description
    # The same again, after a run that was off, is nearer to the mean; other classes are a jump.
    other = run("week3", probs(3, favored=4))
    assert not other.passed
    assert "share of class '0' is" in other.description
    assert other.metadata["largest_jump"].value > 0.1


def test_the_threshold_is_a_setting_and_null_is_no_check(run):
    run("week0", probs(0))
    assert run("week1", probs(1, sharpness=6), max_jump=0.9).passed
    assert run("week2", probs(2), max_jump=None) is None


def test_a_set_that_is_read_again_is_compared_with_the_others(run, tmp_path):
    run("week0", probs(0))
    first = run("week1", probs(1, sharpness=6))
    again = [run("week1", probs(1, sharpness=6)) for _ in range(2)]
    jump = first.metadata["largest_jump"].value
    assert jump > 0.1
    assert [each.metadata["largest_jump"].value for each in again] == [jump, jump]
    with existing_pool(str(tmp_path / "a.duckdb"), "pool") as store:

        def sets(name, **settings):
            found = last_rankings(store, name, "margin", **settings)
            return [each.prediction_set for each in found]

        assert sets("week1", count=5, one_per_set=True) == ["week1", "week0"]
        # A pool without partitions has one set, which is compared with what it was.
        assert sets("week1", count=5, one_per_set=False) == ["week1"] * 3 + ["week0"]
        assert sets("week1", count=1, one_per_set=False) == ["week1", "week1"]


def test_two_sets_are_compared_by_what_was_kept(run, tmp_path):
    before, after = probs(0), probs(1, sharpness=3, favored=1)
    run("week0", before)
    run("week1", probs(5))
    run("week2", after)
    database = str(tmp_path / "a.duckdb")
    compared = compare_prediction_sets(database, pool="pool", before="week0")
    assert compared["acquisition_function"].to_list() == ["entropy", "margin"]
    row = compared.row(1, named=True)
    assert (row["before"], row["after"], row["model_after"]) == ("week0", "week2", "week2")
    for name, values in (("before", before), ("after", after)):
        margins = np.sort(prediction_scores(values)["margin"])
        assert row[f"mean_uncertainty_{name}"] == pytest.approx(1 - margins.mean(), abs=1e-5)
        assert row[f"score_at_cut_{name}"] == pytest.approx(margins[LIMIT - 1], abs=1e-6)
        assert row[f"uncertainty_at_cut_{name}"] == pytest.approx(1 - margins[LIMIT - 1], abs=1e-6)
    shares = [np.bincount(each.argmax(1), minlength=CLASSES) / IMAGES for each in (before, after)]
    assert row["class_distance"] == pytest.approx(np.abs(shares[0] - shares[1]).sum() / 2)
    # By default the one just before; SQL has the same.
    newest = compare_prediction_sets(database, pool="pool")
    assert newest["before"].to_list() == ["week1", "week1"]
    with duckdb.connect(database, read_only=True) as connection:
        rows = connection.execute(
            "SELECT before, class_distance FROM pool.prediction_set_changes "
            "WHERE after = 'week2' AND sets_between = 1 ORDER BY acquisition_function"
        ).fetchall()
    assert rows == newest.select("before", "class_distance").rows()
    with pytest.raises(PoolStateError, match="no prediction set 'week7' to compare"):
        compare_prediction_sets(database, pool="pool", before="week7")
    with pytest.raises(PoolStateError, match="no prediction set to compare"):
        compare_prediction_sets(database, pool="pool", after="week0")
    # A set that is read again is compared with what it was; one that is deleted with nothing.
    run("week2", before)
    again = compare_prediction_sets(database, pool="pool", before="week2").row(1, named=True)
    assert again["score_at_cut_before"] == row["score_at_cut_after"]
    assert again["score_at_cut_after"] == row["score_at_cut_before"]
    delete_prediction_set(database, pool="pool", prediction_set="week2")
    assert compare_prediction_sets(database, pool="pool")["after"].to_list() == ["week1", "week1"]


def ranking(count=1_000, mean=0.5, cut=0.9, images=10**9, **shares):
    return KeptRanking("set", count, images, mean, cut, shares or {"a": 0.5, "b": 0.5})


JUMPS = {
    "nothing": (ranking(), [ranking()], [0, 0, 0]),
    "the mean of those before": (
        ranking(mean=0.7),
        [ranking(mean=0.4), ranking(mean=0.6)],
        [0.2, 0, 0],
    ),
    "the cut": (ranking(cut=0.5), [ranking(cut=0.9)], [0, 0.4, 0]),
    "other classes": (ranking(10**9, c=1.0), [ranking(10**9)], [0, 0, 1]),
    "shares weighted by their predictions": (
        ranking(10**9, a=0.5, b=0.5),
        [ranking(3 * 10**9, a=1.0), ranking(10**9, b=1.0)],
        [0, 0, 0.25],
    ),
    "scores that are missing": (ranking(mean=None), [ranking(cut=None)], [0]),
    "few images": (ranking(mean=0.9, images=12), [ranking(images=12)], [0.4 - 0.163, 0, 0]),
    "no images": (ranking(mean=0.9, images=0), [ranking()], [0, 0, 0]),
    "no predictions": (ranking(0), [ranking()], [0, 0, 1]),
    "no predictions and nothing else": (
        ranking(0, mean=None, cut=None),
        [ranking(), ranking(0)],
        [1],
    ),
    "no predictions, as before": (ranking(0, mean=None, cut=None), [ranking(0)], []),
    "the first predictions": (ranking(), [ranking(0, mean=None, cut=None)], []),
}


@pytest.mark.parametrize(("now", "before", "expected"), JUMPS.values(), ids=JUMPS)
def test_how_far_a_ranking_is_from_those_before(now, before, expected):
    assert [row["jump"] for row in jumps(now, before)] == pytest.approx(expected, abs=1e-3)


def test_chance_alone_is_seldom_a_jump():
    """Two samples of one distribution: beyond what is expected of them, little is left."""
    random = np.random.default_rng(0)
    shares = random.dirichlet(np.ones(10))
    names = [f"class{number}" for number in range(10)]

    def sample(n):
        counts = random.multinomial(n, shares)
        return ranking(n, **dict(zip(names, (counts / n).tolist(), strict=True)))

    distances = [jumps(sample(200), [sample(200)])[-1]["jump"] for _ in range(200)]
    assert np.quantile(distances, 0.99) < 0.1
    assert np.mean(distances) < 0.03
