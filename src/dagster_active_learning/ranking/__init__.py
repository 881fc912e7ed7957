"""Scores in, ranks out: a total order that is the same on any machine and for any batch size."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import polars as pl

from dagster_active_learning.acquisition.functions import AcquisitionFunction


def rank_images(
    batches: Iterable[pl.DataFrame], function: AcquisitionFunction, *, limit: int, seed: int
) -> pl.DataFrame:
    """The first images to label under an acquisition function.

    Images are ordered by score, equal scores by a hash of ``seed`` and image_id, equal hashes by
    image_id. Images without a score come last. Memory holds one batch and ``limit`` images.

    Args:
        batches: Frames with the columns image_id, score and prediction_count, each image once.
        function: Which end of the scores comes first.
        limit: How many images to rank at the most.
        seed: Another seed puts images with equal scores in another order.

    Returns:
        The columns rank (from 1), image_id, score and prediction_count.
    """
    highest_first = function.label_first == "highest"
    first: pl.DataFrame | None = None
    for batch in batches:
        candidates = batch if first is None else pl.concat([first, batch])
        first = _first_ranks(candidates, limit, seed, highest_first=highest_first)
    if first is None:
        first = pl.DataFrame(
            schema={"image_id": pl.String, "score": pl.Float64, "prediction_count": pl.Int64}
        )
    return first.with_row_index("rank", offset=1).cast({"rank": pl.Int64})


def _first_ranks(
    images: pl.DataFrame, limit: int, seed: int, *, highest_first: bool
) -> pl.DataFrame:
    score = pl.col("score")
    if images.height > limit:
        cut = images["score"].sort(descending=highest_first, nulls_last=True)[limit - 1]
        if cut is not None:
            images = images.filter(score >= cut if highest_first else score <= cut)
    # Hashing is dear, and only images that share their score need it.
    tied = pl.col("tied")
    images = images.with_columns(score.is_duplicated().alias("tied"))
    ties = images.filter(tied)["image_id"].to_list()
    hashes = pl.DataFrame(
        {"image_id": ties, "tie_break": [_seeded_hash(image_id, seed) for image_id in ties]},
        schema={"image_id": pl.String, "tie_break": pl.UInt64},
    )
    return (
        images.join(hashes, on="image_id", how="left")
        .sort(
            "score",
            "tie_break",
            "image_id",
            descending=[highest_first, False, False],
            nulls_last=True,
        )
        .head(limit)
        .select("image_id", "score", "prediction_count")
    )


def _seeded_hash(image_id: str, seed: int) -> int:
    """64 bits that depend on the two values alone: the same on any machine, in any release."""
    key = seed.to_bytes(8, "little", signed=True)
    digest = hashlib.blake2b(image_id.encode(), digest_size=8, key=key).digest()
    return int.from_bytes(digest, "little")
