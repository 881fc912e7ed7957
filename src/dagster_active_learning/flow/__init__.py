"""The steps of a pool, one way only: predictions -> scores -> candidates.

Plain functions over an open store: the Dagster assets call them, and so may anything else.
"""

from dagster_active_learning.flow.churn import ChurnReport as ChurnReport
from dagster_active_learning.flow.churn import (
    churn_report as churn_report,
)
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
from dagster_active_learning.flow.ingest_in_place import files_to_score as files_to_score
from dagster_active_learning.flow.ingest_in_place import ingest_in_place as ingest_in_place
from dagster_active_learning.flow.ingest_in_place import score_in_place as score_in_place
from dagster_active_learning.flow.rank import Ranking as Ranking
from dagster_active_learning.flow.rank import rank_candidates as rank_candidates
from dagster_active_learning.flow.score import score_prediction_set as score_prediction_set
from dagster_active_learning.flow.scored_files import ScoredFiles as ScoredFiles
from dagster_active_learning.flow.scored_files import score_files as score_files
from dagster_active_learning.flow.select import LabelingBatchReport as LabelingBatchReport
from dagster_active_learning.flow.select import select_labeling_batch as select_labeling_batch
