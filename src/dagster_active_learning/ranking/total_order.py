"""Scores in, ranks out: a total order that is the same on any machine and for any batch size."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable
from typing import Literal

import polars as pl


def rank_images(
    batches: Iterable[pl.DataFrame],
    label_first: Literal["highest", "lowest"],
    *,
    limit: int,
    seed: int,
    images_without_predictions: str | None = None,
) -> pl.DataFrame:
    """The first images to label by their scores.

    Images are ordered by score, equal scores by a hash of ``seed`` and image_id, equal hashes by
    image_id. Images that have predictions but no score are left out. Memory holds one batch and
    ``limit`` images.

    Args:
        batches: Frames with the columns image_id, score and prediction_count, each image once.
        label_first: The end of the scores that comes first.
        limit: How many images to rank at the most.
        seed: Another seed puts images with equal scores in another order.
        images_without_predictions: ``"last"``, ``"first"`` or ``"exclude"``. By default they are
            ordered by their score if they have one, and come last if not.

    Returns:
        The columns rank (from 1), image_id, score and prediction_count.
    """
    first = pl.DataFrame(
        schema={
            "image_id": pl.String,
            "score": pl.Float64,
            "prediction_count": pl.Int64,
            "order": pl.Float64,
        }
    )
    for batch in batches:
        ordered = _with_order(batch, label_first, images_without_predictions)
        first = _first_ranks(pl.concat([first, ordered]), limit, seed)
    return first.drop("order").with_row_index("rank", offset=1).cast({"rank": pl.Int64})


def _with_order(
    images: pl.DataFrame, label_first: str, images_without_predictions: str | None
) -> pl.DataFrame:
    """A column that sorts images lowest first, without those that are no candidates."""
    score, empty = pl.col("score"), pl.col("prediction_count") == 0
    order = -score if label_first == "highest" else score
    if images_without_predictions is not None:
        end = -math.inf if images_without_predictions == "first" else math.inf
        order = pl.when(empty).then(pl.lit(end)).otherwise(order)
    if images_without_predictions == "exclude":
        images = images.filter(~empty)
    return images.filter(empty | score.is_not_null()).with_columns(order=order.fill_null(math.inf))


def _first_ranks(images: pl.DataFrame, limit: int, seed: int) -> pl.DataFrame:
    order = pl.col("order")
    if images.height > limit:
        images = images.filter(order <= images["order"].bottom_k(limit).max())
    # Hashing is dear, and only images that share their place need it.
    ties = images.filter(order.is_duplicated())["image_id"].to_list()
    hashes = pl.DataFrame(
        {"image_id": ties, "tie_break": [_seeded_hash(image_id, seed) for image_id in ties]},
        schema={"image_id": pl.String, "tie_break": pl.UInt64},
    )
    return (
        images.join(hashes, on="image_id", how="left")
        .sort("order", "tie_break", "image_id")
        .head(limit)
        .drop("tie_break")
    )


def _seeded_hash(image_id: str, seed: int) -> int:
    """64 bits that depend on the two values alone: the same on any machine, in any release."""
    key = seed.to_bytes(8, "little", signed=True)
    digest = hashlib.blake2b(image_id.encode(), digest_size=8, key=key).digest()
    return int.from_bytes(digest, "little")
