"""Histograms of the scores of the images to choose from."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from dagster_active_learning.rules import Rules
from dagster_active_learning.store.image_scores import score_columns, unlabeled_scores
from dagster_active_learning.store.pool_store import PoolStore
from dagster_active_learning.store.score_counts import (
    ScoreBins,
    bin_exponent,
    count_scores,
    histogram,
)
from dagster_active_learning.store.score_statistics import (
    counts_of_scores,
    has_scores_of_manifest,
    score_ends,
)
from dagster_active_learning.store.set_rows import of_sets

# All functions at once: the images to choose from are looked up once.
SCORE_BINS = """
WITH binned AS (SELECT {bins} {unlabeled})
SELECT {columns}, {is_of_other}, count(*) FROM binned GROUP BY GROUPING SETS ({sets})
"""

LABELED_IMAGES = "SELECT coalesce(list(image_id), []) FROM images WHERE labeled"

# Written out: of files at addresses DuckDB reads twice as much where a join may pass over rows.
LABELED_SCORES = """
SELECT {scores} FROM {{image_scores}} WHERE list_contains($labeled, image_id)
"""


def score_bins(
    store: PoolStore, prediction_set: str, functions: Sequence[str], rules: Rules
) -> Mapping[str, ScoreBins]:
    """The scores of the images to choose from in bins of equal width, of functions that have any.

    Images to choose from have no label and, with a manifest, still are in it. The bins reach from
    the lowest to the highest score of all images. Of a set in place the scores of all images are
    counted already, and those of labeled images alone are read.
    """
    scores = score_columns(store, functions)
    counts = counts_of_scores(store, prediction_set)
    if counts is not None and not rules.in_manifest:
        return {name: counts[name].histogram for name in functions if name in counts}
    if counts is not None and has_scores_of_manifest(store, prediction_set):
        query = of_sets(store, [prediction_set], LABELED_SCORES.format(scores=", ".join(scores)))
        ((image_ids,),) = store.rows(LABELED_IMAGES)
        rows = store.relation(query, labeled=image_ids).to_arrow_table()
        labeled = count_scores(rows, functions)
        return {
            name: counts[name].histogram_without(labeled.get(name))
            for name in functions
            if name in counts
            and (name not in labeled or labeled[name].number < counts[name].number)
        }
    ends: dict[str, tuple[float, float]] = {}
    columns: dict[str, str] = {}
    scales: dict[str, float] = {}
    all_ends = score_ends(store, prediction_set, functions)
    for name, score, (low, high) in zip(functions, scores, all_ends, strict=True):
        if low is None or high is None or not (math.isfinite(low) and math.isfinite(high)):
            continue
        number = len(ends)
        ends[name] = low, high
        columns[f"bin{number}"] = f"floor({score} * $scale{number})::BIGINT"
        scales[f"scale{number}"] = 2.0 ** -bin_exponent(low, high)
    if not ends:
        return {}
    query = SCORE_BINS.format(
        bins=", ".join(f"{value} AS {column}" for column, value in columns.items()),
        columns=", ".join(columns),
        is_of_other=", ".join(f"grouping({column})" for column in columns),
        sets=", ".join(f"({column})" for column in columns),
        unlabeled=unlabeled_scores(rules),
    )
    places: list[dict[int, int]] = [{} for _ in columns]
    for *row, count in store.rows(of_sets(store, [prediction_set], query), **scales):
        of_function = row[len(columns) :].index(0)
        # Images without a score are in no bin.
        if (place := row[of_function]) is not None:
            places[of_function][place] = count
    return {
        name: histogram(low, high, found)
        for (name, (low, high)), found in zip(ends.items(), places, strict=True)
        if found
    }
