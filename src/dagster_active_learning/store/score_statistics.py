"""The scores of a prediction set in numbers: of sets in place those that were counted before."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from dagster_active_learning.acquisition.functions import ACQUISITION_FUNCTIONS
from dagster_active_learning.rules import Rules
from dagster_active_learning.store.image_scores import score_columns, unlabeled_scores
from dagster_active_learning.store.images import image_counts, manifest_hash
from dagster_active_learning.store.in_place_sets import keep_statistics, kept_statistics
from dagster_active_learning.store.pool_store import PoolStore
from dagster_active_learning.store.score_counts import ScoreCounts, join_counts
from dagster_active_learning.store.set_rows import of_sets


def has_scores(store: PoolStore, prediction_set: str) -> bool:
    """True if a prediction set has been scored."""
    if (kept := kept_statistics(store, prediction_set)) is not None:
        return kept["images"] > 0
    query = of_sets(store, [prediction_set], "SELECT EXISTS (FROM {image_scores})")
    return store.rows(query)[0][0]


def has_scores_of_manifest(store: PoolStore, prediction_set: str) -> bool:
    """Whether it is known, without a look at them, that the manifest's images alone have scores."""
    kept = kept_statistics(store, prediction_set)
    return kept is not None and kept.get("manifest") == manifest_hash(store)


def unlabeled_count(store: PoolStore, prediction_set: str, rules: Rules) -> int:
    """Number of images with scores that have no label yet and, with a manifest, still are in it."""
    if rules.in_manifest and has_scores_of_manifest(store, prediction_set):
        counts = image_counts(store)
        return counts.images - counts.labeled
    kept = kept_statistics(store, prediction_set)
    if kept is not None and not rules.in_manifest:
        return kept["images"]
    query = f"SELECT count(*) {unlabeled_scores(rules)}"
    return store.rows(of_sets(store, [prediction_set], query))[0][0]


@dataclass(frozen=True)
class ScoreStatistics:
    """The scores of a prediction set, in numbers.

    Attributes:
        images: Images with a row of scores.
        without_predictions: Those of them that have no prediction.
        means: The mean score by each acquisition function, None if no image has one.
        counts: Of a set in place what was counted of its scores, and of ``prediction_count`` where
            that is not 0; None where that was not done.
        manifest: The ``manifest_hash`` of the images that have scores, None without a manifest.
    """

    images: int
    without_predictions: int
    means: Mapping[str, float | None]
    counts: Mapping[str, ScoreCounts] | None = None
    manifest: str | None = None


SCORE_STATISTICS = """
SELECT count(*), count(*) FILTER (prediction_count = 0), {means} FROM {{image_scores}}
"""


def score_statistics(store: PoolStore, prediction_set: str) -> ScoreStatistics:
    """The scores of a prediction set, in numbers."""
    kept = kept_statistics(store, prediction_set)
    if kept is not None and kept["means"].keys() == ACQUISITION_FUNCTIONS.keys():
        numbers = (kept["images"], kept["without_predictions"], kept["means"])
        return ScoreStatistics(*numbers, _counts(kept), kept.get("manifest"))
    return _count_scores(store, prediction_set)


def counts_of_scores(store: PoolStore, prediction_set: str) -> Mapping[str, ScoreCounts] | None:
    """What was counted of the scores of a set in place; None where they are to be read."""
    kept = kept_statistics(store, prediction_set)
    return None if kept is None else _counts(kept)


def _counts(kept: Mapping[str, Any]) -> Mapping[str, ScoreCounts] | None:
    counts = kept["counts"]
    return None if counts is None else join_counts([counts])


def keep_score_statistics(
    store: PoolStore,
    prediction_set: str,
    counts: Mapping[str, ScoreCounts] | None,
    *,
    images: int,
    without_predictions: int,
    in_manifest: bool,
) -> None:
    """Keep the scores of a set that is read in place in numbers, so that nothing counts them.

    Args:
        store: The pool.
        prediction_set: Name of the set.
        counts: What was counted of all its scores; without it they are read here, once.
        images: Images with a row of scores.
        without_predictions: Those of them that have no prediction.
        in_manifest: Whether they are the images of the manifest.
    """
    if counts is None:
        statistics = _count_scores(store, prediction_set)
    else:
        means = {
            name: counts[name].mean if name in counts else None for name in ACQUISITION_FUNCTIONS
        }
        statistics = ScoreStatistics(images, without_predictions, means, counts)
    if in_manifest:
        statistics = replace(statistics, manifest=manifest_hash(store))
    keep_statistics(store, prediction_set, asdict(statistics))


def _count_scores(store: PoolStore, prediction_set: str) -> ScoreStatistics:
    functions = [*ACQUISITION_FUNCTIONS]
    columns = score_columns(store, functions)
    # The error of a sum by avg() depends on the order of the threads.
    means = ", ".join(f"fsum({column}) / count({column})" for column in columns)
    query = of_sets(store, [prediction_set], SCORE_STATISTICS.format(means=means))
    ((images, without, *values),) = store.rows(query)
    return ScoreStatistics(images, without, dict(zip(functions, values, strict=True)))


# Of all images: to look up those to choose from takes seconds for ten million.
SCORE_ENDS = "SELECT {ends} FROM {{image_scores}}"


def score_ends(
    store: PoolStore, prediction_set: str, functions: Sequence[str]
) -> list[tuple[float | None, float | None]]:
    """The lowest and the highest score of a set by each function, None if no image has one."""
    counts = counts_of_scores(store, prediction_set)
    if counts is not None:
        found = (counts.get(name) for name in functions)
        return [(None, None) if one is None else (one.lowest, one.highest) for one in found]
    columns = score_columns(store, functions)
    query = SCORE_ENDS.format(ends=", ".join(f"min({one}), max({one})" for one in columns))
    (ends,) = store.rows(of_sets(store, [prediction_set], query))
    return list(zip(ends[::2], ends[1::2], strict=True))


@dataclass(frozen=True)
class MemberCounts:
    """The members of a committee.

    Attributes:
        members: How many most images have, 0 without an image.
        most: The largest number that an image has.
        images_with_fewer: Images with fewer members than most have, and not without any.
    """

    members: int
    most: int
    images_with_fewer: int


MEMBER_COUNTS = """
WITH counted AS (
    SELECT prediction_count, count(*) AS images FROM {image_scores}
    WHERE prediction_count > 0 GROUP BY prediction_count
),
usual AS (SELECT max_by(prediction_count, (images, prediction_count)) AS members FROM counted)
SELECT coalesce(any_value(members), 0), coalesce(max(prediction_count), 0),
    coalesce(sum(images) FILTER (prediction_count < members), 0)::BIGINT
FROM counted, usual
"""


def member_counts(store: PoolStore, prediction_set: str) -> MemberCounts:
    """The members of a scored committee, and of how many images some are missing."""
    counts = (counts_of_scores(store, prediction_set) or {}).get("prediction_count")
    if counts is not None and (numbers := counts.whole_numbers):
        members = max(numbers, key=lambda number: (numbers[number], number))
        fewer = sum(images for number, images in numbers.items() if number < members)
        return MemberCounts(members, max(numbers), fewer)
    return MemberCounts(*store.rows(of_sets(store, [prediction_set], MEMBER_COUNTS))[0])
