"""Parquet files by other writers: each is what it is when it is copied, or refused in words."""

import base64
import os
from decimal import Decimal
from string import ascii_lowercase

import duckdb
import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyarrow.parquet import encryption

from dagster_active_learning.errors import PredictionReadError
from dagster_active_learning.readers.in_place import open_in_place
from dagster_active_learning.rules import Rules
from in_place import assert_equal, copied, in_place, scored, tables

N = 12
PROBS = np.random.default_rng(0).dirichlet(np.ones(3), N).astype(np.float32)
PROBS[4] = [0.5, 0.5, 0.5]
"""The fifth is no prediction."""

TEXT = pa.string()
LISTS = pa.list_(pa.float32())
FIXED = pa.list_(pa.float32(), 3)
NOT_NULL = pa.list_(pa.field("item", pa.float32(), nullable=False))
NAMES = pa.dictionary(pa.int16(), pa.string())


def table(letter, ids=TEXT, probs=LISTS, **others):
    columns = {
        "image_id": pa.array([f"{letter}{row:02d}" for row in range(N)]).cast(ids),
        "class_probs": pa.array(PROBS.tolist(), probs),
    }
    return pa.table({**columns, **others})


def by_pyarrow(**options):
    return lambda table, file: pq.write_table(table, file, **options)


def by_duckdb(options=""):
    # The statement finds the rows as the variable of that name.
    return lambda rows, file: duckdb.sql(  # noqa: ARG005
        f"COPY rows TO '{file}' (FORMAT parquet{options})"
    )


def by_polars(**options):
    return lambda table, file: pl.DataFrame(table).write_parquet(file, **options)


def by_polars_as_categories(table, file):
    frame = pl.DataFrame(table).with_columns(pl.col("image_id").cast(pl.Categorical))
    frame.write_parquet(file)


def by_pandas(table, file):
    table.to_pandas().to_parquet(file)


def encoded(**encodings):
    names = {"ids": "image_id", "probs": "class_probs.list.element"}
    encodings = {names[name]: encoding for name, encoding in encodings.items()}
    return by_pyarrow(use_dictionary=False, column_encoding=encodings)


PLAIN = by_pyarrow()

WRITERS = {
    "pyarrow": [
        PLAIN,
        by_pyarrow(write_statistics=False),
        by_pyarrow(store_schema=False),
        by_pyarrow(use_compliant_nested_type=False),
        by_pyarrow(row_group_size=1),
        by_pyarrow(write_page_index=True, write_page_checksum=True),
    ],
    "pyarrow and polars": [PLAIN, by_polars(compression="brotli")],
    "polars and pyarrow": [by_polars(), PLAIN],
    "polars with categories": [by_polars_as_categories, by_polars()],
    "pandas": [by_pandas, PLAIN],
    "duckdb and pyarrow": [by_duckdb(), PLAIN],
    "duckdb with pages of version 2": [by_duckdb(", PARQUET_VERSION v2, COMPRESSION zstd")] * 2,
    "ids by their lengths": [PLAIN, encoded(ids="DELTA_LENGTH_BYTE_ARRAY")],
    "ids by what they share": [PLAIN, encoded(ids="DELTA_BYTE_ARRAY", probs="BYTE_STREAM_SPLIT")],
    "compressions and pages": [
        by_pyarrow(compression=compression, data_page_version=version)
        for compression in ("none", "snappy", "gzip", "zstd", "lz4", "brotli")
        for version in ("1.0", "2.0")
    ],
}


@pytest.mark.parametrize("writers", WRITERS.values(), ids=WRITERS)
def test_files_of_each_writer_are_equal(tmp_path, writers):
    for letter, write in zip(ascii_lowercase, writers, strict=False):
        write(table(letter), tmp_path / f"{letter}.parquet")
    assert_all_equal(tmp_path)


def assert_all_equal(folder, pattern="*.parquet", rules=Rules(), **options):  # noqa: B008
    path = folder / pattern
    expected = tables(copied(path, rules, **options), rules)
    assert expected["quarantined"].num_rows
    assert_equal(tables(in_place(path, folder / "storage", rules, **options), rules), expected)


KINDS = {
    "text in another type": [{}, {"ids": pa.large_string()}],
    "views of text": [{"ids": pa.string_view()}, {"ids": pa.string_view()}],
    "text and names by number": [{}, {"ids": NAMES}],
    "lists of a fixed size": [{"probs": FIXED}, {}],
    "large lists": [{"probs": pa.large_list(pa.float32())}, {"probs": pa.list_view(pa.float32())}],
    "numbers that are never null": [{"probs": NOT_NULL}, {}],
    "a column more": [{}, {"other": range(N)}],
    "a column less": [{"other": range(N)}, {}],
    "another column of another type": [{"other": range(N)}, {"other": ["x"] * N}],
}


@pytest.mark.parametrize("kinds", KINDS.values(), ids=KINDS)
def test_what_is_alike_in_parquet_may_differ_in_memory(tmp_path, kinds):
    for letter, kind in zip("ab", kinds, strict=True):
        pq.write_table(table(letter, **kind), tmp_path / f"{letter}.parquet")
    assert_all_equal(tmp_path)


def test_the_order_of_columns_does_not_count(tmp_path):
    pq.write_table(table("a"), tmp_path / "a.parquet")
    pq.write_table(table("b").select(["class_probs", "image_id"]), tmp_path / "b.parquet")
    assert_all_equal(tmp_path)


OF_OBJECTS = {
    "numbers by name": {"category": pa.array(["cat", None, "dog"] * 4, NAMES)},
    "whole scores": {"score": pa.array([0, 1] * 6, pa.uint8())},
    "half of the precision": {"score": pa.array(np.linspace(0, 1, N, dtype=np.float16))},
}

BOXES = {
    "large numbers": pa.array(
        [[2**53 + 1, 2**53 + 3, 2**62 + 1, 2**62 + 7]] * N, pa.list_(pa.uint64())
    ),
    "no boxes": pa.array(
        [
            *([1, 2, 3], [1, 2, 3, 4, 5], None, [None] * 4, [1, None, 3, 4], [], [-0.0] * 4),
            *([1, 2, 3, 4], [np.inf, 1, 2, 3], [np.nan] * 4, [0.1, 0.2, 0.7, 0.9], [5, 5, -1, 1]),
        ],
        pa.list_(pa.float64()),
    ),
}


@pytest.mark.parametrize("columns", OF_OBJECTS.values(), ids=OF_OBJECTS)
def test_columns_of_objects_are_equal(tmp_path, columns):
    pq.write_table(table("a", **columns), tmp_path / "a.parquet")
    options = {f"{name}_column": name for name in columns}
    assert_all_equal(tmp_path, rules=Rules(task="detection"), **options)


@pytest.mark.parametrize("box", ["xywh", "xyxy", "xcycwh"])
@pytest.mark.parametrize("boxes", BOXES.values(), ids=BOXES)
def test_boxes_are_equal(tmp_path, boxes, box):
    pq.write_table(table("a", bbox=boxes), tmp_path / "a.parquet")
    assert_all_equal(tmp_path, rules=Rules(task="detection"), bbox_column="bbox", box=box)


def test_a_file_without_row_groups_is_equal(tmp_path):
    pq.write_table(table("b"), tmp_path / "b.parquet")
    for name in ("a", "c"):
        pq.ParquetWriter(tmp_path / f"{name}.parquet", table("b").schema).close()
    assert_all_equal(tmp_path)


PLACES = {
    "Spark": ("_SUCCESS", ["part-00000-8f5c-c000.snappy.parquet", "part-00001-8f5c.zstd.parquet"]),
    "Hive": ("_metadata", ["image_id=7/class_probs=x/0.parquet", "image_id=8/date=1/0.parquet"]),
    "wildcards": ("x", ["a*b.parquet", "a[1].parquet", "a?b.parquet", "[!a]/**.parquet"]),
    "quotes": ("x", ["it's.parquet", 'say "x".parquet', "a\\b.parquet", "`x`/$x.parquet"]),
    "addresses": ("x", ["a#b.parquet", "a%20b.parquet", "http:b.parquet", "a&b=c;d.parquet"]),
    "others": ("x", ["a\nb.parquet", " .parquet", "a\x01{b,c}.parquet", "~/🦊\x7f.parquet"]),
}


@pytest.mark.parametrize(("other", "files"), PLACES.values(), ids=PLACES)
def test_names_are_names(tmp_path, other, files):
    for number, file in enumerate(files):
        (tmp_path / "set" / file).parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(table(f"{number}"), tmp_path / "set" / file)
    (tmp_path / "set" / other).touch()
    assert_all_equal(tmp_path, "set/**/*.parquet")


def refused(folder, match, **options):
    with pytest.raises(PredictionReadError, match=match):
        scored(folder / "*.parquet", folder / "storage", Rules(task="detection"), **options)


@pytest.mark.parametrize(
    ("first", "second", "difference"),
    [
        ({}, {"probs": pa.list_(pa.float64())}, "'class_probs' is list<item: double>"),
        ({"score": [0.5] * N}, {"score": [1] * N}, "'score' is int64, and there double"),
    ],
)
def test_a_file_of_other_types_is_refused_with_its_column(tmp_path, first, second, difference):
    pq.write_table(table("a", **first), tmp_path / "a.parquet")
    pq.write_table(table("b", **second), tmp_path / "b.parquet")
    options = {"score_column": "score"} if "score" in first else {}
    refused(tmp_path, rf"b\.parquet is not like .*a\.parquet: its column {difference}", **options)


def test_a_file_of_other_classes_is_refused_with_them(tmp_path):
    for letter, names in {"a": '["x", "y", "z"]', "b": '["z", "y", "x"]'}.items():
        named = table(letter).replace_schema_metadata({"class_names": names})
        pq.write_table(named, tmp_path / f"{letter}.parquet")
    refused(tmp_path, r"b\.parquet is not like .*\['z', 'y', 'x'\] as classes, and there are \['x'")


@pytest.mark.parametrize(
    ("columns", "options"),
    [
        ({"image_id": [Decimal(row) for row in range(N)]}, {}),
        ({"image_id": [b"x"] * N}, {}),
        ({"score": [Decimal("0.123456789")] * N}, {"score_column": "score"}),
        ({"category": [1] * N}, {"category_column": "category"}),
        (
            {"box": pa.array([[Decimal("0.1")] * 4] * N)},
            {"bbox_column": "box"},
        ),
    ],
    ids=["numbers as ids", "bytes as ids", "decimal scores", "numbers as names", "decimal boxes"],
)
def test_a_column_that_a_view_would_change_is_refused(tmp_path, columns, options):
    pq.write_table(pa.table({**table("a").to_pydict(), **columns}), tmp_path / "a.parquet")
    (name,) = columns
    refused(tmp_path, rf"a\.parquet cannot be read in place: its column '{name}' is of", **options)


def not_utf8(place):
    values = pa.array([b"cat"] * place + [b"\xff\xfe"] + [b"dog"] * (N - place - 1), pa.binary())
    return pa.StringArray.from_buffers(N, *values.buffers()[1:])


@pytest.mark.parametrize("statistics", [True, False])
@pytest.mark.parametrize("name", ["image_id", "category"])
def test_text_over_which_a_view_fails_is_refused(tmp_path, name, statistics):
    columns = {"category": ["cat"] * N, name: not_utf8(5)}
    written = pa.table({**table("a").to_pydict(), **columns})
    pq.write_table(written, tmp_path / "a.parquet", write_statistics=statistics)
    refused(
        tmp_path, rf"a\.parquet cannot be .* its column '{name}' .* not UTF-8",
        category_column="category",
    )  # fmt: skip


def test_unknown_names_of_classes_are_no_text_that_is_refused(tmp_path):
    """They have the reason of names that are not UTF-8."""
    named = table("a", category=["cat", "dog", "eel"] * 4)
    pq.write_table(named, tmp_path / "a.parquet")
    options = {"category_column": "category", "class_names": ["cat", "dog", "fox"]}
    assert_all_equal(tmp_path, rules=Rules(task="detection"), **options)


class Keys(encryption.KmsClient):  # pyright: ignore[reportUntypedBaseClass]
    def __init__(self, _):
        super().__init__()

    def wrap_key(self, key, _):
        return base64.b64encode(key)

    def unwrap_key(self, key, _):
        return base64.b64decode(key)


@pytest.mark.parametrize("open_footer", [False, True])
def test_an_encrypted_file_is_refused(tmp_path, open_footer):
    """pyarrow ends the process when it is asked for the bounds of an encrypted column."""
    configuration = encryption.EncryptionConfiguration(
        footer_key="key", column_keys={"key": ["image_id"]}, plaintext_footer=open_footer
    )
    keys = encryption.CryptoFactory(Keys).file_encryption_properties(
        encryption.KmsConnectionConfig(), configuration
    )
    file = tmp_path / "a.parquet"
    with pq.ParquetWriter(file, table("a").schema, encryption_properties=keys) as writer:
        writer.write_table(table("a"))
    refused(tmp_path, r"a\.parquet is not a readable Parquet file: .*crypt")


def test_a_name_that_is_not_utf8_is_refused(tmp_path):
    pq.write_table(table("a"), tmp_path / "x")
    os.rename(tmp_path / "x", os.fsencode(tmp_path) + b"/\xff.parquet")
    with pytest.raises(PredictionReadError, match=r"\\udcff.parquet' is a name that is not UTF-8"):
        open_in_place(str(tmp_path / "*.parquet"))
