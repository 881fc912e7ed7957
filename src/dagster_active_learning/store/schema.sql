-- The tables of a pool. They live in the schema that bears the pool's name, or, where the database
-- bears it, in main; it is the connection's current one when this runs.
--
-- Each statement can be run again: a pool that has something already keeps it. Every column has a
-- comment, and those are the columns that this version knows; store/versions.py looks for others, and
-- changes the tables of an earlier version before this runs.
--
-- The two largest tables are made per prediction set, by store/set_tables.py.

CREATE TABLE IF NOT EXISTS schema_version (
    version BIGINT NOT NULL,
    package_version VARCHAR NOT NULL,
    statements_sha256 VARCHAR NOT NULL,
    pool VARCHAR NOT NULL,
    pool_id VARCHAR
);
ALTER TABLE schema_version ADD COLUMN IF NOT EXISTS pool_id VARCHAR;
COMMENT ON TABLE schema_version IS 'One row: which version of the schema the pool has';
COMMENT ON COLUMN schema_version.version IS 'Version of the schema; a package reads its own and migrates earlier ones';
COMMENT ON COLUMN schema_version.package_version IS 'Version of dagster-active-learning that made the tables, or changed them last';
COMMENT ON COLUMN schema_version.statements_sha256 IS 'SHA-256 of the statements that made them';
COMMENT ON COLUMN schema_version.pool IS 'Name of the pool, which the schema main does not bear';
COMMENT ON COLUMN schema_version.pool_id IS 'Random name of the pool''s own folder in its storage, made once: no other pool and no other database has it';

-- Times cannot order what was done: a clock may go back.
CREATE SEQUENCE IF NOT EXISTS generations;
COMMENT ON SEQUENCE generations IS 'Numbers whatever is read, scored or ranked in the pool, in that order';

CREATE TABLE IF NOT EXISTS images (
    image_id VARCHAR NOT NULL,
    uri VARCHAR,
    width INTEGER,
    height INTEGER,
    labeled BOOLEAN NOT NULL,
    label VARCHAR
);
COMMENT ON TABLE images IS 'The pool''s manifest: the images to choose from';
COMMENT ON COLUMN images.image_id IS 'The image''s id, each once';
COMMENT ON COLUMN images.uri IS 'Where the image file is, as the manifest says it: the query of a presigned address is here, in exports and in the tasks of a labeling tool, and nowhere else';
COMMENT ON COLUMN images.width IS 'Width in pixels';
COMMENT ON COLUMN images.height IS 'Height in pixels';
COMMENT ON COLUMN images.labeled IS 'Whether the image has its label already, in the manifest or in labels; then it is no candidate';
COMMENT ON COLUMN images.label IS 'The label, where there is one; of the manifest first';

CREATE TABLE IF NOT EXISTS prediction_sets (
    prediction_set VARCHAR NOT NULL,
    model VARCHAR,
    source VARCHAR NOT NULL,
    source_sha256 VARCHAR NOT NULL,
    class_names VARCHAR[] NOT NULL,
    prediction_count BIGINT NOT NULL,
    image_count BIGINT NOT NULL,
    image_run_count BIGINT NOT NULL,
    quarantined_count BIGINT NOT NULL,
    score_only_count BIGINT NOT NULL,
    bbox_unit VARCHAR,
    value_type VARCHAR NOT NULL,
    task VARCHAR,
    inputs VARCHAR,
    in_manifest BOOLEAN,
    sum_tolerance DOUBLE,
    generation BIGINT NOT NULL,
    run_id VARCHAR NOT NULL,
    ingested_at TIMESTAMPTZ NOT NULL,
    scored_by VARCHAR
);
ALTER TABLE prediction_sets ADD COLUMN IF NOT EXISTS scored_by VARCHAR;
COMMENT ON TABLE prediction_sets IS 'One row for all predictions of one model over the pool at one time';
COMMENT ON COLUMN prediction_sets.prediction_set IS 'Name of the prediction set';
COMMENT ON COLUMN prediction_sets.model IS 'The model that made the predictions';
COMMENT ON COLUMN prediction_sets.source IS 'Path, glob, asset key or query the predictions came from';
COMMENT ON COLUMN prediction_sets.source_sha256 IS 'SHA-256 of the content that was read';
COMMENT ON COLUMN prediction_sets.class_names IS 'The K class names in class order; positions from 0 where the source names none; the categories where there are no class probabilities';
COMMENT ON COLUMN prediction_sets.prediction_count IS 'Rows stored in predictions';
COMMENT ON COLUMN prediction_sets.image_count IS 'Different images among them';
COMMENT ON COLUMN prediction_sets.image_run_count IS 'Runs of rows about one image in predictions; as many as image_count where each image''s rows stand together';
COMMENT ON COLUMN prediction_sets.quarantined_count IS 'Rows stored in quarantined_predictions';
COMMENT ON COLUMN prediction_sets.score_only_count IS 'Rows in predictions with a score and no class probabilities: the reason why functions of class probabilities are null for their images';
COMMENT ON COLUMN prediction_sets.bbox_unit IS 'What boxes are measured in: pixel, or relative to the image''s size';
COMMENT ON COLUMN prediction_sets.value_type IS 'Precision of the source''s class probabilities, in which they are scored: FLOAT[] or DOUBLE[]';
COMMENT ON COLUMN prediction_sets.task IS 'The task they were read for: classification, detection or segmentation; null if a version read them that did not keep it';
COMMENT ON COLUMN prediction_sets.inputs IS 'What the class probabilities were declared to be when they were read: probabilities, logits or independent; null as task is';
COMMENT ON COLUMN prediction_sets.in_manifest IS 'Whether only images of the manifest counted when they were read; null as task is';
COMMENT ON COLUMN prediction_sets.sum_tolerance IS 'How far from 1 the sum of class probabilities could be, and each outside 0..1; null as task is';
COMMENT ON COLUMN prediction_sets.generation IS 'Number of the reading: higher than that of whatever was read, scored or ranked before';
COMMENT ON COLUMN prediction_sets.run_id IS 'Dagster run that read the predictions';
COMMENT ON COLUMN prediction_sets.ingested_at IS 'When they were read';
COMMENT ON COLUMN prediction_sets.scored_by IS 'Version of this package that scored each prediction when they were read, which image_scores then shows; null where they were only read';

CREATE TABLE IF NOT EXISTS prediction_sources (
    prediction_set VARCHAR NOT NULL,
    source VARCHAR NOT NULL,
    source_sha256 VARCHAR NOT NULL,
    first_prediction_index BIGINT NOT NULL,
    row_count BIGINT NOT NULL
);
COMMENT ON TABLE prediction_sources IS 'The files of a prediction set: which file a prediction came from';
COMMENT ON COLUMN prediction_sources.prediction_set IS 'Name of the prediction set';
COMMENT ON COLUMN prediction_sources.source IS 'Path of the file, or the name of the asset or query';
COMMENT ON COLUMN prediction_sources.source_sha256 IS 'SHA-256 of the file''s content; of one in place that is not on a local disk, of its size and mark';
COMMENT ON COLUMN prediction_sources.first_prediction_index IS 'prediction_index of the file''s first row';
COMMENT ON COLUMN prediction_sources.row_count IS 'Rows of the file, stored and quarantined';

-- Sets whose predictions are not copied; their own views read the files.
CREATE TABLE IF NOT EXISTS in_place_sets (
    prediction_set VARCHAR NOT NULL,
    folder VARCHAR NOT NULL,
    quarantine_files MAP(VARCHAR, BIGINT) NOT NULL,
    unknown_images_file VARCHAR,
    options VARCHAR NOT NULL,
    score_folder VARCHAR NOT NULL,
    score_files MAP(VARCHAR, BIGINT) NOT NULL,
    empty_images_file VARCHAR,
    best_images_file VARCHAR,
    cuts VARCHAR NOT NULL,
    score_counts VARCHAR NOT NULL,
    repeated VARCHAR,
    predictions_file VARCHAR,
    score_statistics VARCHAR,
    description VARCHAR NOT NULL
);
COMMENT ON TABLE in_place_sets IS 'Prediction sets that are read in place, and where their scores are';
COMMENT ON COLUMN in_place_sets.prediction_set IS 'Name of the prediction set';
COMMENT ON COLUMN in_place_sets.folder IS 'Folder in the pool''s storage, a path or address, with the rows in quarantine as Parquet';
COMMENT ON COLUMN in_place_sets.quarantine_files IS 'Names of the files in it that the views read, with their sizes in bytes';
COMMENT ON COLUMN in_place_sets.unknown_images_file IS 'Name of the file in it with the predictions about images that the manifest did not have; null where there are none';
COMMENT ON COLUMN in_place_sets.options IS 'The options of the reader, as JSON';
COMMENT ON COLUMN in_place_sets.score_folder IS 'Folder with the scores; another one where the set was scored again, under other rules';
COMMENT ON COLUMN in_place_sets.score_files IS 'Names of the files in it that are read, with their sizes in bytes: scores, and the two that follow';
COMMENT ON COLUMN in_place_sets.empty_images_file IS 'Name of the file in it with the images without predictions; null where there are none';
COMMENT ON COLUMN in_place_sets.best_images_file IS 'Name of the file in it with the images that come first by each function, and their scores; null without an image';
COMMENT ON COLUMN in_place_sets.cuts IS 'For each function the score before which that file has all images, as JSON; a function without one has all images in it';
COMMENT ON COLUMN in_place_sets.score_counts IS 'The scores of images with predictions by function, and their prediction_count, as JSON: how many, their sum in parts of 2**-90, the lowest, the highest, and how many are in each bin';
COMMENT ON COLUMN in_place_sets.repeated IS 'What is repeated among the predictions, as JSON: how many are the same as another one of their image, the first examples with id, number, first and last prediction_index, and the same of images with several class probabilities; null where that was not counted';
COMMENT ON COLUMN in_place_sets.predictions_file IS 'Name of the file in it with predictions of the first of these images, and the scores of the images; null where they are in several places, before a ranking has read them';
COMMENT ON COLUMN in_place_sets.score_statistics IS 'The scores in numbers, as JSON; null before they are shown';
COMMENT ON COLUMN in_place_sets.description IS 'All that decides these scores, as JSON';

CREATE TABLE IF NOT EXISTS in_place_files (
    prediction_set VARCHAR NOT NULL,
    place BIGINT NOT NULL,
    path VARCHAR NOT NULL,
    byte_count BIGINT NOT NULL,
    mark VARCHAR NOT NULL,
    sha256 VARCHAR
);
COMMENT ON TABLE in_place_files IS 'The files of sets that are read in place, as they were: where one is another, the set cannot be read';
COMMENT ON COLUMN in_place_files.prediction_set IS 'Name of the prediction set';
COMMENT ON COLUMN in_place_files.place IS 'Number of the file in the set, from 0';
COMMENT ON COLUMN in_place_files.path IS 'Whole path or address of the file';
COMMENT ON COLUMN in_place_files.byte_count IS 'Size of the file';
COMMENT ON COLUMN in_place_files.mark IS 'What its filesystem says that is another when the file is written again: an ETag, or times';
COMMENT ON COLUMN in_place_files.sha256 IS 'SHA-256 of the content of a file on a local disk, by which it is known again where it has other times; null of one elsewhere';

CREATE TABLE IF NOT EXISTS former_prediction_sources (
    prediction_set VARCHAR NOT NULL,
    generation BIGINT NOT NULL,
    source VARCHAR NOT NULL,
    source_sha256 VARCHAR NOT NULL,
    first_prediction_index BIGINT NOT NULL,
    row_count BIGINT NOT NULL
);
COMMENT ON TABLE former_prediction_sources IS 'The files of predictions that were replaced, as long as there is a ranking made of them';
COMMENT ON COLUMN former_prediction_sources.prediction_set IS 'Name of the prediction set';
COMMENT ON COLUMN former_prediction_sources.generation IS 'Number of the reading, as rankings.predictions_generation has it';
COMMENT ON COLUMN former_prediction_sources.source IS 'Path of the file, or the name of the asset or query';
COMMENT ON COLUMN former_prediction_sources.source_sha256 IS 'SHA-256 of the file''s content; of one in place that is not on a local disk, of its size and mark';
COMMENT ON COLUMN former_prediction_sources.first_prediction_index IS 'prediction_index of the file''s first row';
COMMENT ON COLUMN former_prediction_sources.row_count IS 'Rows of the file, stored and quarantined';

CREATE TABLE IF NOT EXISTS predicted_classes (
    prediction_set VARCHAR NOT NULL,
    class VARCHAR,
    predictions BIGINT NOT NULL
);
COMMENT ON TABLE predicted_classes IS 'How many predictions of a set are for each class: that of the highest probability, or the one that the model names';
COMMENT ON COLUMN predicted_classes.prediction_set IS 'Name of the prediction set';
COMMENT ON COLUMN predicted_classes.class IS 'The class; null for predictions that have none';
COMMENT ON COLUMN predicted_classes.predictions IS 'Number of its predictions';

CREATE TABLE IF NOT EXISTS empty_images (
    prediction_set VARCHAR NOT NULL,
    image_id VARCHAR NOT NULL
);
COMMENT ON TABLE empty_images IS 'Images the model has seen and found no object in, as the source says';
COMMENT ON COLUMN empty_images.prediction_set IS 'Name of the prediction set';
COMMENT ON COLUMN empty_images.image_id IS 'The image''s id';

CREATE TABLE IF NOT EXISTS quarantined_predictions (
    prediction_set VARCHAR NOT NULL,
    source VARCHAR NOT NULL,
    row_number BIGINT NOT NULL,
    image_id VARCHAR,
    reason VARCHAR NOT NULL,
    raw VARCHAR NOT NULL
);
COMMENT ON TABLE quarantined_predictions IS 'Rows that cannot be scored';
COMMENT ON COLUMN quarantined_predictions.prediction_set IS 'Name of the prediction set';
COMMENT ON COLUMN quarantined_predictions.source IS 'The file the row is in';
COMMENT ON COLUMN quarantined_predictions.row_number IS 'Which row of the file, from 1; a header and blank lines do not count';
COMMENT ON COLUMN quarantined_predictions.image_id IS 'The image''s id, where it could be read';
COMMENT ON COLUMN quarantined_predictions.reason IS 'Why it cannot be scored';
COMMENT ON COLUMN quarantined_predictions.raw IS 'The row as it was read, its addresses without user, password and query';

CREATE TABLE IF NOT EXISTS scorings (
    prediction_set VARCHAR NOT NULL,
    generation BIGINT NOT NULL,
    predictions_generation BIGINT NOT NULL,
    prediction_run_id VARCHAR NOT NULL,
    task VARCHAR NOT NULL,
    inputs VARCHAR NOT NULL,
    aggregation VARCHAR NOT NULL,
    score_only VARCHAR,
    in_manifest BOOLEAN NOT NULL,
    sum_tolerance DOUBLE NOT NULL,
    committee BOOLEAN NOT NULL,
    run_id VARCHAR NOT NULL,
    scored_at TIMESTAMPTZ NOT NULL
);
COMMENT ON TABLE scorings IS 'How the images were scored the last time, one row per prediction set with scores';
COMMENT ON COLUMN scorings.prediction_set IS 'Name of the prediction set';
COMMENT ON COLUMN scorings.generation IS 'Number of the scoring: higher than that of whatever was read, scored or ranked before';
COMMENT ON COLUMN scorings.predictions_generation IS 'Number of the reading of the predictions that were scored';
COMMENT ON COLUMN scorings.prediction_run_id IS 'Dagster run that read them';
COMMENT ON COLUMN scorings.task IS 'The task they were scored for: classification, detection or segmentation';
COMMENT ON COLUMN scorings.inputs IS 'What the class probabilities were declared to be: probabilities, logits or independent';
COMMENT ON COLUMN scorings.aggregation IS 'What the score of an image is of those of its predictions: mean, max, min or sum';
COMMENT ON COLUMN scorings.score_only IS 'binary where a score without class probabilities was declared to be a probability of two classes';
COMMENT ON COLUMN scorings.in_manifest IS 'Whether the images scored are those of the manifest, and not those that the model has seen';
COMMENT ON COLUMN scorings.sum_tolerance IS 'How far from 1 the sum of class probabilities could be, and each outside 0..1';
COMMENT ON COLUMN scorings.committee IS 'Whether several predictions of one image were votes, and the mean of their class probabilities was scored';
COMMENT ON COLUMN scorings.run_id IS 'Dagster run that scored the images';
COMMENT ON COLUMN scorings.scored_at IS 'When they were scored';

CREATE TABLE IF NOT EXISTS labeling_candidates (
    prediction_set VARCHAR NOT NULL,
    acquisition_function VARCHAR NOT NULL,
    rank BIGINT NOT NULL,
    image_id VARCHAR NOT NULL,
    score DOUBLE,
    uncertainty DOUBLE,
    prediction_count BIGINT NOT NULL,
    predicted_class VARCHAR,
    run_id VARCHAR NOT NULL
);
COMMENT ON TABLE labeling_candidates IS 'Which images to label next';
COMMENT ON COLUMN labeling_candidates.prediction_set IS 'Name of the prediction set';
COMMENT ON COLUMN labeling_candidates.acquisition_function IS 'The rule that ranks the images';
COMMENT ON COLUMN labeling_candidates.rank IS 'Place in the queue, from 1';
COMMENT ON COLUMN labeling_candidates.image_id IS 'The image''s id';
COMMENT ON COLUMN labeling_candidates.score IS 'The image''s score in the function''s own unit';
COMMENT ON COLUMN labeling_candidates.uncertainty IS 'The score mapped to 0..1, where 1 is the most uncertain; a sum is cut at 1';
COMMENT ON COLUMN labeling_candidates.prediction_count IS 'How many predictions the score is made of';
COMMENT ON COLUMN labeling_candidates.predicted_class IS 'The class with the highest mean probability; of objects the most frequent class';
COMMENT ON COLUMN labeling_candidates.run_id IS 'Dagster run that ranked the images';

CREATE TABLE IF NOT EXISTS rankings (
    prediction_set VARCHAR NOT NULL,
    acquisition_function VARCHAR NOT NULL,
    candidate_limit BIGINT,
    generation BIGINT NOT NULL,
    predictions_generation BIGINT,
    scores_generation BIGINT,
    model VARCHAR,
    source VARCHAR,
    source_sha256 VARCHAR,
    prediction_run_id VARCHAR,
    ingested_at TIMESTAMPTZ,
    task VARCHAR,
    inputs VARCHAR,
    aggregation VARCHAR,
    score_only VARCHAR,
    in_manifest BOOLEAN,
    sum_tolerance DOUBLE,
    committee BOOLEAN,
    scoring_run_id VARCHAR,
    run_id VARCHAR NOT NULL,
    ranked_at TIMESTAMPTZ
);
COMMENT ON TABLE rankings IS 'How the images were ranked the last time and what of, one row per ranking; what an earlier version did not keep is null';
COMMENT ON COLUMN rankings.prediction_set IS 'Name of the prediction set';
COMMENT ON COLUMN rankings.acquisition_function IS 'The rule that ranks the images';
COMMENT ON COLUMN rankings.candidate_limit IS 'How many candidates there are at the most';
COMMENT ON COLUMN rankings.generation IS 'Number of the ranking: higher than that of whatever was read, scored or ranked before';
COMMENT ON COLUMN rankings.predictions_generation IS 'Number of the reading of the predictions that the ranking was made of: that of prediction_sets, or of former_prediction_sources if they were replaced since';
COMMENT ON COLUMN rankings.scores_generation IS 'Number of the scoring that the ranking was made of';
COMMENT ON COLUMN rankings.model IS 'The model that made these predictions';
COMMENT ON COLUMN rankings.source IS 'Path, glob, asset key or query they came from';
COMMENT ON COLUMN rankings.source_sha256 IS 'SHA-256 of the content that was read';
COMMENT ON COLUMN rankings.prediction_run_id IS 'Dagster run that read them';
COMMENT ON COLUMN rankings.ingested_at IS 'When they were read';
COMMENT ON COLUMN rankings.task IS 'The task they were scored for: classification, detection or segmentation';
COMMENT ON COLUMN rankings.inputs IS 'What the class probabilities were declared to be: probabilities, logits or independent';
COMMENT ON COLUMN rankings.aggregation IS 'What the score of an image is of those of its predictions: mean, max, min or sum';
COMMENT ON COLUMN rankings.score_only IS 'binary where a score without class probabilities was declared to be a probability of two classes';
COMMENT ON COLUMN rankings.in_manifest IS 'Whether the images ranked are those of the manifest without a label, and not all that the model has seen';
COMMENT ON COLUMN rankings.sum_tolerance IS 'How far from 1 the sum of class probabilities could be, and each outside 0..1';
COMMENT ON COLUMN rankings.committee IS 'Whether several predictions of one image were votes, and the mean of their class probabilities was scored';
COMMENT ON COLUMN rankings.scoring_run_id IS 'Dagster run that scored the images';
COMMENT ON COLUMN rankings.run_id IS 'Dagster run that ranked the images';
COMMENT ON COLUMN rankings.ranked_at IS 'When they were ranked';

-- Rankings are replaced; what they were like stays, one row per reading of predictions and function.
CREATE TABLE IF NOT EXISTS ranking_statistics (
    prediction_set VARCHAR NOT NULL,
    acquisition_function VARCHAR NOT NULL,
    predictions_generation BIGINT NOT NULL,
    model VARCHAR,
    prediction_count BIGINT NOT NULL,
    candidate_count BIGINT NOT NULL,
    image_count BIGINT NOT NULL,
    score_at_cut DOUBLE,
    uncertainty_at_cut DOUBLE,
    mean_uncertainty DOUBLE,
    class_shares MAP(VARCHAR, DOUBLE) NOT NULL,
    run_id VARCHAR NOT NULL,
    ranked_at TIMESTAMPTZ NOT NULL
);
COMMENT ON TABLE ranking_statistics IS 'What each ranking was like, one row per function and reading of predictions; those of predictions that were replaced stay';
COMMENT ON COLUMN ranking_statistics.prediction_set IS 'Name of the prediction set';
COMMENT ON COLUMN ranking_statistics.acquisition_function IS 'The rule that ranked the images';
COMMENT ON COLUMN ranking_statistics.predictions_generation IS 'Number of the reading of the predictions: a later one is higher';
COMMENT ON COLUMN ranking_statistics.model IS 'The model that made the predictions';
COMMENT ON COLUMN ranking_statistics.prediction_count IS 'Number of the predictions';
COMMENT ON COLUMN ranking_statistics.candidate_count IS 'Number of candidates';
COMMENT ON COLUMN ranking_statistics.image_count IS 'Number of images to choose from';
COMMENT ON COLUMN ranking_statistics.score_at_cut IS 'Score of the last candidate';
COMMENT ON COLUMN ranking_statistics.uncertainty_at_cut IS 'The same as uncertainty, 0 to 1';
COMMENT ON COLUMN ranking_statistics.mean_uncertainty IS 'Mean uncertainty of all images with a score, 0 to 1';
COMMENT ON COLUMN ranking_statistics.class_shares IS 'Share of the predictions that each class has';
COMMENT ON COLUMN ranking_statistics.run_id IS 'Dagster run that ranked the images';
COMMENT ON COLUMN ranking_statistics.ranked_at IS 'When they were ranked';

-- One batch of a pool is open at the most: it has the highest number, and no image of it was handed out.
CREATE TABLE IF NOT EXISTS labeling_batches (
    batch BIGINT NOT NULL,
    position BIGINT NOT NULL,
    image_id VARCHAR NOT NULL,
    chosen_by VARCHAR NOT NULL,
    acquisition_function VARCHAR NOT NULL,
    queue_rank BIGINT,
    selection_probability DOUBLE,
    score DOUBLE,
    uncertainty DOUBLE,
    prediction_count BIGINT NOT NULL,
    predicted_class VARCHAR,
    nearest_distance DOUBLE,
    prediction_set VARCHAR NOT NULL,
    ranking_run_id VARCHAR NOT NULL,
    run_id VARCHAR NOT NULL,
    created_at TIMESTAMPTZ NOT NULL,
    handed_out_at TIMESTAMPTZ,
    returned_at TIMESTAMPTZ
);
COMMENT ON TABLE labeling_batches IS 'The images that go out to be labeled together, one row per image; in flight are those that are handed out, not returned and not labeled';
COMMENT ON COLUMN labeling_batches.batch IS 'Number of the batch, from 1';
COMMENT ON COLUMN labeling_batches.position IS 'Place in the batch, from 1';
COMMENT ON COLUMN labeling_batches.image_id IS 'The image''s id';
COMMENT ON COLUMN labeling_batches.chosen_by IS 'queue, badge, typical or random: the way in which the image was chosen';
COMMENT ON COLUMN labeling_batches.acquisition_function IS 'The rule of the queue';
COMMENT ON COLUMN labeling_batches.queue_rank IS 'Rank of the image under that rule when the batch was made; null where it was no candidate';
COMMENT ON COLUMN labeling_batches.selection_probability IS 'Probability with which a random image was drawn, of all images that were neither labeled nor in flight; null for others';
COMMENT ON COLUMN labeling_batches.score IS 'The image''s score under the rule, as the ranking had it';
COMMENT ON COLUMN labeling_batches.uncertainty IS 'That score mapped to 0..1, where 1 is the most uncertain';
COMMENT ON COLUMN labeling_batches.prediction_count IS 'Number of predictions of the image, for objects how many there are to label';
COMMENT ON COLUMN labeling_batches.predicted_class IS 'The class with the highest mean probability; of objects the most frequent class';
COMMENT ON COLUMN labeling_batches.nearest_distance IS 'Distance of the embedding to the nearest image that is labeled, in flight or at an earlier place';
COMMENT ON COLUMN labeling_batches.prediction_set IS 'The prediction set whose ranking was used';
COMMENT ON COLUMN labeling_batches.ranking_run_id IS 'Dagster run that ranked the images';
COMMENT ON COLUMN labeling_batches.run_id IS 'Dagster run that made the batch';
COMMENT ON COLUMN labeling_batches.created_at IS 'When it was made';
COMMENT ON COLUMN labeling_batches.handed_out_at IS 'When it went out; null as long as the batch is open';
COMMENT ON COLUMN labeling_batches.returned_at IS 'When the image came back without a label, to be chosen again; null else';

CREATE TABLE IF NOT EXISTS batch_selections (
    batch BIGINT NOT NULL,
    prediction_set VARCHAR NOT NULL,
    acquisition_function VARCHAR NOT NULL,
    wanted_count BIGINT NOT NULL,
    image_count BIGINT NOT NULL,
    random_count BIGINT NOT NULL,
    unlabeled_count BIGINT NOT NULL,
    in_flight_count BIGINT NOT NULL,
    duplicate_count BIGINT NOT NULL,
    shortfall VARCHAR,
    full_classes VARCHAR[] NOT NULL,
    ranking_generation BIGINT NOT NULL,
    run_id VARCHAR NOT NULL,
    created_at TIMESTAMPTZ NOT NULL
);
COMMENT ON TABLE batch_selections IS 'How each batch was made, one row per batch; an empty batch has one too';
COMMENT ON COLUMN batch_selections.batch IS 'Number of the batch, as in labeling_batches';
COMMENT ON COLUMN batch_selections.prediction_set IS 'The prediction set whose ranking was used';
COMMENT ON COLUMN batch_selections.acquisition_function IS 'The rule of the queue';
COMMENT ON COLUMN batch_selections.wanted_count IS 'How many images the setting size asks for';
COMMENT ON COLUMN batch_selections.image_count IS 'How many the batch has';
COMMENT ON COLUMN batch_selections.random_count IS 'How many of them were drawn at random';
COMMENT ON COLUMN batch_selections.unlabeled_count IS 'Images that were neither labeled nor in flight: what the random ones were drawn from';
COMMENT ON COLUMN batch_selections.in_flight_count IS 'Images in flight, which were left out';
COMMENT ON COLUMN batch_selections.duplicate_count IS 'Images of the queue that were left out as near-duplicates';
COMMENT ON COLUMN batch_selections.shortfall IS 'Why the batch has fewer images than were asked for; null where it has not';
COMMENT ON COLUMN batch_selections.full_classes IS 'Classes that had more candidates than max_per_class lets in';
COMMENT ON COLUMN batch_selections.ranking_generation IS 'Number of the ranking, as in rankings.generation';
COMMENT ON COLUMN batch_selections.run_id IS 'Dagster run that made the batch';
COMMENT ON COLUMN batch_selections.created_at IS 'When it was made';

CREATE TABLE IF NOT EXISTS near_duplicates (
    batch BIGINT NOT NULL,
    image_id VARCHAR NOT NULL,
    duplicate_of VARCHAR NOT NULL,
    distance DOUBLE NOT NULL
);
COMMENT ON TABLE near_duplicates IS 'Images that a batch left out, because they are like one that is labeled, in flight or in the batch';
COMMENT ON COLUMN near_duplicates.batch IS 'Number of the batch';
COMMENT ON COLUMN near_duplicates.image_id IS 'The image that was left out';
COMMENT ON COLUMN near_duplicates.duplicate_of IS 'The image that it is like';
COMMENT ON COLUMN near_duplicates.distance IS 'Euclidean distance of their embeddings';

-- Rows are added and stay: how good an order is, over time.
CREATE TABLE IF NOT EXISTS rule_evaluations (
    prediction_set VARCHAR NOT NULL,
    acquisition_function VARCHAR NOT NULL,
    aggregation VARCHAR NOT NULL,
    generation BIGINT NOT NULL,
    label_count BIGINT NOT NULL,
    error_count BIGINT NOT NULL,
    error_rate DOUBLE NOT NULL,
    error_rate_standard_error DOUBLE,
    auroc DOUBLE NOT NULL,
    auroc_low DOUBLE,
    auroc_high DOUBLE,
    compared_with VARCHAR NOT NULL,
    difference DOUBLE NOT NULL,
    difference_low DOUBLE,
    difference_high DOUBLE,
    average_precision DOUBLE NOT NULL,
    risk_coverage_area DOUBLE NOT NULL,
    first_images DOUBLE NOT NULL,
    error_rate_among_first DOUBLE NOT NULL,
    lift DOUBLE NOT NULL,
    errors_per_box DOUBLE,
    predictions_generation BIGINT NOT NULL,
    model VARCHAR,
    source_sha256 VARCHAR NOT NULL,
    run_id VARCHAR NOT NULL,
    evaluated_at TIMESTAMPTZ NOT NULL
);
COMMENT ON TABLE rule_evaluations IS 'How well each acquisition function put images first that the model got wrong, one row per function and evaluation: about errors of this model as it is, not about what retraining gains';
COMMENT ON COLUMN rule_evaluations.prediction_set IS 'Name of the prediction set';
COMMENT ON COLUMN rule_evaluations.acquisition_function IS 'The rule that orders the images';
COMMENT ON COLUMN rule_evaluations.aggregation IS 'What the score of an image is of those of its predictions: mean, max, min or sum';
COMMENT ON COLUMN rule_evaluations.generation IS 'Number of the evaluation: higher than that of whatever was read, scored, ranked or evaluated before';
COMMENT ON COLUMN rule_evaluations.label_count IS 'Labels that were drawn at random, and which the model cannot have been trained on';
COMMENT ON COLUMN rule_evaluations.error_count IS 'Images of them that the model got wrong';
COMMENT ON COLUMN rule_evaluations.error_rate IS 'Share of the pool that the model gets wrong, as these labels estimate it';
COMMENT ON COLUMN rule_evaluations.error_rate_standard_error IS 'Standard error of that share; null where there are too few labels to tell';
COMMENT ON COLUMN rule_evaluations.auroc IS 'Probability that an image with an error comes before one without; a tie counts half';
COMMENT ON COLUMN rule_evaluations.auroc_low IS 'Lower end of its interval of 95 %';
COMMENT ON COLUMN rule_evaluations.auroc_high IS 'Upper end of it';
COMMENT ON COLUMN rule_evaluations.compared_with IS 'The rule that it is compared with';
COMMENT ON COLUMN rule_evaluations.difference IS 'Its auroc minus that of the rule it is compared with';
COMMENT ON COLUMN rule_evaluations.difference_low IS 'Lower end of the interval of 95 % of the difference, on the same resampled images';
COMMENT ON COLUMN rule_evaluations.difference_high IS 'Upper end of it';
COMMENT ON COLUMN rule_evaluations.average_precision IS 'Mean share of errors among the first images, at each error';
COMMENT ON COLUMN rule_evaluations.risk_coverage_area IS 'Mean error rate of the most certain images, over all numbers of them: low is good';
COMMENT ON COLUMN rule_evaluations.first_images IS 'The number of images of the pool that the next three columns are about';
COMMENT ON COLUMN rule_evaluations.error_rate_among_first IS 'Share of images with an error among the first';
COMMENT ON COLUMN rule_evaluations.lift IS 'That share as a multiple of error_rate';
COMMENT ON COLUMN rule_evaluations.errors_per_box IS 'False positives and false negatives for each predicted box in the first images; null for whole images, and without boxes';
COMMENT ON COLUMN rule_evaluations.predictions_generation IS 'Number of the reading of the predictions, as in prediction_sets';
COMMENT ON COLUMN rule_evaluations.model IS 'The model that made them';
COMMENT ON COLUMN rule_evaluations.source_sha256 IS 'SHA-256 of the content that was read';
COMMENT ON COLUMN rule_evaluations.run_id IS 'Dagster run that evaluated the rules';
COMMENT ON COLUMN rule_evaluations.evaluated_at IS 'When it did';

CREATE TABLE IF NOT EXISTS unfinished_exports (
    batch BIGINT NOT NULL,
    began_at TIMESTAMPTZ NOT NULL
);
COMMENT ON TABLE unfinished_exports IS 'Batches that are handed out and whose files may not be there: writing them began and did not end';
COMMENT ON COLUMN unfinished_exports.batch IS 'Number of the batch, as in labeling_batches';
COMMENT ON COLUMN unfinished_exports.began_at IS 'When the first file was about to take its place';

-- An image is sent with each batch it is in; it has one task in the tool all the same.
CREATE TABLE IF NOT EXISTS labeling_tasks (
    batch BIGINT NOT NULL,
    position BIGINT NOT NULL,
    image_id VARCHAR NOT NULL,
    tool VARCHAR NOT NULL,
    project VARCHAR NOT NULL,
    task_id BIGINT,
    state VARCHAR NOT NULL,
    outcome VARCHAR,
    run_id VARCHAR NOT NULL,
    requested_at TIMESTAMPTZ NOT NULL,
    sent_at TIMESTAMPTZ,
    read_at TIMESTAMPTZ
);
COMMENT ON TABLE labeling_tasks IS 'The images that went to a labeling tool, or were to, one row per request';
COMMENT ON COLUMN labeling_tasks.batch IS 'Number of the batch';
COMMENT ON COLUMN labeling_tasks.position IS 'Place in the batch, from 1';
COMMENT ON COLUMN labeling_tasks.image_id IS 'The image''s id';
COMMENT ON COLUMN labeling_tasks.tool IS 'The labeling tool: label_studio';
COMMENT ON COLUMN labeling_tasks.project IS 'Title of the project in the tool that it was to be sent to';
COMMENT ON COLUMN labeling_tasks.task_id IS 'Number of the image''s task there; after it is deleted another task may have it';
COMMENT ON COLUMN labeling_tasks.state IS 'pending before it is sent and until it is known to be there, sent, deleted in the tool, or needless because the image got its label, came back, left the manifest or went to another project first';
COMMENT ON COLUMN labeling_tasks.outcome IS 'At the last reading: labeled, skipped, conflict or quarantined; null where nobody has annotated it';
COMMENT ON COLUMN labeling_tasks.run_id IS 'Dagster run that sent it, or wanted to';
COMMENT ON COLUMN labeling_tasks.requested_at IS 'When it was to be sent';
COMMENT ON COLUMN labeling_tasks.sent_at IS 'When it was known to be there';
COMMENT ON COLUMN labeling_tasks.read_at IS 'When annotations were read last';

CREATE TABLE IF NOT EXISTS labels (
    image_id VARCHAR NOT NULL,
    category VARCHAR,
    bbox DOUBLE[],
    segmentation VARCHAR,
    annotator VARCHAR NOT NULL,
    annotated_at TIMESTAMPTZ NOT NULL,
    lead_time_seconds DOUBLE,
    ground_truth BOOLEAN NOT NULL,
    tool VARCHAR NOT NULL,
    project VARCHAR NOT NULL,
    task_id BIGINT NOT NULL,
    annotation_id VARCHAR NOT NULL,
    run_id VARCHAR NOT NULL,
    read_at TIMESTAMPTZ NOT NULL
);
COMMENT ON TABLE labels IS 'What people say that images show, one row per class of an image or object in it: what the tool had at the last reading';
COMMENT ON COLUMN labels.image_id IS 'The image''s id';
COMMENT ON COLUMN labels.category IS 'The class; null where an image has no object';
COMMENT ON COLUMN labels.bbox IS 'x and y of the top left corner, width and height in pixels, for objects';
COMMENT ON COLUMN labels.segmentation IS 'The object''s mask as COCO has it, as JSON: polygons or run lengths';
COMMENT ON COLUMN labels.annotator IS 'The person, as the tool numbers them';
COMMENT ON COLUMN labels.annotated_at IS 'When the annotation was made or changed last';
COMMENT ON COLUMN labels.lead_time_seconds IS 'Time that it took, where the tool says it';
COMMENT ON COLUMN labels.ground_truth IS 'Whether the annotation was marked as ground truth';
COMMENT ON COLUMN labels.tool IS 'The labeling tool: label_studio';
COMMENT ON COLUMN labels.project IS 'Title of the project in the tool';
COMMENT ON COLUMN labels.task_id IS 'Number of the task there';
COMMENT ON COLUMN labels.annotation_id IS 'Unique id of the annotation';
COMMENT ON COLUMN labels.run_id IS 'Dagster run that read it';
COMMENT ON COLUMN labels.read_at IS 'When it was read';

CREATE TABLE IF NOT EXISTS quarantined_labels (
    image_id VARCHAR NOT NULL,
    annotator VARCHAR NOT NULL,
    annotated_at TIMESTAMPTZ NOT NULL,
    reason VARCHAR NOT NULL,
    raw VARCHAR NOT NULL,
    tool VARCHAR NOT NULL,
    project VARCHAR NOT NULL,
    task_id BIGINT NOT NULL,
    annotation_id VARCHAR NOT NULL,
    run_id VARCHAR NOT NULL,
    read_at TIMESTAMPTZ NOT NULL
);
COMMENT ON TABLE quarantined_labels IS 'Annotations that are no labels, with the reason';
COMMENT ON COLUMN quarantined_labels.image_id IS 'The image''s id';
COMMENT ON COLUMN quarantined_labels.annotator IS 'The person, as the tool numbers them';
COMMENT ON COLUMN quarantined_labels.annotated_at IS 'When the annotation was made or changed last';
COMMENT ON COLUMN quarantined_labels.reason IS 'Why it cannot be used';
COMMENT ON COLUMN quarantined_labels.raw IS 'What it says, as JSON';
COMMENT ON COLUMN quarantined_labels.tool IS 'The labeling tool: label_studio';
COMMENT ON COLUMN quarantined_labels.project IS 'Title of the project in the tool';
COMMENT ON COLUMN quarantined_labels.task_id IS 'Number of the task there';
COMMENT ON COLUMN quarantined_labels.annotation_id IS 'Unique id of the annotation';
COMMENT ON COLUMN quarantined_labels.run_id IS 'Dagster run that read it';
COMMENT ON COLUMN quarantined_labels.read_at IS 'When it was read';

CREATE TABLE IF NOT EXISTS relabeled_images (
    image_id VARCHAR NOT NULL,
    labeled BOOLEAN NOT NULL,
    label VARCHAR
);
COMMENT ON TABLE relabeled_images IS 'What the manifest says of images whose label is in labels: images says the label itself, as long as it is not withdrawn';
COMMENT ON COLUMN relabeled_images.image_id IS 'The image''s id';
COMMENT ON COLUMN relabeled_images.labeled IS 'Whether the manifest says that it has its label';
COMMENT ON COLUMN relabeled_images.label IS 'The label in the manifest';
