"""Metadata of ``<pool>/labels``."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import dagster as dg

from dagster_active_learning.definitions.metadata.tables import (
    Metadata,
    counts_table,
    rows_table,
    table_metadata,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dagster_active_learning.definitions.exports import WrittenFile
    from dagster_active_learning.labeling.reading import LabelsReport
    from dagster_active_learning.store.pool_store import PoolStore

QUARANTINED = """
SELECT image_id, reason, annotator, raw FROM quarantined_labels ORDER BY annotated_at, image_id
LIMIT 20
"""


def labels_metadata(
    store: PoolStore, project_url: str, report: LabelsReport, files: Sequence[WrittenFile]
) -> Metadata:
    """The labels in numbers, each of which the UI plots over time, and the files of them."""
    agreeing, compared = report.agreement
    quarantined = store.relation(QUARANTINED).to_arrow_table().to_pylist()
    optional: Metadata = {
        "median_hours_to_label": (
            None if report.median_hours is None else round(report.median_hours, 3)
        ),
        "agreement_with_model": round(agreeing / compared, 4) if compared else None,
        "by_class": (
            counts_table("class", "labels", report.categories) if report.categories else None
        ),
        "quarantined_labels": rows_table(quarantined) if quarantined else None,
        "files": rows_table([asdict(file) for file in files]) if files else None,
        **{file.format: dg.MetadataValue.path(file.path) for file in files},
    }
    return {
        "project": dg.MetadataValue.url(project_url),
        **{
            name: report.outcomes.get(outcome, 0)
            for name, outcome in (
                ("labeled", "labeled"),
                ("skipped", "skipped"),
                ("conflicts", "conflict"),
                ("quarantined", "quarantined"),
            )
        },
        "newly_labeled": report.newly_labeled,
        "withdrawn": report.withdrawn,
        "deleted_tasks": report.deleted,
        "waiting": report.waiting,
        "foreign_tasks": report.foreign_tasks,
        **{name: value for name, value in optional.items() if value is not None},
        **table_metadata(store, "labels", report.label_count),
    }
