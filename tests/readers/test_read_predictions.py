"""Every format: what it reads, how it numbers rows, and what it says about broken files."""

import gzip
import json
import time
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dagster_active_learning import read_predictions
from dagster_active_learning.errors import PredictionReadError
from dagster_active_learning.readers.formats import FORMATS, csv, parquet
from dagster_active_learning.readers.quarantine import Reason

IDS = ["a", "b", "c"]
PROBS = [[0.5, 0.25, 0.25], [1.0, 0.0, 0.0], [0.125, 0.375, 0.5]]
NAMES = ["cat", "dog", "eel"]


def write_parquet(
    folder: Path, dtype: pa.DataType, *, length: int = -1, names: bool = False
) -> Path:
    table = pa.table({"image_id": IDS, "class_probs": pa.array(PROBS, pa.list_(dtype, length))})
    if names:
        table = table.replace_schema_metadata({"class_names": json.dumps(NAMES)})
    pq.write_table(table, folder / "p.parquet", row_group_size=2)
    return folder / "p.parquet"


def write_wide(folder: Path, suffix: str, prefix: str = "prob_") -> Path:
    frame = pl.DataFrame(
        {
            "image_id": IDS,
            **{
                prefix + name: column
                for name, column in zip(NAMES, zip(*PROBS, strict=True), strict=True)
            },
        }
    )
    path = folder / f"wide.{suffix}"
    {"parquet": frame.write_parquet, "csv": frame.write_csv, "jsonl": frame.write_ndjson}[suffix](
        path
    )
    return path


def write_text(folder: Path, name: str, text: str | bytes) -> Path:
    (folder / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    return folder / name


def write_npy(folder: Path, matrix: np.ndarray, ids: list[str] | None = None) -> Path:
    np.save(folder / "p.npy", matrix)
    write_text(folder, "p.ids.txt", "\n".join(IDS if ids is None else ids) + "\n")
    return folder / "p.npy"


def rows_of(path: Path | str, **options) -> list[dict]:
    stream = read_predictions(path, **options)
    return [row for batch in stream for row in batch.to_pylist()]


def list_json(folder: Path) -> Path:
    lines = [
        json.dumps({"image_id": i, "class_probs": p, "x": {}})
        for i, p in zip(IDS, PROBS, strict=True)
    ]
    return write_text(folder, "p.jsonl", "\n".join(lines))


GOOD_SOURCES = {
    "parquet float32 list": (lambda f: write_parquet(f, pa.float32()), {"format": "parquet"}, pa.float32(), None),
    "parquet float16 list": (lambda f: write_parquet(f, pa.float16()), {"format": "parquet"}, pa.float32(), None),
    "parquet float64 list, names in the file": (
        lambda f: write_parquet(f, pa.float64(), names=True), {"format": "parquet"}, pa.float64(), NAMES,
    ),
    "parquet fixed-size list": (
        lambda f: write_parquet(f, pa.float32(), length=3), {"format": "parquet", "class_names": NAMES}, pa.float32(), NAMES,
    ),
    "parquet columns by prefix": (
        lambda f: write_wide(f, "parquet"), {"format": "parquet", "class_column_prefix": "prob_"}, pa.float64(), NAMES,
    ),
    "csv columns by prefix": (
        lambda f: write_wide(f, "csv"), {"format": "csv", "class_column_prefix": "prob_"}, pa.float64(), NAMES,
    ),
    "csv columns by pattern": (
        lambda f: write_wide(f, "csv"), {"format": "csv", "class_column_pattern": "prob_(.*)"}, pa.float64(), NAMES,
    ),
    "csv columns by names": (
        lambda f: write_wide(f, "csv", prefix=""), {"format": "csv", "class_columns": NAMES}, pa.float64(), NAMES,
    ),
    "csv list as JSON": (
        lambda f: write_text(f, "p.csv", "image_id,class_probs\n" + "".join(f'{i},"{p}"\n' for i, p in zip(IDS, PROBS, strict=True))),
        {"format": "csv"}, pa.float64(), None,
    ),
    "csv list as NumPy prints it": (
        lambda f: write_text(f, "p.csv", "image_id,class_probs\n" + "".join(f"{i},{np.array(p)}\n" for i, p in zip(IDS, PROBS, strict=True))),
        {"format": "csv"}, pa.float64(), None,
    ),
    "csv compressed": (
        lambda f: write_text(f, "p.csv.gz", gzip.compress(write_wide(f, "csv").read_bytes())),
        {"format": "csv", "class_column_prefix": "prob_"}, pa.float64(), NAMES,
    ),
    "jsonl list": (list_json, {"format": "jsonl"}, pa.float64(), None),
    "jsonl columns": (
        lambda f: write_wide(f, "jsonl"), {"format": "jsonl", "class_column_prefix": "prob_"}, pa.float64(), NAMES,
    ),
    "jsonl compressed": (
        lambda f: write_text(f, "p.jsonl.gz", gzip.compress(list_json(f).read_bytes())), {"format": "jsonl"}, pa.float64(), None,
    ),
    "npy float32": (lambda f: write_npy(f, np.array(PROBS, np.float32)), {"format": "npy"}, pa.float32(), None),
    "npy float16": (lambda f: write_npy(f, np.array(PROBS, np.float16)), {"format": "npy"}, pa.float32(), None),
    "npy big-endian, column by column": (
        lambda f: write_npy(f, np.asfortranarray(np.array(PROBS, ">f8"))),
        {"format": "npy", "class_names": NAMES}, pa.float64(), NAMES,
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", GOOD_SOURCES)
@pytest.mark.parametrize("batch_rows", [None, 1, 2])
def test_the_same_predictions_from_every_format(tmp_path, case, batch_rows):
    write, options, value_type, names = GOOD_SOURCES[case]
    path = write(tmp_path)
    stream = read_predictions(path, batch_rows=batch_rows, **options)
    batches = list(stream)
    assert all(batch.schema == stream.schema for batch in batches)
    assert batch_rows is None or max(batch.num_rows for batch in batches) <= batch_rows
    rows = [row for batch in batches for row in batch.to_pylist()]
    assert [row["image_id"] for row in rows] == IDS
    assert [row["class_probs"] for row in rows] == PROBS
    assert [row["row_number"] for row in rows] == [1, 2, 3]
    assert {row["source"] for row in rows} == {str(path)}
    assert {row["reason"] for row in rows} == {None}
    assert stream.value_type == value_type
    assert stream.class_names == (tuple(names) if names else None)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("ids", [np.array(IDS), np.array([b"a", b"b", b"c"])])
def test_an_archive_of_arrays_brings_its_ids_and_names(tmp_path, save, ids):
    path = tmp_path / "p.npz"
    save(path, class_probs=np.array(PROBS, np.float32), image_ids=ids, class_names=np.array(NAMES))
    stream = read_predictions(path, format="npz")
    assert stream.class_names == tuple(NAMES)
    rows = [row for batch in stream for row in batch.to_pylist()]
    assert [(row["image_id"], row["class_probs"]) for row in rows] == list(
        zip(IDS, PROBS, strict=True)
    )


def test_integer_ids_are_text_and_keep_their_zeros_in_text(tmp_path):
    np.save(tmp_path / "p.npy", np.array(PROBS))
    np.save(tmp_path / "ids.npy", np.array([7, 8, 9]))
    npy = rows_of(tmp_path / "p.npy", format="npy", image_ids="ids.npy")
    csv = rows_of(
        write_text(tmp_path, "p.csv", "image_id,x,y\n007,0.5,0.5\n"),
        format="csv",
        class_columns=["x", "y"],
    )
    jsonl = rows_of(
        write_text(tmp_path, "p.jsonl", '{"image_id": 7, "class_probs": [1, 0]}'), format="jsonl"
    )
    assert [row["image_id"] for row in npy + csv + jsonl] == ["7", "8", "9", "007", "7"]


def test_files_of_a_glob_are_read_in_the_order_of_their_names(tmp_path):
    for name in ("b", "a", "c"):
        pq.write_table(
            pa.table(
                {
                    "image_id": [name],
                    "class_probs": pa.array(
                        [[0.5, 0.5]], pa.list_(pa.float32() if name != "c" else pa.float64())
                    ),
                }
            ),
            tmp_path / f"{name}.parquet",
        )
    stream = read_predictions(tmp_path / "*.parquet", format="parquet")
    rows = [row for batch in stream for row in batch.to_pylist()]
    assert [(row["image_id"], row["row_number"]) for row in rows] == [("a", 1), ("b", 1), ("c", 1)]
    assert [Path(row["source"]).name for row in rows] == ["a.parquet", "b.parquet", "c.parquet"]
    assert stream.value_type == pa.float64(), "the widest precision of the files"


@pytest.mark.parametrize(("format", "suffix"), [("csv", "csv"), ("jsonl", "jsonl")])
def test_blank_lines_are_no_rows(tmp_path, format, suffix):
    text = {
        "csv": "image_id,x,y\n\na,0.5,0.5\n\nb,1\n",
        "jsonl": '\n{"image_id": "a", "class_probs": [0.5, 0.5]}\n\nnot json\n',
    }[format]
    options = {"class_columns": ["x", "y"]} if format == "csv" else {}
    rows = rows_of(write_text(tmp_path, f"p.{suffix}", text), format=format, **options)
    assert [(row["row_number"], row["reason"] is None) for row in rows] == [(1, True), (2, False)]


# Rows that cannot be read as a prediction: format, text of the row, reason.
UNREADABLE_ROWS = [
    ("csv", "x,0.5,abc", Reason.PROBABILITY_NOT_NUMBER),
    ("csv", "x,0.5,", Reason.PROBABILITY_NULL),
    ("csv", ",0.5,0.5", Reason.IMAGE_ID_NULL),
    ("csv", '"",0.5,0.5', Reason.IMAGE_ID_NULL),
    ("csv", "x,0.5", Reason.WRONG_FIELD_COUNT),
    ("csv", "x,0.5,0.25,0.25", Reason.WRONG_FIELD_COUNT),
    ("csv", b"\xff\xfe,0.5,0.5", Reason.IMAGE_ID_NOT_UTF8),
    ("csv", b"x,\xff,0.5", Reason.PROBABILITY_NOT_NUMBER),
    ("jsonl", '{"image_id": "x", "class_probs": [0.5, "0.5"]}', Reason.PROBABILITY_NOT_NUMBER),
    ("jsonl", '{"image_id": "x", "class_probs": [0.5, true]}', Reason.PROBABILITY_NOT_NUMBER),
    ("jsonl", '{"image_id": "x", "class_probs": [0.5, [0.5]]}', Reason.PROBABILITY_NOT_NUMBER),
    ("jsonl", '{"image_id": "x", "class_probs": [0.5, null]}', Reason.PROBABILITY_NULL),
    ("jsonl", '{"image_id": "x", "class_probs": []}', Reason.CLASS_PROBS_EMPTY),
    ("jsonl", '{"image_id": "x", "class_probs": null}', Reason.CLASS_PROBS_NULL),
    ("jsonl", '{"image_id": "x"}', Reason.CLASS_PROBS_NULL),
    ("jsonl", '{"image_id": "x", "class_probs": 0.5}', Reason.CLASS_PROBS_NOT_LIST),
    ("jsonl", '{"image_id": "x", "class_probs": {"a": 0.5}}', Reason.CLASS_PROBS_NOT_LIST),
    ("jsonl", '{"image_id": null, "class_probs": [0.5, 0.5]}', Reason.IMAGE_ID_NULL),
    ("jsonl", '{"image_id": 0.5, "class_probs": [0.5, 0.5]}', Reason.IMAGE_ID_NOT_TEXT),
    ("jsonl", '{"image_id": "\\ud800", "class_probs": [0.5, 0.5]}', Reason.IMAGE_ID_NOT_UTF8),
    ("jsonl", '{"image_id": "x", "class_probs": [' + "9" * 30 + ", 0.5]}", Reason.ABOVE_ONE),
    ("jsonl", '{"image_id": "x", "class_probs": [0.5', Reason.UNREADABLE_LINE),
    ("jsonl", "[1, 2]", Reason.UNREADABLE_LINE),
    ("jsonl", b'{"image_id": "\xff", "class_probs": [0.5, 0.5]}', Reason.UNREADABLE_LINE),
    ("jsonl", "[" * 100_000, Reason.UNREADABLE_LINE),
]  # fmt: skip


@pytest.mark.parametrize(
    ("format", "row", "reason"),
    UNREADABLE_ROWS,
    ids=[f"{f}-{str(r)[:40]}" for f, r, _ in UNREADABLE_ROWS],
)
def test_a_row_that_is_no_prediction_keeps_its_place_with_a_reason(tmp_path, format, row, reason):
    row = row if isinstance(row, bytes) else row.encode()
    good = {"csv": b"%s,0.5,0.5", "jsonl": b'{"image_id": "%s", "class_probs": [0.5, 0.5]}'}[format]
    lines = [good % b"a", row, good % b"c"]
    header = [b"image_id,x,y"] if format == "csv" else []
    path = write_text(tmp_path, f"p.{format}", b"\n".join(header + lines))
    options = {"class_columns": ["x", "y"]} if format == "csv" else {}
    rows = rows_of(path, format=format, **options)
    assert [one["row_number"] for one in rows] == [1, 2, 3]
    assert [one["reason"] for one in rows] == [None, reason, None]
    assert rows[1]["raw"]
    assert [one["raw"] for one in (rows[0], rows[2])] == [None, None]


# A row of JSON Lines whose class probabilities cannot be read, and the id that can.
IDS_OF_UNREADABLE_ROWS = [
    ('{"image_id": "x", "class_probs": [0.5, "0.5"]}', "x"),
    ('{"image_id": 7, "class_probs": 0.5}', "7"),
    ('{"image_id": "", "class_probs": 0.5}', None),
    ('{"image_id": null, "class_probs": 0.5}', None),
    ('{"image_id": true, "class_probs": [0.5, 0.5]}', None),
    ('{"image_id": "\\ud800", "class_probs": 0.5}', None),
    ('{"class_probs": 0.5}', None),
    ('{"image_id": "x", "class_probs": [0.5', None),
]


@pytest.mark.parametrize(("row", "image_id"), IDS_OF_UNREADABLE_ROWS)
def test_a_row_that_is_no_prediction_keeps_the_id_that_can_be_read(tmp_path, row, image_id):
    good = '{"image_id": "a", "class_probs": [0.5, 0.5]}'
    rows = rows_of(write_text(tmp_path, "p.jsonl", f"{good}\n{row}\n{good}"), format="jsonl")
    assert [one["image_id"] for one in rows] == ["a", image_id, "a"]
    assert [one["reason"] is None for one in rows] == [True, False, True]


@pytest.mark.parametrize(
    ("row", "raw"),
    [
        ("c,0.5,abc", {"image_id": "c", "x": "0.5", "y": "abc"}),
        ("ä,0.5,", {"image_id": "ä", "x": "0.5", "y": None}),
        (b"\xff\xfe,0.5,1", {"image_id": "\\xff\\xfe", "x": "0.5", "y": "1"}),
    ],
)
def test_the_quarantine_shows_the_text_of_a_csv_row(tmp_path, row, raw):
    text = b"image_id,x,y\na,0.5,0.5\n" + (row if isinstance(row, bytes) else row.encode())
    rows = rows_of(write_text(tmp_path, "p.csv", text), format="csv", class_columns=["x", "y"])
    assert json.loads(rows[1]["raw"]) == raw


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-8"])
def test_json_lines_are_utf_8_with_or_without_a_mark(tmp_path, encoding):
    lines = '{"image_id": "ä", "class_probs": [0.5, 0.5]}\n' * 4
    rows = rows_of(write_text(tmp_path, "p.jsonl", lines.encode(encoding)), format="jsonl")
    assert [(row["image_id"], row["reason"]) for row in rows] == [("ä", None)] * 4


@pytest.mark.parametrize(
    ("probs", "reason"),
    [
        (pa.array([["0.5", "0.5"], ["0.5", "x"]]), Reason.PROBABILITY_NOT_NUMBER),
        (pa.array([[0.5, 0.5], [0.5, None]]), Reason.PROBABILITY_NULL),
        (pa.array([[0.5, 0.5], []]), Reason.CLASS_PROBS_EMPTY),
        (pa.array([[0.5, 0.5], None]), Reason.CLASS_PROBS_NULL),
        (pa.array([[0.5, 0.5], None], pa.large_list(pa.float32())), Reason.CLASS_PROBS_NULL),
        (pa.array(["0.5 0.5", "0.5 x"]), Reason.PROBABILITY_NOT_NUMBER),
        (pa.array(["[0.5;0.5]", "[]"]), Reason.CLASS_PROBS_EMPTY),
    ],
)
def test_columns_of_a_parquet_file_are_judged_row_by_row(tmp_path, probs, reason):
    pq.write_table(pa.table({"image_id": ["a", "b"], "class_probs": probs}), tmp_path / "p.parquet")
    rows = rows_of(tmp_path / "p.parquet", format="parquet")
    assert [row["reason"] for row in rows] == [None, reason]
    assert rows[0]["class_probs"] == [0.5, 0.5]
    assert '"image_id": "b"' in rows[1]["raw"]


def test_null_rows_of_fixed_size_lists_are_judged_or_the_file_is_refused(tmp_path):
    probs = pl.Series([[0.5, 0.5], None, [0.25, 0.75]], dtype=pl.Array(pl.Float32, 2))
    frame = pl.DataFrame({"image_id": ["a", "b", "c"], "class_probs": probs})
    frame.write_parquet(tmp_path / "p.parquet")
    if int(pa.__version__.partition(".")[0]) < 26:
        with pytest.raises(PredictionReadError, match="pyarrow 26 reads null rows of them"):
            rows_of(tmp_path / "p.parquet", format="parquet")
    else:
        rows = rows_of(tmp_path / "p.parquet", format="parquet")
        assert [row["reason"] for row in rows] == [None, Reason.CLASS_PROBS_NULL, None]


def test_columns_of_text_are_parsed_together(tmp_path, monkeypatch):
    """A query of polars takes 1 ms: one per column and batch was most of 5,000 classes' time."""
    names = [f"p_{number}" for number in range(200)]
    lines = [f"image_id,{','.join(names)}", f"a,{','.join(['0.005'] * 200)}"]
    queries = []
    for name in ("select", "select_seq"):  # what a method of a Series becomes
        select = getattr(pl.DataFrame, name)
        monkeypatch.setattr(
            pl.DataFrame,
            name,
            lambda *args, _select=select, **kwargs: queries.append(1) or _select(*args, **kwargs),
        )
    (row,) = rows_of(
        write_text(tmp_path, "p.csv", "\n".join(lines)), format="csv", class_column_prefix="p_"
    )
    assert row["class_probs"] == [0.005] * 200
    assert 1 <= len(queries) < 20


@pytest.mark.parametrize("encoding", ["PLAIN", "DELTA_LENGTH_BYTE_ARRAY", "DELTA_BYTE_ARRAY"])
@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.string_view(), pa.binary()])
def test_ids_are_read_however_parquet_has_them(tmp_path, encoding, kind):
    ids = [f"image {row}" for row in range(50)]
    table = pa.table({"image_id": pa.array(ids).cast(kind), "class_probs": [[0.5, 0.5]] * 50})
    path = tmp_path / "p.parquet"
    encodings = {"image_id": encoding}
    pq.write_table(table, path, use_dictionary=False, column_encoding=encodings)
    assert [row["image_id"] for row in rows_of(path, format="parquet")] == ids


def test_a_batch_of_many_parquet_columns_takes_time_linear_in_their_number(tmp_path):
    def seconds(count):
        row = {"image_id": ["a"], **{f"p_{number}": [1 / count] for number in range(count)}}
        path = tmp_path / "p.parquet"
        pq.write_table(pa.table(row), path)
        names = ["image_id", *(f"p_{number}" for number in range(count))]
        with pq.ParquetFile(path) as opened:
            start = time.process_time()
            text = parquet._TextLengths(path, opened, names)
            assert parquet._batch_rows(path, opened, 0, names, text) > 0
            return time.process_time() - start

    # Sixteen times as long where it is quadratic.
    assert min(seconds(8_000) for _ in range(2)) < 10 * min(seconds(2_000) for _ in range(3))


def cut(path: Path) -> Path:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return path


# What a file can be instead of predictions: what writes it, the options, words of the error.
BROKEN_FILES = {
    "missing": (lambda f: f / "none.csv", {"format": "csv"}, "does not exist"),
    "glob without a match": (lambda f: f / "*.csv", {"format": "csv"}, "does not exist"),
    "a folder": (lambda f: f, {"format": "csv"}, "is a folder"),
    "empty csv": (lambda f: write_text(f, "p.csv", ""), {"format": "csv"}, "not a readable UTF-8 CSV"),
    "csv without the id column": (
        lambda f: write_text(f, "p.csv", "id,x,y\n1,0.5,0.5\n"), {"format": "csv", "class_columns": ["x", "y"]}, "no column 'image_id'",
    ),
    "csv without the class columns": (
        lambda f: write_text(f, "p.csv", "image_id,x\n1,0.5\n"), {"format": "csv", "class_columns": ["x", "y"]}, "no column 'y'",
    ),
    "csv with one class": (
        lambda f: write_text(f, "p.csv", "image_id,p_x\n1,0.5\n"), {"format": "csv", "class_column_prefix": "p_"}, "1 class columns",
    ),
    "csv with a column twice": (
        lambda f: write_text(f, "p.csv", "image_id,image_id,x,y\n1,1,0.5,0.5\n"), {"format": "csv", "class_columns": ["x", "y"]}, "more than one column",
    ),
    "csv in UTF-16": (
        lambda f: write_text(f, "p.csv", "image_id,x,y\n1,0.5,0.5\n".encode("utf-16")), {"format": "csv", "class_columns": ["x", "y"]}, "p.csv",
    ),
    "names that do not fit": (
        lambda f: write_wide(f, "csv"), {"format": "csv", "class_column_prefix": "prob_", "class_names": ["a", "b"]}, "class_names has 2",
    ),
    "empty parquet": (lambda f: write_text(f, "p.parquet", ""), {"format": "parquet"}, "not a readable Parquet"),
    "parquet cut in the middle": (lambda f: cut(write_parquet(f, pa.float32())), {"format": "parquet"}, "not a readable Parquet"),
    "csv named parquet": (lambda f: write_text(f, "p.parquet", "a,b\n1,2\n" * 9), {"format": "parquet"}, "not a readable Parquet"),
    "parquet with times for probabilities": (
        lambda f: (pq.write_table(pa.table({"image_id": ["a"], "class_probs": pa.array([[0]], pa.list_(pa.timestamp("s")))}), f / "p.parquet"), f / "p.parquet")[1],
        {"format": "parquet"}, "is of type list<",
    ),
    "parquet with a number for a list": (
        lambda f: (pq.write_table(pa.table({"image_id": ["a"], "class_probs": [0.5]}), f / "p.parquet"), f / "p.parquet")[1],
        {"format": "parquet"}, "expected a list of class probabilities",
    ),
    "parquet with broken class names": (
        lambda f: (pq.write_table(pa.table({"image_id": ["a"], "class_probs": [[0.5, 0.5]]}).replace_schema_metadata({"class_names": "x"}), f / "p.parquet"), f / "p.parquet")[1],
        {"format": "parquet"}, "class_names",
    ),
    "empty jsonl": (lambda f: write_text(f, "p.jsonl", ""), {"format": "jsonl"}, "holds no predictions"),
    **{
        f"jsonl in {encoding}": (
            lambda f, encoding=encoding: write_text(f, "p.jsonl", list_json(f).read_text().encode(encoding)),
            {"format": "jsonl"}, "expected UTF-8 text",
        )
        for encoding in ("utf-16", "utf-16-le", "utf-16-be", "utf-32")
    },
    "jsonl without an object": (lambda f: write_text(f, "p.jsonl", "1\n2\n"), {"format": "jsonl"}, "holds no predictions"),
    "jsonl without the key": (lambda f: write_text(f, "p.jsonl", '{"image_id": "a"}'), {"format": "jsonl"}, "no column 'class_probs'"),
    "gzip cut in the middle": (
        lambda f: cut(write_text(f, "p.jsonl.gz", gzip.compress(list_json(f).read_bytes() * 1000))), {"format": "jsonl"}, "p.jsonl.gz",
    ),
    "npy without ids": (
        lambda f: (np.save(f / "p.npy", np.array(PROBS)), f / "p.npy")[1], {"format": "npy"}, "no list of image ids",
    ),
    "npy with too few ids": (lambda f: write_npy(f, np.array(PROBS), ["a"]), {"format": "npy"}, "one id per row"),
    "npy of one dimension": (lambda f: write_npy(f, np.array([0.5, 0.5])), {"format": "npy"}, "expected class probabilities"),
    "npy of text": (lambda f: write_npy(f, np.array([["a", "b"]])), {"format": "npy"}, "expected class probabilities"),
    "npy of pickled objects": (lambda f: write_npy(f, np.array([[None, 1]], object)), {"format": "npy"}, "pickled arrays are refused"),
    "npy cut in the middle": (lambda f: cut(write_npy(f, np.array(PROBS))), {"format": "npy"}, "not a readable NumPy"),
    "npz without the array": (
        lambda f: (np.savez(f / "p.npz", image_ids=np.array(IDS)), f / "p.npz")[1], {"format": "npz"}, "no array 'class_probs'",
    ),
    "npz of pickled ids": (
        lambda f: (np.savez(f / "p.npz", class_probs=np.array(PROBS), image_ids=np.array(["a", 1, None], object)), f / "p.npz")[1],
        {"format": "npz"}, "pickled arrays are refused",
    ),
    "npz with a class twice": (
        lambda f: (np.savez(f / "p.npz", class_probs=np.array(PROBS), image_ids=np.array(IDS), class_names=np.array(["a", "b", "a"])), f / "p.npz")[1],
        {"format": "npz"}, "(array 'class_names') holds ['a', 'b', 'a']: expected each name once",
    ),
    "npz that is no archive": (lambda f: write_text(f, "p.npz", "x"), {"format": "npz"}, "not a readable .npz"),
}  # fmt: skip


@pytest.mark.parametrize("case", BROKEN_FILES)
def test_a_broken_file_is_an_error_that_names_it(tmp_path, case):
    write, options, words = BROKEN_FILES[case]
    path = write(tmp_path)
    with pytest.raises(PredictionReadError) as error:
        rows_of(path, **options)
    assert words in str(error.value)
    assert str(tmp_path) in str(error.value)


# Metadata of a Parquet file that are no class names.
NO_CLASS_NAMES = [
    "[" * 100_000 + "]" * 100_000, '[["a"], ["b"]]', "5", "null", "true", '"ab"', "{}", '{"a": 1, "b": 2}', "[]", "[1.5, 2]", "[true, false]",
    '[1, "1"]', '[null, "x"]', '["a", "a"]', '["\\ud800", "b"]', b'["\xff", "b"]', "x", "",
]  # fmt: skip


@pytest.mark.parametrize("metadata", NO_CLASS_NAMES, ids=lambda text: repr(text[:20]))
def test_class_names_that_are_none_are_an_error_that_says_what_is_expected(tmp_path, metadata):
    table = pa.table({"image_id": ["a"], "class_probs": [[0.5, 0.5]]})
    table = table.replace_schema_metadata({"class_names": metadata})
    pq.write_table(table, tmp_path / "p.parquet")
    with pytest.raises(PredictionReadError) as error:
        read_predictions(tmp_path / "p.parquet", format="parquet")
    assert str(tmp_path / "p.parquet") in str(error.value)
    assert "expected a JSON list of different texts" in str(error.value)


@pytest.mark.parametrize(
    ("metadata", "names"), [('["b", "a"]', ("b", "a")), ("[1, 0]", ("1", "0"))]
)
def test_class_names_stand_in_the_metadata_as_texts_or_integers(tmp_path, metadata, names):
    table = pa.table({"image_id": ["a"], "class_probs": [[0.5, 0.5]]})
    table = table.replace_schema_metadata({"class_names": metadata})
    pq.write_table(table, tmp_path / "p.parquet")
    assert read_predictions(tmp_path / "p.parquet", format="parquet").class_names == names


def test_a_pattern_that_gives_two_columns_one_name_is_an_error(tmp_path):
    path = write_text(tmp_path, "p.csv", "image_id,p_a,q_a\nx,0.5,0.5\n")
    with pytest.raises(PredictionReadError, match=r"p\.csv has the classes \['a', 'a'\]"):
        read_predictions(path, format="csv", class_column_pattern="._(.)")


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("p_(.*)", ["a", "b", "p_"]),  # an empty group is no name
        ("p_(.+)", ["a", "b"]),
        ("p_.+", ["p_a", "p_b"]),
        ("(?i)P_(?P<name>[ab])", ["a", "b"]),
        ("p_a|p_|(?:x)?(b)", ["p_a", "p_"]),  # the whole name, and a group that is not in it
        ("p_a|p_(b)", ["p_a", "b"]),
        (r"p_(\w)", ["a", "b"]),
        # Python's own takes 2^40 steps to see that these do not match the last column.
        ("p_([ab])|(?:x+)+", ["a", "b"]),
        ("p_([ab])|(?:x|x)*", ["a", "b"]),
        (r"p_([ab])|(?:x|\w)+\d", ["a", "b"]),
    ],
)
def test_a_pattern_matches_whole_names_in_linear_time(tmp_path, pattern, names):
    columns = ["image_id", "p_a", "p_b", "p_", "xp_b", "x" * 40 + "!"]
    probs = [1 / len(names) if name in names or name[2:] in names else 0 for name in columns[1:]]
    path = write_text(
        tmp_path, "p.csv", f"{','.join(columns)}\ni,{','.join(map(repr, map(float, probs)))}\n"
    )
    stream = read_predictions(path, format="csv", class_column_pattern=pattern)
    assert stream.class_names == tuple(names)
    (batch,) = stream
    assert batch.column("class_probs").to_pylist() == [[1 / len(names)] * len(names)]


def test_files_with_other_classes_do_not_mix(tmp_path):
    write_text(tmp_path, "1.csv", "image_id,p_a,p_b\nx,0.5,0.5\n")
    write_text(tmp_path, "2.csv", "image_id,p_b,p_c\nx,0.5,0.5\n")
    with pytest.raises(PredictionReadError, match=r"2\.csv has the classes .*'b', 'c'.*1\.csv has"):
        read_predictions(tmp_path / "*.csv", format="csv", class_column_prefix="p_")


def test_a_file_that_changes_while_it_is_read_is_an_error(tmp_path):
    path = write_wide(tmp_path, "csv")
    stream = read_predictions(path, format="csv", class_column_prefix="prob_")
    list(stream)
    before = stream.sha256()
    assert before == read_predictions(path, format="csv", class_column_prefix="prob_").sha256()
    path.write_text(path.read_text() + "d,1,0,0\n")
    with pytest.raises(PredictionReadError, match="changed while it was read"):
        stream.sha256()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"format": "xlsx"}, "unknown format 'xlsx': expected one of " + ", ".join(FORMATS)),
        (
            {"format": "csv", "prefix": "p_"},
            "format 'csv' has no option 'prefix': it has image_id_column",
        ),
        (
            {"format": "csv", "class_columns": ["a", "a"]},
            "class_columns must be a list of different names",
        ),
        (
            {"format": "csv", "class_columns": ["a", "b"], "class_column_prefix": "p"},
            "exclude each other",
        ),
        ({"format": "csv", "class_column_pattern": "("}, "is not a regular expression"),
        ({"format": "csv", "class_column_pattern": r"(.)\1"}, "backreferences are not supported"),
        ({"format": "csv", "class_column_pattern": "(?!a).*"}, "look-around"),
        (
            {"format": "csv", "class_column_pattern": "(?:.{1,1000}){1,1000}"},
            "exceeds size limit",
        ),
        ({"format": "npy", "class_names": "ab"}, "class_names must be a list"),
        ({"format": "csv", "batch_rows": 0}, "batch_rows must be at least 1"),
    ],
)
def test_wrong_options_are_named(tmp_path, options, words):
    with pytest.raises(ValueError, match="(?s).*") as error:
        read_predictions(tmp_path / "p", **options)
    assert words in str(error.value)


@pytest.mark.parametrize("broken", [{3_000}, {3_000, 3_001, 5_999}, set(range(2_500, 6_000))])
def test_malformed_rows_behind_the_first_block_keep_their_numbers(tmp_path, monkeypatch, broken):
    """The parser works a block ahead: what it rejects may belong to a later batch."""
    monkeypatch.setattr(csv, "BLOCK_BYTES", 2**16)
    text = "image_id,p_a,p_b\n" + "".join(
        f"image_{row:020d},0.25\n" if row in broken else f"image_{row:020d},0.25,0.75\n"
        for row in range(6_000)
    )
    path = write_text(tmp_path, "p.csv", text)
    numbers, refused = [], []
    for batch in read_predictions(path, format="csv", class_column_prefix="p_"):
        for number, reason in zip(
            batch["row_number"].to_pylist(), batch["reason"].to_pylist(), strict=True
        ):
            numbers.append(number)
            if reason:
                refused.append(number)
    assert numbers == list(range(1, 6_001))
    assert refused == sorted(row + 1 for row in broken)


def test_a_csv_file_of_malformed_rows_only_keeps_them(tmp_path):
    path = write_text(tmp_path, "p.csv", "image_id,p_a,p_b\nbad,1\nbad2\n")
    rows = rows_of(path, format="csv", class_column_prefix="p_")
    assert [(row["row_number"], row["raw"]) for row in rows] == [(1, "bad,1"), (2, "bad2")]


@pytest.mark.parametrize("batch_rows", [1, 100])
def test_classes_in_another_order_are_put_into_that_of_the_first_file(tmp_path, batch_rows):
    write_text(tmp_path, "1.csv", "image_id,p_cat,p_dog,p_owl\na,0.7,0.2,0.1\n")
    write_text(tmp_path, "2.csv", "image_id,p_owl,p_cat,p_dog\nb,0.1,0.7,0.2\nc,x,0.7,0.2\n")
    write_text(tmp_path, "3.csv", "image_id,p_cat,p_dog,p_owl\nd,0.7,0.2,0.1\n")
    stream = read_predictions(
        tmp_path / "*.csv", format="csv", class_column_prefix="p_", batch_rows=batch_rows
    )
    rows = [row for batch in stream for row in batch.to_pylist()]
    assert stream.class_names == ("cat", "dog", "owl")
    assert [row["class_probs"] for row in rows if row["image_id"] != "c"] == [[0.7, 0.2, 0.1]] * 3
    assert [row["reason"] for row in rows] == [None, None, Reason.PROBABILITY_NOT_NUMBER, None]


def test_lists_are_put_into_the_order_of_the_names_in_metadata_and_odd_lists_are_kept(tmp_path):
    for name, names, lists in (
        ("1", ["cat", "dog"], [[0.75, 0.25]]),
        ("2", ["dog", "cat"], [[0.25, 0.75], None, [0.5], [0.0, 1.0], [0.1, 0.2, 0.7]]),
    ):
        table = pa.table({"image_id": [name] * len(lists), "class_probs": lists})
        schema = table.replace_schema_metadata({"class_names": json.dumps(names)})
        pq.write_table(schema, tmp_path / f"{name}.parquet")
    rows = rows_of(tmp_path / "*.parquet", format="parquet")
    probs = [row["class_probs"] for row in rows]
    assert probs == [[0.75, 0.25], [0.75, 0.25], [], [0.5], [1.0, 0.0], [0.1, 0.2, 0.7]]


def test_class_names_given_by_hand_do_not_hide_another_order_of_columns(tmp_path):
    write_text(tmp_path, "1.csv", "image_id,p_cat,p_dog\nx,0.9,0.1\n")
    write_text(tmp_path, "2.csv", "image_id,p_dog,p_cat\nx,0.9,0.1\n")
    options = {"class_column_prefix": "p_", "class_names": ["cat", "dog"]}
    with pytest.raises(PredictionReadError, match="same order"):
        read_predictions(tmp_path / "*.csv", format="csv", **options)
    with pytest.raises(PredictionReadError, match="but the option class_names is"):
        read_predictions(
            write_parquet(tmp_path, pa.float32(), names=True),
            format="parquet",
            class_names=["x", "y", "z"],
        )


@pytest.mark.parametrize("ids", [pa.array([True]), pa.array([{"a": 1}]), pa.array([[1]])])
def test_a_column_that_holds_no_ids_is_refused(tmp_path, ids):
    table = pa.table({"image_id": ids, "class_probs": [[0.5, 0.5]]})
    pq.write_table(table, tmp_path / "p.parquet")
    with pytest.raises(PredictionReadError, match="expected image ids: text or integers"):
        read_predictions(tmp_path / "p.parquet", format="parquet")
