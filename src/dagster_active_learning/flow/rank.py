"""Image scores -> ranked labeling candidates."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from dagster_active_learning.acquisition.functions import AcquisitionFunction
from dagster_active_learning.errors import PoolStateError
from dagster_active_learning.ranking.total_order import rank_images
from dagster_active_learning.rules import NO_LIMIT, Rules
from dagster_active_learning.store import prediction_sets
from dagster_active_learning.store.image_scores import contenders
from dagster_active_learning.store.labeling_candidates import replace_candidates
from dagster_active_learning.store.pool_store import PoolStore
from dagster_active_learning.store.prediction_sets import PredictionSet
from dagster_active_learning.store.ranking_statistics import RankingStatistics, record_statistics
from dagster_active_learning.store.score_statistics import (
    member_counts,
    score_statistics,
    unlabeled_count,
)
from dagster_active_learning.store.scorings import scoring_problem


@dataclass(frozen=True)
class Ranking:
    """A ranking in numbers.

    Attributes:
        candidate_count: Images ranked.
        image_count: Images to choose from: those without a label.
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
    functions: Sequence[AcquisitionFunction],
    *,
    rules: Rules,
    limit: int | None,
    seed: int,
    run_id: str,
) -> dict[str, Ranking]:
    """Rank the images without a label under acquisition functions; the rankings by their names.

    Images whose predictions have no score under a function are no candidates, nor is any image
    if no prediction has one.

    Raises:
        PoolStateError: If the prediction set is not in the database, or has no scores that were
            made of its predictions under these rules.
    """
    limit = NO_LIMIT if limit is None else limit
    with store.transaction():
        stored = prediction_sets.prediction_set(store, prediction_set)
        if problem := scoring_problem(store, prediction_set, rules):
            raise PoolStateError(f"{problem}: materialize {store.pool}/image_scores first")
        image_count = unlabeled_count(store, prediction_set, rules)
        candidates = {
            function.name: _candidates(store, stored, function, rules=rules, limit=limit, seed=seed)
            for function in functions
        }
        replace_candidates(
            store, prediction_set, candidates, run_id, limit=limit, objects=rules.objects
        )
        rankings = {name: _ranking(ranked, image_count) for name, ranked in candidates.items()}
        _record(store, stored, functions, candidates, rankings, rules, run_id)
    return rankings


def _record(
    store: PoolStore,
    stored: PredictionSet,
    functions: Sequence[AcquisitionFunction],
    candidates: Mapping[str, pl.DataFrame],
    rankings: Mapping[str, Ranking],
    rules: Rules,
    run_id: str,
) -> None:
    """Keep what the rankings are like, to be compared with later ones."""
    means = score_statistics(store, stored.prediction_set).means
    statistics: list[RankingStatistics] = []
    for function in functions:
        ranking, ranked = rankings[function.name], candidates[function.name]
        mean = np.array([means[function.name]], np.float64)  # NaN where there is none
        (of_images,) = _uncertainty(store, stored, function, mean, rules).tolist()
        statistics.append(
            RankingStatistics(
                prediction_set=stored.prediction_set,
                acquisition_function=function.name,
                candidate_count=ranking.candidate_count,
                image_count=ranking.image_count,
                score_at_cut=ranking.score_at_cut,
                uncertainty_at_cut=ranked["uncertainty"][-1] if ranked.height else None,
                mean_uncertainty=None if math.isnan(of_images) else of_images,
            )
        )
    record_statistics(store, statistics, run_id)


def _candidates(
    store: PoolStore,
    stored: PredictionSet,
    function: AcquisitionFunction,
    *,
    rules: Rules,
    limit: int,
    seed: int,
) -> pl.DataFrame:
    ranked = rank_images(
        contenders(store, stored.prediction_set, function, limit, rules)
        if function.can_rank(rules, has_class_probs=stored.has_class_probs)
        else [],
        function.label_first_under(rules.aggregation),
        limit=limit,
        seed=seed,
        images_without_predictions=rules.images_without_predictions,
    )
    scores = ranked["score"].to_numpy()  # NaN where there is none
    uncertainty = _uncertainty(store, stored, function, scores, rules)
    return ranked.with_columns(pl.Series("uncertainty", uncertainty, nan_to_null=True))


def _uncertainty(
    store: PoolStore,
    stored: PredictionSet,
    function: AcquisitionFunction,
    scores: npt.NDArray[np.float64],
    rules: Rules,
) -> npt.NDArray[np.float64]:
    """Scores on the scale 0..1."""
    # A lone score is a probability of two classes, where it is declared to be one.
    n_classes = len(stored.class_names) if stored.has_class_probs else 2
    n_members = member_counts(store, stored.prediction_set).most if rules.committee else 1
    return function.image_uncertainty(scores, n_classes, rules, n_members=n_members)


def _ranking(candidates: pl.DataFrame, image_count: int) -> Ranking:
    scores = candidates["score"].drop_nulls()
    uncertainties = candidates["uncertainty"].drop_nulls()
    ranked = candidates.select("rank", "image_id", "score", "prediction_count")
    return Ranking(
        candidate_count=candidates.height,
        image_count=image_count,
        score_at_cut=candidates["score"][-1] if candidates.height else None,
        mean_score=float(scores.mean()) if len(scores) else None,  # pyright: ignore[reportArgumentType]
        mean_uncertainty=(
            float(uncertainties.mean()) if len(scores) else None  # pyright: ignore[reportArgumentType]
        ),
        sha256=hashlib.sha256(ranked.write_csv().encode()).hexdigest(),
    )
