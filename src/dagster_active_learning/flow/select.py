"""Labeling candidates -> the batch of images to label next."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import cast

import numpy as np
import polars as pl

from dagster_active_learning.errors import PoolStateError
from dagster_active_learning.ranking.batch import (
    Draw,
    Embeddings,
    ImageOrder,
    Selection,
    draw_images,
    select_batch,
)
from dagster_active_learning.ranking.batch_rules import LABELS_TO_TRUST, BatchRules
from dagster_active_learning.ranking.gradients import GradientOrder
from dagster_active_learning.ranking.sampling import uniform_numbers
from dagster_active_learning.ranking.typical import TypicalOrder
from dagster_active_learning.rules import Rules
from dagster_active_learning.store import (
    handed_out,
    images_to_choose,
    labeling_batches,
    prediction_sets,
)
from dagster_active_learning.store.labeling_batches import BatchSelection
from dagster_active_learning.store.pool_store import PoolStore
from dagster_active_learning.store.predictions import mean_class_probs
from dagster_active_learning.store.rankings import check_rankings, has_ranking

CANDIDATE_SCHEMA = {
    "image_id": pl.String,
    "predicted_class": pl.String,
    "prediction_count": pl.Int64,
}

ReadEmbeddings = Callable[[PoolStore, Sequence[str], Sequence[str]], Embeddings]
"""Takes the pool, the images whose embeddings are wanted, and those that are labeled or out."""


@dataclass(frozen=True)
class LabelingBatchReport:
    """A batch in numbers.

    Attributes:
        selection: How it was made, as it is stored.
        returned_count: Images that came back now, after ``return_after_days``.
        overlap: The share of the batch that the bare queue would have had too, None without images.
        by_class: Images of each predicted class, the rarest last.
        queue_by_class: Candidates of each predicted class in the queue.
        without_embedding: Candidates that could not be chosen, for they have no embedding, where
            images are chosen by it.
        distances: Nearest distances of the images that were looked at, those left out too.
        cold_start: The reason why uncertainty cannot be trusted yet, None where it can.
        kept: The reason why it is an earlier batch, None where it is a new one.
        sha256: Hash of the images in their order.
    """

    selection: BatchSelection
    returned_count: int
    overlap: float | None
    by_class: list[tuple[str | None, int]]
    queue_by_class: Mapping[str | None, int]
    without_embedding: int
    distances: list[float]
    cold_start: str | None
    kept: str | None
    sha256: str


def select_labeling_batch(
    store: PoolStore,
    prediction_set: str,
    function: str,
    *,
    rules: Rules,
    batch_rules: BatchRules,
    seed: int,
    run_id: str,
    read_embeddings: ReadEmbeddings | None = None,
) -> LabelingBatchReport:
    """Choose the images to label next, in place of the open batch.

    Batches that are out do not change. The same tables give the same batch, so that a step that is
    tried again neither skips nor repeats an image. A batch whose export did not end stays the batch
    to label next: its files may be there, or not.

    Args:
        store: The pool.
        prediction_set: Name of the set whose ranking is the queue.
        function: Name of the acquisition function of the ranking.
        rules: How the images were scored and ranked.
        batch_rules: What the batch is to be.
        seed: Decides which images are drawn at random.
        run_id: What makes the batch, for the record.
        read_embeddings: Reads embeddings, for near-duplicates and where images are chosen by them.

    Raises:
        PoolStateError: If there is no ranking, it is not of the predictions and scores that are
            stored, or images are to be chosen by embeddings and no candidate has one.
    """
    with store.transaction():
        stored = prediction_sets.prediction_set(store, prediction_set)
        if not has_ranking(store, prediction_set, function):
            raise PoolStateError(
                f"pool {store.pool!r} has no ranking by {function} of prediction set "
                f"{prediction_set!r}: materialize {store.pool}/labeling_candidates/{function} first"
            )
        check_rankings(store, prediction_set, [function])
        days = batch_rules.return_after_days
        returned = 0 if days is None else handed_out.return_overdue(store, days)
        unfinished = handed_out.unfinished_batch(store)
        if unfinished is not None:
            return _kept(store, unfinished, returned)
        in_flight = labeling_batches.in_flight_count(store)
        size = _room(batch_rules, in_flight)
        number = labeling_batches.open_batch_number(store)
        source = _choose_from(
            store, prediction_set, function, rules, batch_rules, seed, number, size
        )
        embeddings = order = None
        with_embedding: list[str] = []
        if read_embeddings is not None:
            known = images_to_choose.labeled_or_in_flight(store)
            candidate_ids = source.candidates["image_id"].to_list()
            embeddings = read_embeddings(store, [*source.drawn, *candidate_ids, *known], known)
            with_embedding = [image_id for image_id in candidate_ids if image_id in embeddings]
            if batch_rules.choose_by != "queue" and candidate_ids and size:
                _check_embeddings(store, candidate_ids, with_embedding)
                uniform = uniform_numbers(f"{batch_rules.choose_by} {number}", seed)
                order = (
                    _gradient_order(store, prediction_set, with_embedding, embeddings, uniform)
                    if batch_rules.choose_by == "badge"
                    else _typical_order(
                        with_embedding, embeddings, [*known, *source.drawn], size, uniform
                    )
                )
        chosen = select_batch(
            source.candidates,
            source.draw,
            source.described,
            batch_rules,
            size=size,
            embeddings=embeddings,
            order=order,
        )
        selection = BatchSelection(
            batch=number,
            prediction_set=prediction_set,
            acquisition_function=function,
            wanted_count=batch_rules.size,
            image_count=chosen.images.height,
            random_count=int((chosen.images["chosen_by"] == "random").sum()),
            unlabeled_count=source.draw.image_count,
            in_flight_count=in_flight,
            duplicate_count=chosen.duplicates.height,
            shortfall=_shortfall(batch_rules, chosen, in_flight, size),
            full_classes=chosen.full_classes,
            run_id=run_id,
        )
        images = _with_description(chosen.images, source.described)
        labeling_batches.replace_open_batch(store, selection, images, chosen.duplicates)
        bare = images_to_choose.queue(
            store, prediction_set, function, rules, drawn=[], queue_length=chosen.images.height
        )
        cold_start = None
        if rules.in_manifest and not rules.objects and batch_rules.by_uncertainty:
            labels = images_to_choose.labels_by_class(store)
            cold_start = _cold_start(stored.class_names, labels)
    ids = images["image_id"].to_list()
    distances = [*images["nearest_distance"].drop_nulls(), *chosen.duplicates["distance"]]
    return LabelingBatchReport(
        selection=selection,
        returned_count=returned,
        overlap=len({*bare["image_id"]} & set(ids)) / len(ids) if ids else None,
        by_class=_by_class(images),
        queue_by_class=Counter(source.candidates["predicted_class"].to_list()),
        without_embedding=source.candidates.height - len(with_embedding) if order else 0,
        distances=distances,
        cold_start=cold_start,
        kept=None,
        sha256=_sha256(images),
    )


def _kept(store: PoolStore, batch: int, returned: int) -> LabelingBatchReport:
    """A batch that is there already, in place of a new one."""
    # No other batch has been made since.
    selection = cast("BatchSelection", labeling_batches.last_selection(store))
    images = labeling_batches.batch_images(store, batch)
    return LabelingBatchReport(
        selection=selection,
        returned_count=returned,
        overlap=None,
        by_class=_by_class(images),
        queue_by_class={},
        without_embedding=0,
        distances=[],
        cold_start=None,
        kept=(
            f"writing the files of batch {batch} began and did not end, so that nobody may have "
            f"it: materialize {store.pool}/exported_candidates, or call hand_out_batch or "
            "release_batch"
        ),
        sha256=_sha256(images),
    )


def _by_class(images: pl.DataFrame) -> list[tuple[str | None, int]]:
    counts = Counter(images["predicted_class"].to_list())
    return sorted(counts.items(), key=lambda item: (-item[1], str(item[0])))


def _sha256(images: pl.DataFrame) -> str:
    return hashlib.sha256("\n".join(images["image_id"]).encode()).hexdigest()


@dataclass(frozen=True)
class _Source:
    """What a batch is chosen from.

    Attributes:
        draw: The images that are drawn at random, and those that are kept back for a longer batch.
        drawn: Those of them that this batch has room for.
        candidates: The others, columns image_id, predicted_class and prediction_count.
        described: Predicted class and number of predictions of each image that can be chosen.
    """

    draw: Draw
    drawn: list[str]
    candidates: pl.DataFrame
    described: dict[str, tuple[str | None, int]]


def _choose_from(
    store: PoolStore,
    prediction_set: str,
    function: str,
    rules: Rules,
    batch_rules: BatchRules,
    seed: int,
    number: int,
    size: int,
) -> _Source:
    sampled_count = batch_rules.queue_length if batch_rules.choose_by == "typical" else 0
    draw = draw_images(
        images_to_choose.unlabeled_images(store, prediction_set, rules),
        batch_rules.random_count(batch_rules.queue_length) + sampled_count,
        seed=seed,
        batch=number,
    )
    reserved = batch_rules.reserved_count(draw.image_count)
    sample = draw.image_ids[reserved : reserved + sampled_count]
    draw = replace(draw, image_ids=draw.image_ids[:reserved])
    # Of the others nothing needs to be known: they are only kept back.
    drawn = draw.image_ids[: batch_rules.random_count(size)]
    described = images_to_choose.described(
        store, prediction_set, [*drawn, *sample], objects=rules.objects
    )
    if sampled_count:
        rows = [(image_id, *described[image_id]) for image_id in sample]
        candidates = pl.DataFrame(rows, CANDIDATE_SCHEMA, orient="row")
    else:
        candidates = images_to_choose.queue(
            store,
            prediction_set,
            function,
            rules,
            drawn=draw.image_ids,
            queue_length=batch_rules.queue_length,
        ).select(*CANDIDATE_SCHEMA)
        for image_id, name, count in candidates.iter_rows():
            described[image_id] = (name, count)
    return _Source(draw, drawn, candidates, described)


def _gradient_order(
    store: PoolStore,
    prediction_set: str,
    image_ids: Sequence[str],
    embeddings: Embeddings,
    uniform: Iterator[float],
) -> ImageOrder:
    class_probs = mean_class_probs(store, prediction_set, image_ids)
    predicted = [image_id for image_id in image_ids if image_id in class_probs]
    matrix = np.array([class_probs[image_id] for image_id in predicted], ndmin=2)
    return GradientOrder(predicted, matrix, embeddings.of(predicted), uniform)


def _typical_order(
    image_ids: Sequence[str],
    embeddings: Embeddings,
    known: Sequence[str],
    size: int,
    uniform: Iterator[float],
) -> ImageOrder:
    of_known = embeddings.of([image_id for image_id in known if image_id in embeddings])
    return TypicalOrder(image_ids, embeddings.of(image_ids), of_known, size, uniform)


def _check_embeddings(
    store: PoolStore, candidate_ids: Sequence[str], with_embedding: Sequence[str]
) -> None:
    if not with_embedding:
        raise PoolStateError(
            f"none of the {len(candidate_ids):,} candidates of pool {store.pool!r} has an "
            f"embedding, such as {candidate_ids[0]!r}: expected embeddings under the ids of the "
            "pool's images, for they are what images are chosen by"
        )


def _room(rules: BatchRules, in_flight: int) -> int:
    """How many images a batch may have now."""
    if rules.max_in_flight is None:
        return rules.size
    return min(rules.size, max(rules.max_in_flight - in_flight, 0))


def _shortfall(rules: BatchRules, chosen: Selection, in_flight: int, size: int) -> str | None:
    reasons: list[str] = []
    if size < rules.size:
        reasons.append(
            f"max_in_flight is {rules.max_in_flight:,} and {in_flight:,} images are in flight: "
            f"there is room for {size:,}"
        )
    if chosen.shortfall:
        reasons.append(chosen.shortfall)
    return "; ".join(reasons) or None


def _with_description(
    images: pl.DataFrame, described: Mapping[str, tuple[str | None, int]]
) -> pl.DataFrame:
    of_images = [described[image_id] for image_id in images["image_id"]]
    return images.with_columns(
        pl.Series("predicted_class", [name for name, _ in of_images], pl.String),
        pl.Series("prediction_count", [count for _, count in of_images], pl.Int64),
    )


def _cold_start(class_names: Sequence[str], labels: Mapping[str | None, int]) -> str | None:
    """The reason why uncertainty cannot be trusted yet, as a sentence."""
    missing = [LABELS_TO_TRUST - labels.get(name, 0) for name in class_names]
    few = [count for count in missing if count > 0]
    # A manifest need not say what the label of an image is: it may be that of any class.
    if sum(few) <= labels.get(None, 0):
        return None
    return (
        f"{len(few):,} of {len(class_names):,} classes have fewer than {LABELS_TO_TRUST} labels: "
        "no uncertainty can be trusted yet; take random_share: 1 until then, or choose_by: typical "
        "where there are embeddings"
    )
