"""The pool itself: objects in, ranked scenes out."""

from dagster_active_learning import PoolImages, PredictionFiles, active_learning_definitions
from labeling.defs.digit_scenes.detections import CLASS_NAMES, DETECTIONS, MODEL, detections
from labeling.defs.digit_scenes.scene_files import MANIFEST, scene_files

pool = active_learning_definitions(
    pool="digit_scenes",
    task="detection",
    predictions=PredictionFiles(
        DETECTIONS,
        "jsonl",
        model=MODEL,
        deps=[detections],
        class_names=CLASS_NAMES,
        category_column="category",
        bbox_column="bbox",
    ),
    images=PoolImages(MANIFEST, deps=[scene_files]),
    limit=100,
)
