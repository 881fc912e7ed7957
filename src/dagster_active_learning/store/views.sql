-- The views of a pool, made anew whenever a prediction set gets or loses tables; store/set_tables.py
-- gives the queries that stand for predictions and image_scores in braces.
--
-- Scores have one column per acquisition function. Before this runs, store/schema.py writes each line
-- with the word score in braces once per function of ACQUISITION_FUNCTIONS, in their order, with the
-- function's name as an identifier in its place, and its comment as a text in place of comment.

CREATE OR REPLACE VIEW predictions AS
{predictions};
COMMENT ON VIEW predictions IS 'What the model said, one row per prediction';
COMMENT ON COLUMN predictions.prediction_set IS 'Name of the prediction set';
COMMENT ON COLUMN predictions.image_id IS 'The image the prediction is about';
COMMENT ON COLUMN predictions.prediction_index IS 'Position in the source, from 0; rows in quarantine count too';
COMMENT ON COLUMN predictions.class_probs IS 'The K class probabilities, in the order of prediction_sets.class_names';
COMMENT ON COLUMN predictions.score IS 'The detector''s own score, for objects';
COMMENT ON COLUMN predictions.category IS 'The class the model names, for objects';
COMMENT ON COLUMN predictions.bbox IS 'x and y of the top left corner, width and height, in prediction_sets.bbox_unit';
COMMENT ON COLUMN predictions.segmentation IS 'The object''s mask as it came, as JSON';

CREATE OR REPLACE VIEW image_scores AS
{image_scores};
COMMENT ON VIEW image_scores IS 'The scores of every image of the pool under each acquisition function: of its predictions'' scores what scorings.aggregation says, or those of their mean class probabilities where they are a committee; a sum is one of uncertainties, 0 to 1 each, and high is uncertain';
COMMENT ON COLUMN image_scores.prediction_set IS 'Name of the prediction set';
COMMENT ON COLUMN image_scores.image_id IS 'The image''s id';
COMMENT ON COLUMN image_scores.prediction_count IS 'How many predictions the scores are made of';
COMMENT ON COLUMN image_scores.{score} IS {comment};

-- stored_set is null where the predictions were replaced since the images were ranked: those that are
-- stored then are not what the ranking was made of. The set's own name is a key of the join, too: a
-- filter on it reaches the predictions.
-- A prediction's file is the one with rows whose first position is the last before it. An ASOF join
-- finds it by order: a join on a range would compare every prediction with every file.
CREATE OR REPLACE VIEW candidate_lineage AS
SELECT
    c.prediction_set,
    c.acquisition_function,
    c.rank,
    c.image_id,
    CASE WHEN c.in_manifest IS NOT FALSE THEN i.uri END AS uri,
    c.score,
    c.uncertainty,
    c.predicted_class,
    s.{score},
    c.prediction_count,
    p.prediction_index,
    p.class_probs,
    p.score AS prediction_score,
    p.category,
    f.source,
    f.source_sha256,
    p.prediction_index - f.first_prediction_index + 1 AS row_number,
    c.model,
    c.class_names,
    c.source AS prediction_set_source,
    c.source_sha256 AS prediction_set_sha256,
    c.prediction_run_id,
    c.ingested_at,
    c.run_id AS ranking_run_id,
    c.scoring_run_id,
    c.is_current
FROM (
    SELECT
        k.*,
        r.model,
        r.source,
        r.source_sha256,
        r.prediction_run_id,
        r.ingested_at,
        r.in_manifest,
        r.scoring_run_id,
        coalesce(r.predictions_generation = d.generation AND r.scores_generation = g.generation, false) AS is_current,
        CASE WHEN r.predictions_generation = d.generation THEN d.prediction_set END AS stored_set,
        CASE WHEN r.predictions_generation = d.generation THEN d.class_names END AS class_names
    FROM labeling_candidates k
    LEFT JOIN rankings r ON k.prediction_set = r.prediction_set AND k.acquisition_function = r.acquisition_function
    LEFT JOIN prediction_sets d ON k.prediction_set = d.prediction_set
    LEFT JOIN scorings g ON k.prediction_set = g.prediction_set
) c
LEFT JOIN images i ON c.image_id = i.image_id
LEFT JOIN image_scores s ON c.prediction_set = s.prediction_set AND c.image_id = s.image_id
LEFT JOIN predictions p
    ON c.prediction_set = p.prediction_set AND c.image_id = p.image_id AND c.stored_set = p.prediction_set
ASOF LEFT JOIN (FROM prediction_sources WHERE row_count > 0) f
    ON p.prediction_set = f.prediction_set AND p.prediction_index >= f.first_prediction_index;
COMMENT ON VIEW candidate_lineage IS 'Where each candidate comes from: one row per prediction of it, a single one where it has none';
COMMENT ON COLUMN candidate_lineage.prediction_set IS 'Name of the prediction set';
COMMENT ON COLUMN candidate_lineage.acquisition_function IS 'The rule that ranks the images';
COMMENT ON COLUMN candidate_lineage.rank IS 'Place in the queue, from 1';
COMMENT ON COLUMN candidate_lineage.image_id IS 'The image''s id';
COMMENT ON COLUMN candidate_lineage.uri IS 'Where the image file is, as the manifest says';
COMMENT ON COLUMN candidate_lineage.score IS 'The score the candidate was ranked by';
COMMENT ON COLUMN candidate_lineage.uncertainty IS 'That score mapped to 0..1, where 1 is the most uncertain';
COMMENT ON COLUMN candidate_lineage.predicted_class IS 'The class with the highest mean probability; of objects the most frequent class';
COMMENT ON COLUMN candidate_lineage.{score} IS 'The image''s score now: not the one at ranking if it was scored again since, null if it has none now';
COMMENT ON COLUMN candidate_lineage.prediction_count IS 'How many predictions the score is made of';
COMMENT ON COLUMN candidate_lineage.prediction_index IS 'Position of the prediction in the source, from 0; rows in quarantine count too; null, as are all columns of predictions and their files, where they were replaced since the image was ranked';
COMMENT ON COLUMN candidate_lineage.class_probs IS 'The prediction''s class probabilities, in the order of class_names';
COMMENT ON COLUMN candidate_lineage.prediction_score IS 'The detector''s own score, for objects';
COMMENT ON COLUMN candidate_lineage.category IS 'The class the model names, for objects';
COMMENT ON COLUMN candidate_lineage.source IS 'The file the prediction is in';
COMMENT ON COLUMN candidate_lineage.source_sha256 IS 'SHA-256 of that file''s content';
COMMENT ON COLUMN candidate_lineage.row_number IS 'Which row of the file, from 1; a header and blank lines do not count';
COMMENT ON COLUMN candidate_lineage.model IS 'The model that made the predictions that the image was ranked by; null if a version ranked it that did not keep it, as are the next columns';
COMMENT ON COLUMN candidate_lineage.class_names IS 'The K class names in class order; the categories where there are no class probabilities; null where the predictions were replaced';
COMMENT ON COLUMN candidate_lineage.prediction_set_source IS 'Path, glob, asset key or query that all predictions of the set came from';
COMMENT ON COLUMN candidate_lineage.prediction_set_sha256 IS 'SHA-256 of the content of all of it';
COMMENT ON COLUMN candidate_lineage.prediction_run_id IS 'Dagster run that read the predictions';
COMMENT ON COLUMN candidate_lineage.ingested_at IS 'When they were read';
COMMENT ON COLUMN candidate_lineage.ranking_run_id IS 'Dagster run that ranked the images';
COMMENT ON COLUMN candidate_lineage.scoring_run_id IS 'Dagster run that scored the images';
COMMENT ON COLUMN candidate_lineage.is_current IS 'Whether the image was ranked by the predictions and scores that are stored; where not, rank it again';

-- Each ranking beside the one of what was read before it. The distance of two distributions is the
-- largest difference that they give any set of classes.
CREATE OR REPLACE VIEW prediction_set_changes AS
SELECT
    a.acquisition_function,
    b.prediction_set AS before,
    a.prediction_set AS after,
    b.model AS model_before,
    a.model AS model_after,
    b.mean_uncertainty AS mean_uncertainty_before,
    a.mean_uncertainty AS mean_uncertainty_after,
    b.uncertainty_at_cut AS uncertainty_at_cut_before,
    a.uncertainty_at_cut AS uncertainty_at_cut_after,
    b.score_at_cut AS score_at_cut_before,
    a.score_at_cut AS score_at_cut_after,
    list_sum(list_transform(
        list_distinct(map_keys(a.class_shares) || map_keys(b.class_shares)),
        lambda c: abs(coalesce(a.class_shares[c], 0) - coalesce(b.class_shares[c], 0))
    )) / 2 AS class_distance,
    b.class_shares AS class_shares_before,
    a.class_shares AS class_shares_after,
    a.predictions_generation AS generation_after,
    b.predictions_generation AS generation_before,
    row_number() OVER (
        PARTITION BY a.acquisition_function, a.predictions_generation
        ORDER BY b.predictions_generation DESC
    ) AS sets_between
FROM ranking_statistics a JOIN ranking_statistics b
    ON a.acquisition_function = b.acquisition_function AND b.predictions_generation < a.predictions_generation;
COMMENT ON VIEW prediction_set_changes IS 'How each ranking differs from each of the same function of what was read before: WHERE sets_between = 1 has the one just before';
COMMENT ON COLUMN prediction_set_changes.acquisition_function IS 'The rule that ranked the images';
COMMENT ON COLUMN prediction_set_changes.before IS 'Name of the prediction set that was read before';
COMMENT ON COLUMN prediction_set_changes.after IS 'Name of the prediction set; the same where its predictions were read again';
COMMENT ON COLUMN prediction_set_changes.model_before IS 'The model of the one before';
COMMENT ON COLUMN prediction_set_changes.model_after IS 'The model of the set';
COMMENT ON COLUMN prediction_set_changes.mean_uncertainty_before IS 'Mean uncertainty of all images with a score, 0 to 1, of the one before';
COMMENT ON COLUMN prediction_set_changes.mean_uncertainty_after IS 'The same of the set';
COMMENT ON COLUMN prediction_set_changes.uncertainty_at_cut_before IS 'Uncertainty of the last candidate, 0 to 1, of the one before';
COMMENT ON COLUMN prediction_set_changes.uncertainty_at_cut_after IS 'The same of the set';
COMMENT ON COLUMN prediction_set_changes.score_at_cut_before IS 'Score of the last candidate of the one before';
COMMENT ON COLUMN prediction_set_changes.score_at_cut_after IS 'The same of the set';
COMMENT ON COLUMN prediction_set_changes.class_distance IS 'Total variation of the class shares, 0 to 1: how far a set of classes can be more frequent in one than in the other';
COMMENT ON COLUMN prediction_set_changes.class_shares_before IS 'Share of the predictions that each class has, of the one before';
COMMENT ON COLUMN prediction_set_changes.class_shares_after IS 'The same of the set';
COMMENT ON COLUMN prediction_set_changes.generation_after IS 'Number of the reading of the set: a later one is higher';
COMMENT ON COLUMN prediction_set_changes.generation_before IS 'Number of the reading of the one before';
COMMENT ON COLUMN prediction_set_changes.sets_between IS 'How many readings lie between them, and one: 1 is the one just before';
