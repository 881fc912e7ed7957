"""Boxes that leave their images.

Of a set in place the scores of images say how far the boxes of each reach, so that predictions are
read of those images only whose boxes may leave them.
"""

# Statements share the sizes of images.
# ruff: noqa: S608

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple, dataclass, replace
from typing import Any

from dagster_active_learning.limits import EXAMPLES
from dagster_active_learning.store.findings import first_rows
from dagster_active_learning.store.in_place_views import scores_in_files
from dagster_active_learning.store.kept_predictions import MOST_IMAGES
from dagster_active_learning.store.pool_store import PoolStore
from dagster_active_learning.store.set_rows import of_sets


@dataclass(frozen=True)
class BoxCounts:
    """Boxes, those in images of known size, those that leave them, and those that fit them turned.

    The last ones would be inside if width and height of the image were exchanged.
    """

    boxes: int
    sized: int
    outside: int
    turned: int


@dataclass(frozen=True)
class BoxFindings:
    """The boxes of prediction sets in numbers, and the first that leave their image.

    Attributes:
        counts: The numbers.
        examples: prediction_set, image_id, prediction_index, bbox as text, width and height.
    """

    counts: BoxCounts
    examples: list[dict[str, Any]]


# A pixel is the least that rounding may be; shares have three decimals or more.
SIZES = """
CASE WHEN relative THEN 1 ELSE nullif(i.width, 0) END AS width,
CASE WHEN relative THEN 1 ELSE nullif(i.height, 0) END AS height,
CASE WHEN relative THEN greatest(0.001, 1 / nullif(i.width, 0)) ELSE 1 END AS across,
CASE WHEN relative THEN greatest(0.001, 1 / nullif(i.height, 0)) ELSE 1 END AS down
"""

SIZED_BOXES = f"""
FROM (
    SELECT *, bbox[1] < -across OR bbox[2] < -down
            OR bbox[1] + bbox[3] > width + across OR bbox[2] + bbox[4] > height + down AS outside,
        width > 1 AND bbox[1] >= -across AND bbox[2] >= -down
            AND bbox[1] + bbox[3] <= height + across AND bbox[2] + bbox[4] <= width + down AS turned
    FROM (
        SELECT p.prediction_set, p.image_id, p.prediction_index, p.bbox, {SIZES}
        FROM (
            SELECT prediction_set, image_id, prediction_index, bbox,
                list_contains($relative, prediction_set) AS relative
            FROM {{{{predictions}}}} WHERE bbox IS NOT NULL {{of_images}}
        ) p LEFT JOIN images i ON p.image_id = i.image_id AND $in_manifest
    )
)
"""

BOX_COUNTS = f"""
SELECT count(*), count(*) FILTER (width IS NOT NULL AND height IS NOT NULL),
    count(*) FILTER (outside), count(*) FILTER (outside AND turned)
{SIZED_BOXES}
"""

BOXES_OUTSIDE = f"""
SELECT prediction_set, image_id, prediction_index, bbox::VARCHAR AS bbox, width, height
{SIZED_BOXES} WHERE outside ORDER BY prediction_set, prediction_index LIMIT $first
"""

REACHES = f"""
FROM (
    SELECT *, box_left < -across OR box_top < -down
        OR box_right > width + across OR box_bottom > height + down AS outside
    FROM (
        SELECT s.*, {SIZES} FROM (
            SELECT image_id, box_count, box_left, box_top, box_right, box_bottom,
                $is_relative AS relative
            FROM {{scores}} WHERE box_count > 0
        ) s LEFT JOIN images i ON s.image_id = i.image_id AND $in_manifest
    )
)
"""

REACH_COUNTS = f"""
SELECT coalesce(sum(box_count), 0)::BIGINT,
    coalesce(sum(box_count) FILTER (width IS NOT NULL AND height IS NOT NULL), 0)::BIGINT,
    count(*) FILTER (outside)
{REACHES}
"""

IMAGES_LEFT = f"SELECT image_id {REACHES} WHERE outside ORDER BY image_id"


def boxes_outside(
    store: PoolStore, prediction_sets: Sequence[str], *, relative: Sequence[str], in_manifest: bool
) -> BoxFindings:
    """Boxes that leave their image by more than a pixel.

    Args:
        store: The pool.
        prediction_sets: Names of sets of objects.
        relative: Those of them in which an image's size is 1 x 1.
        in_manifest: Whether the sizes of the manifest's images count.

    Raises:
        PredictionReadError: If a file that is read in place is gone or another.
    """
    scores = {name: scores_in_files(store, name) for name in prediction_sets}
    copied = [name for name, query in scores.items() if query is None]
    values: dict[str, Any] = {"relative": list(relative), "in_manifest": in_manifest}
    found = [_of_predictions(store, copied, **values)]
    found += [
        _of_reaches(store, name, query, **values)
        for name, query in scores.items()
        if query is not None
    ]
    counts = zip(*(astuple(one.counts) for one in found), strict=True)
    examples = [row for one in found for row in one.examples]
    examples.sort(key=lambda row: (row["prediction_set"], row["prediction_index"]))
    return BoxFindings(BoxCounts(*map(sum, counts)), examples[:EXAMPLES])


def _of_predictions(
    store: PoolStore, prediction_sets: Sequence[str], *, of_images: str = "", **values: Any
) -> BoxFindings:
    counts, examples = (
        of_sets(store, prediction_sets, statement.format(of_images=of_images))
        for statement in (BOX_COUNTS, BOXES_OUTSIDE)
    )
    numbers = BoxCounts(*store.rows(counts, **values)[0])
    return BoxFindings(numbers, first_rows(store, examples, **values))


def _of_reaches(
    store: PoolStore, prediction_set: str, scores: str, *, relative: list[str], in_manifest: bool
) -> BoxFindings:
    """The boxes of a set in place: predictions are read of images whose boxes may leave them."""
    own = {"is_relative": prediction_set in relative, "in_manifest": in_manifest}
    ((boxes, sized, left),) = store.rows(REACH_COUNTS.format(scores=scores), **own)
    if not left:
        return BoxFindings(BoxCounts(boxes, sized, 0, 0), [])
    values: dict[str, Any] = {"relative": relative, "in_manifest": in_manifest}
    if left <= MOST_IMAGES:
        values["of_images"] = "AND list_contains($image_ids, image_id)"
        images = store.rows(IMAGES_LEFT.format(scores=scores), **own)
        values["image_ids"] = [image_id for (image_id,) in images]
    found = _of_predictions(store, [prediction_set], **values)
    return BoxFindings(replace(found.counts, boxes=boxes, sized=sized), found.examples)
