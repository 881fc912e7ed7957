"""Any small set in place is what the same files are when they are copied, or refused in words.

IN_PLACE_EXAMPLES=2000 is how many are tried; by default it is 25.
"""

import math
import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numba
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from dagster_active_learning import LocalWorkers, limits
from dagster_active_learning.errors import PoolStateError, PredictionReadError
from dagster_active_learning.flow import best_images, file_scores, scored_files
from dagster_active_learning.readers import stream
from dagster_active_learning.readers.formats import parquet
from dagster_active_learning.rules import Rules
from in_place import ROWS_PER_FILE, RULES, InThisProcess, assert_equal, copied, in_place, tables

EXAMPLES = int(os.environ.get("IN_PLACE_EXAMPLES", "25"))

IDS = [
    *("", " ", "a", "A", "a ", " a", "a\x00", "a\x00b", "\x00", "a\n", "á", "a\u0301", "ÿ"),
    *("b", "🦊", "\uffff", "\ufeffa", "\u202ea", "it's", 'say "x"', "%", "NULL", "x" * 5_000),
    *("x" * 5_000 + "y", "x" * 63, "x" * 64, "x" * 65, "1", "1.0", "-0.0", "nan"),
]
"""Ids that are easily taken for one another, cut, or put into another order."""

NAMES = ["cat", "dog", "eel"]

FEW_IDS = st.sampled_from(IDS)
ANY_IDS = FEW_IDS | st.text(max_size=5) | st.integers(0, 999).map(str)
GOOD = st.lists(st.integers(0, 9), min_size=3, max_size=3).filter(sum)
BAD = [
    *(None, [], [1.0], [0.5, 0.5], [0.25] * 4, [math.nan, 0.5, 0.5], [math.inf, 0, 0]),
    *([-0.5, 1.0, 0.5], [1.5, 0.0, -0.5], [0.5, 0.25, 0.0], [0.5, None, 0.5]),
]
BAD_SCORES = [None, math.nan, math.inf, -0.25, 1.25]
BOXES = [[1, 2, 3, 4], [5, 5, -1, 1], [0.1, 0.2, 0.7, 0.9], [math.nan] * 4, [1, 2, 3], None, []]


@dataclass(frozen=True)
class Layout:
    """The columns of files.

    Attributes:
        column: The class probabilities of rows as a column, or several.
        options: The options of the reader.
        objects: Whether rows are objects.
    """

    columns: Callable[[list[Any], pa.DataType], dict[str, pa.Array]]
    options: dict[str, Any] = field(default_factory=dict)
    objects: bool = False


def as_lists(probs, kind):
    return {"class_probs": pa.array(probs, pa.list_(kind))}


def as_fixed_lists(probs, kind):
    fitting = [one if one is not None and len(one) == 3 else None for one in probs]
    return {"class_probs": pa.array(fitting, pa.list_(kind, 3))}


def as_columns(probs, kind):
    fitting = [one if one is not None and len(one) == 3 else [None] * 3 for one in probs]
    values = zip(*fitting, strict=True) if fitting else [[]] * 3
    return {f"p_{name}": pa.array(column, kind) for name, column in zip(NAMES, values, strict=True)}


def no_probs(probs, kind):
    return {}


OF_OBJECTS = {"score_column": "score", "category_column": "category", "bbox_column": "box"}

LAYOUTS = {
    "lists": Layout(as_lists),
    "fixed lists": Layout(as_fixed_lists),
    "columns": Layout(as_columns, {"class_column_prefix": "p_"}),
    "objects": Layout(as_lists, {**OF_OBJECTS, "class_names": NAMES}, objects=True),
    "objects by corners": Layout(as_lists, {**OF_OBJECTS, "box": "xyxy"}, objects=True),
    "scores": Layout(no_probs, OF_OBJECTS, objects=True),
}

KINDS = {"half": pa.float16(), "float": pa.float32(), "double": pa.float64()}


@dataclass(frozen=True)
class Row:
    """A row of any layout."""

    image_id: str | None
    probs: list[float | None] | None
    score: float | None = 0.5
    category: str | None = None
    box: list[float] | None = None


@dataclass(frozen=True)
class Case:
    """Files and how they are read.

    Attributes:
        layout: A key of ``LAYOUTS``.
        kind: A key of ``KINDS``.
        files: The rows of each row group of each file.
        rules: How they are scored.
        manifest: The ids of the manifest, None without one.
        statistics: Whether footers say which ids are in a file.
        rows: The size of batches, buckets and parts in place.
        best: How many images are kept.
        limit: How many candidates are wanted.
        threads: Threads of the kernels in place.
    """

    layout: str
    kind: str
    files: list[list[list[Row]]]
    rules: Rules = RULES
    manifest: list[str] | None = None
    statistics: bool = True
    rows: int = 2
    best: int = 3
    limit: int = 5
    threads: int = 1


@st.composite
def rows(draw, ids):
    counts = draw(GOOD)
    good = [count / sum(counts) for count in counts]
    return Row(
        image_id=draw(ids | st.none() if draw(st.integers(0, 9)) == 0 else ids),
        probs=draw(st.sampled_from(BAD)) if draw(st.integers(0, 4)) == 0 else good,
        score=draw(st.sampled_from(BAD_SCORES) | st.floats(0, 1)),
        category=draw(st.sampled_from([*NAMES, None, "fox", ""])),
        box=draw(st.sampled_from(BOXES)),
    )


@st.composite
def files_of(draw):
    """Files whose ids come in any order, in that of each file, or in that of all."""
    ids = draw(st.sampled_from([FEW_IDS, ANY_IDS, st.sampled_from(IDS[:4])]))
    sizes = draw(st.lists(st.lists(st.integers(0, 6), max_size=3), min_size=1, max_size=4))
    order = draw(st.sampled_from(["any", "of a file", "of all"]))
    total = sum(map(sum, sizes))
    found = iter(in_order(draw(st.lists(rows(ids), min_size=total, max_size=total)), order, "of all"))  # fmt: skip
    files = []
    for groups in sizes:
        of_file = iter(in_order([next(found) for _ in range(sum(groups))], order, "of a file"))
        files.append([[next(of_file) for _ in range(size)] for size in groups])
    return files


def in_order(rows, order, sorting):
    return sorted(rows, key=lambda row: (row.image_id or "").encode()) if order == sorting else rows


@st.composite
def cases(draw):
    layout = draw(st.sampled_from([*LAYOUTS]))
    kind = draw(st.sampled_from([*KINDS]))
    files = draw(files_of())
    manifest = None
    if draw(st.booleans()):
        known = {row.image_id for file in files for group in file for row in group} - {None, ""}
        manifest = draw(st.lists(st.sampled_from([*sorted(known), "unseen", "b"]), unique=True))
    committee = not LAYOUTS[layout].objects and draw(st.integers(0, 3)) == 0
    rules = Rules(
        task=draw(st.sampled_from(["detection", "segmentation"])) if LAYOUTS[layout].objects else "classification",
        inputs=draw(st.sampled_from(["probabilities", "probabilities", "independent"])),
        aggregation="mean" if committee else draw(st.sampled_from(["mean", "sum", "max", "min"])),
        score_only=draw(st.sampled_from([None, "binary"])),
        images_without_predictions=draw(st.sampled_from([None, "first", "last", "exclude"])),
        sum_tolerance=0.01 if kind == "half" else 1e-3,
        committee=committee,
        in_manifest=manifest is not None,
    )  # fmt: skip
    return Case(
        layout,
        kind,
        files,
        rules,
        manifest,
        statistics=draw(st.booleans()),
        rows=draw(st.sampled_from([1, 2, 3, 100])),
        best=draw(st.sampled_from([1, 2, 100])),
        limit=draw(st.sampled_from([1, 3, 100])),
        threads=draw(st.sampled_from([1, 2])),
    )


def write(folder, case):
    layout, kind = LAYOUTS[case.layout], KINDS[case.kind]
    for number, groups in enumerate(case.files):
        parts = [table(layout, kind, group) for group in groups]
        schema = table(layout, kind, []).schema
        file = folder / f"{number}.parquet"
        with pq.ParquetWriter(file, schema, write_statistics=case.statistics) as writer:
            for part in parts:
                writer.write_table(part)
    return folder / "*.parquet"


def table(layout, kind, rows):
    columns = {
        "image_id": pa.array([row.image_id for row in rows], pa.string()),
        **layout.columns([row.probs for row in rows], kind),
    }
    if layout.objects:
        columns["score"] = pa.array([row.score for row in rows], kind)
        columns["category"] = pa.array([row.category for row in rows], pa.string())
        columns["box"] = pa.array([row.box for row in rows], pa.list_(kind))
    return pa.table(columns)


def outcome(make, case):
    """The tables of a pool, or what it says why there is none."""
    try:
        store = make()
        found = tables(store, case.rules, case.limit)
    except (PredictionReadError, PoolStateError) as error:
        return None, str(error)
    for file, rows, scored, refused in store.rows(ROWS_PER_FILE):
        assert rows == pq.read_metadata(file).num_rows == scored + refused
    return found, None


def check(case, engine=None):
    options = LAYOUTS[case.layout].options
    with tempfile.TemporaryDirectory() as name, pytest.MonkeyPatch.context() as patch:
        path = write(Path(name), case)
        expected, fault = outcome(
            lambda: copied(path, case.rules, manifest=case.manifest, **options), case
        )
        for place, size in {
            (limits, "DEFAULT_BATCH_ROWS"): case.rows,
            (parquet, "DEFAULT_BATCH_ROWS"): case.rows,
            (stream, "SMALL_BATCH_ROWS"): case.rows,
            (file_scores, "ROWS_BETWEEN_BUCKETS"): case.rows,
            (scored_files, "ROWS_PER_BUCKET"): case.rows,
            (best_images, "BEST_IMAGES"): case.best,
            (best_images, "IMAGES_WITH_PREDICTIONS"): case.best,
        }.items():
            patch.setattr(*place, size)
        before = numba.get_num_threads()
        numba.set_num_threads(case.threads)
        try:
            found, words = outcome(
                lambda: in_place(
                    path,
                    Path(name) / "storage",
                    case.rules,
                    manifest=case.manifest,
                    engine=engine or InThisProcess(),
                    **options,
                ),
                case,
            )
        finally:
            numba.set_num_threads(before)
    assert words == fault
    if expected is not None:
        assert_equal(found, expected)


ALL = [[Row(one, probs) for one in IDS] for probs in ([0.5, 0.25, 0.25], [0.2, 0.2, 0.6])]


SCORES_OF_UNKNOWN_IMAGES = Case(
    "scores",
    "half",
    [[[Row("A", None), Row("b", None)], [Row("b", None), Row("b", None)]]],
    rules=Rules(task="detection", in_manifest=True),
    manifest=["A"],
)
"""Predictions without class probabilities, of which the manifest does not know the most."""

QUICK = {
    "deadline": None,
    "suppress_health_check": [HealthCheck.too_slow, HealthCheck.large_base_example],
}


@settings(max_examples=2, **QUICK)
@given(case=cases())
@example(Case("lists", "float", [[ALL[0]], [[], ALL[1]], []]))
@example(SCORES_OF_UNKNOWN_IMAGES)
@example(Case("lists", "double", [ALL], manifest=IDS[1::2], rules=Rules(in_manifest=True)))
def test_a_set_is_equal(case):
    check(case)


@pytest.mark.slow
@settings(max_examples=EXAMPLES, **QUICK)
@given(case=cases())
def test_many_sets_are_equal(case):
    check(case)


@pytest.mark.slow
@settings(max_examples=max(4, EXAMPLES // 10), **QUICK)
@given(case=cases())
def test_a_set_by_two_processes_is_equal(case):
    check(case, LocalWorkers(2))
