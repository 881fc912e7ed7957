"""What a fresh process pays: imports, compiled code from the cache or not, and Dagster's own share."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from importlib import import_module
from itertools import count
from pathlib import Path

from measuring import Settings, Table, in_fresh_process, in_turn

BENCHMARKS = Path(__file__).parent
PROJECT = BENCHMARKS.parents[1]
FIRST_SCORES = (
    "import numpy as np; from dagster_active_learning import score_images;"
    "score_images(np.full((10, 10), 0.1, np.float32))"
)
MATERIALIZE = ("-m", "dagster", "asset", "materialize", "--select", 'key:"digits/*"')


def tables(settings: Settings) -> Iterator[Table]:
    runs = 1 if settings.quick else 5
    with tempfile.TemporaryDirectory() as folder:
        yield _first_scores(Path(folder), runs)
        yield _digits(Path(folder), runs)


def _python(*arguments: str, **environment: str) -> None:
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=PROJECT,
        env=os.environ | {"DAGSTER_DISABLE_TELEMETRY": "true"} | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"{arguments} failed:\n{done.stdout}{done.stderr}")


def _first_scores(folder: Path, runs: int) -> Table:
    warm = str(folder / "warm")
    _python("-c", FIRST_SCORES, NUMBA_CACHE_DIR=warm)
    number = count()
    bare, cached, compiled = in_turn(
        [
            lambda: _python("-c", "import numba"),
            lambda: _python("-c", FIRST_SCORES, NUMBA_CACHE_DIR=warm),
            lambda: _python("-c", FIRST_SCORES, NUMBA_CACHE_DIR=f"{folder}/cold{next(number)}"),
        ],
        runs,
    )
    return Table(
        "Start: the first scores in a fresh process",
        f"From the start of the process to its end, medians of {runs} runs in turn.",
        ("what", "seconds", "`import numba` alone", "more", "ratio", "target"),
        [
            [what, f"{took:.2f}", f"{bare:.2f}", f"+{took - bare:.2f} s", f"{took / bare:.2f}x", target]
            for what, took, target in (
                ("kernels from the cache", cached, "+0.6 s"),
                ("nothing compiled", compiled, "+4 s"),
            )
        ],
    )  # fmt: skip


def _digits(folder: Path, runs: int) -> Table:
    environment = {
        "LABELING_DATA_FOLDER": str(folder / "data"),
        "NUMBA_CACHE_DIR": str(folder / "warm"),
        "NO_OP_SHAPE": str(folder / "shape.json"),
    }
    (folder / "shape.json").write_text(json.dumps(in_fresh_process(digits_shape, environment)))
    real = ("-m", "labeling.definitions", "-d", "pipelines")
    no_op = ("-m", "no_op_assets", "-d", str(BENCHMARKS))
    _python(*MATERIALIZE, *real, **environment)  # compiles what is not in the cache yet
    nothing, digits = in_turn(
        [
            lambda: _python(*MATERIALIZE, *no_op, **environment),
            lambda: _python(*MATERIALIZE, *real, **environment),
        ],
        runs,
    )
    return Table(
        "Start: the pool of digits by `dagster asset materialize`",
        "The same assets, checks, steps and executor that do nothing stand beside it; a fresh process each, "
        f"kernels from the cache, medians of {runs} runs in turn.",
        ("what", "seconds", "no-op assets", "ratio", "target"),
        [
            [
                "1,797 images from files to candidates", f"{digits:.2f}", f"{nothing:.2f}",
                f"{digits / nothing:.2f}x", "<= 1.5x",
            ]
        ],
    )  # fmt: skip


def digits_shape(environment: Mapping[str, str]) -> list[dict[str, object]]:
    """The steps of the example's code location: the assets and checks of each, and dependencies."""
    os.environ.update(environment)
    sys.path.insert(0, str(PROJECT / "pipelines"))
    graph = import_module("labeling.definitions").defs().resolve_asset_graph()
    return [
        {
            "name": step.node_def.name,
            "assets": [
                (key.path, [parent.path for parent in parents])
                for key, parents in step.asset_deps.items()
            ],
            "checks": [
                (spec.asset_key.path, spec.name, spec.blocking) for spec in step.check_specs
            ],
        }
        for step in graph.assets_defs
    ]
