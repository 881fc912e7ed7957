"""Predictions on a filesystem that fsspec knows: what is read is what a local file gives."""

import gc
import hashlib
import io
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dagster_active_learning import read_predictions
from dagster_active_learning.errors import PredictionReadError
from dagster_active_learning.readers.remote import read_remote_predictions
from websites import website

CLASS_PROBS = np.random.default_rng(0).dirichlet(np.ones(3), 20).astype(np.float32)
IDS = [f"image{row}" for row in range(20)]


@pytest.fixture
def memory(tmp_path, monkeypatch):
    """A folder of fsspec's filesystem in memory, and a folder of our own for copies."""
    (tmp_path / "copies").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "copies"))
    filesystem = fsspec.filesystem("memory")
    filesystem.makedirs("/bucket/pool", exist_ok=True)
    yield filesystem
    filesystem.rm("/bucket", recursive=True)


def parquet(rows=slice(None)):
    table = pa.table({"image_id": IDS[rows], "class_probs": list(CLASS_PROBS[rows])})
    buffer = io.BytesIO()
    pq.write_table(table, buffer)
    return buffer.getvalue()


def npy(array):
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


LIGHTLY = {
    "task/schema.json": b'{"categories": [{"id": 0, "name": "cat"}]}',
    "task/1.json": b'{"file_name": "1.png", "predictions": []}',
    "task/may/2.json": b'{"file_name": "may/2.png", "predictions": [{"category_id": 0, "score": 1}]}',
}

CASES = {
    "a file": ("a.parquet", "parquet", {"a.parquet": parquet()}),
    "a glob": (
        "*/p.parquet",
        "parquet",
        {"a/p.parquet": parquet(slice(12)), "b/p.parquet": parquet(slice(12, 20))},
    ),
    "special characters": ("a [[]1].parquet", "parquet", {"a [1].parquet": parquet()}),
    "ids beside the file": (
        "*.npy",
        "npy",
        {"a.npy": npy(CLASS_PROBS), "a.ids.txt": "\n".join(IDS).encode()},
    ),
    "a folder of files": (
        "labels",
        "yolo",
        {"labels/1.txt": b"0 0.5 0.5 0.1 0.1 0.9\n", "labels/2.txt": b"1 0.5 0.5 0.1 0.1 0.8\n"},
    ),
    "a folder of files at any depth": ("task", "lightly", LIGHTLY),
    "files whose schema is above": ("task/*/2.json", "lightly", LIGHTLY),
}


@pytest.mark.parametrize("case", CASES)
def test_an_address_gives_what_a_local_path_gives(case, memory, tmp_path):
    path, name_of_format, files = CASES[case]
    for name, content in files.items():
        memory.pipe_file(f"/bucket/pool/{name}", content)
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(content)
    remote = read_remote_predictions(f"memory://bucket/pool/{path}", format=name_of_format)
    local = read_predictions(tmp_path / path, format=name_of_format)
    read, expected = (pa.Table.from_batches(stream, stream.schema) for stream in (remote, local))
    assert read.drop(["source"]) == expected.drop(["source"])
    sources = [source.as_py() for source in expected["source"]]
    assert read["source"].to_pylist() == [
        source.replace(f"{tmp_path}/", "memory:///bucket/pool/") for source in sources
    ]
    assert remote.sha256() == local.sha256()
    assert remote.name == f"memory://bucket/pool/{path}"
    assert any((tmp_path / "copies").iterdir())
    del remote
    gc.collect()
    assert not any((tmp_path / "copies").iterdir()), "the copies are gone with the stream"


@pytest.mark.parametrize("path", ["a.parquet", "*.parquet"])
def test_a_website_is_read(path, tmp_path):
    (tmp_path / "a.parquet").write_bytes(parquet())
    with website(tmp_path) as address:
        stream = read_remote_predictions(f"{address}/{path}", format="parquet")
    read = pa.Table.from_batches(stream, stream.schema)
    assert read["image_id"].to_pylist() == IDS
    assert set(read["source"].to_pylist()) == {f"{address}/a.parquet"}


def test_the_hash_is_that_of_the_bytes(memory):
    memory.pipe_file("/bucket/pool/a.parquet", parquet())
    stream = read_remote_predictions("memory://bucket/pool/a.parquet", format="parquet")
    list(stream)
    assert stream.sha256() == hashlib.sha256(parquet()).hexdigest()


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("memory://bucket/pool/b.parquet", "b.parquet does not exist"),
        ("memory://bucket/pool/*.npz", "npz does not exist"),
        ("memory://bucket/pool/no.parquet", "bucket/pool/no.parquet"),
        ("nothing://bucket/a.parquet", "Protocol not known: nothing"),
    ],
)
def test_what_cannot_be_read_is_named_and_leaves_no_copy(path, words, memory, tmp_path):
    memory.pipe_file("/bucket/pool/no.parquet", b"no parquet")
    with pytest.raises(PredictionReadError, match=words):
        list(read_remote_predictions(path, format="parquet"))
    assert not any((tmp_path / "copies").iterdir())


def test_a_file_that_changes_while_it_is_fetched_is_not_read(memory, monkeypatch, tmp_path):
    memory.pipe_file("/bucket/pool/a.parquet", parquet(slice(5)))

    def get_file(self, path, copy):
        Path(copy).write_bytes(self.cat_file(path))
        self.pipe_file(path, parquet())

    monkeypatch.setattr(type(memory), "get_file", get_file)
    with pytest.raises(PredictionReadError, match="changed while it was fetched"):
        read_remote_predictions("memory://bucket/pool/a.parquet", format="parquet")
    assert not any((tmp_path / "copies").iterdir())


CHILD = """
import fsspec, os, signal, sys, tempfile
from dagster_active_learning.readers.remote import read_remote_predictions
tempfile.tempdir = sys.argv[1]
memory = fsspec.filesystem("memory")
memory.pipe("/bucket/a.parquet", sys.stdin.buffer.read())
if sys.argv[2] == "while it copies":
    get_file = type(memory).get_file
    def get_half(self, path, copy):
        get_file(self, path, copy)
        os.kill(os.getpid(), signal.SIGKILL)
    type(memory).get_file = get_half
stream = read_remote_predictions("memory://bucket/a.parquet", format="parquet")
next(iter(stream))
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("killed", ["while it copies", "while it reads"])
def test_copies_that_a_killed_step_left_go_with_the_next_step(memory, tmp_path, killed):
    memory.pipe_file("/bucket/pool/a.parquet", parquet())
    copies = tmp_path / "copies"
    living = read_remote_predictions("memory://bucket/pool/a.parquet", format="parquet")
    in_use = set(copies.iterdir())
    command = [sys.executable, "-c", CHILD, str(copies), killed]
    assert subprocess.run(command, input=parquet(), check=False).returncode == -signal.SIGKILL
    (leftover,) = set(copies.iterdir()) - in_use
    assert any(leftover.rglob("a.parquet"))
    next_step = read_remote_predictions("memory://bucket/pool/a.parquet", format="parquet")
    assert not leftover.exists()
    for stream in (living, next_step):
        assert sum(map(len, stream)) == 20, "the copies that are in use are all there"
