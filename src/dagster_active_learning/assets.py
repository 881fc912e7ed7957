"""A pool's assets: predictions -> image scores -> labeling candidates."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from functools import partial
from typing import TYPE_CHECKING, Any

import dagster as dg

from dagster_active_learning.acquisition.functions import AcquisitionFunction
from dagster_active_learning.metadata import (
    Metadata,
    candidate_metadata,
    column_lineage,
    lineage_metadata,
    prediction_metadata,
    table_metadata,
    unscored_metadata,
)
from dagster_active_learning.partitions import materialized, partition_value, prediction_sets
from dagster_active_learning.rules import check_limit, check_seed
from dagster_active_learning.specs import PoolSpecs

if TYPE_CHECKING:
    from dagster_active_learning.component import ActiveLearningComponent
    from dagster_active_learning.sources import PoolImages
    from dagster_active_learning.store import PoolStore

RESOURCE = "duckdb"
"""Key of the user's DuckDBResource, and name of the Dagster pool that limits its writers."""

PREVIEW_RANKS = 10

Results = Iterator[dg.MaterializeResult[Any]]


class PoolAssets:
    """Builds the assets of one pool, one step for each of its tables."""

    def __init__(self, component: "ActiveLearningComponent") -> None:
        self._component = component
        self._pool = component.pool
        self._source = component.predictions
        self._manifest = component.manifest
        self._rules = component.rules
        self._specs = PoolSpecs(component)

    def build(self) -> list[dg.AssetsDefinition]:
        """All assets; that of the manifest only where the pool has one."""
        component, specs, upstream = self._component, self._specs, self._source.upstream
        assets = [
            self._step(
                "predictions",
                [specs.predictions],
                self._predictions,
                ins={"upstream": dg.AssetIn(upstream)} if upstream else None,
            ),
            self._step("image_scores", [specs.image_scores], self._image_scores),
            self._step(
                "labeling_candidates",
                list(specs.candidates.values()),
                self._labeling_candidates,
                can_subset=True,
                config_schema={
                    "limit": dg.Field(
                        int,
                        default_value=component.limit,
                        description="How many images each ranking has at the most.",
                    ),
                    "seed": dg.Field(
                        int,
                        default_value=component.seed,
                        description="Decides the order of images with equal scores.",
                    ),
                },
            ),
        ]
        if self._manifest is not None and specs.images is not None:
            read = partial(self._images, self._manifest)
            assets.insert(0, self._step("images", [specs.images], read))
        return assets

    def _step(
        self,
        table: str,
        specs: Sequence[dg.AssetSpec],
        materialize: Callable[..., Results],
        **options: Any,
    ) -> dg.AssetsDefinition:
        """The assets that fill one table."""
        # One run of many partitions opens the database once; runs beside it would wait for it.
        partitioned = specs[0].partitions_def is not None
        backfill_policy = dg.BackfillPolicy.single_run() if partitioned else None

        @dg.multi_asset(
            name=f"{self._pool}__{table}",
            specs=specs,
            required_resource_keys={RESOURCE},
            pool=RESOURCE,
            backfill_policy=backfill_policy,
            **options,
        )
        def step(context: dg.AssetExecutionContext, **inputs: Any) -> Results:
            yield from self._component.execute(context, lambda: materialize(context, **inputs))

        return step

    def _images(self, manifest: "PoolImages", context: dg.AssetExecutionContext) -> Results:
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
        yield dg.MaterializeResult(metadata=metadata, data_version=dg.DataVersion(sha256))

    def _predictions(self, context: dg.AssetExecutionContext, upstream: Any = None) -> Results:
        from dagster_active_learning import flow

        names = prediction_sets(context)
        partitioned = self._component.partitions_def is not None
        done: dict[str, tuple[Metadata, str | None]] = {}
        with self._store(context) as store:
            self._require_images(store)
            for name in names:
                value = upstream
                if partitioned and self._source.upstream is not None:
                    value = partition_value(upstream, name, len(names))
                stored = flow.ingest_predictions(
                    store,
                    self._source.open(value, store.connection, name if partitioned else None),
                    prediction_set=name,
                    model=self._source.model,
                    run_id=context.run.run_id,
                    rules=self._rules,
                    in_manifest=self._manifest is not None,
                    report=context.log.info,
                )
                if stored.quarantined_count:
                    context.log.warning(
                        f"{stored.quarantined_count:,} rows cannot be scored; they are in "
                        f"{self._pool}.quarantined_predictions with the reason"
                    )
                done[name] = prediction_metadata(store, stored), stored.source_sha256
        yield materialized(context, self._specs.predictions.key, done)

    def _image_scores(self, context: dg.AssetExecutionContext) -> Results:
        from dagster_active_learning import flow

        predictions = self._specs.predictions.key
        done: dict[str, tuple[Metadata, str | None]] = {}
        with self._store(context) as store:
            self._require_images(store)
            for name in prediction_sets(context):
                stored = flow.score_prediction_set(
                    store,
                    name,
                    rules=self._rules,
                    in_manifest=self._manifest is not None,
                    report=context.log.info,
                )
                images, without, means = store.score_statistics(name)
                scored = [function for function, mean in means.items() if mean is not None]
                metadata: Metadata = {
                    **table_metadata(store, "image_scores", images),
                    **lineage_metadata(store, stored),
                    **column_lineage(
                        {
                            "image_id": [(predictions, "image_id")],
                            **{function: [(predictions, "class_probs")] for function in scored},
                        }
                    ),
                    **unscored_metadata(stored, self._rules),
                    "images_without_predictions": without,
                    **{f"mean_{function}": means[function] for function in scored},
                }
                done[name] = metadata, None
        yield materialized(context, self._specs.image_scores.key, done)

    def _labeling_candidates(self, context: dg.AssetExecutionContext) -> Results:
        # What is heavy is loaded before the database is open, as in the other steps.
        from dagster_active_learning import flow  # noqa: F401

        config = context.op_execution_context.op_config
        check_limit(config["limit"])
        check_seed(config["seed"])
        selected = [
            function
            for function in self._component.functions
            if self._specs.candidates[function.name].key in context.selected_asset_keys
        ]
        done: dict[str, dict[str, tuple[Metadata, str | None]]] = {
            function.name: {} for function in selected
        }
        with self._store(context) as store:
            self._require_images(store)
            for name in prediction_sets(context):
                ranked = self._rank(context, store, name, selected)
                for function, result in ranked.items():
                    done[function][name] = result
        for function in selected:
            key = self._specs.candidates[function.name].key
            yield materialized(context, key, done[function.name])

    def _rank(
        self,
        context: dg.AssetExecutionContext,
        store: "PoolStore",
        prediction_set: str,
        functions: Sequence[AcquisitionFunction],
    ) -> dict[str, tuple[Metadata, str]]:
        """Rank the images under functions; returns each one's metadata and its ranking's hash."""
        from dagster_active_learning import flow

        config = context.op_execution_context.op_config
        stored = store.prediction_set(prediction_set)
        rankings = flow.rank_candidates(
            store,
            prediction_set,
            functions,
            rules=self._rules,
            in_manifest=self._manifest is not None,
            limit=config["limit"],
            seed=config["seed"],
            run_id=context.run.run_id,
        )
        previews = store.candidates(prediction_set, list(rankings), PREVIEW_RANKS).partition_by(
            "acquisition_function", as_dict=True, include_key=False
        )
        results: dict[str, tuple[Metadata, str]] = {}
        for function in functions:
            ranking = rankings[function.name]
            context.log.info(
                f"{function.name}: {ranking.candidate_count:,} candidates of "
                f"{ranking.image_count:,} images without a label"
            )
            preview = previews.get((function.name,))
            metadata = {
                **candidate_metadata(store, stored, function, ranking, preview),
                **self._candidate_lineage(function),
                **unscored_metadata(stored, self._rules, function),
                "limit": config["limit"],
                "seed": config["seed"],
            }
            results[function.name] = metadata, ranking.sha256
        return results

    def _candidate_lineage(self, function: AcquisitionFunction) -> Metadata:
        scores = self._specs.image_scores.key
        score = (scores, function.name)
        return column_lineage(
            {
                "image_id": [(scores, "image_id")],
                "rank": [score],
                "score": [score],
                "uncertainty": [score],
                "prediction_count": [(scores, "prediction_count")],
                "predicted_class": [(self._specs.predictions.key, "class_probs")],
            }
        )

    def _store(self, context: dg.AssetExecutionContext) -> AbstractContextManager["PoolStore"]:
        """The pool in the user's database, open as long as the block runs."""
        from dagster_active_learning.database import open_pool

        return open_pool(
            getattr(context.resources, RESOURCE),
            self._pool,
            lock_timeout_seconds=self._component.lock_timeout_seconds,
            report=context.log.info,
        )

    def _require_images(self, store: "PoolStore") -> None:
        from dagster_active_learning.errors import PoolStateError

        spec = self._specs.images
        if self._manifest is not None and spec is not None and not store.image_counts()[0]:
            raise PoolStateError(
                f"pool {self._pool!r} has a manifest, {self._manifest.path}, but no image of it is "
                f"in the database: materialize {spec.key.to_user_string()} first"
            )
