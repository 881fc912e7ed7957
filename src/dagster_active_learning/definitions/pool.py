"""A pool: its settings, checked, and what follows from them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from os import PathLike
from typing import TYPE_CHECKING, Any

import dagster as dg

from dagster_active_learning.acquisition.functions import (
    ACQUISITION_FUNCTIONS,
    AcquisitionFunction,
)
from dagster_active_learning.definitions.automation import (
    check_freshness_policy,
    check_schedule,
)
from dagster_active_learning.definitions.batches import LabelingBatch
from dagster_active_learning.definitions.churn import ModelChurn
from dagster_active_learning.definitions.evaluations import RuleEvaluation
from dagster_active_learning.definitions.exports import CandidateFiles, Export
from dagster_active_learning.definitions.labeling import LabelStudio
from dagster_active_learning.definitions.manifests import PoolImages
from dagster_active_learning.definitions.op_settings import RESOURCE, OpSettings
from dagster_active_learning.definitions.partitions import check_partitions_def
from dagster_active_learning.definitions.reports import Report, check_report
from dagster_active_learning.definitions.sensors import PredictionFileSensor, check_sensor
from dagster_active_learning.definitions.sources import PredictionFiles, PredictionSource
from dagster_active_learning.engines.local_workers import LocalWorkers
from dagster_active_learning.errors import SettingError
from dagster_active_learning.files.addresses import at_home, shown_address
from dagster_active_learning.limits import PROBABILITY_TOLERANCE
from dagster_active_learning.ranking.batch_rules import check_count
from dagster_active_learning.rules import (
    Aggregation,
    ImagesWithoutPredictions,
    Inputs,
    Rules,
    ScoreOnly,
    Task,
    check_flag,
    check_limit,
    check_lock_timeout,
    check_seed,
    check_share,
)
from dagster_active_learning.text import did_you_mean

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from dagster_active_learning.files.storage import Storage
    from dagster_active_learning.flow.engine import Engine
    from dagster_active_learning.gallery import ImageRoots
    from dagster_active_learning.store.pool_store import PoolStore

Materialize = Callable[[], Iterator[dg.MaterializeResult[Any]]]


@dataclass(frozen=True)
class PoolAsset:
    """The asset of a pool that an asset spec is about.

    Attributes:
        pool: The pool.
        table: The table it fills: ``"images"``, ``"predictions"``, ``"image_scores"``,
            ``"labeling_candidates"``, ``"labeling_batch"``, ``"rule_evaluation"``,
            ``"model_churn"``, ``"labeling_tasks"`` or ``"labels"``; ``"exported_candidates"`` for
            the files written of them.
        acquisition_function: For candidates, the function they are ranked by.

    Example:
        >>> PoolAsset("street_signs", "labeling_candidates", "margin").acquisition_function
        'margin'
    """

    pool: str
    table: str
    acquisition_function: str | None = None


def _same_spec(spec: dg.AssetSpec, asset: PoolAsset) -> dg.AssetSpec:  # noqa: ARG001
    return spec


def _just_materialize(
    context: dg.AssetExecutionContext,  # noqa: ARG001
    materialize: Materialize,
) -> Iterator[dg.MaterializeResult[Any]]:
    yield from materialize()


@dataclass(frozen=True, kw_only=True)
class Pool:
    """A pool as its definitions are made of it.

    The settings are the arguments of ``active_learning_definitions``, which describes them.

    Attributes:
        name: The argument ``pool``.
        get_asset_spec: What each asset's spec becomes, given the asset; other assets of the pool
            depend on the key that is returned.
        execute: Runs a step, given its context and the function that materializes its assets.

    Raises:
        SettingError: If a setting has a value that cannot be used.
    """

    name: str
    predictions: PredictionSource
    images: PoolImages | str | PathLike[str] | None = None
    image_roots: Sequence[str | PathLike[str]] = ()
    report: Report = True
    task: Task = "classification"
    acquisition_functions: Sequence[str] | None = None
    limit: int | None = 1000
    seed: int = 0
    inputs: Inputs = "probabilities"
    aggregation: Aggregation = "mean"
    score_only: ScoreOnly | None = None
    images_without_predictions: ImagesWithoutPredictions | None = None
    sum_tolerance: float = PROBABILITY_TOLERANCE
    committee: bool = False
    max_quarantined_share: float = 0.05
    min_coverage: float | None = None
    max_jump: float | None = 0.1
    lock_timeout_seconds: float = 600
    group_name: str | None = None
    partitions_def: dg.PartitionsDefinition | None = None
    batch: LabelingBatch | None = None
    evaluation: RuleEvaluation | None = None
    churn: ModelChurn | None = None
    labeling: LabelStudio | None = None
    storage: str | PathLike[str] | None = None
    engine: Engine | None = None
    keep_prediction_sets: int | None = None
    export: Export | None = None
    sensor: PredictionFileSensor | None = None
    automation: bool = False
    freshness_policy: dg.FreshnessPolicy | None = None
    schedule: str | None = None
    op: OpSettings | None = None
    get_asset_spec: Callable[[dg.AssetSpec, PoolAsset], dg.AssetSpec] = _same_spec
    execute: Callable[
        [dg.AssetExecutionContext, Materialize], Iterator[dg.MaterializeResult[Any]]
    ] = _just_materialize

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", self.name):
            raise SettingError(
                "pool",
                f"pool is {self.name!r}, expected letters, digits and underscores with no digit in "
                "front: it is a name in asset keys and, without quotes, in SQL"
                + _similar_name(self.name),
            )
        if not isinstance(self.predictions, PredictionSource):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise SettingError(
                "predictions",
                f"predictions is {self.predictions!r}, expected PredictionFiles, PredictionAsset "
                "or PredictionQuery",
            )
        check_limit(self.limit)
        check_seed(self.seed)
        check_share("max_quarantined_share", self.max_quarantined_share)
        if self.min_coverage is not None:
            check_share("min_coverage", self.min_coverage)
        if self.max_jump is not None:
            check_share("max_jump", self.max_jump)
        check_lock_timeout(self.lock_timeout_seconds)
        check_partitions_def(self.partitions_def)
        self.predictions.check_partitions(partitioned=self.partitioned)
        self.predictions.check_inputs(self.inputs)
        check_sensor(self.sensor, self.predictions, self.partitions_def)
        check_flag("automation", self.automation)
        check_freshness_policy(self.freshness_policy)
        check_schedule(self.schedule, self.partitions_def)
        _check_group_name(self.group_name)
        if self.op is not None and not isinstance(self.op, OpSettings):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise SettingError("op", f"op is {self.op!r}, expected OpSettings")
        # Checked where they are made, and used as they are then.
        _ = self.manifest, self.rules, self.functions, self.candidate_files, self.batch_function
        if self.evaluation is not None:
            if not isinstance(self.evaluation, RuleEvaluation):  # pyright: ignore[reportUnnecessaryIsInstance]
                raise SettingError(
                    "evaluation", f"evaluation is {self.evaluation!r}, expected RuleEvaluation"
                )
            self.evaluation.check_task(
                objects=self.rules.objects,
                has_manifest=self.manifest is not None,
                has_labeling=self.labeling is not None,
            )
        if self.churn is not None:
            if not isinstance(self.churn, ModelChurn):  # pyright: ignore[reportUnnecessaryIsInstance]
                raise SettingError("churn", f"churn is {self.churn!r}, expected ModelChurn")
            self.churn.check_pool(objects=self.rules.objects, partitioned=self.partitioned)
        if self.keep_prediction_sets is not None:
            check_count("keep_prediction_sets", self.keep_prediction_sets)
        self._check_in_place()
        self._check_labeling()
        self._check_export()
        check_report(self.report)
        if self.image_roots:
            _ = self.picture_roots

    def _check_export(self) -> None:
        """Raise SettingError if a file of candidates would take the place of what is read."""
        batch_files = self.batch.files if self.batch else None
        label_files = self.labeling.files if self.labeling else None
        files = [each for each in (self.candidate_files, batch_files, label_files) if each]
        paths = [path for each in files for path in each.paths.values()]
        if len(set(paths)) != len(paths):
            raise SettingError(
                "export",
                f"export of the pool, of batch and of labeling name a file twice: {paths!r}",
            )
        for path in paths:
            of_predictions = self.predictions.reads(path)
            if of_predictions or (self.manifest is not None and self.manifest.reads(path)):
                read = "predictions" if of_predictions else "images"
                raise SettingError(
                    "export",
                    f"export is the file {path!r}, which is what {read} reads, or would be: write "
                    "to another folder or under another name",
                )

    def _check_in_place(self) -> None:
        """Raise SettingError unless what is read in place has a storage, and nothing else has."""
        if self.storage is not None and not isinstance(self.storage, (str, PathLike)):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise SettingError("storage", f"storage is {self.storage!r}, expected a folder")
        if self.storage is not None and shown_address(str(self.storage)) != str(self.storage):
            raise SettingError(
                "storage",
                f"storage is {shown_address(str(self.storage))} with a user, a password or a "
                "query: leave it to fsspec's configuration or the environment to say who may "
                "write there",
            )
        if self.engine is not None and not callable(getattr(self.engine, "run", None)):
            raise SettingError(
                "engine", f"engine is {self.engine!r}, expected LocalWorkers or RayTasks"
            )
        if self.in_place and self.storage is None:
            raise SettingError(
                "storage",
                "predictions are read in place and the pool has no storage: expected a folder or "
                "an address for their scores",
            )
        of_set = f"{at_home(str(self.storage)).rstrip('/')}/{self.name}/{'0' * 32}/{'0' * 32}"
        names = ("best.parquet", "predictions.parquet", "scores/00000000.parquet")
        if self.in_place and any(self.predictions.reads(f"{of_set}/{name}") for name in names):
            raise SettingError(
                "storage",
                f"storage is {str(self.storage)!r}, and the path of predictions stands for files "
                "that are written there too: expected a folder that the path does not reach",
            )
        for setting, value in (("storage", self.storage), ("engine", self.engine)):
            if value is not None and not self.in_place:
                raise SettingError(
                    setting,
                    f"{setting} is set, and predictions are not read in place: expected "
                    "PredictionFiles with in_place",
                )

    @property
    def in_place(self) -> bool:
        """True where predictions stay in their files."""
        return isinstance(self.predictions, PredictionFiles) and self.predictions.in_place

    @cached_property
    def tasks_engine(self) -> Engine:
        """What runs the tasks over files in place."""
        return self.engine or LocalWorkers()

    def own_storage(self, store: PoolStore) -> Storage:
        """The pool's own folder in its storage: pools of other databases may have its name."""
        from dagster_active_learning.files.storage import Storage

        return Storage(str(self.storage)).within(self.name).within(store.pool_id)

    def _check_labeling(self) -> None:
        """Raise SettingError unless there is what a labeling tool needs."""
        if self.labeling is None:
            return
        if not isinstance(self.labeling, LabelStudio):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise SettingError("labeling", f"labeling is {self.labeling!r}, expected LabelStudio")
        for setting, value in (("batch", self.batch), ("images", self.manifest)):
            if value is None:
                raise SettingError(
                    "labeling",
                    f"labeling sends batches and says which images have their label: set {setting} "
                    "of the pool too",
                )
        files = self.labeling.files
        if files and "coco" in files.paths and not self.rules.objects:
            raise SettingError(
                "labeling",
                f"the export of labeling is {files.paths['coco']!r}, expected .csv or .parquet: "
                "COCO files hold objects, and labels are of whole images",
            )

    @property
    def partitioned(self) -> bool:
        """True where each partition key is a prediction set."""
        return self.partitions_def is not None

    @cached_property
    def rules(self) -> Rules:
        """The rules by which predictions are read, scored and ranked."""
        return Rules(
            task=self.task,
            inputs=self.inputs,
            aggregation=self.aggregation,
            score_only=self.score_only,
            images_without_predictions=self.images_without_predictions,
            sum_tolerance=self.sum_tolerance,
            committee=self.committee,
            in_manifest=self.manifest is not None,
        )

    @cached_property
    def functions(self) -> Sequence[AcquisitionFunction]:
        """The acquisition functions to rank by."""
        names = self.acquisition_functions
        possible = {
            function.name: function
            for function in ACQUISITION_FUNCTIONS.values()
            if function.applies_to(self.rules)
        }
        if names is None:
            return list(possible.values())
        is_text = isinstance(names, str)
        if (
            is_text
            or not names
            or len(set(names)) != len(names)
            or not possible.keys() >= set(names)
        ):
            given: Any = names if is_text else list(names)
            unknown = [name for name in names if name not in ACQUISITION_FUNCTIONS]
            raise SettingError(
                "acquisition_functions",
                f"acquisition_functions is {given!r}, expected {'a list of ' * is_text}different "
                f"ones of {', '.join(possible)} for the task {self.task!r}"
                + (did_you_mean(unknown[0], possible) if unknown and not is_text else "")
                + self._only_of_committees([] if is_text else names),
            )
        return [possible[name] for name in names]

    def _only_of_committees(self, names: Sequence[str]) -> str:
        """Advice where functions are asked for that only a committee has."""
        known = [ACQUISITION_FUNCTIONS[name] for name in names if name in ACQUISITION_FUNCTIONS]
        of_members = [function.name for function in known if function.level == "committee"]
        if not of_members or self.committee:
            return ""
        return (
            f"; {' and '.join(of_members)} compare the members of a committee: set committee to "
            "true where several predictions of one image are votes"
        )

    @cached_property
    def batch_function(self) -> AcquisitionFunction | None:
        """The acquisition function whose ranking the labeling batch is made of."""
        if self.batch is None:
            return None
        if not isinstance(self.batch, LabelingBatch):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise SettingError("batch", f"batch is {self.batch!r}, expected LabelingBatch")
        name = self.batch.rank_by or ("mean_object_score" if self.rules.objects else "margin")
        by_name = {function.name: function for function in self.functions}
        if name not in by_name:
            raise SettingError(
                "batch",
                f"the batch's rank_by is {name!r}, expected one of the pool's acquisition "
                f"functions: {', '.join(by_name)}{did_you_mean(name, by_name)}"
                + self._only_of_committees([name]),
            )
        if self.batch.choose_by == "badge" and (
            self.rules.objects or self.rules.inputs == "independent"
        ):
            raise SettingError(
                "batch",
                "the batch's choose_by is 'badge', expected 'queue' or 'typical': badge is about "
                "one class per image, with class probabilities that exclude each other",
            )
        if self.limit is not None and self.limit < self.batch.size:
            raise SettingError(
                "batch",
                f"the batch's size is {self.batch.size} and limit is {self.limit}: a ranking needs "
                "at least as many candidates as a batch has images",
            )
        return by_name[name]

    @cached_property
    def manifest(self) -> PoolImages | None:
        """The pool's manifest, if it has one."""
        images = self.images
        if not isinstance(images, (PoolImages, str, PathLike, type(None))):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise SettingError("images", f"images is {images!r}, expected a path or PoolImages")
        return PoolImages(images) if isinstance(images, (str, PathLike)) else images

    @cached_property
    def picture_roots(self) -> ImageRoots:
        """The places that image files are read from, to be shown."""
        # Loads Pillow, which a pool without image_roots needs only for its pictures.
        from dagster_active_learning.gallery import ImageRoots

        try:
            if self.manifest is None:
                return ImageRoots(self.image_roots)
            return ImageRoots.of_manifest(self.manifest.path, self.image_roots)
        except (ValueError, TypeError) as error:
            raise SettingError("image_roots", f"image_roots: {error}") from error

    @cached_property
    def candidate_files(self) -> CandidateFiles | None:
        """The files that the candidates are written to, if there are any."""
        if self.export is None:
            return None
        return CandidateFiles(self.export, partitioned=self.partitioned)

    @cached_property
    def wanted_coverage(self) -> float:
        """``min_coverage``, or its default for the task."""
        if self.min_coverage is not None:
            return self.min_coverage
        return 0.0 if self.rules.objects else 1.0

    def open(
        self,
        context: dg.AssetExecutionContext | dg.AssetCheckExecutionContext,
        *,
        read_only: bool = False,
    ) -> AbstractContextManager[PoolStore]:
        """The pool's tables in the project's database, as long as the block runs.

        Args:
            context: The context of the step.
            read_only: Whether the step only reads; then several processes may at a time.

        Raises:
            DatabaseUnavailableError: If others had the file open for ``lock_timeout_seconds``, it
                cannot be written, or a disk is full.
            PoolStateError: If a step that only reads finds no such pool.
        """
        from dagster_active_learning.definitions.database import open_pool

        return open_pool(
            getattr(context.resources, RESOURCE),
            self.name,
            lock_timeout_seconds=self.lock_timeout_seconds,
            report=context.log.info,
            read_only=read_only,
        )


def _similar_name(name: str) -> str:
    """Advice to take the most similar name that a pool can have; none where it has no letter."""
    name = re.sub(r"\W+", "_", name, flags=re.ASCII).strip("_")
    return f"; for example {re.sub(r'^(?=[0-9])', 'pool_', name)}" if name else ""


def _check_group_name(group_name: str | None) -> None:
    """Raise SettingError unless Dagster can have a group of that name."""
    try:
        dg.AssetSpec("asset", group_name=group_name)
    except dg.DagsterInvalidDefinitionError as error:
        raise SettingError("group_name", f"group_name is {group_name!r}: {error}") from error
