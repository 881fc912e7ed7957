"""Declarations of which labels may judge a rule; light, for settings are made of it."""

from __future__ import annotations

from dataclasses import dataclass

from dagster_active_learning.ranking.batch_rules import check_count
from dagster_active_learning.rules import check_flag


@dataclass(frozen=True, kw_only=True)
class EvaluationRules:
    """Declarations of which labels a rule may be judged by.

    Attributes:
        first: How many images of the pool are looked at, for the error rate among the first and
            its lift; by default a tenth of it.
        labels_drawn_at_random: Whether labels of images that were in no batch were drawn at
            random, as those of a test set are, and are unknown to the model.
        labels_held_out: Whether labels that were drawn at random for a batch stay out of training,
            so that those from before the predictions count too.

    Raises:
        SettingError: If a setting has a value that it cannot have.
    """

    first: int | None = None
    labels_drawn_at_random: bool = False
    labels_held_out: bool = False

    def __post_init__(self) -> None:
        if self.first is not None:
            check_count("first", self.first)
        check_flag("labels_drawn_at_random", self.labels_drawn_at_random)
        check_flag("labels_held_out", self.labels_held_out)
