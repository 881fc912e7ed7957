"""The check that a ranking is like those of the prediction sets before it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import dagster as dg

from dagster_active_learning.definitions.checks.check import WARN, CheckRun, check
from dagster_active_learning.definitions.metadata.tables import rounded
from dagster_active_learning.text import shown

if TYPE_CHECKING:
    from dagster_active_learning.store.ranking_statistics import KeptRanking

CLASS_BYTES = 60

SETS_BEFORE = 5
"""Prediction sets that a ranking is compared with, by their mean.

In a pool without partitions, which has one set, they are readings of it.
"""


@check(
    "like_the_sets_before",
    lambda pool: (
        None
        if pool.max_jump is None
        else "Mean uncertainty, uncertainty at the cut and class shares are within "
        f"{pool.max_jump:g} of their mean in the last {SETS_BEFORE} "
        f"{'other prediction sets' if pool.partitioned else 'readings of the predictions'}."
    ),
)
def like_the_sets_before(run: CheckRun) -> dg.AssetCheckResult:
    """Prediction sets of which the model is more or less sure, or sees other classes."""
    from dagster_active_learning.store.ranking_statistics import last_rankings

    most = run.pool.max_jump
    if most is None:
        return run.result(False, "the pool watches no jumps any more", {}, severity=WARN)
    rows: list[dict[str, Any]] = []
    for name in run.names:
        found = last_rankings(
            run.store, name, str(run.function), SETS_BEFORE, one_per_set=run.pool.partitioned
        )
        if len(found) > 1:
            rows += jumps(found[0], found[1:])
    above = [row for row in rows if row["jump"] > most]
    largest = max((row["jump"] for row in rows), default=0.0)
    if not rows:
        return run.result(True, "there is no prediction set before to compare with", {})
    said = "; ".join(
        f"{row['what']} is {row['now']:.3f} and was {row['before']:.3f}" for row in above[:3]
    )
    return run.result(
        not above,
        said or f"nothing changed by more than {largest:.3f}, and {most:g} may be",
        {"largest_jump": rounded(largest)},
        above,
        WARN,
    )


def jumps(ranking: KeptRanking, before: Sequence[KeptRanking]) -> list[dict[str, Any]]:
    """How far a ranking is from the mean of some before it, each on a scale of 0 to 1.

    Few images and predictions differ by chance: what is expected of two samples of one distribution
    does not count. No predictions, where there were some before, are as far away as can be.
    """
    rows: list[dict[str, Any]] = []
    for what in ("mean_uncertainty", "uncertainty_at_cut"):
        now = getattr(ranking, what)
        earlier = [value for each in before if (value := getattr(each, what)) is not None]
        if now is not None and earlier:
            mean = sum(earlier) / len(earlier)
            # A value between 0 and 1 has a variance of 1/4 at the most.
            images = sum(each.image_count for each in before)
            by_chance = _by_chance(0.25, images, ranking.image_count)
            rows.append(
                {
                    "prediction_set": ranking.prediction_set,
                    "what": what,
                    "before": mean,
                    "now": now,
                    "jump": max(0.0, abs(now - mean) - by_chance),
                }
            )
    count = sum(each.prediction_count for each in before)
    if count and not ranking.prediction_count:
        rows.append(
            {
                "prediction_set": ranking.prediction_set,
                "what": "share of the usual number of predictions",
                "before": 1.0,
                "now": 0.0,
                "jump": 1.0,
            }
        )
    elif count and any(each.class_shares for each in before):
        distance, by_class = _distance(ranking, before, count)
        name = max(by_class, key=lambda each: abs(by_class[each]))
        now = ranking.class_shares.get(name, 0.0)
        rows.append(
            {
                "prediction_set": ranking.prediction_set,
                "what": f"share of class {shown(name, CLASS_BYTES)!r}",
                "before": now - by_class[name],
                "now": now,
                "jump": distance,
            }
        )
    return rows


def _distance(
    ranking: KeptRanking, before: Sequence[KeptRanking], count: int
) -> tuple[float, Mapping[str, float]]:
    """The total variation of class shares beyond chance, and the difference of each class."""
    names = {*ranking.class_shares, *(name for each in before for name in each.class_shares)}
    by_class: dict[str, float] = {}
    by_chance = 0.0
    for name in names:
        earlier = (
            sum(each.class_shares.get(name, 0.0) * each.prediction_count for each in before) / count
        )
        by_class[name] = ranking.class_shares.get(name, 0.0) - earlier
        by_chance += _by_chance(earlier * (1 - earlier), count, ranking.prediction_count)
    distance = sum(map(abs, by_class.values())) / 2
    return max(0.0, distance - by_chance / 2), by_class


def _by_chance(variance: float, first: int, second: int) -> float:
    """The difference that is expected of the means of two samples of these sizes.

    It is the mean absolute value of a normal variable.
    """
    if not first or not second:
        return 1.0
    return math.sqrt(2 / math.pi * max(variance, 0.0) * (1 / first + 1 / second))
