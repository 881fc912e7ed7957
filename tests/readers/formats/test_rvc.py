"""RVC (PDQ) submissions: what is read, what is quarantined, and what broken files say."""

import json
from pathlib import Path

import pyarrow as pa
import pytest

from dagster_active_learning import read_predictions
from dagster_active_learning.errors import PredictionReadError
from dagster_active_learning.readers.quarantine import Reason

CLASSES = ["cup", "bowl", "bed"]


def detection(**changes) -> dict:
    """A detection; a change to ``...`` takes the key out."""
    found = {"bbox": [10, 20, 30.5, 60], "label_probs": [0.25, 0.5, 0.125], "covars": [[[1, 0]]]}
    return {key: value for key, value in {**found, **changes}.items() if value is not ...}


def write(folder: Path, detections: object, *, classes: object = CLASSES, last=False) -> Path:
    items = [("classes", classes), ("detections", detections)]
    document = dict(reversed(items) if last else items)
    document = {key: value for key, value in document.items() if value is not ...}
    (folder / "000001.json").write_text(json.dumps(document))
    return folder / "000001.json"


def rows_of(path: Path, **options) -> list[dict]:
    stream = read_predictions(path, format="rvc", **options)
    return [row for batch in stream for row in batch.to_pylist()]


@pytest.mark.parametrize("last", [True, False])
@pytest.mark.parametrize("batch_rows", [None, 1])
def test_each_box_has_a_full_vector_with_the_background_last(tmp_path, last, batch_rows):
    path = write(tmp_path, [[detection(), detection(label_probs=[0, 0, 1])], [detection()]], last=last)  # fmt: skip
    stream = read_predictions(path, format="rvc", batch_rows=batch_rows)
    rows = [row for batch in stream for row in batch.to_pylist()]
    columns = ("row_number", "image_id", "category", "score", "class_probs")
    assert [tuple(row[name] for name in columns) for row in rows] == [
        (1, "000001/0", "bowl", 0.5, [0.25, 0.5, 0.125, 0.125]),
        (2, "000001/0", "bed", 1.0, [0.0, 0.0, 1.0, 0.0]),
        (3, "000001/1", "bowl", 0.5, [0.25, 0.5, 0.125, 0.125]),
    ]
    assert [row["bbox"] for row in rows] == [[10.0, 20.0, 20.5, 40.0]] * 3
    assert {row["reason"] for row in rows} == {None}
    assert stream.class_names == ("cup", "bowl", "bed", "background")
    assert (stream.bbox_unit, stream.value_type) == ("pixel", pa.float64())


@pytest.mark.parametrize(
    ("label_probs", "score", "background"),
    [
        ([0.1, 0.1, 0.1], 0.1, 0.7),
        ([0, 0, 0], 0.0, 1.0),
        ([0.1, 0.2, 0.7], 0.7, 0.0),
        ([0.5, 0.5, 0.0004], 0.5, 0.0),
        ([0.9, 0.9, 0.9], 0.9, 0.0),
        ([2, 0, 0], 2.0, 0.0),
        ([-1, 0, 0], 0.0, 2.0),
    ],
)
def test_nothing_is_renormalised(tmp_path, label_probs, score, background):
    (row,) = rows_of(write(tmp_path, [[detection(label_probs=label_probs)]]))
    assert row["class_probs"][:3] == label_probs
    assert row["class_probs"][3] == pytest.approx(background, abs=1e-15)
    assert row["score"] == score, "the background is no object, however probable it is"
    assert row["reason"] is None, "values are judged where predictions are stored"


def test_an_image_without_objects_counts_as_seen(tmp_path):
    rows = rows_of(write(tmp_path, [[], [detection()], []]))
    found = {row["image_id"]: (row["row_number"], row["reason"]) for row in rows}
    assert found == {"000001/0": (None, None), "000001/1": (1, None), "000001/2": (None, None)}


def test_ids_come_from_a_list_beside_the_file(tmp_path):
    path = write(tmp_path, [[detection()], [], [detection()]])
    before = read_predictions(path, format="rvc").sha256()
    (tmp_path / "000001.ids.txt").write_text("é.png\nb.png\nc.png\n", encoding="utf-8")
    stream = read_predictions(path, format="rvc", image_ids="{stem}.ids.txt")
    rows = [row for batch in stream for row in batch.to_pylist()]
    assert sorted(row["image_id"] for row in rows) == ["b.png", "c.png", "é.png"]
    assert stream.sha256() != before, "the ids are part of what was read"


@pytest.mark.parametrize(
    ("ids", "words"),
    [
        (b"a\nb\n", "more than 2 images, but there are 2 image ids"),
        (b"a\nb\nc\nd\n", "has 3 images, but there are 4 image ids"),
        (b"a\nb\na\n", "line 3, 'a', is the same as line 1"),
        (b"a\n\nc\n", "line 2, '', is empty"),
        (b"", "more than 0 images, but there are 0 image ids"),
        (b"a\n\xff\nc\n", "not a readable UTF-8 list of ids"),
        (None, "no list of image ids beside it"),
    ],
)
def test_a_list_of_ids_that_does_not_fit_is_an_error(tmp_path, ids, words):
    path = write(tmp_path, [[detection()], [], [detection()]])
    if ids is not None:
        (tmp_path / "ids.txt").write_bytes(ids)
    with pytest.raises(PredictionReadError) as error:
        rows_of(path, image_ids="ids.txt")
    assert words in str(error.value)
    assert str(tmp_path) in str(error.value)


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (detection(label_probs=...), Reason.CLASS_PROBS_NULL),
        (detection(label_probs=None), Reason.CLASS_PROBS_NULL),
        (detection(label_probs=0.5), Reason.CLASS_PROBS_NOT_LIST),
        (detection(label_probs={"cup": 1}), Reason.CLASS_PROBS_NOT_LIST),
        (detection(label_probs=[]), Reason.CLASS_PROBS_EMPTY),
        (detection(label_probs=[0.5, 0.5]), Reason.OTHER_CLASS_COUNT),
        (detection(label_probs=[0.5, 0.5, 0, 0]), Reason.OTHER_CLASS_COUNT),
        (detection(label_probs=[0.5, None, 0.5]), Reason.PROBABILITY_NULL),
        (detection(label_probs=[0.5, "0.5", 0]), Reason.PROBABILITY_NOT_NUMBER),
        (detection(label_probs=[0.5, True, 0]), Reason.PROBABILITY_NOT_NUMBER),
        (detection(bbox=...), "the object has no key 'bbox'"),
        (detection(bbox=None), Reason.BBOX_NOT_FOUR_NUMBERS),
        (detection(bbox=[1, 2, 3]), Reason.BBOX_NOT_FOUR_NUMBERS),
        (detection(bbox=[1, 2, 3, "4"]), Reason.BBOX_NOT_FOUR_NUMBERS),
        (detection(bbox=[-1.5e308, 0, 1.5e308, 1]), Reason.BBOX_NOT_FOUR_NUMBERS),
        (detection(bbox=[5, 0, 4, 1]), Reason.BBOX_NEGATIVE),
        ([], Reason.NO_OBJECT),
        (None, Reason.NO_OBJECT),
    ],
)
def test_a_bad_detection_keeps_its_place_with_a_reason(tmp_path, bad, reason):
    rows = rows_of(write(tmp_path, [[], [detection(), bad, detection()]]))
    rows = [row for row in rows if row["row_number"]]
    assert [(row["row_number"], row["image_id"]) for row in rows] == [
        (1, "000001/1"),
        (2, "000001/1"),
        (3, "000001/1"),
    ]
    assert [row["reason"] for row in rows] == [None, reason, None]
    assert json.loads(rows[1]["raw"]) == bad


@pytest.mark.parametrize("bad", [None, {}, "x", 0])
def test_an_image_that_is_no_list_is_one_row_and_keeps_its_position(tmp_path, bad):
    rows = rows_of(write(tmp_path, [bad, [detection()]]))
    assert [(row["row_number"], row["image_id"], row["reason"]) for row in rows] == [
        (1, "000001/0", Reason.NO_LIST_OF_OBJECTS),
        (2, "000001/1", None),
    ]


SEQUENCE = [[detection()]] * 2_000


def changed(path: Path, change) -> Path:
    path.write_bytes(change(path.read_bytes()))
    return path


# What a file can be instead of a sequence: what writes it, words of the error.
BROKEN_FILES = {
    "a folder": (lambda f: f, "is a folder"),
    "empty": (lambda f: changed(write(f, []), lambda _: b""), "within the first 0 bytes"),
    "cut in the middle": (lambda f: changed(write(f, SEQUENCE), lambda b: b[: len(b) // 2]), " images: parse error: premature EOF"),
    "cut in the middle, classes last": (
        lambda f: changed(write(f, SEQUENCE, last=True), lambda b: b[: len(b) // 2]), "while 'classes' was looked for",
    ),
    "UTF-16": (lambda f: changed(write(f, SEQUENCE), lambda b: b.decode().encode("utf-16")), "lexical error"),
    "a list": (lambda f: changed(write(f, []), lambda _: b"[[1]]"), "no value of the key 'classes': "),
    "without detections": (lambda f: write(f, ...), "no list 'detections'"),
    "detections an object": (lambda f: write(f, {"0": []}), "no list 'detections'"),
    "no image": (lambda f: write(f, []), "holds no predictions"),
    "without classes": (lambda f: write(f, SEQUENCE, classes=...), "no value of the key 'classes': "),
    "no class": (lambda f: write(f, SEQUENCE, classes=[]), "expected a list of class names"),
    "classes are numbers": (lambda f: write(f, SEQUENCE, classes=[1, 2, 3]), "expected a list of class names"),
    "a class twice": (lambda f: write(f, SEQUENCE, classes=["cup", "cup", "bed"]), "expected each name once"),
    "a class named background": (
        lambda f: write(f, SEQUENCE, classes=["cup", "bed", "background"]), "has a class 'background'",
    ),
    "nested too deep": (
        lambda f: changed(write(f, []), lambda _: b'{"classes": ["a"], "detections": ' + b"[" * 100_000),
        "more than 200 deep",
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
