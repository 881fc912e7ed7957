"""The steps of a pool, one way only: predictions -> scores -> candidates.

Plain functions over an open store: the Dagster assets call them, and so may anything else. They are
loaded when they are first used: a worker of a set in place needs neither DuckDB nor polars.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dagster_active_learning.flow.churn import ChurnReport as ChurnReport
    from dagster_active_learning.flow.churn import churn_report as churn_report
    from dagster_active_learning.flow.commit_in_place import files_to_score as files_to_score
    from dagster_active_learning.flow.commit_in_place import ingest_in_place as ingest_in_place
    from dagster_active_learning.flow.commit_in_place import score_in_place as score_in_place
    from dagster_active_learning.flow.evaluate import RuleEvaluationReport as RuleEvaluationReport
    from dagster_active_learning.flow.evaluate import evaluate_rules as evaluate_rules
    from dagster_active_learning.flow.housekeeping import (
        delete_prediction_set as delete_prediction_set,
    )
    from dagster_active_learning.flow.housekeeping import keep_newest_sets as keep_newest_sets
    from dagster_active_learning.flow.housekeeping import (
        remove_former_folders as remove_former_folders,
    )
    from dagster_active_learning.flow.ingest import ingest_predictions as ingest_predictions
    from dagster_active_learning.flow.rank import Ranking as Ranking
    from dagster_active_learning.flow.rank import rank_candidates as rank_candidates
    from dagster_active_learning.flow.score import score_prediction_set as score_prediction_set
    from dagster_active_learning.flow.scored_files import ScoredFiles as ScoredFiles
    from dagster_active_learning.flow.scored_files import score_files as score_files
    from dagster_active_learning.flow.select import LabelingBatchReport as LabelingBatchReport
    from dagster_active_learning.flow.select import select_labeling_batch as select_labeling_batch

_MODULES = {
    "ChurnReport": "churn",
    "LabelingBatchReport": "select",
    "Ranking": "rank",
    "RuleEvaluationReport": "evaluate",
    "ScoredFiles": "scored_files",
    "churn_report": "churn",
    "delete_prediction_set": "housekeeping",
    "evaluate_rules": "evaluate",
    "files_to_score": "commit_in_place",
    "ingest_in_place": "commit_in_place",
    "ingest_predictions": "ingest",
    "keep_newest_sets": "housekeeping",
    "rank_candidates": "rank",
    "remove_former_folders": "housekeeping",
    "score_files": "scored_files",
    "score_in_place": "commit_in_place",
    "score_prediction_set": "score",
    "select_labeling_batch": "select",
}

__all__ = [
    "ChurnReport",
    "LabelingBatchReport",
    "Ranking",
    "RuleEvaluationReport",
    "ScoredFiles",
    "churn_report",
    "delete_prediction_set",
    "evaluate_rules",
    "files_to_score",
    "ingest_in_place",
    "ingest_predictions",
    "keep_newest_sets",
    "rank_candidates",
    "remove_former_folders",
    "score_files",
    "score_in_place",
    "score_prediction_set",
    "select_labeling_batch",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
