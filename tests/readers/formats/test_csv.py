"""What only CSV files have: quotes, and rows with too few or too many fields."""

import csv
import gc
import gzip
import io
import random
import tracemalloc
from pathlib import Path

import pyarrow as pa
import pytest

from dagster_active_learning import PoolImages, read_predictions
from dagster_active_learning.errors import PredictionReadError
from dagster_active_learning.readers.formats import csv as reader
from dagster_active_learning.readers.options import TableOptions
from dagster_active_learning.readers.quarantine import Reason

GOOD = "a,0.5,x\n"


def write(folder: Path, text: str | bytes, name: str = "p.csv") -> Path:
    (folder / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    return folder / name


def rows_of(path: Path, **options) -> list[dict]:
    stream = read_predictions(path, format="csv", score_column="score", **options)
    return [row for batch in stream for row in batch.to_pylist()]


def table_of(path: Path, columns: list[str]) -> pa.Table:
    return pa.Table.from_batches(reader.read_columns(path, columns))


# The text of a file, and where the quote is opened that is not closed.
OPEN_QUOTES = {
    "the last column, which is not read": ('image_id,score,note\na,0.5,"late\n' + GOOD * 1000, "row 1"),
    "the last column, which is read": ('image_id,score,category\n' + GOOD + 'a,0.6,"do', "row 2"),
    "an earlier column": ('image_id,note,score\na,x,0.5\na,"late,0.5\n' + "a,x,0.5\n" * 1000, "row 2"),
    "the first column": ("image_id,score,note\n" + GOOD * 2 + '"a,0.5,x\n' + GOOD, "row 3"),
    "the only row": ('image_id,score,note\na,0.5,"late\n', "row 1"),
    "the last character": ('image_id,score,note\na,0.5,"', "row 1"),
    "the last character, after a line": ('image_id,score,note\n' + GOOD + 'a,0.5,"\n', "row 2"),
    "two quotes for one at the end": ('image_id,score,note\n' + GOOD + 'a,0.5,"x""\n', "row 2"),
    "behind quotes that are closed": ('image_id,score,note\na,0.5,"x\ny"\na,0.5,"x\ny', "row 2"),
    "behind a row that is too short": ('image_id,score,note\na\n' + GOOD + 'a,0.5,"x\n' + GOOD, "row 3"),
    "behind blank lines": ('image_id,score,note\n\n\n' + GOOD + '\n\na,0.5,"x\n' + GOOD, "row 2"),
    "a row that is too short": ('image_id,score,note\n' + GOOD + '"a\n' + GOOD, "row 2"),
    "lines of two characters": ('image_id,score,note\r\na,0.5,x\r\na,0.5,"late\r\na,0.5,x\r\n', "row 2"),
    "the header": ('image_id,score,"note\n' + GOOD * 10, "the header"),
}  # fmt: skip


@pytest.mark.parametrize("suffix", ["csv", "csv.gz"])
@pytest.mark.parametrize("case", OPEN_QUOTES)
def test_a_quote_that_is_not_closed_is_an_error_that_names_its_row(tmp_path, case, suffix):
    text, place = OPEN_QUOTES[case]
    content = gzip.compress(text.encode()) if suffix == "csv.gz" else text
    path = write(tmp_path, content, f"p.{suffix}")
    for read in (rows_of, lambda path: table_of(path, ["image_id"])):
        with pytest.raises(PredictionReadError) as error:
            read(path)
        assert str(path) in str(error.value)
        assert f"a quote opened in {place} is not closed" in str(error.value)


@pytest.mark.parametrize("rows_before", [0, 1, 7, 100])
@pytest.mark.parametrize("short", [False, True])
def test_a_quote_that_stays_open_for_a_block_is_an_error(tmp_path, monkeypatch, rows_before, short):
    monkeypatch.setattr(reader, "BLOCK_BYTES", 64)
    before = GOOD * rows_before + "a,0.5\n" * short
    path = write(tmp_path, f'image_id,score,note\n{before}a,0.5,"late\n' + GOOD * 1000)
    with pytest.raises(PredictionReadError) as error:
        rows_of(path)
    words = f"a quote opened in row {rows_before + short + 1} is not closed"
    assert str(path) in str(error.value)
    assert words in str(error.value)


@pytest.mark.parametrize("columns", [["image_id"], ["note", "image_id"]])
def test_a_file_cut_anywhere_is_an_error_where_its_quotes_do_not_pair(tmp_path, columns):
    header = "image_id,score,note\n"
    text = 'a,0.5,"x\ny"\n"b ""c""",0.5,"1,2"\nd,0.5,""\n"e\n",0.5,x\n'
    for length in range(len(text)):
        path = write(tmp_path, header + text[:length])
        try:
            rows_of(path, category_column=columns[0])
            failed = False
        except PredictionReadError as error:
            failed = "is not closed" in str(error)
        assert failed == (text[:length].count('"') % 2 == 1), text[:length]


# Fields of a column that is not read, as they stand in the file: none of them is broken.
LEGAL_FIELDS = ['""', '"late\n"', '"a\n\nb\r\n,"', '"5"""', '""""', '5" wide', 'x"', '"x"y', ""]


@pytest.mark.parametrize("last", LEGAL_FIELDS)
@pytest.mark.parametrize("end", ["", "\n", "\r\n", "\n\n"])
def test_quotes_that_are_closed_and_quotes_that_are_none_cost_nothing(tmp_path, last, end):
    text = "image_id,score,note\n" + "".join(f"a,0.5,{one}\n" for one in [*LEGAL_FIELDS, last])
    rows = rows_of(write(tmp_path, text.removesuffix("\n") + end))
    assert [row["row_number"] for row in rows] == list(range(1, len(LEGAL_FIELDS) + 2))
    assert {(row["image_id"], row["score"], row["reason"]) for row in rows} == {("a", 0.5, None)}


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("block_bytes", [128, 2**20])
def test_fields_are_those_of_the_standard_library(tmp_path, monkeypatch, seed, block_bytes):
    monkeypatch.setattr(reader, "BLOCK_BYTES", block_bytes)
    choose = random.Random(seed)
    names = [
        "".join(choose.choices('ab",\n', k=choose.randrange(1, 9))) for _ in range(choose.randrange(90))
    ]  # fmt: skip
    text = io.StringIO()
    table = [["image_id", "score", "category"], *([f"i{name}", "0.5", name] for name in names)]
    csv.writer(text, lineterminator="\n").writerows(table)
    whole = text.getvalue()
    path = write(tmp_path, whole + "z,1,\n")
    found = [
        (row["image_id"], row["category"]) for row in rows_of(path, category_column="category")
    ]
    assert found == [*((f"i{name}", name) for name in names), ("z", None)]
    assert table_of(path, ["category", "image_id"]).to_pylist() == [
        {"category": category, "image_id": image_id} for image_id, category in found
    ]


# A row with the wrong number of fields, the header, and the id that can be read in it.
WRONG_FIELD_COUNTS = [
    ("a,0.9", "image_id,score,note", "a"),
    ("a", "image_id,score,note", "a"),
    ("a,0.9,x,y", "image_id,score,note", "a"),
    ('"a,b",0.9', "image_id,score,note", "a,b"),
    ('"a ""b""\nc",0.9', "image_id,score,note", 'a "b"\nc'),
    ("0.9,ä", "score,image_id,note", "ä"),
    ("0.9,007", "score,image_id,note", "007"),
    ("0.9", "score,image_id,note", None),
    (",0.9", "image_id,score,note", None),
    ("a" * 200_000 + ",0.9", "image_id,score,note", None),
]


@pytest.mark.parametrize(("row", "header", "image_id"), WRONG_FIELD_COUNTS)
def test_a_row_with_another_number_of_fields_keeps_its_image(tmp_path, row, header, image_id):
    good = "b,0.5,x" if header.startswith("image_id") else "0.5,b,x"
    rows = rows_of(write(tmp_path, f"{header}\n{good}\n{row}\n{good}\n"))
    assert [one["image_id"] for one in rows] == ["b", image_id, "b"]
    assert [one["reason"] for one in rows] == [None, Reason.WRONG_FIELD_COUNT, None]
    assert rows[1]["raw"][:100] == row[:100]


@pytest.mark.parametrize("block_bytes", [64, 2**20])
@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9, 1.0])
def test_rows_stay_in_their_order_however_many_are_rejected(tmp_path, monkeypatch, block_bytes, share):  # fmt: skip
    monkeypatch.setattr(reader, "BLOCK_BYTES", block_bytes)
    monkeypatch.setattr(reader, "SMALL_BATCH_ROWS", 3)
    choose = random.Random(share)
    lines = [f"i{row},1" if choose.random() < share else f"i{row},1,x" for row in range(1, 300)]
    rows = rows_of(write(tmp_path, "image_id,score,note\n" + "\n".join(lines)))
    assert [row["row_number"] for row in rows] == list(range(1, 300))
    assert [row["image_id"] for row in rows] == [f"i{row}" for row in range(1, 300)]
    assert [row["raw"] for row in rows] == [None if "x" in line else line for line in lines]


def test_what_is_rejected_comes_before_the_file_has_been_read(tmp_path, monkeypatch):
    monkeypatch.setattr(reader, "BLOCK_BYTES", 1_000)
    path = write(tmp_path, "image_id,score\n" + "bad\n" * 1_000 + '"open')
    batches = reader.open_file(path, TableOptions(score_column="score")).batches()
    assert next(batches)["row_number"][0].as_py() == 1
    with pytest.raises(PredictionReadError, match="is not closed"):
        list(batches)


@pytest.mark.parametrize(
    ("header", "words"),
    [
        ("image_id," + "x" * 300, "the header does not end within 100 bytes"),
        ("image_id," + "x," * 300, "the header does not end within 100 bytes"),
        ('image_id,"' + "x\n" * 300, "the header does not end within 100 bytes"),
        ('image_id,"x\n', "a quote opened in the header is not closed"),
        (b"image_id,\xff\n", "is not a readable UTF-8 CSV file"),
    ],
)
def test_a_header_that_is_none_is_an_error_that_says_why(tmp_path, monkeypatch, header, words):
    monkeypatch.setattr(reader, "BLOCK_BYTES", 100)
    path = write(tmp_path, header)
    with pytest.raises(PredictionReadError) as error:
        reader.column_names(path)
    assert words in str(error.value)
    assert str(path) in str(error.value)


@pytest.mark.parametrize("end", ["", "\n", "\r\n", "\nx,1\n"])
def test_a_header_ends_with_its_line_or_the_file(tmp_path, end):
    assert reader.column_names(write(tmp_path, f"image_id,score{end}")) == ["image_id", "score"]


def test_columns_of_a_table_are_text_in_the_order_asked_for(tmp_path):
    path = write(tmp_path, 'note,image_id,labeled\nx,007,\ny,"",1\n')
    table = table_of(path, ["labeled", "image_id"])
    assert reader.column_names(path) == ["note", "image_id", "labeled"]
    assert table.schema == pa.schema([("labeled", pa.string()), ("image_id", pa.string())])
    assert table.to_pylist() == [
        {"labeled": None, "image_id": "007"},
        {"labeled": "1", "image_id": ""},
    ]
    empty = table_of(write(tmp_path, "image_id,x\n"), ["image_id"])
    assert (empty.num_rows, empty.column_names) == (0, ["image_id"])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("image_id,x\na,1\n\nb\n", "p.csv, row 2: Expected 2 columns, got 1: 'b'"),
        ("image_id,x\na,1,2\n", "p.csv, row 1: Expected 2 columns, got 3: 'a,1,2'"),
        (b"image_id,x\n\xff,1\n", "p.csv cannot be read as CSV after row 0"),
        ("", "p.csv is not a readable UTF-8 CSV file"),
    ],
)
def test_a_table_in_which_a_row_is_wrong_is_an_error_that_names_it(tmp_path, text, words):
    with pytest.raises(PredictionReadError) as error:
        table_of(write(tmp_path, text), ["image_id"])
    assert words in str(error.value)


def test_a_compressed_file_that_is_cut_leaves_nothing_in_memory(tmp_path):
    content = gzip.compress(("image_id,score\n" + "a,0.5\n" * 10_000).encode())
    path = write(tmp_path, content[: len(content) // 2], "p.csv.gz")

    def refuse() -> None:
        with pytest.raises(PredictionReadError, match="Truncated compressed stream"):
            rows_of(path)

    refuse()
    tracemalloc.start()
    try:
        for _ in range(20):
            refuse()
        gc.collect()
        assert tracemalloc.get_traced_memory()[0] < reader.BLOCK_BYTES
    finally:
        tracemalloc.stop()


# The text of a file, and the class probabilities of its rows.
DIALECTS = {
    "semicolons and decimal commas": ("image_id;p_cat;p_dog\na;0,875;0,125\n", [[0.875, 0.125]]),
    "semicolons and decimal points": ("image_id;p_cat;p_dog\na;.875;1.25e-1\n", [[0.875, 0.125]]),
    "tabs": ("image_id\tp_cat\tp_dog\na\t0.875\t0.125\n", [[0.875, 0.125]]),
    "bars": ("image_id|p_cat|p_dog\na|0.875|0.125\n", [[0.875, 0.125]]),
    "a semicolon in a quoted name": ('"p;x","image_id",p_cat,p_dog\n1,a,0.875,0.125\n', [[0.875, 0.125]]),
    "quoted numbers": ('image_id;p_cat;p_dog\na;"0,875";" 0,125 "\n', [[0.875, 0.125]]),
}  # fmt: skip


@pytest.mark.parametrize("case", DIALECTS)
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_the_header_shows_what_separates_the_fields(tmp_path, case, end):
    text, expected = DIALECTS[case]
    path = write(tmp_path, text.replace("\n", end))
    stream = read_predictions(path, format="csv", class_column_prefix="p_")
    rows = [row for batch in stream for row in batch.to_pylist()]
    assert [(row["image_id"], row["reason"]) for row in rows] == [("a", None)]
    assert [row["class_probs"] for row in rows] == expected


def test_rows_with_other_delimiters_are_rejected_with_their_ids(tmp_path):
    text = "image_id;p_cat;p_dog\na;0,9;0,1\nb;0,9\nc;0,9;0,1\nd;1,000;x\n"
    stream = read_predictions(write(tmp_path, text), format="csv", class_column_prefix="p_")
    rows = [row for batch in stream for row in batch.to_pylist()]
    assert [(row["image_id"], row["reason"]) for row in rows] == [
        ("a", None),
        ("b", Reason.WRONG_FIELD_COUNT),
        ("c", None),
        ("d", Reason.PROBABILITY_NOT_NUMBER),
    ]


def test_blanks_around_the_names_of_columns_are_named(tmp_path):
    path = write(tmp_path, "image_id, p_cat, p_dog\na, 0.9, 0.1\n")
    with pytest.raises(PredictionReadError, match="the column ' p_cat' has blanks around its name"):
        read_predictions(path, format="csv", class_column_prefix="p_")


def test_a_manifest_may_have_semicolons(tmp_path):
    path = write(tmp_path, "image_id;width\na;640\nb;480\n", "m.csv")
    rows, _ = PoolImages(path).read()
    assert rows["width"].to_pylist() == [640, 480]
