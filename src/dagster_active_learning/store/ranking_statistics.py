"""The table ``ranking_statistics``: what each ranking was like, also once it is replaced."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from dagster_active_learning.errors import PoolStateError
from dagster_active_learning.store.pool_store import PoolStore
from dagster_active_learning.store.pools import Database, existing_pool

if TYPE_CHECKING:
    import polars as pl


@dataclass(frozen=True, kw_only=True)
class RankingStatistics:
    """A ranking in numbers; the table's comments say what each is."""

    prediction_set: str
    acquisition_function: str
    candidate_count: int
    image_count: int
    score_at_cut: float | None
    uncertainty_at_cut: float | None
    mean_uncertainty: float | None


DELETE_STATISTICS = """
DELETE FROM ranking_statistics s USING prediction_sets d
WHERE d.prediction_set = $prediction_set AND s.prediction_set = d.prediction_set
    AND s.predictions_generation = d.generation
    AND s.acquisition_function = $acquisition_function
"""

# Predictions without a class are in no share: the shares sum to less than 1 then.
INSERT_STATISTICS = """
INSERT INTO ranking_statistics BY NAME
SELECT d.prediction_set, $acquisition_function AS acquisition_function,
    d.generation AS predictions_generation, d.model, d.prediction_count,
    $candidate_count AS candidate_count, $image_count AS image_count,
    $score_at_cut::DOUBLE AS score_at_cut, $uncertainty_at_cut::DOUBLE AS uncertainty_at_cut,
    $mean_uncertainty::DOUBLE AS mean_uncertainty,
    coalesce((
        SELECT map(
            list(class ORDER BY class), list(predictions / d.prediction_count ORDER BY class)
        )
        FROM predicted_classes p WHERE p.prediction_set = d.prediction_set AND class IS NOT NULL
    ), MAP {}) AS class_shares,
    $run_id AS run_id, now() AS ranked_at
FROM prediction_sets d WHERE d.prediction_set = $prediction_set
"""


def record_statistics(store: PoolStore, rankings: Sequence[RankingStatistics], run_id: str) -> None:
    """Keep what rankings of the predictions that are stored now are like.

    They take the place of those of the same predictions, and of no others: predictions that were
    read again are others.
    """
    for ranking in rankings:
        values = asdict(ranking)
        names = ("prediction_set", "acquisition_function")
        store.connection.execute(DELETE_STATISTICS, {name: values[name] for name in names})
        store.connection.execute(INSERT_STATISTICS, {**values, "run_id": run_id})


LAST_STATISTICS = """
SELECT prediction_set, prediction_count, image_count, mean_uncertainty, uncertainty_at_cut,
    class_shares
FROM ranking_statistics
WHERE acquisition_function = $acquisition_function AND predictions_generation <= (
    SELECT max(predictions_generation) FROM ranking_statistics
    WHERE acquisition_function = $acquisition_function AND prediction_set = $prediction_set
)
QUALIFY NOT $one_per_set OR predictions_generation = max(predictions_generation)
    OVER (PARTITION BY prediction_set)
ORDER BY predictions_generation DESC LIMIT $count + 1
"""


@dataclass(frozen=True)
class KeptRanking:
    """A ranking as it was.

    Attributes:
        prediction_set: The set that was ranked.
        prediction_count: Its predictions.
        image_count: Its images to choose from.
        mean_uncertainty: The mean uncertainty of its images, None if none has a score.
        uncertainty_at_cut: The uncertainty of the last candidate.
        class_shares: The share of the predictions that each class has.
    """

    prediction_set: str
    prediction_count: int
    image_count: int
    mean_uncertainty: float | None
    uncertainty_at_cut: float | None
    class_shares: Mapping[str, float]


def last_rankings(
    store: PoolStore, prediction_set: str, function: str, count: int, *, one_per_set: bool
) -> list[KeptRanking]:
    """The newest ranking of a set by a function, and up to ``count`` of what was read before it.

    Args:
        store: The pool.
        prediction_set: The set.
        function: The name of the acquisition function.
        count: The most rankings before it.
        one_per_set: Whether what was read before are other sets, of each the newest reading;
            otherwise all readings count, those of the set itself too.
    """
    values = {
        "prediction_set": prediction_set,
        "acquisition_function": function,
        "count": count,
        "one_per_set": one_per_set,
    }
    return [KeptRanking(*row) for row in store.rows(LAST_STATISTICS, **values)]


COMPARED = """
SELECT * EXCLUDE (generation_before, generation_after, sets_between) FROM prediction_set_changes
WHERE generation_before = $before AND generation_after = $after
ORDER BY acquisition_function
"""

READINGS = """
SELECT predictions_generation, any_value(prediction_set) AS prediction_set FROM ranking_statistics
GROUP BY predictions_generation ORDER BY predictions_generation DESC
"""


def compare_prediction_sets(
    database: Database, *, pool: str, before: str | None = None, after: str | None = None
) -> pl.DataFrame:
    """How the rankings of two prediction sets differ, by numbers that were kept of them.

    No predictions are read, and the one before may be gone: predictions that were read again, such
    as those of a pool without partitions, are compared with what they were before.

    Args:
        database: The path of the database, opened read-only and closed again, or an open
            connection, which is left as it is.
        pool: The pool's name.
        before: Name of the prediction set to compare with; by default what was read before
            ``after``.
        after: Name of the prediction set; by default the one that was read last.

    Returns:
        One row per acquisition function, with before, after (the names of the sets), model_before,
        model_after, and of both: mean_uncertainty (0..1, of all images), uncertainty_at_cut and
        score_at_cut (of the last candidate), class_shares (of the predictions); class_distance is
        the total variation of the shares, 0..1.

    Raises:
        PoolStateError: If the database does not have the pool, or the pool no such sets that were
            ranked.

    Example:
        >>> compared = compare_prediction_sets("labeling.duckdb", pool="cameras")
        >>> compared.select("before", "after", "class_distance").row(0)
        ('2026-05', '2026-06', 0.25)
    """
    with existing_pool(database, pool) as store:
        readings: list[tuple[int, str]] = store.rows(READINGS)
        newest = _reading(store, readings, after)
        older = [each for each in readings if each[0] < newest]
        values = {"after": newest, "before": _reading(store, older, before)}
        return store.relation(COMPARED, **values).pl()


def _reading(store: PoolStore, readings: Sequence[tuple[int, str]], name: str | None) -> int:
    """The newest of the readings, or of those of a set."""
    found = [generation for generation, each in readings if name in (None, each)]
    if not found:
        which = "prediction set" if name is None else f"prediction set {name!r}"
        raise PoolStateError(
            f"pool {store.pool!r} has no {which} to compare that was ranked before, it has "
            f"{sorted({each for _, each in readings})}: materialize its candidates first, or name "
            "another one"
        )
    return found[0]


DELETE_OF_SET = "DELETE FROM ranking_statistics WHERE prediction_set = $prediction_set"


def delete_statistics(store: PoolStore, prediction_set: str) -> None:
    """Forget what the rankings of a set were like."""
    store.connection.execute(DELETE_OF_SET, {"prediction_set": prediction_set})
