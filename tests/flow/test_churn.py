"""What changes from one prediction set to another, from a pool's tables."""

import numpy as np
import pyarrow as pa
import pytest

from dagster_active_learning import ACQUISITION_FUNCTIONS, flow
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
    report = flow.compare_prediction_sets(
        store, "vgg16", functions=[ACQUISITION_FUNCTIONS["margin"]]
    )
    assert report is not None
    churn = report.churn
    assert (report.before, churn.image_count, churn.changed_count) == ("wideresnet", 10_000, 934)
    assert (churn.wrong_changed, churn.new_errors, churn.fixed) == (395, 289, 539)
    assert churn.wrong_changed / churn.labeled_changed == pytest.approx(0.42, abs=0.005)
    assert churn.wrong_unchanged / (10_000 - 934) == pytest.approx(0.027, abs=5e-4)
    assert len(report.changed_images) == 24
    assert all(each.before == each.label != each.after for each in report.changed_images)
    assert flow.compare_prediction_sets(store, "wideresnet", functions=[]) is None


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
    report = flow.compare_prediction_sets(store, "june", functions=[margin], first=10)
    assert report is not None
    (change,) = report.functions
    may, june = ([ids[place] for place in orders[name][:10]] for name in ("may", "june"))
    assert (change.candidates, change.common_candidates, change.first) == (40, 40, 10)
    assert change.common_first == len({*may} & {*june})
    assert [row["image_id"] for row in change.only_after] == [one for one in june if one not in may]
    assert [row["image_id"] for row in change.only_before] == [one for one in may if one not in june]  # fmt: skip
    places = {one: place for place, one in enumerate(np.array(ids)[orders["may"]], 1)}
    assert all(row["other_rank"] == places[row["image_id"]] > 10 for row in change.only_after)
