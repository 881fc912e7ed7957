"""Files that change while they are read, that are no files, or that unpack to far more than they are.

For every format and for manifests: a clear error, no hang, and no more memory than a few batches.
"""

import gzip
import os
import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dagster_active_learning import PoolImages, read_predictions
from dagster_active_learning.errors import PredictionReadError
from faults.fuzz.targets import TARGETS, write

MIB = 2**20
PREDICTIONS = [name for name, target in TARGETS.items() if target.format != "manifest"]


def open_target(name, folder):
    """The stream of a target's first seed."""
    path, options = write(TARGETS[name], TARGETS[name].seeds[0], folder)
    return read_predictions(path, format=TARGETS[name].format, **options)


CHANGES = {
    "deleted": lambda file: file.unlink(),
    "emptied": lambda file: os.truncate(file, 0),
    "shrunk": lambda file: os.truncate(file, file.stat().st_size - 1),
    "replaced": lambda file: (file.with_suffix(".new").write_bytes(b"x"), os.replace(file.with_suffix(".new"), file)),
}  # fmt: skip


@pytest.mark.parametrize("name", PREDICTIONS)
@pytest.mark.parametrize("change", CHANGES)
def test_a_file_that_changes_before_it_is_read_is_an_error_that_names_it(tmp_path, name, change):
    stream = open_target(name, tmp_path)
    CHANGES[change](tmp_path / TARGETS[name].file)
    with pytest.raises(PredictionReadError) as error:
        _ = list(stream), stream.sha256()
    assert str(tmp_path) in str(error.value)


@pytest.mark.parametrize("name", PREDICTIONS)
@pytest.mark.parametrize("change", CHANGES)
def test_a_file_that_changes_once_it_is_read_is_an_error_that_says_so(tmp_path, name, change):
    stream = open_target(name, tmp_path)
    list(stream)
    CHANGES[change](tmp_path / TARGETS[name].file)
    with pytest.raises(PredictionReadError) as error:
        stream.sha256()
    assert f"{tmp_path / TARGETS[name].file} changed while it was read" in str(error.value)


def fifo(path):
    os.mkfifo(path)


def device(path):
    path.symlink_to("/dev/zero")


def loop(path):
    path.symlink_to(path)


@pytest.mark.parametrize("name", TARGETS)
@pytest.mark.parametrize("kind", [fifo, device, loop])
def test_what_is_no_file_is_refused_before_it_is_opened(tmp_path, name, kind):
    target = TARGETS[name]
    path, options = write(target, target.seeds[0], tmp_path)
    (tmp_path / target.file).unlink()
    kind(tmp_path / target.file)
    manifest = target.format == "manifest"
    with pytest.raises(PredictionReadError) as error:
        _ = (
            PoolImages(path, **options).read()
            if manifest
            else read_predictions(path, format=target.format, **options)
        )
    assert str(tmp_path / target.file) in str(error.value)


@pytest.mark.parametrize("name", ["kitti", "lightly", "yolo"])
@pytest.mark.parametrize("kind", [fifo, device, loop])
def test_what_is_no_file_is_refused_in_a_folder_of_files(tmp_path, name, kind):
    target = TARGETS[name]
    path, options = write(target, target.seeds[0], tmp_path)
    other = path.with_stem("other")
    kind(other)
    with pytest.raises(PredictionReadError) as error:
        read_predictions(tmp_path, format=target.format, **options)
    assert str(other) in str(error.value)


def memory(value: str) -> float:
    """The memory of this process in MiB, ``VmRSS`` now or ``VmHWM`` at its highest."""
    return int(re.findall(rf"{value}:\s+(\d+)", Path("/proc/self/status").read_text())[0]) / 1024


def read(path, kind, options) -> tuple[int | str, float]:
    """The number of rows, or the error; and how far reading lifts the memory, in MiB."""
    Path("/proc/self/clear_refs").write_text("5")  # the highest memory is that of now
    before = memory("VmRSS")
    try:
        if kind == "manifest":
            found = PoolImages(path, **options).read()[0].num_rows
        else:
            found = sum(map(len, read_predictions(path, format=kind, **options)))
    except PredictionReadError as error:
        found = str(error)
    return found, memory("VmHWM") - before


def gzipped(begin: bytes, block: bytes, blocks: int):
    """What writes a file of one block again and again."""

    def write(path):
        with gzip.open(path, "wb", 1) as opened:
            opened.write(begin)
            for _ in range(blocks):
                opened.write(block)

    return write


def equal_ids(path):
    ids = pa.DictionaryArray.from_arrays(pa.array(np.zeros(20_000_000, np.int32)), ["a" * 20])
    pq.write_table(pa.table({"image_id": ids}), path)


def zeros(path):
    np.savez_compressed(
        path, class_probs=np.zeros((4_000_000, 10)), image_ids=np.zeros(4_000_000, np.uint32)
    )


WIDE = {"class_column_prefix": "p_"}

# A small file: its name, the format, options, what writes it, the rows or words of the error, and
# the most MiB that reading it may take.
BOMBS = {
    "csv, rows of one field": ("p.csv.gz", "csv", WIDE, gzipped(b"image_id,p_a,p_b\n", b"x\n" * 10_000, 100), 1_000_000, 200),
    "csv, good rows": ("p.csv.gz", "csv", WIDE, gzipped(b"image_id,p_a,p_b\n", b"x,1,0\n" * 10_000, 500), 5_000_000, 600),
    "csv, blank lines": ("p.csv.gz", "csv", WIDE, gzipped(b"image_id,p_a,p_b\nx,1,0\n", b"\n" * MIB, 100), 1, 200),
    "csv, a header": ("p.csv.gz", "csv", WIDE, gzipped(b"", b"x" * MIB, 500), "the header does not end", 100),
    "csv, a field": ("p.csv.gz", "csv", WIDE, gzipped(b"image_id,p_a,p_b\n", b"x" * MIB, 500), "row 1 does not end", 100),
    "jsonl, lines of one character": ("p.jsonl.gz", "jsonl", {}, gzipped(b'{"image_id": "a", "class_probs": [1, 0]}\n', b"x\n" * 10_000, 100), 1_000_001, 150),
    "jsonl, blank lines": ("p.jsonl.gz", "jsonl", {}, gzipped(b'{"image_id": "a", "class_probs": [1, 0]}\n', b"\n" * MIB, 5), 1, 100),
    "jsonl, a line": ("p.jsonl.gz", "jsonl", {}, gzipped(b"", b"x" * MIB, 500), "has more than 8388608 bytes in line 1", 100),
    "npz": ("p.npz", "npz", {}, zeros, 4_000_000, 200),
    "manifest in csv": ("m.csv.gz", "manifest", {"format": "csv"}, gzipped(b"image_id\n", b"x\n" * 10_000, 4_000), "row 2: image_id 'x' stands in row 1 already", 700),
    "manifest in csv, a header": ("m.csv.gz", "manifest", {"format": "csv"}, gzipped(b"", b"x" * MIB, 500), "the header does not end", 100),
    "manifest in parquet": ("m.parquet", "manifest", {}, equal_ids, "row 2: image_id 'aaaaaaaaaaaaaaaaaaaa' stands in row 1 already", 400),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("case", BOMBS)
def test_what_unpacks_to_far_more_than_it_is_takes_a_few_batches_of_memory(tmp_path, case):
    name, kind, options, write_file, expected, most = BOMBS[case]
    path = tmp_path / name
    write_file(path)
    assert path.stat().st_size < 4 * MIB
    found, lifted = read(path, kind, options)
    assert found == expected if isinstance(expected, int) else expected in str(found)
    assert lifted < most


JSON = ["coco", "coco_instances", "coco_own_tables", "lightly", "lightly_schema", "megadetector", "rvc", "manifest_coco"]  # fmt: skip
TEXTS = [
    name
    for name in TARGETS
    if not name.startswith(("parquet", "npz", "npy", "csv_gz", "jsonl_gz", "manifest_parquet"))
] + ["npy_ids"]


@pytest.mark.slow
@pytest.mark.parametrize("name", TEXTS)
def test_a_line_or_text_of_300_megabytes_is_an_error_and_is_not_held(tmp_path, name):
    target = TARGETS[name]
    seed = target.seeds[0]
    path, options = write(target, seed, tmp_path)
    read(path, target.format, options)  # what is imported for it is no part of the file
    begin = seed[: seed.index(b'"') + 1] if name in JSON else seed
    with (tmp_path / target.file).open("wb") as opened:
        opened.write(begin)
        for _ in range(300):
            opened.write(b"x" * MIB)
        opened.write(b'"}]\n')
    found, lifted = read(path, target.format, options)
    assert str(tmp_path / target.file) in str(found)
    # The largest blocks are those of JSON lists that are read in columns.
    assert lifted < 250
