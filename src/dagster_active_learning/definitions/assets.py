"""A pool's assets: predictions -> image scores -> labeling candidates."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Any

import dagster as dg

from dagster_active_learning.acquisition.functions import AcquisitionFunction
from dagster_active_learning.definitions.candidate_metadata import (
    CandidateMetadata,
    CandidatePictures,
)
from dagster_active_learning.definitions.metadata import (
    Metadata,
    column_lineage,
    lineage_metadata,
    prediction_metadata,
    table_metadata,
    unscored_metadata,
)
from dagster_active_learning.definitions.partitions import (
    collected,
    materialized,
    partition_value,
    prediction_sets,
)
from dagster_active_learning.definitions.specs import RESOURCE
from dagster_active_learning.rules import check_limit, check_seed

if TYPE_CHECKING:
    from dagster_active_learning.definitions.component import ActiveLearningComponent
    from dagster_active_learning.definitions.exports import CandidateFiles
    from dagster_active_learning.definitions.sources import PoolImages
    from dagster_active_learning.store import PoolStore, PredictionSet

LINEAGE_CHARACTERS = 1_000

Results = Iterator[dg.MaterializeResult[Any]]


class PoolAssets:
    """Builds the assets of one pool, one step for each of its tables."""

    def __init__(self, component: "ActiveLearningComponent") -> None:
        self._component = component
        self._pool = component.pool
        self._source = component.predictions
        self._manifest = component.manifest
        self._rules = component.rules
        self._specs = component.specs

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
        if component.candidate_files is not None and specs.exported_candidates is not None:
            write = partial(
                self._exported_candidates, component.candidate_files, specs.exported_candidates.key
            )
            assets.append(self._step("exported_candidates", [specs.exported_candidates], write))
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
        # As many runs as partitions would start a process each, and wait for each other.
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
        with self._component.open_pool(context) as store:
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
        names = prediction_sets(context)
        partitioned = self._component.partitions_def is not None
        with collected(context) as done:
            for name in names:
                value = upstream
                if partitioned and self._source.upstream is not None:
                    value = partition_value(upstream, name, len(names))
                done[self._specs.predictions.key][name] = self._ingest(context, name, value)
        yield from materialized(context, done)

    def _ingest(
        self, context: dg.AssetExecutionContext, name: str, value: Any
    ) -> tuple[Metadata, str]:
        """Read a prediction set: its metadata and the hash of its source."""
        from dagster_active_learning import flow

        partitioned = self._component.partitions_def is not None
        # Before the database is open: a download may take long.
        read = self._source.open(value, name if partitioned else None)
        with self._component.open_pool(context) as store:
            self._require_images(store)
            stored = flow.ingest_predictions(
                store,
                read(store.connection),
                prediction_set=name,
                model=self._source.model,
                run_id=context.run.run_id,
                rules=self._rules,
                in_manifest=self._manifest is not None,
                report=context.log.info,
            )
            metadata = {**prediction_metadata(store, stored), **self._prediction_lineage(stored)}
        if stored.quarantined_count:
            context.log.warning(
                f"{stored.quarantined_count:,} rows cannot be scored; they are in "
                f"{self._pool}.quarantined_predictions with the reason"
            )
        return metadata, stored.source_sha256

    def _image_scores(self, context: dg.AssetExecutionContext) -> Results:
        # What is heavy is loaded before the database is open.
        from dagster_active_learning import flow

        predictions, key = self._specs.predictions.key, self._specs.image_scores.key
        with collected(context) as done, self._component.open_pool(context) as store:
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
                            **{
                                function: [
                                    (predictions, column)
                                    for column in ("class_probs", "score")
                                    if column == "class_probs" or function == "mean_object_score"
                                ]
                                for function in scored
                            },
                        }
                    ),
                    **unscored_metadata(stored, self._rules),
                    "images_without_predictions": without,
                    **{f"mean_{function}": means[function] for function in scored},
                }
                done[key][name] = metadata, None
        yield from materialized(context, done)

    def _labeling_candidates(self, context: dg.AssetExecutionContext) -> Results:
        import_module("dagster_active_learning.flow")
        from dagster_active_learning.gallery import ImageRoots, Thumbnails

        config = context.op_execution_context.op_config
        check_limit(config["limit"])
        check_seed(config["seed"])
        selected = [
            function
            for function in self._component.functions
            if self._specs.candidates[function.name].key in context.selected_asset_keys
        ]
        pictures: dict[str, dict[str, CandidatePictures]] = {}
        with collected(context) as done:
            with self._component.open_pool(context) as store:
                self._require_images(store)
                for name in prediction_sets(context):
                    pictures[name] = {}
                    for function, result in self._rank(context, store, name, selected).items():
                        metadata, pictures[name][function], sha256 = result
                        done[self._specs.candidates[function].key][name] = metadata, sha256
            manifest = self._manifest.path if self._manifest else None
            roots = ImageRoots.of_manifest(manifest) if manifest else ImageRoots(())
            # Functions and sets have many images in common: each file is decoded once.
            with Thumbnails(roots) as thumbnails:
                for name, rankings in pictures.items():
                    for function, ranking in rankings.items():
                        of_asset = done[self._specs.candidates[function].key]
                        metadata, sha256 = of_asset[name]
                        of_asset[name] = ranking.drawn(metadata, thumbnails), sha256
        yield from materialized(context, done)

    def _rank(
        self,
        context: dg.AssetExecutionContext,
        store: "PoolStore",
        prediction_set: str,
        functions: Sequence[AcquisitionFunction],
    ) -> dict[str, tuple[Metadata, CandidatePictures, str]]:
        """Rank the images under functions: each one's metadata, pictures and ranking's hash."""
        from dagster_active_learning import flow

        config = context.op_execution_context.op_config
        stored = store.prediction_set(prediction_set)
        about = CandidateMetadata(
            store,
            prediction_set,
            functions,
            compared=self._component.functions,
            rules=self._rules,
            partitioned=self._component.partitions_def is not None,
            manifest=self._manifest.path if self._manifest else None,
        )
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
        said = about.of(rankings)
        results: dict[str, tuple[Metadata, CandidatePictures, str]] = {}
        for function in functions:
            ranking = rankings[function.name]
            context.log.info(
                f"{function.name}: {ranking.candidate_count:,} candidates of "
                f"{ranking.image_count:,} images without a label"
            )
            metadata, pictures = said[function.name]
            metadata = {
                **metadata,
                **self._candidate_lineage(function),
                **unscored_metadata(stored, self._rules, function),
                "limit": config["limit"],
                "seed": config["seed"],
            }
            results[function.name] = metadata, pictures, ranking.sha256
        return results

    def _exported_candidates(
        self, files: "CandidateFiles", key: dg.AssetKey, context: dg.AssetExecutionContext
    ) -> Results:
        # Not all that is there: functions that the pool had before have left their candidates.
        functions = [function.name for function in self._component.functions]
        with (
            collected(context) as done,
            self._component.open_pool(context, read_only=True) as store,
        ):
            for name in prediction_sets(context):
                metadata = files.write(store, name, functions)
                context.log.info(f"{metadata['dagster/row_count']:,} candidates written")
                done[key][name] = metadata, None
        yield from materialized(context, done)

    def _prediction_lineage(self, stored: "PredictionSet") -> Metadata:
        upstream = self._source.upstream
        if upstream is None:
            return {}
        has_class_probs = stored.score_only_count < stored.prediction_count
        return column_lineage(
            {
                column: [(upstream, name) for name in names]
                for column, names in self._source.origins(stored.class_names).items()
                # A thousand columns of classes would not fit into an event.
                if (column != "class_probs" or has_class_probs)
                and sum(map(len, names)) <= LINEAGE_CHARACTERS
            }
        )

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

    def _require_images(self, store: "PoolStore") -> None:
        from dagster_active_learning.errors import PoolStateError

        spec = self._specs.images
        if self._manifest is not None and spec is not None and not store.image_counts()[0]:
            raise PoolStateError(
                f"pool {self._pool!r} has a manifest, {self._manifest.path}, but no image of it is "
                f"in the database: materialize {spec.key.to_user_string()} first"
            )
