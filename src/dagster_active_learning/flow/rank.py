"""Image scores -> ranked labeling candidates."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

import polars as pl

from dagster_active_learning.acquisition.functions import AcquisitionFunction
from dagster_active_learning.errors import PoolStateError
from dagster_active_learning.ranking import rank_images
from dagster_active_learning.readers.stream import DEFAULT_BATCH_ROWS
from dagster_active_learning.rules import Rules
from dagster_active_learning.store import PoolStore


@dataclass(frozen=True)
class Ranking:
    """What a ranking came to, in numbers.

    Attributes:
        candidate_count: Images ranked.
        image_count: Images that were ranked or could have been: those without a label.
        score_at_cut: Score of the last candidate, None if it has none.
        mean_score: Mean score of the candidates that have one.
        mean_uncertainty: The same as uncertainty.
        sha256: Hash of the ranked images and their scores: the same list has the same hash.
    """

    candidate_count: int
    image_count: int
    score_at_cut: float | None
    mean_score: float | None
    mean_uncertainty: float | None
    sha256: str


def rank_candidates(
    store: PoolStore,
    prediction_set: str,
    function: AcquisitionFunction,
    *,
    rules: Rules,
    in_manifest: bool,
    limit: int,
    seed: int,
    run_id: str,
) -> Ranking:
    """Rank the images without a label under one acquisition function.

    Images whose predictions have no score under the function are no candidates, nor is any image
    if no prediction has one. The caller holds the transaction, so that several functions are
    ranked together.

    Raises:
        PoolStateError: If the prediction set is not in the database or has no scores.
    """
    stored = store.prediction_set(prediction_set)
    if not store.score_statistics(prediction_set)[0]:
        raise PoolStateError(
            f"prediction set {prediction_set!r} of pool {store.pool!r} has no scores: materialize "
            f"{store.pool}/image_scores first"
        )
    image_count = 0

    def counted() -> Iterator[pl.DataFrame]:
        nonlocal image_count
        for batch in store.unlabeled_scores(
            prediction_set,
            function.name,
            in_manifest=in_manifest,
            batch_rows=DEFAULT_BATCH_ROWS,
        ):
            image_count += batch.height
            yield batch

    has_scores = stored.prediction_count > stored.score_only_count or function.level == "object"
    ranked = rank_images(
        counted() if has_scores or rules.score_only == "binary" else [],
        function,
        limit=limit,
        seed=seed,
        images_without_predictions=rules.images_without_predictions,
    )
    # Two where a lone score is declared to be a probability of two classes.
    n_classes = max(2, len(stored.class_names)) if stored.score_only_count == 0 else 2
    candidates = ranked.with_columns(
        pl.col("score")
        .map_elements(
            lambda score: function.uncertainty(score, n_classes, rules.inputs),
            return_dtype=pl.Float64,
        )
        .alias("uncertainty")
    )
    store.replace_candidates(
        prediction_set, function.name, candidates, run_id, objects=rules.objects
    )
    scores = candidates["score"].drop_nulls()
    return Ranking(
        candidate_count=candidates.height,
        image_count=image_count,
        score_at_cut=candidates["score"][-1] if candidates.height else None,
        mean_score=float(scores.mean()) if len(scores) else None,  # pyright: ignore[reportArgumentType]
        mean_uncertainty=(
            float(candidates["uncertainty"].drop_nulls().mean())  # pyright: ignore[reportArgumentType]
            if len(scores)
            else None
        ),
        sha256=hashlib.sha256(ranked.write_csv().encode()).hexdigest(),
    )
