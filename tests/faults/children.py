"""What the fault tests run in processes of their own, and what these tell."""

from __future__ import annotations

import gc
import os
import time
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

PRELOADED = [
    "dagster",
    "dagster_duckdb",
    "dagster_active_learning.definitions.component",
    "dagster_active_learning.definitions.database",
    "dagster_active_learning.flow",
    "dagster_active_learning.readers",
]


def run_steps(pipe: Connection) -> None:
    """Materialize the steps it is sent; tells when each begins to work, its end, and its error."""
    import numpy as np

    from dagster_active_learning import score_images
    from dagster_active_learning.definitions.component import ActiveLearningComponent
    from faults.pool import materialize, pool

    class Telling(ActiveLearningComponent):
        def execute(self, context: Any, materialize: Any) -> Iterator[Any]:
            pipe.send("working")
            results = list(super().execute(context, materialize))
            pipe.send("done")
            yield from results

    # The kernels are there before the work begins: it is the work that is to be killed.
    score_images(np.full((1, 2), 0.5, np.float32))
    for predictions, database, step in iter(pipe.recv, None):
        pipe.send(("ended", materialize(pool(predictions, kind=Telling), database, step)))


def run_partitions(told: Connection, folder: Path, database: Path, keys: list[str]) -> None:
    """Materialize partitions one after the other; tells the errors."""
    import dagster as dg

    from dagster_active_learning import PredictionFiles
    from dagster_active_learning.definitions.component import ActiveLearningComponent
    from faults.pool import materialize

    files = sorted(path.stem for path in folder.glob("*.parquet"))
    component = ActiveLearningComponent(
        pool="pool",
        predictions=PredictionFiles(folder / "{partition_key}.parquet", "parquet"),
        partitions_def=dg.StaticPartitionsDefinition(files),
    )
    errors = [materialize(component, database, partition_key=key) for key in keys]
    told.send([error for error in errors if error])


def run_batches(pipe: Connection, folder: Path) -> None:
    """Choose a batch and write it whenever told to; tells its beginning and its end."""
    import numpy as np

    from dagster_active_learning import score_images
    from faults.pool import write_next_batch

    score_images(np.full((1, 2), 0.5, np.float32))
    for seed, labeled in iter(pipe.recv, None):
        pipe.send("working")
        pipe.send(write_next_batch(folder, seed, labeled))


def run_often(told: Connection, folder: Path, database: Path, times: int) -> None:
    """Materialize a small pool again and again, every tenth time from a file that is broken."""
    from faults.pool import materialize, pool

    for turn in range(1, times + 1):
        broken = turn % 10 == 0
        error = materialize(pool(folder / ("broken" if broken else "good")), database)
        if (error is None) == broken:
            raise AssertionError(error)
        if turn % (times // 10) == 0:
            gc.collect()
            told.send((turn, *_held()))


def read_until(told: Connection, database: Path, ready: Any, stop: Any) -> None:
    """Hold the database as a notebook does, and count its candidates again and again."""
    import duckdb

    with duckdb.connect(str(database), read_only=True) as connection:
        ready.release()
        counts: set[Any] = set()
        while not stop.wait(0.01):
            counts |= {
                *connection.execute("SELECT count(*) FROM pool.labeling_candidates").fetchall()
            }
        told.send(counts)


def _held() -> tuple[int, int, int]:
    """File descriptors, threads, and MiB of memory of this process."""
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    memory = int(status["VmRSS"].split()[0]) // 1024
    return len(os.listdir("/proc/self/fd")), int(status["Threads"]), memory


class Child:
    """A process that runs one of the functions above.

    Args:
        context: Where processes come from.
        target: The function; its first argument is a pipe.
        arguments: The others.
    """

    def __init__(self, context: Any, target: Any, *arguments: Any) -> None:
        self._pipe, other = context.Pipe()
        self._process = context.Process(target=target, args=(other, *arguments), daemon=True)
        self._process.start()
        other.close()

    def begin(self, predictions: Path, database: Path, step: str) -> None:
        """Have it run a step; returns when it works on it."""
        self._pipe.send((predictions, database, step))
        told = self._pipe.recv()
        if told != "working":
            raise AssertionError(told)

    def step(self, predictions: Path, database: Path, step: str) -> tuple[str | None, float]:
        """Have it run a step; returns the error, if it fails, and for how many seconds it worked."""
        self.begin(predictions, database, step)
        start = time.perf_counter()
        told = self._pipe.recv()
        seconds = time.perf_counter() - start
        return (self._pipe.recv() if told == "done" else told)[1], seconds

    def tell(self, message: Any) -> None:
        """Tell it something."""
        self._pipe.send(message)

    def told(self) -> Any:
        """The next that it tells."""
        return self._pipe.recv()

    def kill(self) -> bool:
        """Kill it; returns whether it was still at work."""
        self._process.kill()
        self._process.join()
        try:
            return self._pipe.recv() != "done"
        except (EOFError, ConnectionResetError):
            return True

    def rest(self) -> list[Any]:
        """All that it tells until it ends well."""
        told: list[Any] = []
        try:
            while True:
                told.append(self._pipe.recv())
        except EOFError:
            self._process.join()
        if self._process.exitcode:
            raise AssertionError(f"the process ended with {self._process.exitcode}")
        return told
