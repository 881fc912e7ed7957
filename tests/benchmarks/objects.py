"""Ingest, score and rank a detector's objects from Parquet: seconds a step and peak memory.

Run ``python tests/benchmarks/objects.py``: 5 million objects of 80 classes on 1 million images.
``--quick`` only shows that it works.
"""

import argparse
import resource
import tempfile
import time
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from dagster_active_learning import ACQUISITION_FUNCTIONS, flow, read_predictions
from dagster_active_learning.rules import Rules
from dagster_active_learning.store import PoolStore

N_CLASSES = 80
ROWS_A_GROUP = 50_000


def write_objects(path: Path, n_objects: int, n_images: int) -> None:
    """Objects of random images with random class probabilities, row group by row group."""
    random = np.random.default_rng(0)
    schema = pa.schema([("image_id", pa.string()), ("class_probs", pa.list_(pa.float32()))])
    with pq.ParquetWriter(path, schema, compression="none") as writer:
        for start in range(0, n_objects, ROWS_A_GROUP):
            rows = min(ROWS_A_GROUP, n_objects - start)
            weights = random.standard_exponential((rows, N_CLASSES), dtype=np.float32) ** 4
            class_probs = weights / weights.sum(axis=1, keepdims=True)
            offsets = np.arange(rows + 1, dtype=np.int32) * N_CLASSES
            lists = pa.ListArray.from_arrays(pa.array(offsets), pa.array(class_probs.ravel()))
            ids = pa.array([f"image_{one:07d}" for one in random.integers(0, n_images, rows)])
            writer.write_table(pa.table([ids, lists], schema=schema))


def peak_mib() -> float:
    """The most memory this process has had, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    """Print a table of the steps."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a small input")
    parser.add_argument("--memory-limit", default="1GiB", help="what DuckDB may use")
    arguments = parser.parse_args()
    n_objects, n_images = (50_000, 10_000) if arguments.quick else (5_000_000, 1_000_000)
    rules = Rules(task="detection")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "objects.parquet"
        write_objects(path, n_objects, n_images)
        size = path.stat().st_size / 2**20
        print(
            f"{n_objects:,} objects x {N_CLASSES} classes on {n_images:,} images, "
            f"{size:,.0f} MiB of Parquet, DuckDB limited to {arguments.memory_limit}\n"
        )
        print("| step | seconds | objects a second | peak memory so far |")
        print("|---|---|---|---|")
        print(f"| (input written) | | | {peak_mib():,.0f} MiB |")
        config = {"memory_limit": arguments.memory_limit}
        with duckdb.connect(str(Path(folder) / "pool.duckdb"), config=config) as connection:
            store = PoolStore(connection, "pool")

            def told(name: str, start: float) -> None:
                seconds = time.perf_counter() - start
                rate = n_objects / seconds
                print(
                    f"| {name} | {seconds:.1f} | {rate:,.0f} | {peak_mib():,.0f} MiB |", flush=True
                )

            start = time.perf_counter()
            flow.ingest_predictions(
                store,
                read_predictions(path, format="parquet"),
                prediction_set="set",
                model=None,
                run_id="benchmark",
                rules=rules,
                in_manifest=False,
                report=lambda _: None,
            )
            told("ingest", start)
            start = time.perf_counter()
            flow.score_prediction_set(
                store, "set", rules=rules, in_manifest=False, report=lambda _: None
            )
            told("score", start)
            start = time.perf_counter()
            flow.rank_candidates(
                store,
                "set",
                list(ACQUISITION_FUNCTIONS.values()),
                rules=rules,
                in_manifest=False,
                limit=1000,
                seed=0,
                run_id="benchmark",
            )
            told("rank by all functions", start)


if __name__ == "__main__":
    main()
