"""The table ``quarantined_predictions``: rows that cannot be scored."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa

from dagster_active_learning.limits import RAW_CHARACTERS
from dagster_active_learning.store.pool_store import PoolStore
from dagster_active_learning.store.set_rows import of_tables
from dagster_active_learning.store.set_tables import SetTables

if TYPE_CHECKING:
    import polars as pl


@dataclass(frozen=True)
class FirstIds:
    """The beginning of an image_id in quarantine and of one in the manifest, None without one."""

    quarantined: str | None
    manifest: str | None


INSERT_QUARANTINED = """
INSERT INTO quarantined_predictions BY NAME
SELECT $prediction_set AS prediction_set, * FROM active_learning__incoming
"""


def add_quarantined(store: PoolStore, prediction_set: str, rows: pa.RecordBatch) -> None:
    """Store rows with the columns source, row_number, image_id, reason and raw."""
    store.insert(INSERT_QUARANTINED, rows, prediction_set=prediction_set)


QUARANTINE_IMAGES_NOT_IN_MANIFEST = """
INSERT INTO quarantined_predictions BY NAME
SELECT s.prediction_set, s.source, p.prediction_index - s.first_prediction_index + 1 AS row_number,
    p.image_id, $reason AS reason,
    left(to_json({image_id: p.image_id, class_probs: p.class_probs, score: p.score,
        category: p.category, bbox: p.bbox})::VARCHAR, $raw_characters) AS raw
FROM {predictions} p ANTI JOIN images i ON p.image_id = i.image_id
JOIN prediction_sources s ON s.prediction_set = $prediction_set
    AND p.prediction_index >= s.first_prediction_index
    AND p.prediction_index < s.first_prediction_index + s.row_count
"""

DELETE_IMAGES_NOT_IN_MANIFEST = """
DELETE FROM {table} WHERE image_id NOT IN (SELECT image_id FROM images)
"""


def add_quarantined_of_unknown_images(store: PoolStore, tables: SetTables, reason: str) -> None:
    """Store predictions about images the manifest does not have as rows of the quarantine."""
    values = {"reason": reason, "raw_characters": RAW_CHARACTERS}
    query = of_tables(store, tables, QUARANTINE_IMAGES_NOT_IN_MANIFEST)
    store.rows(query, prediction_set=tables.prediction_set, **values)


def quarantine_images_not_in_manifest(store: PoolStore, tables: SetTables, reason: str) -> int:
    """Move predictions about images the manifest does not have; returns their number."""
    add_quarantined_of_unknown_images(store, tables, reason)
    table = tables.name("predictions")
    return store.rows(DELETE_IMAGES_NOT_IN_MANIFEST.format(table=table))[0][0]


QUARANTINED_BY_REASON = """
SELECT reason, count(*) AS rows, min_by(source, (source, row_number)) AS first_source,
    min_by(row_number, (source, row_number)) AS first_row
FROM quarantined_predictions WHERE prediction_set = $prediction_set
GROUP BY reason ORDER BY rows DESC, reason
"""


def quarantined_by_reason(store: PoolStore, prediction_set: str) -> pl.DataFrame:
    """Columns reason, rows, first_source, first_row; the most frequent reason first."""
    return store.relation(QUARANTINED_BY_REASON, prediction_set=prediction_set).pl()


FIRST_IDS = """
SELECT (
    SELECT left(image_id, 200) FROM quarantined_predictions
    WHERE prediction_set = $prediction_set AND reason = $reason ORDER BY source, row_number LIMIT 1
), (SELECT left(image_id, 200) FROM images ORDER BY rowid LIMIT 1)
"""


def first_ids(store: PoolStore, prediction_set: str, reason: str) -> FirstIds:
    """The first image_id in quarantine for a reason beside the first of the manifest."""
    return FirstIds(*store.rows(FIRST_IDS, prediction_set=prediction_set, reason=reason)[0])


QUARANTINED_OF_FIRST = """
WITH candidates AS (
    SELECT image_id FROM labeling_candidates WHERE prediction_set = $prediction_set
        AND list_contains($acquisition_functions, acquisition_function) AND rank <= $first
)
SELECT DISTINCT q.image_id FROM quarantined_predictions q SEMI JOIN candidates USING (image_id)
WHERE q.prediction_set = $prediction_set
"""


def quarantined_of_first(
    store: PoolStore, prediction_set: str, functions: Sequence[str], first: int
) -> set[str]:
    """Those of the first candidates of some functions that have rows in quarantine."""
    rows = store.rows(
        QUARANTINED_OF_FIRST,
        prediction_set=prediction_set,
        acquisition_functions=list(functions),
        first=first,
    )
    return {image_id for (image_id,) in rows}
