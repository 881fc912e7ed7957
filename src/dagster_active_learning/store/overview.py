"""A ranking as a whole: how it lies among all scores, what is in it, how it compares with others.

Everything here only reads, and counts in the database: what leaves it is small.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from dagster_active_learning.store import queries
from dagster_active_learning.store.pool_store import PoolStore, quoted


@dataclass(frozen=True)
class ScoreBins:
    """How many images have which score, as ``numpy.histogram`` says it.

    Attributes:
        counts: Images in each bin, shape (n_bins,).
        edges: The bins' edges, rising, shape (n_bins + 1,).
    """

    counts: npt.NDArray[np.int64]
    edges: npt.NDArray[np.float64]


@dataclass(frozen=True)
class FormerCandidates:
    """A ranking to compare another one with.

    Attributes:
        prediction_set: The set whose images were ranked.
        image_ids: The column image_id of the images.
    """

    prediction_set: str
    image_ids: pa.Table


def score_bins(store: PoolStore, prediction_set: str, function: str, bins: int) -> ScoreBins | None:
    """The scores of a prediction set's images in bins of equal width, None if there is none."""
    words = {"score": quoted(function)}
    values: dict[str, Any] = {"prediction_set": prediction_set}
    ((low, high),) = _rows(store, queries.SCORE_RANGE.format(**words), values)
    if low is None:
        return None
    edges = np.linspace(low, high, bins + 1)
    if (np.diff(edges) <= 0).any():
        # All scores are the same, or nearly.
        low, high = low - 0.5, high + 0.5
        edges = np.linspace(low, high, bins + 1)
    counts = np.zeros(bins, np.int64)
    of_bins = {**values, "low": low, "high": high, "bins": bins}
    for place, count in _rows(store, queries.SCORE_BINS.format(**words), of_bins):
        counts[place] = count
    return ScoreBins(counts, edges)


def candidates_by_class(
    store: PoolStore, prediction_set: str, function: str
) -> list[tuple[str | None, int]]:
    """How many candidates have which predicted class, the most frequent first."""
    return _rows(store, queries.CANDIDATES_BY_CLASS, _of_ranking(prediction_set, function))


def common_candidates(
    store: PoolStore, prediction_set: str, function: str, others: Sequence[str]
) -> Mapping[str, int]:
    """How many candidates each of the others has in common with this one, if it has any list."""
    values = {**_of_ranking(prediction_set, function), "others": list(others)}
    return dict(_rows(store, queries.AGREEMENT, values))


def candidates_without_predictions(store: PoolStore, prediction_set: str, function: str) -> int:
    """How many candidates have no predictions."""
    return _rows(store, queries.WITHOUT_PREDICTIONS, _of_ranking(prediction_set, function))[0][0]


def former_candidates(
    store: PoolStore, prediction_set: str, function: str, *, other_set: bool
) -> FormerCandidates | None:
    """The ranking before one that is to come.

    Args:
        store: The pool.
        prediction_set: The set that is to be ranked.
        function: The acquisition function.
        other_set: Whether it is that of the set that was read before this one, and not the one of
            this set that will be replaced.

    Returns:
        None if there is none or no image in it.
    """
    of_ranking = _of_ranking(prediction_set, function)
    if other_set:
        found = _rows(store, queries.SET_RANKED_BEFORE, of_ranking)
        if not found:
            return None
        ((prediction_set,),) = found
        of_ranking = _of_ranking(prediction_set, function)
    ids = store.connection.sql(queries.CANDIDATE_IDS, params=of_ranking).to_arrow_table()
    return FormerCandidates(prediction_set, ids) if ids.num_rows else None


def common_with(
    store: PoolStore, prediction_set: str, function: str, former: FormerCandidates
) -> int:
    """How many candidates a ranking has in common with a former one."""
    # The statement finds `incoming` as the variable of that name.
    incoming = former.image_ids  # noqa: F841 # pyright: ignore[reportUnusedVariable]
    values = _of_ranking(prediction_set, function)
    return store.connection.execute(queries.COMMON_CANDIDATES, values).fetchall()[0][0]


def predictions_of_first(
    store: PoolStore, prediction_set: str, functions: Sequence[str], first: int
) -> Mapping[str, pl.DataFrame]:
    """What the model said about the first candidates of some functions, by the image's id.

    The columns are class_probs, score, category and bbox, with a row a prediction in its order;
    images without predictions are left out.
    """
    values = _of_first(prediction_set, functions, first)
    rows = store.connection.sql(queries.PREDICTIONS_OF_FIRST, params=values).pl()
    by_image = rows.partition_by("image_id", as_dict=True, include_key=False)
    return {image_id: frame for (image_id,), frame in by_image.items()}


def quarantined_of_first(
    store: PoolStore, prediction_set: str, functions: Sequence[str], first: int
) -> set[str]:
    """Which of the first candidates of some functions have rows in quarantine."""
    values = _of_first(prediction_set, functions, first)
    return {image_id for (image_id,) in _rows(store, queries.QUARANTINED_OF_FIRST, values)}


def predictions_by_class(store: PoolStore, prediction_set: str) -> list[tuple[str | None, int]]:
    """How many predictions are for which class, the most frequent first."""
    return _rows(store, queries.PREDICTIONS_BY_CLASS, {"prediction_set": prediction_set})


def _of_ranking(prediction_set: str, function: str) -> dict[str, str]:
    return {"prediction_set": prediction_set, "acquisition_function": function}


def _of_first(prediction_set: str, functions: Sequence[str], first: int) -> dict[str, Any]:
    return {
        "prediction_set": prediction_set,
        "acquisition_functions": list(functions),
        "first": first,
    }


def _rows(store: PoolStore, query: str, values: Mapping[str, Any]) -> list[Any]:
    return store.connection.execute(query, dict(values)).fetchall()
