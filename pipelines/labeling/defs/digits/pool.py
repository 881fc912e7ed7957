"""The pool itself: predictions in, ranked labeling candidates out."""

from dagster_active_learning import PoolImages, PredictionFiles, active_learning_definitions
from labeling.defs.digits.classifier_predictions import MODEL, PREDICTIONS, classifier_predictions
from labeling.defs.digits.image_files import MANIFEST, image_files

pool = active_learning_definitions(
    pool="digits",
    predictions=PredictionFiles(PREDICTIONS, "parquet", model=MODEL, deps=[classifier_predictions]),
    images=PoolImages(MANIFEST, deps=[image_files]),
    limit=500,
)
