"""Metadata of ``<pool>/model_churn``: numbers over time, pairs of classes, two queues."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import dagster as dg
from dagster_shared.serdes import serialize_value

from dagster_active_learning.definitions.metadata.pictures import (
    EVENT_BYTES,
    gallery_metadata,
    image_tile,
)
from dagster_active_learning.definitions.metadata.tables import Metadata, rows_table
from dagster_active_learning.text import shown

if TYPE_CHECKING:
    from dagster_active_learning.acquisition.functions import AcquisitionFunction
    from dagster_active_learning.definitions.pool import Pool
    from dagster_active_learning.flow import ChurnReport
    from dagster_active_learning.flow.churn import ChangedImage
    from dagster_active_learning.gallery import Thumbnails, Tile
    from dagster_active_learning.store.pool_store import PoolStore

PAIRS_SHOWN = 20


class ChurnMetadata:
    """The metadata of a comparison of two prediction sets.

    Args:
        store: The pool's tables.
        pool: The pool.
        report: The changes; None where there is no other set.
        function: The function whose queues are shown side by side.

    Attributes:
        numbers: All but the pictures.
    """

    def __init__(
        self,
        store: PoolStore,
        pool: Pool,
        report: ChurnReport | None,
        function: AcquisitionFunction,
    ) -> None:
        from dagster_active_learning.store.prediction_sets import prediction_set

        self._sheets: dict[str, tuple[str, list[Tile]]] = {}
        if report is None:
            self.numbers: Metadata = {
                "dagster/row_count": 0,
                "not_compared": "there is no prediction set to compare this one with",
            }
            return
        self.numbers = _numbers(report)
        self._class_names = report.class_names
        change = next(each for each in report.functions if each.name == function.name)
        if not change.only_before and not change.only_after:
            # Both ask for the same images.
            return
        for key, name, rows in (
            ("only_this_set_asks_for", report.after, change.only_after),
            ("only_the_set_before_asks_for", report.before, change.only_before),
        ):
            stored = prediction_set(store, name)
            tiles = [
                image_tile(pool, stored, row, None, reason=_other_rank(row["other_rank"]))
                for row in rows
            ]
            text = f"Of the first {change.first:,} by {function.name} only {name} asks for these"
            self._sheets[key] = (text, tiles)

    def drawn(self, thumbnails: Thumbnails) -> Metadata:
        """The metadata with the images first that only one of the two sets asks for."""
        event = dg.AssetMaterialization("size", metadata=self.numbers)
        room = EVENT_BYTES - len(serialize_value(event))
        sheets: Metadata = {}
        for key, (text, tiles) in self._sheets.items():
            sheet = gallery_metadata(
                tiles, self._class_names, room // len(self._sheets), thumbnails, text
            )
            if sheet:
                sheets[key] = sheet["gallery"]
        return {**sheets, **self.numbers}


def _other_rank(rank: int | None) -> str:
    """The place of an image in the queue that does not ask for it."""
    return "other: none" if rank is None else f"other: {rank:,}"


def _numbers(report: ChurnReport) -> Metadata:
    churn, names = report.churn, report.class_names
    metadata: Metadata = {
        "dagster/row_count": churn.changed_count,
        "compared_with": report.before,
        "images": churn.image_count,
        "changed_share": round(churn.changed_share, 4),
        "labels": churn.labeled_count,
        "new_errors": churn.new_errors,
        "fixed_errors": churn.fixed,
    }
    unchanged = churn.labeled_count - churn.labeled_changed
    if churn.labeled_changed:
        metadata["error_rate_of_changed"] = round(churn.wrong_changed / churn.labeled_changed, 4)
    if unchanged:
        metadata["error_rate_of_others"] = round(churn.wrong_unchanged / unchanged, 4)
    pairs = [
        {"before": names[before], "after": names[after], "images": count}
        for (before, after), count in churn.pairs.items()
    ]
    if pairs:
        metadata["changes"] = rows_table(pairs[:PAIRS_SHOWN])
        metadata["changed_images"] = rows_table(_changed(report.changed_images))
    functions = [
        {
            "function": each.name,
            "first": each.first,
            "first of both": each.common_first,
            "candidates": each.candidates,
            "candidates of both": each.common_candidates,
            "mean score before": each.mean_before,
            "mean score after": each.mean_after,
        }
        for each in report.functions
    ]
    return metadata | {"rankings": rows_table(functions)}


def _changed(images: Sequence[ChangedImage]) -> list[dict[str, Any]]:
    def kind(image: ChangedImage) -> str | None:
        if image.label is None:
            return None
        was_right, is_right = image.before == image.label, image.after == image.label
        return "new error" if was_right else "fixed" if is_right else "still wrong"

    return [
        {
            "image_id": shown(each.image_id),
            "before": each.before,
            "after": each.after,
            "label": each.label,
            "error": kind(each),
        }
        for each in images
    ]
