"""Metadata of ``<pool>/labeling_batch``: pictures with reasons, numbers, bars per class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import dagster as dg
from dagster_shared.serdes import serialize_value

from dagster_active_learning.definitions.metadata.labeling_candidates import (
    EVENT_BYTES,
    FIRST_RANKS,
    HISTOGRAM_BYTES,
    gallery_metadata,
    image_tile,
    picture,
)
from dagster_active_learning.definitions.metadata.lineage import lineage_metadata, ranking_rule
from dagster_active_learning.definitions.metadata.tables import (
    Metadata,
    rows_table,
    table_metadata,
)
from dagster_active_learning.text import shown

if TYPE_CHECKING:
    from dagster_active_learning.acquisition.functions import AcquisitionFunction
    from dagster_active_learning.definitions.pool import Pool
    from dagster_active_learning.flow import LabelingBatchReport
    from dagster_active_learning.gallery import Thumbnails
    from dagster_active_learning.store.pool_store import PoolStore

TABLE_ROWS = 50
"""Images of a batch that the table shows."""

TEXT_ROWS = 10
"""Images of a batch that the log shows: as many as a screen has room for."""

BARS = 20
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
        text: The batch as the log ends with it.
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
            rows: list[dict[str, Any]] = reader.read_all().slice(0, TABLE_ROWS).to_pylist()
        stored = prediction_set(store, selection.prediction_set)
        first = [row["image_id"] for row in rows[:FIRST_RANKS]]
        predictions = predictions_of_images(store, selection.prediction_set, first)
        self._report = report
        self._tiles = [
            image_tile(pool, stored, row, predictions.get(row["image_id"]), reason=reason)
            for row, reason in zip(rows[:FIRST_RANKS], _reasons(pool, rows), strict=False)
        ]
        rule = ranking_rule(function, pool.rules)
        self.numbers: Metadata = {
            **_numbers(report),
            "images": rows_table([_shown(row) for row in rows]),
            **({"by_class": dg.MetadataValue.md(_bars(report))} if report.by_class else {}),
            **lineage_metadata(store, stored, rule),
            **table_metadata(store, "labeling_batches", selection.image_count),
        }
        table = f"{store.database}.{store.schema}.labeling_batches"
        self.text = _text(pool, function, report, rows, table)

    def drawn(self, thumbnails: Thumbnails) -> Metadata:
        """The metadata with the contact sheet and the histogram of distances first."""
        distances = _distances(self._report)
        event = dg.AssetMaterialization("size", metadata=self.numbers | distances)
        room = EVENT_BYTES - len(serialize_value(event))
        sheet = gallery_metadata(self._tiles, room, thumbnails, "The first images of the batch")
        return {**sheet, **distances, **self.numbers}


def _reasons(pool: Pool, rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """The reason why each image is in the batch, in a few words: its class stands beside them."""
    class_turns = pool.batch is not None and pool.batch.class_turns
    reasons: list[str] = []
    for row in rows:
        chosen_by, rank = row["chosen_by"], f"rank {row['queue_rank'] or 0:,}"
        if chosen_by == "queue":
            reasons.append("turn, " * (class_turns and row["predicted_class"] is not None) + rank)
        else:
            # The rank says nothing of random and of typical images.
            reasons.append(f"badge, {rank}" if chosen_by == "badge" else chosen_by)
    return reasons


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
        "batch": selection.batch,
        "wanted": selection.wanted_count,
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
    for name, count in report.by_class[:BARS]:
        cell = shown("none" if name is None else name, 40).replace("|", "\\|")
        bar = "█" * max(1, round(count / most * BAR_BLOCKS))
        lines.append(f"| {cell} | {count:,} | {bar} | {report.queue_by_class.get(name, 0):,} |")
    rest = report.by_class[BARS:]
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


def _text(
    pool: Pool,
    function: AcquisitionFunction,
    report: LabelingBatchReport,
    rows: Sequence[Mapping[str, Any]],
    table_name: str,
) -> str:
    """The batch as a table of a few columns, for the log."""
    selection = report.selection
    heading = (
        f"Label these next: batch {selection.batch} of pool {pool.name}, "
        f"{selection.image_count:,} images by {function.name}, "
        f"{selection.random_count:,} of them random"
    )
    if selection.shortfall:
        heading += f"; fewer than {selection.wanted_count:,}: {selection.shortfall}"
    if report.kept:
        heading += f"; {report.kept}"
    reasons = _reasons(pool, rows[:TEXT_ROWS])
    lines = [
        f"{row['rank']:>4}  {shown(row['image_id'], 40):<24}  {why:<16}  "
        f"{shown(row['predicted_class'] or '-', 24):<12}  "
        + ("" if row["score"] is None else f"{row['score']:.4f}")
        for row, why in zip(rows, reasons, strict=False)
    ]
    table = f"{'':>4}  {'image_id':<24}  {'chosen by':<16}  {'class':<12}  {function.name}"
    more = selection.image_count - len(lines)
    return "\n".join(
        [
            heading,
            *([table, *lines] if lines else []),
            *([f"      and {more:,} more"] if more > 0 else []),
            f"All of them: FROM {table_name} WHERE batch = {selection.batch}",
        ]
    )
