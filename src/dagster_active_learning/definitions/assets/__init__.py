"""The assets of a pool: one module per asset, and one line in ``ASSETS``."""

from dagster_active_learning.definitions.assets.exported_candidates import EXPORTED_CANDIDATES
from dagster_active_learning.definitions.assets.image_scores import IMAGE_SCORES
from dagster_active_learning.definitions.assets.images import IMAGES
from dagster_active_learning.definitions.assets.labeling_batch import LABELING_BATCH
from dagster_active_learning.definitions.assets.labeling_candidates import LABELING_CANDIDATES
from dagster_active_learning.definitions.assets.labeling_tasks import LABELING_TASKS
from dagster_active_learning.definitions.assets.labels import LABELS
from dagster_active_learning.definitions.assets.model_churn import MODEL_CHURN
from dagster_active_learning.definitions.assets.predictions import PREDICTIONS
from dagster_active_learning.definitions.assets.rule_evaluation import RULE_EVALUATION

ASSETS = [
    IMAGES,
    PREDICTIONS,
    IMAGE_SCORES,
    LABELING_CANDIDATES,
    LABELING_BATCH,
    EXPORTED_CANDIDATES,
    LABELING_TASKS,
    LABELS,
    RULE_EVALUATION,
    MODEL_CHURN,
]
"""The assets in the order of the flow: each may depend on those before it."""
