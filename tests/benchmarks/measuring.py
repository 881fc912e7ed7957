"""Time functions in turn, in this process or in fresh ones, and write tables as Markdown."""

import multiprocessing
import os
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

PACKAGES = ("numpy", "numba", "duckdb", "polars", "pyarrow", "dagster")


@dataclass(frozen=True)
class Settings:
    """What the command line says: the size of the inputs, how often, and where files go."""

    quick: bool
    rows: int
    runs: int
    folder: Path


@dataclass(frozen=True)
class Table:
    """A title, what was measured and how, and the figures."""

    title: str
    text: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]

    def markdown(self) -> str:
        lines = [self.columns, ["---"] * len(self.columns), *self.rows]
        table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
        return f"## {self.title}\n\n{self.text}\n\n{table}\n"


@dataclass(frozen=True)
class Times:
    """Seconds by the clock, and of all processor cores of the process together."""

    wall: float
    cpu: float

    def __add__(self, other: "Times") -> "Times":
        return Times(self.wall + other.wall, self.cpu + other.cpu)


def times(function: Callable[[], object]) -> Times:
    """The times of one call."""
    wall, cpu = time.perf_counter(), time.process_time()
    function()
    return Times(time.perf_counter() - wall, time.process_time() - cpu)


def times_in_turn(functions: Sequence[Callable[[], object]], runs: int) -> list[Times]:
    """Median times of functions that run one after the other, again and again."""
    measured = [[times(function) for function in functions] for _ in range(runs)]
    return [
        Times(
            statistics.median(each.wall for each in of_function),
            statistics.median(each.cpu for each in of_function),
        )
        for of_function in zip(*measured, strict=True)
    ]


def in_turn(functions: Sequence[Callable[[], object]], runs: int) -> list[float]:
    """Median seconds of functions that run one after the other, again and again."""
    seconds: list[list[float]] = [[] for _ in functions]
    for _ in range(runs):
        for function, measured in zip(functions, seconds, strict=True):
            measured.append(timed(function))
    return [statistics.median(measured) for measured in seconds]


def timed(function: Callable[[], object]) -> float:
    """Seconds of one call; what it returns is freed after the clock has stopped."""
    start = time.perf_counter()
    result = function()
    seconds = time.perf_counter() - start
    del result
    return seconds


def in_fresh_process(function: Callable[..., Any], *arguments: Any) -> Any:
    """What the function returns in a process of its own, which has had no memory before."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(max_workers=1, mp_context=context) as process:
        return process.submit(function, *arguments).result()


def peak_mib() -> float:
    """The most memory this process has had, in MiB.

    Not ``ru_maxrss``: Linux hands that on from the process that started this one.
    """
    return int(_value("/proc/self/status", "VmHWM").split()[0]) / 1024


def machine() -> str:
    """The processor, the memory, what else runs, and the versions of what is compared."""
    memory = int(_value("/proc/meminfo", "MemTotal").split()[0]) / 2**20
    versions = [f"Python {platform.python_version()}"]
    versions += [f"{package} {found}" for package in PACKAGES if (found := installed(package))]
    return (
        f"{_value('/proc/cpuinfo', 'model name')}, {os.cpu_count()} cores, {memory:.0f} GiB of "
        f"memory, load average {os.getloadavg()[0]:.1f} at the start; {', '.join(versions)}."
    )


def installed(package: str) -> str | None:
    """The version of a package, None if it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def milliseconds(seconds: float) -> str:
    return f"{seconds * 1e3:,.1f} ms" if seconds < 0.1 else f"{seconds * 1e3:,.0f} ms"


def _value(file: str, name: str) -> str:
    """The value of a line ``name: value`` in one of Linux's files about the machine."""
    for line in Path(file).read_text().splitlines():
        key, _, value = line.partition(":")
        if key.strip() == name:
            return value.strip()
    raise LookupError(f"{file} has no line {name!r}: the benchmarks run on Linux")
