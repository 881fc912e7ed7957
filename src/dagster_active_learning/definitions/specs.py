"""What each asset of a pool is: key, dependencies, description, code version."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import dagster as dg

from dagster_active_learning.definitions.automation import FOLLOW_UPSTREAM

if TYPE_CHECKING:
    from dagster._core.definitions.assets.definition.asset_dep import CoercibleToAssetDep

    from dagster_active_learning.acquisition.functions import AcquisitionFunction
    from dagster_active_learning.definitions.component import ActiveLearningComponent

RESOURCE = "duckdb"
"""Key of the user's DuckDBResource, and name of the Dagster pool that limits its users."""

CODE_VERSION = "1"
"""Part of every asset's code version; another one means other results for the same input."""


def check_group_name(group_name: str | None) -> None:
    """Raise ValueError unless Dagster can have a group of that name."""
    try:
        dg.AssetSpec("asset", group_name=group_name)
    except dg.DagsterInvalidDefinitionError as error:
        raise ValueError(f"group_name is {group_name!r}: {error}") from error


@dataclass(frozen=True)
class PoolAsset:
    """Which asset of a pool an asset spec is about.

    Attributes:
        pool: The pool.
        table: The table it fills: ``"images"``, ``"predictions"``, ``"image_scores"`` or
            ``"labeling_candidates"``; ``"exported_candidates"`` for the files written of it.
        acquisition_function: For candidates, the function they are ranked by.
    """

    pool: str
    table: str
    acquisition_function: str | None = None


class PoolSpecs:
    """The specs of a pool's assets, each as the component's ``get_asset_spec`` gives it.

    Attributes:
        images: The manifest, where the pool has one.
        predictions: The predictions.
        image_scores: The scores of all images.
        candidates: The rankings, by the name of the acquisition function.
        exported_candidates: The files of candidates, where the pool has some.
    """

    def __init__(self, component: ActiveLearningComponent) -> None:
        self._component = component
        self.images = self._images()
        self.predictions = self._predictions()
        self.image_scores = self._image_scores()
        self.candidates: Mapping[str, dg.AssetSpec] = {
            function.name: self._candidates(function) for function in component.functions
        }
        self.exported_candidates = self._exported_candidates()
        keys = [spec.key.to_user_string() for spec in self]
        repeated = [key for key in keys if keys.count(key) > 1]
        if repeated:
            raise ValueError(
                f"translation gives {len(repeated)} assets the key {repeated[0]!r}, expected one "
                "for each: make it of table and acquisition_function, or set key_prefix"
            )

    def __iter__(self) -> Iterator[dg.AssetSpec]:
        """All specs."""
        if self.images:
            yield self.images
        yield self.predictions
        yield self.image_scores
        yield from self.candidates.values()
        if self.exported_candidates:
            yield self.exported_candidates

    def _images(self) -> dg.AssetSpec | None:
        manifest = self._component.manifest
        if manifest is None:
            return None
        return self._spec(
            "images",
            deps=manifest.deps,
            description=(
                "The pool's manifest: the images to choose from, and which of them have their "
                "label already. Materialize it again when images were added or labeled."
            ),
            settings=manifest.format,
            kinds={"duckdb", "polars"},
            partitioned=False,
            automated=bool(manifest.deps),
        )

    def _predictions(self) -> dg.AssetSpec:
        source, rules = self._component.predictions, self._component.rules
        upstream = [source.upstream] if source.upstream else []
        return self._spec(
            "predictions",
            deps=[*upstream, *source.deps, *self._manifest_key],
            description=(
                "What the model says about the images of the pool, one row a prediction. Rows that "
                "cannot be scored are in the table quarantined_predictions, with the reason."
            ),
            settings=f"{source.settings()} {rules.task} {rules.inputs}",
            kinds={"duckdb", "numba"},
            # What the sensor reads is not to be read twice.
            automated=bool(upstream or source.deps) and self._component.sensor is None,
        )

    def _image_scores(self) -> dg.AssetSpec:
        rules = self._component.rules
        return self._spec(
            "image_scores",
            deps=[self.predictions.key, *self._manifest_key],
            description=(
                "The score of every image of the pool under every acquisition function: the "
                f"{rules.aggregation} over the image's predictions."
            ),
            settings=str(rules),
            kinds={"duckdb", "numba"},
            automated=True,
        )

    def _candidates(self, function: AcquisitionFunction) -> dg.AssetSpec:
        component = self._component
        return self._spec(
            "labeling_candidates",
            function.name,
            deps=[self.image_scores.key, *self._manifest_key],
            description=(
                f"The images to label next by {function.title.lower()} "
                f"({function.formula_of(component.rules.inputs)}): those with the "
                f"{function.label_first} scores first, without the ones that are labeled."
            ),
            settings=f"{component.limit} {component.seed} {component.rules}",
            kinds={"duckdb", "polars"},
            skippable=True,
            automated=True,
            freshness_policy=component.freshness_policy,
        )

    def _exported_candidates(self) -> dg.AssetSpec | None:
        files = self._component.candidate_files
        if files is None:
            return None
        return self._spec(
            "exported_candidates",
            deps=[*(spec.key for spec in self.candidates.values()), *self._manifest_key],
            description=(
                "The candidates of every acquisition function as files for other tools, in the "
                "order of their ranks, with the uri of each image."
            ),
            settings=f"{files.paths} {list(self.candidates)}",
            kinds={"duckdb", "file"},
            stored=False,
            automated=True,
        )

    @property
    def _manifest_key(self) -> list[dg.AssetKey]:
        return [self.images.key] if self.images else []

    def _spec(
        self,
        table: str,
        acquisition_function: str | None = None,
        *,
        deps: Sequence[CoercibleToAssetDep],
        description: str,
        settings: str,
        kinds: set[str],
        skippable: bool = False,
        partitioned: bool = True,
        stored: bool = True,
        automated: bool = False,
        freshness_policy: dg.FreshnessPolicy | None = None,
    ) -> dg.AssetSpec:
        component = self._component
        partitions_def = component.partitions_def if partitioned else None
        spec = dg.AssetSpec(
            [component.pool, table, *([acquisition_function] if acquisition_function else [])],
            deps=deps,
            description=description,
            group_name=component.group_name or component.pool,
            kinds=kinds,
            code_version=_code_version(settings),
            metadata={"dagster/table_name": f"{component.pool}.{table}"} if stored else {},
            skippable=skippable,
            partitions_def=partitions_def,
            automation_condition=FOLLOW_UPSTREAM if component.automation and automated else None,
            freshness_policy=freshness_policy,
        )
        spec = component.get_asset_spec(
            spec, PoolAsset(component.pool, table, acquisition_function)
        )
        if spec.partitions_def != partitions_def:
            raise ValueError(
                f"translation gives {spec.key.to_user_string()} partitions of its own: set "
                "partitions_def of the pool instead"
            )
        return spec


def _code_version(settings: str) -> str:
    return f"{CODE_VERSION}-{hashlib.sha256(settings.encode()).hexdigest()[:12]}"
