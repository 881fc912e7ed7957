"""Objects in tables, a row each: the same from Parquet, CSV and JSON Lines."""

import json
import math
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dagster_active_learning import read_predictions
from dagster_active_learning.errors import PredictionReadError
from dagster_active_learning.readers.arrow import read_table
from dagster_active_learning.readers.options import TableOptions
from dagster_active_learning.readers.quarantine import Reason

FORMATS = ["parquet", "csv", "jsonl"]
OBJECTS = {"score_column": "score", "category_column": "category"}
LIST = OBJECTS | {"bbox_column": "bbox"}
FOUR = OBJECTS | {"bbox_columns": ["x", "y", "w", "h"]}


def write(folder: Path, format: str, rows: list[dict]) -> Path:
    """Rows as a table; lists are JSON in a CSV file."""
    path = folder / f"p.{format}"
    if format == "jsonl":
        path.write_text("\n".join(json.dumps(row) for row in rows))
    elif format == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), path, row_group_size=2)
    else:
        cells = [
            {name: json.dumps(one) if isinstance(one, list) else one for name, one in row.items()}
            for row in rows
        ]
        pl.DataFrame(cells, infer_schema_length=None).write_csv(path)
    return path


def rows_of(path: Path, format: str, **options) -> list[dict]:
    stream = read_predictions(path, format=format, **options)
    return [row for batch in stream for row in batch.to_pylist()]


def objects(**changed) -> list[dict]:
    """Three objects, the second of them changed."""
    rows = [
        {"image_id": one, "score": score, "category": "cat", "bbox": [1.0, 2.0, 3.0, 4.5]}
        for one, score in (("a", 0.5), ("a", 0.25), ("b", 1.0))
    ]
    for row in rows:
        row |= dict(zip("xywh", row["bbox"], strict=True))
    rows[1] |= changed
    return rows


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("batch_rows", [None, 1, 2])
@pytest.mark.parametrize("boxes", [LIST, FOUR])
def test_the_same_objects_from_every_format(tmp_path, format, batch_rows, boxes):
    path = write(tmp_path, format, objects())
    stream = read_predictions(
        path, format=format, batch_rows=batch_rows, bbox_unit="relative", **boxes
    )
    rows = [row for batch in stream for row in batch.to_pylist()]
    assert stream.bbox_unit == "relative"
    assert stream.class_names is None
    assert [row["image_id"] for row in rows] == ["a", "a", "b"]
    assert [row["score"] for row in rows] == [0.5, 0.25, 1.0]
    assert [row["bbox"] for row in rows] == [[1.0, 2.0, 3.0, 4.5]] * 3
    assert [row["row_number"] for row in rows] == [1, 2, 3]
    assert {row["category"] for row in rows} == {"cat"}
    assert {(row["class_probs"], row["reason"], row["raw"]) for row in rows} == {(None,) * 3}


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize(
    ("options", "category", "bbox"),
    [({"score_column": "score"}, None, None), (OBJECTS, "cat", None)],
)
def test_a_score_is_enough(tmp_path, format, options, category, bbox):
    stream = read_predictions(write(tmp_path, format, objects()), format=format, **options)
    rows = [row for batch in stream for row in batch.to_pylist()]
    assert stream.bbox_unit is None
    assert [(row["score"], row["category"], row["bbox"], row["reason"]) for row in rows] == [
        (score, category, bbox, None) for score in (0.5, 0.25, 1.0)
    ]


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize(
    ("scores", "transform", "expected"),
    [
        ([0.5, 97.85, -1.0], None, [0.5, 97.85, -1.0]),
        ([50, 97.85, 100], "percent", [0.5, 0.9785, 1.0]),
        ([0.0, 800.0, -800.0], "sigmoid", [0.5, 1.0, 0.0]),
        ([math.log(3), 2, 10**3], "sigmoid", [0.75, 1 / (1 + math.exp(-2)), 1.0]),
    ],
)
def test_scores_are_transformed_as_declared(tmp_path, format, scores, transform, expected):
    rows = [{"image_id": "a", "score": score} for score in map(float, scores)]
    found = rows_of(
        write(tmp_path, format, rows), format, score_column="score", score_transform=transform
    )
    assert [row["score"] for row in found] == pytest.approx(expected)
    assert {row["reason"] for row in found} == {None}


@pytest.mark.parametrize("format", FORMATS)
def test_categories_may_be_integers_and_anything_but_the_score_may_be_missing(tmp_path, format):
    whole = {"image_id": 7, "score": 1, "category": 3, "bbox": [1, 2, 3, 4]}
    without = {"image_id": 8, "score": 0, "category": None, "bbox": None}
    rows = rows_of(write(tmp_path, format, [whole, without]), format, **LIST)
    assert [(row["image_id"], row["category"], row["bbox"]) for row in rows] == [
        ("7", "3", [1.0, 2.0, 3.0, 4.0]),
        ("8", None, None),
    ]
    assert {row["reason"] for row in rows} == {None}


@pytest.mark.parametrize("format", FORMATS)
def test_a_row_without_any_side_of_a_box_has_no_box(tmp_path, format):
    rows = objects(x=None, y=None, w=None, h=None)
    found = rows_of(write(tmp_path, format, rows), format, **FOUR)
    assert [row["bbox"] for row in found] == [[1.0, 2.0, 3.0, 4.5], None, [1.0, 2.0, 3.0, 4.5]]
    assert {row["reason"] for row in found} == {None}


# The option box, and the fields of the same box: x 10, y 20, 30 wide, 40 high.
BOXES = [
    ("xywh", {"x": 10, "y": 20, "width": 30, "height": 40}),
    ("xywh", {"x": 10, "y": 20, "w": 30, "h": 40}),
    ("xywh", {"Width": 30, "Height": 40, "Left": 10, "Top": 20}),
    ("xywh", {"xmin": 10, "ymin": 20, "xmax": 40, "ymax": 60}),
    ("xyxy", {"xmin": 10, "ymin": 20, "xmax": 40, "ymax": 60, "zmax": 7}),
    ("xyxy", {"x1": 10, "x2": 40, "y1": 20, "y2": 60}),
    ("xywh", {"left": 10, "top": 20, "right": 40, "bottom": 60}),
    ("xcycwh", {"x": 25, "y": 40, "width": 30, "height": 40}),
    ("xywh", {"xc": 25, "yc": 40, "w": 30, "h": 40}),
]


@pytest.mark.parametrize("format", ["parquet", "jsonl"])
@pytest.mark.parametrize(("box", "fields"), BOXES)
def test_a_box_may_be_an_object_with_named_fields(tmp_path, format, box, fields):
    rows = objects(bbox=None)
    for row in (rows[0], rows[2]):
        row["bbox"] = fields
    found = rows_of(write(tmp_path, format, rows), format, box=box, **LIST)
    assert [row["bbox"] for row in found] == [[10, 20, 30, 40], None, [10, 20, 30, 40]]
    assert {row["reason"] for row in found} == {None}


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("columns", [LIST, FOUR])
@pytest.mark.parametrize(
    ("box", "numbers"),
    [("xywh", [10, 20, 30, 40]), ("xyxy", [10, 20, 40, 60]), ("xcycwh", [25, 40, 30, 40])],
)
def test_four_numbers_are_a_box_as_declared(tmp_path, format, columns, box, numbers):
    rows = objects()
    for row in rows:
        row |= {"bbox": list(map(float, numbers)), **dict(zip("xywh", numbers, strict=True))}
    found = rows_of(write(tmp_path, format, rows), format, box=box, **columns)
    assert [row["bbox"] for row in found] == [[10, 20, 30, 40]] * 3


@pytest.mark.parametrize("format", ["parquet", "jsonl"])
@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"xmin": 10.0, "ymin": None, "xmax": 40.0, "ymax": 60.0}, Reason.BBOX_NOT_FOUR_NUMBERS),
        ({"xmin": 40.0, "ymin": 20.0, "xmax": 10.0, "ymax": 60.0}, Reason.BBOX_NEGATIVE),
    ],
)
def test_an_object_that_is_no_box_costs_its_row(tmp_path, format, fields, reason):
    good = {"xmin": 10.0, "ymin": 20.0, "xmax": 40.0, "ymax": 60.0}
    rows = [{"image_id": "a", "score": 0.5, "bbox": box} for box in (good, fields, good)]
    found = rows_of(write(tmp_path, format, rows), format, score_column="score", bbox_column="bbox")
    assert [row["reason"] for row in found] == [None, reason, None]


@pytest.mark.parametrize("format", ["parquet", "jsonl"])
@pytest.mark.parametrize(
    ("fields", "box", "words"),
    [
        ({"a": 1, "b": 2}, "xywh", "the fields a, b: expected four fields such as xmin"),
        ({"x1": 1, "y1": 2, "x2": 3, "y2": 4}, "xcycwh", "which are xyxy, but the option box is"),
    ],
)
def test_fields_that_are_no_box_are_an_error_that_names_them(tmp_path, format, fields, box, words):
    rows = [{"image_id": "a", "score": 0.5, "category": "c", "bbox": fields}]
    path = write(tmp_path, format, rows)
    with pytest.raises(PredictionReadError, match=words):
        rows_of(path, format, box=box, **LIST)


@pytest.mark.parametrize("format", FORMATS)
def test_class_probabilities_may_be_missing_beside_a_score(tmp_path, format):
    rows = [
        {**row, "class_probs": probs}
        for row, probs in zip(objects(), ([0.5, 0.5], None, [0.25, 0.75]), strict=True)
    ]
    found = rows_of(write(tmp_path, format, rows), format, **LIST)
    assert [row["class_probs"] for row in found] == [[0.5, 0.5], None, [0.25, 0.75]]
    assert [row["score"] for row in found] == [0.5, 0.25, 1.0]
    assert {row["reason"] for row in found} == {None}


@pytest.mark.parametrize("format", FORMATS)
def test_classes_in_columns_go_with_scores_and_boxes(tmp_path, format):
    rows = [{**row, "p_cat": 0.25, "p_dog": 0.75, "p_score": 0.5} for row in objects()]
    options = LIST | {"score_column": "p_score", "class_column_prefix": "p_"}
    stream = read_predictions(write(tmp_path, format, rows), format=format, **options)
    found = [row for batch in stream for row in batch.to_pylist()]
    assert stream.class_names == ("cat", "dog")
    assert [(row["class_probs"], row["score"]) for row in found] == [([0.25, 0.75], 0.5)] * 3


# What the second of three rows holds instead, how boxes are given, and the reason.
BAD_ROWS = [
    ({"score": None}, LIST, Reason.SCORE_NULL),
    ({"score": math.nan}, LIST, Reason.SCORE_NOT_FINITE),
    ({"score": math.inf}, LIST | {"score_transform": "sigmoid"}, Reason.SCORE_NOT_FINITE),
    ({"image_id": None}, LIST, Reason.IMAGE_ID_NULL),
    ({"bbox": [1.0, 2.0, 3.0]}, LIST, Reason.BBOX_NOT_FOUR_NUMBERS),
    ({"bbox": [1.0, 2.0, 3.0, 4.0, 5.0]}, LIST, Reason.BBOX_NOT_FOUR_NUMBERS),
    ({"bbox": []}, LIST, Reason.BBOX_NOT_FOUR_NUMBERS),
    ({"bbox": [1.0, 2.0, 3.0, math.nan]}, LIST, Reason.BBOX_NOT_FOUR_NUMBERS),
    ({"bbox": [1.0, 2.0, 3.0, None]}, LIST, Reason.BBOX_NOT_FOUR_NUMBERS),
    ({"w": None}, FOUR, Reason.BBOX_NOT_FOUR_NUMBERS),
    ({"bbox": [1.0, 2.0, -3.0, 4.0]}, LIST, Reason.BBOX_NEGATIVE),
    ({"h": -4.0}, FOUR, Reason.BBOX_NEGATIVE),
    ({"h": math.inf}, FOUR, Reason.BBOX_NOT_FOUR_NUMBERS),
    ({"score": None, "bbox": []}, LIST, Reason.SCORE_NULL),
    ({"image_id": None, "score": None}, LIST, Reason.IMAGE_ID_NULL),
]


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize(("changed", "options", "reason"), BAD_ROWS)
def test_a_broken_object_keeps_its_place_with_a_reason(tmp_path, format, changed, options, reason):
    path = write(tmp_path, format, objects(**changed))
    rows = rows_of(path, format, **options)
    assert [row["row_number"] for row in rows] == [1, 2, 3]
    assert [row["reason"] for row in rows] == [None, reason, None]
    assert [row["bbox"] for row in (rows[0], rows[2])] == [[1.0, 2.0, 3.0, 4.5]] * 2
    assert rows[1]["raw"]


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize(
    ("categories", "class_names", "unknown"),
    [
        (["cat", "dog", "cow"], ["cat", "dog"], [False, False, True]),
        (["cat", "Cat", None], ["cat", "dog"], [False, True, False]),
        ([1, 2, 3], ["1", "3"], [False, True, False]),
        (["cat", "dog", "cow"], None, [False] * 3),
    ],
)
def test_a_category_must_be_one_of_the_classes_where_they_are_given(
    tmp_path, format, categories, class_names, unknown
):
    rows = [{"image_id": "a", "score": 0.5, "category": one} for one in categories]
    options = OBJECTS | {"class_names": class_names}
    found = rows_of(write(tmp_path, format, rows), format, **options)
    assert [row["reason"] == Reason.UNKNOWN_CATEGORY for row in found] == unknown
    assert [row["image_id"] for row in found] == ["a"] * 3
    assert [str(one) in row["raw"] for one, row in zip(categories, found, strict=True) if row["raw"]] == [True] * sum(unknown)  # fmt: skip


# Rows of a table with both, by class probabilities and score, and the reason of each of them.
MIXTURES = [
    ([([0.5, 0.5], None), (None, 0.5), ([0.25, 0.75], 0.25)], [None] * 3),
    ([(None, 0.5), ([0.5, 0.5], None), (None, None)], [None, None, Reason.SCORE_NULL]),
    ([([0.5, 0.5], math.nan), (None, 0.5), (None, math.nan)], [Reason.SCORE_NOT_FINITE, None, Reason.SCORE_NOT_FINITE]),
]  # fmt: skip
# In columns: a list in CSV is text, and has no null in it.
MIXTURES_IN_COLUMNS = [
    *MIXTURES,
    ([([0.5, None], 0.5), ([0.5, 0.5], None), ([None, 0.5], None)], [Reason.PROBABILITY_NULL, None, Reason.PROBABILITY_NULL]),
]  # fmt: skip


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize(
    ("wide", "values", "reasons"),
    [(False, *one) for one in MIXTURES] + [(True, *one) for one in MIXTURES_IN_COLUMNS],
)
def test_a_row_needs_class_probabilities_or_a_score(tmp_path, format, wide, values, reasons):
    rows = [
        {"image_id": f"i{row}", "score": score, "bbox": [1.0, 2.0, 3.0, 4.0]}
        | (dict(zip(("p_x", "p_y"), probs or (None, None), strict=True)) if wide else {})
        | ({} if wide else {"class_probs": probs})
        for row, (probs, score) in enumerate(values)
    ]
    options = {"score_column": "score", "bbox_column": "bbox"}
    options |= {"class_column_prefix": "p_"} if wide else {}
    found = rows_of(write(tmp_path, format, rows), format, **options)
    assert [row["reason"] for row in found] == reasons
    assert [row["image_id"] for row in found] == [row["image_id"] for row in rows]
    good = [position for position, reason in enumerate(reasons) if reason is None]
    assert [(found[row]["class_probs"], found[row]["score"]) for row in good] == [
        values[row] for row in good
    ]


@pytest.mark.parametrize("format", FORMATS)
def test_a_broken_box_beside_class_probabilities_without_a_score_is_not_lost(tmp_path, format):
    rows = [
        {"image_id": "a", "score": None, "class_probs": [0.5, 0.5], "bbox": [1.0, 2.0, 3.0]},
        {"image_id": "b", "score": 0.5, "class_probs": None, "bbox": [1.0, 2.0, 3.0, 4.0]},
    ]
    options = {"score_column": "score", "bbox_column": "bbox"}
    found = rows_of(write(tmp_path, format, rows), format, **options)
    assert [row["reason"] for row in found] == [Reason.BBOX_NOT_FOUR_NUMBERS, None]


# What only one format can hold: the text of a row's score, category and box.
BAD_TEXTS = [
    ("csv", 'high,cat,"[1, 2, 3, 4]"', Reason.SCORE_NOT_NUMBER),
    ("csv", b'\xff,cat,"[1, 2, 3, 4]"', Reason.SCORE_NOT_NUMBER),
    ("csv", b'0.5,c\xe4t,"[1, 2, 3, 4]"', Reason.UNKNOWN_CATEGORY),
    ("csv", '0.5,cat,"[1, 2, 3, x]"', Reason.BBOX_NOT_FOUR_NUMBERS),
    ("csv", '0.5,cat,""', Reason.BBOX_NOT_FOUR_NUMBERS),
    ("csv", '0.5,cat,"[1, 2, 3"', Reason.BBOX_NOT_FOUR_NUMBERS),
    ("csv", "0.5,cat", Reason.WRONG_FIELD_COUNT),
    ("csv", "0.5,cat,1,2,3,4", Reason.WRONG_FIELD_COUNT),
    ("jsonl", '"0.5", "cat", [1, 2, 3, 4]', Reason.SCORE_NOT_NUMBER),
    ("jsonl", 'true, "cat", [1, 2, 3, 4]', Reason.SCORE_NOT_NUMBER),
    ("jsonl", "1" * 400 + ', "cat", [1, 2, 3, 4]', Reason.SCORE_NOT_FINITE),
    ("jsonl", "0.5, 0.5, [1, 2, 3, 4]", Reason.UNKNOWN_CATEGORY),
    ("jsonl", "0.5, false, [1, 2, 3, 4]", Reason.UNKNOWN_CATEGORY),
    ("jsonl", '0.5, ["cat"], [1, 2, 3, 4]', Reason.UNKNOWN_CATEGORY),
    ("jsonl", '0.5, "\\ud800", [1, 2, 3, 4]', Reason.UNKNOWN_CATEGORY),
    ("jsonl", '0.5, "cat", [1, 2, 3, "4"]', Reason.BBOX_NOT_FOUR_NUMBERS),
    ("jsonl", '0.5, "cat", [1, 2, 3, true]', Reason.BBOX_NOT_FOUR_NUMBERS),
    ("jsonl", '0.5, "cat", {"x": 1}', Reason.BBOX_NOT_FOUR_NUMBERS),
    ("jsonl", '0.5, "cat", "[1, 2, 3, 4]"', Reason.BBOX_NOT_FOUR_NUMBERS),
    ("jsonl", '0.5, "cat", [1, 2, 3, ' + "1" * 400 + "]", Reason.BBOX_NOT_FOUR_NUMBERS),
    ("jsonl", '0.5, "cat", [1, 2', Reason.UNREADABLE_LINE),
]  # fmt: skip


@pytest.mark.parametrize(("format", "text", "reason"), BAD_TEXTS)
def test_text_that_is_no_object_costs_its_row(tmp_path, format, text, reason):
    raw = text if isinstance(text, bytes) else text.encode()
    if format == "csv":
        good = b'a,0.5,cat,"[1, 2, 3, 4]"'
        lines = [b"image_id,score,category,bbox", good, good, b"a," + raw]
    else:
        score, category, box = raw.split(b", ", 2)
        good = b'{"image_id": "a", "score": 0.5, "category": "cat", "bbox": [1, 2, 3, 4]}'
        made = b'{"image_id": "a", "score": %s, "category": %s, "bbox": %s}'
        lines = [good, good, made % (score, category, box)]
    (tmp_path / "p").write_bytes(b"\n".join(lines))
    rows = rows_of(tmp_path / "p", format, **LIST)
    assert [row["reason"] for row in rows] == [None, None, reason]
    assert [row["bbox"] for row in rows[:2]] == [[1.0, 2.0, 3.0, 4.0]] * 2
    # Else an image whose objects are all broken would look like one without objects.
    assert rows[2]["image_id"] == (None if reason == Reason.UNREADABLE_LINE else "a")
    assert "b'" not in rows[2]["raw"]


# Before 26, pyarrow neither writes nor reads null rows of them in Parquet.
FIXED_SIZE = (
    [pa.array([[1, 2, 3, 4], None], pa.list_(pa.float32(), 4))]
    if int(pa.__version__.partition(".")[0]) >= 26
    else []
)


@pytest.mark.parametrize(
    "boxes",
    [
        pa.array([[1, 2, 3, 4], None], pa.list_(pa.int32())),
        *FIXED_SIZE,
        pa.array([[1, 2, 3, 4], None], pa.large_list(pa.float64())),
        pa.array([["1", "2", "3", "4"], None]),
        pa.array(["[1, 2, 3, 4]", None]),
        pa.array(["(1 2 3 4)", None]).dictionary_encode(),
    ],
)
def test_boxes_of_every_type_of_list(tmp_path, boxes):
    table = pa.table({"image_id": ["a", "a"], "score": pa.array(["0.5", "1"]), "bbox": boxes})
    pq.write_table(table, tmp_path / "p.parquet")
    rows = rows_of(tmp_path / "p.parquet", "parquet", score_column="score", bbox_column="bbox")
    assert [row["bbox"] for row in rows] == [[1.0, 2.0, 3.0, 4.0], None]
    assert [row["score"] for row in rows] == [0.5, 1.0]
    assert {row["reason"] for row in rows} == {None}


@pytest.mark.parametrize("category", [pl.String, pl.Categorical, pl.Enum(["cat", "dog"])])
def test_a_data_frame_holds_objects_as_files_do(category):
    frame = pl.DataFrame(
        {
            "image_id": ["a", "b", "c"],
            "score": [50, 25, None],
            "bbox": [[1, 2, 3, 4], None, [1, 2, 3, 4]],
            "category": pl.Series(["cat", None, "dog"], dtype=category),
        }
    )
    options = TableOptions(**LIST, score_transform="percent")
    rows = [
        row for batch in read_table(frame, name="t", options=options) for row in batch.to_pylist()
    ]
    assert [row["score"] for row in rows] == [0.5, 0.25, None]
    assert [row["category"] for row in rows] == ["cat", None, "dog"]
    assert [row["bbox"] for row in rows] == [[1.0, 2.0, 3.0, 4.0], None, [1.0, 2.0, 3.0, 4.0]]
    assert [row["reason"] for row in rows] == [None, None, Reason.SCORE_NULL]


WRONG_TYPES = [
    ({"score": pa.array([True])}, LIST, "column 'score' is of type bool, expected numbers"),
    ({"score": pa.array([[0.5]])}, LIST, "column 'score' is of type list<"),
    ({"category": pa.array([True])}, LIST, "column 'category' is of type bool, expected text or"),
    ({"bbox": pa.array([0.5])}, LIST, "column 'bbox' is of type double, expected lists of four"),
    ({"bbox": pa.array([[{"x": 1}]])}, LIST, "column 'bbox' is of type list<"),
    ({"w": pa.array([{"x": 1}])}, FOUR, "column 'w' is of type struct<"),
]  # fmt: skip


@pytest.mark.parametrize(("columns", "options", "words"), WRONG_TYPES)
def test_a_column_of_the_wrong_type_is_an_error_that_names_it(tmp_path, columns, options, words):
    table = pa.table(dict(pa.Table.from_pylist(objects()[:1]).to_pydict()) | columns)
    pq.write_table(table, tmp_path / "p.parquet")
    with pytest.raises(PredictionReadError, match="p.parquet") as error:
        rows_of(tmp_path / "p.parquet", "parquet", **options)
    assert words in str(error.value)


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"score_column": "confidence"}, "no column 'confidence'"),
        (OBJECTS | {"category_column": "label"}, "no column 'label'"),
        (OBJECTS | {"bbox_column": "box"}, "no column 'box'"),
        (OBJECTS | {"bbox_columns": ["x", "y", "w", "height"]}, "no column 'height'"),
        ({"category_column": "category"}, "no column 'class_probs'"),
    ],
)
def test_a_missing_column_is_an_error_that_names_it(tmp_path, format, options, words):
    path = write(tmp_path, format, objects())
    with pytest.raises(PredictionReadError) as error:
        rows_of(path, format, **options)
    assert words in str(error.value)
    assert str(path) in str(error.value)


def test_a_column_that_is_there_twice_is_an_error(tmp_path):
    (tmp_path / "p.csv").write_text("image_id,score,score\na,0.5,0.5\n")
    with pytest.raises(PredictionReadError, match="more than one column 'score'"):
        rows_of(tmp_path / "p.csv", "csv", score_column="score")
