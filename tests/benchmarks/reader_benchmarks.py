"""How fast files are read, beside the least that reading them takes, and how much memory it takes."""

import hashlib
import json
import os
import random
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from dagster_active_learning import read_predictions
from measuring import Settings, Table, in_fresh_process, peak_mib

COLUMNS = ("what", "CPU s", "seconds", "ratio of CPU s")


def tables(settings: Settings) -> Iterator[Table]:
    runs = 1 if settings.quick else 5
    path = write_coco_results(settings.folder, 200_000 if settings.quick else 5_000_000)
    yield Table(
        f"Readers: COCO results of {path.stat().st_size / 1e6:.0f} MB",
        f"From the file to Arrow batches, in turn, medians of {runs}. Target: 2.5 times the CPU time "
        "of DuckDB's own read_json on one thread, in less than 300 MiB.",
        (*COLUMNS, "peak memory above that at the start"),
        [
            [*row, f"{in_fresh_process(peak_of, function, path):,.0f} MiB"]
            for row, function in zip(
                compared({"DuckDB": lambda: read_json(path), "package": lambda: read_coco(path)}, runs),
                (read_json, read_coco),
                strict=True,
            )
        ],
    )  # fmt: skip
    count = 2_000 if settings.quick else 100_000
    for name, folder in (
        ("yolo", write_yolo_files(settings.folder, count)),
        ("lightly", write_lightly_files(settings.folder, count)),
    ):
        functions = {
            "open, read, SHA-256": partial(hash_files, folder),
            "package": partial(read_folder, folder, name),
        }
        yield Table(
            f"Readers: {count:,} {name} files",
            "From the folder to Arrow batches and the hash of each file, in turn, medians of "
            f"{runs}. Target: 4 times the CPU time.",
            COLUMNS,
            compared(functions, runs),
        )
    rows = 2_000 if settings.quick else 40_000
    for dictionary in (False, True):
        files = {
            name: partial(read_parquet, write_parquet(settings.folder, rows, name, dictionary))
            for name in ("float32", "float16")
        }
        yield Table(
            f"Readers: {rows:,} x 1,000 class probabilities in Parquet, "
            + ("encoded with a dictionary" if dictionary else "plain"),
            f"From the file to Arrow batches, in turn, medians of {runs}. Target: 0.8.",
            COLUMNS,
            compared(files, runs),
        )


def compared(functions: Mapping[str, Callable[[], object]], runs: int) -> list[list[str]]:
    """CPU seconds, seconds, and the ratio to the first, of functions that run in turn.

    Each runs once before, for the compiler and the disk.
    """
    for function in functions.values():
        function()
    measured: dict[str, list[tuple[float, float]]] = {name: [] for name in functions}
    for _ in range(runs):
        for name, function in functions.items():
            start, cpu = time.perf_counter(), time.process_time()
            function()
            measured[name].append((time.process_time() - cpu, time.perf_counter() - start))
    medians = {
        name: [statistics.median(column) for column in zip(*times, strict=True)]
        for name, times in measured.items()
    }
    first = next(iter(medians.values()))[0]
    return [
        [name, f"{cpu:.2f}", f"{seconds:.2f}", f"{cpu / first:.2f}"]
        for name, (cpu, seconds) in medians.items()
    ]


def peak_of(function: Callable[[Path], object], path: Path) -> float:
    """The memory that a function takes at its peak, in MiB, above what the imports took."""
    before = peak_mib()
    function(path)
    return peak_mib() - before


def read_json(path: Path) -> int:
    columns = "{image_id: 'BIGINT', category_id: 'BIGINT', bbox: 'DOUBLE[]', score: 'DOUBLE'}"
    with duckdb.connect(config={"threads": 1}) as connection:
        connection.execute("SET enable_progress_bar = false")
        relation = connection.sql(
            f"SELECT * FROM read_json('{path}', format = 'array', columns = {columns})"
        )
        return sum(batch.num_rows for batch in relation.to_arrow_reader(8_192))


def read_coco(path: Path) -> int:
    return sum(batch.num_rows for batch in read_predictions(path, format="coco"))


def read_folder(folder: Path, format: str) -> int:
    stream = read_predictions(folder, format=format)
    rows = sum(batch.num_rows for batch in stream)
    stream.sha256()
    return rows


def read_parquet(path: Path) -> int:
    return sum(batch.num_rows for batch in read_predictions(path, format="parquet"))


def hash_files(folder: Path) -> list[str]:
    hashes: list[str] = []
    for name in sorted(os.listdir(folder)):
        with open(folder / name, "rb") as file:
            hashes.append(hashlib.sha256(file.read()).hexdigest())
    return hashes


def write_coco_results(folder: Path, n_detections: int) -> Path:
    """A JSON array of boxes, ten an image, made once in the folder."""
    path = folder / f"{n_detections}_detections.json"
    if path.exists():
        return path
    incomplete = path.with_suffix(".incomplete")
    with incomplete.open("w") as file:
        for number in range(n_detections):
            file.write(
                f'{"," if number else "["}{{"image_id": {number // 10}, "category_id": '
                f'{number % 90}, "bbox": [{number % 600}.25, 7.5, 100.125, 50.5], '
                f'"score": 0.{number:012d}}}'
            )
        file.write("]")
    incomplete.rename(path)
    return path


def write_yolo_files(folder: Path, count: int) -> Path:
    """A folder of label files with up to 8 boxes each, made once in the folder."""
    path = folder / f"{count}_yolo_files"
    if path.exists():
        return path
    rng = random.Random(0)
    incomplete = path.with_suffix(".incomplete")
    incomplete.mkdir()
    for number in range(count):
        lines = (
            " ".join([f"{rng.randrange(80)}", *(f"{rng.random():.6g}" for _ in range(5))])
            for _ in range(rng.randrange(9))
        )
        (incomplete / f"{number:07d}.txt").write_text("".join(f"{line}\n" for line in lines))
    incomplete.rename(path)
    return path


def write_lightly_files(folder: Path, count: int) -> Path:
    """A folder of documents with up to 8 boxes each, made once in the folder."""
    path = folder / f"{count}_lightly_files"
    if path.exists():
        return path
    rng = random.Random(0)
    incomplete = path.with_suffix(".incomplete")
    incomplete.mkdir()
    categories = [{"id": number, "name": f"class {number}"} for number in range(80)]
    (incomplete / "schema.json").write_text(json.dumps({"categories": categories}))
    for number in range(count):
        predictions = [
            {
                "category_id": rng.randrange(80),
                "bbox": [rng.randrange(500) for _ in range(4)],
                "score": rng.random(),
            }
            for _ in range(rng.randrange(9))
        ]
        document = {"file_name": f"{number:07d}.jpg", "predictions": predictions}
        (incomplete / f"{number:07d}.json").write_text(json.dumps(document))
    incomplete.rename(path)
    return path


def write_parquet(folder: Path, rows: int, dtype: str, dictionary: bool) -> Path:
    """Class probabilities of 1,000 classes, made once in the folder."""
    path = folder / f"{rows}_{dtype}{'_dictionary' * dictionary}.parquet"
    if path.exists():
        return path
    rng = np.random.default_rng(0)
    kind = pa.from_numpy_dtype(np.dtype(dtype))
    schema = pa.schema([("image_id", pa.string()), ("class_probs", pa.list_(kind))])
    incomplete = path.with_suffix(".incomplete")
    columns = ["class_probs.list.element"] if dictionary else False
    with pq.ParquetWriter(incomplete, schema, use_dictionary=columns) as writer:
        for start in range(0, rows, 2_000):
            matrix = rng.random((2_000, 1_000), dtype=np.float32)
            matrix /= matrix.sum(axis=1, keepdims=True)
            offsets = pa.array(np.arange(2_001, dtype=np.int32) * 1_000)
            lists = pa.ListArray.from_arrays(offsets, pa.array(matrix.astype(dtype).ravel()))
            ids = pa.array([f"{start + row:08d}" for row in range(2_000)])
            writer.write_batch(pa.record_batch([ids, lists], schema=schema))
    incomplete.rename(path)
    return path
