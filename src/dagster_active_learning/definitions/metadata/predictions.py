"""Metadata of ``<pool>/predictions``: what was read, and what of it could not be used."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dagster_active_learning.definitions.metadata.lineage import lineage_metadata
from dagster_active_learning.definitions.metadata.tables import (
    COUNTS_SHOWN,
    Metadata,
    counts_table,
    rows_table,
    table_metadata,
)
from dagster_active_learning.text import shown

if TYPE_CHECKING:
    from dagster_active_learning.store.pool_store import PoolStore
    from dagster_active_learning.store.prediction_sets import PredictionSet

NAMES_BYTES = 2_000


def prediction_metadata(store: PoolStore, stored: PredictionSet) -> Metadata:
    """Counts, classes, lineage and the reasons of rows in quarantine."""
    from dagster_active_learning.store.class_counts import predictions_by_class
    from dagster_active_learning.store.quarantined_predictions import quarantined_by_reason

    by_class = predictions_by_class(store.connection, stored.prediction_set)
    metadata: Metadata = {
        **table_metadata(store, "predictions", stored.prediction_count),
        **lineage_metadata(store, stored),
        "images": stored.image_count,
        "classes": len(stored.class_names),
        "class_names": shown(", ".join(stored.class_names), NAMES_BYTES),
        "by_class": counts_table("class", "predictions", by_class),
        "quarantined": stored.quarantined_count,
        **({"bbox_unit": stored.bbox_unit} if stored.bbox_unit else {}),
    }
    if stored.quarantined_count:
        reasons = quarantined_by_reason(store, stored.prediction_set)
        metadata["quarantined_by_reason"] = rows_table(reasons.head(COUNTS_SHOWN).to_dicts())
    return metadata
