"""What only array files have: orders, headers that lie, and files that shrink while they are read."""

import struct
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest

from dagster_active_learning import read_predictions
from dagster_active_learning.errors import PredictionReadError
from dagster_active_learning.readers.formats import npy as reader

ROWS = 300_000
"""More than two batches."""


def write(folder: Path, matrix: np.ndarray, ids: np.ndarray) -> Path:
    np.save(folder / "p.npy", matrix)
    np.save(folder / "p.ids.npy", ids)
    return folder / "p.npy"


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", ["<f2", ">f4", "<f8", "u1"])
def test_blocks_are_the_rows_of_the_matrix(tmp_path, monkeypatch, order, dtype):
    monkeypatch.setattr(reader, "rows_for", lambda _: 7)
    matrix = np.random.default_rng(0).uniform(0, 9, (50, 3)).astype(dtype)
    path = write(tmp_path, np.asarray(matrix, order=order), np.arange(50).astype(">i4"))
    batches = list(read_predictions(path, format="npy", image_ids="{stem}.ids.npy"))
    rows = [row for batch in batches for row in batch.to_pylist()]
    assert [row["image_id"] for row in rows] == [str(number) for number in range(50)]
    assert [row["row_number"] for row in rows] == list(range(1, 51))
    assert [row["class_probs"] for row in rows] == matrix.tolist()


# The text of the ids beside three rows, and the ids; words of an error where there are none.
ID_TEXTS = [
    ("a\nb\nc", ["a", "b", "c"]),
    ("a\nb\nc\n\n", ["a", "b", "c"]),
    ("a\r\nb\r\nc\r\n\r\n", ["a", "b", "c"]),
    ("a\nb\nc\n \n\t\n\n", ["a", "b", "c"]),
    ("a\n\nc\n", ["a", None, "c"]),
    ("\n\nc", [None, None, "c"]),
    ("a\nb\n\n", "but there are 2 image ids"),
    ("\n\n\n", "but there are 0 image ids"),
    ("a\nb\nc\n\nd\n", "but there are more than 3 image ids"),
]


@pytest.mark.parametrize(("text", "ids"), ID_TEXTS)
def test_a_blank_line_at_the_end_is_no_id(tmp_path, text, ids):
    np.save(tmp_path / "p.npy", np.full((3, 2), 0.5))
    (tmp_path / "p.ids.txt").write_bytes(text.encode())
    if isinstance(ids, str):
        with pytest.raises(PredictionReadError, match=ids):
            read_predictions(tmp_path / "p.npy", format="npy")
        return
    stream = read_predictions(tmp_path / "p.npy", format="npy")
    rows = [row for batch in stream for row in batch.to_pylist()]
    assert [row["image_id"] for row in rows] == ids
    assert [row["reason"] is None for row in rows] == [image_id is not None for image_id in ids]


# Which file shrinks, and how the matrix is stored.
SHRINKING = [("p.npy", "C"), ("p.npy", "F"), ("p.ids.npy", "C")]


@pytest.mark.parametrize(("shrinks", "order"), SHRINKING)
def test_a_file_that_shrinks_while_it_is_read_is_an_error(tmp_path, shrinks, order):
    matrix = np.full((ROWS, 4), 0.25, np.float32, order=order)
    path = write(tmp_path, matrix, np.arange(ROWS).astype("U10"))
    # In a process of its own: a file that was mapped into memory would end it.
    code = """
        import os, sys
        from dagster_active_learning import read_predictions
        from dagster_active_learning.errors import PredictionReadError

        path, shrinks = sys.argv[1:]
        batches = iter(read_predictions(path, format="npy", image_ids="{stem}.ids.npy"))
        next(batches)
        os.truncate(shrinks, 1_000)
        try:
            print(sum(batch.column("class_probs").flatten().to_numpy().sum() for batch in batches))
        except PredictionReadError as error:
            print(error)
    """
    run = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), str(path), str(tmp_path / shrinks)],
        check=True,
        capture_output=True,
        text=True,
    )
    assert f"{tmp_path / shrinks} changed while it was read" in run.stdout


def npy(shape: object, size: int, descr: str = "<f4", version: bytes = b"\x01\x00") -> bytes:
    """An array file with a header of this shape and type, and as many bytes of values."""
    header = f"{{'descr': '{descr}', 'fortran_order': True, 'shape': {shape}}}\n".encode()
    return b"\x93NUMPY" + version + struct.pack("<H", len(header)) + header + bytes(size)


# Array files whose header is none, or does not fit the values; words of the error.
BROKEN = [
    (npy((3, 2), 23), "(3, 2) of type float32, says that it has"),
    (npy((10**12, 2), 24), "says that it has"),
    (npy((-3, -2), 24), "its shape is (-3, -2)"),
    (npy((2**70, 0), 0), "its shape is (1180591620717411303424, 0)"),
    (npy((3, 2), 48, "|O"), "pickled arrays are refused"),
    (npy((6,), 24), "expected class probabilities"),
    (npy((3, 2), 24, version=b"\x09\x00"), "its version is (9, 0)"),
    (npy((3, 2), 24)[:40], "not a readable NumPy array file"),
]


@pytest.mark.parametrize(("content", "words"), BROKEN, ids=range(len(BROKEN)))
def test_a_broken_array_file_is_an_error_that_names_it(tmp_path, content, words):
    (tmp_path / "p.ids.txt").write_text("a\nb\nc\n")
    (tmp_path / "p.npy").write_bytes(content)
    with pytest.raises(PredictionReadError) as error:
        read_predictions(tmp_path / "p.npy", format="npy")
    assert words in str(error.value)
    assert str(tmp_path / "p.npy") in str(error.value)


def test_ids_of_no_size_are_no_ids(tmp_path):
    np.save(tmp_path / "p.npy", np.full((3, 2), 0.5))
    (tmp_path / "p.ids.npy").write_bytes(npy((3,), 0, "<U0"))
    with pytest.raises(PredictionReadError, match=r"p\.ids\.npy holds an array of shape \(3,\)"):
        read_predictions(tmp_path / "p.npy", format="npy", image_ids="{stem}.ids.npy")


def test_wide_rows_are_not_joined_into_one_large_batch(tmp_path):
    n_classes = 100_000
    path = write(tmp_path, np.zeros((300, n_classes), np.float32), np.arange(300))
    batches = list(read_predictions(path, format="npy", image_ids="{stem}.ids.npy"))
    assert sum(map(len, batches)) == 300
    assert max(batch.nbytes for batch in batches) < 40 * 2**20
