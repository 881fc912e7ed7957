"""Numbers that are no JSON, or more than a parser holds: they cost their row, not the file."""

import io
import json
import math
import random

import pytest

from dagster_active_learning import PoolImages, read_predictions
from dagster_active_learning.readers.json_stream import UnreadableJsonError, json_items
from dagster_active_learning.readers.odd_numbers import OddNumbers, restored
from dagster_active_learning.readers.quarantine import Reason

BOX = "[1, 2, 3, 4]"
COCO = '{{"image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4], "score": {score}, "note": {note}}}'
MEGADETECTOR = '{{"category": "1", "bbox": [0, 0, 1, 1], "conf": {score}, "note": {note}}}'
LIGHTLY = '{{"category_id": 1, "bbox": [1, 2, 3, 4], "score": {score}, "note": {note}}}'


def write_coco(folder, rows):
    (folder / "p.json").write_text(f"[{', '.join(rows)}]")
    return folder / "p.json"


def write_coco_object(folder, rows):
    (folder / "p.json").write_text(f'{{"info": NaN, "annotations": [{", ".join(rows)}]}}')
    return folder / "p.json"


def write_megadetector(folder, rows):
    (folder / "p.json").write_text(
        f'{{"info": {{"x": -Infinity}}, "detection_categories": {{"1": "cat"}}, '
        f'"images": [{{"file": "1", "detections": [{", ".join(rows)}]}}]}}'
    )
    return folder / "p.json"


def write_lightly(folder, rows):
    (folder / "schema.json").write_text('{"categories": [{"id": 1, "name": "cat"}]}')
    (folder / "p.json").write_text(f'{{"file_name": "1", "predictions": [{", ".join(rows)}]}}')
    return folder / "p.json"


FORMATS = {
    "coco": (write_coco, COCO, "coco"),
    "coco object": (write_coco_object, COCO, "coco"),
    "megadetector": (write_megadetector, MEGADETECTOR, "megadetector"),
    "lightly": (write_lightly, LIGHTLY, "lightly"),
}
ODD = ["NaN", "Infinity", "-Infinity", "1e999", "9" * 4000]


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("odd", ODD)
def test_an_odd_score_costs_its_row_and_a_key_that_nobody_reads_nothing(tmp_path, name, odd):
    write, row, kind = FORMATS[name]
    good = row.format(score=0.5, note=2**70)
    rows = [good, row.format(score=odd, note=1), row.format(score=0.25, note=odd)]
    stream = read_predictions(write(tmp_path, rows), format=kind)
    found = [row for batch in stream for row in batch.to_pylist()]
    if kind == "megadetector" and odd.startswith("-"):
        assert [row["score"] for row in found] == [0.5, 0.25]  # suppressed
        return
    assert [row["reason"] for row in found] == [None, Reason.SCORE_NOT_FINITE, None]
    assert [row["score"] for row in found][::2] == [0.5, 0.25]


def test_ids_and_names_may_be_of_any_length_and_look_like_odd_numbers(tmp_path):
    rows = [
        {"image_id": 2**70 + 1, "category_id": 1, "bbox": [1, 2, 3, 4], "score": 0.5},
        {"image_id": "NaN", "category_id": -(2**64), "bbox": [1, 2, 3, 4], "score": 0.5},
        {"image_id": 'a "NaN', "category_id": "Infinity", "bbox": [1, 2, 3, 4], "score": 0.5},
    ]
    (tmp_path / "p.json").write_text(json.dumps(rows))
    stream = read_predictions(tmp_path / "p.json", format="coco")
    found = [row for batch in stream for row in batch.to_pylist()]
    assert [row["image_id"] for row in found] == [str(2**70 + 1), "NaN", 'a "NaN']
    assert [row["category"] for row in found] == ["1", str(-(2**64)), "Infinity"]


def test_an_odd_number_in_a_coco_manifest_is_no_matter_where_nobody_reads_it(tmp_path):
    images = (
        '[{"id": 1, "file_name": "a", "focal": NaN}, {"id": 2, "file_name": "b", "x": [1e999]}]'
    )
    (tmp_path / "m.json").write_text(f'{{"images": {images}}}')
    rows, _ = PoolImages(tmp_path / "m.json").read()
    assert rows["image_id"].to_pylist() == ["1", "2"]


def values(generator):
    """Nested values with odd numbers, and texts that look like them."""
    texts = ["NaN", '"', "\\", '\\"NaN', "1" * 25, "é", "", "\\\\", "Infinity, NaN"]
    numbers = [
        0.5,
        2**63,
        2**63 - 1,
        -(2**63) - 1,
        -(2**63),
        -(2**63) + 1,
        math.inf,
        -math.inf,
        7,
        1e-300,
        0.00012345678901234567,
        10**30,
    ]
    return [
        {
            generator.choice(["a", "NaN", '"']): [
                generator.choice(numbers),
                generator.choice(texts),
            ],
            "b": generator.choice([None, True, generator.choice(numbers)]),
        }
        for _ in range(generator.randrange(60))
    ]


@pytest.mark.parametrize("power", [31, 32, 53, 62, 63, 64, 65, 127])
def test_integers_about_a_power_of_two_cost_nothing(tmp_path, power):
    expected = [sign * 2**power + step for sign in (1, -1) for step in (-1, 0, 1)]
    (tmp_path / "f.json").write_text(json.dumps(expected))
    assert list(json_items(tmp_path / "f.json", None, "numbers")) == expected


@pytest.mark.parametrize("digits", [19, 309, 400, 4300])
def test_an_integer_that_python_makes_is_that_integer(tmp_path, digits):
    expected = [int("7" * digits), -int("9" * digits)]
    (tmp_path / "f.json").write_text(json.dumps(expected))
    assert list(json_items(tmp_path / "f.json", None, "numbers")) == expected


@pytest.mark.parametrize("text", ["0" + "9" * 19, "-00" + "1" * 30, "1.e999", "01e999", "1e+"])
def test_what_is_no_number_of_json_stays_an_error(tmp_path, text):
    (tmp_path / "f.json").write_text(f"[NaN, {text}]")
    with pytest.raises(UnreadableJsonError, match=r"f\.json is not readable UTF-8 JSON"):
        list(json_items(tmp_path / "f.json", None, "numbers"))


@pytest.mark.parametrize("seed", range(40))
@pytest.mark.parametrize("size", [1, 2, 7, 64, 1000])
def test_every_value_comes_back_wherever_blocks_end(tmp_path, seed, size):
    expected = values(random.Random(seed))
    text = json.dumps(expected, ensure_ascii=False)
    file = OddNumbers(io.BytesIO(text.encode()))
    blocks = []
    while block := file.read(size):
        blocks.append(block)
    assert restored(json.loads(b"".join(blocks))) == expected
    (tmp_path / "v.json").write_text(text)
    assert list(json_items(tmp_path / "v.json", None, "values")) == expected
