"""What checks find about candidates that should be others now."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from dagster_active_learning.acquisition.functions import AcquisitionFunction
from dagster_active_learning.limits import EXAMPLES
from dagster_active_learning.rules import Rules
from dagster_active_learning.store.findings import Findings, findings
from dagster_active_learning.store.image_scores import score_columns
from dagster_active_learning.store.in_place_views import BestImages, best_images
from dagster_active_learning.store.labeling_candidates import IS_DONE, RANKED_IMAGES, of_ranking
from dagster_active_learning.store.pool_store import PoolStore
from dagster_active_learning.store.schema import literal, with_rows
from dagster_active_learning.store.set_rows import of_sets

DONE_CANDIDATES = f"""
SELECT c.prediction_set, c.acquisition_function, c.rank, c.image_id, i.label,
    i.image_id IS NULL AS left_the_manifest, count(*) OVER () AS finding_count
{RANKED_IMAGES}
WHERE c.prediction_set IN $prediction_sets
    AND list_contains($acquisition_functions, c.acquisition_function) AND {IS_DONE}
ORDER BY c.prediction_set, list_position($acquisition_functions, c.acquisition_function), c.rank
LIMIT $first
"""


def done_candidates(
    store: PoolStore, prediction_sets: Sequence[str], functions: Sequence[str]
) -> Findings:
    """Candidates whose image has its label by now, or has left the manifest."""
    values = {"prediction_sets": prediction_sets, "acquisition_functions": list(functions)}
    return findings(store, DONE_CANDIDATES, **values)


LABELED_CANDIDATES = """
SELECT c.prediction_set, c.rank, c.image_id, i.label, count(*) OVER () AS finding_count
FROM labeling_candidates c JOIN images i ON c.image_id = i.image_id
WHERE c.prediction_set IN $prediction_sets AND c.acquisition_function = $acquisition_function
    AND i.labeled
ORDER BY c.prediction_set, c.rank LIMIT $first
"""


def labeled_candidates(
    store: PoolStore, prediction_sets: Sequence[str], function: AcquisitionFunction
) -> Findings:
    """Candidates that the manifest says have their label."""
    return findings(store, LABELED_CANDIDATES, **_of_rankings(prediction_sets, function))


# An image's place in a ranking: the lowest comes first.
PLACE = """
CASE WHEN prediction_count = 0 AND $place_of_empty IS NOT NULL THEN $place_of_empty::DOUBLE
    ELSE coalesce({sign}score, 'inf'::DOUBLE) END
"""

BROKEN_RANKS = """
WITH candidates AS (
    SELECT *, {place} AS place FROM labeling_candidates
    WHERE prediction_set IN $prediction_sets AND acquisition_function = $acquisition_function
),
ordered AS (
    SELECT prediction_set, coalesce(lag(rank) OVER ranking, 0) AS rank_before, rank, image_id,
        lag(score) OVER ranking AS score_before, score, place < lag(place) OVER ranking AS too_late,
        count(*) OVER (PARTITION BY prediction_set, image_id) AS times_in_ranking
    FROM candidates WINDOW ranking AS (PARTITION BY prediction_set ORDER BY rank, image_id)
)
SELECT * EXCLUDE (too_late), count(*) OVER () AS finding_count
FROM ordered WHERE rank != rank_before + 1 OR times_in_ranking > 1 OR too_late
ORDER BY prediction_set, rank, image_id LIMIT $first
"""


def broken_ranks(
    store: PoolStore, prediction_sets: Sequence[str], function: AcquisitionFunction, rules: Rules
) -> Findings:
    """Ranks that do not follow the rank before, or whose image should come before that of it.

    So are the ranks of an image that has several.
    """
    return findings(
        store,
        BROKEN_RANKS.format(place=_place(function, rules)),
        place_of_empty=_place_of_empty(rules),
        **_of_rankings(prediction_sets, function),
    )


# Unchanged candidates are among the images that are as good as the last: those are few.
UNCHANGED_CANDIDATES = """
WITH candidates AS (
    FROM labeling_candidates
    WHERE prediction_set = $prediction_set AND acquisition_function = $acquisition_function
),
scores AS (
    FROM {{image_scores}} WHERE prediction_count = 0 OR {score} IS NULL
        OR {score} {as_good_as} (SELECT {worst}(score) FROM candidates WHERE prediction_count > 0)
)
SELECT count(*) = (SELECT count(*) FROM candidates)
FROM candidates c JOIN scores s ON c.image_id = s.image_id
LEFT JOIN images i ON c.image_id = i.image_id
WHERE c.score IS NOT DISTINCT FROM s.{score} AND c.prediction_count = s.prediction_count
    AND NOT ($in_manifest AND i.image_id IS NULL)
"""

OUTDATED_CANDIDATES = """
SELECT c.prediction_set, c.rank, c.image_id, c.score AS score_ranked_by, s.{score} AS score_now,
    c.prediction_count AS predictions_ranked_by, s.prediction_count AS predictions_now,
    $in_manifest AND i.image_id IS NULL AS left_the_manifest, count(*) OVER () AS finding_count
FROM labeling_candidates c
LEFT JOIN {{image_scores}} s ON c.prediction_set = s.prediction_set AND c.image_id = s.image_id
LEFT JOIN images i ON c.image_id = i.image_id
WHERE c.prediction_set IN $prediction_sets AND c.acquisition_function = $acquisition_function
    AND (c.score IS DISTINCT FROM s.{score}
        OR c.prediction_count IS DISTINCT FROM s.prediction_count OR left_the_manifest)
ORDER BY c.prediction_set, c.rank LIMIT $first
"""


def outdated_candidates(
    store: PoolStore, prediction_sets: Sequence[str], function: AcquisitionFunction, rules: Rules
) -> Findings:
    """Candidates whose image has another score now, or none, or has left the manifest."""
    (score,) = score_columns(store, [function.name])
    highest = function.label_first_under(rules.aggregation) == "highest"
    unchanged = UNCHANGED_CANDIDATES.format(
        score=score, as_good_as=">=" if highest else "<=", worst="min" if highest else "max"
    )

    def is_unchanged(name: str, query: str) -> bool:
        of_set = of_ranking(name, function.name)
        return store.rows(query, in_manifest=rules.in_manifest, **of_set) == [(True,)]

    suspects: list[str] = []
    for name in prediction_sets:
        best = best_images(store, name, function.name, highest_first=highest)
        if (best is None or not is_unchanged(name, _of_best(name, best, unchanged))) and (
            not is_unchanged(name, of_sets(store, [name], unchanged))
        ):
            suspects.append(name)
    if not suspects:
        return Findings(0, [])
    return findings(
        store,
        of_sets(store, suspects, OUTDATED_CANDIDATES.format(score=score)),
        in_manifest=rules.in_manifest,
        **_of_rankings(suspects, function),
    )


# With the room for more of them.
LAST_CANDIDATE = """
WITH candidates AS (
    SELECT *, {place} AS place FROM labeling_candidates
    WHERE prediction_set = $prediction_set AND acquisition_function = $acquisition_function
),
ends AS (
    SELECT max(place) AS last_place, coalesce((
        SELECT candidate_limit FROM rankings
        WHERE prediction_set = $prediction_set AND acquisition_function = $acquisition_function
    ), $limit) - count(*) AS room FROM candidates
)
"""

LAST_PLACE = "{last_candidate} SELECT last_place, room FROM ends"

# Images that would be ranked now: there is room, or the last candidate stands behind them. One set
# at a time, so that the scores of most images are never looked at.
MISSING_CANDIDATES = """
{last_candidate},
scores AS (
    SELECT *, {place} AS place FROM (
        SELECT prediction_set, image_id, {score} AS score, prediction_count FROM {{image_scores}}
        WHERE CASE WHEN prediction_count = 0 THEN $ranks_empty ELSE {score} IS NOT NULL END
    )
    WHERE (SELECT room FROM ends) > 0 OR place < (SELECT last_place FROM ends)
)
SELECT * EXCLUDE (place), count(*) OVER () AS finding_count FROM (
    SELECT s.* FROM scores s
    ANTI JOIN candidates c ON s.image_id = c.image_id
    LEFT JOIN images i ON s.image_id = i.image_id
    WHERE NOT ($in_manifest AND coalesce(i.labeled, true))
    QUALIFY place < (SELECT last_place FROM ends)
        OR row_number() OVER (ORDER BY place, s.image_id) <= (SELECT room FROM ends)
)
ORDER BY place, image_id LIMIT $first
"""


def missing_candidates(
    store: PoolStore,
    prediction_sets: Sequence[str],
    function: AcquisitionFunction,
    rules: Rules,
    *,
    limit: int,
) -> Findings:
    """Images that are no candidates and would be, were they ranked again.

    ``limit`` is that of rankings which have never been made.
    """
    (score,) = score_columns(store, [function.name])
    place = _place(function, rules)
    highest = function.label_first_under(rules.aggregation) == "highest"
    last_candidate = LAST_CANDIDATE.format(place=place)
    query = MISSING_CANDIDATES.format(score=score, place=place, last_candidate=last_candidate)
    last_place = LAST_PLACE.format(last_candidate=last_candidate)
    values = {
        "place_of_empty": _place_of_empty(rules),
        "ranks_empty": rules.images_without_predictions != "exclude",
        "in_manifest": rules.in_manifest,
        "limit": limit,
    }
    found: list[Findings] = []
    for name in sorted(prediction_sets):
        of_set = {**values, **of_ranking(name, function.name)}
        best = best_images(store, name, function.name, highest_first=highest)
        if best is not None and _has_all_before_last(
            store, best, last_place, of_set, highest=highest
        ):
            of_images = _of_best(name, best, query)
        else:
            of_images = of_sets(store, [name], query)
        found.append(findings(store, of_images, **of_set))
    return Findings(
        sum(of_set.count for of_set in found),
        [example for of_set in found for example in of_set.examples][:EXAMPLES],
    )


def _has_all_before_last(
    store: PoolStore, best: BestImages, last_place: str, values: dict[str, Any], *, highest: bool
) -> bool:
    """Whether no image that is left out of the best comes before the last candidate."""
    if best.cut is None:
        return True
    named = ("prediction_set", "acquisition_function", "limit", "place_of_empty")
    ((last, room),) = store.rows(last_place, **{name: values[name] for name in named})
    return room <= 0 and last <= (-best.cut if highest else best.cut)


BEST_OF_SET = "SELECT {prediction_set} AS prediction_set, * FROM ({rows})"


def _of_best(prediction_set: str, best: BestImages, statement: str) -> str:
    """A statement with the images that come first where it has the scores of all."""
    rows = BEST_OF_SET.format(prediction_set=literal(prediction_set), rows=best.rows)
    return with_rows(statement, lambda _: rows)


def _place(function: AcquisitionFunction, rules: Rules) -> str:
    return PLACE.format(
        sign="-" if function.label_first_under(rules.aggregation) == "highest" else ""
    )


def _place_of_empty(rules: Rules) -> float | None:
    """The place of all images without predictions; None where their scores say it."""
    return {"first": -math.inf, "last": math.inf}.get(rules.images_without_predictions or "")


def _of_rankings(prediction_sets: Sequence[str], function: AcquisitionFunction) -> dict[str, Any]:
    return {"prediction_sets": prediction_sets, "acquisition_function": function.name}
