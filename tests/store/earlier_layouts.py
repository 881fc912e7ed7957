"""The tables of a pool as earlier versions made them, from the first commit on."""

IMAGES = """CREATE TABLE images (image_id VARCHAR NOT NULL, uri VARCHAR, width INTEGER, height INTEGER,
    labeled BOOLEAN NOT NULL, label VARCHAR)"""

# What came later stands in braces.
PREDICTION_SETS = """CREATE TABLE prediction_sets (prediction_set VARCHAR NOT NULL, model VARCHAR,
    source VARCHAR NOT NULL, source_sha256 VARCHAR NOT NULL, class_names VARCHAR[] NOT NULL,
    prediction_count BIGINT NOT NULL, image_count BIGINT NOT NULL{image_run_count},
    quarantined_count BIGINT NOT NULL{objects}{value_type}, run_id VARCHAR NOT NULL,
    ingested_at TIMESTAMPTZ NOT NULL)"""

PREDICTION_SOURCES = """CREATE TABLE prediction_sources (prediction_set VARCHAR NOT NULL,
    source VARCHAR NOT NULL, source_sha256 VARCHAR NOT NULL, first_prediction_index BIGINT NOT NULL,
    row_count BIGINT NOT NULL)"""

PREDICTIONS = """CREATE TABLE predictions (prediction_set VARCHAR NOT NULL,
    image_id VARCHAR NOT NULL{ids}, prediction_index BIGINT NOT NULL, class_probs FLOAT[]{values},
    score DOUBLE, category VARCHAR, bbox DOUBLE[]{segmentation})"""

EMPTY_IMAGES = (
    "CREATE TABLE empty_images (prediction_set VARCHAR NOT NULL, image_id VARCHAR NOT NULL)"
)

QUARANTINED_PREDICTIONS = """CREATE TABLE quarantined_predictions (prediction_set VARCHAR NOT NULL,
    source VARCHAR NOT NULL, row_number BIGINT NOT NULL, image_id VARCHAR, reason VARCHAR NOT NULL,
    raw VARCHAR NOT NULL)"""

IMAGE_SCORES = """CREATE TABLE image_scores (prediction_set VARCHAR NOT NULL,
    image_id VARCHAR NOT NULL{ids}, prediction_count BIGINT NOT NULL, entropy DOUBLE{values},
    least_confidence DOUBLE{values}, margin DOUBLE{values}, variance DOUBLE{values},
    mean_object_score DOUBLE{values})"""

LABELING_CANDIDATES = """CREATE TABLE labeling_candidates (prediction_set VARCHAR NOT NULL,
    acquisition_function VARCHAR NOT NULL, rank BIGINT NOT NULL, image_id VARCHAR NOT NULL,
    score DOUBLE, uncertainty DOUBLE, prediction_count BIGINT NOT NULL, predicted_class VARCHAR,
    run_id VARCHAR NOT NULL)"""

RANKINGS = """CREATE TABLE rankings (prediction_set VARCHAR NOT NULL,
    acquisition_function VARCHAR NOT NULL, candidate_limit BIGINT NOT NULL, run_id VARCHAR NOT NULL,
    ranked_at TIMESTAMPTZ NOT NULL)"""

SCORING_RULES = """ALTER TABLE prediction_sets ADD COLUMN inputs VARCHAR;
ALTER TABLE prediction_sets ADD COLUMN aggregation VARCHAR"""

VIEW = """CREATE VIEW candidate_lineage AS SELECT c.prediction_set, c.acquisition_function, c.rank,
    c.image_id, i.uri, c.score, c.uncertainty, c.predicted_class, s.entropy, s.least_confidence,
    s.margin, s.variance, s.mean_object_score, c.prediction_count, p.prediction_index,
    p.class_probs, p.score AS prediction_score, p.category, f.source, f.source_sha256,
    p.prediction_index - f.first_prediction_index + 1 AS row_number, d.model, d.class_names,
    d.source AS prediction_set_source, d.source_sha256 AS prediction_set_sha256,
    d.run_id AS prediction_run_id, d.ingested_at, c.run_id AS ranking_run_id
FROM labeling_candidates c LEFT JOIN images i ON c.image_id = i.image_id
LEFT JOIN image_scores s ON c.prediction_set = s.prediction_set AND c.image_id = s.image_id
LEFT JOIN prediction_sets d ON c.prediction_set = d.prediction_set
LEFT JOIN predictions p ON c.prediction_set = p.prediction_set AND c.image_id = p.image_id
ASOF LEFT JOIN (FROM prediction_sources WHERE row_count > 0) f
    ON p.prediction_set = f.prediction_set AND p.prediction_index >= f.first_prediction_index"""

LAYOUTS = {
    "4631189": [],
    "b3f1417": ["objects"],
    "13ffe4c": ["objects", "value_type"],
    "ee0a87c": ["objects", "value_type", "view"],
    "4bd51ae": ["objects", "value_type", "image_run_count", "ids"],
    "a286f72": ["objects", "value_type", "image_run_count", "ids", "view"],
    "f10017d": ["objects", "value_type", "image_run_count", "ids", "values", "view"],
    "3222e6e": ["objects", "value_type", "image_run_count", "ids", "values", "view", "rules"],
    "1365085": ["objects", "value_type", "image_run_count", "ids", "values", "view", "rankings"],
    "cdf6ffe": [
        "objects", "value_type", "image_run_count", "ids", "values", "view", "rules", "rankings",
    ],
}  # fmt: skip
"""What each layout had more than the first one, by the commit that it came with.

Commits between two of them had the earlier one's; d89f13e only added comments, and from 9bfde76 on
the same columns were made of the table of acquisition functions.
"""


def statements(layout: str) -> list[str]:
    """The statements that make the tables of a layout, in the connection's current schema."""
    has = LAYOUTS[layout]
    uncompressed = " USING COMPRESSION uncompressed"
    ids, values = uncompressed * ("ids" in has), uncompressed * ("values" in has)
    return [
        IMAGES,
        PREDICTION_SETS.format(
            image_run_count=", image_run_count BIGINT NOT NULL" * ("image_run_count" in has),
            objects=", score_only_count BIGINT NOT NULL, bbox_unit VARCHAR" * ("objects" in has),
            value_type=", value_type VARCHAR NOT NULL" * ("value_type" in has),
        ),
        *[SCORING_RULES] * ("rules" in has),
        PREDICTION_SOURCES,
        PREDICTIONS.format(
            ids=ids, values=values, segmentation=", segmentation VARCHAR" * ("objects" in has)
        ),
        *[EMPTY_IMAGES] * ("objects" in has),
        QUARANTINED_PREDICTIONS,
        IMAGE_SCORES.format(ids=ids, values=values),
        LABELING_CANDIDATES,
        *[RANKINGS] * ("rankings" in has),
        *[VIEW] * ("view" in has),
    ]
