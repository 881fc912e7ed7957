"""All that the tables say about one image, from its ranks to the rows of the files."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from dagster_active_learning.store.kept_predictions import of_images
from dagster_active_learning.store.pool_store import PoolStore


@dataclass(frozen=True)
class ImageRecord:
    """All that a pool's tables say about one image in a prediction set, with their column names.

    Attributes:
        manifest: uri, labeled and label; None if the manifest does not have the image, or the
            predictions were read without one.
        scores: The row of ``image_scores`` from prediction_count on; None if there is none.
        rankings: For each function that has candidates: how many (``candidates``), the
            ``last_score`` among them, the ``run_id``, and rank, score, uncertainty and
            predicted_class of the image, None if it is not among them; the columns of ``rankings``
            that say what it was made of, None where an earlier version ranked; whether these
            predictions are stored (``of_stored_predictions``), and the scores (``is_current``).
        predictions: class_probs, score and category of each prediction, with source,
            source_sha256 and row_number.
        quarantined: source, row_number and reason of its rows in quarantine.
        is_empty: Whether the source says that the model found no object in it.
    """

    manifest: dict[str, Any] | None
    scores: dict[str, Any] | None
    rankings: dict[str, dict[str, Any]]
    predictions: list[dict[str, Any]]
    quarantined: list[dict[str, Any]]
    is_empty: bool


IMAGE = """
SELECT uri, labeled, label FROM images WHERE image_id = $image_id AND (
    SELECT in_manifest IS NOT FALSE FROM prediction_sets WHERE prediction_set = $prediction_set
)
"""

SCORES_OF_IMAGE = """
SELECT * EXCLUDE (prediction_set, image_id) FROM {image_scores} WHERE image_id = $image_id
"""

RANKINGS_OF_IMAGE = """
WITH ranked AS (
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
)
SELECT c.*, r.inputs, r.aggregation, r.committee, r.model, r.source, r.source_sha256,
    r.prediction_run_id,
    coalesce(r.predictions_generation = d.generation, false) AS of_stored_predictions,
    of_stored_predictions AND coalesce(r.scores_generation = s.generation, false) AS is_current
FROM ranked c
LEFT JOIN rankings r
    ON r.prediction_set = $prediction_set AND c.acquisition_function = r.acquisition_function
LEFT JOIN prediction_sets d ON d.prediction_set = $prediction_set
LEFT JOIN scorings s ON s.prediction_set = $prediction_set
"""

PREDICTIONS_OF_IMAGE = """
SELECT p.class_probs, p.score, p.category, f.source, f.source_sha256,
    p.prediction_index - f.first_prediction_index + 1 AS row_number
FROM {predictions} p ASOF LEFT JOIN (FROM prediction_sources WHERE row_count > 0) f
    ON p.prediction_set = f.prediction_set AND p.prediction_index >= f.first_prediction_index
WHERE p.image_id = $image_id
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


def image_record(store: PoolStore, prediction_set: str, image_id: str) -> ImageRecord:
    """All that the tables say about one image in a prediction set."""

    def rows(query: str, kept: pa.Table | None = None, **values: str) -> list[dict[str, Any]]:
        return store.relation(query, kept=kept, **values).to_arrow_table().to_pylist()

    in_set = {"prediction_set": prediction_set, "image_id": image_id}
    manifest = rows(IMAGE, **in_set)
    of_set, kept = of_images(
        store, prediction_set, [image_id], [SCORES_OF_IMAGE, PREDICTIONS_OF_IMAGE]
    )
    scores, predictions = (rows(query, kept, image_id=image_id) for query in of_set)
    rankings = rows(RANKINGS_OF_IMAGE, **in_set)
    return ImageRecord(
        manifest=manifest[0] if manifest else None,
        scores=scores[0] if scores else None,
        rankings={ranking["acquisition_function"]: ranking for ranking in rankings},
        predictions=predictions,
        quarantined=rows(QUARANTINED_OF_IMAGE, **in_set),
        is_empty=bool(rows(EMPTY_IMAGE, **in_set)),
    )
