"""What changes from one prediction set to another, from a pool's tables."""

import numpy as np
import pyarrow as pa

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
    assert flow.compare_prediction_sets(store, "wideresnet", functions=[]) is None
