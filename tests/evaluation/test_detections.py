"""Matching of detections with boxes: what pycocotools does, without what it leaves out."""

import contextlib
import io
import json

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from dagster_active_learning.evaluation import (
    Boxes,
    auroc,
    errors_per_box,
    match_detections,
)

N_IMAGES = 6


def judged(instances, results, least=0.5):
    """TP, FP and FN of each image by pycocotools, with all detections and boxes of any size."""
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = instances
        truth.createIndex()
        evaluation = COCOeval(truth, truth.loadRes(results), "bbox")
        evaluation.params.iouThrs = np.array([least])
        evaluation.params.maxDets = [10_000]
        evaluation.params.areaRng, evaluation.params.areaRngLbl = [[-1, 1e15]], ["all"]
        evaluation.evaluate()
    counts = {image["id"]: np.zeros(3, int) for image in instances["images"]}
    for part in filter(None, evaluation.evalImgs):
        is_matched, is_ignored = part["dtMatches"][0] > 0, part["dtIgnore"][0].astype(bool)
        counts[part["image_id"]] += [
            (is_matched & ~is_ignored).sum(),
            (~is_matched & ~is_ignored).sum(),
            ((part["gtMatches"][0] == 0) & ~part["gtIgnore"].astype(bool)).sum(),
        ]
    return np.array([*counts.values()])


def of_coco(rows, places, **columns):
    return Boxes(
        [places[row["image_id"]] for row in rows],
        [row["category_id"] for row in rows],
        [row["bbox"] for row in rows],
        **{name: [row[key] for row in rows] for name, key in columns.items()},
    )


def matched(instances, results, least=0.5):
    places = {image["id"]: place for place, image in enumerate(instances["images"])}
    truth = of_coco(instances["annotations"], places, is_crowd="iscrowd")
    detections = of_coco(results, places, score="score")
    return match_detections(detections, truth, len(places), min_overlap=least)


def counts_of(errors):
    columns = (errors.true_positives, errors.false_positives, errors.false_negatives)
    return np.stack(columns, axis=1)


def scene(seed, *, crowds=False, n_boxes=60):
    """Random boxes on a coarse grid: many overlap equally, and many scores are equal."""
    random = np.random.default_rng(seed)

    def row(number):
        corner, sides = random.integers(0, 6, 2) * 5, random.integers(1, 5, 2) * 5
        return {
            "id": number + 1,
            "image_id": int(random.integers(N_IMAGES)) + 1,
            "category_id": int(random.integers(2)) + 1,
            "bbox": [float(side) for side in (*corner, *sides)],
            "area": float(sides.prod()),
        }

    truth = [row(number) | {"iscrowd": int(crowds and random.random() < 0.3)} for number in range(n_boxes)]  # fmt: skip
    results = [row(number) | {"score": float(random.integers(1, 10)) / 10} for number in range(2 * n_boxes)]  # fmt: skip
    images = [{"id": number + 1} for number in range(N_IMAGES)]
    categories = [{"id": 1, "name": "a"}, {"id": 2, "name": "b"}]
    return {"images": images, "annotations": truth, "categories": categories}, results


@pytest.mark.parametrize("crowds", [False, True])
@pytest.mark.parametrize("least", [0.3, 0.5, 0.75, 1.0])
@pytest.mark.parametrize("seed", range(4))
def test_it_matches_as_pycocotools(seed, least, crowds):
    instances, results = scene(seed, crowds=crowds)
    errors = matched(instances, results, least)
    np.testing.assert_array_equal(counts_of(errors), judged(instances, results, least))
    assert errors.matched.sum() == errors.true_positives.sum()
    assert (errors.matched & errors.ignored).sum() == 0


def test_the_hundred_and_first_detection_counts():
    """pycocotools leaves it out unless it is told otherwise: one false positive is missing."""
    boxes = Boxes(np.zeros(101), np.zeros(101), [[0, 0, 1, 1]] * 101, np.linspace(1, 0.5, 101))
    errors = match_detections(boxes, Boxes([], [], []), 1)
    assert errors.false_positives.tolist() == [101]


def test_a_box_of_any_size_counts_and_an_empty_one_overlaps_nothing():
    truth = Boxes([0, 1, 2], [0, 0, 0], [[0, 0, 3e5, 3e5], [5, 5, 0, 0], [0, 0, 1e-3, 1e-3]])
    found = Boxes([0, 1, 2], [0, 0, 0], [[0, 0, 3e5, 3e5], [5, 5, 0, 0], [0, 0, 1e-3, 1e-3]], [0.5] * 3)  # fmt: skip
    errors = match_detections(found, truth, 4)
    assert errors.true_positives.tolist() == [1, 0, 1, 0]
    assert errors.counts.tolist() == [0, 2, 0, 0]


def test_the_higher_score_takes_the_box_and_another_class_does_not():
    truth = Boxes([0], [1], [[0, 0, 10, 10]])
    boxes = [[0, 0, 10, 6], [0, 0, 10, 10], [0, 0, 10, 10]]
    errors = match_detections(Boxes([0] * 3, [1, 1, 2], boxes, [0.9, 0.8, 1.0]), truth, 1)
    assert errors.matched.tolist() == [True, False, False]
    assert counts_of(errors).tolist() == [[1, 2, 0]]


@pytest.mark.parametrize(
    ("boxes", "words"),
    [
        (Boxes([0], [0, 1], [[0, 0, 1, 1]], [0.5]), "detections have the shapes"),
        (Boxes([0], [0], [[0, 0, 1, 1]]), "detections have the scores"),
        (Boxes([1], [0], [[0, 0, 1, 1]], [0.5]), "not in 0 to 0"),
    ],
)
def test_what_are_no_boxes_is_refused(boxes, words):
    with pytest.raises(ValueError, match=words):
        match_detections(boxes, Boxes([], [], []), 1)


MEASURED = {
    "faster_rcnn_resnet50": ([6512, 5762, 4739], 1362, 0.9169, 0.9749, 1.15, 1.02),
    "rfcn_resnet101": ([6644, 3777, 4607], 1218, 0.8944, 0.9495, 1.28, 0.95),
    "ssd_inception_v2": ([4800, 2596, 6451], 1169, 0.8194, 0.8769, 1.78, 1.36),
}


@pytest.mark.parametrize("detector", MEASURED)
def test_real_detectors_have_their_measured_errors(real_predictions, detector):
    folder = real_predictions / "coco_detections"
    instances = json.loads((folder / "instances.json").read_text())
    results = json.loads((folder / f"{detector}_results.json").read_text())
    errors = matched(instances, results)
    totals, wrong_images, of_mean, of_sum, mean_per_box, sum_per_box = MEASURED[detector]
    assert counts_of(errors).sum(axis=0).tolist() == totals
    assert (errors.counts > 0).sum() == wrong_images
    places = {image["id"]: place for place, image in enumerate(instances["images"])}
    images = np.array([places[row["image_id"]] for row in results])
    boxes, scores = (
        np.bincount(images, weights=weights, minlength=len(places))
        for weights in (np.ones(len(results)), [row["score"] for row in results])
    )
    mean = np.divide(scores, boxes, out=np.zeros_like(scores), where=boxes > 0)
    is_wrong = errors.counts > 0
    assert auroc(is_wrong, 1 - mean) == pytest.approx(of_mean, abs=5e-5)
    assert auroc(is_wrong, boxes - scores) == pytest.approx(of_sum, abs=5e-5)
    # By the image the sum finds most, by the box the mean.
    found = [errors_per_box(errors.counts, boxes, each, 150) for each in (1 - mean, boxes - scores)]
    assert found == pytest.approx([mean_per_box, sum_per_box], abs=0.006)


@pytest.mark.slow
@pytest.mark.parametrize("detector", MEASURED)
def test_real_detectors_are_judged_the_same(real_predictions, detector):
    folder = real_predictions / "coco_detections"
    instances = json.loads((folder / "instances.json").read_text())
    results = json.loads((folder / f"{detector}_results.json").read_text())
    found = counts_of(matched(instances, results))
    np.testing.assert_array_equal(found, judged(instances, results))
