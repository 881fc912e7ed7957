"""A labeling batch in words, as the log of a run ends with it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from dagster_active_learning.text import shown

if TYPE_CHECKING:
    from dagster_active_learning.definitions.pool import Pool
    from dagster_active_learning.store.labeling_batches import BatchSelection
    from dagster_active_learning.store.pool_store import PoolStore

TEXT_ROWS = 10
"""Images of a batch that the log shows: as many as a screen has room for."""


def batch_heading(pool: Pool, selection: BatchSelection) -> str:
    """What a batch is, in one line."""
    heading = (
        f"Label these next: batch {selection.batch} of pool {pool.name}, "
        f"{selection.image_count:,} images by {_function_name(pool)}, "
        f"{selection.random_count:,} of them random"
    )
    if selection.shortfall:
        heading += f"; fewer than {selection.wanted_count:,}: {selection.shortfall}"
    return heading


def batch_table(store: PoolStore, pool: Pool, selection: BatchSelection) -> str:
    """The first images of a batch as a table of a few columns, and where all of them are."""
    from dagster_active_learning.store.labeling_batches import batch_rows

    with batch_rows(store, selection.batch) as reader:
        rows: list[dict[str, Any]] = reader.read_all().slice(0, TEXT_ROWS).to_pylist()
    lines = [
        f"{row['rank']:>4}  {shown(row['image_id'], 40):<24}  {why:<16}  "
        f"{shown(row['predicted_class'] or '-', 24):<12}  "
        + ("" if row["score"] is None else f"{row['score']:.4f}")
        for row, why in zip(rows, batch_reasons(pool, rows), strict=True)
    ]
    names = f"{'':>4}  {'image_id':<24}  {'chosen by':<16}  {'class':<12}  {_function_name(pool)}"
    more = selection.image_count - len(lines)
    table = f"{store.database}.{store.schema}.labeling_batches"
    return "\n".join(
        [
            *([names, *lines] if lines else []),
            *([f"      and {more:,} more"] if more > 0 else []),
            f"All of them: FROM {table} WHERE batch = {selection.batch}",
        ]
    )


def batch_reasons(pool: Pool, rows: Sequence[Mapping[str, Any]]) -> list[str]:
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


def _function_name(pool: Pool) -> str:
    return pool.batch_function.name if pool.batch_function else "no function"
