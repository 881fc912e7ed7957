"""The pool's manifest: what is read from it, and what is refused."""

import polars as pl
import pytest

from dagster_active_learning import PoolImages
from dagster_active_learning.errors import PredictionReadError

ROWS = [
    {"image_id": "007", "uri": "a.png", "width": 8, "height": 9, "labeled": True, "label": "cat"},
    {"image_id": "8", "uri": None, "width": None, "height": 9, "labeled": False, "label": None},
]


@pytest.mark.parametrize("suffix", ["csv", "parquet", "jsonl"])
def test_every_kind_of_manifest_reads_the_same(tmp_path, suffix):
    frame = pl.DataFrame(ROWS).with_columns(extra=1)
    path = tmp_path / f"m.{suffix}"
    {"csv": frame.write_csv, "parquet": frame.write_parquet, "jsonl": frame.write_ndjson}[suffix](
        path
    )
    rows, sha256 = PoolImages(path).read()
    assert rows.to_pylist() == ROWS
    assert len(sha256) == 64


def test_only_the_id_is_needed(tmp_path):
    (tmp_path / "m.csv").write_text("image_id\nx\n")
    rows, _ = PoolImages(tmp_path / "m.csv").read()
    assert rows.to_pylist() == [dict.fromkeys(ROWS[0]) | {"image_id": "x"}]


@pytest.mark.parametrize(
    ("text", "labeled"),
    [
        ("true", True),
        ("True", True),
        ("1", True),
        ("false", False),
        ("FALSE", False),
        ("0", False),
        ("", None),
    ],
)
def test_labeled_is_true_or_false_in_the_usual_words(tmp_path, text, labeled):
    (tmp_path / "m.csv").write_text(f"image_id,labeled\nx,{text}\n")
    rows, _ = PoolImages(tmp_path / "m.csv").read()
    assert rows.to_pylist()[0]["labeled"] is labeled


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("m.csv", "", "not a readable csv manifest"),
        ("m.csv", "id\nx\n", "no column 'image_id'"),
        ("m.csv", "image_id,labeled\nx,true\ny,maybe\n", "row 2: labeled is 'maybe', expected true or false"),
        ("m.csv", "image_id,width\nx,wide\n", "row 1: width is 'wide', expected Int32"),
        ("m.csv", "image_id,width\nx,1\n,2\n", "row 2: the image has no image_id"),
        ("m.csv", "image_id\nx\ny\nx\n", "row 3: image_id 'x' stands in row 1 already"),
        ("m.jsonl", "{", "not a readable jsonl manifest"),
        ("m.parquet", "x", "not a readable parquet manifest"),
        ("none.csv", None, "does not exist"),
    ],
)  # fmt: skip
def test_a_broken_manifest_is_an_error_that_names_the_row(tmp_path, name, content, words):
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(PredictionReadError) as error:
        PoolImages(tmp_path / name).read()
    assert words in str(error.value)
    assert str(tmp_path / name) in str(error.value)


@pytest.mark.parametrize(("path", "format"), [("m.txt", None), ("m", None), ("m.csv", "xml")])
def test_an_unknown_kind_of_manifest_is_refused_at_once(path, format):
    with pytest.raises(ValueError, match="expected one of csv, jsonl, parquet"):
        PoolImages(path, format=format)
