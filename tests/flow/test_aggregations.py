"""What an image's score is of its objects': each finds the errors of three real detectors."""

import json
from collections import defaultdict

import polars as pl
import pytest

from dagster_active_learning import ACQUISITION_FUNCTIONS, flow, read_predictions
from dagster_active_learning.rules import Rules
from dagster_active_learning.store.images import replace_images
from pools import ingest, score
from ranked_pools import manifest

DETECTORS = ("faster_rcnn_resnet50", "rfcn_resnet101", "ssd_inception_v2")
SUMS = dict(zip(DETECTORS, (0.9749, 0.9495, 0.8769), strict=True))
MEANS = dict(zip(DETECTORS, (0.9169, 0.8944, 0.8194), strict=True))
MEANS_EMPTY_LAST = dict(zip(DETECTORS, (0.9530, 0.9245, 0.8417), strict=True))
FUNCTIONS = ("entropy", "least_confidence", "margin", "variance", "mean_object_score")


def overlap(box, other):
    """Intersection over union of two boxes x, y, width, height."""
    width = min(box[0] + box[2], other[0] + other[2]) - max(box[0], other[0])
    height = min(box[1] + box[3], other[1] + other[3]) - max(box[1], other[1])
    if width <= 0 or height <= 0:
        return 0.0
    both = width * height
    return both / (box[2] * box[3] + other[2] * other[3] - both)


def images_with_an_error(instances, detections):
    """Images with a false positive or a false negative: IoU >= .5, same class, highest first."""
    truth, found = defaultdict(list), defaultdict(list)
    for annotation in instances["annotations"]:
        truth[annotation["image_id"]].append(annotation)
    for detection in detections:
        found[detection["image_id"]].append(detection)
    wrong = set()
    for image in instances["images"]:
        left = list(truth[image["id"]])
        for detection in sorted(found[image["id"]], key=lambda one: -one["score"]):
            matches = [
                (overlap(detection["bbox"], one["bbox"]), place)
                for place, one in enumerate(left)
                if one["category_id"] == detection["category_id"]
            ]
            best, place = max(matches, default=(0.0, -1))
            if best < 0.5:
                wrong.add(image["id"])
            else:
                del left[place]
        if left:
            wrong.add(image["id"])
    return wrong


def auroc(places, is_positive):
    """How often a positive image comes before another one: from ranks 1, 2, …"""
    n_positive = is_positive.sum()
    n_negative = len(places) - n_positive
    above = len(places) + 1 - places
    area = above[is_positive].sum() - n_positive * (n_positive + 1) / 2
    return area / (n_positive * n_negative)


@pytest.mark.parametrize("detector", DETECTORS)
def test_every_aggregation_of_every_function_finds_errors(store, real_predictions, detector):
    folder = real_predictions / "coco_detections"
    path = folder / f"{detector}_results.json"
    instances = json.loads((folder / "instances.json").read_text())
    wrong = images_with_an_error(instances, json.loads(path.read_text()))
    ids = [str(image["id"]) for image in instances["images"]]
    replace_images(store, manifest(ids))
    is_wrong = pl.DataFrame({"image_id": ids, "wrong": [int(one) in wrong for one in ids]})
    detection = {"task": "detection", "score_only": "binary", "in_manifest": True}
    ingest(store, read_predictions(path, format="coco"), rules=Rules(**detection), in_manifest=True)

    def areas(**settings):
        rules = Rules(**detection, **settings)
        functions = [ACQUISITION_FUNCTIONS[name] for name in FUNCTIONS]
        flow.rank_candidates(store, "set", functions, rules=rules, limit=None, seed=0, run_id="run")
        ranked = store.connection.sql("SELECT acquisition_function, rank, image_id FROM labeling_candidates").pl()  # fmt: skip
        for (name,), of_function in ranked.join(is_wrong, on="image_id").group_by(
            "acquisition_function"
        ):
            assert of_function.height == len(ids)
            places = of_function["rank"].to_numpy().astype(float)
            yield name, auroc(places, of_function["wrong"].to_numpy())

    expected = {
        ("mean", None): MEANS,
        ("mean", "last"): MEANS_EMPTY_LAST,
        ("sum", None): SUMS,
        ("max", None): None,
        ("min", None): None,
    }
    for (aggregation, empty), published in expected.items():
        scores = score(store, rules=Rules(**detection, aggregation=aggregation), in_manifest=True)
        found = dict(areas(aggregation=aggregation, images_without_predictions=empty))
        assert found.keys() == set(FUNCTIONS)
        assert min(found.values()) > 0.5, (found, aggregation, empty)
        if published is not None:
            assert found["mean_object_score"] == pytest.approx(published[detector], abs=2e-4)
        without = scores.filter(pl.col("prediction_count") == 0)["mean_object_score"]
        assert without.to_list() == [0.0] * {"f": 7, "r": 13, "s": 21}[detector[0]]
