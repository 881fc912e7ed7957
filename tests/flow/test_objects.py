"""Objects in images: the rules for detectors, checked against formulas in plain Python."""

import io
import json
import math
from itertools import pairwise
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pytest

from dagster_active_learning import PoolImages, read_predictions
from dagster_active_learning.errors import PredictionReadError
from dagster_active_learning.readers.arrow import read_table
from dagster_active_learning.readers.options import TableOptions
from dagster_active_learning.readers.quarantine import Reason
from dagster_active_learning.rules import Rules
from dagster_active_learning.store.images import replace_images
from dagster_active_learning.store.pool_store import PoolStore
from pools import ingest, rank, rows, score
from reference import prediction_scores, uncertainties

DETECTION = Rules(task="detection")
CLASS_FUNCTIONS = ["entropy", "least_confidence", "margin", "variance"]


def objects(**columns):
    """A table of objects as a stream; the columns are named as they are in the database."""
    options = {
        "score_column": "score" if "score" in columns else None,
        "category_column": "category" if "category" in columns else None,
    }
    return read_table(pa.table(columns), name="objects", options=TableOptions(**options))


def scores_by_image(frame: pl.DataFrame) -> dict[str, dict]:
    return {row.pop("image_id"): row for row in frame.to_dicts()}


def test_images_without_objects_that_the_manifest_does_not_have_are_told(store, tmp_path):
    for image, content in {"a": "0 0.5 0.5 0.1 0.1 0.9\n", "b": "", "c": "", "d": ""}.items():
        (tmp_path / f"{image}.txt").write_text(content)
    told = []
    replace_images(store, manifest(["a", "b"]))
    stream = read_predictions(tmp_path, format="yolo")
    ingest(store, stream, rules=DETECTION, in_manifest=True, report=told.append)
    assert told[0].startswith("2 images in which nothing was found are not in the manifest")
    scored = score(store, rules=DETECTION, in_manifest=True)
    assert scored["image_id"].to_list() == ["a", "b"]


# Encord Active: a metric of an image is the mean over its objects; an image's mean object score is
# that of the largest class confidence of each object, and 0 if there is none.
def test_scores_of_an_image_are_means_over_its_objects(store):
    lists = [[0.7, 0.2, 0.1], [0.4, 0.4, 0.2], [0.05, 0.05, 0.9], [1.0, 0.0, 0.0]]
    ids = ["a", "b", "a", "a"]
    replace_images(store, manifest(["a", "b", "nothing"]))
    ingest(store, objects(image_id=ids, class_probs=lists), rules=DETECTION, in_manifest=True)
    found = scores_by_image(score(store, rules=DETECTION, in_manifest=True))

    def entropy(p):
        return -sum(x * math.log2(x) for x in p if x > 0)

    def margin(p):
        first, second = sorted(p, reverse=True)[:2]
        return first - second

    formulas = {
        "entropy": entropy,
        "least_confidence": lambda p: 1 - max(p),
        "margin": margin,
        "variance": lambda p: sum((x - sum(p) / 3) ** 2 for x in p) / 3,
        "mean_object_score": max,
    }
    for image_id in ("a", "b"):
        members = [p for one, p in zip(ids, lists, strict=True) if one == image_id]
        assert found[image_id]["prediction_count"] == len(members)
        for name, formula in formulas.items():
            expected = sum(map(formula, members)) / len(members)
            assert found[image_id][name] == pytest.approx(expected, abs=1e-12)
    assert found["nothing"] == {
        "prediction_count": 0,
        **dict.fromkeys(CLASS_FUNCTIONS),
        "mean_object_score": 0.0,
        **dict.fromkeys(("mutual_information", "vote_entropy")),
    }


def manifest(image_ids, labeled=()):
    return pa.table(
        {
            "image_id": image_ids,
            "uri": pa.nulls(len(image_ids), pa.string()),
            "width": pa.nulls(len(image_ids), pa.int32()),
            "height": pa.nulls(len(image_ids), pa.int32()),
            "labeled": [one in labeled for one in image_ids],
            "label": pa.nulls(len(image_ids), pa.string()),
        }
    )


def test_one_score_of_a_tenth_is_a_tenth_and_the_rest_is_null_with_a_reason(store):
    stored = ingest(store, objects(image_id=["a"], score=[0.1]), rules=DETECTION)
    (row,) = score(store, rules=DETECTION).to_dicts()
    assert row["mean_object_score"] == 0.1
    assert [row[name] for name in CLASS_FUNCTIONS] == [None] * 4
    assert stored.score_only_count == 1
    for name in CLASS_FUNCTIONS:
        assert rank(store, name, rules=DETECTION)[1] == []


def test_a_score_declared_binary_has_all_functions_and_stays_the_object_score(store):
    binary = Rules(task="detection", score_only="binary")
    ingest(store, objects(image_id=["a", "a"], score=[0.1, 0.6]), rules=binary)
    (row,) = score(store, rules=binary).to_dicts()
    expected = prediction_scores([[0.1, 0.9], [0.6, 0.4]])
    for name in CLASS_FUNCTIONS:
        assert row[name] == pytest.approx(expected[name].mean(), abs=1e-12)
    assert row["mean_object_score"] == pytest.approx(0.35, abs=1e-15), "never max(s, 1-s)"
    assert rank(store, "entropy", rules=binary)[1][0][3] == pytest.approx(
        expected["entropy"].mean()
    )


def test_a_detectors_own_score_goes_before_the_largest_class_probability(store):
    ingest(store, objects(image_id=["a"], score=[0.3], class_probs=[[0.8, 0.2]]), rules=DETECTION)
    (row,) = score(store, rules=DETECTION).to_dicts()
    assert row["mean_object_score"] == 0.3
    assert row["margin"] == pytest.approx(0.6)


def test_an_image_of_which_one_object_has_no_class_probabilities_has_no_mean_of_them(store):
    ingest(
        store,
        objects(
            image_id=["a", "a", "b"],
            score=[0.3, 0.5, 0.7],
            class_probs=[[0.8, 0.2], None, [1.0, 0.0]],
        ),
        rules=DETECTION,
    )
    found = scores_by_image(score(store, rules=DETECTION))
    assert found["a"]["margin"] is None
    assert found["a"]["mean_object_score"] == pytest.approx(0.4)
    assert found["b"]["margin"] == 1.0
    assert [row[0] for row in rank(store, "margin", rules=DETECTION)[1]] == ["b"]


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (97.85, Reason.SCORE_OUT_OF_RANGE),
        (-0.1, Reason.SCORE_OUT_OF_RANGE),
        (math.nan, Reason.SCORE_NOT_FINITE),
        (math.inf, Reason.SCORE_NOT_FINITE),
        (None, Reason.SCORE_NULL),
    ],
)
def test_scores_that_are_no_probabilities_go_to_quarantine(store, value, reason):
    stored = ingest(store, objects(image_id=["a", "b"], score=[0.5, value]), rules=DETECTION)
    assert (stored.prediction_count, stored.quarantined_count) == (1, 1)
    assert rows(store, "SELECT row_number, reason FROM quarantined_predictions") == [
        (2, str(reason))
    ]


def test_an_image_whose_objects_are_in_quarantine_is_not_an_image_without_objects(store):
    replace_images(store, manifest(["a", "b", "c"]))
    stream = objects(image_id=["a", "b"], score=[0.5, 7.0])
    ingest(store, stream, rules=DETECTION, in_manifest=True)
    found = scores_by_image(score(store, rules=DETECTION, in_manifest=True))
    assert found["b"]["mean_object_score"] is None
    assert found["c"]["mean_object_score"] == 0.0


@pytest.mark.parametrize("aggregation", ["mean", "max", "min", "sum"])
@pytest.mark.parametrize("batch_rows", [1, 7, None])
def test_aggregations_are_those_of_numpy_for_every_batch_size(store, aggregation, batch_rows):
    random = np.random.default_rng(0)
    class_probs = random.dirichlet(np.ones(4), 60)
    ids = [f"image{one}" for one in random.integers(0, 9, 60)]
    rules = Rules(task="detection", aggregation=aggregation)
    ingest(store, objects(image_id=ids, class_probs=list(class_probs)), rules=rules)
    found = scores_by_image(score(store, batch_rows, rules=rules))
    reference = prediction_scores(class_probs)
    for image_id in found:
        members = [row for row, one in enumerate(ids) if one == image_id]
        for name, values in reference.items():
            of_members = values[members]
            if aggregation == "sum":
                of_members = uncertainties(name, of_members, 4)
            expected = getattr(np, aggregation)(of_members)
            assert found[image_id][name] == pytest.approx(expected, abs=1e-12)
    ranked = rank(store, "entropy", rules=rules)[1]
    assert all(0 <= row[3] <= 1 for row in ranked)


def test_independent_classes_have_the_sum_of_their_binary_entropies(store):
    rules = Rules(task="detection", inputs="independent")
    lists = [[0.9, 0.8, 0.1], [0.0, 0.0, 0.0], [0.5, 0.5, 0.5]]
    ingest(store, objects(image_id=["a", "b", "c"], class_probs=lists), rules=rules)
    found = scores_by_image(score(store, rules=rules))

    def binary_entropy(p):
        return -sum(x * math.log2(x) for x in (p, 1 - p) if x > 0)

    for image_id, p in zip("abc", lists, strict=True):
        assert found[image_id]["entropy"] == pytest.approx(sum(map(binary_entropy, p)), abs=1e-12)
        assert found[image_id]["mean_object_score"] == pytest.approx(max(p), abs=1e-12)
    uncertainty = {row[0]: row[3] for row in rank(store, "entropy", rules=rules)[1]}
    assert uncertainty["c"] == pytest.approx(1.0)
    assert uncertainty["b"] == 0.0


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_logits_become_class_probabilities(store, dtype):
    logits = np.array([[2.0, -1.0, 0.5], [1000.0, 0.0, -1000.0], [np.nan, 0.0, 1.0]], dtype)
    rules = Rules(inputs="logits")
    table = pa.table({"image_id": ["a", "b", "c"], "class_probs": list(logits)})
    stored = ingest(store, read_table(table, name="t", options=TableOptions()), rules=rules)
    assert (stored.prediction_count, stored.quarantined_count) == (2, 1)
    powers = np.exp(logits[0].astype(np.float64))
    expected = [powers / powers.sum(), [1, 0, 0]]
    found = [row[0] for row in rows(store, "SELECT class_probs FROM predictions")]
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12 if dtype == np.float64 else 1e-7)


def test_the_class_of_an_image_is_the_most_frequent_class_of_its_objects(store):
    stream = objects(
        image_id=["a", "a", "a", "b"], score=[0.5] * 4, category=["car", "dog", "dog", "cat"]
    )
    stored = ingest(store, stream, rules=DETECTION)
    score(store, rules=DETECTION)
    assert stored.class_names == ["car", "cat", "dog"]
    ranked = rank(store, "mean_object_score", rules=DETECTION)[1]
    assert {row[0]: row[4] for row in ranked} == {"a": "dog", "b": "cat"}


def test_objects_of_an_image_in_several_files_give_the_same_bits(store, tmp_path):
    random = np.random.default_rng(1)
    class_probs = random.dirichlet(np.ones(3), 30)
    ids = [f"image{one}" for one in random.integers(0, 4, 30)]
    frame = pl.DataFrame({"image_id": ids, "class_probs": class_probs})
    frame.write_parquet(tmp_path / "whole.parquet")
    for number, part in enumerate(frame.iter_slices(11)):
        part.write_parquet(tmp_path / f"part{number}.parquet")
    results = []
    for name in ("whole.parquet", "part*.parquet"):
        ingest(store, read_predictions(tmp_path / name, format="parquet"), rules=DETECTION)
        results.append(score(store, rules=DETECTION))
    assert results[0].equals(results[1])


@pytest.mark.parametrize("n_with_objects", [0, 1])
def test_thousands_of_images_without_objects_in_a_row(store, tmp_path, n_with_objects):
    found = {"category": "1", "conf": 0.5, "bbox": [0.1, 0.1, 0.2, 0.2]}
    images = [
        {"file": f"{number:05d}", "detections": [found] * (number < n_with_objects)}
        for number in range(9_000)
    ]
    (tmp_path / "m.json").write_text(
        json.dumps({"detection_categories": {"1": "animal"}, "images": images})
    )
    stream = read_predictions(tmp_path / "m.json", format="megadetector")
    assert ingest(store, stream, rules=DETECTION).prediction_count == n_with_objects
    scored = score(store, rules=DETECTION)
    assert scored.height == 9_000
    assert (scored["mean_object_score"] == 0).sum() == 9_000 - n_with_objects


@pytest.mark.parametrize("score_only", [None, "binary"])
def test_an_object_with_one_score_does_not_change_the_uncertainty_of_others(store, score_only):
    rules = Rules(task="detection", score_only=score_only)
    vector = [0.55] + [0.05] * 9
    ingest(
        store,
        objects(image_id=["a", "c"], class_probs=[vector, None], score=[0.9, 0.5]),
        rules=rules,
    )
    score(store, rules=rules)
    _, ranked = rank(store, "least_confidence", rules=rules)
    uncertainty = {image_id: value for image_id, _, _, value, _ in ranked}
    assert uncertainty["a"] == pytest.approx(0.45 * 10 / 9)


def test_a_source_in_which_every_object_is_in_quarantine_is_an_error(store):
    with pytest.raises(PredictionReadError, match="score_transform declares another scale"):
        ingest(store, objects(image_id=["a"], score=[97.85]), rules=DETECTION)


def empty_parquet() -> bytes:
    buffer = io.BytesIO()
    pl.DataFrame(schema={"image_id": pl.String, "score": pl.Float64}).write_parquet(buffer)
    return buffer.getvalue()


# Files without rows: the format, the content and the options.
NO_ROWS = {
    "coco": ("coco", b"[]", {}),
    "coco, an object": ("coco", b'{"annotations": []}', {}),
    "open_images": ("open_images", b"ImageID,LabelName,Conf,XMin,XMax,YMin,YMax\n", {}),
    "csv": ("csv", b"image_id,score", {"score_column": "score"}),
    "csv of class probabilities": ("csv", b"image_id,x,y\n\n", {"class_columns": ["x", "y"]}),
    "parquet": ("parquet", empty_parquet(), {"score_column": "score"}),
}


def without_rows(folder: Path, case: str):
    if case == "a table":
        return objects(image_id=pa.array([], pa.string()), score=pa.array([], pa.float64()))
    kind, content, options = NO_ROWS[case]
    (folder / "p").write_bytes(content)
    return read_predictions(folder / "p", format=kind, **options)


@pytest.mark.parametrize("case", [*NO_ROWS, "a table"])
def test_a_detector_that_found_nothing_in_the_images_of_the_manifest(store, tmp_path, case):
    replace_images(store, manifest(["a", "b"]))
    stored = ingest(store, without_rows(tmp_path, case), rules=DETECTION, in_manifest=True)
    assert (stored.prediction_count, stored.quarantined_count) == (0, 0)
    frame = score(store, rules=DETECTION, in_manifest=True)
    assert frame.select("image_id", "prediction_count", "mean_object_score").rows() == [
        ("a", 0, 0.0),
        ("b", 0, 0.0),
    ]
    ranked = rank(store, "mean_object_score", rules=DETECTION, in_manifest=True)[1]
    assert {row[0] for row in ranked} == {"a", "b"}


@pytest.mark.parametrize("case", [*NO_ROWS, "a table"])
@pytest.mark.parametrize(
    ("task", "in_manifest", "advice"),
    [
        ("detection", False, "; where the model found nothing, give the pool the images"),
        ("classification", False, ""),
        ("classification", True, ""),
    ],
)
def test_a_source_without_rows_says_nothing_else(store, tmp_path, case, task, in_manifest, advice):
    replace_images(store, manifest(["a", "b"]))
    stream = without_rows(tmp_path, case)
    with pytest.raises(PredictionReadError) as error:
        ingest(store, stream, rules=Rules(task=task), in_manifest=in_manifest)
    expected = f"{stream.name} holds no predictions: expected at least one{advice}"
    assert str(error.value).startswith(expected)
    assert str(error.value).endswith("(images=)" if advice else "expected at least one")


SCHEMA = {"categories": [{"id": 0, "name": "cat"}]}
NO_IMAGES = {
    "megadetector": {"images": [], "detection_categories": {"1": "animal"}},
    "rvc": {"classes": ["cat"], "detections": []},
    "lightly": SCHEMA,
}


@pytest.mark.parametrize("format", NO_IMAGES)
def test_a_source_that_would_name_the_images_it_saw_saw_none(store, tmp_path, format):
    (tmp_path / "schema.json").write_text(json.dumps(NO_IMAGES[format]))
    replace_images(store, manifest(["a", "b"]))
    stream = read_predictions(tmp_path / "schema.json", format=format)
    with pytest.raises(PredictionReadError, match="holds no predictions: expected at least one"):
        ingest(store, stream, rules=DETECTION, in_manifest=True)


def megadetector(folder: Path, **detections):
    """Detections by image; None where the model failed."""
    images = [
        {"file": name, "detections": found} if found is not None else {"file": name, "failure": "x"}
        for name, found in detections.items()
    ]
    document = {"images": images, "detection_categories": {"1": "animal"}}
    (folder / "m.json").write_text(json.dumps(document))
    return read_predictions(folder / "m.json", format="megadetector")


@pytest.mark.parametrize(
    ("in_manifest", "expected"),
    [(False, [("b", 0.0)]), (True, [("a", None), ("b", 0.0), ("c", 0.0)])],
)
def test_an_image_on_which_the_model_failed_does_not_cost_the_images_without_objects(
    store, tmp_path, in_manifest, expected
):
    replace_images(store, manifest(["a", "b", "c"]))
    stream = megadetector(tmp_path, a=None, b=[])
    stored = ingest(store, stream, rules=DETECTION, in_manifest=in_manifest)
    assert (stored.prediction_count, stored.quarantined_count) == (0, 1)
    assert rows(store, "SELECT image_id, reason FROM quarantined_predictions") == [
        ("a", str(Reason.MODEL_FAILED))
    ]
    frame = score(store, rules=DETECTION, in_manifest=in_manifest)
    assert frame.select("image_id", "mean_object_score").rows() == expected


@pytest.mark.parametrize(
    "detections", [{"a": None}, {"a": None, "b": None}, {"a": None, "b": [], "c": [{}]}]
)
@pytest.mark.parametrize("in_manifest", [False, True])
def test_images_on_which_the_model_failed_are_not_all_that_a_set_may_hold(
    store, tmp_path, detections, in_manifest
):
    replace_images(store, manifest(["a", "b", "c"]))
    with pytest.raises(PredictionReadError, match=str(Reason.MODEL_FAILED)):
        ingest(
            store,
            megadetector(tmp_path, **detections),
            rules=DETECTION,
            in_manifest=in_manifest,
        )


def test_ids_of_another_form_than_those_of_the_manifest_are_shown(store):
    replace_images(store, manifest(["397133", "1"]))
    stream = objects(image_id=["000397133.jpg", "b.jpg"], score=[0.5, 0.5])
    with pytest.raises(PredictionReadError) as error:
        ingest(store, stream, rules=DETECTION, in_manifest=True)
    assert (
        "'000397133.jpg' is not there, but '397133' is; ids of the manifest that differ so (leading "
        "zeros): 1; if they should be the same image, "
        'write both alike; PoolImages(path, image_id="file_name") takes'
    ) in str(error.value)


# Real detectors.

DETECTORS = {
    "faster_rcnn_resnet50": (12274, 7),
    "rfcn_resnet101": (10421, 13),
    "ssd_inception_v2": (7396, 21),
}


@pytest.mark.parametrize("detector", DETECTORS)
def test_real_detectors_on_coco_images(store, real_predictions, detector):
    folder = real_predictions / "coco_detections"
    predictions, empty = DETECTORS[detector]
    images, _ = PoolImages(folder / "instances.json").read()
    replace_images(store, images)
    path = folder / f"{detector}_results.json"
    stored = ingest(store, read_predictions(path, format="coco"), rules=DETECTION, in_manifest=True)
    assert (stored.prediction_count, stored.quarantined_count) == (predictions, 0)
    assert stored.bbox_unit == "pixel"
    frame = score(store, rules=DETECTION, in_manifest=True)
    assert frame.height == 1525
    assert (frame["mean_object_score"] == 0).sum() == empty

    # The same in plain Python, from the JSON.
    by_image = {
        str(image["id"]): []
        for image in json.loads((folder / "instances.json").read_text())["images"]
    }
    for detection in json.loads(path.read_text()):
        by_image[str(detection["image_id"])].append(detection["score"])
    expected = {one: sum(s) / len(s) if s else 0.0 for one, s in by_image.items()}
    found = dict(zip(frame["image_id"], frame["mean_object_score"], strict=True))
    assert found == pytest.approx(expected, abs=1e-12)

    for policy in (None, "first", "last", "exclude"):
        rules = Rules(task="detection", images_without_predictions=policy)
        ranked = [
            row[0]
            for row in rank(store, "mean_object_score", limit=2000, rules=rules, in_manifest=True)[
                1
            ]
        ]
        without = {one for one, s in by_image.items() if not s}
        with_objects = [one for one in ranked if one not in without]
        values = [expected[one] for one in with_objects]
        assert all(a <= b + 1e-12 for a, b in pairwise(values))
        assert len(with_objects) == 1525 - empty
        if policy == "exclude":
            assert not without & set(ranked)
        else:
            assert set(ranked[-empty:] if policy == "last" else ranked[:empty]) == without


def voc_scores(folder: Path, store: PoolStore, path: str, **options) -> dict[str, float]:
    options = {"format": "yolo", "confidence": "second", **options}
    stored = ingest(store, read_predictions(folder / path, **options), rules=DETECTION)
    assert (stored.prediction_count, stored.quarantined_count) == (452, 0)
    frame = score(store, rules=DETECTION).filter(pl.col("prediction_count") > 0)
    ids = [Path(image_id).stem for image_id in frame["image_id"]]
    return dict(zip(ids, frame["mean_object_score"], strict=True))


def test_the_same_detections_in_four_formats_give_the_same_scores(store, real_predictions):
    folder = real_predictions / "voc_four_formats" / "dets"
    results = [
        voc_scores(folder, store, "rel_xywh", box="xcycwh", bbox_unit="relative"),
        voc_scores(folder, store, "abs_xywh", box="xywh", bbox_unit="pixel"),
        voc_scores(folder, store, "abs_xyx2y2", box="xyxy", bbox_unit="pixel"),
    ]
    coco = read_predictions(folder / "coco_format" / "coco_dets.json", format="coco")
    stored = ingest(store, coco, rules=DETECTION)
    frame = score(store, rules=DETECTION)
    assert (stored.prediction_count, frame.height) == (452, 98)
    ids = [Path(image_id).stem for image_id in frame["image_id"]]
    results.append(dict(zip(ids, frame["mean_object_score"], strict=True)))
    assert [len(result) for result in results] == [98] * 4
    for result in results[1:]:
        # The text files have six decimals.
        assert result == pytest.approx(results[0], abs=1e-6)


@pytest.mark.parametrize(
    ("predicted", "image_id", "words"),
    [
        ("A.jpg", "a.jpg", "'A.jpg' is not there, but 'a.jpg' is; ids of the manifest that differ so (upper and lower case): 1;"),
        ("caf\u00e9", "cafe\u0301", "'caf\\xe9' is not there, but 'cafe\\u0301' is; ids of the manifest that differ so (Unicode"),
        ("\u0430.jpg", "a.jpg", "not there is '\\u0430.jpg', the first of the manifest 'a.jpg'"),
        ("\u043a\u043e\u0442", "dog1", "not there is '\u043a\u043e\u0442', the first of the manifest 'dog1'"),
    ],
)  # fmt: skip
def test_an_error_shows_ids_so_that_they_look_different(store, predicted, image_id, words):
    replace_images(store, manifest([image_id]))
    with pytest.raises(PredictionReadError) as error:
        ingest(store, objects(image_id=[predicted], score=[0.5]), rules=DETECTION, in_manifest=True)
    assert words in str(error.value)
    assert "if they should be the same image, write both alike" in str(error.value)
