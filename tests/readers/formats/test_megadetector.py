"""MegaDetector results: what is read, what is quarantined, and what broken files say."""

import json
import math
from pathlib import Path

import pytest

from dagster_active_learning import read_predictions
from dagster_active_learning.errors import PredictionReadError
from dagster_active_learning.readers.quarantine import Reason

CATEGORIES = {"1": "animal", "2": "person"}
BOX = [0.0, 0.25, 0.5, 0.125]


def detection(**changes) -> dict:
    """A detection; a change to ``...`` takes the key out."""
    found = {"category": "1", "conf": 0.926, "bbox": BOX, "classifications": [["3", 0.901]]}
    return {key: value for key, value in {**found, **changes}.items() if value is not ...}


def write(folder: Path, images: object, *, categories_last: bool = True, **keys) -> Path:
    document = {"images": images, "detection_categories": CATEGORIES, "info": {"format": "1.6"}}
    items = list({**document, **keys}.items())
    document = dict(items if categories_last else reversed(items))
    document = {key: value for key, value in document.items() if value is not ...}
    (folder / "md.json").write_text(json.dumps(document))
    return folder / "md.json"


def rows_of(path: Path, **options) -> list[dict]:
    stream = read_predictions(path, format="megadetector", **options)
    return [row for batch in stream for row in batch.to_pylist()]


@pytest.mark.parametrize("categories_last", [True, False])
@pytest.mark.parametrize("batch_rows", [None, 1])
def test_boxes_are_relative_and_have_one_score(tmp_path, categories_last, batch_rows):
    images = [
        {"file": "a/1.jpg", "detections": [detection(), detection(category="2", conf=1)]},
        {"file": "a/2.jpg", "detections": [detection(conf=0)]},
    ]
    path = write(tmp_path, images, categories_last=categories_last)
    stream = read_predictions(path, format="megadetector", batch_rows=batch_rows)
    rows = [row for batch in stream for row in batch.to_pylist()]
    columns = ("row_number", "image_id", "category", "score", "bbox")
    assert [tuple(row[name] for name in columns) for row in rows] == [
        (1, "a/1.jpg", "animal", 0.926, BOX),
        (2, "a/1.jpg", "person", 1.0, BOX),
        (3, "a/2.jpg", "animal", 0.0, BOX),
    ]
    assert {row["class_probs"] for row in rows} == {None}, "the species are another model's"
    assert {row["reason"] for row in rows} == {None}
    assert stream.class_names == ("animal", "person")
    assert stream.bbox_unit == "relative"
    assert len(stream.sha256()) == 64


def test_an_image_without_objects_is_no_failed_image(tmp_path):
    images = [
        {"file": "empty.jpg", "detections": []},
        {"file": "null.jpg", "failure": "Failure image access", "detections": None},
        {"file": "none.jpg", "failure": "Failure inference"},
        {"file": "list.jpg", "failure": "Failure inference", "detections": []},
        {"file": "fine.jpg", "failure": None, "detections": [detection()]},
    ]
    rows = {row["image_id"]: row for row in rows_of(write(tmp_path, images))}
    assert {name: (row["row_number"], row["reason"]) for name, row in rows.items()} == {
        "empty.jpg": (None, None),
        "null.jpg": (1, Reason.MODEL_FAILED),
        "none.jpg": (2, Reason.MODEL_FAILED),
        "list.jpg": (3, Reason.MODEL_FAILED),
        "fine.jpg": (4, None),
    }
    assert "Failure image access" in rows["null.jpg"]["raw"]


def test_a_suppressed_detection_is_no_object_and_no_row(tmp_path):
    images = [
        {"file": "a.jpg", "detections": [detection(conf=-0.8), detection(conf=0.25)]},
        {"file": "b.jpg", "detections": [detection(conf=-0.9)]},
        {"file": "c.jpg", "detections": [detection(conf=-0.9), detection(conf="x")]},
    ]
    path = write(tmp_path, images)
    rows = rows_of(path)
    assert [(row["image_id"], row["row_number"], row["score"], row["reason"]) for row in rows] == [
        ("a.jpg", 2, 0.25, None),
        ("c.jpg", 5, None, Reason.SCORE_NOT_NUMBER),
        ("b.jpg", None, None, None),
    ]
    logits = [row["score"] for row in rows_of(path, score_transform="sigmoid")]
    assert logits[0] == pytest.approx(1 / (1 + math.exp(0.8)))


def test_an_image_that_is_listed_twice_keeps_all_its_objects(tmp_path):
    image = {"file": "a.jpg", "detections": [detection()]}
    rows = rows_of(write(tmp_path, [image, image]))
    assert [(row["image_id"], row["row_number"]) for row in rows] == [("a.jpg", 1), ("a.jpg", 2)]


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (detection(category="9"), Reason.UNKNOWN_CATEGORY),
        (detection(category=1), "the value of the key 'category' is of the wrong type"),
        (detection(category=...), "the object has no key 'category'"),
        (detection(conf=...), Reason.SCORE_NULL),
        (detection(conf=None), Reason.SCORE_NULL),
        (detection(conf="0.9"), Reason.SCORE_NOT_NUMBER),
        (detection(conf=True), Reason.SCORE_NOT_NUMBER),
        (detection(bbox=...), "the object has no key 'bbox'"),
        (detection(bbox=None), Reason.BBOX_NOT_FOUR_NUMBERS),
        (detection(bbox=[0, 0, 1]), Reason.BBOX_NOT_FOUR_NUMBERS),
        (detection(bbox=[0, 0, 1, "1"]), Reason.BBOX_NOT_FOUR_NUMBERS),
        (detection(bbox=[0, 0, -1, 1]), Reason.BBOX_NEGATIVE),
        ([1, 2], Reason.NO_OBJECT),
        (None, Reason.NO_OBJECT),
    ],
)
def test_a_bad_detection_keeps_its_place_with_a_reason(tmp_path, bad, reason):
    images = [{"file": "a.jpg", "detections": [detection(), bad, detection()]}]
    rows = rows_of(write(tmp_path, images))
    assert [(row["row_number"], row["image_id"]) for row in rows] == [
        (1, "a.jpg"),
        (2, "a.jpg"),
        (3, "a.jpg"),
    ]
    assert [row["reason"] for row in rows] == [None, reason, None]
    assert json.loads(rows[1]["raw"]) == bad


WRONG_DETECTIONS = "the value of the key 'detections' is of the wrong type"


@pytest.mark.parametrize(
    ("bad", "image_id", "reason"),
    [
        ({"detections": []}, None, Reason.IMAGE_ID_NULL),
        ({"file": "", "detections": []}, None, Reason.IMAGE_ID_NULL),
        ({"file": 7, "detections": []}, None, Reason.IMAGE_ID_NOT_TEXT),
        ({"file": "a.jpg"}, "a.jpg", "the object has no key 'detections'"),
        ({"file": "a.jpg", "detections": None}, "a.jpg", WRONG_DETECTIONS),
        ({"file": "a.jpg", "detections": {}}, "a.jpg", WRONG_DETECTIONS),
        (["a.jpg"], None, Reason.NO_OBJECT),
        (None, None, Reason.NO_OBJECT),
    ],
)
def test_a_bad_image_is_one_row(tmp_path, bad, image_id, reason):
    rows = rows_of(write(tmp_path, [bad, {"file": "b.jpg", "detections": [detection()]}]))
    assert [(row["row_number"], row["image_id"], row["reason"]) for row in rows] == [
        (1, image_id, reason),
        (2, "b.jpg", None),
    ]
    assert json.loads(rows[0]["raw"]) == bad


IMAGES = [{"file": f"{number}.jpg", "detections": [detection()]} for number in range(2_000)]


def changed(path: Path, change) -> Path:
    path.write_bytes(change(path.read_bytes()))
    return path


# What a file can be instead of results: what writes it, words of the error.
BROKEN_FILES = {
    "a folder": (lambda f: f, "is a folder"),
    "empty": (lambda f: changed(write(f, []), lambda _: b""), "within the first 0 bytes"),
    "not JSON": (lambda f: changed(write(f, []), lambda _: b"file,conf\n"), "not readable UTF-8 JSON"),
    "cut in the middle": (
        lambda f: changed(write(f, IMAGES), lambda b: b[: len(b) // 2]), "premature EOF",
    ),
    "cut in the middle, categories first": (
        lambda f: changed(write(f, IMAGES, categories_last=False), lambda b: b[: len(b) // 2]),
        " images: parse error: premature EOF",
    ),
    "cut at its end": (
        lambda f: changed(write(f, IMAGES, categories_last=False), lambda b: b[:-1]), "after 2000 images",
    ),
    "text behind its end": (
        lambda f: changed(write(f, IMAGES, categories_last=False), lambda b: b + b"{}"), "trailing garbage",
    ),
    "UTF-16": (lambda f: changed(write(f, IMAGES), lambda b: b.decode().encode("utf-16")), "lexical error"),
    "Latin-1": (lambda f: changed(write(f, IMAGES), lambda b: b.replace(b"1.jpg", b"\xe9.jpg")), "UTF8"),
    "half a surrogate pair": (
        lambda f: changed(write(f, IMAGES), lambda b: b.replace(b"1.jpg", b"\\ud800x\\udc00")), "md.json has half of a surrogate pair, \\ud800, within",
    ),
    "a list": (lambda f: changed(write(f, []), lambda _: b"[1, 2]"), "'detection_categories'"),
    "without images": (lambda f: write(f, ...), "no list 'images'"),
    "images null": (lambda f: write(f, None), "no list 'images'"),
    "images an object": (lambda f: write(f, {"a.jpg": []}), "no list 'images'"),
    "no image": (lambda f: write(f, []), "holds no predictions"),
    "without categories": (lambda f: write(f, IMAGES, detection_categories=...), "no value of the key 'detection_categories': "),
    "categories a list": (lambda f: write(f, IMAGES, detection_categories=["animal"]), "expected an object of names"),
    "categories without names": (lambda f: write(f, IMAGES, detection_categories={"1": 1}), "expected an object of names"),
    "nested too deep": (
        lambda f: changed(write(f, []), lambda _: b'{"images": [' + b"[" * 100_000), "more than 200 deep",
    ),
    "nested too deep by objects": (
        lambda f: changed(write(f, []), lambda _: b'{"images": [' + b'{"x":' * 100_000), "more than 200 deep",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", BROKEN_FILES)
def test_a_broken_file_is_an_error_that_names_it(tmp_path, case):
    write_file, words = BROKEN_FILES[case]
    path = write_file(tmp_path)
    with pytest.raises(PredictionReadError) as error:
        rows_of(path)
    assert words in str(error.value)
    assert str(path) in str(error.value)


def test_class_names_that_are_not_the_files_are_an_error(tmp_path):
    path = write(tmp_path, IMAGES)
    assert len(rows_of(path, class_names=["animal", "person"])) == len(IMAGES)
    with pytest.raises(PredictionReadError, match="leave it out, the source carries the names"):
        rows_of(path, class_names=["person", "animal"])
