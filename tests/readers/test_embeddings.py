"""Embeddings of images, of which only the wanted ones are read."""

import duckdb
import numpy as np
import polars as pl
import pytest

from dagster_active_learning.errors import PredictionReadError
from dagster_active_learning.readers.embeddings import npy_embeddings, wanted_embeddings


def relation(ids, embeddings, connection):
    frame = pl.DataFrame({"image_id": ids, "embedding": embeddings})
    return connection.from_arrow(frame.to_arrow())


@pytest.fixture
def connection():
    with duckdb.connect() as open_connection:
        yield open_connection


@pytest.mark.parametrize("ids", [["a", "b", "c"], [1, 2, 3]])
def test_the_wanted_embeddings_of_a_table(connection, ids):
    rows = [[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]
    wanted = [str(ids[2]), str(ids[0]), "missing", str(ids[0])]
    found, vectors = wanted_embeddings(relation(ids, rows, connection), wanted, name="table")
    assert dict(zip(found, vectors.tolist(), strict=True)) == {
        str(ids[0]): rows[0],
        str(ids[2]): rows[2],
    }
    assert vectors.dtype == np.float32
    nothing, vectors = wanted_embeddings(relation(ids, rows, connection), [], name="table")
    assert (nothing, len(vectors)) == ([], 0)


@pytest.mark.parametrize(
    ("ids", "rows", "words"),
    [
        (["a", "a"], [[1.0], [2.0]], r"table has several embeddings of image 'a', expected one"),
        (["a", "b"], [[1.0, 2.0], [2.0]], r"of 1 numbers for image 'b', expected 2 as for 'a'"),
        (["a", "b"], [[1.0], None], r"of 0 numbers for image 'b', expected 1"),
        (["a", "b"], [[1.0], [float("nan")]], r"not finite for image 'b'"),
        (["a", "b"], [[1.0], [None]], r"not finite for image 'b'"),
    ],
)
def test_what_is_no_embedding_is_named(connection, ids, rows, words):
    with pytest.raises(PredictionReadError, match=words):
        wanted_embeddings(relation(ids, rows, connection), ["a", "b"], name="table")


def test_a_missing_column_is_named(connection):
    table = relation(["a"], [[1.0]], connection)
    words = r"table has the columns image_id, embedding, expected 'vector': set .*embedding_column"
    with pytest.raises(PredictionReadError, match=words):
        wanted_embeddings(table, ["a"], name="table", embedding_column="vector")


def test_the_wanted_rows_of_a_npy_file(tmp_path):
    np.save(tmp_path / "e.npy", np.arange(6, dtype=np.float16).reshape(3, 2))
    ids = tmp_path / "e.ids.txt"
    ids.write_text("a\nb\nc\n")
    found, vectors = npy_embeddings(tmp_path / "e.npy", ids, ["c", "a", "x", "c"])
    assert found == ["c", "a"]
    assert vectors.tolist() == [[4, 5], [0, 1]]
    for text, words in (
        ("a\nb\n", r"shape \(3, 2\) and .* has 2 ids"),
        ("a\nb\na\n", "an id twice"),
    ):
        ids.write_text(text)
        with pytest.raises(PredictionReadError, match=words):
            npy_embeddings(tmp_path / "e.npy", ids, ["a"])
    with pytest.raises(PredictionReadError, match=r"cannot be read"):
        npy_embeddings(tmp_path / "missing.npy", ids, ["a"])
