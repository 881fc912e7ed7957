"""Predicted classes of the same images in two prediction sets."""

# Two statements begin with the same queues.
# ruff: noqa: S608

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from dagster_active_learning.rules import NO_LIMIT
from dagster_active_learning.store.in_place_views import scores_in_files
from dagster_active_learning.store.pool_store import PoolStore
from dagster_active_learning.store.prediction_sets import PredictionSet
from dagster_active_learning.store.set_rows import of_sets

# The class with the highest mean probability. Most images have one prediction, of which no mean is
# to be made: that is ten times as fast.
CLASSES_OF_ONE = """
    SELECT p.image_id, list_position(p.class_probs, list_max(p.class_probs)) AS class_index
    FROM {predictions} p SEMI JOIN (
        FROM {image_scores} WHERE prediction_count = 1
    ) s ON p.image_id = s.image_id
"""

CLASSES_IN_PLACE = """
    SELECT image_id, class_position + 1 AS class_index FROM {scores}
    WHERE class_position IS NOT NULL
"""

CLASSES_OF_SEVERAL = """
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
    (coalesce(list_position($class_names, CASE WHEN i.labeled THEN i.label END), 0) - 1)::BIGINT
        AS label,
    CASE WHEN list_extract($same_class, b.class_index) != a.class_index THEN a.image_id END
        AS changed_image
FROM ({classes_before}) b JOIN ({classes_after}) a ON b.image_id = a.image_id
LEFT JOIN images i ON i.image_id = a.image_id
"""


@dataclass(frozen=True)
class ClassChanges:
    """Predicted classes of the images that two prediction sets have in common.

    Attributes:
        before: (n_images,) the index of each image's class in the class names of the set before.
        after: (n_images,) of its class in those of the set after.
        labels: (n_images,) of its label in those of the set after, and behind them the others of
            the set before; -1 for images without a label, and with one that is none of the classes.
        changed_images: (n_images,) the ids of those with another class, null for the others.
    """

    before: npt.NDArray[np.int64]
    after: npt.NDArray[np.int64]
    labels: npt.NDArray[np.int64]
    changed_images: pa.ChunkedArray


def class_changes(store: PoolStore, before: PredictionSet, after: PredictionSet) -> ClassChanges:
    """Predicted classes of the images that two prediction sets have in common.

    Args:
        store: The pool.
        before: The record of a set.
        after: That of another one; classes go by their names.
    """
    query = CLASS_CHANGES.format(
        classes_before=_classes(store, before), classes_after=_classes(store, after)
    )
    place = {name: at for at, name in enumerate(after.class_names, 1)}
    table = store.relation(
        query,
        class_names=list(dict.fromkeys([*after.class_names, *before.class_names])),
        same_class=[place.get(name, 0) for name in before.class_names],
    ).to_arrow_table()
    first, second, labels, changed_images = table.columns
    return ClassChanges(first.to_numpy(), second.to_numpy(), labels.to_numpy(), changed_images)


def _classes(store: PoolStore, stored: PredictionSet) -> str:
    """A query of the class of each image; of a set in place the class of one prediction is kept."""
    names = [stored.prediction_set]
    scores = scores_in_files(store, stored.prediction_set)
    if scores is None:
        classes = of_sets(store, names, CLASSES_OF_ONE)
    else:
        classes = CLASSES_IN_PLACE.format(scores=scores)
    if stored.prediction_count > stored.image_count:
        classes += f" UNION ALL {of_sets(store, names, CLASSES_OF_SEVERAL)}"
    return classes


# An image that was labeled since is in the older queue because nobody ranked it again.
QUEUES = """
WITH queues AS (
    SELECT * REPLACE (row_number() OVER (PARTITION BY prediction_set ORDER BY rank) AS rank)
    FROM labeling_candidates c ANTI JOIN (FROM images WHERE labeled) i ON c.image_id = i.image_id
    WHERE acquisition_function = $acquisition_function
)
"""

QUEUE_OVERLAP = f"""
{QUEUES}
SELECT count(*) FILTER (b.image_id IS NOT NULL), count(*)
FROM queues a LEFT JOIN queues b
    ON a.image_id = b.image_id AND b.prediction_set = $before AND b.rank <= $first
WHERE a.prediction_set = $after AND a.rank <= $first
"""


def queue_overlap(
    store: PoolStore, before: str, after: str, function: str, first: int = NO_LIMIT
) -> tuple[int, int]:
    """Candidates of a set's ranking that the other set's has too, and all of its candidates.

    Images with a label do not count, and those behind them move up.

    Args:
        store: The pool.
        before: Name of the other set.
        after: Name of the set.
        function: The acquisition function.
        first: The last rank that counts, in both.
    """
    values = {"before": before, "after": after, "acquisition_function": function}
    ((common, total),) = store.rows(QUEUE_OVERLAP, **values, first=first)
    return common, total


ONLY_ASKED_FOR = f"""
{QUEUES}
SELECT c.rank, c.image_id, i.uri, i.width, i.height, c.score, c.predicted_class,
    o.rank AS other_rank
FROM queues c
LEFT JOIN images i ON i.image_id = c.image_id
LEFT JOIN queues o ON o.image_id = c.image_id AND o.prediction_set = $other
WHERE c.prediction_set = $asks AND c.rank <= $first AND (o.rank IS NULL OR o.rank > $first)
ORDER BY c.rank LIMIT $shown
"""


def only_asked_for(
    store: PoolStore, asks: str, other: str, function: str, *, first: int, shown: int
) -> list[dict[str, Any]]:
    """Images among the first of a set's ranking that are not among those of another's.

    Args:
        store: The pool.
        asks: Name of the set whose ranking has them.
        other: Name of the other one.
        function: The acquisition function.
        first: The last rank that counts, in both.
        shown: How many rows are wanted at the most, the first ranks.

    Returns:
        Rows of rank, image_id, uri, width, height, score, predicted_class and other_rank, which is
        None where the other ranking does not have the image at all; ranks as in ``queue_overlap``.
    """
    values = {"asks": asks, "other": other, "acquisition_function": function}
    relation = store.relation(ONLY_ASKED_FOR, **values, first=first, shown=shown)
    return relation.to_arrow_table().to_pylist()


PREVIOUS_SET = """
SELECT prediction_set FROM prediction_sets
WHERE generation < (SELECT generation FROM prediction_sets WHERE prediction_set = $prediction_set)
ORDER BY generation DESC LIMIT 1
"""


def previous_set(store: PoolStore, prediction_set: str) -> str | None:
    """The name of the set that was read last before this one, None where it is the first."""
    rows = store.rows(PREVIOUS_SET, prediction_set=prediction_set)
    return rows[0][0] if rows else None
