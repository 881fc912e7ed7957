"""Ids and whole numbers: one rule for every format, however a tool has written them."""

import json
from decimal import Decimal
from uuid import UUID

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dagster_active_learning import PoolImages, read_predictions
from dagster_active_learning.errors import PredictionReadError
from dagster_active_learning.readers.arrow import read_table
from dagster_active_learning.readers.options import TableOptions
from dagster_active_learning.readers.quarantine import Reason
from dagster_active_learning.readers.values import as_id, as_whole

FIRST, SECOND = UUID(int=1), UUID("12345678-90ab-cdef-1234-567890abcdef")

# A column of a table, and its ids as text or why there is none.
COLUMNS = {
    "floats": (pa.array([12.0, 3.0, -1.0, 0.0]), ["12", "3", "-1", "0"]),
    "floats with a fraction": (
        pa.array([12.0, 12.5, None, float("nan"), float("inf"), 2.0**53 - 1, 2.0**53]),
        ["12", Reason.IMAGE_ID_NOT_TEXT, Reason.IMAGE_ID_NULL, Reason.IMAGE_ID_NOT_TEXT,
         Reason.IMAGE_ID_NOT_TEXT, "9007199254740991", Reason.IMAGE_ID_NOT_TEXT],
    ),
    # Of 2^24 + 1 a float32 is 2^24, and of 2^11 + 1 a float16 is 2^11: two ids would become one.
    "short floats": (
        pa.array([7.0, 2.0**24 - 1, 2.0**24 + 1], pa.float32()),
        ["7", "16777215", Reason.IMAGE_ID_NOT_TEXT],
    ),
    "half floats": (
        pa.array([7.0, 2.0**11 - 1, 2.0**11 + 1], pa.float16()),
        ["7", "2047", Reason.IMAGE_ID_NOT_TEXT],
    ),
    "decimals": (
        pa.array([Decimal("12.00"), Decimal("12.50"), None]),
        ["12", Reason.IMAGE_ID_NOT_TEXT, Reason.IMAGE_ID_NULL],
    ),
    "huge decimals": (pa.array([Decimal(2**64 + 1)]), [str(2**64 + 1)]),
    "decimals of 76 digits": (pa.array([Decimal(10**50 + 7)], pa.decimal256(60, 0)), [str(10**50 + 7)]),
    "unsigned": (pa.array([2**64 - 1], pa.uint64()), [str(2**64 - 1)]),
    "uuids": (
        pa.array([FIRST.bytes, None, SECOND.bytes], pa.uuid()),
        [str(FIRST), Reason.IMAGE_ID_NULL, str(SECOND)],
    ),
    "text": (pa.array(["12.0", "007", ""]), ["12.0", "007", Reason.IMAGE_ID_NULL]),
}  # fmt: skip


@pytest.mark.parametrize("case", COLUMNS)
@pytest.mark.parametrize("start", [0, 1])
@pytest.mark.parametrize("from_file", [False, True])
def test_ids_of_a_column_are_text_or_have_a_reason(tmp_path, case, start, from_file):
    column, expected = COLUMNS[case]
    column, expected = column.slice(start), expected[start:]
    table = pa.table({"image_id": column, "class_probs": [[0.5, 0.5]] * len(column)})
    if from_file:
        pq.write_table(table, tmp_path / "p.parquet")
        stream = read_predictions(tmp_path / "p.parquet", format="parquet")
    else:
        stream = read_table(table, name="t", options=TableOptions())
    rows = [row for batch in stream for row in batch.to_pylist()]
    assert [row["reason"] or row["image_id"] for row in rows] == expected


# A JSON value, and its id as text or why there is none.
VALUES = [
    ("12", "12"),
    ("12.0", "12"),
    ("12.5", Reason.IMAGE_ID_NOT_TEXT),
    ("1e3", "1000"),
    ("-0.0", "0"),
    ("1e300", Reason.IMAGE_ID_NOT_TEXT),
    (str(2**64 + 1), str(2**64 + 1)),
    ("true", Reason.IMAGE_ID_NOT_TEXT),
    ("null", Reason.IMAGE_ID_NULL),
    ('""', Reason.IMAGE_ID_NULL),
    ('"12.0"', "12.0"),
    (r'"\ud800"', Reason.IMAGE_ID_NOT_UTF8),
    ("[1]", Reason.IMAGE_ID_NOT_TEXT),
]


@pytest.mark.parametrize(("value", "expected"), VALUES)
def test_ids_of_json_are_text_or_have_a_reason(tmp_path, value, expected):
    assert as_id(json.loads(value)) == expected
    path = tmp_path / "p.jsonl"
    path.write_text(f'{{"image_id": {value}, "class_probs": [0.5, 0.5]}}')
    (row,) = [row for batch in read_predictions(path, format="jsonl") for row in batch.to_pylist()]
    assert (row["reason"] or row["image_id"]) == expected


@pytest.mark.parametrize(
    ("value", "whole"),
    [(3, 3), (3.0, 3), (True, None), (3.5, None), ("3", None), (None, None), (float("inf"), None)],
)
def test_a_whole_number_may_be_written_as_a_float(value, whole):
    assert as_whole(value) == whole


@pytest.mark.parametrize("format", ["npy", "npz"])
@pytest.mark.parametrize(
    ("dtype", "largest"), [("<f8", 2**53 - 1), (">f8", 2**53 - 1), ("<f4", 2**24 - 1), ("<f2", 2**11 - 1)]
)  # fmt: skip
def test_ids_of_arrays_may_be_whole_floats(tmp_path, format, dtype, largest):
    ids = np.array([12.0, 12.5, -3.0, np.nan, largest, largest + 1], dtype)
    probabilities = np.full((len(ids), 2), 0.5)
    options = {}
    if format == "npy":
        np.save(tmp_path / "p.npy", probabilities)
        np.save(tmp_path / "p.ids.npy", ids)
        options = {"image_ids": "{stem}.ids.npy"}
    else:
        np.savez(tmp_path / "p.npz", class_probs=probabilities, image_ids=ids)
    (batch,) = read_predictions(tmp_path / f"p.{format}", format=format, **options)
    rows = batch.to_pylist()
    no_id = Reason.IMAGE_ID_NOT_TEXT
    assert [row["reason"] or row["image_id"] for row in rows] == [
        "12", no_id, "-3", no_id, str(largest), no_id,
    ]  # fmt: skip
    assert json.loads(rows[1]["raw"])["image_id"] == 12.5


@pytest.mark.parametrize(("names", "expected"), [([0.0, 1.0], ("0", "1")), ([0.0, 1.5], None)])
def test_names_of_classes_may_be_whole_floats(tmp_path, names, expected):
    np.savez(tmp_path / "p.npz", class_probs=[[0.5, 0.5]], image_ids=["a"], class_names=names)
    if expected is None:
        with pytest.raises(PredictionReadError, match="class_names.*a number that is not whole"):
            read_predictions(tmp_path / "p.npz", format="npz")
    else:
        stream = read_predictions(tmp_path / "p.npz", format="npz")
        assert stream.class_names == expected


def test_categories_of_tables_may_be_whole_floats():
    table = pa.table({"image_id": list("abc"), "score": [0.5] * 3, "class": [3.0, 0.5, None]})
    options = TableOptions(score_column="score", category_column="class")
    rows = [
        row for batch in read_table(table, name="t", options=options) for row in batch.to_pylist()
    ]
    assert [row["category"] for row in rows] == ["3", None, None]
    assert [row["reason"] for row in rows] == [None, Reason.UNKNOWN_CATEGORY, None]


def test_coco_numbers_may_be_written_as_floats(tmp_path):
    tables = {
        "images": [{"id": 12.0, "file_name": "a.jpg", "width": 640.0, "height": 480.0}],
        "categories": [{"id": 3, "name": "cat"}],
    }
    (tmp_path / "instances.json").write_text(json.dumps(tables))
    row = {"image_id": 12, "category_id": 3.0, "bbox": [1, 2, 3, 4], "score": 0.5}
    (tmp_path / "p.json").write_text(json.dumps([row]))
    stream = read_predictions(
        tmp_path / "p.json", format="coco", instances=str(tmp_path / "instances.json")
    )
    (found,) = [row for batch in stream for row in batch.to_pylist()]
    assert (found["image_id"], found["category"], found["reason"]) == ("a.jpg", "cat", None)
    images, _ = PoolImages(tmp_path / "instances.json").read()
    assert images.to_pylist()[0]["image_id"] == "12"
    assert (images.to_pylist()[0]["width"], images.to_pylist()[0]["height"]) == (640, 480)


MANIFESTS = {
    "parquet": lambda path, ids: pq.write_table(
        pa.table({"image_id": ids, "width": [640.0] * len(ids), "labeled": [1.0] * len(ids)}), path
    ),
    "jsonl": lambda path, ids: path.write_text(
        "\n".join(
            json.dumps({"image_id": value, "width": 640.0, "labeled": 1.0})
            for value in ids.to_pylist()
        )
    ),
    "csv": lambda path, ids: path.write_text(
        "image_id,width,labeled\n" + "".join(f"{value},640.0,1.0\n" for value in ids.to_pylist())
    ),
}


@pytest.mark.parametrize(
    ("format", "ids", "expected"),
    [
        ("parquet", pa.array([12.0, 3.0]), ["12", "3"]),
        ("parquet", pa.array([Decimal("12.0")]), ["12"]),
        ("parquet", pa.array([FIRST.bytes, SECOND.bytes], pa.uuid()), [str(FIRST), str(SECOND)]),
        ("jsonl", pa.array([12.0, 3.0]), ["12", "3"]),
        ("csv", pa.array([12, 3]), ["12", "3"]),
    ],
)
def test_a_manifest_takes_whole_numbers_for_what_they_are(tmp_path, format, ids, expected):
    path = tmp_path / f"m.{format}"
    MANIFESTS[format](path, ids)
    rows, _ = PoolImages(path).read()
    assert rows["image_id"].to_pylist() == expected
    assert set(rows["width"].to_pylist()) == {640}
    assert set(rows["labeled"].to_pylist()) == {True}


@pytest.mark.parametrize("format", ["parquet", "jsonl"])
def test_an_id_with_a_fraction_is_refused_in_a_manifest(tmp_path, format):
    path = tmp_path / f"m.{format}"
    MANIFESTS[format](path, pa.array([12.0, 12.5]))
    with pytest.raises(PredictionReadError, match=r"row 2 is 12.5; expected text or whole numbers"):
        PoolImages(path).read()


def test_frames_of_polars_have_the_same_ids():
    frame = pl.DataFrame({"image_id": [1.0, 2.0], "class_probs": [[0.5, 0.5]] * 2})
    stream = read_table(frame, name="t", options=TableOptions())
    assert [row["image_id"] for batch in stream for row in batch.to_pylist()] == ["1", "2"]
