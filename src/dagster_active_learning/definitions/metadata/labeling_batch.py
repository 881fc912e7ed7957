"""Metadata of ``<pool>/labeling_batch``: pictures with reasons, numbers, bars per class."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import dagster as dg
from dagster_shared.serdes import serialize_value

from dagster_active_learning.definitions.metadata.batch_text import batch_reasons
from dagster_active_learning.definitions.metadata.labeling_candidates import FIRST_RANKS
from dagster_active_learning.definitions.metadata.lineage import lineage_metadata, ranking_rule
from dagster_active_learning.definitions.metadata.pictures import (
    EVENT_BYTES,
    HISTOGRAM_BYTES,
    gallery_metadata,
    image_tile,
    picture,
)
from dagster_active_learning.definitions.metadata.summary import (
    BARS,
    score_bars,
    source_lines,
    summary,
    top_classes,
    with_report,
)
from dagster_active_learning.definitions.metadata.tables import (
    Metadata,
    rows_table,
    table_metadata,
)
from dagster_active_learning.text import shown

if TYPE_CHECKING:
    import pyarrow as pa

    from dagster_active_learning.acquisition.functions import AcquisitionFunction
    from dagster_active_learning.definitions.pool import Pool
    from dagster_active_learning.flow import LabelingBatchReport
    from dagster_active_learning.gallery import Thumbnails
    from dagster_active_learning.store.pool_store import PoolStore
    from dagster_active_learning.store.prediction_sets import PredictionSet

TABLE_ROWS = 50
"""Images of a batch that the table shows."""

CLASS_BARS = 20
BAR_BLOCKS = 20


class BatchMetadata:
    """The metadata of a batch that is in the database.

    Args:
        store: The pool's tables.
        pool: The pool.
        function: The acquisition function of the queue.
        report: The batch in numbers.

    Attributes:
        numbers: All but the pictures.
    """

    def __init__(
        self,
        store: PoolStore,
        pool: Pool,
        function: AcquisitionFunction,
        report: LabelingBatchReport,
    ) -> None:
        from dagster_active_learning.store.labeling_batches import batch_rows
        from dagster_active_learning.store.prediction_sets import prediction_set
        from dagster_active_learning.store.predictions import predictions_of_images

        selection = report.selection
        with batch_rows(store, selection.batch) as reader:
            images = reader.read_all()
        rows: list[dict[str, Any]] = images.slice(0, TABLE_ROWS).to_pylist()
        stored = prediction_set(store, selection.prediction_set)
        first = [row["image_id"] for row in rows[:FIRST_RANKS]]
        predictions = predictions_of_images(store, selection.prediction_set, first)
        self._report = report
        self._tiles = [
            image_tile(pool, stored, row, predictions.get(row["image_id"]), reason=reason)
            for row, reason in zip(rows[:FIRST_RANKS], batch_reasons(pool, rows), strict=False)
        ]
        rule = ranking_rule(function, pool.rules)
        self._class_names = stored.class_names
        self.numbers: Metadata = {
            "summary": _summary(function, report, stored, images),
            **_numbers(report),
            "images": rows_table([_shown(row) for row in rows]),
            **({"by_class": dg.MetadataValue.md(_bars(report))} if report.by_class else {}),
            **lineage_metadata(store, stored, rule),
            **table_metadata(store, "labeling_batches", selection.image_count),
        }

    def drawn(self, thumbnails: Thumbnails) -> Metadata:
        """The metadata with the contact sheet and the histogram of distances first."""
        distances = _distances(self._report)
        event = dg.AssetMaterialization("size", metadata=self.numbers | distances)
        room = EVENT_BYTES - len(serialize_value(event))
        text = "The first images of the batch"
        sheet = gallery_metadata(self._tiles, self._class_names, room, thumbnails, text)
        drawn = {"summary": self.numbers["summary"], **sheet, **distances, **self.numbers}
        return drawn | {"summary": with_report(self.numbers)}


def _summary(
    function: AcquisitionFunction,
    report: LabelingBatchReport,
    stored: PredictionSet,
    images: pa.Table,
) -> dg.MarkdownMetadataValue:
    """The batch at a glance."""
    import numpy as np

    selection = report.selection
    counts = f"**{selection.image_count:,}** of {selection.unlabeled_count:,} unlabeled"
    rest = selection.image_count - selection.random_count
    ranks = [
        row["queue_rank"]
        for row in images.select(["queue_rank", "chosen_by"]).to_pylist()
        if row["queue_rank"] and row["chosen_by"] != "random"
    ]
    last = f", down to rank {max(ranks):,}" if ranks else ""
    scores = images.column("score").drop_null().to_numpy()
    bars = None
    if scores.size:
        bars = score_bars(*np.histogram(scores, BARS), None, "highest")
    return summary(
        [
            bars,
            f"{counts}, {selection.random_count:,} random",
            f"{rest:,} by {function.name}{last}",
            top_classes(report.by_class),
            *source_lines(stored.model, stored.source_sha256),
        ]
    )


def _shown(row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "position": row["rank"],
        "image_id": row["image_id"],
        "chosen_by": row["chosen_by"],
        "queue_rank": row["queue_rank"],
        "predicted_class": row["predicted_class"],
        "score": row["score"],
    }


def _numbers(report: LabelingBatchReport) -> Metadata:
    """Single numbers, of which the UI makes plots over time, and the reasons for them."""
    selection = report.selection
    rarest = report.by_class[-1] if report.by_class else None
    numbers: Metadata = {
        "batch": f"{selection.batch:,}",
        "wanted": f"{selection.wanted_count:,} images",
        "random": selection.random_count,
        "in_flight": selection.in_flight_count,
        "returned": report.returned_count,
        "unlabeled": selection.unlabeled_count,
        "near_duplicates": selection.duplicate_count,
        "without_embedding": report.without_embedding or None,
        "overlap_with_bare_queue": None if report.overlap is None else round(report.overlap, 4),
        "rarest_class": None if rarest is None else f"{shown(str(rarest[0]))}: {rarest[1]:,}",
        "shortfall": selection.shortfall,
        "full_classes": shown(", ".join(selection.full_classes)) or None,
        "cold_start": report.cold_start,
        "kept": report.kept,
    }
    return {name: value for name, value in numbers.items() if value is not None}


def _bars(report: LabelingBatchReport) -> str:
    """The images of each class as bars, beside the candidates of the queue."""
    most = report.by_class[0][1]
    lines = ["| class | images | | in the queue |", "|---|---:|---|---:|"]
    for name, count in report.by_class[:CLASS_BARS]:
        cell = shown("none" if name is None else name, 40).replace("|", "\\|")
        bar = "█" * max(1, round(count / most * BAR_BLOCKS))
        lines.append(f"| {cell} | {count:,} | {bar} | {report.queue_by_class.get(name, 0):,} |")
    rest = report.by_class[CLASS_BARS:]
    if rest:
        lines.append(f"| {len(rest):,} others | {sum(count for _, count in rest):,} | | |")
    return "\n".join(lines)


def _distances(report: LabelingBatchReport) -> Metadata:
    """The histogram of nearest distances, by which a limit can be chosen."""
    import numpy as np

    from dagster_active_learning.gallery import score_histogram

    if len(set(report.distances)) < 2:
        return {}
    counts, edges = np.histogram(report.distances, 40)
    if (np.diff(edges) <= 0).any():
        return {}
    histogram = score_histogram(
        counts,
        edges,
        cut=None,
        label_first="highest",
        title=f"Nearest distances of {len(report.distances):,} images",
        score_label="distance to the nearest image that is labeled, in flight or in the batch",
        max_bytes=HISTOGRAM_BYTES,
    )
    return {"nearest_distances": picture(histogram, "Histogram of nearest distances")}
