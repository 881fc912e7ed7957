"""The steps of a labeling batch: a queue and a random draw in, the images to label together out.

Pure functions over the images that may be in a batch: what is in flight or labeled is left out
before. A batch is a sequence of places. Each place is random or the queue's, as its number says,
and what stands in it depends on the places before it alone: a batch of 50 is the beginning of a
batch of 100.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from dagster_active_learning.ranking.batch_rules import BatchRules
from dagster_active_learning.ranking.kernels import hash_ids, nearest_row

BATCH_SCHEMA = {
    "position": pl.Int64,
    "image_id": pl.String,
    "chosen_by": pl.String,
    "selection_probability": pl.Float64,
    "nearest_distance": pl.Float64,
}
DUPLICATE_SCHEMA = {
    "image_id": pl.String,
    "duplicate_of": pl.String,
    "distance": pl.Float64,
}


@dataclass(frozen=True)
class Draw:
    """Images drawn at random.

    Attributes:
        image_ids: Their ids, in the order of the draw.
        image_count: The number of images that they were drawn from.
    """

    image_ids: list[str]
    image_count: int


def draw_images(batches: Iterable[pa.Array], count: int, *, seed: int, batch: int) -> Draw:
    """Draw images at random: those with the lowest seeded hashes, equal ones by their ids.

    Memory holds one batch and a few times ``count`` images.

    Args:
        batches: Arrays of ids, each id once.
        count: How many to draw at the most.
        seed: Another seed draws other images.
        batch: The number of the labeling batch. Each draws anew: with one order for all of them,
            what an earlier batch has kept back from its queue would come first in the next, and a
            draw would not be one of all images that are left.
    """
    (mixed,) = hash_ids(pa.array([f"batch {batch}"]), seed).tolist()
    drawn: list[pl.DataFrame] = [pl.DataFrame(schema={"hash": pl.UInt64, "image_id": pl.String})]
    lowest = np.empty(0, np.uint64)
    image_count, highest = 0, np.uint64(np.iinfo(np.uint64).max)
    for of_batch in batches:
        image_count += len(of_batch)
        hashes = hash_ids(of_batch, mixed)
        # Most batches have few that are lower than what is drawn already.
        kept = np.flatnonzero(hashes <= highest)
        if not len(kept) or not count:
            continue
        lowest = np.concatenate([lowest, hashes[kept]])
        if len(lowest) > count:
            # Equal hashes stay: which of them are drawn their ids decide.
            highest = np.partition(lowest, count - 1)[count - 1]
            lowest = lowest[lowest <= highest]
            kept = kept[hashes[kept] <= highest]
        ids = pl.Series(of_batch.take(pa.array(kept)), dtype=pl.String)
        drawn.append(pl.DataFrame({"hash": hashes[kept], "image_id": ids}))
    first = pl.concat(drawn).sort("hash", "image_id").head(count)
    return Draw(first["image_id"].to_list(), image_count)


class Embeddings:
    """Embeddings of images, and which of them stand for what is labeled or chosen already.

    Args:
        image_ids: The images, each once.
        vectors: (n_images, n_dimensions) float32.
        labeled: Those of the images that are labeled or in flight: near-duplicates of them tell
            nothing new.
    """

    def __init__(
        self, image_ids: Sequence[str], vectors: npt.NDArray[np.float32], labeled: Sequence[str]
    ) -> None:
        self._rows = {image_id: row for row, image_id in enumerate(image_ids)}
        self._vectors = np.ascontiguousarray(vectors, np.float32)
        self._known_ids = [image_id for image_id in labeled if image_id in self._rows]
        known = self._vectors[[self._rows[image_id] for image_id in self._known_ids]]
        # Room for what is chosen, which doubles when it is full.
        self._known = np.empty((max(64, 2 * len(known)), self._vectors.shape[1]), np.float32)
        self._known[: len(known)] = known

    def __contains__(self, image_id: str) -> bool:
        """Whether an image has an embedding."""
        return image_id in self._rows

    def nearest(self, image_id: str) -> tuple[str, float] | None:
        """The nearest image that is labeled or chosen, and its distance; None without any."""
        if image_id not in self._rows or not self._known_ids:
            return None
        known = self._known[: len(self._known_ids)]
        row, distance = nearest_row(known, self._vectors[self._rows[image_id]])
        return self._known_ids[row], distance

    def choose(self, image_id: str) -> None:
        """Count an image among those that are chosen."""
        if image_id not in self._rows:
            return
        count = len(self._known_ids)
        if count == len(self._known):
            self._known = np.concatenate([self._known, np.empty_like(self._known)])
        self._known[count] = self._vectors[self._rows[image_id]]
        self._known_ids.append(image_id)

    def of(self, image_ids: Sequence[str]) -> npt.NDArray[np.float32]:
        """The vectors (n_images, n_dimensions) of images that have one."""
        return self._vectors[[self._rows[image_id] for image_id in image_ids]]


@dataclass(frozen=True)
class Selection:
    """The images of a batch, and what it left out.

    Attributes:
        images: The columns position (from 1), image_id, chosen_by (``"random"``, or as the rules
            say), selection_probability (of a random image, None for the others) and
            nearest_distance.
        duplicates: The columns image_id, duplicate_of and distance of the queue's images that are
            left out as near-duplicates of an image that is labeled, in flight or in the batch.
        full_classes: Classes that had more candidates than ``max_per_class`` let in.
        shortfall: The reason why there are fewer images than wanted, None where there are not.
    """

    images: pl.DataFrame
    duplicates: pl.DataFrame
    full_classes: list[str]
    shortfall: str | None


class ImageOrder(Protocol):
    """Images in the order in which they are asked for, which may depend on those in the batch."""

    def next_image(self) -> str | None:
        """The next image, which is not given again; None at the end."""
        ...

    def end_turn(self) -> None:
        """Count the last image among those in the batch: else it is left out."""
        ...


def select_batch(
    queue: pl.DataFrame,
    draw: Draw,
    described: Mapping[str, tuple[str | None, int]],
    rules: BatchRules,
    *,
    size: int,
    embeddings: Embeddings | None = None,
    order: ImageOrder | None = None,
) -> Selection:
    """Choose the images of a batch.

    Args:
        queue: The candidates in the order of the queue, columns image_id and predicted_class; none
            that is labeled, in flight or among the first images of the draw.
        draw: The images drawn at random.
        described: Predicted class and number of objects of each image of queue and draw.
        rules: What the batch is to be.
        size: How many images it has at the most: ``rules.size``, or less where too many are in
            flight.
        embeddings: Those of queue and draw, for near-duplicates.
        order: Images of the queue in another order than by turns and ranks; the others are not
            chosen.
    """
    return _Selecting(queue, draw, described, rules, embeddings, order).run(size)


class _Selecting:
    """A batch that is being filled, place after place."""

    def __init__(
        self,
        queue: pl.DataFrame,
        draw: Draw,
        described: Mapping[str, tuple[str | None, int]],
        rules: BatchRules,
        embeddings: Embeddings | None,
        order: ImageOrder | None,
    ) -> None:
        self._draw = draw
        self._described = described
        self._rules = rules
        self._embeddings = embeddings
        self._images: list[tuple[str, str, float | None]] = []
        self._duplicates: list[tuple[str, str, float]] = []
        self._full: dict[str, None] = {}
        self._of_class: Counter[str | None] = Counter()
        self._objects = 0
        self._order = order or _Turns(queue, rules)

    def run(self, size: int) -> Selection:
        shortfall = self._fill(size)
        random_count = sum(chosen_by == "random" for _, chosen_by, _ in self._images)
        probability = random_count / self._draw.image_count if random_count else None
        rows = [
            (
                place,
                image_id,
                chosen_by,
                probability if chosen_by == "random" else None,
                distance,
            )
            for place, (image_id, chosen_by, distance) in enumerate(self._images, 1)
        ]
        return Selection(
            pl.DataFrame(rows, BATCH_SCHEMA, orient="row"),
            pl.DataFrame(self._duplicates, DUPLICATE_SCHEMA, orient="row"),
            list(self._full),
            shortfall,
        )

    def _fill(self, size: int) -> str | None:
        """Fill the places, and say why some stay empty."""
        drawn = iter(self._draw.image_ids)
        empty: Counter[str] = Counter()
        for place in range(1, size + 1):
            is_random = self._rules.random_count(place) > self._rules.random_count(place - 1)
            image_id = next(drawn, None) if is_random else self._next_of_queue()
            if image_id is None:
                empty["random" if is_random else "queue"] += 1
                continue
            objects = self._described[image_id][1]
            budget = self._rules.objects_budget
            if budget is not None and self._images and self._objects + objects > budget:
                return (
                    f"the next image has {objects:,} objects, and with those of the "
                    f"{len(self._images):,} before it, {self._objects:,}, it goes beyond the "
                    f"objects_budget of {budget:,}"
                )
            self._place(image_id, "random" if is_random else self._rules.choose_by)
        reasons = {
            "random": "no image is left to be drawn at random",
            "queue": "the queue is at its end",
        }
        return (
            "; ".join(f"{reasons[kind]}: {count:,} places" for kind, count in empty.items()) or None
        )

    def _place(self, image_id: str, chosen_by: str) -> None:
        nearest = self._embeddings.nearest(image_id) if self._embeddings else None
        if self._embeddings:
            self._embeddings.choose(image_id)
        self._images.append((image_id, chosen_by, nearest[1] if nearest else None))
        predicted_class, objects = self._described[image_id]
        self._of_class[predicted_class] += 1
        self._objects += objects

    def _next_of_queue(self) -> str | None:
        """The next image of the queue that is not left out."""
        while (image_id := self._order.next_image()) is not None:
            if self._is_full(self._described[image_id][0]):
                continue
            nearest = self._embeddings.nearest(image_id) if self._embeddings else None
            limit = self._rules.max_distance
            if limit is not None and nearest is not None and nearest[1] <= limit:
                self._duplicates.append((image_id, *nearest))
                continue
            self._order.end_turn()
            return image_id
        return None

    def _is_full(self, predicted_class: str | None) -> bool:
        limit = self._rules.max_per_class
        if predicted_class is None or limit is None or self._of_class[predicted_class] < limit:
            return False
        self._full[predicted_class] = None
        return True


class _Turns:
    """The queue's images in the order in which they are asked for.

    With turns each class gives its next image, the class with the fewest candidates first. An image
    that is left out costs its class no turn. Images without a predicted class have none: they come
    last, by rank.
    """

    def __init__(self, queue: pl.DataFrame, rules: BatchRules) -> None:
        by_class: dict[str | None, list[str]] = {}
        for image_id, predicted_class in queue.select("image_id", "predicted_class").iter_rows():
            name = predicted_class if rules.class_turns else None
            by_class.setdefault(name, []).append(image_id)
        self._images = {name: iter(ids) for name, ids in by_class.items()}
        named = [name for name in by_class if name is not None]
        named.sort(key=lambda name: (len(by_class[name]), name))
        weights = rules.class_weights
        # A turn is this long: a class of weight 2 has two in the time of one.
        self._lengths = {name: 1 / weights.get(name, 1.0) for name in named}
        # The end of each class's next turn. Sums of lengths would be rounded: they are counted.
        self._next = [(self._lengths[name], place, 1, name) for place, name in enumerate(named)]
        heapq.heapify(self._next)

    def next_image(self) -> str | None:
        """The next image, of the class whose turn it is; None at the end."""
        while self._next:
            image_id = next(self._images[self._next[0][3]], None)
            if image_id is not None:
                return image_id
            heapq.heappop(self._next)
        return next(self._images.get(None, iter(())), None)

    def end_turn(self) -> None:
        """Go on to the next class: the image is in the batch."""
        if self._next:
            _, place, turns, name = self._next[0]
            end = (turns + 1) * self._lengths[name]
            heapq.heapreplace(self._next, (end, place, turns + 1, name))
