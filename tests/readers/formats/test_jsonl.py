"""What only JSON Lines have: keys that are not in every line, and lines of any length."""

import json
from pathlib import Path

import pytest

from dagster_active_learning import read_predictions
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
