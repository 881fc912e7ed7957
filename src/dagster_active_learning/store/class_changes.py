"""Predicted classes of the same images in two prediction sets."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from dagster_active_learning.store.pool_store import PoolStore
from dagster_active_learning.store.set_rows import of_sets

# The class with the highest mean probability. Most images have one prediction, of which no mean is
# to be made: that is ten times as fast.
CLASSES = """
    SELECT p.image_id, list_position(p.class_probs, list_max(p.class_probs)) AS class_index
    FROM {predictions} p SEMI JOIN (
        FROM {image_scores} WHERE prediction_count = 1
    ) s ON p.image_id = s.image_id
    UNION ALL
    SELECT image_id, min_by(class_index, (-mean_probability, class_index)) FROM (
        SELECT image_id, class_index, avg(probability ORDER BY prediction_index) AS mean_probability
        FROM (
            SELECT p.image_id, p.prediction_index, unnest(p.class_probs) AS probability,
                generate_subscripts(p.class_probs, 1) AS class_index
            FROM {predictions} p SEMI JOIN (
                FROM {image_scores} WHERE prediction_count > 1
            ) s ON p.image_id = s.image_id
        ) GROUP BY image_id, class_index
    ) GROUP BY image_id
"""

CLASS_CHANGES = """
SELECT (b.class_index - 1)::BIGINT AS before, (a.class_index - 1)::BIGINT AS after,
    (coalesce(list_position((
        SELECT class_names FROM prediction_sets WHERE prediction_set = $after
    ), CASE WHEN i.labeled THEN i.label END), 0) - 1)::BIGINT AS label
FROM ({classes_before}) b JOIN ({classes_after}) a ON b.image_id = a.image_id
LEFT JOIN images i ON i.image_id = a.image_id
"""


def class_changes(
    store: PoolStore, before: str, after: str
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Predicted classes of the images that two prediction sets have in common.

    Args:
        store: The pool.
        before: Name of a set.
        after: Name of another one.

    Returns:
        Three arrays (n_images,): the index of each image's class in the class names of its set,
        before and after, and of its label in those of the set after; -1 for images without a label,
        and with one that is none of the classes.
    """
    query = CLASS_CHANGES.format(
        classes_before=of_sets(store, [before], CLASSES),
        classes_after=of_sets(store, [after], CLASSES),
    )
    table = store.relation(query, after=after).to_arrow_table()
    first, second, labels = (column.to_numpy() for column in table.columns)
    return first, second, labels


QUEUE_OVERLAP = """
SELECT count(*) FILTER (b.image_id IS NOT NULL), count(*)
FROM labeling_candidates a LEFT JOIN labeling_candidates b
    ON a.image_id = b.image_id AND b.acquisition_function = $acquisition_function
    AND b.prediction_set = $before
WHERE a.prediction_set = $after AND a.acquisition_function = $acquisition_function
"""


def queue_overlap(store: PoolStore, before: str, after: str, function: str) -> tuple[int, int]:
    """Candidates of a set's ranking that the other set's has too, and all of its candidates."""
    values = {"before": before, "after": after, "acquisition_function": function}
    ((common, total),) = store.rows(QUEUE_OVERLAP, **values)
    return common, total


PREVIOUS_SET = """
SELECT prediction_set FROM prediction_sets
WHERE generation < (SELECT generation FROM prediction_sets WHERE prediction_set = $prediction_set)
ORDER BY generation DESC LIMIT 1
"""


def previous_set(store: PoolStore, prediction_set: str) -> str | None:
    """The name of the set that was read last before this one, None where it is the first."""
    rows = store.rows(PREVIOUS_SET, prediction_set=prediction_set)
    return rows[0][0] if rows else None
