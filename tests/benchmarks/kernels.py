"""How fast the kernels are, as ratios: each pair is timed in turn in one process, medians of runs.

Run ``python tests/benchmarks/kernels.py``; ``--quick`` only shows that it works. NumPy's formulas
are those a user would write; nothing here fails on time.
"""

import argparse
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable

import numba
import numpy as np
import numpy.typing as npt

from dagster_active_learning import score_images

COLD_PROCESS = """
import time
start = time.perf_counter()
import numpy as np
from dagster_active_learning import score_images
score_images(np.full((10, 10), 0.1, np.float32))
print(time.perf_counter() - start)
"""


def numpy_scores(class_probs: npt.NDArray[np.float32]) -> tuple[npt.NDArray[np.float32], ...]:
    """The four functions of the class probabilities and their validity, in NumPy."""
    valid = (
        np.isfinite(class_probs).all(axis=1)
        & (class_probs >= -1e-3).all(axis=1)
        & (class_probs <= 1 + 1e-3).all(axis=1)
        & (np.abs(class_probs.sum(axis=1) - 1) <= 1e-3)
    )
    if not valid.all():
        raise ValueError("invalid class probabilities")
    positive = np.where(class_probs > 0, class_probs, 1)
    two_largest = np.partition(class_probs, class_probs.shape[1] - 2, axis=1)[:, -2:]
    return (
        -(positive * np.log2(positive)).sum(axis=1),
        1 - two_largest[:, 1],
        two_largest[:, 1] - two_largest[:, 0],
        class_probs.var(axis=1),
    )


def in_turn(
    first: Callable[[], object], second: Callable[[], object], runs: int
) -> tuple[float, float]:
    """Median seconds of two functions, run one after the other."""
    seconds: tuple[list[float], list[float]] = ([], [])
    for _ in range(runs):
        for function, measured in zip((first, second), seconds, strict=True):
            start = time.perf_counter()
            function()
            measured.append(time.perf_counter() - start)
    return statistics.median(seconds[0]), statistics.median(seconds[1])


def cold_seconds(runs: int) -> float:
    """Median seconds from an empty process with an empty cache to the first scores."""
    seconds: list[float] = []
    for _ in range(runs):
        with tempfile.TemporaryDirectory() as cache:
            done = subprocess.run(
                [sys.executable, "-c", COLD_PROCESS],
                env={"NUMBA_CACHE_DIR": cache},
                capture_output=True,
                text=True,
                check=True,
            )
            seconds.append(float(done.stdout))
    return statistics.median(seconds)


def main() -> None:
    """Print a table of ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small inputs, one run")
    quick: bool = parser.parse_args().quick
    n_images, runs = (10_000, 1) if quick else (1_000_000, 7)
    print(
        f"Python {platform.python_version()}, NumPy {np.__version__}, Numba {numba.__version__}, "
        f"{numba.get_num_threads()} threads; medians of {runs} runs\n"
    )
    print("| what | NumPy | kernels | times as fast |")
    print("|---|---|---|---|")
    random = np.random.default_rng(0)
    for n_classes in (2, 10, 100):
        rows = n_images * 10 // max(n_classes, 10)
        class_probs = random.dirichlet(np.ones(n_classes), rows).astype(np.float32)
        score_images(class_probs[:10])  # compiled before it is timed
        numpy, kernels = in_turn(
            lambda: numpy_scores(class_probs),  # noqa: B023
            lambda: score_images(class_probs),  # noqa: B023
            runs,
        )
        print(
            f"| all functions and validity, {rows:,} x {n_classes} float32 | {numpy * 1e3:.1f} ms "
            f"| {kernels * 1e3:.1f} ms | {numpy / kernels:.1f} |"
        )
    print(
        f"\nFirst scores of a cold process, nothing compiled: {cold_seconds(1 if quick else 3):.1f} s"
    )


if __name__ == "__main__":
    main()
