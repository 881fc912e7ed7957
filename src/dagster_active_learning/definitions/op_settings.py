"""How Dagster runs the steps of a pool, as a user writes it down."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import dagster as dg

from dagster_active_learning.errors import SettingError

RESOURCE = "duckdb"
"""Key of the user's DuckDBResource, and name of the Dagster pool that limits its users."""


@dataclass(frozen=True, kw_only=True)
class OpSettings:
    """What every step of a pool is run with.

    Attributes:
        tags: Tags of the step, such as ``dagster-k8s/config``; a value is text or what JSON has.
        retry_policy: How often, and after which pause, Dagster tries a failed step again. A step is
            one transaction per prediction set: a second try finds nothing half done.
        pool: Name of Dagster's concurrency pool that limits the steps.

    Example:
        >>> op = OpSettings(retry_policy=dg.RetryPolicy(max_retries=2, delay=30))
        >>> op.pool
        'duckdb'
    """

    tags: Mapping[str, Any] = field(default_factory=dict[str, Any])
    retry_policy: dg.RetryPolicy | None = None
    pool: str = RESOURCE

    def __post_init__(self) -> None:
        tags: Any = self.tags
        if not isinstance(tags, Mapping) or not all(isinstance(name, str) for name in tags):
            raise SettingError("tags", f"tags is {tags!r}, expected values by their names")
        if self.retry_policy is not None and not isinstance(self.retry_policy, dg.RetryPolicy):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise SettingError(
                "retry_policy", f"retry_policy is {self.retry_policy!r}, expected a RetryPolicy"
            )
        if not isinstance(self.pool, str) or not self.pool:  # pyright: ignore[reportUnnecessaryIsInstance]
            raise SettingError("pool", f"pool is {self.pool!r}, expected the name of a pool")


def step_options(op: OpSettings | None) -> dict[str, Any]:
    """The settings as Dagster's decorators of steps take them."""
    op = op or OpSettings()
    return {"op_tags": op.tags, "retry_policy": op.retry_policy, "pool": op.pool}
