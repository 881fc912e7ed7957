"""What is wrong with the scores of images: rows that are missing, or cannot be."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass

from dagster_active_learning.rules import Rules
from dagster_active_learning.store.findings import Findings, findings
from dagster_active_learning.store.image_scores import functions_of, score_columns
from dagster_active_learning.store.in_place_sets import check_files, in_place_set
from dagster_active_learning.store.pool_store import PoolStore
from dagster_active_learning.store.prediction_sets import prediction_set as prediction_set_of
from dagster_active_learning.store.score_statistics import (
    counts_of_scores,
    has_scores_of_manifest,
    score_ends,
    score_statistics,
)
from dagster_active_learning.store.set_rows import of_sets

# What sums of 64-bit hashes tell without grouping: each image's hash, as often as it has
# predictions. In halves, so that a product fits an integer. Two scans of the scores, as a filter of
# an aggregate costs more than the aggregate.
SCORED_AS_EXPECTED = """
WITH predicted AS (
    SELECT sum(hash >> 32) AS high, sum(hash & 4294967295) AS low FROM (
        SELECT hash(image_id) AS hash FROM {{predictions}}
    )
),
scored AS (
    SELECT count(*) AS images, sum(prediction_count * (hash >> 32)) AS high,
        sum(prediction_count * (hash & 4294967295)) AS low, sum(hash) AS ids, {score_counts}
    FROM (
        SELECT *, hash(image_id) AS hash FROM {{image_scores}} WHERE prediction_count > 0
    )
),
empty AS (
    SELECT count(*) AS images, sum(hash(image_id)) AS ids FROM {{image_scores}}
    WHERE prediction_count <= 0
),
expected_empty AS (
    SELECT count(*) AS images, sum(hash(image_id)) AS ids FROM (
        SELECT DISTINCT image_id FROM empty_images WHERE prediction_set = $prediction_set
    ) e ANTI JOIN (FROM {{image_scores}} WHERE prediction_count > 0) USING (image_id)
    WHERE NOT $in_manifest
),
manifest AS (
    SELECT count(*) AS images, sum(hash(image_id)) AS ids FROM images WHERE $in_manifest
)
SELECT s.images = d.image_count
    AND coalesce(s.high, 0) = coalesce(p.high, 0) AND coalesce(s.low, 0) = coalesce(p.low, 0)
    AND CASE WHEN $in_manifest
        THEN s.images + e.images = m.images
            AND coalesce(s.ids, 0) + coalesce(e.ids, 0) = coalesce(m.ids, 0)
        ELSE e.images = x.images AND e.ids IS NOT DISTINCT FROM x.ids END
    AND {object_scores_fit}
    AND ({class_scores_there}
        OR {class_scores_missing} AND d.score_only_count > 0 AND NOT $binary)
FROM scored s, empty e, predicted p, expected_empty x, manifest m, prediction_sets d
WHERE d.prediction_set = $prediction_set
"""

WRONGLY_SCORED_IMAGES = """
WITH wanted AS (
    SELECT prediction_set, image_id, max(predictions) AS predictions FROM (
        SELECT prediction_set, image_id, count(*) AS predictions FROM {{predictions}} GROUP BY ALL
        UNION ALL
        SELECT prediction_set, image_id, 0 FROM empty_images
        WHERE prediction_set IN $prediction_sets AND NOT $in_manifest
        UNION ALL
        SELECT s.prediction_set, i.image_id, 0
        FROM (SELECT unnest($prediction_sets) AS prediction_set) s, images i WHERE $in_manifest
    ) GROUP BY ALL
),
scored AS (
    SELECT prediction_set, image_id, count(*) AS times, max(prediction_count) AS predictions,
        bool_and({object_scores_fit}) AS object_scores_fit,
        max({class_scores_missing}) AS class_scores_missing
    FROM {{image_scores}} GROUP BY ALL
),
judged AS (
    SELECT prediction_set, image_id, w.predictions, s.predictions AS predictions_scored,
        CASE
            WHEN s.times IS NULL THEN 'no row in image_scores'
            WHEN s.times > 1 THEN 'several rows in image_scores'
            WHEN w.predictions IS NULL THEN 'a row in image_scores and no such image'
            WHEN s.predictions != w.predictions THEN 'scored by another number of predictions'
            WHEN w.predictions > 0 AND NOT (s.object_scores_fit AND (
                s.class_scores_missing = 0
                -- A lone score gives none of them, where it is not declared a probability.
                OR s.class_scores_missing = {class_score_count} AND d.score_only_count > 0
                    AND NOT $binary
            )) THEN 'predictions and not all scores'
        END AS problem
    FROM wanted w FULL JOIN scored s USING (prediction_set, image_id)
    JOIN prediction_sets d USING (prediction_set)
)
SELECT *, count(*) OVER () AS finding_count FROM judged WHERE problem IS NOT NULL
ORDER BY prediction_set, image_id LIMIT $first
"""


def wrongly_scored_images(
    store: PoolStore, prediction_sets: Sequence[str], rules: Rules
) -> Findings:
    """Images that are not scored, or not once, or by other predictions than they have.

    A row about an image that does not exist is one of them. Images are only looked for in sets
    whose sums of hashes differ: a fault is missed once in 2**64 times. Of a set in place the tasks
    have counted what they scored: where that is what they read, nothing is summed up.
    """
    of_objects = score_columns(store, functions_of("object"))
    of_classes = score_columns(
        store, functions_of("image") + (functions_of("committee") if rules.committee else [])
    )
    values = {
        "in_manifest": rules.in_manifest,
        "objects": rules.objects,
        "binary": rules.score_only == "binary",
    }
    counted = {column: f"scores_{place}" for place, column in enumerate(of_objects + of_classes)}
    summary = SCORED_AS_EXPECTED.format(
        score_counts=", ".join(f"count({column}) AS {count}" for column, count in counted.items()),
        object_scores_fit=" AND ".join(
            f"s.{counted[column]} = CASE WHEN $objects THEN s.images ELSE 0 END"
            for column in of_objects
        ),
        class_scores_there=" AND ".join(f"s.{counted[column]} = s.images" for column in of_classes),
        class_scores_missing=" AND ".join(f"s.{counted[column]} = 0" for column in of_classes),
    )
    suspects = [
        name
        for name in prediction_sets
        if not _counted_as_expected(store, name, rules)
        and store.rows(of_sets(store, [name], summary), prediction_set=name, **values) != [(True,)]
    ]
    if not suspects:
        return Findings(0, [])
    query = WRONGLY_SCORED_IMAGES.format(
        object_scores_fit=" AND ".join(f"({score} IS NOT NULL) = $objects" for score in of_objects),
        class_scores_missing=" + ".join(f"({score} IS NULL)::INTEGER" for score in of_classes),
        class_score_count=len(of_classes),
    )
    query = of_sets(store, suspects, query)
    return findings(store, query, prediction_sets=suspects, **values)


def _counted_as_expected(store: PoolStore, prediction_set: str, rules: Rules) -> bool:
    """Whether the numbers of a set in place say that all its images are scored as they should be.

    False of a set that is copied, and where they do not say it.
    """
    kept, counts = in_place_set(store, prediction_set), counts_of_scores(store, prediction_set)
    if kept is None or counts is None or "prediction_count" not in counts:
        return False
    for view in ("predictions", "image_scores"):
        check_files(store, [prediction_set], view)
    stored = prediction_set_of(store, prediction_set)
    statistics = score_statistics(store, prediction_set)
    if rules.in_manifest:
        are_all = has_scores_of_manifest(store, prediction_set)
    else:
        are_all = statistics.without_predictions == 0 and statistics.manifest is None
    of_images, scores = counts["prediction_count"], kept.score_counts
    scored = {name: count.number for name, count in scores.items()}
    images = scored["prediction_count"]
    of_objects = {scored.get(name, 0) for name in functions_of("object")}
    of_classes = {
        scored.get(name, 0)
        for name in functions_of("image") + functions_of("committee") * rules.committee
    }
    lone_scores = stored.score_only_count > 0 and rules.score_only != "binary"
    return (
        are_all
        and of_images.number == stored.image_count
        and of_images.total == stored.prediction_count
        and statistics.images - statistics.without_predictions == stored.image_count
        and of_objects == {images if rules.objects else 0}
        and (of_classes == {images} or (of_classes == {0} and lone_scores))
    )


def scored_image_count(store: PoolStore, prediction_sets: Sequence[str]) -> int:
    """Number of rows of ``image_scores``."""
    return store.rows(of_sets(store, prediction_sets, "SELECT count(*) FROM {image_scores}"))[0][0]


@dataclass(frozen=True)
class Bounds:
    """Lowest and highest score of a prediction set under a function, and their tolerance."""

    prediction_set: str
    acquisition_function: str
    lowest: float
    highest: float
    tolerance: float


SCORES_OUT_OF_BOUNDS = """
WITH bounds AS (SELECT unnest($bounds, recursive := true)),
scores AS (
    UNPIVOT (FROM {{image_scores}})
    ON {scores}
    INTO NAME acquisition_function VALUE score
)
SELECT s.prediction_set, s.image_id, s.acquisition_function, s.score, b.lowest, b.highest,
    count(*) OVER () AS finding_count
FROM scores s JOIN bounds b
    ON s.prediction_set = b.prediction_set AND s.acquisition_function = b.acquisition_function
-- NaN is above everything.
WHERE s.score < b.lowest - b.tolerance OR s.score > b.highest + b.tolerance
ORDER BY s.prediction_set, s.acquisition_function, s.image_id LIMIT $first
"""


def scores_out_of_bounds(store: PoolStore, bounds: Sequence[Bounds]) -> Findings:
    """Scores that cannot be; a set without predictions has no bounds."""
    suspects = [
        of_function
        for prediction_set in dict.fromkeys(each.prediction_set for each in bounds)
        for of_function in _out_of_bounds(
            store, [each for each in bounds if each.prediction_set == prediction_set]
        )
    ]
    if not suspects:
        return Findings(0, [])
    functions = dict.fromkeys(each.acquisition_function for each in suspects)
    query = SCORES_OUT_OF_BOUNDS.format(scores=", ".join(score_columns(store, functions)))
    return findings(
        store,
        of_sets(store, {each.prediction_set for each in suspects}, query),
        bounds=[asdict(each) for each in suspects],
    )


def _out_of_bounds(store: PoolStore, bounds: Sequence[Bounds]) -> Iterator[Bounds]:
    """The bounds of one set's functions that its lowest or highest score is not within."""
    functions = [each.acquisition_function for each in bounds]
    ends = score_ends(store, bounds[0].prediction_set, functions)
    for each, (lowest, highest) in zip(bounds, ends, strict=True):
        # Not the other way round: NaN, the highest for DuckDB, is not within any.
        within = (lowest is None or highest is None) or (
            lowest >= each.lowest - each.tolerance and highest <= each.highest + each.tolerance
        )
        if not within:
            yield each
