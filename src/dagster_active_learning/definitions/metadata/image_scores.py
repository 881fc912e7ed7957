"""Metadata of ``<pool>/image_scores``, and why scores are null."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dagster_active_learning.acquisition.functions import ACQUISITION_FUNCTIONS
from dagster_active_learning.definitions.metadata.lineage import lineage_metadata
from dagster_active_learning.definitions.metadata.tables import Metadata, rounded, table_metadata

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dagster_active_learning.acquisition.functions import AcquisitionFunction
    from dagster_active_learning.rules import Rules
    from dagster_active_learning.store.pool_store import PoolStore
    from dagster_active_learning.store.prediction_sets import PredictionSet
    from dagster_active_learning.store.score_statistics import MemberCounts, ScoreStatistics


def score_metadata(
    store: PoolStore,
    stored: PredictionSet,
    statistics: ScoreStatistics,
    rules: Rules,
    members: MemberCounts | None = None,
) -> Metadata:
    """Counts, means and lineage of the scores of a prediction set, of a committee its members."""
    of_members: Metadata = {}
    if members is not None:
        of_members = {
            "members": members.members,
            "images_with_missing_members": members.images_with_fewer,
        }
    return {
        **table_metadata(store, "image_scores", statistics.images),
        **lineage_metadata(store, stored),
        **unscored_metadata(stored, rules, list(ACQUISITION_FUNCTIONS.values())),
        "images_without_predictions": statistics.without_predictions,
        **of_members,
        **{
            f"mean_{function}": rounded(mean)
            for function, mean in statistics.means.items()
            if mean is not None
        },
    }


def unscored_metadata(
    stored: PredictionSet, rules: Rules, functions: Sequence[AcquisitionFunction]
) -> Metadata:
    """The reason why scores under some of the functions are null, if it lies in the model."""
    alone = stored.score_only_count
    of_class_probs = [function for function in functions if function.level == "image"]
    if not alone or rules.score_only or not of_class_probs:
        return {}
    unscored = [
        function.title.lower()
        for function in ACQUISITION_FUNCTIONS.values()
        if function.level == "image"
    ]
    return {
        "without_score": (
            f"{alone:,} of {stored.prediction_count:,} predictions have a score and no class "
            f"probabilities: {', '.join(unscored[:-1])} and {unscored[-1]} are null for their "
            'images; score_only="binary" declares the score to be a probability of two classes'
        )
    }
