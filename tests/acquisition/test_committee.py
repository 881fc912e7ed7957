"""Committees: functions of the mean of the votes and of the members, against plain NumPy."""

import numba
import numpy as np
import pyarrow as pa
import pytest

from dagster_active_learning import score_images
from dagster_active_learning.acquisition.batches import (
    adjacent_images,
    score_batch,
    score_predictions,
)
from dagster_active_learning.acquisition.kernels import add_votes_by_image
from dagster_active_learning.acquisition.schemas import prediction_batch_schema
from dagster_active_learning.errors import SettingError
from dagster_active_learning.rules import Rules
from reference import prediction_scores

FUNCTIONS = ("entropy", "least_confidence", "margin", "variance")
MEMBERS = ("mutual_information", "vote_entropy")
COMMITTEES = [Rules(committee=True, inputs=i) for i in ("probabilities", "logits", "independent")]


def votes(rules, ids, n_classes=4, value_type=None):
    """One vote about each id, in the order of the ids."""
    random = np.random.default_rng(len(ids))
    independent = rules.inputs == "independent"
    rows = random.random((len(ids), n_classes)) if independent else random.dirichlet(np.ones(n_classes) / 2, len(ids))  # fmt: skip
    schema = prediction_batch_schema(value_type or pa.float64())
    return pa.record_batch([pa.array(ids), rows.tolist(), [None] * len(ids)], schema=schema)


def scores_of_mean(members, rules):
    """The scores of the mean of an image's votes: added one after the other, as Python adds."""
    total = np.zeros(len(members[0]))
    for member in members:
        total = total + np.asarray(member, np.float64)
    mean = total / len(members)
    scores = {name: float(prediction_scores([mean])[name][0]) for name in FUNCTIONS}
    independent = rules.inputs == "independent"

    def entropy(probs):
        if not independent:
            return prediction_scores([probs])["entropy"][0]
        return prediction_scores([[p, 1 - p] for p in probs])["entropy"].sum()

    votes = [
        np.asarray(member) > 0.5 if independent else np.eye(len(mean))[np.argmax(member)]
        for member in members
    ]
    scores["entropy"] = entropy(mean)
    scores["mutual_information"] = entropy(mean) - np.mean([entropy(each) for each in members])
    scores["vote_entropy"] = entropy(np.mean(votes, axis=0))
    return scores


def assert_committee(images, batch, rules):
    members = {}
    for row in batch.to_pylist():
        members.setdefault(row["image_id"], []).append(row["class_probs"])
    assert images.column("image_id").to_pylist() == list(members)
    for row in images.to_pylist():
        of_image = members[row["image_id"]]
        assert row["prediction_count"] == len(of_image)
        assert row["mean_object_score"] is None
        expected = scores_of_mean(of_image, rules)
        assert {name: row[name] for name in expected} == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("rules", COMMITTEES, ids=str)
@pytest.mark.parametrize("value_type", [pa.float32(), pa.float64()], ids=str)
def test_the_mean_of_votes_anywhere_in_a_batch_is_scored(rules, value_type):
    """In float64, whatever the precision of the votes."""
    ids = [f"image{n}" for n in np.random.default_rng(0).integers(0, 12, 60)] + ["alone"]
    batch = votes(rules, ids, value_type=value_type)
    assert_committee(score_batch(batch, rules), batch, rules)


@pytest.mark.parametrize("rules", COMMITTEES, ids=str)
@pytest.mark.parametrize("value_type", [pa.float32(), pa.float64()], ids=str)
@pytest.mark.parametrize("batch_rows", [1, 7, 60])
def test_votes_across_the_ends_of_batches_have_the_same_bits(rules, value_type, batch_rows):
    ids = [f"image{row // 4}" for row in range(57)] + ["alone", "last", "last"]
    whole = votes(rules, ids, value_type=value_type)
    parts = [whole.slice(start, batch_rows) for start in range(0, 60, batch_rows)]
    scored = (score_predictions(part, rules) for part in [whole[:0], *parts, whole[:0]])
    images = pa.Table.from_batches(list(adjacent_images(scored, rules)))
    assert images.combine_chunks().to_batches() == [score_batch(whole, rules)]


@pytest.mark.parametrize(("n_images", "n_classes"), [(40_000, 3), (40, 2_000)])
def test_many_votes_of_many_classes(n_images, n_classes):
    """More than are added at a time."""
    rules = Rules(committee=True)
    random = np.random.default_rng(0)
    members = random.dirichlet(np.ones(n_classes), (3, n_images)).astype(np.float32)
    ids = np.tile(np.arange(n_images), 3)
    scores = score_images(members.reshape(-1, n_classes), ids, committee=True)
    expected = prediction_scores(members.astype(np.float64).mean(axis=0))
    for name in FUNCTIONS:
        np.testing.assert_allclose(scores[name], expected[name], atol=1e-11, err_msg=name)
    assert rules.committee


def test_votes_that_agree_give_what_each_of_them_gives():
    rows = np.random.default_rng(0).dirichlet(np.ones(5), 20)
    together = score_images(np.repeat(rows, 3, axis=0), np.repeat(np.arange(20), 3), committee=True)
    alone = score_images(rows)
    for name in FUNCTIONS:
        np.testing.assert_allclose(together[name], alone[name], atol=1e-15)
    assert together["prediction_count"].to_list() == [3] * 20
    for name in MEMBERS:
        assert together[name].is_between(0, 1e-15).all()
        assert name not in alone.columns


@pytest.mark.parametrize("threads", [1, 2])
def test_members_in_any_order_of_the_images_have_the_same_bits(threads):
    random = np.random.default_rng(5)
    members = random.dirichlet(np.ones(7), (4, 3_000)).astype(np.float32)
    ids = np.tile(np.arange(3_000), 4)
    before = numba.get_num_threads()
    numba.set_num_threads(min(threads, before))
    try:
        by_member = score_images(members.reshape(-1, 7), ids, committee=True)
        by_image = score_images(
            members.transpose(1, 0, 2).reshape(-1, 7),
            np.repeat(np.arange(3_000), 4),
            committee=True,
        )
    finally:
        numba.set_num_threads(before)
    assert by_member.equals(by_image)


def test_equal_votes_for_other_classes_are_a_tie():
    """Their shares are added up in one order: a third and two thirds are .918 and not nearly so."""
    votes = np.eye(10)[[[0, 0, 9], [3, 9, 3], [5, 1, 1], [9, 8, 9]]].reshape(-1, 10)
    scores = score_images(votes, np.repeat(np.arange(4), 3), committee=True)
    assert scores["vote_entropy"].n_unique() == 1


def test_members_that_contradict_each_other_are_uncertain_together():
    """Where the mean of their own scores calls the image certain."""
    class_probs, ids = np.array([[0.9, 0.1], [0.1, 0.9]]), ["a", "a"]
    assert score_images(class_probs, ids)["margin"].to_list() == pytest.approx([0.8])
    assert score_images(class_probs, ids, committee=True)["margin"].to_list() == [0.0]


@pytest.mark.parametrize("tolerance", [0.01, 0.1, 0.5])
def test_votes_as_far_off_as_they_may_be_have_scores(tolerance):
    """Rounding carries the mean of three of them a step beyond."""
    rows = np.random.default_rng(1).dirichlet(np.ones(3), 5_000)
    rows[:, 0] += np.nextafter(1 + tolerance, 0) - rows.sum(axis=1)
    rows = rows[np.abs(rows.cumsum(axis=1)[:, -1] - 1) <= tolerance]
    beyond = np.abs(((rows + rows + rows) / 3).cumsum(axis=1)[:, -1] - 1) > tolerance
    assert beyond.any()
    votes_of_images = np.repeat(rows, 3, axis=0), np.repeat(np.arange(len(rows)), 3)
    scores = score_images(*votes_of_images, sum_tolerance=tolerance, committee=True)
    assert scores["margin"].null_count() == 0


def test_a_vote_that_is_no_probability_is_named():
    class_probs = [[0.5, 0.5], [0.5, 0.25], [0.5, 0.5]]
    with pytest.raises(ValueError, match=r"class_probs: row 1 is .*, which sums to 0.75"):
        score_images(np.array(class_probs), ["a", "a", "b"], committee=True)


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"votes": np.zeros((2, 3), np.int64)}, TypeError, "votes must be float32 or float64"),
        ({"entropies": np.zeros(3)}, ValueError, r"entropies must have shape \(2,\)"),
        ({"totals": np.zeros((1, 6))}, ValueError, r"totals must have shape \(1, 7\)"),
        ({"image_index": np.array([0, 1])}, IndexError, r"in \[0, 1\), but row 1 is 1"),
    ],
)
def test_votes_that_cannot_be_added_are_refused(changes, error, words):
    arrays = {
        "votes": np.full((2, 3), 1 / 3),
        "entropies": np.zeros(2),
        "image_index": np.zeros(2, np.int64),
        "totals": np.zeros((1, 7)),
        "counts": np.zeros(1, np.int64),
    }
    with pytest.raises(error, match=words):
        add_votes_by_image(**arrays | changes)


def test_no_votes_are_no_images():
    assert score_images(np.empty((0, 3)), [], committee=True).height == 0


@pytest.mark.parametrize("options", [{}, {"image_ids": ["a"], "scores": [0.5]}])
def test_votes_are_about_images(options):
    with pytest.raises(ValueError, match="^committee: the votes are class probabilities"):
        score_images(np.array([[0.5, 0.5]]), committee=True, **options)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"task": "detection"}, "committee is True, but task is 'detection'"),
        ({"task": "segmentation"}, "committee is True, but task is 'segmentation'"),
        ({"aggregation": "max"}, "committee is True, but aggregation is 'max'"),
        ({"committee": "yes"}, "committee is 'yes', expected true or false"),
    ],
)
def test_only_images_have_committees(settings, words):
    with pytest.raises(SettingError, match=words):
        Rules(**{"committee": True, **settings})


def test_three_networks_of_cifar10(real_predictions):
    """Means published beside the matrices, computed with plain NumPy."""
    folder = real_predictions / "cifar10_networks"
    networks = ("lenet5", "vgg16", "wideresnet")
    members = [np.load(folder / f"{name}_probabilities.npy") for name in networks]
    before = [member.copy() for member in members]
    ids = np.tile(np.arange(10_000), 3)
    scores = score_images(np.concatenate(members), ids, committee=True)
    assert scores["entropy"].mean() == pytest.approx(0.9837287907, abs=1e-9)
    assert scores["least_confidence"].mean() == pytest.approx(0.2177145951, abs=1e-9)
    assert scores["margin"].mean() == pytest.approx(0.6516814195, abs=1e-9)
    expected = prediction_scores(np.mean([member.astype(np.float64) for member in members], axis=0))
    for name in FUNCTIONS:
        np.testing.assert_allclose(scores[name], expected[name], atol=1e-12, err_msg=name)
    assert scores["mutual_information"].mean() == pytest.approx(0.4239983274, abs=1e-9)
    assert scores["vote_entropy"].mean() == pytest.approx(0.4831587433, abs=1e-9)
    probs = np.array(members, np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        divergence = np.where(probs > 0, probs * np.log2(probs / probs.mean(axis=0)), 0)
    np.testing.assert_allclose(
        scores["mutual_information"], divergence.sum(axis=2).mean(axis=0), atol=1e-12
    )
    counts = scores["vote_entropy"].round(8).value_counts().sort("vote_entropy").rows()
    assert counts == [(0.0, 5087), (0.91829583, 4433), (1.5849625, 480)]
    for member, same in zip(members, before, strict=True):
        np.testing.assert_array_equal(member, same)
