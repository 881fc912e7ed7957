"""Declarations of which images a labeling batch has; light, for settings are made of it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, get_args

from dagster_active_learning.errors import SettingError
from dagster_active_learning.rules import check_flag, check_share
from dagster_active_learning.text import did_you_mean

ChooseBy = Literal["queue", "badge", "typical"]

LABELS_TO_TRUST = 5
"""Labels per class below which no uncertainty is better than chance."""


@dataclass(frozen=True, kw_only=True)
class BatchRules:
    """Declarations of which images a batch has.

    Attributes:
        size: Images in a batch at the most.
        random_share: The share of them that is drawn at random from all unlabeled images. Without
            them nothing tells how good the model or the queue is: labels from the queue alone
            cannot.
        choose_by: How the images that are not drawn at random are chosen. ``"queue"``: by rank,
            with turns of the classes. ``"badge"``: among the first ``queue_length`` candidates by
            gradient embeddings, which have the variety in them. ``"typical"``: images that are like
            many others, by TypiClust, among ``queue_length`` that are drawn at random; for the
            first batches, before any rank can be trusted. The last two need embeddings.
        class_turns: Whether the predicted classes take turns, the one with the fewest candidates
            first. They do so in the queue only.
        queue_length: How many of the first candidates the classes take turns in. It does not
            depend on ``size``, so that a batch of 50 is the beginning of a batch of 100; but not
            of typical images, which are of as many clusters as are wanted.
        max_per_class: How many images of a predicted class may be in a batch. An image that is
            drawn at random counts and is never left out.
        class_weights: How many turns a class has for one of another class, by its name; 1 for
            those that are not named.
        objects_budget: How many predicted objects a batch may have: it ends before the image that
            goes beyond it.
        max_distance: The distance of embeddings up to which two images are near-duplicates.
        max_in_flight: How many images may be out: a batch has no more than bring them up to it.
        return_after_days: After how many days an image that is out without a label comes back.

    Raises:
        SettingError: If a setting has a value that it cannot have.
    """

    size: int = 100
    random_share: float = 0.1
    choose_by: ChooseBy = "queue"
    class_turns: bool = True
    queue_length: int = 1000
    max_per_class: int | None = None
    class_weights: Mapping[str, float] = field(default_factory=dict[str, float])
    objects_budget: int | None = None
    max_distance: float | None = None
    max_in_flight: int | None = None
    return_after_days: int | None = None

    def __post_init__(self) -> None:
        check_count("size", self.size)
        check_count("queue_length", self.queue_length)
        for name in ("max_per_class", "objects_budget", "max_in_flight", "return_after_days"):
            if getattr(self, name) is not None:
                check_count(name, getattr(self, name))
        check_share("random_share", self.random_share)
        check_flag("class_turns", self.class_turns)
        if self.choose_by not in get_args(ChooseBy):
            raise SettingError(
                "choose_by",
                f"choose_by is {self.choose_by!r}, expected one of "
                f"{', '.join(map(repr, get_args(ChooseBy)))}"
                + did_you_mean(self.choose_by, get_args(ChooseBy)),
            )
        if self.class_weights and self.choose_by != "queue":
            raise SettingError(
                "class_weights",
                f"class_weights are turns in the queue, and choose_by is {self.choose_by!r}: leave "
                "one of the two out",
            )
        if self.queue_length < self.size:
            raise SettingError(
                "queue_length",
                f"queue_length is {self.queue_length}, expected at least the size of a batch, "
                f"{self.size}",
            )
        for name, weight in self.class_weights.items():
            if not _is_number(weight) or weight <= 0:
                raise SettingError(
                    "class_weights",
                    f"class_weights has {weight!r} for {name!r}, expected a number above 0",
                )
        limit = self.max_distance
        if limit is not None and (not _is_number(limit) or limit < 0):
            raise SettingError(
                "max_distance", f"max_distance is {limit!r}, expected a distance of at least 0"
            )

    @property
    def by_uncertainty(self) -> bool:
        """Whether any image is chosen for what the model is uncertain of."""
        return self.choose_by != "typical" and self.random_share < 1

    def random_count(self, places: int) -> int:
        """The number of random ones among the first places of a batch."""
        return math.floor(places * self.random_share + 0.5)

    def reserved_count(self, image_count: int) -> int:
        """The number of images that are drawn at random from ``image_count``.

        They are as many as the longest batch of this queue has, and never the queue's: else a
        shorter batch would not be the beginning of a longer one.
        """
        return self.random_count(min(self.queue_length, image_count))


def check_count(name: str, count: int) -> None:
    """Raise SettingError unless a setting is a whole number of at least 1."""
    if isinstance(count, bool) or not isinstance(count, int) or count < 1:  # pyright: ignore[reportUnnecessaryIsInstance]
        raise SettingError(name, f"{name} is {count!r}, expected a whole number of at least 1")


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
