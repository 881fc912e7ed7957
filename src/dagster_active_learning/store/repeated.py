"""What is repeated among the predictions of images: numbers that add up, and first examples."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from dagster_active_learning.limits import EXAMPLES


class RepeatedImage(NamedTuple):
    """An image with several predictions.

    Attributes:
        image_id: Its id.
        times: How many predictions it has, or how many of them are the same.
        first_index: The position of the first of them in the set.
        last_index: That of the last.
    """

    image_id: str
    times: int
    first_index: int
    last_index: int


class Repeated(NamedTuple):
    """What is repeated among the predictions of some images, which JSON keeps as a list.

    Attributes:
        duplicates: Predictions that are the same as another one of their image before them.
        most_repeated: The first examples, the most frequent first.
        differing: Images with several class probabilities.
        first_differing: The first of these.
    """

    duplicates: int = 0
    most_repeated: Sequence[RepeatedImage] = ()
    differing: int = 0
    first_differing: Sequence[RepeatedImage] = ()

    def joined(self, other: Repeated) -> Repeated:
        """This and what is repeated of other images."""
        most = sorted(
            [*self.most_repeated, *other.most_repeated],
            key=lambda image: (-image.times, image.first_index),
        )
        differing = sorted(
            [*self.first_differing, *other.first_differing], key=lambda image: image.first_index
        )
        return Repeated(
            self.duplicates + other.duplicates,
            most[:EXAMPLES],
            self.differing + other.differing,
            differing[:EXAMPLES],
        )


def join_repeated(parts: Iterable[Sequence[Any]]) -> Repeated:
    """What is repeated of all images from that of parts, as they are or as JSON has kept them."""
    joined = Repeated()
    for duplicates, most, differing, first in parts:
        part = Repeated(
            duplicates,
            [RepeatedImage(*image) for image in most],
            differing,
            [RepeatedImage(*image) for image in first],
        )
        joined = joined.joined(part)
    return joined
