"""A pool's definitions from Python, with every setting an argument."""

import inspect
import warnings
from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import dagster as dg

from dagster_active_learning.definitions.batches import LabelingBatch
from dagster_active_learning.definitions.build import pool_definitions
from dagster_active_learning.definitions.churn import ModelChurn
from dagster_active_learning.definitions.evaluations import RuleEvaluation
from dagster_active_learning.definitions.exports import Export
from dagster_active_learning.definitions.labeling import LabelStudio
from dagster_active_learning.definitions.manifests import PoolImages
from dagster_active_learning.definitions.op_settings import OpSettings
from dagster_active_learning.definitions.pool import Pool
from dagster_active_learning.definitions.reports import Report
from dagster_active_learning.definitions.sensors import PredictionFileSensor
from dagster_active_learning.definitions.sources import PredictionSource
from dagster_active_learning.limits import PROBABILITY_TOLERANCE
from dagster_active_learning.rules import (
    Aggregation,
    ImagesWithoutPredictions,
    Inputs,
    ScoreOnly,
    Task,
)

if TYPE_CHECKING:
    from dagster_active_learning.flow.engine import Engine


def active_learning_definitions(
    *,
    pool: str,
    predictions: PredictionSource,
    images: PoolImages | str | PathLike[str] | None = None,
    image_roots: Sequence[str | PathLike[str]] = (),
    report: Report = True,
    task: Task = "classification",
    acquisition_functions: Sequence[str] | None = None,
    limit: int | None = 1000,
    seed: int = 0,
    inputs: Inputs = "probabilities",
    aggregation: Aggregation = "mean",
    score_only: ScoreOnly | None = None,
    images_without_predictions: ImagesWithoutPredictions | None = None,
    sum_tolerance: float = PROBABILITY_TOLERANCE,
    committee: bool = False,
    max_quarantined_share: float = 0.05,
    min_coverage: float | None = None,
    max_jump: float | None = 0.1,
    lock_timeout_seconds: float = 600,
    group_name: str | None = None,
    partitions_def: dg.PartitionsDefinition | None = None,
    batch: LabelingBatch | None = None,
    evaluation: RuleEvaluation | None = None,
    churn: ModelChurn | None = None,
    labeling: LabelStudio | None = None,
    storage: str | PathLike[str] | None = None,
    engine: "Engine | None" = None,
    keep_prediction_sets: int | None = None,
    export: Export | None = None,
    sensor: PredictionFileSensor | None = None,
    automation: bool = False,
    freshness_policy: dg.FreshnessPolicy | None = None,
    schedule: str | None = None,
    op: OpSettings | None = None,
) -> dg.Definitions:
    """The assets of one pool of images, their checks, and what materializes them by itself.

    ``<pool>/predictions`` reads the predictions into DuckDB, ``<pool>/image_scores`` computes every
    acquisition function for every image, and ``<pool>/labeling_candidates/<function>`` ranks the
    images that have no label yet. With ``batch``, ``<pool>/labeling_batch`` chooses the images to
    label next. With ``evaluation``, ``<pool>/rule_evaluation`` says by labels which function finds
    the model's errors. With ``images``, ``<pool>/images`` reads the pool's manifest.
    Each has asset checks of what can go wrong with it.
    The tables are in the schema named after the pool, in the database of the ``DuckDBResource``
    under the resource key ``duckdb``, which the definitions do not bring along.

    Args:
        pool: Name of the pool: letters, digits and underscores. It is the prefix of the asset keys
            and the name of the DuckDB schema.
        predictions: ``PredictionFiles``, ``PredictionAsset`` or ``PredictionQuery``.
        images: The pool's manifest, a path or ``PoolImages``: which images there are, and which of
            them are labeled and so never candidates. Predictions for other images go to
            quarantine. Without it the images are those that have predictions.
        image_roots: Folders and addresses that image files are shown from, besides the folder of
            the manifest or of the images: a uri of the manifest that leads elsewhere is not read.
        report: The folder of the pages that each ranking and each batch are written to, one HTML
            file with all images; by default beside the database, in ``<database>_reports``. False
            for no pages.
        task: ``"classification"``, ``"detection"`` or ``"segmentation"``: whether a prediction is
            about an image or about one object in it.
        acquisition_functions: Names of the functions to rank by; by default all that the task has.
        limit: How many images each ranking has at the most, None for all; run config can override
            it.
        seed: Decides the order of images with equal scores; run config can override it.
        inputs: What the class probabilities are in the source: ``"probabilities"`` of classes that
            exclude each other, ``"logits"``, or ``"independent"`` probabilities, one sigmoid per
            class.
        aggregation: What an image's score is of those of its predictions: ``"mean"``, ``"max"``,
            ``"min"`` or ``"sum"``, which adds their uncertainties, 0..1 each, and is labeled
            highest first under every function.
        score_only: ``"binary"`` declares the score s of an object without class probabilities to
            be a probability of two classes, [s, 1-s]. Without it only the mean object score is
            computed for such objects.
        images_without_predictions: ``"last"``, ``"first"`` or ``"exclude"``: where images without
            predictions rank under every function. By default last, but by their score of 0, and
            so first, under the mean object score.
        sum_tolerance: How far from 1 the sum of class probabilities may be, and how far outside
            0..1 a class probability or a detector's score: more where low precision, such as
            bfloat16 or two decimals, has rounded them. Nothing is renormalised.
        committee: Whether several predictions of one image are votes, of several models or of one,
            in classification: then the mean of their class probabilities is scored, and not the
            mean of their scores taken. Where it is not declared, a check warns of such images.
        max_quarantined_share: How large a share of the rows may be in quarantine. Above it the
            check of the predictions fails, and nothing is scored or ranked in the same run.
        min_coverage: How large a share of the manifest's images without a label should have
            predictions. Below it a check of the predictions warns. By default 1.0 for
            classification and 0.0 for objects, of which an image may have none.
        max_jump: How far mean uncertainty, uncertainty at the cut and class shares, each 0 to 1,
            may be from their mean in the last five prediction sets. Above it a check of the
            candidates warns; None for no such check.
        lock_timeout_seconds: How long a step waits for the database while another process has it
            open. The log says which; after that time the step fails.
        group_name: Group of the assets in the UI, by default the pool.
        partitions_def: Partitions of one dimension, static, dynamic or of time, where the pool has
            a prediction set for each partition key. The manifest has no partitions.
        batch: The images to label next, chosen from a ranking: size, random share, turns of the
            classes, near-duplicates and more.
        evaluation: The evaluation of acquisition functions by labels that were drawn at random:
            which of them puts images first that the model gets wrong.
        churn: The comparison of each prediction set with the one before it, or with a named one:
            images whose class changed, new errors and fixed ones.
        labeling: The labeling tool that batches are sent to (``<pool>/labeling_tasks``) and labels
            are read from (``<pool>/labels``), by the ``LabelStudioResource`` under the resource key
            ``label_studio``. It needs ``batch`` and ``images``.
        storage: The folder, or the address of one, for the scores of predictions that are read in
            place (``PredictionFiles(…, in_place=True)``) and for their rows in quarantine. What is
            no longer used of it goes.
        engine: What scores them: ``LocalWorkers``, which is the default, ``RayTasks``, or another
            object with a method ``run`` as they have it.
        keep_prediction_sets: How many prediction sets stay in the database: after each reading the
            oldest go, but none of which images are in flight. By default all stay.
        export: Files that ``<pool>/exported_candidates`` writes the candidates to: a path or
            several whose suffix says the exporter (``.parquet``, ``.csv``), or paths by the names
            of their exporters. In a pool with partitions ``{partition_key}`` stands for the key.
        sensor: Watches the prediction files: each new or changed one starts a run of predictions,
            scores, candidates and export, and adds the key of a dynamic partition.
        automation: Whether scores, candidates and their export follow new predictions and a new
            manifest by themselves, as soon as Dagster's automation sensor is on; predictions and
            manifest too, where they depend on an asset and no ``sensor`` reads them.
        freshness_policy: How old the candidates may be before Dagster says so.
        schedule: Cron string of a schedule that materializes the whole pool; of time partitions the
            last one that is over.
        op: What every step is run with: tags, a retry policy and a concurrency pool.

    Returns:
        Definitions with the assets, their checks, the job ``<pool>__labeling`` of all of them, and
        the sensor and schedule that are wanted; to be merged with the resources.

    Raises:
        SettingError: If an argument has a value that cannot be used.

    Example:
        >>> definitions = dg.Definitions.merge(
        ...     active_learning_definitions(
        ...         pool="street_signs",
        ...         predictions=PredictionFiles("predictions/*.parquet", "parquet"),
        ...         acquisition_functions=["margin"],
        ...     ),
        ...     dg.Definitions(resources={"duckdb": DuckDBResource(database="pool.duckdb")}),
        ... )
        >>> for key in sorted(definitions.resolve_all_asset_keys()):
        ...     print(key.to_user_string())
        street_signs/image_scores
        street_signs/labeling_candidates/margin
        street_signs/predictions
    """
    described = Pool(
        name=pool,
        predictions=predictions,
        images=images,
        image_roots=image_roots,
        report=report,
        task=task,
        acquisition_functions=acquisition_functions,
        limit=limit,
        seed=seed,
        inputs=inputs,
        aggregation=aggregation,
        score_only=score_only,
        images_without_predictions=images_without_predictions,
        sum_tolerance=sum_tolerance,
        committee=committee,
        max_quarantined_share=max_quarantined_share,
        min_coverage=min_coverage,
        max_jump=max_jump,
        lock_timeout_seconds=lock_timeout_seconds,
        group_name=group_name,
        partitions_def=partitions_def,
        batch=batch,
        evaluation=evaluation,
        churn=churn,
        labeling=labeling,
        storage=storage,
        engine=engine,
        keep_prediction_sets=keep_prediction_sets,
        export=export,
        sensor=sensor,
        automation=automation,
        freshness_policy=freshness_policy,
        schedule=schedule,
        op=op,
    )
    return pool_definitions(described, metadata=_code_reference(inspect.currentframe()))


def _code_reference(frame: FrameType | None) -> Mapping[str, Any]:
    """The place where the function was called, as Dagster has it of YAML."""
    caller = frame.f_back if frame else None
    if caller is None or not Path(caller.f_code.co_filename).is_file():
        return {}
    path = Path(caller.f_code.co_filename).absolute()
    with warnings.catch_warnings():
        # Dagster marks these two classes as beta, and uses them itself.
        warnings.simplefilter("ignore", dg.BetaWarning)
        place = dg.LocalFileCodeReference(file_path=str(path), line_number=caller.f_lineno)
        references = dg.CodeReferencesMetadataValue(code_references=[place])
    return {"dagster/code_references": references}
