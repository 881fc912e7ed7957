"""Decide which images to label next, as Dagster assets.

The public names are loaded when they are first used: importing this package loads neither Numba
nor polars nor DuckDB, so that listing definitions stays quick.
"""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from dagster_shared.libraries import DagsterLibraryRegistry

if TYPE_CHECKING:
    from dagster_active_learning.acquisition.functions import (
        ACQUISITION_FUNCTIONS as ACQUISITION_FUNCTIONS,
    )
    from dagster_active_learning.acquisition.functions import (
        AcquisitionFunction as AcquisitionFunction,
    )
    from dagster_active_learning.acquisition.scoring import score_images as score_images
    from dagster_active_learning.acquisition.warm_up import warm_up as warm_up
    from dagster_active_learning.definitions.batches import LabelingBatch as LabelingBatch
    from dagster_active_learning.definitions.batches import NearDuplicates as NearDuplicates
    from dagster_active_learning.definitions.churn import ModelChurn as ModelChurn
    from dagster_active_learning.definitions.component import (
        ActiveLearningComponent as ActiveLearningComponent,
    )
    from dagster_active_learning.definitions.evaluations import RuleEvaluation as RuleEvaluation
    from dagster_active_learning.definitions.from_python import (
        active_learning_definitions as active_learning_definitions,
    )
    from dagster_active_learning.definitions.labeling import LabelStudio as LabelStudio
    from dagster_active_learning.definitions.labeling import (
        LabelStudioResource as LabelStudioResource,
    )
    from dagster_active_learning.definitions.manifests import PoolImages as PoolImages
    from dagster_active_learning.definitions.metadata.replay import (
        replay_metadata as replay_metadata,
    )
    from dagster_active_learning.definitions.op_settings import OpSettings as OpSettings
    from dagster_active_learning.definitions.pool import PoolAsset as PoolAsset
    from dagster_active_learning.definitions.sensors import (
        PredictionFileSensor as PredictionFileSensor,
    )
    from dagster_active_learning.definitions.sources import (
        PredictionAsset as PredictionAsset,
    )
    from dagster_active_learning.definitions.sources import (
        PredictionFiles as PredictionFiles,
    )
    from dagster_active_learning.definitions.sources import (
        PredictionQuery as PredictionQuery,
    )
    from dagster_active_learning.definitions.sources import (
        PredictionSource as PredictionSource,
    )
    from dagster_active_learning.engines.duckdb_functions import (
        register_functions as register_functions,
    )
    from dagster_active_learning.engines.local_workers import LocalWorkers as LocalWorkers
    from dagster_active_learning.engines.polars_namespace import (
        AcquisitionNamespace as AcquisitionNamespace,
    )
    from dagster_active_learning.engines.ray_tasks import RayTasks as RayTasks
    from dagster_active_learning.explanation.page import explain_candidate as explain_candidate
    from dagster_active_learning.flow.housekeeping import (
        delete_prediction_set as delete_prediction_set,
    )
    from dagster_active_learning.readers import read_predictions as read_predictions
    from dagster_active_learning.store.handed_out import hand_out_batch as hand_out_batch
    from dagster_active_learning.store.handed_out import release_batch as release_batch
    from dagster_active_learning.store.labeling_batches import load_batch as load_batch
    from dagster_active_learning.store.labeling_candidates import load_candidates as load_candidates
    from dagster_active_learning.store.labels import load_labels as load_labels
    from dagster_active_learning.store.ranking_statistics import (
        compare_prediction_sets as compare_prediction_sets,
    )

__version__ = version("dagster-active-learning")

_MODULES = {
    "ACQUISITION_FUNCTIONS": "acquisition.functions",
    "AcquisitionFunction": "acquisition.functions",
    "AcquisitionNamespace": "engines.polars_namespace",
    "ActiveLearningComponent": "definitions.component",
    "PoolAsset": "definitions.pool",
    "PoolImages": "definitions.manifests",
    "PredictionAsset": "definitions.sources",
    "PredictionFileSensor": "definitions.sensors",
    "PredictionFiles": "definitions.sources",
    "PredictionQuery": "definitions.sources",
    "PredictionSource": "definitions.sources",
    "LabelStudio": "definitions.labeling",
    "LabelStudioResource": "definitions.labeling",
    "LabelingBatch": "definitions.batches",
    "LocalWorkers": "engines.local_workers",
    "ModelChurn": "definitions.churn",
    "NearDuplicates": "definitions.batches",
    "OpSettings": "definitions.op_settings",
    "RayTasks": "engines.ray_tasks",
    "RuleEvaluation": "definitions.evaluations",
    "compare_prediction_sets": "store.ranking_statistics",
    "delete_prediction_set": "flow.housekeeping",
    "explain_candidate": "explanation.page",
    "hand_out_batch": "store.handed_out",
    "load_batch": "store.labeling_batches",
    "release_batch": "store.handed_out",
    "load_candidates": "store.labeling_candidates",
    "load_labels": "store.labels",
    "active_learning_definitions": "definitions.from_python",
    "read_predictions": "readers",
    "register_functions": "engines.duckdb_functions",
    "replay_metadata": "definitions.metadata.replay",
    "score_images": "acquisition.scoring",
    "warm_up": "acquisition.warm_up",
}

__all__ = [
    "ACQUISITION_FUNCTIONS",
    "AcquisitionFunction",
    "AcquisitionNamespace",
    "ActiveLearningComponent",
    "LabelStudio",
    "LabelStudioResource",
    "LabelingBatch",
    "LocalWorkers",
    "ModelChurn",
    "NearDuplicates",
    "OpSettings",
    "PoolAsset",
    "PoolImages",
    "PredictionAsset",
    "PredictionFileSensor",
    "PredictionFiles",
    "PredictionQuery",
    "PredictionSource",
    "RayTasks",
    "RuleEvaluation",
    "active_learning_definitions",
    "compare_prediction_sets",
    "delete_prediction_set",
    "explain_candidate",
    "hand_out_batch",
    "load_batch",
    "load_candidates",
    "load_labels",
    "read_predictions",
    "register_functions",
    "release_batch",
    "replay_metadata",
    "score_images",
    "warm_up",
]

_DATA_FRAME_NAMES = ("explain_candidate", "load_candidates", "register_functions", "score_images")

DagsterLibraryRegistry.register("dagster-active-learning", __version__, is_dagster_package=False)


def __dir__() -> list[str]:
    # dg loads each name it finds here to see whether it is a component. The other public names stay
    # out: they would make every dg command load Numba, polars and DuckDB.
    return [*globals(), "ActiveLearningComponent"]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if name in _DATA_FRAME_NAMES:
        # Whoever works with data frames finds ``pl.col(…).acquisition`` there: polars is loaded now
        # in any case.
        import_module(f"{__name__}.{_MODULES['AcquisitionNamespace']}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
