"""Large COCO files are read in columns: they say what the parser says, row by row, error by error."""

import gzip
import json
import random

import pytest

from dagster_active_learning import read_predictions
from dagster_active_learning.errors import PredictionReadError
from dagster_active_learning.readers import json_scan, json_stream
from dagster_active_learning.readers.formats import coco

# Values as they may be written; the first ones are what most files have.
IDS = [
    "7",
    "8",
    '"7"',
    '"a"',
    '"b.jpg"',
    "9",
    "7.0",
    "7e0",
    "-0",
    "-0.0",
    "1.5",
    "null",
    "true",
    '""',
    '"\\u00e9"',
    '"é"',
    '"a\\/b"',
    '"\\n"',
    "12345678901234567890",
    "-3",
    "[7]",
    "NaN",
    "007",
]
NUMBERS = [
    "0.5",
    "1",
    "0",
    "0.30000000000000004",
    "1e-7",
    "-0",
    "-0.0",
    "NaN",
    "Infinity",
    "-Infinity",
    "-NaN",
    "1e999",
    "1" * 25,
    "1" * 400,
    '"0.5"',
    "null",
    "true",
    "0.1234567890123456789012",
    "{}",
    "[]",
    "5E-1",
    "1.",
    ".5",
    "-",
    "+1",
    "01",
]
BOXES = [
    "[1, 2.5, 3, 4]",
    "[1,2,3,4]",
    "[ 1 ,\\n2 , 3\\t, 4 ]",
    "null",
    "[1, 2, 3]",
    "[1, 2, 3, 4, 5]",
    "[1, 2, -3, 4]",
    "[1, 2, 3, -0.0]",
    '[1, 2, 3, "4"]',
    "[1, 2, 3, NaN]",
    "[1e308, 1e308, 1e308, 1]",
    "[]",
    '{"x": 1}',
    "[[1], 2, 3, 4]",
    "[1, 2, 3, null]",
    "[1, 2, 3, 4,]",
]
MASKS = [
    "null",
    "[]",
    "[[0, 0, 1.50, 0, 1, 1]]",
    '{"size": [4, 4], "counts": "6\\\\1X"}',
    '{"counts": "61X"}',
    '"61X"',
    "0",
    "{}",
    '{"size": [4, 4], "counts": "\\u00e9é"}',
    "[NaN, 1e999]",
    "[" * 70 + "]" * 70,
    '{"size": 1, "counts": 2, "size": 3}',
    '{"size": 1, "counts": "\\ud800"}',
]
PROBABILITIES = ["null", "[0.5, 0.5]", "[]", "0.5", '["x"]']
OTHERS = [
    "1",
    '{"y": [1, {"z": "}]"}]}',
    '"\\ud83e\\udd8a"',
    '"\\udc00"',
    '"\\ud800x"',
    "tru",
    "-true",
    "-Infinity",
    '"\x01"',
    '"\\x"',
    "1e5",
    "[1 2]",
    '{"a" 1}',
]
ODD_ROWS = [
    "1",
    "null",
    "[]",
    "{}",
    '"x"',
    '{"image_id": 7, "image_id": 8, "category_id": 1, "score": 0.5}',
    '{"image\\u005fid": 7, "category_id": 1, "score": 0.5}',
    '{"file_name": "a.jpg", "category_id": 1, "score": 0.5}',
    "{,}",
]
TABLES = [
    '"images": [{"id": 7, "file_name": "a.jpg"}, {"id": 8, "file_name": "b.jpg"}, {"id": 9, "file_name": "7"}]',
    '"categories": [{"id": 1, "name": "cat"}, {"id": 0, "name": "dog"}]',
    '"info": {"x": "annotations"}', '"n": -1.5', '"annotations.item": 1', '"images": 1',
    '"images": [{"id": 7, "id": 8, "file_name": "a.jpg"}]', '"images": []', '"s": "\\udc00"', '"e": [1, [2]]',
]  # fmt: skip


def some_row(rng, oddness):
    def value(values):
        return rng.choice(values) if rng.random() < oddness else rng.choice(values[:2])

    if rng.random() < oddness / 2:
        return rng.choice(ODD_ROWS)
    keys = {
        "image_id": value(IDS), "category_id": value(["1", "0", *IDS]), "score": value(NUMBERS),
        "bbox": value(BOXES), "segmentation": value(MASKS), "class_probs": value(PROBABILITIES[:1] * 2 + PROBABILITIES),
        "x": value(OTHERS),
    }  # fmt: skip
    names = [name for name in keys if rng.random() > oddness / 4]
    rng.shuffle(names)
    colon, comma = rng.choice([(": ", ", "), (":", ","), (" : ", " ,\n")])
    return "{" + comma.join(f'"{name}"{colon}{keys[name]}' for name in names) + "}"


def some_file(seed):
    rng = random.Random(seed)
    oddness = rng.choice([0, 0.02, 0.1, 0.5])
    rows = [some_row(rng, oddness) for _ in range(rng.randrange(0, 40))]
    listed = "[" + rng.choice([",", ", ", "\n,\n"]).join(rows) + "]"
    if rng.random() < 0.5:
        tables = rng.sample(TABLES[:4], rng.randrange(5))
        tables += rng.sample(TABLES, int(rng.random() < oddness))
        keys = [*tables, f'"annotations": {listed}']
        if rng.random() < oddness / 4:
            keys.append('"annotations": []')
        rng.shuffle(keys)
        listed = "{" + ", ".join(keys) + "}"
    if rng.random() < oddness:
        listed = rng.choice(
            [listed[: rng.randrange(len(listed))], listed + "x", listed + " \n", "\ufeff" + listed]
        )
    content = listed.encode()
    if rng.random() < oddness / 2:
        place = rng.randrange(len(content) + 1)
        content = (
            content[:place]
            + rng.choice([b"\xff", b"\xc3", b"\0", b",", b'"', b"\\"])
            + content[place:]
        )
    return content


def outcome(path, **options):
    """The rows as they come, and the error that ends them."""
    rows = []
    try:
        for batch in read_predictions(path, format="coco", **options):
            rows += map(repr, batch.to_pylist())
    except PredictionReadError as error:
        return "error", str(error)
    return rows, None


@pytest.fixture
def in_small_blocks(monkeypatch):
    def use(size):
        monkeypatch.setattr(json_stream, "SMALLEST_LARGE_FILE", 0)
        monkeypatch.setattr(json_scan, "BLOCK_BYTES", size)
        monkeypatch.setattr(json_scan, "MOST_ELEMENTS", max(1, size // 50))

    return use


OPTIONS = [{}, {"class_names": ["cat", "1", "0"]}, {"score_transform": "sigmoid"}]


@pytest.mark.parametrize("start", range(0, 200, 50))
def test_any_file_gives_the_rows_and_the_error_of_the_parser(tmp_path, in_small_blocks, start):
    instances = tmp_path / "instances.json"
    instances.write_text("{" + ", ".join(TABLES[:3]) + "}")
    cases = []
    for seed in range(start, start + 50):
        path = tmp_path / f"{seed}.json{'.gz' * (seed % 7 == 0)}"
        content = some_file(seed)
        path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
        options = OPTIONS[seed % 3] | ({"instances": str(instances)} if seed % 4 == 0 else {})
        cases.append((path, options, content))
    expected = [outcome(path, **options) for path, options, _ in cases]
    broken = [error for rows, error in expected if rows == "error"]
    assert len(broken) < 40, "most files are to be read"
    for size in (37, 2**20):
        in_small_blocks(size)
        other_errors = 0
        for (path, options, content), (rows, error) in zip(cases, expected, strict=True):
            found, found_error = outcome(path, **options)
            assert found == rows, (content[:2_000], error, found_error)
            other_errors += found_error != error
        # Of several faults in a file another may be found first.
        assert other_errors <= 2


def test_rows_written_as_most_are_need_no_parser(tmp_path, in_small_blocks, monkeypatch):
    in_small_blocks(1000)
    row = {"image_id": 7, "category_id": 1, "bbox": [1, 2.5, 3, 4], "score": 0.5, "area": 2.5}
    listed = [row | {"image_id": number // 3, "score": number / 300} for number in range(300)]
    path = tmp_path / "r.json"
    path.write_text(json.dumps({"info": {}, "annotations": listed}))
    monkeypatch.setattr(coco, "_read_row", None)
    monkeypatch.setattr(json_stream, "_opened", None)
    monkeypatch.setattr(coco, "_read_own_tables", lambda _: coco.CocoTables())
    stream = read_predictions(path, format="coco")
    read = [one for batch in stream for one in batch.to_pylist()]
    assert [(one["image_id"], one["score"], one["bbox"]) for one in read] == [
        (str(one["image_id"]), one["score"], one["bbox"]) for one in listed
    ]
