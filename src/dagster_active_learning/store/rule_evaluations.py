"""The table ``rule_evaluations``, and the labels by which rules are evaluated."""

# The statements are put together from parts of this module and from names of columns.

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING

import pyarrow as pa

from dagster_active_learning.limits import rows_for
from dagster_active_learning.rules import Rules
from dagster_active_learning.store.findings import Findings, findings
from dagster_active_learning.store.image_scores import score_columns
from dagster_active_learning.store.kept_predictions import of_images
from dagster_active_learning.store.pool_store import PoolStore
from dagster_active_learning.store.prediction_sets import PredictionSet
from dagster_active_learning.store.set_rows import of_sets

if TYPE_CHECKING:
    import polars as pl

# Also by a labeling tool: an image has its label from there where the manifest has none.
LABELED_WITH_CLASS = "SELECT image_id, label FROM images WHERE labeled AND label IS NOT NULL"

# An image may have come back from a batch without a label: what counts is the one it stayed in.
LABELED_IMAGES = """
SELECT l.image_id, l.label, b.batch, b.chosen_by, b.selection_probability,
    coalesce(d.ranking_generation < (
        SELECT generation FROM prediction_sets WHERE prediction_set = $prediction_set
    ), false) AS is_older, s.prediction_count, {scores}
FROM ({labeled}) l
JOIN {{image_scores}} s ON s.image_id = l.image_id
LEFT JOIN (
    SELECT DISTINCT ON (image_id) image_id, batch, chosen_by, selection_probability
    FROM labeling_batches WHERE returned_at IS NULL ORDER BY image_id, batch
) b ON b.image_id = l.image_id
LEFT JOIN batch_selections d ON d.batch = b.batch
ORDER BY l.image_id
"""


def labeled_images(
    store: PoolStore,
    prediction_set: str,
    functions: Sequence[str],
    image_ids: Sequence[str] | None = None,
) -> pl.DataFrame:
    """Labeled images that have scores, and how they came to be labeled.

    Args:
        store: The pool.
        prediction_set: Name of the set.
        functions: The acquisition functions whose scores are wanted.
        image_ids: The images that are labeled, each once; by default those of the manifest that
            have a label of one class, there or in ``labels``.

    Returns:
        Columns image_id, label, batch, chosen_by, selection_probability (null for images that are
        in no batch), is_older (whether the batch was made before the predictions were read),
        prediction_count, and a column per function.

    Raises:
        PoolStateError: If the pool lacks the scores of a function.
    """
    # The statement finds it as the variable of that name.
    active_learning__incoming = pa.table({"image_id": pa.array(image_ids or [], pa.string())})  # noqa: F841 # pyright: ignore[reportUnusedVariable]
    labeled = "SELECT image_id, NULL::VARCHAR AS label FROM active_learning__incoming"
    scores = (f"s.{column}" for column in score_columns(store, functions))
    query = LABELED_IMAGES.format(
        scores=", ".join(scores), labeled=LABELED_WITH_CLASS if image_ids is None else labeled
    )
    query = of_sets(store, [prediction_set], query)
    return store.connection.sql(query, params={"prediction_set": prediction_set}).pl()


LABELED_PREDICTIONS = """
SELECT p.prediction_index, p.image_id, p.class_probs::DOUBLE[] AS class_probs, p.score,
    p.category, p.bbox
FROM {predictions} p SEMI JOIN (SELECT unnest($image_ids) AS image_id) i ON p.image_id = i.image_id
ORDER BY p.prediction_index
"""


def predictions_of_labeled(
    store: PoolStore, stored: PredictionSet, image_ids: Sequence[str]
) -> Iterator[pl.DataFrame]:
    """Columns prediction_index, image_id, class_probs, score, category and bbox of predictions.

    Args:
        store: The pool.
        stored: The record of the prediction set.
        image_ids: The images the predictions are about.
    """
    import polars as pl

    (query,), kept = of_images(store, stored.prediction_set, image_ids, [LABELED_PREDICTIONS])
    relation = store.relation(query, kept=kept, image_ids=list(image_ids))
    for batch in relation.to_arrow_reader(rows_for(8 * len(stored.class_names))):
        yield pl.DataFrame(batch)


IMAGE_COUNT = "SELECT count(*) FROM {image_scores} WHERE $objects OR prediction_count > 0"


def scored_images(store: PoolStore, prediction_set: str, rules: Rules) -> int:
    """Number of images that the model has seen: for objects also those in which it found none."""
    query = of_sets(store, [prediction_set], IMAGE_COUNT)
    return store.rows(query, objects=rules.objects)[0][0]


@dataclass(frozen=True, kw_only=True)
class RuleEvaluationRow:
    """One row of ``rule_evaluations``; the table's comments say what each column is."""

    acquisition_function: str
    aggregation: str
    label_count: int
    error_count: int
    error_rate: float
    error_rate_standard_error: float | None
    auroc: float
    auroc_low: float | None
    auroc_high: float | None
    compared_with: str
    difference: float
    difference_low: float | None
    difference_high: float | None
    average_precision: float
    risk_coverage_area: float
    first_images: float
    error_rate_among_first: float
    lift: float
    errors_per_box: float | None


INSERT_EVALUATION = """
INSERT INTO rule_evaluations BY NAME
SELECT d.prediction_set, {columns}, $generation AS generation,
    d.generation AS predictions_generation, d.model, d.source_sha256, $run_id AS run_id,
    now() AS evaluated_at
FROM prediction_sets d WHERE d.prediction_set = $prediction_set
"""


def add_evaluation(
    store: PoolStore, prediction_set: str, rows: Sequence[RuleEvaluationRow], run_id: str
) -> None:
    """Store the rows of one evaluation, beside those of earlier ones."""
    names = [field.name for field in fields(RuleEvaluationRow)]
    statement = INSERT_EVALUATION.format(columns=", ".join(f"${name} AS {name}" for name in names))
    ((generation,),) = store.rows("SELECT nextval('generations')")
    own = {"prediction_set": prediction_set, "generation": generation, "run_id": run_id}
    for row in rows:
        store.connection.execute(statement, asdict(row) | own)


LABELS_OF_NO_CLASS = """
SELECT d.prediction_set, i.label, count(*) AS images, min(i.image_id) AS first_image,
    (sum(count(*)) OVER ())::BIGINT AS finding_count
FROM images i, prediction_sets d
WHERE list_contains($prediction_sets, d.prediction_set) AND i.labeled AND i.label IS NOT NULL
    AND NOT list_contains(d.class_names, i.label)
GROUP BY ALL ORDER BY images DESC, d.prediction_set, i.label LIMIT $first
"""


def labels_of_no_class(store: PoolStore, prediction_sets: Sequence[str]) -> Findings:
    """Labels that are no class of a prediction set, the most frequent first."""
    return findings(store, LABELS_OF_NO_CLASS, prediction_sets=[*prediction_sets])
