"""The predicted classes of images, as the beginning of a statement."""

# Read once, also by a statement that uses them again.
INCOMING_PREDICTIONS = """
WITH incoming_predictions AS (
    SELECT p.image_id, p.prediction_index, p.class_probs, p.category
    FROM {predictions} p SEMI JOIN active_learning__incoming c ON p.image_id = c.image_id
),
"""

# The class with the highest mean probability, for predictions of whole images.
PREDICTED_CLASSES = """
probabilities AS (
    SELECT image_id, prediction_index, unnest(class_probs) AS probability,
        generate_subscripts(class_probs, 1) AS class_index
    FROM incoming_predictions
),
class_means AS (
    SELECT image_id, class_index, avg(probability ORDER BY prediction_index) AS mean_probability
    FROM probabilities GROUP BY image_id, class_index
),
class_indices AS (
    SELECT image_id, min_by(class_index, (-mean_probability, class_index)) AS class_index
    FROM class_means GROUP BY image_id
),
-- The names come last: beside each class of an image they would be the square of the classes.
predicted AS (
    SELECT image_id, s.class_names[class_index] AS class
    FROM class_indices, prediction_sets s WHERE s.prediction_set = $prediction_set
)
"""

# The most frequent class, for predictions of objects.
MOST_FREQUENT_CLASSES = """
objects AS (
    SELECT image_id, coalesce(
        category,
        -- Not joined: a join would carry all class probabilities along.
        (SELECT class_names FROM prediction_sets WHERE prediction_set = $prediction_set)
            [list_position(class_probs, list_max(class_probs))]
    ) AS class
    FROM incoming_predictions
),
class_counts AS (
    SELECT image_id, class, count(*) AS objects FROM objects
    WHERE class IS NOT NULL GROUP BY image_id, class
),
predicted AS (
    SELECT image_id, min_by(class, (-objects, class)) AS class FROM class_counts GROUP BY image_id
)
"""


def predicted_classes_sql(*, objects: bool) -> str:
    """Common table expressions that end with ``predicted``: image_id and class.

    They are those of the images in ``active_learning__incoming``, from the predictions of
    ``$prediction_set``, which ``incoming_predictions`` has; ``of_sets`` is to put them there.
    """
    return INCOMING_PREDICTIONS + (MOST_FREQUENT_CLASSES if objects else PREDICTED_CLASSES)
