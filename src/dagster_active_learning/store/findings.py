"""Findings: rows of a pool's tables that are wrong."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from dagster_active_learning.limits import EXAMPLES
from dagster_active_learning.store.pool_store import PoolStore


@dataclass(frozen=True)
class Findings:
    """Rows that are wrong.

    Attributes:
        count: Number of them.
        examples: The first ``EXAMPLES`` of them, each with its prediction_set.
    """

    count: int
    examples: list[dict[str, Any]]


def first_rows(store: PoolStore, query: str, **values: Any) -> list[dict[str, Any]]:
    """The first ``EXAMPLES`` rows of a query with ``LIMIT $first``."""
    return store.relation(query, **values, first=EXAMPLES).to_arrow_table().to_pylist()


def findings(store: PoolStore, query: str, **values: Any) -> Findings:
    """The findings of a query with ``LIMIT $first``, whose ``finding_count`` counts all of them."""
    examples = first_rows(store, query, **values)
    counts = [example.pop("finding_count") for example in examples]
    return Findings(counts[0] if counts else 0, examples)
