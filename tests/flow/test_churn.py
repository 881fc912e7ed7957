"""What changes from one prediction set to another, from a pool's tables."""

import json

import numpy as np
import pyarrow as pa
import pytest

from dagster_active_learning import ACQUISITION_FUNCTIONS, flow
from dagster_active_learning.errors import PoolStateError
from dagster_active_learning.rules import Rules
from dagster_active_learning.store.images import replace_images
from pools import in_memory, ingest
from ranked_pools import manifest


def test_two_networks_of_cifar10(store, real_predictions):
    """934 of 10,000 images change their class: 289 new errors, 539 are fixed."""
    folder = real_predictions / "cifar10_networks"
    ids = [str(number) for number in range(10_000)]
    labels = [str(label) for label in np.load(folder / "labels.npy")]
    replace_images(store, manifest(ids, dict(zip(ids, labels, strict=True))))
    rules = Rules(in_manifest=True)
    for name in ("wideresnet", "vgg16"):
        class_probs = np.load(folder / f"{name}_probabilities.npy")
        lists = pa.FixedSizeListArray.from_arrays(pa.array(class_probs.ravel()), 10)
        table = pa.table({"image_id": ids, "class_probs": lists.cast(pa.list_(pa.float32()))})
        ingest(store, in_memory(table), in_manifest=True, prediction_set=name)
        flow.score_prediction_set(store, name, rules=rules, run_id="run", report=lambda _: None)
    report = flow.churn_report(store, "vgg16", functions=[ACQUISITION_FUNCTIONS["margin"]])
    assert report is not None
    churn = report.churn
    assert (report.before, churn.image_count, churn.changed_count) == ("wideresnet", 10_000, 934)
    assert (churn.wrong_changed, churn.new_errors, churn.fixed) == (395, 289, 539)
    assert churn.wrong_changed / churn.labeled_changed == pytest.approx(0.42, abs=0.005)
    assert churn.wrong_unchanged / (10_000 - 934) == pytest.approx(0.027, abs=5e-4)
    assert len(report.changed_images) == 24
    assert all(each.before == each.label != each.after for each in report.changed_images)
    assert flow.churn_report(store, "wideresnet", functions=[]) is None


def test_images_that_only_one_of_two_queues_asks_for(store):
    ids = [f"image{number}" for number in range(40)]
    random = np.random.default_rng(0)
    orders = {name: random.permutation(40) for name in ("may", "june")}
    margin = ACQUISITION_FUNCTIONS["margin"]
    for name, order in orders.items():
        probs = [[0.5 + rank / 100, 0.5 - rank / 100] for rank in np.argsort(order)]
        ingest(store, in_memory(pa.table({"image_id": ids, "class_probs": probs})), prediction_set=name)  # fmt: skip
        flow.score_prediction_set(store, name, rules=Rules(), run_id="run", report=lambda _: None)
        flow.rank_candidates(store, name, [margin], rules=Rules(), limit=None, seed=0, run_id="run")
    report = flow.churn_report(store, "june", functions=[margin], first=10)
    assert report is not None
    (change,) = report.functions
    may, june = ([ids[place] for place in orders[name][:10]] for name in ("may", "june"))
    assert (change.candidates, change.common_candidates, change.first) == (40, 40, 10)
    assert change.common_first == len({*may} & {*june})
    assert [row["image_id"] for row in change.only_after] == [one for one in june if one not in may]
    assert [row["image_id"] for row in change.only_before] == [one for one in may if one not in june]  # fmt: skip
    places = {one: place for place, one in enumerate(np.array(ids)[orders["may"]], 1)}
    assert all(row["other_rank"] == places[row["image_id"]] > 10 for row in change.only_after)


def two_sets(store, before, after, labels, *, score_before=True):
    """Sets of images a, b, …, each given by its classes and, in their order, the likeliest ones."""
    ids = [chr(ord("a") + place) for place in range(len(labels))]
    replace_images(store, manifest(ids, dict(zip(ids, labels, strict=True))))
    for name, (names, classes) in {"may": before, "june": after}.items():
        probs = [[0.9 if each == one else 0.05 for each in names] for one in classes]
        probs = [[value / sum(row) for value in row] for row in probs]
        table = pa.table({"image_id": ids, "class_probs": probs})
        table = table.replace_schema_metadata({"class_names": json.dumps(names)})
        ingest(store, in_memory(table), prediction_set=name)
        if name == "june" or score_before:
            flow.score_prediction_set(
                store, name, rules=Rules(), run_id="run", report=lambda _: None
            )


def test_a_class_that_the_new_model_does_not_know_is_a_new_error(store):
    two_sets(
        store, (["cat", "fox"], ["fox", "cat"]), (["dog", "cat"], ["cat", "cat"]), ["fox", "cat"]
    )
    report = flow.churn_report(store, "june", functions=[])
    assert report is not None
    assert (report.churn.labeled_count, report.churn.new_errors, report.churn.fixed) == (2, 1, 0)
    (changed,) = report.changed_images
    assert (changed.image_id, changed.before, changed.after, changed.label) == (
        "a", "fox", "cat", "fox",
    )  # fmt: skip


def test_a_set_without_scores_is_not_taken_for_one_without_a_change(store):
    classes = (["cat", "fox"], ["cat", "fox"])
    two_sets(store, classes, classes, ["cat", "fox"], score_before=False)
    with pytest.raises(PoolStateError, match="'may' .* no scores .*materialize pool/image_scores"):
        flow.churn_report(store, "june", functions=[])


def test_images_that_were_labeled_since_are_in_neither_queue(store):
    margin = ACQUISITION_FUNCTIONS["margin"]
    ids = [f"image{number}" for number in range(9)]
    probs = [[0.5 + place / 100, 0.5 - place / 100] for place in range(9)]
    table = pa.table({"image_id": ids, "class_probs": probs})
    for name, labels in (("may", {}), ("june", dict.fromkeys(ids[:3], "0"))):
        replace_images(store, manifest(ids, labels))
        rules = Rules(in_manifest=True)
        ingest(store, in_memory(table), in_manifest=True, prediction_set=name)
        flow.score_prediction_set(store, name, rules=rules, run_id="run", report=lambda _: None)
        flow.rank_candidates(store, name, [margin], rules=rules, limit=5, seed=0, run_id="run")
    report = flow.churn_report(store, "june", functions=[margin], first=2)
    assert report is not None
    (change,) = report.functions
    assert (change.first, change.common_first) == (2, 2)
    assert (change.only_before, change.only_after) == ([], [])
