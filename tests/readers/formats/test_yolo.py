"""YOLO text files: boxes, polygons, the classes of an image, and lines that are none of them."""

import json
from pathlib import Path

import pytest

from dagster_active_learning import read_predictions
from dagster_active_learning.errors import PredictionReadError
from dagster_active_learning.readers.quarantine import Reason

NAMES = ["cat", "dog", "polar bear"]


def labels(folder: Path, files: dict[str, str | bytes]) -> Path:
    for stem, text in files.items():
        (folder / f"{stem}.txt").write_bytes(text if isinstance(text, bytes) else text.encode())
    return folder


def rows_of(path: Path, **options) -> list[dict]:
    stream = read_predictions(path, format="yolo", **options)
    return [row for batch in stream for row in batch.to_pylist()]


# A line, the options, and the category, score, box and mask it stands for.
GOOD_LINES = [
    ("1 0.5 0.5 0.25 0.5 0.9", {}, ("1", 0.9, [0.375, 0.25, 0.25, 0.5], None)),
    ("1 0.5 0.5 0.25 0.5 0.9", {"class_names": NAMES}, ("dog", 0.9, [0.375, 0.25, 0.25, 0.5], None)),
    ("1 0.5 0.5 0.25 0.5 0.9 17", {}, ("1", 0.9, [0.375, 0.25, 0.25, 0.5], None)),
    ("1 0.5 0.5 0.25 0.5 0.9 17.0", {}, ("1", 0.9, [0.375, 0.25, 0.25, 0.5], None)),
    ("1,0.5,0.5,0.25,0.5,0.9", {}, ("1", 0.9, [0.375, 0.25, 0.25, 0.5], None)),
    ("1, 0.5, 0.5, 0.25, 0.5, 0.9, 17", {}, ("1", 0.9, [0.375, 0.25, 0.25, 0.5], None)),
    ("dog 0.5 0.5 0.25 0.5 0.9", {"class_names": NAMES}, ("dog", 0.9, [0.375, 0.25, 0.25, 0.5], None)),
    ("polar bear, 0.9, 10, 20, 30, 60", {"confidence": "second", "box": "xyxy", "bbox_unit": "pixel", "class_names": NAMES}, ("polar bear", 0.9, [10, 20, 20, 40], None)),
    ("1 0.5 0.5 0.25 0.5 0.9", {"class_names": ["1", "0"]}, ("0", 0.9, [0.375, 0.25, 0.25, 0.5], None)),
    ("1.0\t5e-1 .5  0.25 0.5 0.9\r", {}, ("1", 0.9, [0.375, 0.25, 0.25, 0.5], None)),
    ("\ufeff1 0.5 0.5 0.25 0.5 0.9", {}, ("1", 0.9, [0.375, 0.25, 0.25, 0.5], None)),
    ("2 0.9 10 20 30 40", {"confidence": "second", "box": "xywh", "bbox_unit": "pixel"}, ("2", 0.9, [10, 20, 30, 40], None)),
    ("2 10 20 30 60 0.9", {"box": "xyxy", "bbox_unit": "pixel"}, ("2", 0.9, [10, 20, 20, 40], None)),
    ("2 -30 -20 -10 -20 0.9", {"box": "xyxy", "bbox_unit": "pixel"}, ("2", 0.9, [-30, -20, 20, 0], None)),
    ("0 0.5 0.5 0.25 0.5 90", {"score_transform": "percent"}, ("0", 0.9, [0.375, 0.25, 0.25, 0.5], None)),
    ("0 0.5 0.5 0.25 0.5 0", {"score_transform": "sigmoid"}, ("0", 0.5, [0.375, 0.25, 0.25, 0.5], None)),
    ("0 0.25 0.5 0.75 0.5 0.5 1 0.9", {}, ("0", 0.9, [0.25, 0.5, 0.5, 0.5], [0.25, 0.5, 0.75, 0.5, 0.5, 1.0])),
    ("0 0 0 1 0 1 1 0 1 0.9", {}, ("0", 0.9, [0, 0, 1, 1], [0, 0, 1, 0, 1, 1, 0, 1])),
    ("0 0.9 0 0 1 0 1 1", {"confidence": "second"}, ("0", 0.9, [0, 0, 1, 1], [0, 0, 1, 0, 1, 1])),
]  # fmt: skip


@pytest.mark.parametrize(("line", "options", "expected"), GOOD_LINES)
def test_a_line_is_an_object(tmp_path, line, options, expected):
    (row,) = rows_of(labels(tmp_path, {"street": line}), **options)
    category, score, bbox, polygon = expected
    assert (row["image_id"], row["row_number"], row["reason"]) == ("street", 1, None)
    assert (row["category"], row["score"]) == (category, pytest.approx(score))
    assert row["bbox"] == pytest.approx(bbox)
    assert (row["segmentation"] and json.loads(row["segmentation"])) == polygon
    assert row["class_probs"] is None


BAD_LINES = [
    ("0 0.5 0.5 0.25 0.5", {}, Reason.SCORE_NULL),
    ("0 0.5 0.5 0.25 0.5", {"confidence": "second"}, Reason.SCORE_NULL),
    ("0 0 0 1 0 1 1 0 1", {}, Reason.SCORE_NULL),
    ("0 0 0 1 0 1 1", {"confidence": "second"}, Reason.SCORE_NULL),
    ("0 0.5 0.5 0.25 0.5 0.0148887 0.881846", {}, Reason.NO_TRACK_ID),
    ("0 0.5 0.5 0.25 0.5 0.9 1e300", {}, Reason.NO_TRACK_ID),
    ("0 0.5 0.5 0.25 0.5 0.9 nan", {}, Reason.NO_TRACK_ID),
    ("0 0.5 0.5 0.25 0.5 0.9 a", {}, Reason.NO_TRACK_ID),
    ("0 0,5 0,5 0,25 0,5 0,9", {}, Reason.UNKNOWN_CATEGORY),
    ("0 0.5 0.5 0.2", {}, Reason.UNREADABLE_OBJECT),
    ("0", {}, Reason.UNREADABLE_OBJECT),
    ("0 0.5 0.5 0.25 0.5 high", {}, Reason.SCORE_NOT_NUMBER),
    ("0 0.5 0.5 0.25 0.5 1_0", {}, Reason.SCORE_NOT_NUMBER),
    (b"0 0.5 0.5 0.25 0.5 \xff", {}, Reason.SCORE_NOT_NUMBER),
    ("0 0.5 0.5 0.25 0.5 nan", {}, Reason.SCORE_NOT_FINITE),
    ("0 0.5 0.5 0.25 0.5 inf", {"score_transform": "sigmoid"}, Reason.SCORE_NOT_FINITE),
    ("0 nan 0.5 0.25 0.5 0.9", {}, Reason.BBOX_NOT_FOUR_NUMBERS),
    ("0 0.5 inf 0.25 0.5 0.9", {}, Reason.BBOX_NOT_FOUR_NUMBERS),
    ("0 0.5 x 0.25 0.5 0.9", {}, Reason.BBOX_NOT_FOUR_NUMBERS),
    ("0 0.5 0.\0005 0.25 0.5 0.9", {}, Reason.BBOX_NOT_FOUR_NUMBERS),
    ("0 -1e308 0 1e308 1 0.9", {"box": "xyxy"}, Reason.BBOX_NOT_FOUR_NUMBERS),
    ("0 0.5 0.5 -0.25 0.5 0.9", {}, Reason.BBOX_NEGATIVE),
    ("0 0.5 0.5 0.25 -0.5 0.9", {"box": "xywh"}, Reason.BBOX_NEGATIVE),
    ("0 30 20 10 60 0.9", {"box": "xyxy"}, Reason.BBOX_NEGATIVE),
    ("0 0 0 1 0 1 nan 0.9", {}, Reason.UNREADABLE_OBJECT),
    ("0 0 0 1 0 1 x 0.9", {}, Reason.UNREADABLE_OBJECT),
    ("3 0.5 0.5 0.25 0.5 0.9", {"class_names": NAMES}, Reason.UNKNOWN_CATEGORY),
    ("1e300 0.5 0.5 0.25 0.5 0.9", {"class_names": NAMES}, Reason.UNKNOWN_CATEGORY),
    ("-1 0.5 0.5 0.25 0.5 0.9", {"class_names": NAMES}, Reason.UNKNOWN_CATEGORY),
    ("-1 0.5 0.5 0.25 0.5 0.9", {}, Reason.UNKNOWN_CATEGORY),
    ("0.5 0.5 0.5 0.25 0.5 0.9", {}, Reason.UNKNOWN_CATEGORY),
    ("nan 0.5 0.5 0.25 0.5 0.9", {}, Reason.UNKNOWN_CATEGORY),
    ("cat 0.5 0.5 0.25 0.5 0.9", {}, Reason.UNKNOWN_CATEGORY),
    ("wolf 0.5 0.5 0.25 0.5 0.9", {"class_names": NAMES}, Reason.UNKNOWN_CATEGORY),
]


@pytest.mark.parametrize(("line", "options", "reason"), BAD_LINES)
def test_a_line_that_is_no_object_keeps_its_place_with_a_reason(tmp_path, line, options, reason):
    good = b"0 0.5 0.5 0.9 0.9 0.9"
    raw = line if isinstance(line, bytes) else line.encode()
    rows = rows_of(labels(tmp_path, {"a": b"\n".join([good, b"", raw, good])}), **options)
    assert [row["row_number"] for row in rows] == [1, 2, 3]
    assert [row["reason"] for row in rows] == [None, reason, None]
    assert rows[1]["raw"] == raw.decode(errors="backslashreplace")
    assert {row["image_id"] for row in rows} == {"a"}
    assert rows[1]["score"] is None


# The lines of a file and its probabilities: cat, dog, polar bear and all other classes.
GOOD_IMAGES = [
    ("0.75 dog\n0.20 polar bear\n0.05 cat\n", [0.05, 0.75, 0.2, 0.0]),
    ("0.75 polar bear\n", [0.0, 0.0, 0.75, 0.25]),
    ("\n1.00\tcat\n\n0.00  dog\r\n", [1.0, 0.0, 0.0, 0.0]),
    ("0.50 cat\n0.51 dog\n", [0.5, 0.51, 0.0, 0.0]),
    ("1.00 cat\n0.90 dog\n", [1.0, 0.9, 0.0, 0.0]),
]


@pytest.mark.parametrize(("text", "expected"), GOOD_IMAGES)
def test_classes_of_an_image_are_one_prediction_with_the_rest_as_one_more_class(
    tmp_path, text, expected
):
    stream = read_predictions(labels(tmp_path, {"a": text}), format="yolo", class_names=NAMES)
    (row,) = [row for batch in stream for row in batch.to_pylist()]
    assert stream.class_names == (*NAMES, "other")
    assert stream.bbox_unit is None
    assert row["class_probs"] == pytest.approx(expected)
    assert (row["score"], row["category"], row["bbox"], row["reason"]) == (None,) * 4
    assert row["row_number"] == 1


@pytest.mark.parametrize("names", [["0", "1"], ["0.5", "7 8", "1"]])
def test_classes_may_have_numbers_for_names(tmp_path, names):
    (row,) = rows_of(labels(tmp_path, {"a": "0.75 1\n"}), class_names=names)
    assert row["class_probs"] == [*[0.0] * (len(names) - 1), 0.75, 0.25]


def test_the_rest_has_its_own_name_where_the_model_has_a_class_other(tmp_path):
    folder = labels(tmp_path, {"a": "0.75 other\n"})
    stream = read_predictions(folder, format="yolo", class_names=["cat", "other"])
    assert stream.class_names == ("cat", "other", "other classes")


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("0.25 zebra", Reason.UNKNOWN_CATEGORY),
        (b"0.25 c\xe4t", Reason.UNKNOWN_CATEGORY),
        ("0.25 cat\0", Reason.UNKNOWN_CATEGORY),
        ("high cat", Reason.PROBABILITY_NOT_NUMBER),
        ("0.25 dog", Reason.UNREADABLE_OBJECT),
        ("0.2", Reason.UNREADABLE_OBJECT),
    ],
)
def test_an_image_with_a_class_that_cannot_be_read_is_no_prediction(tmp_path, line, reason):
    raw = line if isinstance(line, bytes) else line.encode()
    folder = labels(tmp_path, {"a": b"0.50 dog\n" + raw + b"\n0.10 cat"})
    (row,) = rows_of(folder, class_names=NAMES)
    assert (row["image_id"], row["row_number"], row["reason"]) == ("a", 2, reason)
    assert row["raw"] == raw.decode(errors="backslashreplace")


@pytest.mark.parametrize("empty", ["1", "2", "3"])
@pytest.mark.parametrize("nothing", ["", "\n \r\n", b"\xef\xbb\xbf"])
@pytest.mark.parametrize(
    ("line", "class_names"),
    [("0.5 cat", (*NAMES, "other")), ("0 0.5 0.5 0.25 0.5 0.9", tuple(NAMES))],
)
def test_an_empty_file_is_an_image_without_objects_and_fits_to_any_other(
    tmp_path, empty, nothing, line, class_names
):
    files = dict.fromkeys(("1", "2", "3"), line) | {empty: nothing}
    stream = read_predictions(labels(tmp_path, files), format="yolo", class_names=NAMES)
    rows = [row for batch in stream for row in batch.to_pylist()]
    assert stream.class_names == class_names
    assert [row["image_id"] for row in rows] == ["1", "2", "3"]
    assert [row["row_number"] for row in rows if row["image_id"] == empty] == [None]
    assert {row["row_number"] for row in rows if row["image_id"] != empty} == {1}
    assert {row["reason"] for row in rows} == {None}


@pytest.mark.parametrize("name", ["classes", "notes", "README.roboflow", "predefined_classes"])
@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ("", 0),
        ("cat\ndog\npolar bear\n", 0),
        ("Exported with love: 0.5 0.5", 0),
        ("0 0.5 0.5 0.25 0.5 0.9", 1),
        ("0 0.5 0.5 0.25 0.5 0.9\nbroken", 2),
    ],
)
def test_a_text_file_beside_the_labels_is_an_image_only_if_it_has_labels(
    tmp_path, name, text, rows
):
    files = {"a": "0 0.5 0.5 0.25 0.5 0.9", "b": "", name: text}
    found = rows_of(labels(tmp_path, files), class_names=NAMES)
    assert [row["image_id"] for row in found if row["image_id"] != name] == ["a", "b"]
    assert len(found) - 2 == rows


@pytest.mark.parametrize("line", ["0 0.5 0.5 0.25 0.5 0.9", "0.5 cat", ""])
def test_two_files_of_one_name_are_no_predictions_of_one_image(tmp_path, line):
    for folder in ("train", "val"):
        (tmp_path / folder).mkdir()
        labels(tmp_path / folder, {"0001": line, f"only in {folder}": line})
    with pytest.raises(PredictionReadError) as error:
        rows_of(tmp_path / "*" / "*.txt", class_names=NAMES)
    assert str(error.value).startswith(
        f"{tmp_path}/train/0001.txt and {tmp_path}/val/0001.txt are both about the image '0001'"
    )
    assert len(rows_of(tmp_path / "val", class_names=NAMES)) == 2


BROKEN_FOLDERS = {
    "without files": ({}, {}, "holds no *.txt files"),
    "classes without their names": ({"a": "0.5 cat"}, {}, "needs the option class_names"),
    "classes of images beside objects": (
        {"a": "0 0.5 0.5 0.25 0.5 0.9", "b": "0.5 cat"}, {"class_names": NAMES}, "must have the same classes",
    ),
    "a line without end": ({"a": b"0" * 9_000_000}, {}, "a text file with one object or one id per line"),
}  # fmt: skip


@pytest.mark.parametrize("case", BROKEN_FOLDERS)
def test_a_broken_folder_is_an_error_that_names_it(tmp_path, case):
    files, options, words = BROKEN_FOLDERS[case]
    with pytest.raises(PredictionReadError) as error:
        rows_of(labels(tmp_path, files), **options)
    assert words in str(error.value)
    assert str(tmp_path) in str(error.value)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-32"])
def test_lines_in_another_encoding_are_rejected(tmp_path, encoding):
    text = "0 0.5 0.5 0.25 0.5 0.9\n0 0.5 0.5 0.25 0.5 0.9".encode(encoding)
    rows = rows_of(labels(tmp_path, {"a": text}))
    assert rows
    assert None not in {row["reason"] for row in rows}


def test_a_file_cut_in_the_middle_costs_the_line_it_is_cut_in(tmp_path):
    text = "0 0.5 0.5 0.25 0.5 0.9\n" * 3
    rows = rows_of(labels(tmp_path, {"a": text[:-12]}))
    assert [row["reason"] for row in rows] == [None, None, Reason.UNREADABLE_OBJECT]


@pytest.fixture(scope="module")
def voc(real_predictions) -> Path:
    return real_predictions / "voc_four_formats" / "dets"


@pytest.mark.parametrize(
    ("folder", "options"),
    [
        ("abs_xywh", {"box": "xywh", "bbox_unit": "pixel"}),
        ("abs_xyx2y2", {"box": "xyxy", "bbox_unit": "pixel"}),
        ("rel_xywh", {"box": "xcycwh", "bbox_unit": "relative"}),
    ],
)
def test_real_detections_are_the_same_in_every_layout(voc, folder, options):
    coco = json.loads((voc / "coco_format" / "coco_dets.json").read_text())
    images = {Path(one["file_name"]).stem: one for one in coco["images"]}
    stems = {one["id"]: stem for stem, one in images.items()}
    stream = read_predictions(voc / folder, format="yolo", confidence="second", **options)
    assert stream.bbox_unit == options["bbox_unit"]
    rows = [row for batch in stream for row in batch.to_pylist()]
    objects = [row for row in rows if row["row_number"] is not None]
    assert {row["reason"] for row in rows} == {None}
    assert len(objects) == 452
    assert len({row["image_id"] for row in objects}) == 98
    aeroplane = next(row for row in objects if row["image_id"] == "2007_000033")
    assert aeroplane["category"] == "0"

    def in_pixels(row: dict) -> list[float]:
        if options["bbox_unit"] == "pixel":
            return row["bbox"]
        size = images[row["image_id"]]["width"], images[row["image_id"]]["height"]
        return [number * side for number, side in zip(row["bbox"], size * 2, strict=True)]

    found = sorted((row["image_id"], round(row["score"], 5), in_pixels(row)) for row in objects)
    expected = sorted(
        (stems[one["image_id"]], round(one["score"], 5), one["bbox"]) for one in coco["annotations"]
    )
    assert len(found) == len(expected)
    for (image_id, score, bbox), (true_id, true_score, true_bbox) in zip(
        found, expected, strict=True
    ):
        assert image_id == true_id
        assert score == pytest.approx(true_score, abs=2e-5)
        assert bbox == pytest.approx(true_bbox, abs=0.01)
