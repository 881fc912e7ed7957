"""The statements of the checks.

Most give a row for each of the first things that are wrong, and their number as ``found``.
"""

DUPLICATE_PREDICTIONS = """
WITH hashed AS (
    SELECT *, hash(class_probs, score, category, bbox, segmentation) AS content_hash
    FROM predictions WHERE prediction_set IN $prediction_sets
        -- Two objects without a place in the image may be alike in all else.
        AND (NOT $objects OR bbox IS NOT NULL OR segmentation IS NOT NULL)
),
-- Class probabilities are long: only rows with a hash in common are compared as they are.
suspects AS (
    SELECT prediction_set, image_id, content_hash FROM hashed GROUP BY ALL HAVING count(*) > 1
)
SELECT prediction_set, image_id, count(*) AS times, min(prediction_index) AS first_index,
    max(prediction_index) AS last_index, (sum(count(*) - 1) OVER ())::BIGINT AS found
FROM hashed SEMI JOIN suspects USING (prediction_set, image_id, content_hash)
GROUP BY prediction_set, image_id, class_probs, score, category, bbox, segmentation
HAVING count(*) > 1
ORDER BY times DESC, prediction_set, first_index LIMIT $first
"""

FORMER_CLASS_NAMES = """
SELECT class_names FROM prediction_sets
WHERE ingested_at < (
    SELECT ingested_at FROM prediction_sets WHERE prediction_set = $prediction_set
)
ORDER BY ingested_at DESC, prediction_set LIMIT 1
"""

# A labeled image is not in the queue, whether it has predictions or not.
_UNLABELED_AND_SEEN = """
FROM (SELECT unnest($prediction_sets) AS prediction_set) s CROSS JOIN images i
LEFT JOIN (
    SELECT prediction_set, image_id FROM predictions WHERE prediction_set IN $prediction_sets
    UNION
    SELECT prediction_set, image_id FROM empty_images WHERE prediction_set IN $prediction_sets
) seen ON s.prediction_set = seen.prediction_set AND i.image_id = seen.image_id
WHERE NOT i.labeled
"""

COVERAGE = f"""
SELECT s.prediction_set, count(*) AS images, count(*) FILTER (seen.image_id IS NULL) AS without
{_UNLABELED_AND_SEEN} GROUP BY s.prediction_set ORDER BY without DESC, s.prediction_set
"""

UNCOVERED_IMAGES = f"""
SELECT s.prediction_set, i.image_id, i.uri
{_UNLABELED_AND_SEEN} AND seen.image_id IS NULL
ORDER BY s.prediction_set, i.image_id LIMIT $first
"""

WRONGLY_SCORED_IMAGES = """
WITH wanted AS (
    SELECT prediction_set, image_id, max(predictions) AS predictions FROM (
        SELECT prediction_set, image_id, count(*) AS predictions
        FROM predictions WHERE prediction_set IN $prediction_sets GROUP BY ALL
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
        bool_and((mean_object_score IS NOT NULL) = $objects) AS has_object_score,
        max((entropy IS NULL)::INTEGER + (least_confidence IS NULL)::INTEGER
            + (margin IS NULL)::INTEGER + (variance IS NULL)::INTEGER) AS class_scores_missing
    FROM image_scores WHERE prediction_set IN $prediction_sets GROUP BY ALL
),
judged AS (
    SELECT prediction_set, image_id, w.predictions, s.predictions AS predictions_scored,
        CASE
            WHEN s.times IS NULL THEN 'no row in image_scores'
            WHEN s.times > 1 THEN 'several rows in image_scores'
            WHEN w.predictions IS NULL THEN 'a row in image_scores and no such image'
            WHEN s.predictions != w.predictions THEN 'scored by another number of predictions'
            WHEN w.predictions > 0 AND NOT (s.has_object_score AND (
                s.class_scores_missing = 0
                -- A lone score gives none of them, where it is not declared a probability.
                OR s.class_scores_missing = 4 AND d.score_only_count > 0 AND NOT $binary
            )) THEN 'predictions and not all scores'
        END AS problem
    FROM wanted w FULL JOIN scored s USING (prediction_set, image_id)
    JOIN prediction_sets d USING (prediction_set)
)
SELECT *, count(*) OVER () AS found FROM judged WHERE problem IS NOT NULL
ORDER BY prediction_set, image_id LIMIT $first
"""

SCORED_IMAGE_COUNT = """
SELECT count(*) FROM image_scores WHERE prediction_set IN $prediction_sets
"""

SCORES_OUT_OF_BOUNDS = """
WITH bounds AS (SELECT unnest($bounds, recursive := true)),
scores AS (
    UNPIVOT (FROM image_scores WHERE prediction_set IN $prediction_sets)
    ON entropy, least_confidence, margin, variance, mean_object_score
    INTO NAME acquisition_function VALUE score
)
SELECT s.prediction_set, s.image_id, s.acquisition_function, s.score, b.lowest, b.highest,
    count(*) OVER () AS found
FROM scores s JOIN bounds b
    ON s.prediction_set = b.prediction_set AND s.acquisition_function = b.acquisition_function
-- NaN is above everything.
WHERE s.score < b.lowest - b.tolerance OR s.score > b.highest + b.tolerance
ORDER BY s.prediction_set, s.acquisition_function, s.image_id LIMIT $first
"""

CANDIDATE_COUNT = """
SELECT count(*) FROM labeling_candidates
WHERE prediction_set IN $prediction_sets AND acquisition_function = $acquisition_function
"""

LABELED_CANDIDATES = """
SELECT c.prediction_set, c.rank, c.image_id, i.label, count(*) OVER () AS found
FROM labeling_candidates c JOIN images i ON c.image_id = i.image_id
WHERE c.prediction_set IN $prediction_sets AND c.acquisition_function = $acquisition_function
    AND i.labeled
ORDER BY c.prediction_set, c.rank LIMIT $first
"""

# Where an image stands in a ranking: the lowest comes first.
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
SELECT * EXCLUDE (too_late), count(*) OVER () AS found
FROM ordered WHERE rank != rank_before + 1 OR times_in_ranking > 1 OR too_late
ORDER BY prediction_set, rank, image_id LIMIT $first
"""

OUTDATED_CANDIDATES = """
SELECT c.prediction_set, c.rank, c.image_id, c.score AS score_ranked_by, s.{score} AS score_now,
    c.prediction_count AS predictions_ranked_by, s.prediction_count AS predictions_now,
    $in_manifest AND i.image_id IS NULL AS left_the_manifest, count(*) OVER () AS found
FROM labeling_candidates c
LEFT JOIN image_scores s ON c.prediction_set = s.prediction_set AND c.image_id = s.image_id
LEFT JOIN images i ON c.image_id = i.image_id
WHERE c.prediction_set IN $prediction_sets AND c.acquisition_function = $acquisition_function
    AND (c.score IS DISTINCT FROM s.{score} OR c.prediction_count IS DISTINCT FROM s.prediction_count
        OR left_the_manifest)
ORDER BY c.prediction_set, c.rank LIMIT $first
"""

# Images that would be ranked now: there is room, or the last candidate stands behind them.
MISSING_CANDIDATES = """
WITH candidates AS (
    SELECT *, {place} AS place FROM labeling_candidates
    WHERE prediction_set IN $prediction_sets AND acquisition_function = $acquisition_function
),
ends AS (
    SELECT p.prediction_set, max(c.place) AS last_place,
        coalesce(any_value(r.candidate_limit), $limit) - count(c.rank) AS room
    FROM (SELECT unnest($prediction_sets) AS prediction_set) p
    LEFT JOIN candidates c ON p.prediction_set = c.prediction_set
    LEFT JOIN rankings r
        ON p.prediction_set = r.prediction_set AND r.acquisition_function = $acquisition_function
    GROUP BY p.prediction_set
),
scores AS (
    SELECT *, {place} AS place FROM (
        SELECT prediction_set, image_id, {score} AS score, prediction_count FROM image_scores
        WHERE prediction_set IN $prediction_sets
            AND CASE WHEN prediction_count = 0 THEN $ranks_empty ELSE {score} IS NOT NULL END
    )
)
SELECT * EXCLUDE (place), count(*) OVER () AS found FROM (
    SELECT s.* FROM scores s
    JOIN ends e ON s.prediction_set = e.prediction_set AND (e.room > 0 OR s.place < e.last_place)
    ANTI JOIN candidates c ON s.prediction_set = c.prediction_set AND s.image_id = c.image_id
    LEFT JOIN images i ON s.image_id = i.image_id
    WHERE NOT coalesce(i.labeled, $in_manifest)
    QUALIFY s.place < e.last_place
        OR row_number() OVER (PARTITION BY s.prediction_set ORDER BY s.place, s.image_id) <= e.room
)
ORDER BY prediction_set, place, image_id LIMIT $first
"""

OLDER_RANKINGS = """
SELECT r.prediction_set, r.run_id AS ranked_by_run, d.run_id AS predictions_read_by_run,
    make_timestamp(epoch_us(d.ingested_at)) || ' UTC' AS predictions_read_at,
    count(*) OVER () AS found
FROM rankings r JOIN prediction_sets d ON r.prediction_set = d.prediction_set
WHERE r.prediction_set IN $prediction_sets AND r.acquisition_function = $acquisition_function
    AND r.ranked_at < d.ingested_at
ORDER BY r.prediction_set LIMIT $first
"""
