"""Tables with one row per image, whose columns hold lists: the same from files, frames, queries."""

import json
import math
from collections.abc import Callable
from pathlib import Path

import duckdb
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dagster_active_learning import read_predictions
from dagster_active_learning.errors import PredictionReadError
from dagster_active_learning.readers.arrow import read_table
from dagster_active_learning.readers.options import TableOptions
from dagster_active_learning.readers.quarantine import Reason
from dagster_active_learning.readers.stream import PredictionStream

OPTIONS = {"score_column": "scores", "category_column": "labels", "bbox_column": "boxes"}


def as_parquet(folder: Path, rows: list[dict], **options) -> PredictionStream:
    group_size = max(2, len(rows) // 3)
    pq.write_table(pa.Table.from_pylist(rows), folder / "p.parquet", row_group_size=group_size)
    return read_predictions(folder / "p.parquet", format="parquet", **options)


def as_lines(folder: Path, rows: list[dict], **options) -> PredictionStream:
    (folder / "p.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return read_predictions(folder / "p.jsonl", format="jsonl", **options)


def as_array(folder: Path, rows: list[dict], **options) -> PredictionStream:
    (folder / "p.json").write_text(json.dumps(rows, indent=1))
    return read_predictions(folder / "p.json", format="jsonl", **options)


def as_polars(_: Path, rows: list[dict], **options) -> PredictionStream:
    frame = pl.DataFrame(rows, infer_schema_length=None)
    return read_table(frame, name="t", options=TableOptions(**options))


def as_pandas(_: Path, rows: list[dict], **options) -> PredictionStream:
    return read_table(pd.DataFrame(rows), name="t", options=TableOptions(**options))


def as_query(_: Path, rows: list[dict], **options) -> PredictionStream:
    images = pa.Table.from_pylist(rows)  # noqa: F841 # pyright: ignore[reportUnusedVariable] - the query names it
    return read_table(
        duckdb.connect().sql("FROM images"), name="t", options=TableOptions(**options)
    )


READERS = {
    read.__name__: read for read in (as_parquet, as_lines, as_array, as_polars, as_pandas, as_query)
}
readers = pytest.mark.parametrize("read", READERS.values(), ids=READERS)
Read = Callable[..., PredictionStream]


def rows_of(stream: PredictionStream) -> list[dict]:
    return [row for batch in stream for row in batch.to_pylist()]


IMAGES = [
    {"image_id": "a", "scores": [0.5, 0.25], "labels": ["cat", "dog"], "boxes": [[1.0, 2, 3, 4], [5.0, 6, 7, 8]]},
    {"image_id": "b", "scores": [], "labels": [], "boxes": []},
    {"image_id": "c", "scores": [1.0], "labels": ["cat"], "boxes": [[0.0, 0, 1, 1]]},
    {"image_id": "d", "scores": [], "labels": None, "boxes": None},
    {"image_id": "e", "scores": [0.125, 0.0], "labels": None, "boxes": [[1.0, 1, 1, 1], None]},
]  # fmt: skip

# What a table with one row per object holds, without the images in which there is none.
OBJECTS = [
    ("a", 1, 0.5, "cat", [1, 2, 3, 4]),
    ("a", 2, 0.25, "dog", [5, 6, 7, 8]),
    ("c", 3, 1.0, "cat", [0, 0, 1, 1]),
    ("e", 4, 0.125, None, [1, 1, 1, 1]),
    ("e", 5, 0.0, None, None),
]


@readers
def test_each_element_of_the_lists_is_an_object_and_an_empty_list_an_image_without(tmp_path, read):
    rows = rows_of(read(tmp_path, IMAGES, **OPTIONS))
    objects = [row for row in rows if row["row_number"] is not None]
    names = ("image_id", "row_number", "score", "category", "bbox")
    assert [tuple(row[name] for name in names) for row in objects] == OBJECTS
    empty = [row for row in rows if row["row_number"] is None]
    assert [row["image_id"] for row in empty] == ["b", "d"]
    assert {row["reason"] for row in rows} == {None}
    assert {(row["score"], row["bbox"]) for row in empty} == {(None, None)}


@readers
def test_boxes_may_be_objects_or_columns_and_labels_numbers(tmp_path, read):
    corners = {"xmin": 10, "ymin": 20, "xmax": 40, "ymax": 60}
    rows = [
        {"image_id": 7, "s": [50], "l": [3], "b": [corners], "x": [10], "y": [20], "w": [30], "h": [40]},
        {"image_id": 8, "s": [], "l": [], "b": [], "x": [], "y": [], "w": [], "h": []},
    ]  # fmt: skip
    options = {"score_column": "s", "category_column": "l", "score_transform": "percent"}
    for boxes in ({"bbox_column": "b"}, {"bbox_columns": [*"xywh"]}):
        found = rows_of(read(tmp_path, rows, **options, **boxes))
        assert [(row["image_id"], row["category"], row["score"], row["bbox"]) for row in found] == [
            ("7", "3", 0.5, [10, 20, 30, 40]),
            ("8", None, None, None),
        ]


@readers
def test_objects_may_have_class_probabilities_with_or_without_scores(tmp_path, read):
    rows = [
        {"image_id": "a", "scores": [0.75, 0.5], "class_probs": [[0.25, 0.75], [0.5, 0.5]]},
        {"image_id": "b", "scores": [], "class_probs": []},
        {"image_id": "c", "scores": [0.5], "class_probs": None},
    ]
    found = rows_of(read(tmp_path, rows, score_column="scores"))
    found.sort(key=lambda row: row["row_number"] or math.inf)
    assert [(row["image_id"], row["class_probs"], row["score"]) for row in found] == [
        ("a", [0.25, 0.75], 0.75),
        ("a", [0.5, 0.5], 0.5),
        ("c", None, 0.5),
        ("b", None, None),
    ]
    without_scores = [{**row} for row in rows[:2]]
    for row in without_scores:
        del row["scores"]
    found = rows_of(read(tmp_path, without_scores))
    assert [(row["image_id"], row["class_probs"]) for row in found] == [
        ("a", [0.25, 0.75]),
        ("a", [0.5, 0.5]),
        ("b", None),
    ]


# The second of three rows; the reasons of its objects, or of the one row that it is, and ids.
BROKEN = [
    ({"boxes": [[1.0, 2, 3, 4]]}, [Reason.OTHER_LIST_LENGTH], "b"),
    ({"scores": [], "labels": ["cat"]}, [Reason.OTHER_LIST_LENGTH], "b"),
    ({"scores": None, "labels": None, "boxes": None}, [Reason.NO_OBJECT_LISTS], "b"),
    ({"scores": None, "labels": [], "boxes": []}, [Reason.NO_OBJECT_LISTS], "b"),
    ({"scores": None}, [Reason.SCORE_NULL] * 2, "b"),
    ({"scores": [0.5, None]}, [None, Reason.SCORE_NULL], "b"),
    ({"boxes": [[1.0, 2, 3], [1.0, 2, 3, 4]]}, [Reason.BBOX_NOT_FOUR_NUMBERS, None], "b"),
    ({"image_id": None}, [Reason.IMAGE_ID_NULL], None),
    ({"image_id": "", "scores": [], "labels": [], "boxes": []}, [Reason.IMAGE_ID_NULL], None),
]  # fmt: skip


@readers
@pytest.mark.parametrize(("changed", "reasons", "image_id"), BROKEN)
def test_what_is_broken_costs_its_object_or_where_it_cannot_be_told_its_image(
    tmp_path, read, changed, reasons, image_id
):
    rows = [dict(IMAGES[0]), IMAGES[0] | {"image_id": "b"} | changed, IMAGES[0] | {"image_id": "c"}]
    found = rows_of(read(tmp_path, rows, **OPTIONS))
    assert [row["row_number"] for row in found] == list(range(1, 5 + len(reasons)))
    assert [row["reason"] for row in found] == [None, None, *reasons, None, None]
    assert [row["image_id"] for row in found] == ["a", "a", *[image_id] * len(reasons), "c", "c"]
    broken = [row["raw"] for row in found if row["reason"] is not None]
    assert all(isinstance(json.loads(raw), dict) for raw in broken)


# What only JSON can hold in the second of three rows, and the reasons.
BROKEN_JSON = [
    ({"scores": 0.5}, [Reason.NOT_OBJECT_LISTS]),
    ({"labels": "cat"}, [Reason.NOT_OBJECT_LISTS]),
    ({"boxes": {"x": 1}}, [Reason.NOT_OBJECT_LISTS]),
    ({"scores": ["high", 0.5]}, [Reason.SCORE_NOT_NUMBER, None]),
    ({"scores": [True, 10**400]}, [Reason.SCORE_NOT_NUMBER, Reason.SCORE_NOT_FINITE]),
    ({"labels": ["cat", {}]}, [None, Reason.UNKNOWN_CATEGORY]),
    ({"boxes": [7, [1, 2, 3, "4"]]}, [Reason.BBOX_NOT_FOUR_NUMBERS] * 2),
    ({"image_id": 1.5}, [Reason.IMAGE_ID_NOT_TEXT]),
]


@pytest.mark.parametrize("read", [as_lines, as_array])
@pytest.mark.parametrize(("changed", "reasons"), BROKEN_JSON)
def test_json_that_is_no_list_of_objects_costs_its_row(tmp_path, read, changed, reasons):
    found = rows_of(read(tmp_path, [IMAGES[0], IMAGES[0] | changed, IMAGES[2]], **OPTIONS))
    assert [row["reason"] for row in found] == [None, None, *reasons, None]
    assert [row["row_number"] for row in found] == list(range(1, 4 + len(reasons)))


def test_rows_are_counted_over_batches_and_blocks(tmp_path):
    counts = [number % 4 for number in range(30_000)]
    rows = [
        {"image_id": f"i{number}", "scores": [0.5] * count} for number, count in enumerate(counts)
    ]
    ids = [f"i{number}" for number, count in enumerate(counts) for _ in range(count)]
    empty = [f"i{number}" for number, count in enumerate(counts) if not count]
    for read in (as_parquet, as_lines, as_query):
        batches = list(read(tmp_path, rows, score_column="scores"))
        found = [row for batch in batches for row in batch.select(["image_id", "row_number"]).to_pylist()]  # fmt: skip
        numbered = [row for row in found if row["row_number"] is not None]
        assert [row["image_id"] for row in numbered] == ids
        assert [row["row_number"] for row in numbered] == list(range(1, len(ids) + 1))
        assert [row["image_id"] for row in found if row["row_number"] is None] == empty


def test_one_image_with_many_objects_is_many_batches(tmp_path):
    rows = [{"image_id": "a", "scores": [0.5] * 50_000}]
    assert max(len(batch) for batch in as_lines(tmp_path, rows, score_column="scores")) <= 8_192


def test_a_column_that_holds_no_lists_beside_lists_is_an_error_that_names_both(tmp_path):
    rows = [{"image_id": "a", "scores": [0.5], "labels": "cat", "boxes": [[1.0, 2, 3, 4]]}]
    with pytest.raises(PredictionReadError) as error:
        as_parquet(tmp_path, rows, **OPTIONS)
    assert "column 'scores' is of type list<" in str(error.value)
    assert "but column 'labels' is of type string: expected lists in both" in str(error.value)


def test_lists_of_every_type(tmp_path):
    scores = [[0.5, 0.25], None]
    for kind in (
        pa.list_(pa.float32(), 2),
        pa.large_list(pa.float64()),
        pa.list_view(pa.float64()),
        pa.list_(pa.float16()),
    ):
        table = pa.table(
            {
                "image_id": pa.array(["a", "b"], pa.large_string()),
                "scores": pa.array(scores, kind),
                "labels": pa.array([["cat", "dog"], None]).cast(
                    pa.list_(pa.dictionary(pa.int8(), pa.string()))
                ),
                "boxes": pa.array([[[1, 2, 3, 4]] * 2, None], pa.list_(pa.list_(pa.int32(), 4))),
            }
        )
        rows = rows_of(read_table(table, name="t", options=TableOptions(**OPTIONS)))
        assert [(row["score"], row["category"], row["bbox"], row["reason"]) for row in rows] == [
            (0.5, "cat", [1, 2, 3, 4], None),
            (0.25, "dog", [1, 2, 3, 4], None),
            (None, None, None, Reason.NO_OBJECT_LISTS),
        ]
