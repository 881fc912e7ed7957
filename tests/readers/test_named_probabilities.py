"""Class probabilities that carry the names of their classes, in every shape and every table."""

import json
import random

import duckdb
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dagster_active_learning import read_predictions
from dagster_active_learning.errors import PredictionReadError
from dagster_active_learning.readers.arrow import read_table
from dagster_active_learning.readers.options import TableOptions
from dagster_active_learning.readers.quarantine import Reason

NAMES = ["cat", "dog", "eel"]
PROBS = [[0.5, 0.25, 0.25], [1.0, 0.0, 0.0], [0.125, 0.375, 0.5], [0.0, 0.25, 0.75]]
MAP = pa.map_(pa.string(), pa.float64())
STRUCT = pa.struct([("dog", pa.float64()), ("cat", pa.float64()), ("eel", pa.float64())])
LISTS = pa.list_(pa.struct([("label", pa.string()), ("score", pa.float64())]))


def mapping(probs: list[float]) -> dict[str, float]:
    """Names and numbers, in another order for each row."""
    pairs = list(zip(NAMES, probs, strict=True))
    random.Random(str(probs)).shuffle(pairs)
    return dict(pairs)


def listed(row: object) -> object:
    """A mapping as a list of objects, the likeliest first, as pipelines of transformers write it."""
    if not isinstance(row, dict):
        return row
    pairs = [{"label": name, "score": number} for name, number in row.items()]
    return sorted(pairs, key=lambda pair: -(pair["score"] or 0))


def arrow(rows: list, kind: pa.DataType) -> pa.Table:
    if kind == MAP:
        rows = [list(row.items()) if isinstance(row, dict) else row for row in rows]
    elif kind == LISTS:
        rows = [listed(row) for row in rows]
    ids = [f"i{number}" for number in range(len(rows))]
    return pa.table({"image_id": ids, "class_probs": pa.array(rows, kind)})


def as_parquet(folder, rows, kind, **options):
    pq.write_table(arrow(rows, kind), folder / "p.parquet", row_group_size=2)
    return read_predictions(folder / "p.parquet", format="parquet", **options)


def as_json(folder, rows, kind, **options):
    if kind == LISTS:
        rows = [listed(row) for row in rows]
    lines = [{"image_id": f"i{number}", "class_probs": row} for number, row in enumerate(rows)]
    (folder / "p.jsonl").write_text("\n".join(map(json.dumps, lines)))
    return read_predictions(folder / "p.jsonl", format="jsonl", **options)


def as_array(folder, rows, kind, **options):
    as_json(folder, rows, kind, **options)
    lines = [json.loads(line) for line in (folder / "p.jsonl").read_text().splitlines()]
    (folder / "p.json").write_text(json.dumps(lines))
    return read_predictions(folder / "p.json", format="jsonl", **options)


def as_query(_, rows, kind, **options):
    images = arrow(rows, kind)  # noqa: F841 # pyright: ignore[reportUnusedVariable] - the query names it
    return read_table(
        duckdb.connect().sql("FROM images"), name="t", options=TableOptions(**options)
    )


def as_polars(_, rows, kind, **options):
    frame = pl.from_arrow(arrow(rows, kind))
    return read_table(frame, name="t", options=TableOptions(**options))


CASES = [
    (read, kind)
    for read in (as_parquet, as_json, as_array, as_query, as_polars)
    for kind in (MAP, STRUCT, LISTS)
    if not (read is as_polars and kind == MAP)  # Polars has no maps.
]
cases = pytest.mark.parametrize(
    ("read", "kind"), CASES, ids=[f"{read.__name__}-{str(kind)[:6]}" for read, kind in CASES]
)


def rows_of(stream):
    return [row for batch in stream for row in batch.to_pylist()]


def order_of(read, kind):
    """The order of the classes: that of a struct's fields in a table, else of the alphabet."""
    is_struct = kind == STRUCT and read not in (as_json, as_array)
    return ["dog", "cat", "eel"] if is_struct else NAMES


@cases
@pytest.mark.parametrize("class_names", [None, ["eel", "cat", "dog"]])
def test_a_probability_is_that_of_its_name_wherever_it_stands(tmp_path, read, kind, class_names):
    rows = [mapping(probs) for probs in PROBS]
    stream = read(tmp_path, rows, kind, class_names=class_names)
    names = class_names or order_of(read, kind)
    assert stream.class_names == tuple(names)
    found = rows_of(stream)
    assert [row["class_probs"] for row in found] == [[row[name] for name in names] for row in rows]
    assert {row["reason"] for row in found} == {None}
    assert [row["row_number"] for row in found] == [1, 2, 3, 4]


# A row, and its reason. A struct has each name.
ODD_ROWS = [
    ({"cat": 0.5, "dog": 0.5}, Reason.OTHER_CLASS_NAMES),
    ({"cat": 0.5, "dog": 0.5, "cow": 0.0}, Reason.OTHER_CLASS_NAMES),
    ({"cat": 0.5, "dog": 0.5, "eel": 0.0, "cow": 0.0}, Reason.OTHER_CLASS_NAMES),
    ({"cat": 0.5, "dog": None, "eel": 0.5}, Reason.PROBABILITY_NULL),
    ({}, Reason.CLASS_PROBS_EMPTY),
    (None, Reason.CLASS_PROBS_NULL),
]


@cases
@pytest.mark.parametrize(("row", "reason"), ODD_ROWS)
@pytest.mark.parametrize("position", [0, 2])
def test_a_row_with_other_names_costs_itself(tmp_path, read, kind, row, reason, position):
    is_struct = kind == STRUCT and read not in (as_json, as_array)
    if is_struct and reason not in (Reason.PROBABILITY_NULL, Reason.CLASS_PROBS_NULL):
        return  # A struct has no other names.
    rows: list = [mapping(probs) for probs in PROBS]
    rows[position] = row
    stream = read(tmp_path, rows, kind)
    names = order_of(read, kind)
    assert stream.class_names == tuple(names)
    found = rows_of(stream)
    assert [each["reason"] for each in found] == [
        reason if number == position else None for number in range(4)
    ]
    good = [number for number in range(4) if number != position]
    assert [found[number]["class_probs"] for number in good] == [
        [rows[number][name] for name in names] for number in good
    ]
    assert json.loads(found[position]["raw"])["image_id"] == f"i{position}"


# Values of JSON that are no names and numbers, and the reason.
ODD_JSON = [
    ([0.5, 0.25, 0.25], Reason.OTHER_CLASS_NAMES),
    (0.5, Reason.OTHER_CLASS_NAMES),
    ([{"label": "cat"}], Reason.OTHER_CLASS_NAMES),
    ([{"label": "cat", "score": 0.5}] * 2, Reason.OTHER_CLASS_NAMES),
    ([{"label": ["cat"], "score": 0.5}], Reason.OTHER_CLASS_NAMES),
    ({"cat": "x", "dog": 0.5, "eel": 0.5}, Reason.PROBABILITY_NOT_NUMBER),
    ({"cat": 2, "dog": 0.5, "eel": 0.5}, Reason.ABOVE_ONE),
]


@pytest.mark.parametrize(("value", "reason"), ODD_JSON)
def test_json_without_names_costs_its_row(tmp_path, value, reason):
    rows = [mapping(PROBS[0]), value, mapping(PROBS[1])]
    found = rows_of(as_json(tmp_path, rows, MAP))
    assert [row["reason"] for row in found] == [None, reason, None]


MISSPELT = [{"label": "cat", "sco^e": 0.5}, {"Label": "cat", "score": "0.5", "label": "b"}, {"label": 1.0}, {}]  # fmt: skip


@pytest.mark.parametrize("first", MISSPELT, ids=str)
def test_a_first_row_with_an_odd_class_costs_itself(tmp_path, first):
    """It makes no objects of the classes of all other rows."""
    listed = [[{"label": name, "score": p} for name, p in mapping(row).items()] for row in PROBS]
    listed[0][0] = first
    lines = [{"image_id": f"i{n}", "class_probs": row} for n, row in enumerate(listed)]
    (tmp_path / "p.jsonl").write_text("\n".join(map(json.dumps, lines)))
    found = rows_of(read_predictions(tmp_path / "p.jsonl", format="jsonl", class_names=NAMES))
    assert [row["reason"] for row in found] == [
        Reason.OTHER_CLASS_NAMES,
        *[None] * (len(PROBS) - 1),
    ]
    assert [row["class_probs"] for row in found[1:]] == PROBS[1:]


def test_a_list_of_misspelt_fields_is_an_error_that_names_them():
    rows = [[{"label": "cat", "valeu": 0.5}, {"label": "dog", "valeu": 0.5}]]
    table = pa.table({"image_id": ["a"], "class_probs": rows})
    with pytest.raises(PredictionReadError, match="struct<label: string, valeu: double>.*expected"):
        read_table(table, name="t", options=TableOptions())


def test_a_name_that_is_there_twice_is_no_set_of_names(tmp_path):
    rows = [
        [("cat", 0.5), ("dog", 0.5)],
        [("cat", 0.5), ("cat", 0.5)],
        [("dog", 1.0), ("cat", 0.0)],
    ]
    table = pa.table({"image_id": ["a", "b", "c"], "class_probs": pa.array(rows, MAP)})
    found = rows_of(read_table(table, name="t", options=TableOptions()))
    assert [row["reason"] for row in found] == [None, Reason.OTHER_CLASS_NAMES, None]
    assert found[2]["class_probs"] == [0.0, 1.0]


@pytest.mark.parametrize(("label", "number"), [("class", "probability"), ("Label", "confidence")])
def test_fields_may_have_other_names_and_whole_numbers_name_classes(label, number):
    rows = [[{label: 2, number: 0.25, "x": 1}, {label: 10, number: 0.75, "x": 1}]]
    table = pa.table({"image_id": ["a"], "class_probs": rows})
    stream = read_table(table, name="t", options=TableOptions())
    assert stream.class_names == ("10", "2")
    assert rows_of(stream)[0]["class_probs"] == [0.75, 0.25]


def test_precision_and_types_are_those_of_the_source(tmp_path):
    floats = pa.map_(pa.dictionary(pa.int8(), pa.string()), pa.float32())
    pairs = pa.array([[("a", 0.1), ("b", 0.9)]], pa.map_(pa.string(), pa.float32()))
    table = pa.table({"image_id": ["a"], "class_probs": pairs.cast(floats)})
    stream = read_table(table, name="t", options=TableOptions())
    assert stream.value_type == pa.float32()
    structs = pa.array([{"a": 1, "b": 0.5}], pa.struct([("a", pa.int32()), ("b", pa.float32())]))
    table = pa.table({"image_id": ["a"], "class_probs": structs})
    stream = read_table(table, name="t", options=TableOptions())
    assert stream.value_type == pa.float64()
    assert rows_of(stream)[0]["class_probs"] == [1.0, 0.5]


def test_other_fields_than_the_declared_classes_are_an_error_that_names_both(tmp_path):
    with pytest.raises(PredictionReadError) as error:
        as_parquet(tmp_path, [mapping(PROBS[0])], STRUCT, class_names=["cat", "dog", "cow"])
    assert "has the classes ['dog', 'cat', 'eel'] in column 'class_probs'" in str(error.value)
    assert "class_names is ['cat', 'dog', 'cow']" in str(error.value)


def test_shards_are_joined_by_name_and_an_empty_one_has_any_classes(tmp_path):
    rows = [mapping(probs) for probs in PROBS]
    pq.write_table(arrow([], MAP), tmp_path / "0.parquet")
    pq.write_table(arrow(rows[:2], MAP), tmp_path / "1.parquet")
    pq.write_table(arrow(rows[2:], STRUCT), tmp_path / "2.parquet")
    stream = read_predictions(tmp_path / "*.parquet", format="parquet")
    assert stream.class_names == tuple(NAMES)
    assert [row["class_probs"] for row in rows_of(stream)] == PROBS


@pytest.mark.parametrize("kind", [MAP, STRUCT, LISTS])
def test_objects_of_an_image_may_have_named_probabilities(kind):
    rows = [[mapping(PROBS[0]), mapping(PROBS[1])], [], [mapping(PROBS[2])]]
    if kind == MAP:
        values = [[list(row.items()) for row in image] for image in rows]
    else:
        values = [[listed(row) if kind == LISTS else row for row in image] for image in rows]
    column = pa.array(values, pa.list_(kind))
    table = pa.table({"image_id": ["a", "b", "c"], "class_probs": column})
    frames = [table] if kind == MAP else [table, pl.from_arrow(table)]
    for frame in frames:
        found = rows_of(read_table(frame, name="t", options=TableOptions(class_names=NAMES)))
        assert [(row["image_id"], row["class_probs"]) for row in found] == [
            ("a", PROBS[0]),
            ("a", PROBS[1]),
            ("c", PROBS[2]),
            ("b", None),
        ]
        unnamed = read_table(frame, name="t", options=TableOptions())
        assert sorted(unnamed.class_names or ()) == NAMES
        assert {row["reason"] for row in rows_of(unnamed)} == {None}


def test_objects_of_an_image_in_json_may_have_named_probabilities(tmp_path):
    rows = [
        {"image_id": "a", "class_probs": []},
        {"image_id": "b", "class_probs": [mapping(PROBS[0]), {"cat": 1.0}]},
    ]
    (tmp_path / "p.jsonl").write_text("\n".join(map(json.dumps, rows)))
    stream = read_predictions(tmp_path / "p.jsonl", format="jsonl", class_names=NAMES)
    found = rows_of(stream)
    assert [(row["image_id"], row["class_probs"], row["reason"]) for row in found] == [
        ("b", PROBS[0], None),
        ("b", None, Reason.OTHER_CLASS_NAMES),
        ("a", None, None),
    ]
