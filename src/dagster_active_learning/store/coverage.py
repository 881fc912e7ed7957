"""The part of the manifest that prediction sets say something about."""

# Statements begin and end alike.
# ruff: noqa: S608

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from dagster_active_learning.limits import EXAMPLES
from dagster_active_learning.store.findings import first_rows
from dagster_active_learning.store.pool_store import PoolStore
from dagster_active_learning.store.score_statistics import has_scores_of_manifest
from dagster_active_learning.store.set_rows import of_sets


@dataclass(frozen=True)
class Coverage:
    """Images without a label, and those of them that a prediction set says nothing about."""

    prediction_set: str
    image_count: int
    without_count: int


# A labeled image is not in the queue, whether it has predictions or not.
UNLABELED_AND_SEEN = """
FROM (SELECT unnest($prediction_sets) AS prediction_set) s CROSS JOIN images i
LEFT JOIN (
    SELECT prediction_set, image_id FROM {predictions}
    UNION
    SELECT prediction_set, image_id FROM empty_images WHERE prediction_set IN $prediction_sets
) seen ON s.prediction_set = seen.prediction_set AND i.image_id = seen.image_id
WHERE NOT i.labeled
"""

COVERAGE = f"""
SELECT s.prediction_set, count(*) AS images, count(*) FILTER (seen.image_id IS NULL) AS without
{UNLABELED_AND_SEEN} GROUP BY s.prediction_set ORDER BY without DESC, s.prediction_set
"""

UNCOVERED_IMAGES = f"""
SELECT s.prediction_set, i.image_id, i.uri
{UNLABELED_AND_SEEN} AND seen.image_id IS NULL
ORDER BY s.prediction_set, i.image_id LIMIT $first
"""

# Of a set in place whose scores are of each image of the manifest: DuckDB reads the row groups that
# have images without predictions, by their bounds.
WITHOUT_PREDICTIONS = """
FROM {image_scores} s JOIN images i ON s.image_id = i.image_id
WHERE s.prediction_count = 0 AND NOT i.labeled
"""

COVERAGE_BY_SCORES = f"""
SELECT $prediction_set, (SELECT count(*) FROM images WHERE NOT labeled), count(*)
{WITHOUT_PREDICTIONS}
"""

UNCOVERED_BY_SCORES = f"""
SELECT s.prediction_set, i.image_id, i.uri {WITHOUT_PREDICTIONS}
ORDER BY i.image_id LIMIT $first
"""


def coverage(store: PoolStore, prediction_sets: Sequence[str]) -> list[Coverage]:
    """The part of the manifest that each set covers, the worst first."""
    scored, others = _with_scores(store, prediction_sets)
    found: list[Coverage] = []
    for name in scored:
        query = of_sets(store, [name], COVERAGE_BY_SCORES)
        found += [Coverage(*row) for row in store.rows(query, prediction_set=name)]
    if others:
        query = of_sets(store, others, COVERAGE)
        found += [Coverage(*row) for row in store.rows(query, prediction_sets=others)]
    return sorted(found, key=lambda one: (-one.without_count, one.prediction_set))


def uncovered_images(store: PoolStore, prediction_sets: Sequence[str]) -> list[dict[str, Any]]:
    """The first images of the manifest without a label that a set says nothing about."""
    scored, others = _with_scores(store, prediction_sets)
    found: list[dict[str, Any]] = []
    for name in scored:
        found += first_rows(store, of_sets(store, [name], UNCOVERED_BY_SCORES))
    if others:
        query = of_sets(store, others, UNCOVERED_IMAGES)
        found += first_rows(store, query, prediction_sets=others)
    return sorted(found, key=lambda one: (one["prediction_set"], one["image_id"]))[:EXAMPLES]


def _with_scores(store: PoolStore, prediction_sets: Sequence[str]) -> tuple[list[str], list[str]]:
    """The sets whose scores say which images have predictions, and the others."""
    scored = [name for name in prediction_sets if has_scores_of_manifest(store, name)]
    return scored, [name for name in prediction_sets if name not in scored]
