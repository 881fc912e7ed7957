"""A pool's assets: predictions -> image scores -> labeling candidates."""

import hashlib
import re
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from os import PathLike
from typing import TYPE_CHECKING, Any

import dagster as dg

from dagster_active_learning.acquisition.functions import (
    ACQUISITION_FUNCTIONS,
    AcquisitionFunction,
)
from dagster_active_learning.metadata import (
    Metadata,
    candidate_metadata,
    column_lineage,
    lineage_metadata,
    prediction_metadata,
    table_metadata,
    unscored_metadata,
)
from dagster_active_learning.rules import (
    Aggregation,
    ImagesWithoutPredictions,
    Inputs,
    Rules,
    ScoreOnly,
    Task,
)
from dagster_active_learning.sources import PoolImages, PredictionSource

if TYPE_CHECKING:
    from dagster._core.definitions.assets.definition.asset_dep import CoercibleToAssetDep

    from dagster_active_learning.store import PoolStore

CODE_VERSION = "1"
"""Part of every asset's code version; another one means other results for the same input."""

PREDICTION_SET = "default"
"""The prediction set of a pool that is not partitioned."""

RESOURCE = "duckdb"
"""Key of the user's DuckDBResource, and name of the Dagster pool that limits its writers."""

PREVIEW_RANKS = 10


def active_learning_definitions(
    *,
    pool: str,
    predictions: PredictionSource,
    images: PoolImages | str | PathLike[str] | None = None,
    task: Task = "classification",
    acquisition_functions: Sequence[str] | None = None,
    limit: int = 1000,
    seed: int = 0,
    inputs: Inputs = "probabilities",
    aggregation: Aggregation = "mean",
    score_only: ScoreOnly | None = None,
    images_without_predictions: ImagesWithoutPredictions | None = None,
    group_name: str | None = None,
) -> dg.Definitions:
    """The assets of one pool of images.

    ``<pool>/predictions`` reads the predictions into DuckDB, ``<pool>/image_scores`` computes every
    acquisition function for every image, and ``<pool>/labeling_candidates/<function>`` ranks the
    images that have no label yet. With ``images``, ``<pool>/images`` reads the pool's manifest.
    The tables are in the schema named after the pool, in the database of the ``DuckDBResource``
    under the resource key ``duckdb``, which the definitions do not bring along.

    Args:
        pool: Name of the pool: letters, digits and underscores. It is the prefix of the asset keys
            and the name of the DuckDB schema.
        predictions: ``PredictionFiles``, ``PredictionAsset`` or ``PredictionQuery``.
        images: The pool's manifest, a path or ``PoolImages``: which images there are, and which of
            them are labeled and so never candidates. Predictions for other images go to
            quarantine. Without it the images are those that have predictions.
        task: ``"classification"``, ``"detection"`` or ``"segmentation"``: whether a prediction is
            about an image or about one object in it.
        acquisition_functions: Names of the functions to rank by; by default all that the task has.
        limit: How many images each ranking has at the most; run config can override it.
        seed: Decides the order of images with equal scores; run config can override it.
        inputs: What the class probabilities are in the source: ``"probabilities"`` of classes that
            exclude each other, ``"logits"``, or ``"independent"`` probabilities, one sigmoid a
            class.
        aggregation: What an image's score is of those of its predictions: ``"mean"``, ``"max"``,
            ``"min"`` or ``"sum"``.
        score_only: ``"binary"`` declares the score s of an object without class probabilities to
            be a probability of two classes, [s, 1-s]. Without it only the mean object score is
            computed for such objects.
        images_without_predictions: ``"last"``, ``"first"`` or ``"exclude"``: where images without
            predictions rank under every function. By default last, but by their score of 0, and
            so first, under the mean object score.
        group_name: Group of the assets in the UI, by default the pool.

    Returns:
        Definitions with the assets, to be merged with the resources.

    Raises:
        ValueError: If an argument has a value that cannot be used.

    Example:
        >>> dg.Definitions.merge(
        ...     active_learning_definitions(
        ...         pool="street_signs",
        ...         predictions=PredictionFiles("predictions/*.parquet", "parquet"),
        ...     ),
        ...     dg.Definitions(resources={"duckdb": DuckDBResource(database="pool.duckdb")}),
        ... )  # doctest: +SKIP
    """
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", pool):
        raise ValueError(f"pool is {pool!r}, expected letters, digits and underscores")
    rules = Rules(
        task=task,
        inputs=inputs,
        aggregation=aggregation,
        score_only=score_only,
        images_without_predictions=images_without_predictions,
    )
    _check_limit(limit)
    _check_seed(seed)
    functions = _functions(rules, acquisition_functions)
    manifest = PoolImages(images) if isinstance(images, (str, PathLike)) else images
    builder = _PoolAssets(pool, group_name or pool, rules)
    assets = [
        builder.predictions(predictions, manifest),
        builder.image_scores(manifest),
        builder.labeling_candidates(functions, manifest, limit, seed),
    ]
    if manifest is not None:
        assets.insert(0, builder.images(manifest))
    return dg.Definitions(assets=assets)


class _PoolAssets:
    """Builds the assets of one pool: what they have in common is said once."""

    def __init__(self, pool: str, group_name: str, rules: Rules) -> None:
        self._pool = pool
        self._group_name = group_name
        self._rules = rules
        self.images_key = dg.AssetKey([pool, "images"])
        self.predictions_key = dg.AssetKey([pool, "predictions"])
        self.image_scores_key = dg.AssetKey([pool, "image_scores"])

    def candidates_key(self, function: AcquisitionFunction) -> dg.AssetKey:
        return dg.AssetKey([self._pool, "labeling_candidates", function.name])

    def images(self, manifest: PoolImages) -> dg.AssetsDefinition:
        spec = self._spec(
            self.images_key,
            "images",
            deps=manifest.deps,
            description=(
                "The pool's manifest: the images to choose from, and which of them have their "
                "label already. Materialize it again when images were added or labeled."
            ),
            settings=manifest.format,
            kinds={"duckdb", "polars"},
        )

        @dg.multi_asset(
            name=f"{self._pool}__images",
            specs=[spec],
            required_resource_keys={RESOURCE},
            pool=RESOURCE,
        )
        def images(context: dg.AssetExecutionContext) -> dg.MaterializeResult[Any]:
            rows, sha256 = manifest.read()
            with self._store(context) as store:
                with store.transaction():
                    store.replace_images(rows)
                images, labeled = store.image_counts()
                context.log.info(f"{images:,} images, {labeled:,} of them labeled")
                metadata: Metadata = {
                    **table_metadata(store, "images", images),
                    "labeled": labeled,
                    "unlabeled": images - labeled,
                    "source": dg.MetadataValue.path(manifest.path),
                    "source_sha256": sha256,
                }
            return dg.MaterializeResult(metadata=metadata, data_version=dg.DataVersion(sha256))

        return images

    def predictions(
        self, source: PredictionSource, manifest: PoolImages | None
    ) -> dg.AssetsDefinition:
        upstream = [source.upstream] if source.upstream else []
        spec = self._spec(
            self.predictions_key,
            "predictions",
            deps=[*upstream, *source.deps, *([self.images_key] if manifest else [])],
            description=(
                "What the model says about the images of the pool, one row a prediction. Rows that "
                "cannot be scored are in the table quarantined_predictions, with the reason."
            ),
            settings=f"{source.settings()} {self._rules.task} {self._rules.inputs}",
            kinds={"duckdb", "numba"},
        )

        @dg.multi_asset(
            name=f"{self._pool}__predictions",
            specs=[spec],
            ins={"upstream": dg.AssetIn(source.upstream)} if source.upstream else None,
            required_resource_keys={RESOURCE},
            pool=RESOURCE,
        )
        def predictions(
            context: dg.AssetExecutionContext, **inputs: Any
        ) -> dg.MaterializeResult[Any]:
            from dagster_active_learning import flow

            with self._store(context) as store:
                self._require_images(store, manifest)
                stored = flow.ingest_predictions(
                    store,
                    source.open(inputs.get("upstream"), store.connection),
                    prediction_set=PREDICTION_SET,
                    model=source.model,
                    run_id=context.run.run_id,
                    rules=self._rules,
                    in_manifest=manifest is not None,
                    report=context.log.info,
                )
                metadata = prediction_metadata(store, stored)
            if stored.quarantined_count:
                context.log.warning(
                    f"{stored.quarantined_count:,} rows cannot be scored; they are in "
                    f"{self._pool}.quarantined_predictions with the reason"
                )
            return dg.MaterializeResult(
                metadata=metadata, data_version=dg.DataVersion(stored.source_sha256)
            )

        return predictions

    def image_scores(self, manifest: PoolImages | None) -> dg.AssetsDefinition:
        spec = self._spec(
            self.image_scores_key,
            "image_scores",
            deps=[self.predictions_key, *([self.images_key] if manifest else [])],
            description=(
                "The score of every image of the pool under every acquisition function: the "
                f"{self._rules.aggregation} over the image's predictions."
            ),
            settings=str(self._rules),
            kinds={"duckdb", "numba"},
        )

        @dg.multi_asset(
            name=f"{self._pool}__image_scores",
            specs=[spec],
            required_resource_keys={RESOURCE},
            pool=RESOURCE,
        )
        def image_scores(context: dg.AssetExecutionContext) -> dg.MaterializeResult[Any]:
            from dagster_active_learning import flow

            with self._store(context) as store:
                self._require_images(store, manifest)
                stored = flow.score_prediction_set(
                    store,
                    PREDICTION_SET,
                    rules=self._rules,
                    in_manifest=manifest is not None,
                    report=context.log.info,
                )
                images, without, means = store.score_statistics(PREDICTION_SET)
                names = [name for name, mean in means.items() if mean is not None]
                metadata: Metadata = {
                    **table_metadata(store, "image_scores", images),
                    **lineage_metadata(store, stored),
                    **column_lineage(
                        {
                            "image_id": [(self.predictions_key, "image_id")],
                            **{name: [(self.predictions_key, "class_probs")] for name in names},
                        }
                    ),
                    **unscored_metadata(stored, self._rules),
                    "images_without_predictions": without,
                    **{f"mean_{name}": means[name] for name in names},
                }
            return dg.MaterializeResult(metadata=metadata)

        return image_scores

    def labeling_candidates(
        self,
        functions: Sequence[AcquisitionFunction],
        manifest: PoolImages | None,
        limit: int,
        seed: int,
    ) -> dg.AssetsDefinition:
        specs = [
            self._spec(
                self.candidates_key(function),
                "labeling_candidates",
                deps=[self.image_scores_key, *([self.images_key] if manifest else [])],
                description=(
                    f"The images to label next by {function.title.lower()} ({function.formula}): "
                    f"those with the {function.label_first} scores first, without the ones that "
                    "are labeled."
                ),
                settings=f"{limit} {seed} {self._rules}",
                kinds={"duckdb", "polars"},
                skippable=True,
            )
            for function in functions
        ]

        @dg.multi_asset(
            name=f"{self._pool}__labeling_candidates",
            specs=specs,
            can_subset=True,
            required_resource_keys={RESOURCE},
            pool=RESOURCE,
            config_schema={
                "limit": dg.Field(
                    int,
                    default_value=limit,
                    description="How many images each ranking has at the most.",
                ),
                "seed": dg.Field(
                    int,
                    default_value=seed,
                    description="Decides the order of images with equal scores.",
                ),
            },
        )
        def labeling_candidates(
            context: dg.AssetExecutionContext,
        ) -> Iterator[dg.MaterializeResult[Any]]:
            from dagster_active_learning import flow

            config = context.op_execution_context.op_config
            _check_limit(config["limit"])
            _check_seed(config["seed"])
            selected = [
                function
                for function in functions
                if self.candidates_key(function) in context.selected_asset_keys
            ]
            names = [function.name for function in selected]
            with self._store(context) as store:
                self._require_images(store, manifest)
                stored = store.prediction_set(PREDICTION_SET)
                rankings = flow.rank_candidates(
                    store,
                    PREDICTION_SET,
                    selected,
                    rules=self._rules,
                    in_manifest=manifest is not None,
                    limit=config["limit"],
                    seed=config["seed"],
                    run_id=context.run.run_id,
                )
                previews = store.candidates(PREDICTION_SET, names, PREVIEW_RANKS).partition_by(
                    "acquisition_function", as_dict=True, include_key=False
                )
                results = [
                    dg.MaterializeResult(
                        asset_key=self.candidates_key(function),
                        metadata={
                            **candidate_metadata(
                                store,
                                stored,
                                function,
                                rankings[function.name],
                                previews.get((function.name,)),
                            ),
                            **self._candidate_lineage(function),
                            **unscored_metadata(stored, self._rules, function),
                            "limit": config["limit"],
                            "seed": config["seed"],
                        },
                        data_version=dg.DataVersion(rankings[function.name].sha256),
                    )
                    for function in selected
                ]
            for name, ranking in rankings.items():
                context.log.info(
                    f"{name}: {ranking.candidate_count:,} candidates of "
                    f"{ranking.image_count:,} images without a label"
                )
            yield from results

        return labeling_candidates

    def _candidate_lineage(self, function: AcquisitionFunction) -> Metadata:
        score = (self.image_scores_key, function.name)
        return column_lineage(
            {
                "image_id": [(self.image_scores_key, "image_id")],
                "rank": [score],
                "score": [score],
                "uncertainty": [score],
                "prediction_count": [(self.image_scores_key, "prediction_count")],
                "predicted_class": [(self.predictions_key, "class_probs")],
            }
        )

    def _spec(
        self,
        key: dg.AssetKey,
        table: str,
        *,
        deps: Sequence["CoercibleToAssetDep"],
        description: str,
        settings: str,
        kinds: set[str],
        skippable: bool = False,
    ) -> dg.AssetSpec:
        return dg.AssetSpec(
            key,
            deps=deps,
            description=description,
            group_name=self._group_name,
            kinds=kinds,
            code_version=_code_version(settings),
            metadata={"dagster/table_name": f"{self._pool}.{table}"},
            skippable=skippable,
        )

    @contextmanager
    def _store(self, context: dg.AssetExecutionContext) -> Generator["PoolStore"]:
        """The pool in the user's database, open as long as the block runs."""
        from dagster_active_learning.store import PoolStore, release_results

        resource = getattr(context.resources, RESOURCE)
        if resource.database == ":memory:":
            raise dg.DagsterInvalidDefinitionError(
                f"the resource {RESOURCE!r} has the database ':memory:', which every step would "
                "have for itself: give it the path of a file"
            )
        with resource.get_connection() as connection:
            try:
                yield PoolStore(connection, self._pool)
            except BaseException as error:
                release_results(error)
                raise
            finally:
                # The resource does not close a connection whose step failed.
                connection.close()

    def _require_images(self, store: "PoolStore", manifest: PoolImages | None) -> None:
        from dagster_active_learning.errors import PoolStateError

        if manifest is not None and not store.image_counts()[0]:
            raise PoolStateError(
                f"pool {self._pool!r} has a manifest, {manifest.path}, but no image of it is in "
                f"the database: materialize {self._pool}/images first"
            )


def _functions(rules: Rules, names: Sequence[str] | None) -> list[AcquisitionFunction]:
    possible = [
        function
        for function in ACQUISITION_FUNCTIONS.values()
        if rules.objects or function.level == "image"
    ]
    if names is None:
        return possible
    known = {function.name: function for function in possible}
    unknown = [name for name in names if name not in known]
    if unknown or not names or len(set(names)) != len(names):
        raise ValueError(
            f"acquisition_functions is {list(names)!r}, expected different ones of "
            f"{', '.join(known)} for the task {rules.task!r}"
        )
    return [known[name] for name in names]


def _check_limit(limit: int) -> None:
    if limit < 1:
        raise ValueError(f"limit is {limit}, expected at least 1")


def _check_seed(seed: int) -> None:
    if not -(2**63) <= seed < 2**63:
        raise ValueError(f"seed is {seed}, expected an integer of 64 bits")


def _code_version(settings: str) -> str:
    return f"{CODE_VERSION}-{hashlib.sha256(settings.encode()).hexdigest()[:12]}"
