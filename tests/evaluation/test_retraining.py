"""Replay: what each rule would have chosen, and models trained on it, seed by seed."""

import io
import math
from itertools import pairwise

import numpy as np
import pytest
from scipy import stats
from sklearn.datasets import load_breast_cancer
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from dagster_active_learning import evaluation
from dagster_active_learning.evaluation import Replay, replay

RANDOM = np.random.default_rng(0)
LABELS = RANDOM.integers(0, 3, 60)
IMAGES = LABELS[:, None] + RANDOM.normal(scale=0.6, size=(60, 2))
DATA = {
    "images": IMAGES[:40],
    "labels": LABELS[:40],
    "test_images": IMAGES[40:],
    "test_labels": LABELS[40:],
}


def nearest_means(images, labels, wanted, seed):
    """Class probabilities by the distance to the mean of each class."""
    means = np.array([images[labels == k].mean(axis=0) if (labels == k).any() else [9, 9] for k in range(3)])  # fmt: skip
    powers = np.exp(-((wanted[:, None] - means) ** 2).sum(axis=2))
    return powers / powers.sum(axis=1, keepdims=True)


def replayed(trainer=nearest_means, rules=("margin", "random"), **options):
    settings = {"start": 5, "batch": 3, "rounds": 4, "seeds": (0, 1, 2), "report": lambda _: None}
    return replay(trainer, rules=rules, **{**DATA, **settings, **options})


def test_each_rule_asks_for_what_it_ranks_first_and_never_twice():
    calls = []

    def trainer(images, labels, wanted, seed):
        calls.append((images, wanted, seed))
        return nearest_means(images, labels, wanted, seed)

    found = replayed(trainer, ["margin"], seeds=[7])
    assert found.label_counts.tolist() == [5, 8, 11, 14, 17]
    assert [len(images) for images, _, _ in calls] == found.label_counts.tolist()
    assert {seed for _, _, seed in calls} == {7}
    for (images, wanted, _), (later, _, _) in pairwise(calls):
        np.testing.assert_array_equal(later[: len(images)], images)
        labels = np.array([DATA["labels"][np.flatnonzero((DATA["images"] == row).all(axis=1))[0]] for row in images])  # fmt: skip
        class_probs = np.sort(nearest_means(images, labels, wanted[20:], 7), axis=1)
        margin = class_probs[:, -1] - class_probs[:, -2]
        expected = wanted[20:][np.argsort(margin, kind="stable")[:3]]
        np.testing.assert_array_equal(later[len(images) :], expected)
        assert len(np.unique(later, axis=0)) == len(later)


def test_rules_begin_alike_with_a_seed_and_the_same_seed_gives_the_same():
    one, same = replayed(), replayed()
    for rule in ("margin", "random"):
        np.testing.assert_array_equal(one.accuracies[rule], same.accuracies[rule])
    first = [one.accuracies[rule][:, 0].tolist() for rule in one.accuracies]
    assert first[0] == first[1]
    assert one.accuracies["margin"].shape == (3, 5)
    given = replayed(start=[3, 1, 2, 0, 4])
    assert len(set(given.accuracies["margin"][:, 0])) == 1


def test_a_rule_of_ones_own_sees_what_the_others_see():
    def margin(asked, count):
        assert len(asked.unlabeled) + len(asked.labeled) == 40
        ordered = np.sort(asked.class_probs, axis=1)
        return asked.unlabeled[np.argsort(ordered[:, -1] - ordered[:, -2], kind="stable")[:count]]

    own = replayed(rules={"my own": margin})
    np.testing.assert_allclose(own.accuracies["my own"], replayed().accuracies["margin"])


def test_a_terminal_has_a_bar(monkeypatch):
    shown = io.StringIO()
    shown.isatty = lambda: True
    monkeypatch.setattr("sys.stderr", shown)
    replayed(report=None)
    *_, first, last = shown.getvalue().split("\r")
    assert first.startswith("█" * 25 + "·" * 5 + " replayed margin with seed 2: 5 of 6")
    assert last.startswith("█" * 30 + " replayed random with seed 2: 6 of 6")
    assert last.endswith("\n")


@pytest.mark.parametrize(
    ("random", "words"),
    [
        ([0.2, 0.3, 0.3], "margin trained better models than random (-43.33 points of area, 95 % interval "),
        ([0.9, 0.9, 0.8], "random (+16.67 points of area, 95 % interval "),
        ([0.9, 0.6, 0.7], "no difference found, keep margin (3 seeds)"),
    ],
)  # fmt: skip
def test_the_answer_is_what_the_intervals_say(random, words):
    margin = np.array([[0.7, 0.7], [0.7, 0.7], [0.7, 0.7]])
    curves = {"margin": margin, "random": np.array([[each, each] for each in random])}
    answer = Replay(np.array([10, 20]), [0, 1, 2], curves).answer()
    assert answer.startswith(words)
    assert answer.endswith("3 seeds" + ")" * words.startswith("no"))


def test_areas_differences_and_intervals_are_those_of_scipy():
    accuracies = {"margin": np.array([[0.5, 0.7, 0.8], [0.4, 0.8, 0.9], [0.5, 0.6, 0.6]]), "random": np.array([[0.5, 0.6, 0.7], [0.4, 0.7, 0.7], [0.5, 0.5, 0.6]])}  # fmt: skip
    found = Replay(np.array([10, 20, 30]), [0, 1, 2], accuracies)
    assert found.areas("margin").tolist() == pytest.approx([0.675, 0.725, 0.575])
    difference = found.areas("margin") - found.areas("random")
    interval = found.difference("margin", "random")
    expected = stats.t.interval(0.95, 2, loc=difference.mean(), scale=stats.sem(difference))
    assert (interval.low, interval.high) == pytest.approx(expected, rel=1e-3)
    rows = found.table("random")
    assert [row["rule"] for row in rows] == ["margin", "random"]
    assert (rows[1]["difference"], rows[1]["difference_low"]) == (0, 0)
    assert rows[0]["last_accuracy"] == pytest.approx(2.3 / 3)
    assert [round(each.mean, 4) for each in found.curve("random")] == [0.4667, 0.6, 0.6667]
    assert math.isnan(replayed(seeds=[0]).difference("margin", "random").low)
    with pytest.raises(ValueError, match="against is 'entropy', expected one of margin, random"):
        found.table("entropy")


def test_interrupted_it_goes_on_where_it_was(tmp_path):
    file = tmp_path / "progress.jsonl"
    expected, trained, told = replayed(), [], []

    def breaks_off(images, labels, wanted, seed):
        trained.append(seed)
        if len(trained) > 12:
            raise KeyboardInterrupt
        return nearest_means(images, labels, wanted, seed)

    with pytest.raises(KeyboardInterrupt):
        replayed(breaks_off, progress=file)
    with file.open("a") as opened:
        opened.write('{"replay": "cut')  # What a killed process leaves.
    trained.clear()

    def counted(images, labels, wanted, seed):
        trained.append(seed)
        return nearest_means(images, labels, wanted, seed)

    found = replayed(counted, progress=file, report=told.append)
    assert len(trained) == 4 * 5  # Two of six pairs were there.
    assert told[-1] == "replayed random with seed 2: 6 of 6"
    for rule, curves in expected.accuracies.items():
        np.testing.assert_array_equal(found.accuracies[rule], curves)
    trained.clear()
    replayed(counted, progress=file)
    assert trained == []
    with pytest.raises(ValueError, match="of another replay: other labels, start, batch or rounds"):
        replayed(progress=file, rounds=3)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"rules": ["margin", "mean_object_score"]}, "expected different ones of"),
        ({"rules": []}, "expected different ones of"),
        ({"rules": ["margin", "margin"]}, "expected different ones of"),
        ({"rounds": 20}, "ask for 65 of 40 images"),
        ({"batch": 0}, "expected at least 1 each"),
        ({"rules": {}}, "rules is empty"),
        ({"rules": {"same": lambda asked, count: asked.unlabeled[[0] * count]}}, "was asked for 3 images in round 0 and returned 3, of which 1"),
        ({"rules": {"labeled": lambda asked, count: asked.labeled[:count]}}, "of which 0 are"),
        ({"trainer": lambda *_: np.zeros(3)}, r"the trainer returned the shape \(3,\) for 55 images"),
        ({"trainer": lambda _i, _l, wanted, _s: np.full((len(wanted), 3), 0.9)}, "do not add up to 1"),
    ],
)  # fmt: skip
def test_a_replay_that_cannot_be_is_refused(options, words):
    with pytest.raises(ValueError, match=words):
        replayed(**options)


PUBLISHED = [0.97213, 0.97495, 0.9709, 0.94278, 0.97169, 0.95274, 0.96851, 0.9684]
"""Areas of margin on the data set wdbc for the seeds 0, 1, 2, … of a published benchmark."""


def published_protocol(seed):
    """github.com/ariapoy/active-learning-benchmark: its split, model and measure."""
    features, labels = load_breast_cancer(return_X_y=True)
    order = np.arange(labels.size)
    np.random.default_rng(seed).shuffle(order)
    n_train = int(0.6 * labels.size)
    train, test = order[:n_train], order[n_train:]
    begun = np.arange(n_train)
    np.random.default_rng(seed).shuffle(begun)
    scaler = StandardScaler().fit(features[train])

    def trainer(images, known, wanted, _):
        model = SVC(kernel="rbf", gamma="auto", C=1).fit(images, known)
        second = 1 / (1 + np.exp(-model.decision_function(wanted)))
        return np.stack([1 - second, second], axis=1)

    found = replay(
        trainer,
        scaler.transform(features[train]),
        labels[train],
        ["margin"],
        test_images=scaler.transform(features[test]),
        test_labels=labels[test],
        start=begun[:20],
        batch=1,
        rounds=n_train - 20,
        seeds=[seed],
        report=lambda _: None,
    )
    # The published area leaves out the model before the first query, and counts its query.
    after = found.accuracies["margin"][0, 1:]
    return float(np.trapezoid(after) / after.size)


@pytest.mark.slow
def test_a_published_benchmark_comes_out():
    areas = [published_protocol(seed) for seed in range(30)]
    assert areas[: len(PUBLISHED)] == pytest.approx(PUBLISHED, abs=5e-5)
    assert np.mean(areas) == pytest.approx(0.9653, abs=1e-4)


def test_every_public_name_is_there():
    """None is hidden by a module of the same name."""
    for name, module in evaluation._MODULES.items():
        assert getattr(evaluation, name).__module__ == f"{evaluation.__name__}.{module}"
    assert evaluation._MODULES.keys() <= {*dir(evaluation)}
    with pytest.raises(AttributeError, match="has no attribute 'auc'"):
        evaluation.auc  # noqa: B018 # pyright: ignore[reportAttributeAccessIssue]
