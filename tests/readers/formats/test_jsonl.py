"""What only JSON Lines have: keys that are not in every line, and lines of any length."""

import json
from pathlib import Path

import pytest

from dagster_active_learning import PoolImages, read_predictions
from dagster_active_learning.errors import PredictionReadError
from dagster_active_learning.readers.formats.jsonl import LINES_SEARCHED_FOR_KEYS
from dagster_active_learning.readers.quarantine import Reason

PREFIX = {"class_column_prefix": "p_"}
PATTERN = {"class_column_pattern": "p_(.)"}
NAMES = {"class_columns": ["p_a", "p_b"]}
SCORE = {"score_column": "score"}
WIDE = {"image_id": "x", "p_a": 0.5, "p_b": 0.5}


def write(folder: Path, *rows: object) -> Path:
    path = folder / "p.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def rows_of(path: Path, **options) -> list[dict]:
    return [
        row for batch in read_predictions(path, format="jsonl", **options) for row in batch.to_pylist()
    ]  # fmt: skip


# What is in the first lines, in the lines behind them, the options; reason and class probabilities
# of the rows behind.
LATE_KEYS = {
    "class probabilities beside a score": (
        {"image_id": "x", "score": 0.9}, {"image_id": "y", "score": 0.9, "class_probs": [0.25, 0.75]}, SCORE, None, [0.25, 0.75],
    ),
    "class probabilities of another name": (
        {"image_id": "x", "score": 0.9}, {"image_id": "y", "v": [0.25, 0.75]}, SCORE | {"class_probs_column": "v"}, None, [0.25, 0.75],
    ),
    "broken class probabilities": (
        {"image_id": "x", "score": 0.9}, {"image_id": "y", "score": 0.9, "class_probs": 0.5}, SCORE, Reason.CLASS_PROBS_NOT_LIST, None,
    ),
    "a class by prefix": (WIDE, WIDE | {"p_c": 0.0}, PREFIX, Reason.LATE_CLASS, None),
    "a class by pattern": (WIDE, WIDE | {"p_c": None}, PATTERN, Reason.LATE_CLASS, None),
    "a class beside a score": (WIDE | {"score": 1}, WIDE | {"p_c": 0.5, "score": 1}, PREFIX | SCORE, Reason.LATE_CLASS, None),
    "no class by pattern": (WIDE, WIDE | {"p_long": 0.5}, PATTERN, None, [0.5, 0.5]),
    "another column": (WIDE, WIDE | {"q": 0.5}, PREFIX, None, [0.5, 0.5]),
    "a class that is not asked for": (WIDE, WIDE | {"p_c": 0.5}, NAMES, None, [0.5, 0.5]),
}  # fmt: skip


@pytest.mark.parametrize("case", LATE_KEYS)
def test_what_first_stands_behind_the_first_lines_is_not_lost(tmp_path, case):
    first, late, options, reason, class_probs = LATE_KEYS[case]
    path = write(tmp_path, *[first] * LINES_SEARCHED_FOR_KEYS, late, late, first)
    rows = rows_of(path, **options)[LINES_SEARCHED_FOR_KEYS:]
    assert [row["reason"] for row in rows] == [reason, reason, None]
    assert [row["class_probs"] for row in rows[:2]] == [class_probs] * 2
    assert [row["image_id"] for row in rows] == [late["image_id"]] * 2 + ["x"]
    assert reason is None or json.loads(rows[0]["raw"]) == late


def test_a_class_whose_name_is_no_text_is_not_lost(tmp_path):
    rows = rows_of(write(tmp_path, WIDE, WIDE | {"p_\ud800": 0.0}), **PREFIX)
    assert [row["reason"] for row in rows] == [None, Reason.LATE_CLASS]


def test_many_short_lines_are_many_batches(tmp_path):
    (tmp_path / "p.jsonl").write_text(json.dumps(WIDE) + "\n" + "x\n" * 50_000)
    batches = list(read_predictions(tmp_path / "p.jsonl", format="jsonl", **PREFIX))
    assert max(map(len, batches)) <= 8_192
    numbers = [number for batch in batches for number in batch["row_number"].to_pylist()]
    assert numbers == list(range(1, 50_002))


OBJECTS = [
    {"image_id": "a", "p_x": 0.25, "p_y": 0.75},
    {"image_id": 7, "p_x": 1.0, "p_y": 0},
    {"image_id": "c", "p_x": None, "p_y": 0.5},
    {"image_id": "d", "p_x": "x", "p_y": 0.5},
]


@pytest.mark.parametrize("indent", [None, 4])
@pytest.mark.parametrize("name", ["p.json", "p.jsonl"])
def test_an_array_of_objects_is_read_as_if_each_stood_on_a_line(tmp_path, indent, name):
    (tmp_path / "lines.jsonl").write_text("\n".join(map(json.dumps, OBJECTS)))
    (tmp_path / name).write_text(json.dumps(OBJECTS, indent=indent))
    lines, array = (
        [
            (row["image_id"], row["row_number"], row["class_probs"], row["reason"])
            for batch in read_predictions(path, format="jsonl", class_column_prefix="p_")
            for row in batch.to_pylist()
        ]
        for path in (tmp_path / "lines.jsonl", tmp_path / name)
    )
    assert repr(array) == repr(lines)
    assert array[:2] == [("a", 1, [0.25, 0.75], None), ("7", 2, [1.0, 0.0], None)]
    reasons = [row[3] for row in array[2:]]
    assert reasons == [Reason.PROBABILITY_NULL, Reason.PROBABILITY_NOT_NUMBER]


def test_an_array_that_is_cut_is_an_error_that_names_the_file(tmp_path):
    path = tmp_path / "p.json"
    path.write_text(json.dumps(OBJECTS * 9)[:-20])
    with pytest.raises(PredictionReadError, match=r"p.json is not readable .* after 35 rows"):
        list(read_predictions(path, format="jsonl", class_column_prefix="p_"))


def test_numbers_may_stand_as_text_where_the_first_value_does(tmp_path):
    rows = [
        {"image": "a", "confidence": "0.5", "x": "1", "y": "2", "w": "3", "h": "4"},
        {"image": "b", "confidence": 0.25, "x": 1, "y": "2.5", "w": "3", "h": "4"},
        {"image": "c", "confidence": "", "x": "1", "y": "2", "w": "3", "h": "4"},
        {"image": "d", "confidence": "high", "x": "1", "y": "2", "w": "3", "h": "4"},
        {"image": "e", "confidence": "0.5", "x": "1", "y": "left", "w": "3", "h": "4"},
    ]
    (tmp_path / "p.json").write_text(json.dumps(rows))
    options = {"image_id_column": "image", "score_column": "confidence", "bbox_columns": [*"xywh"]}
    stream = read_predictions(tmp_path / "p.json", format="jsonl", **options)
    found = [row for batch in stream for row in batch.to_pylist()]
    assert [(row["score"], row["bbox"]) for row in found[:2]] == [
        (0.5, [1, 2, 3, 4]),
        (0.25, [1, 2.5, 3, 4]),
    ]
    assert [row["reason"] for row in found] == [
        None,
        None,
        Reason.SCORE_NULL,
        Reason.SCORE_NOT_NUMBER,
        Reason.BBOX_NOT_FOUR_NUMBERS,
    ]


def test_a_manifest_may_be_an_array_of_objects(tmp_path):
    rows = [{"image_id": "a", "label": "cat"}, {"image_id": 7}]
    (tmp_path / "m.json").write_text(json.dumps(rows, indent=1))
    images, _ = PoolImages(tmp_path / "m.json", format="jsonl").read()
    assert images.to_pylist()[0] | {"labeled": True, "label": "cat"} == images.to_pylist()[0]
    assert images["image_id"].to_pylist() == ["a", "7"]
