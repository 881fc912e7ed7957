"""KITTI text files: 16 columns a line, and lines that have something else."""

from pathlib import Path

import pytest

from dagster_active_learning import read_predictions
from dagster_active_learning.errors import PredictionReadError
from dagster_active_learning.readers.quarantine import Reason

BOX_ONLY = "{type} -1 -1 -10 {box} -1 -1 -1 -1000 -1000 -1000 -10 {score}"


def line(type: str = "Car", box: str = "100 50 140 70", score: str = "0.9") -> str:
    return BOX_ONLY.format(type=type, box=box, score=score).strip()


def write(folder: Path, text: str | bytes, name: str = "000007.txt") -> Path:
    (folder / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    return folder


def rows_of(path: Path, **options) -> list[dict]:
    stream = read_predictions(path, format="kitti", **options)
    return [row for batch in stream for row in batch.to_pylist()]


@pytest.mark.parametrize(
    ("text", "options", "category", "score", "bbox"),
    [
        (line(), {}, "Car", 0.9, [100, 50, 40, 20]),
        (line().replace(" ", ","), {}, "Car", 0.9, [100, 50, 40, 20]),
        (line("DontCare", score="0"), {}, "DontCare", 0.0, [100, 50, 40, 20]),
        (line(box="-5.5 -1 12 1e3"), {}, "Car", 0.9, [-5.5, -1, 17.5, 1001]),
        (line(score="97.85"), {}, "Car", 97.85, [100, 50, 40, 20]),
        (line(score="97.85"), {"score_transform": "percent"}, "Car", 0.9785, [100, 50, 40, 20]),
        (line(score="0"), {"score_transform": "sigmoid"}, "Car", 0.5, [100, 50, 40, 20]),
        (line(score="-2000"), {"score_transform": "sigmoid"}, "Car", 0.0, [100, 50, 40, 20]),
        ("\ufeff" + line("Fußgänger").replace(" ", "\t") + "\r\n", {}, "Fußgänger", 0.9, [100, 50, 40, 20]),
        ("Van 0.1 2 1.5 100 50 140 70 1.6 1.7 4.1 2.0 1.4 nan 0.01 0.9", {}, "Van", 0.9, [100, 50, 40, 20]),
    ],
)  # fmt: skip
def test_a_line_is_an_object(tmp_path, text, options, category, score, bbox):
    stream = read_predictions(write(tmp_path, text), format="kitti", **options)
    (row,) = [row for batch in stream for row in batch.to_pylist()]
    assert stream.bbox_unit == "pixel"
    assert (row["image_id"], row["row_number"], row["reason"]) == ("000007", 1, None)
    assert (row["category"], row["bbox"]) == (category, bbox)
    assert row["score"] == pytest.approx(score)
    assert row["class_probs"] is None


BAD_LINES = [
    (line(score=""), Reason.SCORE_NULL),
    (line(score="0.9 0.9"), Reason.UNREADABLE_OBJECT),
    ("Car 0 0", Reason.UNREADABLE_OBJECT),
    ("Person sitting 0.1 2 1.5 100 50 140 70 1.6 1.7 4.1 2.0 1.4 8.4 0.01", Reason.UNREADABLE_OBJECT),
    (line(score="high"), Reason.SCORE_NOT_NUMBER),
    (line(score="NaN"), Reason.SCORE_NOT_FINITE),
    (line(score="-inf"), Reason.SCORE_NOT_FINITE),
    (line(box="100 x 140 70"), Reason.BBOX_NOT_FOUR_NUMBERS),
    (line(box="nan 50 140 70"), Reason.BBOX_NOT_FOUR_NUMBERS),
    (line(box="100 50 inf 70"), Reason.BBOX_NOT_FOUR_NUMBERS),
    (line(box="-1e308 50 1e308 70"), Reason.BBOX_NOT_FOUR_NUMBERS),
    (line(box="140 50 100 70"), Reason.BBOX_NEGATIVE),
    (line(box="100 70 140 50"), Reason.BBOX_NEGATIVE),
    (line().replace("-1000", "far"), Reason.UNREADABLE_OBJECT),
    (line("C\xe4r").encode("latin-1"), Reason.UNKNOWN_CATEGORY),
    (line("C\0r"), Reason.UNKNOWN_CATEGORY),
    (line(box="100 5\0000 140 70"), Reason.BBOX_NOT_FOUR_NUMBERS),
]  # fmt: skip


@pytest.mark.parametrize(("text", "reason"), BAD_LINES)
def test_a_line_that_is_no_object_keeps_its_place_with_a_reason(tmp_path, text, reason):
    raw = text if isinstance(text, bytes) else text.encode()
    good = line().encode()
    rows = rows_of(write(tmp_path, b"\n".join([good, b" ", raw, good])))
    assert [row["row_number"] for row in rows] == [1, 2, 3]
    assert [row["reason"] for row in rows] == [None, reason, None]
    assert rows[1]["raw"] == raw.decode(errors="backslashreplace")
    assert {row["image_id"] for row in rows} == {"000007"}


def test_an_empty_file_is_an_image_without_objects(tmp_path):
    write(tmp_path, "", "000006.txt")
    rows = rows_of(write(tmp_path, line()), class_names=["Car", "Van"])
    assert [(row["image_id"], row["row_number"]) for row in rows] == [
        ("000006", None),
        ("000007", 1),
    ]


@pytest.mark.parametrize("batch_rows", [None, 1, 7])
def test_a_folder_is_read_in_the_order_of_its_names(tmp_path, batch_rows):
    for image in range(20):
        write(tmp_path, f"{line(score='0.5')}\n" * (image % 3), f"{image:06d}.txt")
    rows = rows_of(tmp_path, batch_rows=batch_rows)
    assert [(row["image_id"], row["row_number"]) for row in rows] == [
        (f"{image:06d}", row)
        for image in range(20)
        for row in ([None] if image % 3 == 0 else range(1, image % 3 + 1))
    ]


@pytest.mark.parametrize("text", [f"{line()}\n" * 2, ""])
def test_two_files_of_one_name_are_no_predictions_of_one_image(tmp_path, text):
    for folder in ("train", "val"):
        (tmp_path / folder).mkdir()
        write(tmp_path / folder, text)
    with pytest.raises(PredictionReadError) as error:
        rows_of(tmp_path / "*" / "*.txt")
    assert f"{tmp_path}/train/000007.txt and {tmp_path}/val/000007.txt are both" in str(error.value)


@pytest.mark.parametrize(
    ("folder", "words"),
    [("empty", "empty holds no *.txt files: expected"), ("none", "none does not exist: expected")],
)
def test_a_folder_without_files_is_an_error_that_names_it(tmp_path, folder, words):
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "000007.csv").write_text(line())
    with pytest.raises(PredictionReadError) as error:
        rows_of(tmp_path / folder)
    assert f"{tmp_path}/{words}" in str(error.value)


@pytest.mark.parametrize("name", ["run[1]", "[", "r*n", "a?", "[!x]", "**"])
def test_a_folder_may_have_the_characters_of_a_glob_in_its_name(tmp_path, name):
    for folder in (name, "run1", "rn", "ab", "y"):
        (tmp_path / folder).mkdir()
        write(tmp_path / folder, line(), f"in {folder}.txt")
    assert [row["image_id"] for row in rows_of(tmp_path / name)] == [f"in {name}"]


@pytest.mark.parametrize(
    ("type", "class_names", "reason"),
    [
        ("Car", ["Car", "Van"], None),
        ("Van", ["Car", "Van"], None),
        ("car", ["Car", "Van"], Reason.UNKNOWN_CATEGORY),
        ("DontCare", ["Car", "Van"], Reason.UNKNOWN_CATEGORY),
        ("DontCare", ["Car", "DontCare"], None),
        ("Spaceship", None, None),
    ],
)
def test_a_type_must_be_one_of_the_classes_where_they_are_given(
    tmp_path, type, class_names, reason
):
    (row,) = rows_of(write(tmp_path, line(type)), class_names=class_names)
    assert (row["reason"], row["image_id"]) == (reason, "000007")
    assert row["category"] == (None if reason else type)


def test_lines_in_another_encoding_are_rejected(tmp_path):
    rows = rows_of(write(tmp_path, f"{line()}\n{line()}".encode("utf-16")))
    assert rows
    assert None not in {row["reason"] for row in rows}


def test_a_file_cut_in_the_middle_costs_the_line_it_is_cut_in(tmp_path):
    rows = rows_of(write(tmp_path, f"{line()}\n{line()}"[:-30]))
    assert [row["reason"] for row in rows] == [None, Reason.UNREADABLE_OBJECT]
