"""What a process finds compiled: after warm_up, beside other processes, and where nothing is kept."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import dagster_active_learning
from reference import ROW_SCORES, prediction_scores

WARM_UP = "from dagster_active_learning import warm_up; warm_up()"

# Everything that runs a kernel, and then how often a kernel was there compiled and how often it was not.
USE_ALL = """
import numpy as np
from dagster_active_learning import score_images
from dagster_active_learning.acquisition import kernels

for dtype in (np.float32, np.float64):
    class_probs = np.random.default_rng(0).dirichlet(np.ones(10), 1000).astype(dtype)
    score_images(class_probs)
    score_images(class_probs, np.arange(1000) // 5)
    kernels.check_class_probs(class_probs)
    values, _ = kernels.score_class_probs(class_probs, objects=True, sum_tolerance=np.inf)
    for keep in ("sum", "max", "min"):
        totals = np.zeros((200, 5))
        counts = np.zeros(200, np.int64)
        kernels.add_by_image(values, np.arange(1000) // 5, totals, counts, keep=keep)
stats = [kernel.stats for kernel in vars(kernels).values() if hasattr(kernel, "stats")]
print(sum(sum(kernel.cache_hits.values()) for kernel in stats))
print(sum(sum(kernel.cache_misses.values()) for kernel in stats))
"""

# The scores of four rows, and where Numba keeps their kernel.
SCORE = """
import numpy as np
from dagster_active_learning import score_images
from dagster_active_learning.acquisition import kernels

class_probs = np.array([[0.5, 0.5, 0], [0.7, 0.2, 0.1], [1, 0, 0], [0.4, 0.3, 0.3]], np.float32)
for row in score_images(class_probs)[:, 2:6].rows():
    print(*(value.hex() for value in row))
print(kernels._score_kernel.stats.cache_path)
"""
FOUR_ROWS = np.array(
    [[0.5, 0.5, 0], [0.7, 0.2, 0.1], [1, 0, 0], [0.4, 0.3, 0.3]], np.float32
)  # fmt: skip


def start(code, **environment):
    return subprocess.Popen(
        [sys.executable, "-c", code],
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def output(process) -> list[str]:
    stdout, stderr = process.communicate(timeout=300)
    assert process.returncode == 0, stderr
    return stdout.splitlines()


def check_scores(lines):
    scores = np.array([[float.fromhex(value) for value in line.split()] for line in lines])
    expected = prediction_scores(FOUR_ROWS)
    np.testing.assert_allclose(
        scores, np.column_stack([expected[name] for name in ROW_SCORES[:4]]), atol=1e-6
    )


@pytest.mark.slow
def test_warm_up_leaves_nothing_to_compile(tmp_path):
    output(start(WARM_UP, NUMBA_CACHE_DIR=str(tmp_path)))
    cached, compiled = output(start(USE_ALL, NUMBA_CACHE_DIR=str(tmp_path)))
    assert int(cached) > 0
    assert int(compiled) == 0


@pytest.mark.slow
def test_eight_processes_that_start_cold_at_once_do_not_harm_each_other(tmp_path):
    processes = [start(SCORE, NUMBA_CACHE_DIR=str(tmp_path)) for _ in range(8)]
    first, *others = [output(process) for process in processes]
    assert all(other == first for other in others)
    check_scores(first[:-1])
    # What they left behind is whole: the next one compiles nothing and says the same.
    before = sorted(tmp_path.rglob("*.nb?"))
    assert output(start(SCORE, NUMBA_CACHE_DIR=str(tmp_path))) == first
    assert sorted(tmp_path.rglob("*.nb?")) == before


@pytest.mark.slow
@pytest.mark.parametrize("writable", [True, False])
def test_without_a_writable_place_the_kernels_work_uncached(tmp_path, writable):
    package = tmp_path / "dagster_active_learning"
    shutil.copytree(
        Path(dagster_active_learning.__file__).parent,
        package,
        ignore=shutil.ignore_patterns("__pycache__"),
    )
    if not writable:
        # Files where folders would have to be: that stops the root user, too.
        for folder in [package, *(one for one in package.iterdir() if one.is_dir())]:
            (folder / "__pycache__").touch()
    nowhere = str(tmp_path / "nowhere")
    Path(nowhere).touch()
    *scores, cache_path = output(
        start(
            SCORE,
            PYTHONPATH=str(tmp_path),
            HOME=nowhere,
            XDG_CACHE_HOME=f"{nowhere}/cache",
            NUMBA_CACHE_DIR=f"{nowhere}/numba" if not writable else "",
        )
    )
    check_scores(scores)
    assert cache_path == (str(package / "acquisition" / "__pycache__") if writable else "None")
