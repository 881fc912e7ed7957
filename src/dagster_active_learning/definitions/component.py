"""The component of a pool: its settings, in YAML or Python, and what a subclass may change."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from os import PathLike
from typing import Annotated, Any

import dagster as dg
from dagster.components.utils.translation import TranslationFn, TranslationFnResolver
from pydantic import BaseModel

from dagster_active_learning.definitions.batches import LabelingBatch
from dagster_active_learning.definitions.build import pool_definitions, pool_specs
from dagster_active_learning.definitions.churn import ModelChurn
from dagster_active_learning.definitions.evaluations import RuleEvaluation
from dagster_active_learning.definitions.exports import Export
from dagster_active_learning.definitions.labeling import LabelStudio
from dagster_active_learning.definitions.manifests import PoolImages
from dagster_active_learning.definitions.op_settings import OpSettings
from dagster_active_learning.definitions.pool import Pool, PoolAsset
from dagster_active_learning.definitions.reports import Report
from dagster_active_learning.definitions.scaffolder import ActiveLearningScaffolder
from dagster_active_learning.definitions.sensors import PredictionFileSensor
from dagster_active_learning.definitions.sources import PredictionSource
from dagster_active_learning.definitions.yaml_models import (
    BatchSetting,
    ChurnSetting,
    EngineSetting,
    EvaluationSetting,
    FunctionsSetting,
    LabelingSetting,
    ManifestSetting,
    OpSetting,
    PartitionsSetting,
    PredictionsSetting,
    ReportSetting,
    SensorSetting,
)
from dagster_active_learning.definitions.yaml_resolvers import (
    resolve_batch,
    resolve_churn,
    resolve_engine,
    resolve_evaluation,
    resolve_export,
    resolve_functions,
    resolve_images,
    resolve_labeling,
    resolve_op,
    resolve_partitions_def,
    resolve_paths,
    resolve_predictions,
    resolve_report,
    resolve_sensor,
    resolve_text,
)
from dagster_active_learning.engines.local_workers import LocalWorkers
from dagster_active_learning.engines.ray_tasks import RayTasks
from dagster_active_learning.errors import SettingError
from dagster_active_learning.limits import PROBABILITY_TOLERANCE
from dagster_active_learning.rules import (
    Aggregation,
    ImagesWithoutPredictions,
    Inputs,
    ScoreOnly,
    Task,
)


def _translation_variables(asset: PoolAsset) -> dict[str, str | None]:
    return {
        "pool": asset.pool,
        "table": asset.table,
        "acquisition_function": asset.acquisition_function,
    }


@dg.scaffold_with(ActiveLearningScaffolder)
@dataclass(kw_only=True)
class ActiveLearningComponent(dg.Component, dg.Resolvable):
    """Rank the images of a pool by what a model is least sure about, as labeling candidates.

    A model's predictions are read into DuckDB (``<pool>/predictions``), every image gets its score
    under each acquisition function (``<pool>/image_scores``), and the images without a label are
    ranked (``<pool>/labeling_candidates/<function>``). ``batch`` chooses what to label next
    (``<pool>/labeling_batch``), and ``export`` writes files (``<pool>/exported_candidates``)::

        type: dagster_active_learning.ActiveLearningComponent
        attributes:
          pool: street_signs
          predictions: {path: predictions/*.parquet, format: parquet}
          images: manifest.csv
          batch: {size: 100}

    Paths are relative to the folder of the YAML file; ``{{ context.project_root }}`` is the
    project's. The database is that of the project's own ``dagster_duckdb.DuckDBResource`` under the
    resource key ``duckdb``. ``dg utils inspect-component`` with this name and
    ``--defs-yaml-schema`` describes all settings in some 200 lines.

    Raises:
        ValueError: If a setting has a value that cannot be used.

    Example:
        >>> component = ActiveLearningComponent(
        ...     pool="street_signs",
        ...     predictions=PredictionFiles("predictions/*.parquet", "parquet"),
        ...     acquisition_functions=["entropy", "margin"],
        ... )
        >>> for asset in component.definitions().assets:
        ...     print(*sorted(key.to_user_string() for key in asset.keys))
        street_signs/predictions
        street_signs/image_scores
        street_signs/labeling_candidates/entropy street_signs/labeling_candidates/margin
    """

    pool: Annotated[
        str,
        dg.Resolver(
            resolve_text,
            model_field_type=str,
            inject_before_resolve=False,
            description=(
                "Name of the pool: letters, digits and underscores. It is the prefix of the asset "
                "keys and the name of the DuckDB schema."
            ),
            examples=["street_signs"],
        ),
    ]
    predictions: Annotated[
        PredictionSource,
        dg.Resolver(
            resolve_predictions,
            model_field_type=PredictionsSetting,  # pyright: ignore[reportArgumentType]
            description=(
                "Where the predictions come from: files (`path` and `format`), what an upstream "
                "asset returns (`asset`), or a DuckDB query (`query`)."
            ),
            examples=[{"path": "predictions/*.parquet", "format": "parquet"}],
        ),
    ]
    images: Annotated[
        PoolImages | str | PathLike[str] | None,
        dg.Resolver(
            resolve_images,
            model_field_type=ManifestSetting | None,
            inject_before_resolve=False,
            description=(
                "The pool's manifest, a path or an object: which images there are, and which of "
                "them are labeled and so never candidates. Without it the images are those that "
                "have predictions."
            ),
            examples=["manifest.csv", {"path": "images", "image_id": "stem"}],
        ),
    ] = None
    image_roots: Annotated[
        Sequence[str | PathLike[str]],
        dg.Resolver(
            resolve_paths,
            model_field_type=list[str],
            inject_before_resolve=False,
            description=(
                "Folders and addresses that image files are shown from, besides the folder of the "
                "manifest or of the images: a uri of the manifest that leads elsewhere is not read."
            ),
            examples=[["/mnt/cameras", "s3://bucket/images"]],
        ),
    ] = ()
    report: Annotated[
        Report,
        dg.Resolver(
            resolve_report,
            model_field_type=ReportSetting | None,
            inject_before_resolve=False,
            description=(
                "The folder of the pages that each ranking and each batch are written to, one "
                "HTML file with all images; by default beside the database, in "
                "`<database>_reports`. `false` for no pages."
            ),
            examples=["reports", False],
        ),
    ] = True
    task: Annotated[
        Task,
        dg.Resolver.default(
            description="Whether a prediction is about an image or about one object in it."
        ),
    ] = "classification"
    acquisition_functions: Annotated[
        Sequence[str] | None,
        dg.Resolver(
            resolve_functions,
            model_field_type=FunctionsSetting | None,
            inject_before_resolve=False,
            description="The functions to rank by; by default all that the task has.",
            examples=[["entropy", "margin"]],
        ),
    ] = None
    limit: Annotated[
        int | None,
        dg.Resolver.default(
            description=(
                "How many images each ranking has at the most, null for all; run config can "
                "override it."
            )
        ),
    ] = 1000
    seed: Annotated[
        int,
        dg.Resolver.default(
            description=(
                "Decides the order of images with equal scores; run config can override it."
            )
        ),
    ] = 0
    inputs: Annotated[
        Inputs,
        dg.Resolver.default(
            description=(
                "What the class probabilities are in the source: probabilities of classes that "
                "exclude each other, logits, or independent probabilities, one sigmoid per class."
            )
        ),
    ] = "probabilities"
    aggregation: Annotated[
        Aggregation,
        dg.Resolver.default(
            description=(
                "What an image's score is of the scores of its predictions; `sum` adds their "
                "uncertainties, 0..1 each, and is labeled highest first under every function."
            )
        ),
    ] = "mean"
    score_only: Annotated[
        ScoreOnly | None,
        dg.Resolver.default(
            description=(
                "`binary` declares the score s of an object without class probabilities to be a "
                "probability of two classes, [s, 1-s]. Without it only the mean object score is "
                "computed for such objects."
            )
        ),
    ] = None
    images_without_predictions: Annotated[
        ImagesWithoutPredictions | None,
        dg.Resolver.default(
            description=(
                "Where images without predictions rank under every function. By default last, but "
                "by their score of 0, and so first, under the mean object score."
            )
        ),
    ] = None
    sum_tolerance: Annotated[
        float,
        dg.Resolver.default(
            description=(
                "How far from 1 the sum of class probabilities may be, and how far outside 0..1 a "
                "class probability or a detector's score: more where low precision, such as "
                "bfloat16 or two decimals, has rounded them. Nothing is renormalised."
            ),
            examples=[0.02],
        ),
    ] = PROBABILITY_TOLERANCE
    committee: Annotated[
        bool,
        dg.Resolver.default(
            description=(
                "Whether several predictions of one image are votes, of several models or of one, "
                "in classification: then the mean of their class probabilities is scored, and not "
                "the mean of their scores taken. Where it is not declared, a check warns of such "
                "images."
            )
        ),
    ] = False
    max_quarantined_share: Annotated[
        float,
        dg.Resolver.default(
            description=(
                "How large a share of the rows may be in quarantine. Above it the check of the "
                "predictions fails, and nothing is scored or ranked in the same run."
            ),
            examples=[0.05],
        ),
    ] = 0.05
    min_coverage: Annotated[
        float | None,
        dg.Resolver.default(
            description=(
                "How large a share of the manifest's images without a label should have "
                "predictions. Below it a check of the predictions warns. By default 1.0 for "
                "classification and 0.0 for objects, of which an image may have none."
            ),
            examples=[0.99],
        ),
    ] = None
    max_jump: Annotated[
        float | None,
        dg.Resolver.default(
            description=(
                "How far mean uncertainty, uncertainty at the cut and class shares, each 0 to 1, "
                "may be from their mean in the last five prediction sets. Above it a check of the "
                "candidates warns; null for no such check."
            ),
            examples=[0.2],
        ),
    ] = 0.1
    lock_timeout_seconds: Annotated[
        float,
        dg.Resolver.default(
            description=(
                "How long a step waits for the database while another process has it open. The log "
                "says which; after that time the step fails."
            )
        ),
    ] = 600
    group_name: Annotated[
        str | None,
        dg.Resolver(
            resolve_text,
            model_field_type=str | None,
            inject_before_resolve=False,
            description="Group of the assets in the UI, by default the pool.",
        ),
    ] = None
    partitions_def: Annotated[
        dg.PartitionsDefinition | None,
        dg.Resolver(
            resolve_partitions_def,
            model_field_type=PartitionsSetting | None,
            description=(
                "Partitions of one dimension: each partition key is a prediction set. The path of "
                "prediction files then has `{partition_key}`; a query may use `$partition_key`."
            ),
            examples=[{"type": "dynamic", "name": "street_sign_predictions"}],
        ),
    ] = None
    batch: Annotated[
        LabelingBatch | None,
        dg.Resolver(
            resolve_batch,
            model_field_type=BatchSetting | None,
            description=(
                "The images to label next, as the asset labeling_batch chooses them from a "
                "ranking; `{}` for a batch of 100."
            ),
            examples=[{"size": 50, "random_share": 0.2, "export": "batch.csv"}],
        ),
    ] = None
    evaluation: Annotated[
        RuleEvaluation | None,
        dg.Resolver(
            resolve_evaluation,
            model_field_type=EvaluationSetting | None,
            description=(
                "The evaluation of acquisition functions by labels that were drawn at random, as "
                "the asset rule_evaluation makes it: which of them finds the model's errors; `{}` "
                "for labels of the manifest."
            ),
            examples=[{"labels_drawn_at_random": True}],
        ),
    ] = None
    churn: Annotated[
        ModelChurn | None,
        dg.Resolver(
            resolve_churn,
            model_field_type=ChurnSetting | None,
            description=(
                "The comparison of each prediction set with the one before it, or with a named "
                "one, as the asset model_churn makes it: images whose class changed, new errors "
                "and fixed ones; `{}` for the one before."
            ),
            examples=[{"max_changed_share": 0.05}],
        ),
    ] = None
    labeling: Annotated[
        LabelStudio | None,
        dg.Resolver(
            resolve_labeling,
            model_field_type=LabelingSetting | None,
            description=(
                "The labeling tool that batches are sent to by the asset labeling_tasks, and "
                "labels are read from by the asset labels, with the resource label_studio."
            ),
            examples=[{"label_studio": {"project": "street signs"}}],
        ),
    ] = None
    storage: Annotated[
        str | PathLike[str] | None,
        dg.Resolver(
            resolve_export,
            model_field_type=str | None,
            inject_before_resolve=False,
            description=(
                "The folder, relative to that of this YAML file, or the address of one, for the "
                "scores of predictions that are read in place (predictions with `in_place: true`) "
                "and for their rows in quarantine. What is no longer used of it goes."
            ),
            examples=["scores", "s3://bucket/scores"],
        ),
    ] = None
    engine: Annotated[
        LocalWorkers | RayTasks | None,
        dg.Resolver(
            resolve_engine,
            model_field_type=EngineSetting | None,
            description=(
                "What scores predictions that are read in place: `{type: local}`, processes of "
                "this machine, one per processor where `workers` does not say it, or a Ray cluster."
            ),
            examples=[
                {"type": "local", "workers": 8},
                {"type": "ray", "address": "ray://host:10001"},
            ],
        ),
    ] = None
    keep_prediction_sets: Annotated[
        int | None,
        dg.Resolver.default(
            description=(
                "How many prediction sets stay in the database: after each reading the oldest go, "
                "but none of which images are in flight. By default all stay."
            ),
            examples=[12],
        ),
    ] = None
    export: Annotated[
        Export | None,
        dg.Resolver(
            resolve_export,
            model_field_type=str | list[str] | dict[str, str] | None,
            inject_before_resolve=False,
            description=(
                "Files that the candidates are written to by the asset exported_candidates, "
                "relative to the folder of this YAML file: a path or several whose suffix says the "
                "exporter (`.parquet`, `.csv`), or paths by the names of their exporters. In "
                "a pool with partitions `{partition_key}` stands for the partition key."
            ),
            examples=["candidates.csv", {"parquet": "a.parquet", "csv": "a.csv"}],
        ),
    ] = None
    sensor: Annotated[
        PredictionFileSensor | None,
        dg.Resolver(
            resolve_sensor,
            model_field_type=SensorSetting | None,
            description=(
                "Watch the prediction files: each new or changed one starts a run of predictions, "
                "scores, candidates and export, and adds the key of a dynamic partition. `{}` for "
                "a sensor that somebody turns on in the UI."
            ),
            examples=[{"minimum_interval_seconds": 60, "default_status": "RUNNING"}],
        ),
    ] = None
    automation: Annotated[
        bool,
        dg.Resolver.default(
            description=(
                "Whether scores, candidates and their export follow new predictions and a new "
                "manifest by themselves, as soon as Dagster's automation sensor is on; predictions "
                "and manifest too, where they depend on an asset and no sensor reads them."
            )
        ),
    ] = False
    freshness_policy: Annotated[
        dg.FreshnessPolicy | None,
        dg.Resolver.default(
            model_field_type=str | None,
            description="How old the candidates may be before Dagster says so.",
            examples=[
                "{{ dg.FreshnessPolicy.time_window(fail_window=datetime.timedelta(days=7)) }}"
            ],
        ),
    ] = None
    schedule: Annotated[
        str | None,
        dg.Resolver(
            resolve_text,
            model_field_type=str | None,
            inject_before_resolve=False,
            description=(
                "Cron string of a schedule that materializes the whole pool; of time partitions "
                "the last one that is over."
            ),
            examples=["0 6 * * *"],
        ),
    ] = None
    op: Annotated[
        OpSettings | None,
        dg.Resolver(
            resolve_op,
            model_field_type=OpSetting | None,
            description=(
                "What every step is run with: tags, a retry policy, and the concurrency pool that "
                "limits the steps."
            ),
            examples=[{"retry_policy": {"max_retries": 2, "delay": 30}}],
        ),
    ] = None
    translation: Annotated[
        Annotated[
            TranslationFn[PoolAsset],
            TranslationFnResolver[PoolAsset](_translation_variables),
        ]
        | None,
        dg.Resolver.default(
            description=(
                "What to change of the assets: keys, groups, owners, tags and more. Templates may "
                "use `spec` (the asset as it would be), `pool`, `table` and `acquisition_function`."
            ),
            examples=[{"owners": ["team:vision"], "tags": {"table": "{{ table }}"}}],
        ),
    ] = None

    def __post_init__(self) -> None:
        self.as_pool()

    @classmethod
    def resolve_from_model(
        cls, context: dg.ResolutionContext, model: BaseModel
    ) -> "ActiveLearningComponent":
        """Make the component from its YAML; an error names the line of the setting."""
        try:
            component = super().resolve_from_model(context, model)
            # Made now, so that what the translation cannot do has its line too.
            pool_specs(component.as_pool())
            return component
        except SettingError as error:
            place = context.at_path(error.setting)
            raise place.build_resolve_fn_exc([str(error)], error.setting, model) from None

    @classmethod
    def get_spec(cls) -> dg.ComponentTypeSpec:
        """Describe the component for `dg list`."""
        return dg.ComponentTypeSpec(
            tags=["active-learning", "computer-vision", "duckdb"],
            produces=["asset", "asset_check", "job", "schedule", "sensor"],
        )

    def as_pool(self) -> Pool:
        """The pool that the settings describe, whose hooks are those of this component.

        Raises:
            SettingError: If a setting has a value that cannot be used.
        """
        own = {field.name for field in fields(self)}
        settings = {
            field.name: getattr(self, field.name) for field in fields(Pool) if field.name in own
        }
        return Pool(
            name=self.pool, get_asset_spec=self.get_asset_spec, execute=self.execute, **settings
        )

    def get_asset_spec(self, spec: dg.AssetSpec, asset: PoolAsset) -> dg.AssetSpec:
        """The spec of one of the pool's assets; override it to change keys, groups, tags, ….

        Other assets of the pool depend on the key that is returned.

        Args:
            spec: The spec as the settings say, with the translation not yet applied.
            asset: Which asset of the pool it is.

        Example:
            >>> class OwnedPool(ActiveLearningComponent):
            ...     def get_asset_spec(self, spec, asset):
            ...         spec = super().get_asset_spec(spec, asset)
            ...         return spec.merge_attributes(tags={"table": asset.table})
        """
        if self.translation is None:
            return spec
        try:
            return self.translation(spec, asset)
        except dg.DagsterInvalidDefinitionError as error:
            raise SettingError(
                "translation", f"translation of {spec.key.to_user_string()}: {error}"
            ) from error

    def execute(
        self,
        context: dg.AssetExecutionContext,  # noqa: ARG002 - for those who override it
        materialize: Callable[[], Iterator[dg.MaterializeResult[Any]]],
    ) -> Iterator[dg.MaterializeResult[Any]]:
        """Materialize the assets of one step; override it to do something before or after.

        In a pool with partitions the results have no metadata of their own: it is added to the
        context for each partition.

        Args:
            context: The context of the step; ``context.selected_asset_keys`` are its assets.
            materialize: Does the work, and yields a result for each asset.

        Example:
            >>> class PatientPool(ActiveLearningComponent):
            ...     def execute(self, context, materialize):
            ...         context.log.info("the database is ours for a while")
            ...         yield from super().execute(context, materialize)
        """
        yield from materialize()

    def definitions(self, *, metadata: Mapping[str, Any] | None = None) -> dg.Definitions:
        """The pool's assets, checks, job, sensor and schedule, to be merged with the resources.

        Args:
            metadata: What to add to the metadata of each asset's definition, where its spec has
                nothing under the same name.
        """
        return pool_definitions(self.as_pool(), metadata=metadata)

    def build_defs(self, context: dg.ComponentLoadContext) -> dg.Definitions:  # noqa: ARG002
        """The pool's definitions; resources are the project's."""
        return self.definitions()
