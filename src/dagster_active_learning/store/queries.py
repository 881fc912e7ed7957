"""The statements of the store. Table names are those of ``schema.sql``, in the pool's schema."""

# A configuration in which 'A' is 'a' would make one image of two.
COMPARE_LITERALLY = "SET SESSION default_collation = ''"

# DuckDB takes names that differ in case for the same, and has two schemas of its own.
SCHEMA_IN_THE_WAY = """
SELECT schema_name FROM duckdb_schemas()
WHERE lower(schema_name) = lower($pool) AND (
    database_name = current_database() AND schema_name != $pool
    OR database_name = 'system' AND schema_name != 'main'
)
"""

TABLES_EXIST = """
SELECT count(*) FILTER (table_name = 'labeling_candidates') > 0, list(table_name ORDER BY table_name)
FROM duckdb_tables()
WHERE schema_name = $pool AND table_name IN $tables AND database_name = current_database()
"""

COLUMNS = """
SELECT column_name, data_type, comment FROM duckdb_columns()
WHERE schema_name = $pool AND table_name = $table AND database_name = current_database()
ORDER BY column_index
"""


# images

DELETE_IMAGES = "DELETE FROM images"

INSERT_IMAGES = """
INSERT INTO images SELECT image_id, uri, width, height, coalesce(labeled, false), label
FROM incoming
"""

IMAGE_COUNTS = "SELECT count(*), count(*) FILTER (labeled) FROM images"

# predictions

DELETE_PREDICTION_SET = (
    "DELETE FROM prediction_sets WHERE prediction_set = $prediction_set",
    "DELETE FROM prediction_sources WHERE prediction_set = $prediction_set",
    "DELETE FROM predictions WHERE prediction_set = $prediction_set",
    "DELETE FROM empty_images WHERE prediction_set = $prediction_set",
    # Scores of predictions that are gone must not be ranked under the name of the new ones.
    "DELETE FROM image_scores WHERE prediction_set = $prediction_set",
    "DELETE FROM quarantined_predictions WHERE prediction_set = $prediction_set",
)

WIDEN_CLASS_PROBS = "ALTER TABLE predictions ALTER class_probs TYPE DOUBLE[]"

INSERT_PREDICTIONS = """
INSERT INTO predictions
SELECT $prediction_set, image_id, prediction_index, class_probs, score, category, bbox,
    segmentation
FROM incoming
"""

INSERT_EMPTY_IMAGES = """
INSERT INTO empty_images SELECT $prediction_set, image_id FROM incoming
"""

EMPTY_IMAGES_NOT_IN_MANIFEST = """
SELECT count(DISTINCT e.image_id) FROM empty_images e ANTI JOIN images i ON e.image_id = i.image_id
WHERE e.prediction_set = $prediction_set
"""

INSERT_QUARANTINED = """
INSERT INTO quarantined_predictions
SELECT $prediction_set, source, row_number, image_id, reason, raw FROM incoming
"""

INSERT_SOURCES = """
INSERT INTO prediction_sources
SELECT $prediction_set, source, source_sha256, first_prediction_index, row_count FROM incoming
"""

QUARANTINE_IMAGES_NOT_IN_MANIFEST = """
INSERT INTO quarantined_predictions
SELECT p.prediction_set, s.source, p.prediction_index - s.first_prediction_index + 1, p.image_id,
    $reason, left(to_json({image_id: p.image_id, class_probs: p.class_probs, score: p.score,
        category: p.category, bbox: p.bbox})::VARCHAR, $raw_characters)
FROM predictions p ANTI JOIN images i ON p.image_id = i.image_id
JOIN prediction_sources s ON p.prediction_set = s.prediction_set
    AND p.prediction_index >= s.first_prediction_index
    AND p.prediction_index < s.first_prediction_index + s.row_count
WHERE p.prediction_set = $prediction_set
"""

DELETE_IMAGES_NOT_IN_MANIFEST = """
DELETE FROM predictions
WHERE prediction_set = $prediction_set AND image_id NOT IN (SELECT image_id FROM images)
"""

IMAGE_COUNT = """
SELECT count(DISTINCT image_id) FROM predictions WHERE prediction_set = $prediction_set
"""

SCORE_ONLY_COUNT = """
SELECT count(*) FROM predictions WHERE prediction_set = $prediction_set AND class_probs IS NULL
"""

INSERT_PREDICTION_SET = """
INSERT INTO prediction_sets
SELECT $prediction_set, $model, $source, $source_sha256, coalesce(
        $class_names,
        (SELECT coalesce(list(DISTINCT category ORDER BY category), [])
            FROM predictions WHERE prediction_set = $prediction_set AND category IS NOT NULL)
    ),
    $prediction_count, $image_count, $image_run_count, $quarantined_count, $score_only_count,
    $bbox_unit, $value_type, $run_id, now(), NULL, NULL
"""

SET_SCORING = """
UPDATE prediction_sets SET inputs = $inputs, aggregation = $aggregation
WHERE prediction_set = $prediction_set
"""

PREDICTION_SET = """
SELECT prediction_set, model, source, source_sha256, class_names, prediction_count, image_count,
    image_run_count, quarantined_count, score_only_count, bbox_unit, value_type, run_id
FROM prediction_sets WHERE prediction_set = $prediction_set
"""

SOURCES = """
SELECT source, source_sha256, first_prediction_index, row_count FROM prediction_sources
WHERE prediction_set = $prediction_set ORDER BY first_prediction_index
"""

FIRST_IDS = """
SELECT (
    SELECT left(image_id, 200) FROM quarantined_predictions
    WHERE prediction_set = $prediction_set AND reason = $reason ORDER BY source, row_number LIMIT 1
), (SELECT left(image_id, 200) FROM images ORDER BY rowid LIMIT 1)
"""

QUARANTINED_BY_REASON = """
SELECT reason, count(*) AS rows, min_by(source, (source, row_number)) AS first_source,
    min_by(row_number, (source, row_number)) AS first_row
FROM quarantined_predictions WHERE prediction_set = $prediction_set
GROUP BY reason ORDER BY rows DESC, reason
"""

# scores

PREDICTIONS = """
SELECT image_id, class_probs::{value_type} AS class_probs, score
FROM predictions WHERE prediction_set = $prediction_set
"""

BY_IMAGE = "ORDER BY image_id, prediction_index"

PRESERVES_ORDER = "SELECT current_setting('preserve_insertion_order')"

IN_ORDER = "ORDER BY prediction_index"

DELETE_IMAGE_SCORES = "DELETE FROM image_scores WHERE prediction_set = $prediction_set"

INSERT_IMAGE_SCORES = """
INSERT INTO image_scores
SELECT $prediction_set, image_id, prediction_count, entropy, least_confidence, margin, variance,
    mean_object_score
FROM incoming
"""

INSERT_IMAGES_WITHOUT_PREDICTIONS = """
INSERT INTO image_scores
SELECT $prediction_set, i.image_id, 0, NULL, NULL, NULL, NULL,
    -- Objects that could not be read are not objects that are not there.
    CASE WHEN $objects AND i.image_id NOT IN (
        SELECT image_id FROM quarantined_predictions
        WHERE prediction_set = $prediction_set AND image_id IS NOT NULL
    ) THEN 0 END
FROM (
    SELECT image_id FROM images WHERE $in_manifest
    UNION
    SELECT image_id FROM empty_images
    WHERE prediction_set = $prediction_set AND NOT $in_manifest
) i
WHERE i.image_id NOT IN (SELECT image_id FROM image_scores WHERE prediction_set = $prediction_set)
ORDER BY i.image_id
"""

HAS_EMPTY_IMAGES = "SELECT EXISTS (FROM empty_images WHERE prediction_set = $prediction_set)"

HAS_SCORES = "SELECT EXISTS (FROM image_scores WHERE prediction_set = $prediction_set)"

SCORE_STATISTICS = """
SELECT count(*), count(*) FILTER (prediction_count = 0), avg(entropy), avg(least_confidence),
    avg(margin), avg(variance), avg(mean_object_score)
FROM image_scores WHERE prediction_set = $prediction_set
"""

# candidates

UNLABELED = """
FROM image_scores s LEFT JOIN images i ON s.image_id = i.image_id
WHERE s.prediction_set = $prediction_set AND NOT coalesce(i.labeled, $in_manifest)
"""

UNLABELED_COUNT = f"SELECT count(*) {UNLABELED}"

SCORE_AT_CUT = f"""
SELECT s.{{score}} {UNLABELED} AND s.prediction_count > 0 AND s.{{score}} IS NOT NULL
ORDER BY s.{{score}} {{direction}} LIMIT 1 OFFSET $beyond
"""

CONTENDERS = f"""
SELECT s.image_id, s.{{score}} AS score, s.prediction_count {UNLABELED}
    AND (s.prediction_count = 0 OR $cut IS NULL OR s.{{score}} {{as_good_as}} $cut)
"""

DELETE_RANKINGS = (
    "DELETE FROM labeling_candidates WHERE prediction_set = $prediction_set AND list_contains($acquisition_functions, acquisition_function)",
    "DELETE FROM rankings WHERE prediction_set = $prediction_set AND list_contains($acquisition_functions, acquisition_function)",
)

INSERT_RANKINGS = """
INSERT INTO rankings
SELECT $prediction_set, unnest($acquisition_functions), $limit, $run_id, now()
"""

PREDICTED_CLASSES = """
WITH probabilities AS (
    SELECT p.image_id, p.prediction_index, unnest(p.class_probs) AS probability,
        generate_subscripts(p.class_probs, 1) AS class_index
    FROM predictions p SEMI JOIN incoming c ON p.image_id = c.image_id
    WHERE p.prediction_set = $prediction_set
),
class_means AS (
    SELECT image_id, class_index, avg(probability ORDER BY prediction_index) AS mean_probability
    FROM probabilities GROUP BY image_id, class_index
),
predicted AS (
    SELECT image_id, s.class_names[min_by(class_index, (-mean_probability, class_index))] AS class
    FROM class_means, prediction_sets s WHERE s.prediction_set = $prediction_set
    GROUP BY image_id, s.class_names
)
"""

MOST_FREQUENT_CLASSES = """
WITH objects AS (
    SELECT p.image_id, coalesce(
        p.category, s.class_names[list_position(p.class_probs, list_max(p.class_probs))]
    ) AS class
    FROM predictions p SEMI JOIN incoming c ON p.image_id = c.image_id
    JOIN prediction_sets s ON p.prediction_set = s.prediction_set
    WHERE p.prediction_set = $prediction_set
),
class_counts AS (
    SELECT image_id, class, count(*) AS objects FROM objects
    WHERE class IS NOT NULL GROUP BY image_id, class
),
predicted AS (
    SELECT image_id, min_by(class, (-objects, class)) AS class FROM class_counts GROUP BY image_id
)
"""

INSERT_CANDIDATES = """
SELECT $prediction_set, c.acquisition_function, c.rank, c.image_id, c.score, c.uncertainty,
    c.prediction_count, p.class, $run_id
FROM incoming c LEFT JOIN predicted p ON c.image_id = p.image_id
ORDER BY c.acquisition_function, c.rank
"""

# existing pools

POOLS = """
SELECT schema_name FROM duckdb_tables()
WHERE table_name = 'labeling_candidates' AND database_name = current_database()
ORDER BY schema_name
"""

IS_COMPLETE = """
SELECT count(*) = 3
    OR (SELECT readonly FROM duckdb_databases() WHERE database_name = current_database())
FROM duckdb_columns()
WHERE schema_name = $pool AND database_name = current_database()
    AND (table_name, column_name) IN (
        ('candidate_lineage', 'prediction_set'), ('prediction_sets', 'aggregation'),
        ('rankings', 'ranked_at')
    )
    AND comment IS NOT NULL
"""

PREDICTION_SET_NAMES = "SELECT prediction_set FROM prediction_sets ORDER BY prediction_set"

CANDIDATE_ROWS = """
SELECT c.prediction_set, c.acquisition_function, c.rank, c.image_id, i.uri, i.width, i.height,
    c.score, c.uncertainty, c.prediction_count, c.predicted_class, c.run_id
FROM labeling_candidates c LEFT JOIN images i ON c.image_id = i.image_id
WHERE c.prediction_set = $prediction_set AND list_contains($acquisition_functions, c.acquisition_function)
    AND ($limit IS NULL OR c.rank <= $limit)
ORDER BY list_position($acquisition_functions, c.acquisition_function), c.rank
"""

# one image

IMAGE = "SELECT uri, labeled, label FROM images WHERE image_id = $image_id"

SCORES_OF_IMAGE = """
SELECT * EXCLUDE (prediction_set, image_id) FROM image_scores
WHERE prediction_set = $prediction_set AND image_id = $image_id
"""

SCORING = """
SELECT * EXCLUDE (ingested_at) FROM prediction_sets WHERE prediction_set = $prediction_set
"""

RANKINGS_OF_IMAGE = """
SELECT acquisition_function, count(*) AS candidates,
    -- Images without a score come last: this is the last that has one.
    max_by(score, rank) AS last_score,
    any_value(run_id) AS run_id,
    any_value(rank) FILTER (image_id = $image_id) AS rank,
    any_value(score) FILTER (image_id = $image_id) AS score,
    any_value(uncertainty) FILTER (image_id = $image_id) AS uncertainty,
    any_value(predicted_class) FILTER (image_id = $image_id) AS predicted_class
FROM labeling_candidates WHERE prediction_set = $prediction_set
GROUP BY acquisition_function
"""

PREDICTIONS_OF_IMAGE = """
SELECT p.class_probs, p.score, p.category, f.source, f.source_sha256,
    p.prediction_index - f.first_prediction_index + 1 AS row_number
FROM predictions p ASOF LEFT JOIN (FROM prediction_sources WHERE row_count > 0) f
    ON p.prediction_set = f.prediction_set AND p.prediction_index >= f.first_prediction_index
WHERE p.prediction_set = $prediction_set AND p.image_id = $image_id
ORDER BY p.prediction_index
"""

QUARANTINED_OF_IMAGE = """
SELECT source, row_number, reason FROM quarantined_predictions
WHERE prediction_set = $prediction_set AND image_id = $image_id
ORDER BY source, row_number
"""

EMPTY_IMAGE = """
SELECT image_id FROM empty_images
WHERE prediction_set = $prediction_set AND image_id = $image_id
"""

# the overview of a ranking

SCORE_RANGE = """
SELECT min({score}), max({score}) FROM image_scores WHERE prediction_set = $prediction_set
"""

SCORE_BINS = """
SELECT least(floor(({score} - $low) / ($high - $low) * $bins), $bins - 1)::INTEGER AS bin, count(*)
FROM image_scores WHERE prediction_set = $prediction_set AND {score} IS NOT NULL
GROUP BY bin
"""

CANDIDATES_BY_CLASS = """
SELECT predicted_class, count(*) AS candidates FROM labeling_candidates
WHERE prediction_set = $prediction_set AND acquisition_function = $acquisition_function
GROUP BY predicted_class ORDER BY candidates DESC, predicted_class
"""

AGREEMENT = """
WITH own AS (
    SELECT image_id FROM labeling_candidates
    WHERE prediction_set = $prediction_set AND acquisition_function = $acquisition_function
)
SELECT o.acquisition_function, count(own.image_id) AS common
FROM labeling_candidates o LEFT JOIN own ON o.image_id = own.image_id
WHERE o.prediction_set = $prediction_set AND list_contains($others, o.acquisition_function)
GROUP BY o.acquisition_function
"""

WITHOUT_PREDICTIONS = """
SELECT count(*) FROM labeling_candidates
WHERE prediction_set = $prediction_set AND acquisition_function = $acquisition_function
    AND prediction_count = 0
"""

SET_RANKED_BEFORE = """
SELECT before.prediction_set FROM prediction_sets before, prediction_sets this
WHERE this.prediction_set = $prediction_set AND before.ingested_at < this.ingested_at
    AND before.prediction_set IN (
        SELECT prediction_set FROM labeling_candidates
        WHERE acquisition_function = $acquisition_function
    )
ORDER BY before.ingested_at DESC, before.prediction_set DESC LIMIT 1
"""

CANDIDATE_IDS = """
SELECT image_id FROM labeling_candidates
WHERE prediction_set = $prediction_set AND acquisition_function = $acquisition_function
"""

COMMON_CANDIDATES = """
SELECT count(*) FROM labeling_candidates c SEMI JOIN incoming USING (image_id)
WHERE c.prediction_set = $prediction_set AND c.acquisition_function = $acquisition_function
"""

PREDICTIONS_OF_FIRST = """
WITH candidates AS (
    SELECT image_id FROM labeling_candidates WHERE prediction_set = $prediction_set
        AND list_contains($acquisition_functions, acquisition_function) AND rank <= $first
)
SELECT p.image_id, p.class_probs, p.score, p.category, p.bbox
FROM predictions p SEMI JOIN candidates USING (image_id)
WHERE p.prediction_set = $prediction_set ORDER BY p.image_id, p.prediction_index
"""

QUARANTINED_OF_FIRST = """
WITH candidates AS (
    SELECT image_id FROM labeling_candidates WHERE prediction_set = $prediction_set
        AND list_contains($acquisition_functions, acquisition_function) AND rank <= $first
)
SELECT DISTINCT q.image_id FROM quarantined_predictions q SEMI JOIN candidates USING (image_id)
WHERE q.prediction_set = $prediction_set
"""

PREDICTIONS_BY_CLASS = """
WITH counted AS (
    SELECT category, CASE WHEN category IS NULL
        THEN list_position(class_probs, list_max(class_probs)) END AS class_index,
        count(*) AS predictions
    FROM predictions WHERE prediction_set = $prediction_set
    GROUP BY category, class_index
)
SELECT coalesce(c.category, s.class_names[c.class_index]) AS class,
    sum(c.predictions)::BIGINT AS predictions
FROM counted c JOIN prediction_sets s ON s.prediction_set = $prediction_set
GROUP BY class ORDER BY predictions DESC, class
"""
