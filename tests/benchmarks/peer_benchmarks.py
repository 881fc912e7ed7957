"""The same scores from what a user would take instead."""

import os
from collections.abc import Callable, Iterator, Mapping
from functools import reduce
from importlib import import_module
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from dagster_active_learning import score_images
from dagster_active_learning.acquisition.kernels import score_class_probs
from measuring import Settings, Table, in_turn, installed, milliseconds, times_in_turn

FUNCTIONS = ("entropy", "least_confidence", "margin", "variance")
ALL = "all functions and validity"

TARGETS = {"NumPy, in blocks": 6, "polars, a column a class": 12}
"""How many times as fast `score_images` ought to be as a peer that is fast itself."""

ClassProbs = npt.NDArray[np.float32]
Metrics = Mapping[str, tuple[Callable[[], Any], Callable[[Any], Any]]]
"""How to get each metric, and what makes the package's numbers of it; only the first is timed."""


def tables(settings: Settings) -> Iterator[Table]:
    n_images, n_classes = (20_000 if settings.quick else 1_000_000), 10
    class_probs = (
        np.random.default_rng(0).dirichlet(np.ones(n_classes), n_images).astype(np.float32)
    )
    scores = score_images(class_probs)
    rows: list[list[str]] = []
    fastest: list[tuple[float, str]] = []
    for name, peer in PEERS.items():
        try:
            metrics = peer(class_probs)
        except ImportError as error:
            rows.append([name, f"absent: {error}", "", "", "", ""])
            continue
        for metric, (call, as_ours) in metrics.items():
            _compare(f"{name}, {metric}", as_ours(call()), metric, scores)
        calls = [call for call, _ in metrics.values()]
        ours, *seconds = in_turn([lambda: score_images(class_probs), *calls], settings.runs)
        timed = dict(zip(metrics, seconds, strict=True))
        if len(timed) > 1:
            timed["sum of these"] = sum(seconds)
        target = f">= {TARGETS[name]}x" if name in TARGETS else ""
        rows += [
            [name, metric, milliseconds(took), milliseconds(ours), f"{took / ours:.1f}x", target]
            for metric, took in timed.items()
        ]
        whole = list(timed)[-1]
        fastest.append((timed[whole] / ours, name))
    ratio, name = min(fastest)
    yield Table(
        f"Peers: {n_images:,} x {n_classes} float32",
        "`score_images` computes all functions and the validity in one call; its time stands beside "
        "that of each peer's metric. Results are compared before anything is timed. "
        f"scikit-activeml {installed('scikit-activeml')}, modAL {installed('modAL-python')}, "
        f"cleanlab {installed('cleanlab')}. The fastest for all that it has is {name}: "
        f"{ratio:.1f}x.",
        ("peer", "metric", "its time", "`score_images`", "times as fast", "target"),
        rows,
    )
    yield _beside_its_kernel(class_probs, settings)


def _beside_its_kernel(class_probs: ClassProbs, settings: Settings) -> Table:
    kernel, whole = times_in_turn(
        [lambda: score_class_probs(class_probs), lambda: score_images(class_probs)], settings.runs
    )
    return Table(
        f"`score_images` beside its kernel: {len(class_probs):,} x {class_probs.shape[1]} float32",
        "What the ids, the counts and the data frame add to `score_class_probs`.",
        ("time", "kernel", "`score_images`", "ratio", "target"),
        [
            [what, milliseconds(least), milliseconds(took), f"{took / least:.2f}x", "<= 1.1x"]
            for what, least, took in (
                ("wall", kernel.wall, whole.wall),
                ("CPU", kernel.cpu, whole.cpu),
            )
        ],
    )


def _compare(what: str, values: Any, metric: str, scores: pl.DataFrame) -> None:
    """Check a peer's numbers, which are those of all functions or of one of them."""
    columns = FUNCTIONS if metric == ALL else (metric,)
    values = [values] if metric != ALL else values
    for column, numbers in zip(columns, values, strict=True):
        np.testing.assert_allclose(
            np.asarray(numbers, np.float64), scores[column], atol=1e-5, err_msg=what
        )


def _numpy(class_probs: ClassProbs) -> Metrics:
    """The formulas as they are written down."""

    def scores() -> tuple[npt.NDArray[np.float32], ...]:
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

    return {ALL: (scores, tuple)}


def _numpy_in_blocks(class_probs: ClassProbs, block_rows: int = 8192) -> Metrics:
    """What somebody writes who knows NumPy well: class after class, in blocks that stay in cache."""

    def scores() -> npt.NDArray[np.float64]:
        results = np.empty((len(FUNCTIONS), len(class_probs)))
        for start in range(0, len(class_probs), block_rows):
            block = np.ascontiguousarray(class_probs[start : start + block_rows].T)
            largest, second = np.maximum(block[0], block[1]), np.minimum(block[0], block[1])
            for probs in block[2:]:
                np.maximum(second, np.minimum(largest, probs), out=second)
                np.maximum(largest, probs, out=largest)
            total = block.sum(axis=0)
            # NaN and infinity fail these comparisons, too.
            valid = (block.min(axis=0) >= -1e-3) & (largest <= 1 + 1e-3) & (abs(total - 1) <= 1e-3)
            if not valid.all():
                raise ValueError("invalid class probabilities")
            positive = np.where(block > 0, block, 1)
            result = results[:, start : start + block_rows]
            result[0] = -(positive * np.log2(positive)).sum(axis=0)
            result[1] = 1 - largest
            result[2] = largest - second
            result[3] = block.var(axis=0)
        return results

    return {ALL: (scores, tuple)}


def _scikit_activeml(class_probs: ClassProbs) -> Metrics:
    scores = import_module("skactiveml.pool").uncertainty_scores
    return {
        "entropy": (lambda: scores(class_probs, method="entropy"), lambda nats: nats / np.log(2)),
        "least_confidence": (lambda: scores(class_probs, method="least_confident"), np.asarray),
        "margin": (
            lambda: scores(class_probs, method="margin_sampling"),
            lambda uncertainty: 1 - uncertainty,
        ),
    }


def _modal(class_probs: ClassProbs) -> Metrics:
    modal = import_module("modAL.uncertainty")

    class Classifier:
        """modAL asks a classifier; this one answers at once."""

        def predict_proba(self, X: ClassProbs) -> ClassProbs:  # noqa: N803
            return X

    known = Classifier()
    return {
        "entropy": (
            lambda: modal.classifier_entropy(known, class_probs),
            lambda nats: nats / np.log(2),
        ),
        "least_confidence": (
            lambda: modal.classifier_uncertainty(known, class_probs), np.asarray,
        ),
        "margin": (lambda: modal.classifier_margin(known, class_probs), np.asarray),
    }  # fmt: skip


def _cleanlab(class_probs: ClassProbs) -> Metrics:
    """Its quality of the most probable labels, whose search is counted once: least confidence."""
    rank = import_module("cleanlab.rank")
    entropy = import_module("cleanlab.internal.label_quality_utils").get_normalized_entropy
    labels = class_probs.argmax(axis=1)
    return {
        "entropy": (
            lambda: entropy(class_probs),
            lambda normalized: normalized * np.log2(class_probs.shape[1]),
        ),
        "least_confidence": (
            lambda: rank.get_self_confidence_for_each_label(
                class_probs.argmax(axis=1), class_probs
            ),
            lambda confidence: 1 - confidence,
        ),
        "margin": (
            lambda: rank.get_normalized_margin_for_each_label(labels, class_probs),
            lambda normalized: 2 * normalized - 1,
        ),
    }


def _entropy_terms(probs: pl.Expr) -> pl.Expr:
    return -probs * probs.clip(1e-30, 1).log(2)


def _two_largest(columns: list[pl.Expr]) -> tuple[pl.Expr, pl.Expr]:
    return reduce(
        lambda two, probs: (
            pl.max_horizontal(two[0], probs),
            pl.max_horizontal(two[1], pl.min_horizontal(two[0], probs)),
        ),
        columns[2:],
        (pl.max_horizontal(columns[:2]), pl.min_horizontal(columns[:2])),
    )


def _is_valid(smallest: pl.Expr, largest: pl.Expr, total: pl.Expr) -> pl.Expr:
    inside = (smallest >= -1e-3) & (largest <= 1 + 1e-3) & ((total - 1).abs() <= 1e-3)
    return inside.all().alias("valid")


def _collected(frame: pl.LazyFrame) -> pl.DataFrame:
    result = frame.collect()
    if not result["valid"][0]:
        raise ValueError("invalid class probabilities")
    return result


def _polars_array(class_probs: ClassProbs) -> Metrics:
    """One column of arrays, and the functions that polars has for them."""
    probs = pl.col("class_probs")
    columns = [probs.arr.get(position) for position in range(class_probs.shape[1])]
    largest, second = _two_largest(columns)
    frame = pl.DataFrame({"class_probs": pl.Series(class_probs)})
    query = frame.lazy().select(
        entropy=probs.arr.eval(_entropy_terms(pl.element())).arr.sum(),
        least_confidence=1 - largest,
        margin=largest - second,
        variance=probs.arr.var(ddof=0),
        valid=_is_valid(probs.arr.min(), largest, probs.arr.sum()),
    )
    return {ALL: (lambda: _collected(query), lambda frame: frame.select(FUNCTIONS))}


def _polars_wide(class_probs: ClassProbs) -> Metrics:
    """A column a class."""
    names = [f"p{position}" for position in range(class_probs.shape[1])]
    columns = [pl.col(name) for name in names]
    largest, second = _two_largest(columns)
    query = (
        pl.DataFrame(class_probs, schema=names)
        .lazy()
        .with_columns(total=pl.sum_horizontal(columns))
        .select(
            entropy=pl.sum_horizontal([_entropy_terms(probs) for probs in columns]),
            least_confidence=1 - largest,
            margin=largest - second,
            variance=pl.sum_horizontal(
                [(probs - pl.col("total") / len(names)).pow(2) for probs in columns]
            )
            / len(names),
            valid=_is_valid(pl.min_horizontal(columns), largest, pl.col("total")),
        )
    )
    return {ALL: (lambda: _collected(query), lambda frame: frame.select(FUNCTIONS))}


def _duckdb(class_probs: ClassProbs) -> Metrics:
    """A table in memory with a column of lists; the fastest of DuckDB's functions for each score."""
    duckdb = import_module("duckdb")
    connection = duckdb.connect(config={"threads": min(2, os.cpu_count() or 1)})
    frame = pl.DataFrame({"class_probs": pl.Series(class_probs)})
    connection.register("frame", frame.to_arrow())
    connection.execute("CREATE TABLE predictions AS SELECT class_probs::FLOAT[] p FROM frame")
    query = """
        SELECT
            -list_sum(list_transform(p, lambda x: CASE WHEN x > 0 THEN x * log2(x) ELSE 0 END))
                AS entropy,
            1 - largest[1] AS least_confidence,
            largest[1] - largest[2] AS margin,
            list_var_pop(p) AS variance,
            list_min(p) >= -1e-3 AND largest[1] <= 1 + 1e-3 AND abs(list_sum(p) - 1) <= 1e-3
                AS valid
        FROM (SELECT p, list_aggregate(p, 'max', 2) AS largest FROM predictions)
    """

    def scores() -> pl.DataFrame:
        result = connection.sql(query).pl()
        if not result["valid"].all():
            raise ValueError("invalid class probabilities")
        return result

    return {ALL: (scores, lambda frame: frame.select(FUNCTIONS))}


PEERS: Mapping[str, Callable[[ClassProbs], Metrics]] = {
    "NumPy, the formulas": _numpy,
    "NumPy, in blocks": _numpy_in_blocks,
    "scikit-activeml": _scikit_activeml,
    "modAL": _modal,
    "cleanlab": _cleanlab,
    "polars, a column of arrays": _polars_array,
    "polars, a column a class": _polars_wide,
    "DuckDB, list functions": _duckdb,
}
