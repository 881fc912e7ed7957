"""The settings of a comparison of prediction sets, as a user writes them down."""

from __future__ import annotations

from dataclasses import dataclass

from dagster_active_learning.errors import SettingError
from dagster_active_learning.rules import check_share


@dataclass(frozen=True, kw_only=True)
class ModelChurn:
    """The comparison of each prediction set with another, as ``<pool>/model_churn`` makes it.

    Attributes:
        against: Name of the prediction set, so a partition key, that each is compared with; by
            default the one that was read before it.
        max_changed_share: The share of images whose class may change: above it a check warns.

    Example:
        >>> ModelChurn(against="2026-05").max_changed_share
        0.1
    """

    against: str | None = None
    max_changed_share: float = 0.1

    def __post_init__(self) -> None:
        check_share("max_changed_share", self.max_changed_share)

    @staticmethod
    def check_pool(*, objects: bool, partitioned: bool) -> None:
        """Raise SettingError unless a pool has prediction sets of whole images to compare."""
        if objects:
            raise SettingError(
                "churn",
                "churn compares the classes of whole images, and the pool's predictions are "
                "objects: leave it out",
            )
        if not partitioned:
            raise SettingError(
                "churn",
                "churn compares prediction sets, and the pool has one: set partitions_def, so that "
                "each model is a partition",
            )
