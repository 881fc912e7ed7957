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
    from dagster_active_learning.component import (
        ActiveLearningComponent as ActiveLearningComponent,
    )
    from dagster_active_learning.definitions import (
        active_learning_definitions as active_learning_definitions,
    )
    from dagster_active_learning.readers import read_predictions as read_predictions
    from dagster_active_learning.sources import (
        PoolImages as PoolImages,
    )
    from dagster_active_learning.sources import (
        PredictionAsset as PredictionAsset,
    )
    from dagster_active_learning.sources import (
        PredictionFiles as PredictionFiles,
    )
    from dagster_active_learning.sources import (
        PredictionQuery as PredictionQuery,
    )
    from dagster_active_learning.specs import PoolAsset as PoolAsset

__version__ = version("dagster-active-learning")

_MODULES = {
    "ACQUISITION_FUNCTIONS": "acquisition.functions",
    "AcquisitionFunction": "acquisition.functions",
    "ActiveLearningComponent": "component",
    "PoolAsset": "specs",
    "PoolImages": "sources",
    "PredictionAsset": "sources",
    "PredictionFiles": "sources",
    "PredictionQuery": "sources",
    "active_learning_definitions": "definitions",
    "read_predictions": "readers",
    "score_images": "acquisition.scoring",
}

__all__ = [
    "ACQUISITION_FUNCTIONS",
    "AcquisitionFunction",
    "ActiveLearningComponent",
    "PoolAsset",
    "PoolImages",
    "PredictionAsset",
    "PredictionFiles",
    "PredictionQuery",
    "active_learning_definitions",
    "read_predictions",
    "score_images",
]

DagsterLibraryRegistry.register("dagster-active-learning", __version__, is_dagster_package=False)


def __dir__() -> list[str]:
    # dg loads each name it finds here to see whether it is a component. The other public names stay
    # out: they would make every dg command load Numba, polars and DuckDB.
    return [*globals(), "ActiveLearningComponent"]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
