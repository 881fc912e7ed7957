"""Open Images CSV: relative corners, the X pair before the Y pair."""

import gzip
from pathlib import Path

import pytest

from dagster_active_learning import read_predictions
from dagster_active_learning.errors import PredictionReadError
from dagster_active_learning.readers.formats import csv
from dagster_active_learning.readers.quarantine import Reason

HEADER = "ImageID,LabelName,Conf,XMin,XMax,YMin,YMax"
GOOD = "a1,/m/01g317,0.5,0.25,0.75,0.125,0.25"
BBOX = [0.25, 0.125, 0.5, 0.125]


def write(folder: Path, text: str | bytes, name: str = "p.csv") -> Path:
    (folder / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    return folder / name


def rows_of(path: Path, **options) -> list[dict]:
    stream = read_predictions(path, format="open_images", **options)
    return [row for batch in stream for row in batch.to_pylist()]


@pytest.mark.parametrize(
    ("text", "options", "score"),
    [
        (f"{HEADER}\n{GOOD}\n", {}, 0.5),
        (f"\ufeff{HEADER}\r\n\r\n{GOOD}\r\n", {}, 0.5),
        ("class_probs,YMax,YMin,XMax,XMin,,Conf,LabelName,ImageID\nx,0.25,0.125,0.75,0.25,,0.5,/m/01g317,a1", {}, 0.5),
        (f"{HEADER}\n{GOOD.replace('0.5', '50', 1)}\n", {"score_transform": "percent"}, 0.5),
        (f"{HEADER}\n{GOOD.replace('0.5', '0', 1)}\n", {"score_transform": "sigmoid"}, 0.5),
        (f"{HEADER}\n{GOOD.replace('0.5', '3.5', 1)}\n", {}, 3.5),
    ],
)  # fmt: skip
def test_a_row_is_an_object(tmp_path, text, options, score):
    stream = read_predictions(write(tmp_path, text), format="open_images", **options)
    (row,) = [row for batch in stream for row in batch.to_pylist()]
    assert stream.bbox_unit == "relative"
    assert (row["image_id"], row["category"], row["row_number"]) == ("a1", "/m/01g317", 1)
    assert (row["score"], row["bbox"]) == (score, BBOX)
    assert row["class_probs"] is None
    assert row["reason"] is None


def test_a_box_may_be_outside_the_image(tmp_path):
    row = GOOD.replace("0.25,0.75,0.125,0.25", "-0.75,-0.25,-0.5,-0.25")
    assert [one["bbox"] for one in rows_of(write(tmp_path, f"{HEADER}\n{row}\n"))] == [
        [-0.75, -0.5, 0.5, 0.25]
    ]


def test_an_error_about_a_column_names_those_of_the_format_and_no_option(tmp_path):
    path = write(tmp_path, f"{HEADER}\n{GOOD}\n".replace("Conf", "Certainty"))
    with pytest.raises(PredictionReadError) as error:
        rows_of(path)
    assert str(error.value).endswith(
        "; expected all of ImageID, Conf, LabelName, XMin, YMin, XMax, YMax"
    )


def test_a_compressed_file_is_read_as_its_suffix_says(tmp_path):
    text = gzip.compress(f"{HEADER}\n{GOOD}\n".encode())
    assert [row["bbox"] for row in rows_of(write(tmp_path, text, "p.csv.gz"))] == [BBOX]


@pytest.mark.parametrize("name", ["Conf", "Confidence", "Score"])
def test_the_score_has_the_name_that_one_of_the_tools_gives_it(tmp_path, name):
    text = f"{HEADER}\n{GOOD}\n".replace("Conf", name)
    (row,) = rows_of(write(tmp_path, text))
    assert (row["score"], row["bbox"], row["reason"]) == (0.5, BBOX, None)


BAD_ROWS = [
    ("a1,/m/1,,0.25,0.75,0.125,0.25", Reason.SCORE_NULL),
    ("a1,/m/1,high,0.25,0.75,0.125,0.25", Reason.SCORE_NOT_NUMBER),
    ("a1,/m/1,0.\0005,0.25,0.75,0.125,0.25", Reason.SCORE_NOT_NUMBER),
    ("a1,/m/1,nan,0.25,0.75,0.125,0.25", Reason.SCORE_NOT_FINITE),
    ("a1,/m/1,inf,0.25,0.75,0.125,0.25", Reason.SCORE_NOT_FINITE),
    ("a1,/m/1,0.5,x,0.75,0.125,0.25", Reason.BBOX_NOT_FOUR_NUMBERS),
    ("a1,/m/1,0.5,nan,0.75,0.125,0.25", Reason.BBOX_NOT_FOUR_NUMBERS),
    ("a1,/m/1,0.5,0.25,0.75,0.125,-inf", Reason.BBOX_NOT_FOUR_NUMBERS),
    ("a1,/m/1,0.5,,0.75,0.125,0.25", Reason.BBOX_NOT_FOUR_NUMBERS),
    ("a1,/m/1,0.5,,,,", Reason.BBOX_NOT_FOUR_NUMBERS),
    ("a1,/m/1,0.5,-1e308,1e308,0.125,0.25", Reason.BBOX_NOT_FOUR_NUMBERS),
    ("a1,/m/1,0.5,0.75,0.25,0.125,0.25", Reason.BBOX_NEGATIVE),
    ("a1,/m/1,0.5,0.25,0.75,0.25,0.125", Reason.BBOX_NEGATIVE),
    ("a1,,0.5,0.25,0.75,0.125,0.25", Reason.UNKNOWN_CATEGORY),
    (",/m/1,0.5,0.25,0.75,0.125,0.25", Reason.IMAGE_ID_NULL),
    (b"\xff,/m/1,0.5,0.25,0.75,0.125,0.25", Reason.IMAGE_ID_NOT_UTF8),
    (b"a1,\xff,0.5,0.25,0.75,0.125,0.25", Reason.UNKNOWN_CATEGORY),
    ("a1,/m/1,0.5,0.25,0.75,0.125", Reason.WRONG_FIELD_COUNT),
    ("a1,/m/1,0.5,0.25,0.75,0.125,0.25,1", Reason.WRONG_FIELD_COUNT),
]


@pytest.mark.parametrize(("row", "reason"), BAD_ROWS)
@pytest.mark.parametrize("transform", [None, "sigmoid"])
def test_a_row_that_is_no_object_keeps_its_place_with_a_reason(tmp_path, row, reason, transform):
    raw = row if isinstance(row, bytes) else row.encode()
    good = GOOD.encode()
    text = b"\n".join([HEADER.encode(), good, b"", raw, good])
    rows = rows_of(write(tmp_path, text), score_transform=transform)
    assert [one["row_number"] for one in rows] == [1, 2, 3]
    assert [one["reason"] for one in rows] == [None, reason, None]
    assert [one["bbox"] for one in (rows[0], rows[2])] == [BBOX, BBOX]
    assert rows[1]["raw"]


@pytest.mark.parametrize(
    ("class_names", "reasons"),
    [
        (["/m/1", "/m/01g317"], [None, Reason.UNKNOWN_CATEGORY, None]),
        (["/m/2"], [Reason.UNKNOWN_CATEGORY, None, Reason.UNKNOWN_CATEGORY]),
        (None, [None, None, None]),
    ],
)
def test_a_name_must_be_one_of_the_classes_where_they_are_given(tmp_path, class_names, reasons):
    lines = [GOOD, GOOD.replace("/m/01g317", "/m/2"), GOOD]
    rows = rows_of(write(tmp_path, "\n".join([HEADER, *lines])), class_names=class_names)
    assert [row["reason"] for row in rows] == reasons
    assert [row["image_id"] for row in rows] == ["a1"] * 3


def test_columns_that_are_not_read_may_hold_anything(tmp_path, monkeypatch):
    monkeypatch.setattr(csv, "BLOCK_BYTES", 256)
    lines = [f"{GOOD},{1 if row < 50 else 'text'}" for row in range(100)]
    path = write(tmp_path, "\n".join([f"{HEADER},IsOccluded", *lines]))
    rows = rows_of(path, batch_rows=7)
    assert [row["row_number"] for row in rows] == list(range(1, 101))
    assert [row["bbox"] for row in rows] == [BBOX] * 100
    assert {row["reason"] for row in rows} == {None}


BROKEN_FILES = {
    "empty": ("", "not a readable UTF-8 CSV"),
    "no header": (f"{GOOD}\n{GOOD}\n", "no column 'ImageID'"),
    "another name for the score": (f"{HEADER}\n{GOOD}\n".replace("Conf", "Certainty"), "no column 'Conf'"),
    "two scores": (f"{HEADER},Score\n{GOOD},0.5\n", "'Conf' and 'Score': expected one of them"),
    "a name in another case": (f"{HEADER}\n{GOOD}\n".replace("XMin", "xmin"), "no column 'XMin'"),
    "a column twice": (f"{HEADER},Conf\n{GOOD},1\n", "more than one column 'Conf'"),
    "a quote that is not closed": (f"{HEADER},Note\n{GOOD},x\n{GOOD},\"late\n" + f"{GOOD},x\n" * 9, "a quote opened in row 2 is not closed"),
    "cut in the middle of a quoted field": (f'{HEADER}\n{GOOD}\na1,"/m/0', "a quote opened in row 2 is not closed"),
    "another encoding": (f"{HEADER}\n{GOOD}\n".encode("utf-16"), "p.csv"),
}  # fmt: skip


@pytest.mark.parametrize("case", BROKEN_FILES)
def test_a_broken_file_is_an_error_that_names_it(tmp_path, case):
    text, words = BROKEN_FILES[case]
    with pytest.raises(PredictionReadError) as error:
        rows_of(write(tmp_path, text))
    assert words in str(error.value)
    assert str(tmp_path) in str(error.value)


def test_a_file_cut_in_the_middle_costs_the_row_it_is_cut_in(tmp_path):
    rows = rows_of(write(tmp_path, f"{HEADER}\n{GOOD}\n{GOOD}"[:-10]))
    assert [row["reason"] for row in rows] == [None, Reason.WRONG_FIELD_COUNT]
