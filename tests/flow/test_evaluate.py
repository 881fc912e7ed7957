"""The evaluation of rules from a pool's tables: which labels count, and what is found by them."""

# What a test expects to be there may be None for the types.
# pyright: reportOptionalMemberAccess=false, reportOperatorIssue=false, reportOptionalOperand=false
# pyright: reportCallIssue=false

import json
import re

import numpy as np
import polars as pl
import pyarrow as pa
import pytest

from dagster_active_learning import flow, read_predictions
from dagster_active_learning.errors import PoolStateError, PredictionReadError, SettingError
from dagster_active_learning.evaluation import auroc, error_rate_among_first
from dagster_active_learning.evaluation.rules import EvaluationRules
from dagster_active_learning.readers.arrow import read_table
from dagster_active_learning.readers.options import TableOptions
from dagster_active_learning.readers.true_boxes import read_true_boxes
from dagster_active_learning.rules import Rules
from dagster_active_learning.store.images import replace_images
from dagster_active_learning.store.labels import replace_labels
from pools import column, in_memory, ingest, rows, score
from ranked_pools import manifest
from reference import prediction_scores

RULES = Rules(in_manifest=True)
TEST_SET = EvaluationRules(labels_drawn_at_random=True)


def evaluated(store, evaluation=TEST_SET, *, rules=RULES, truth=None):
    return flow.evaluate_rules(
        store, "set", rules=rules, evaluation=evaluation, truth=truth, run_id="run"
    )


def classified(store, class_probs, labels, *, names=None):
    """A pool with one prediction per image, scored, of which some have labels."""
    ids = [f"image{number:05d}" for number in range(len(class_probs))]
    names = names or [str(number) for number in range(class_probs.shape[1])]
    replace_images(store, manifest(ids, {i: label for i, label in zip(ids, labels, strict=True) if label is not None}))  # fmt: skip
    lists = pa.FixedSizeListArray.from_arrays(pa.array(class_probs.ravel()), class_probs.shape[1])
    table = pa.table({"image_id": ids, "class_probs": lists.cast(pa.list_(lists.type.value_type))})
    ingest(store, in_memory(table.replace_schema_metadata({"class_names": json.dumps(names)})), in_manifest=True)  # fmt: skip
    score(store, in_manifest=True)
    return ids


def batch(store, number, images, *, by="random", probability=None, generation=10**6):
    """Rows of a batch as the batch's own step would store them."""
    store.insert(
        """INSERT INTO labeling_batches BY NAME SELECT $batch AS batch, position, image_id,
        $chosen_by AS chosen_by, 'margin' AS acquisition_function,
        $probability::DOUBLE AS selection_probability, 1 AS prediction_count,
        'set' AS prediction_set, 'run' AS ranking_run_id, 'run' AS run_id, now() AS created_at,
        now() AS handed_out_at FROM active_learning__incoming""",
        pa.table({"position": range(1, len(images) + 1), "image_id": images}),
        batch=number,
        chosen_by=by,
        probability=probability,
    )
    store.connection.execute(
        """INSERT INTO batch_selections BY NAME SELECT ? AS batch, 'set' AS prediction_set,
        'margin' AS acquisition_function, 1 AS wanted_count, 1 AS image_count, 1 AS random_count,
        1 AS unlabeled_count, 0 AS in_flight_count, 0 AS duplicate_count, [] AS full_classes,
        ? AS ranking_generation, 'run' AS run_id, now() AS created_at""",
        [number, generation],
    )


def drawn(seed, n_images, n_classes=3):
    random = np.random.default_rng(seed)
    class_probs = random.dirichlet(np.ones(n_classes), n_images)
    truth = (random.random(n_images)[:, None] > np.cumsum(class_probs, axis=1)).sum(axis=1)
    return class_probs, np.minimum(truth, n_classes - 1)


def test_numbers_are_those_of_plain_numpy_and_stored(store):
    class_probs, truth = drawn(0, 400)
    classified(store, class_probs, [str(one) for one in truth])
    report = evaluated(store, EvaluationRules(labels_drawn_at_random=True, first=50))
    errors = class_probs.argmax(axis=1) != truth
    expected = prediction_scores(class_probs)
    assert {row.acquisition_function for row in report.rows} == {"entropy", "least_confidence", "margin", "variance"}  # fmt: skip
    for row in report.rows:
        name = row.acquisition_function
        sign = 1 if name in ("entropy", "least_confidence") else -1
        assert row.auroc == pytest.approx(auroc(errors, sign * expected[name]), abs=1e-6)
        among = error_rate_among_first(errors, sign * expected[name], 50)
        assert row.error_rate_among_first == pytest.approx(among, abs=1e-6)
        assert row.lift == pytest.approx(among / errors.mean(), abs=1e-6)
        assert row.auroc_low < row.auroc < row.auroc_high
        assert (row.label_count, row.error_count, row.compared_with) == (400, errors.sum(), "margin")  # fmt: skip
    assert report.error_rate.value == pytest.approx(errors.mean())
    assert report.calibration.temperature == pytest.approx(1, abs=0.3)
    stored = rows(store, "SELECT acquisition_function, auroc, first_images, run_id FROM rule_evaluations ORDER BY auroc DESC")  # fmt: skip
    assert stored == [(row.acquisition_function, row.auroc, 50, "run") for row in report.rows]
    evaluated(store)
    assert column(store, "SELECT count(DISTINCT generation) FROM rule_evaluations") == [2]


def test_errors_are_counted_by_class_and_labels_of_no_class_are_errors(store):
    class_probs = np.array([[0.8, 0.2], [0.7, 0.3], [0.4, 0.6], [0.45, 0.55], [0.9, 0.1]])
    classified(store, class_probs, ["cat", "dog", "dog", "cat", "horse"], names=["cat", "dog"])
    report = evaluated(store)
    assert report.other_labels == {"horse": 1}
    found = {
        each.name: (each.label_count, each.error_count, each.false_positive_count, each.most_taken_for)
        for each in report.classes
    }  # fmt: skip
    assert found == {
        "cat": (2, 1, 2, "dog"),
        "dog": (2, 1, 1, "cat"),
        "horse": (1, 1, 0, "cat"),
    }


@pytest.mark.parametrize(
    ("chosen_by", "generation", "evaluation", "words"),
    [
        ("queue", 10**6, {}, r"40 labels none was drawn at random .*40 came from the queue\. Labels from the queue cannot judge.*set random_share"),
        ("random", 0, {}, r"40 are older than these predictions.*set labels_held_out"),
        (None, 0, {}, r"40 are of images in no batch.*set labels_drawn_at_random"),
        ("random", 0, {"labels_held_out": True}, None),
        ("random", 10**6, {}, None),
        (None, 0, {"labels_drawn_at_random": True}, None),
        ("queue", 10**6, {"labels_drawn_at_random": True, "labels_held_out": True}, "40 came from"),
    ],
)  # fmt: skip
def test_only_labels_drawn_at_random_count(store, chosen_by, generation, evaluation, words):
    class_probs, truth = drawn(1, 100)
    ids = classified(store, class_probs, [str(one) if place < 40 else None for place, one in enumerate(truth)])  # fmt: skip
    if chosen_by:
        probability = 0.4 if chosen_by == "random" else None
        batch(store, 1, ids[:40], by=chosen_by, probability=probability, generation=generation)
    report = evaluated(store, EvaluationRules(**evaluation))
    if words is None:
        assert report.labels.refusal is None
        assert report.rows[0].label_count == 40
        assert report.labels.images["weight"].sum() == pytest.approx(100)
        return
    assert re.search(words, report.labels.refusal)
    assert (report.rows, report.answer, report.error_rate) == ((), None, None)
    assert column(store, "SELECT count(*) FROM rule_evaluations") == [0]


def test_a_thousand_real_labels_of_the_queue_say_nothing(store, real_predictions):
    """By CIFAR-10's first 1000 margin's area would be .6033 and the error rate .4240."""
    folder = real_predictions / "label_errors"
    class_probs = np.load(folder / "cifar10_probabilities.npy")
    truth = np.load(folder / "cifar10_labels.npy")
    queue = np.argsort(prediction_scores(class_probs)["margin"], kind="stable")[:1000]
    labeled = {*queue.tolist()}
    ids = classified(store, class_probs, [str(one) if place in labeled else None for place, one in enumerate(truth)])  # fmt: skip
    batch(store, 1, [ids[place] for place in queue], by="queue")
    for evaluation in (EvaluationRules(), EvaluationRules(labels_held_out=True), TEST_SET):
        report = evaluated(store, evaluation)
        assert "of 1,000 labels none was drawn at random" in report.labels.refusal
        assert not re.search(r"\.603|\.424", repr(report))
    assert column(store, "SELECT count(*) FROM rule_evaluations") == [0]


def test_a_queue_of_real_predictions_judges_nothing_and_its_random_share_does(
    store, real_predictions
):
    """Of 800 of the queue and 200 of the rest, only the 200 are used."""
    folder = real_predictions / "label_errors"
    class_probs = np.load(folder / "cifar10_probabilities.npy")
    truth = np.load(folder / "cifar10_labels.npy")
    margin = prediction_scores(class_probs)["margin"]
    queue = np.argsort(margin, kind="stable")
    share = np.random.default_rng(0).choice(queue[800:], 200, replace=False)
    labeled = {*queue[:800], *share}
    ids = classified(store, class_probs, [str(one) if place in labeled else None for place, one in enumerate(truth)])  # fmt: skip
    batch(store, 1, [ids[place] for place in queue[:800]], by="queue")
    queue_only = evaluated(store)
    # Nothing says yet that the others were drawn at random, but the declaration does.
    assert queue_only.labels.queue_count == 800
    assert evaluated(store, EvaluationRules()).labels.refusal is not None
    batch(store, 2, [ids[place] for place in share], probability=200 / 9200)
    report = evaluated(store, EvaluationRules())
    assert (report.labels.queue_count, report.rows[0].label_count) == (800, 200)
    margin_row = {row.acquisition_function: row for row in report.rows}["margin"]
    assert margin_row.auroc != pytest.approx(0.6033, abs=0.1)
    assert report.error_rate.value < 0.15
    assert report.answer == "no difference found, keep margin (200 labels)"


def test_all_real_labels_have_the_published_areas(store, real_predictions):
    folder = real_predictions / "label_errors"
    truth = np.load(folder / "mnist_labels.npy")
    classified(store, np.load(folder / "mnist_probabilities.npy"), [str(one) for one in truth])
    report = evaluated(store)
    found = {row.acquisition_function: round(row.auroc, 4) for row in report.rows}
    assert found == {"entropy": 0.9780, "least_confidence": 0.9784, "margin": 0.9783, "variance": 0.9784}  # fmt: skip
    assert report.answer == "no difference found, keep margin (10,000 labels)"
    assert report.error_rate.value == pytest.approx(1 - 0.9913, abs=1e-9)


def annotated(store, rows):
    """Labels as they come from a labeling tool, of (image_id, category, bbox)."""
    rows = [
        {
            "image_id": image_id, "category": category, "bbox": bbox, "ground_truth": False,
            "annotator": "1", "annotated_at": "2026-11-30 10:00:00+00", "task_id": place,
            "annotation_id": str(place),
        }
        for place, (image_id, category, bbox) in enumerate(rows)
    ]  # fmt: skip
    replace_labels(store, rows, [], tool="label_studio", project="pool", run_id="run")


def test_labels_of_the_labeling_tool_count_as_their_batch_was_drawn(store):
    """The manifest has none; those of the queue are left out, and the others have their weight."""
    class_probs, truth = drawn(4, 100)
    ids = classified(store, class_probs, [None] * 100)
    batch(store, 1, ids[:30], by="queue")
    batch(store, 2, ids[30:70], probability=40 / 70)
    assert "no image with scores has a label yet" in evaluated(store, EvaluationRules()).labels.refusal  # fmt: skip
    annotated(store, [(ids[place], str(truth[place]), None) for place in range(70)])
    report = evaluated(store, EvaluationRules())
    assert (report.labels.labeled_count, report.labels.queue_count) == (70, 30)
    assert report.labels.images["image_id"].to_list() == ids[30:70]
    assert report.labels.images["weight"].unique().to_list() == pytest.approx([70 / 40])
    errors = class_probs.argmax(axis=1)[30:70] != truth[30:70]
    assert report.rows[0].error_count == errors.sum()
    annotated(store, [(ids[place], str(truth[place]), None) for place in range(30)])
    assert "30 came from the queue" in evaluated(store, EvaluationRules()).labels.refusal


def test_boxes_of_the_labeling_tool_judge_a_detector(store):
    replace_images(store, manifest(["a", "b", "c", "d"]))
    rules = Rules(task="detection", in_manifest=True)
    table = pa.table(
        {
            "image_id": ["a", "b", "c"], "score": [0.9, 0.8, 0.4], "category": ["car"] * 3,
            "bbox": [[0.0, 0.0, 50.0, 50.0]] * 3,
        }
    )  # fmt: skip
    options = TableOptions(score_column="score", category_column="category", bbox_column="bbox")
    ingest(store, read_table(table, name="table", options=options), rules=rules, in_manifest=True)
    score(store, rules=rules, in_manifest=True)
    assert "no image with scores has a label yet" in evaluated(store, rules=rules).labels.refusal
    drawn_boxes = [("a", "car", [1.0, 1.0, 49.0, 49.0]), ("b", "bus", [0.0, 0.0, 50.0, 50.0]), ("c", None, None)]  # fmt: skip
    annotated(store, drawn_boxes)
    report = evaluated(store, rules=rules)
    # b is another class and c has no object; nobody has labeled d.
    assert (report.rows[0].label_count, report.rows[0].error_count) == (3, 2)
    found = {each.name: (each.label_count, each.error_count, each.false_positive_count) for each in report.classes}  # fmt: skip
    assert found == {"car": (1, 0, 2), "bus": (1, 1, 0)}


def test_batches_share_the_pool_by_their_numbers_of_labels(store):
    class_probs, truth = drawn(2, 100)
    ids = classified(store, class_probs, [str(one) if place < 40 else None for place, one in enumerate(truth)])  # fmt: skip
    batch(store, 1, ids[:10], probability=0.1)
    batch(store, 2, ids[10:40], probability=30 / 80)
    images = evaluated(store, EvaluationRules()).labels.images.sort("image_id")
    assert images["weight"].to_list() == pytest.approx([10 / 40 / 0.1] * 10 + [30 / 40 * 80 / 30] * 30)  # fmt: skip


def test_labeled_images_that_the_model_has_not_seen_do_not_count(store):
    """A new set is often about the images that still have no label."""
    class_probs, labels = drawn(3, 60)
    labels = [str(label) for label in labels]
    ids = classified(store, class_probs, labels)
    whole = evaluated(store)
    assert whole.rows[0].label_count == 60
    table = pa.table({"image_id": ids[40:], "class_probs": list(class_probs[40:])})
    ingest(store, in_memory(table), in_manifest=True)
    score(store, in_manifest=True)
    assert evaluated(store).rows[0].label_count == 20
    replace_images(store, manifest(ids, dict(zip(ids[:40], labels[:40], strict=True))))
    score(store, in_manifest=True)
    assert "no image with scores has a label yet" in str(evaluated(store).labels.refusal)


def test_labels_without_an_error_order_nothing_and_other_scores_are_refused(store):
    classified(store, np.array([[0.9, 0.1], [0.2, 0.8]]), ["0", "1"])
    report = evaluated(store)
    assert "2 labels drawn at random have no error" in report.labels.refusal
    with pytest.raises(PoolStateError, match=r"materialize pool/image_scores first"):
        evaluated(store, rules=Rules(in_manifest=True, aggregation="max"))


@pytest.mark.parametrize(
    "settings", [{"first": 0}, {"labels_held_out": "yes"}, {"labels_drawn_at_random": 1}]
)
def test_rules_that_cannot_be_are_refused(settings):
    (name,) = settings
    with pytest.raises(SettingError, match=name):
        EvaluationRules(**settings)


# Objects


def instances(folder, **changes):
    content = {
        "images": [{"id": number, "file_name": f"{number}.jpg", "width": 100, "height": 100} for number in range(4)],
        "categories": [{"id": 1, "name": "car"}],
        "annotations": [
            {"id": 1, "image_id": 0, "category_id": 1, "bbox": [0, 0, 50, 50]},
            {"id": 2, "image_id": 1, "category_id": 1, "bbox": [0, 0, 50, 50], "iscrowd": 1},
        ],
    } | changes  # fmt: skip
    path = folder / "instances.json"
    path.write_text(json.dumps(content))
    return path


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"annotations": [{"image_id": 9, "category_id": 1, "bbox": [0, 0, 1, 1]}]}, "entry 1 of annotations"),
        ({"annotations": [{"image_id": 0, "category_id": 2, "bbox": [0, 0, 1, 1]}]}, "entry 1 of annotations"),
        ({"annotations": [{"image_id": 0, "category_id": 1, "bbox": [0, 0, -1, 1]}]}, "bbox of four numbers"),
        ({"annotations": [7]}, "entry 1 of annotations is 7"),
        ({"images": [{"id": 1, "file_name": "a"}, {"id": 1, "file_name": "b"}]}, "two images have the id '1'"),
        ({"images": [{"id": 0, "file_name": "a"}, {"id": 1, "file_name": "a"}]}, "1 images have the file_name"),
    ],
)  # fmt: skip
def test_boxes_that_cannot_be_read_are_named(tmp_path, changes, words):
    with pytest.raises(PredictionReadError, match=words):
        read_true_boxes(instances(tmp_path, **changes), image_id="file_name")


@pytest.mark.parametrize("unit", ["pixel", "relative"])
def test_boxes_are_matched_in_pixels(store, tmp_path, unit):
    truth = read_true_boxes(instances(tmp_path))
    scale = 100 if unit == "pixel" else 1
    table = pa.table(
        {
            "image_id": ["0", "0", "1", "2"],
            "score": [0.9, 0.2, 0.8, 0.4],
            "category": ["car", "car", "car", "car"],
            "bbox": [[s * scale for s in box] for box in ([0, 0, 0.5, 0.5], [0.6, 0.6, 0.1, 0.1], [0, 0, 0.2, 0.2], [0, 0, 0.1, 0.1])],
        }
    )  # fmt: skip
    path = tmp_path / "p.parquet"
    pl.DataFrame(table).write_parquet(path)
    rules = Rules(task="detection", in_manifest=True)
    replace_images(store, manifest(["0", "1", "2", "3"]))
    ingest(store, read_predictions(path, format="parquet", score_column="score", category_column="category", bbox_column="bbox", bbox_unit=unit), rules=rules, in_manifest=True)  # fmt: skip
    score(store, rules=rules, in_manifest=True)
    report = evaluated(store, rules=rules, truth=truth)
    # Image 1 has its box in a crowd, image 3 has nothing to find.
    assert report.rows[0].error_count == 2
    (car,) = report.classes
    assert (car.label_count, car.error_count, car.false_positive_count) == (1, 0, 2)
    assert {(row.acquisition_function, row.aggregation) for row in report.rows} == {("mean_object_score", "mean"), ("mean_object_score", "sum")}  # fmt: skip
    other = read_true_boxes(instances(tmp_path), image_id="file_name")
    with pytest.raises(PoolStateError, match=r"'0\.jpg', is an image of pool .*boxes_image_id"):
        evaluated(store, rules=rules, truth=other)


MEASURED = {
    "faster_rcnn_resnet50": (1362, 0.9169, 0.9749, 1.15, 1.02),
    "rfcn_resnet101": (1218, 0.8944, 0.9495, 1.28, 0.95),
    "ssd_inception_v2": (1169, 0.8194, 0.8769, 1.78, 1.36),
}


@pytest.mark.parametrize(
    ("detector", "aggregation"), [*((one, "mean") for one in MEASURED), ("rfcn_resnet101", "sum")]
)
def test_real_detectors_are_judged_by_image_and_by_box(
    store, real_predictions, detector, aggregation
):
    folder = real_predictions / "coco_detections"
    truth = read_true_boxes(folder / "instances.json", image_id="file_name")
    rules = Rules(task="detection", in_manifest=True, aggregation=aggregation)
    replace_images(store, manifest(truth.image_ids))
    stream = read_predictions(
        folder / f"{detector}_results.json", format="coco", instances=str(folder / "instances.json")
    )
    ingest(store, stream, rules=rules, in_manifest=True)
    score(store, rules=rules, in_manifest=True)
    evaluation = EvaluationRules(labels_drawn_at_random=True, first=150)
    report = evaluated(store, evaluation, rules=rules, truth=truth)
    errors, of_mean, of_sum, mean_per_box, sum_per_box = MEASURED[detector]
    found = {row.aggregation: row for row in report.rows}
    assert found["mean"].error_count == errors
    assert found["mean"].auroc == pytest.approx(of_mean, abs=2e-4)
    assert found["sum"].auroc == pytest.approx(of_sum, abs=2e-4)
    assert found["mean"].errors_per_box == pytest.approx(mean_per_box, abs=0.006)
    assert found["sum"].errors_per_box == pytest.approx(sum_per_box, abs=0.006)
    assert report.answer.startswith("mean_object_score, sum finds errors better than mean_object_score, mean (+")  # fmt: skip
    assert report.answer_by_box.startswith("mean_object_score, mean finds errors better than mean_object_score, sum (-")  # fmt: skip
    assert "1,525 labels" in report.answer
