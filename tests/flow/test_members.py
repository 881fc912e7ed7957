"""Members of a committee: which of them it is better without, as the labels say."""

# What a test expects to be there may be None for the types.
# pyright: reportOptionalMemberAccess=false

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dagster_active_learning import flow, read_predictions
from dagster_active_learning.evaluation.rules import EvaluationRules
from dagster_active_learning.rules import Rules
from dagster_active_learning.store.images import replace_images
from dagster_active_learning.store.score_statistics import MemberCounts, member_counts
from pools import in_memory, ingest, score
from ranked_pools import manifest

RULES = Rules(committee=True, in_manifest=True)
N_IMAGES, N_CLASSES = 600, 4
IDS = [f"image{number:04d}" for number in range(N_IMAGES)]
RANDOM = np.random.default_rng(11)
TRUTH = RANDOM.integers(N_CLASSES, size=N_IMAGES)


def network(strength):
    """Class probabilities that are right the more often the stronger the network is."""
    logits = RANDOM.normal(size=(N_IMAGES, N_CLASSES)) + strength * np.eye(N_CLASSES)[TRUTH]
    return np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)


MEMBERS = {"good": network(2.5), "also_good": network(2.5), "weak": network(-1.0)}


def table(ids, class_probs):
    schema_metadata = {"class_names": json.dumps([str(one) for one in range(N_CLASSES)])}
    rows = pa.table({"image_id": ids, "class_probs": list(np.asarray(class_probs))})
    return rows.replace_schema_metadata(schema_metadata)


def evaluated(store, stream):
    replace_images(store, manifest(IDS, dict(zip(IDS, map(str, TRUTH), strict=True))))
    ingest(store, stream, rules=RULES, in_manifest=True)
    score(store, rules=RULES, in_manifest=True)
    evaluation = EvaluationRules(labels_drawn_at_random=True)
    return flow.evaluate_rules(store, "set", rules=RULES, evaluation=evaluation, run_id="run")


def files_of(folder, missing=()):
    for name, class_probs in MEMBERS.items():
        ids = [each for each in IDS if not (name == "good" and each in missing)]
        kept = class_probs[[IDS.index(each) for each in ids]]
        pq.write_table(table(ids, kept), folder / f"{name}.parquet")
    return read_predictions(folder / "*.parquet", format="parquet")


def expected_rates(names):
    """The error rate of the committee without each of its members, in plain NumPy."""
    probs = np.array([MEMBERS[name] for name in names])
    return [
        float((np.delete(probs, place, 0).mean(axis=0).argmax(axis=1) != TRUTH).mean())
        for place in range(len(names))
    ]


def test_the_weak_one_of_several_files_is_named(store, tmp_path):
    report = evaluated(store, files_of(tmp_path))
    names = ["also_good", "good", "weak"]
    assert [each.name for each in report.members] == [f"{name}.parquet" for name in names]
    assert [each.effect.error_rate.value for each in report.members] == pytest.approx(expected_rates(names))  # fmt: skip
    own = [(MEMBERS[name].argmax(axis=1) != TRUTH).mean() for name in names]
    assert [each.error_rate for each in report.members] == pytest.approx(own)
    assert [each.vote_count for each in report.members] == [N_IMAGES] * 3
    assert [each.effect.is_weak for each in report.members] == [False, False, True]
    assert report.answer_about_members.startswith("the committee is better without weak.parquet (error rate -")  # fmt: skip
    assert {row.acquisition_function for row in report.rows} > {"mutual_information", "vote_entropy"}  # fmt: skip


def test_rows_of_one_file_are_members_by_their_place(store):
    """Here the weak one is the second of each image, and the images stand in any order."""
    order = np.random.default_rng(0).permutation(N_IMAGES)
    probs = np.stack([MEMBERS[name][order] for name in ("good", "weak", "also_good")], axis=1)
    ids = np.repeat(np.array(IDS)[order], 3)
    report = evaluated(store, in_memory(table(ids, probs.reshape(-1, N_CLASSES))))
    assert [each.name for each in report.members] == [f"prediction {n} of each image" for n in (1, 2, 3)]  # fmt: skip
    assert [each.effect.is_weak for each in report.members] == [False, True, False]
    rates = expected_rates(["good", "weak", "also_good"])
    assert [each.effect.error_rate.value for each in report.members] == pytest.approx(rates)


def test_a_member_that_is_missing_is_not_left_out_of_an_image(store, tmp_path):
    """Of a file it is known which one; by their place the others of an image are not known."""
    of_files = evaluated(store, files_of(tmp_path, missing=IDS[:100])).members
    assert {each.name: each.vote_count for each in of_files} == {"also_good.parquet": 600, "good.parquet": 500, "weak.parquet": 600}  # fmt: skip
    parts = [MEMBERS["good"][100:], MEMBERS["weak"], MEMBERS["also_good"]]
    of_rows = table(IDS[100:] + IDS + IDS, np.concatenate(parts))
    by_place = evaluated(store, in_memory(of_rows)).members
    assert [each.vote_count for each in by_place] == [500] * 3
    assert by_place[1].effect.is_weak


def test_parts_of_one_output_are_no_members(store, tmp_path):
    """Two files, and two predictions of each image, both in one file."""
    probs = np.stack([MEMBERS["good"], MEMBERS["weak"]], axis=1)
    for name, part in (("0", slice(0, 300)), ("1", slice(300, 600))):
        ids = np.repeat(np.array(IDS)[part], 2)
        pq.write_table(table(ids, probs[part].reshape(-1, N_CLASSES)), tmp_path / f"{name}.parquet")
    report = evaluated(store, read_predictions(tmp_path / "*.parquet", format="parquet"))
    assert [each.name for each in report.members] == [f"prediction {n} of each image" for n in (1, 2)]  # fmt: skip
    assert [each.vote_count for each in report.members] == [N_IMAGES] * 2


def test_a_row_that_is_there_twice_makes_no_other_member(store, tmp_path):
    files_of(tmp_path)
    twice = table([*IDS, IDS[0]], np.concatenate([MEMBERS["good"], MEMBERS["good"][:1]]))
    pq.write_table(twice, tmp_path / "good.parquet")
    report = evaluated(store, read_predictions(tmp_path / "*.parquet", format="parquet"))
    assert [each.vote_count for each in report.members] == [N_IMAGES, N_IMAGES + 1, N_IMAGES]
    assert member_counts(store, "set") == MemberCounts(members=3, most=4, images_with_fewer=0)


def test_one_member_is_no_committee(store):
    report = evaluated(store, in_memory(table(IDS, MEMBERS["good"])))
    assert (report.members, report.answer_about_members) == ([], None)


def test_lenet5_is_the_weak_one_of_three_real_networks(store, real_predictions):
    """Without it the others get 5.77 % wrong and not 6.25 %, and find errors by .935, not .872."""
    folder = real_predictions / "cifar10_networks"
    labels = np.load(folder / "labels.npy")
    ids = [f"image{number:05d}" for number in range(len(labels))]
    replace_images(store, manifest(ids, dict(zip(ids, map(str, labels), strict=True))))
    names = ("lenet5", "vgg16", "wideresnet")
    members = [np.load(folder / f"{name}_probabilities.npy") for name in names]
    rows = pa.table({"image_id": ids * 3, "class_probs": list(np.concatenate(members))})
    ingest(store, in_memory(rows), rules=RULES, in_manifest=True)
    score(store, rules=RULES, in_manifest=True)
    evaluation = EvaluationRules(labels_drawn_at_random=True)
    report = flow.evaluate_rules(store, "set", rules=RULES, evaluation=evaluation, run_id="run")
    lenet5, *others = report.members
    assert report.error_rate.value == pytest.approx(0.0625)
    assert lenet5.error_rate == pytest.approx(0.4692)
    assert lenet5.effect.error_rate.value == pytest.approx(0.0577)
    assert lenet5.effect.auroc.value == pytest.approx(0.9350, abs=5e-5)
    assert lenet5.effect.auroc.difference == pytest.approx(0.0627, abs=5e-5)
    assert lenet5.effect.is_weak
    assert not any(each.effect.is_weak for each in others)
    assert report.answer_about_members.startswith("the committee is better without prediction 1 of each image")  # fmt: skip
