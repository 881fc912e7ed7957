"""The settings of a pool in YAML, and how they become the objects of Python."""

import os
from collections.abc import Collection, Generator, Mapping
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import dagster as dg
from dagster.components.resolved import core_models
from pydantic import AfterValidator, Discriminator, Field, Tag

from dagster_active_learning.acquisition.functions import ACQUISITION_FUNCTIONS
from dagster_active_learning.definitions.batches import LabelingBatch, NearDuplicates
from dagster_active_learning.definitions.churn import ModelChurn
from dagster_active_learning.definitions.evaluations import RuleEvaluation
from dagster_active_learning.definitions.labeling import LabelStudio
from dagster_active_learning.definitions.sensors import PredictionFileSensor
from dagster_active_learning.definitions.sources import (
    PoolImages,
    PredictionAsset,
    PredictionFiles,
    PredictionQuery,
    PredictionSource,
)
from dagster_active_learning.errors import SettingError
from dagster_active_learning.files.addresses import is_address
from dagster_active_learning.readers.formats import FORMATS


def _name_in(registry: Mapping[str, object]) -> Any:
    """A name in a registry, as it is when the YAML is read: entries may have been added."""

    def check(name: str) -> str:
        # A template is filled in later, and then checked.
        if name not in registry and "{{" not in name:
            known = ", ".join(map(repr, registry))
            raise ValueError(f"{name!r} is unknown: expected one of {known}")
        return name

    def list_names(schema: dict[str, Any]) -> None:
        schema["enum"] = list(registry)

    return Annotated[str, AfterValidator(check), Field(json_schema_extra=list_names)]


if TYPE_CHECKING:
    FunctionName = str
    FormatName = str
else:
    FunctionName = _name_in(ACQUISITION_FUNCTIONS)
    FormatName = _name_in(FORMATS)


class TableModel(dg.Model):
    """The columns of a table and what they hold."""

    model: str | None = Field(None, description="The model that made the predictions, for lineage.")
    image_id_column: str | None = Field(
        None, description="Tables: column with the image's id, by default image_id."
    )
    class_probs_column: str | None = Field(
        None,
        description=(
            "Tables: column of class probabilities, lists or by name; by default class_probs."
        ),
    )
    class_columns: list[str] | None = Field(
        None, description="Tables: the columns that hold one class each, in class order."
    )
    class_column_prefix: str | None = Field(
        None,
        description=(
            "Tables: every column whose name starts with this is a class; the rest of its name is "
            "the class name."
        ),
    )
    class_column_pattern: str | None = Field(
        None,
        description=(
            "Tables: every column whose whole name matches this regular expression, without "
            "look-around and backreferences, is a class; the first group, where there is one, is "
            "the class name."
        ),
    )
    class_names: list[str] | None = Field(
        None, description="Class names in class order, where the source does not carry them."
    )
    single_probability: bool | None = Field(
        None,
        description=(
            "Tables, npy and npz: whether a row has one probability p, that of the second of two "
            "classes, as a binary classifier gives it."
        ),
    )
    score_column: str | None = Field(
        None,
        description=(
            "Tables of objects: column with the detector's own score; of lists where the table has "
            "one row per image."
        ),
    )
    category_column: str | None = Field(
        None, description="Tables of objects: column with the class the detector decided for."
    )
    bbox_column: str | None = Field(
        None, description="Tables of objects: column of boxes, lists or objects of four."
    )
    bbox_columns: list[str] | None = Field(
        None, description="Tables of objects: the four columns of a box instead."
    )
    box: Literal["xywh", "xyxy", "xcycwh"] | None = Field(
        None,
        description=(
            "Tables of objects and yolo: the meaning of a box's four numbers, by default xywh (top "
            "left corner) in tables and xcycwh (center) in yolo."
        ),
    )
    bbox_unit: Literal["pixel", "relative"] | None = Field(
        None, description="Tables of objects and yolo: what boxes are measured in."
    )
    score_transform: Literal["sigmoid", "percent"] | None = Field(
        None,
        description=(
            "Objects: how a score that is not a probability becomes one: sigmoid for logits, "
            "percent for a scale of 0 to 100."
        ),
    )


class PredictionFilesModel(TableModel):
    """Prediction files of one format."""

    path: str = Field(
        description=(
            "A file, or a glob such as predictions/*.parquet, relative to the folder of this YAML "
            "file; for yolo, kitti and lightly also the folder of the files. An address such as "
            "s3://bucket/*.parquet is fetched by fsspec. In a pool with partitions "
            "`{partition_key}` stands for the partition key."
        )
    )
    format: FormatName = Field(description="Format of the files.")
    deps: list[str] = Field([], description="Keys of the assets that write the files.")
    image_ids: str | None = Field(
        None,
        description=(
            "npy and rvc: the list of ids beside a file, relative to its folder, with {stem} for "
            "the file's name without its suffix."
        ),
    )
    class_probs_array: str | None = Field(
        None, description="npz: array of class probabilities, by default class_probs."
    )
    image_ids_array: str | None = Field(
        None, description="npz: array of ids, by default image_ids."
    )
    class_names_array: str | None = Field(
        None, description="npz: array of class names, by default class_names, if it is there."
    )
    instances: str | None = Field(
        None,
        description=(
            "coco: the file with the tables images and categories, relative to the folder of this "
            "YAML file."
        ),
    )
    confidence: Literal["last", "second"] | None = Field(
        None, description="yolo: where the confidence stands in a line."
    )


class PredictionAssetModel(TableModel):
    """The value of an upstream asset: a polars or pandas data frame, or an Arrow table."""

    asset: str = Field(description="Key of the asset, its parts separated by slashes.")


class PredictionQueryModel(TableModel):
    """The result of a DuckDB query in the pool's own database."""

    query: str = Field(
        description=(
            "A query, or `FROM schema.table`. Give an ORDER BY where an image has several "
            "predictions. In a pool with partitions `$partition_key` is the partition key."
        )
    )
    deps: list[str] = Field([], description="Keys of the assets that write what the query reads.")


def _kind_of_source(value: Any) -> str | None:
    names = value if isinstance(value, dict) else getattr(value, "__dict__", None)
    if names is None:
        return None  # Text, which is a template or wrong.
    return next((name for name in ("asset", "query") if name in names), "files")


PredictionsModel = Annotated[
    Annotated[PredictionFilesModel, Tag("files")]
    | Annotated[PredictionAssetModel, Tag("asset")]
    | Annotated[PredictionQueryModel, Tag("query")],
    Discriminator(_kind_of_source),
]


class ManifestModel(dg.Model):
    """The pool's manifest: a table with one row per image, a COCO file or a folder of images."""

    path: str = Field(
        description="The file or the folder, relative to the folder of this YAML file."
    )
    format: Literal["csv", "parquet", "jsonl", "coco", "folder"] | None = Field(
        None, description="By default seen from the suffix; a path without one is a folder."
    )
    image_id: Literal["id", "file_name", "path", "stem"] | None = Field(
        None,
        description="What an image's id is: for coco id or file_name, for a folder path or stem.",
    )
    labeled: list[str] | str | None = Field(
        None,
        description=(
            "The images that have their label, besides those the manifest marks: a list of ids, or "
            "the path of a text file with one id per line, relative to this YAML file's folder."
        ),
    )
    deps: list[str] = Field([], description="Keys of the assets that write the manifest.")


class SensorModel(dg.Model):
    """The watch on prediction files."""

    minimum_interval_seconds: int = Field(
        30, ge=1, description="Seconds between two looks at the files, at the least."
    )
    default_status: Literal["RUNNING", "STOPPED"] = Field(
        "STOPPED",
        description=(
            "RUNNING to watch from the start; STOPPED until somebody turns it on in the UI."
        ),
    )


class NearDuplicatesModel(dg.Model):
    """Embeddings of the images: near-duplicates are left out, and images may be chosen by them."""

    path: str | None = Field(
        None,
        description=(
            "A Parquet file or glob with one row per image, or a NPY file, relative to the folder "
            "of this YAML file."
        ),
    )
    asset: str | None = Field(
        None, description="Key of an asset that returns a table of embeddings instead."
    )
    query: str | None = Field(
        None, description="A DuckDB query in the pool's database instead, or `FROM schema.table`."
    )
    image_ids: str | None = Field(
        None,
        description=(
            "npy: a text file with the id of each row, one per line; by default beside the file "
            "under its name with .ids.txt."
        ),
    )
    image_id_column: str | None = Field(
        None, description="Tables: column with the image's id, by default image_id."
    )
    embedding_column: str | None = Field(
        None, description="Tables: column of embeddings, by default embedding."
    )
    max_distance: float | None = Field(
        None,
        description=(
            "The Euclidean distance up to which two images are near-duplicates; without it nothing "
            "is left out, and a histogram of nearest distances is there to choose it by."
        ),
    )
    deps: list[str] = Field([], description="Keys of the assets that write the embeddings.")


class LabelingBatchModel(dg.Model):
    """The images to label next."""

    size: int | None = Field(None, description="Images in a batch at the most, by default 100.")
    rank_by: FunctionName | None = Field(
        None,
        description=(
            "The function whose ranking is the queue, by default margin, for objects "
            "mean_object_score. Entropy finds errors of one model well, and in comparisons by "
            "retraining it was worse than random images in most of them."
        ),
    )
    random_share: float | None = Field(
        None,
        description=(
            "The share that is drawn at random from all unlabeled images, by default 0.1: labels "
            "from the queue alone cannot say how good the model or the queue is."
        ),
    )
    choose_by: Literal["queue", "badge", "typical"] | None = Field(
        None,
        description=(
            "How the images that are not random are chosen: by rank in the queue, which is the "
            "default; by badge, which picks different ones of the first queue_length candidates by "
            "their gradients; or as typical ones of as many that are drawn at random, for the "
            "first batches. The last two need the embeddings of near_duplicates."
        ),
    )
    class_turns: bool | None = Field(
        None,
        description=(
            "Whether the predicted classes take turns, the one with the fewest candidates first; "
            "true by default."
        ),
    )
    queue_length: int | None = Field(
        None,
        description=(
            "How many of the first candidates the classes take turns in, by default 1000, whatever "
            "the size: a batch of 50 is the beginning of a batch of 100."
        ),
    )
    max_in_flight: int | None = Field(
        None,
        description="How many images may be out: a batch has no more than bring them up to it.",
    )
    return_after_days: int | None = Field(
        None, description="After how many days an image that is out without a label comes back."
    )
    max_per_class: int | None = Field(
        None, description="How many images of a predicted class a batch may have."
    )
    class_weights: dict[str, float] | None = Field(
        None, description="How many turns a class has for one of another class; 1 by default."
    )
    objects_budget: int | None = Field(
        None,
        description="How many predicted objects a batch may have: it ends before the next image.",
    )
    near_duplicates: NearDuplicatesModel | None = Field(
        None,
        description=(
            "Embeddings, by which images that tell nothing new are left out, and which choose_by "
            "may need."
        ),
    )
    export: str | list[str] | dict[str, str] | None = Field(
        None,
        description=(
            "Files that the batch is written to by the asset exported_candidates, as `export` of "
            "the pool is for the rankings. Writing them hands the batch out."
        ),
    )


class RuleEvaluationModel(dg.Model):
    """The evaluation of acquisition functions by labels."""

    first: int | None = Field(
        None,
        description=(
            "How many images of the pool are looked at, for the error rate among the first and its "
            "lift; by default a tenth of it."
        ),
    )
    labels_drawn_at_random: bool | None = Field(
        None,
        description=(
            "Whether labels of images that were in no batch were drawn at random, as those of a "
            "test set are, and are unknown to the model; false by default."
        ),
    )
    labels_held_out: bool | None = Field(
        None,
        description=(
            "Whether random labels of batches stay out of training, so that those from before the "
            "predictions count too; false by default."
        ),
    )
    boxes: str | None = Field(
        None,
        description=(
            "Objects: a COCO instances file with the boxes that people drew, relative to the "
            "folder of this YAML file; its images are labeled."
        ),
    )
    boxes_image_id: Literal["id", "file_name"] = Field(
        "id", description="Objects: which of an image's names in that file is its id."
    )


class ModelChurnModel(dg.Model):
    """The comparison of prediction sets."""

    against: str | None = Field(
        None,
        description=(
            "The prediction set, so a partition key, that each is compared with; by default the "
            "one that was read before it."
        ),
    )
    max_changed_share: float | None = Field(
        None,
        description=(
            "The share of images whose class may change, by default 0.1: above it a check warns."
        ),
    )


class LabelStudioModel(dg.Model):
    """A project of Label Studio."""

    project: str = Field(
        description="Title of the project, 3 to 50 characters; it is made where there is none."
    )
    image_address: str | None = Field(
        None,
        description=(
            "Address of an image, with `{image_id}`, `{file_name}` or `{uri}` in it; by default "
            "the uri of the manifest."
        ),
    )
    local_files_root: str | None = Field(
        None,
        description=(
            "The folder from which Label Studio serves local files, as "
            "LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT has it."
        ),
    )
    embed_max_bytes: int | None = Field(
        None, description="Size up to which images are put into their tasks."
    )
    export: str | list[str] | None = Field(
        None,
        description=(
            "Files that the labels are written to: a manifest of the labeled images (.csv, "
            ".parquet), a COCO file of objects (.json); a path or several."
        ),
    )
    return_skipped: bool | None = Field(
        None,
        description=(
            "Whether images that people skip come back, to be in a batch again; by default they "
            "stay in flight."
        ),
    )
    minimum_interval_seconds: int | None = Field(
        None, description="Seconds between two looks for annotations, by default 60."
    )
    default_status: Literal["RUNNING", "STOPPED"] | None = Field(
        None,
        description=(
            "RUNNING to look for annotations from the start; STOPPED until somebody turns the "
            "sensor on in the UI."
        ),
    )


class LabelingModel(dg.Model):
    """A labeling tool."""

    label_studio: LabelStudioModel = Field(description="A project of Label Studio.")


class DynamicPartitionsModel(dg.Model):
    """Partitions that are added while Dagster runs, by a sensor or a person."""

    type: Literal["dynamic"] = "dynamic"
    name: str = Field(description="Name of the partitions in the Dagster instance.")


PartitionsModel = Annotated[
    DynamicPartitionsModel
    | core_models.StaticPartitionsDefinitionModel
    | core_models.HourlyPartitionsDefinitionModel
    | core_models.DailyPartitionsDefinitionModel
    | core_models.WeeklyPartitionsDefinitionModel
    | core_models.TimeWindowPartitionsDefinitionModel,
    Field(discriminator="type"),
]


def resolve_text(context: dg.ResolutionContext, value: Any) -> Any:
    """Fill in templates, in the items of a list too.

    Text without a template stays as it is: Dagster would make the number 7 of the class name "7".
    """
    if isinstance(value, list):
        return [resolve_text(context.at_path(place), item) for place, item in enumerate(value)]
    if not isinstance(value, str) or not ("{{" in value or "{%" in value):
        return value
    from jinja2 import StrictUndefined, UndefinedError
    from jinja2.nativetypes import NativeEnvironment

    # Dagster's own way makes nothing of a name that it does not know, and so another path; and of a
    # text that looks like Python, such as a commit 12e4567, it makes another value.
    template = NativeEnvironment(undefined=StrictUndefined).from_string(value)
    try:
        parts = list(template.root_render_func(template.new_context(dict(context.scope))))
        resolved: Any = parts[0] if len(parts) == 1 else "".join(map(str, parts))
        text = str(resolved)
    except UndefinedError as error:
        raise ValueError(
            f"the template {value!r}: {error}; there are {', '.join(context.scope)}, and what a "
            "template_vars_module adds"
        ) from error
    if isinstance(resolved, list):
        return resolved
    if not isinstance(resolved, (str, int, float, PathLike)):
        raise ValueError(f"the template {value!r} gives {resolved!r}, expected text")
    return text


def resolve_predictions(context: dg.ResolutionContext, model: Any) -> PredictionSource:
    """The source of predictions that the YAML describes."""
    if isinstance(model, str):
        raise ValueError(
            f"predictions is {model!r}, expected an object with path and format, asset, or query"
        )
    settings = _settings(context, model)
    if isinstance(model, PredictionAssetModel):
        return PredictionAsset(dg.AssetKey.from_user_string(settings.pop("asset")), **settings)
    if isinstance(model, PredictionQueryModel):
        return PredictionQuery(**settings)
    for name in {"path", "instances"} & settings.keys():
        settings[name] = _path(context, settings[name])
    return PredictionFiles(**settings)


def resolve_images(context: dg.ResolutionContext, model: Any) -> PoolImages | None:
    """The manifest that the YAML describes, by a path alone or with all that is said of it."""
    if model is None:
        return None
    settings = (
        {"path": resolve_text(context, model)}
        if isinstance(model, str)
        else _settings(context, model)
    )
    for name in {"path", "labeled"} & settings.keys():
        if isinstance(settings[name], str):
            settings[name] = _path(context, settings[name])
    return PoolImages(**settings)


def resolve_sensor(context: dg.ResolutionContext, model: Any) -> PredictionFileSensor | None:
    """The sensor that the YAML describes."""
    if model is None:
        return None
    if isinstance(model, str):
        raise ValueError(
            f"sensor is {model!r}, expected an object with minimum_interval_seconds and "
            "default_status, which may be empty: {}"
        )
    settings = _settings(context, model)
    if "default_status" in settings:
        settings["default_status"] = dg.DefaultSensorStatus(settings["default_status"])
    return PredictionFileSensor(**settings)


def resolve_batch(context: dg.ResolutionContext, model: Any) -> LabelingBatch | None:
    """The labeling batch that the YAML describes."""
    if model is None:
        return None
    if isinstance(model, str):
        raise ValueError(
            f"batch is {model!r}, expected an object with size and more, which may be empty: {{}}"
        )
    nested = {"near_duplicates", "export", "class_weights"}
    settings = _settings(context, model, nested)
    if "class_weights" in model.model_fields_set:
        settings["class_weights"] = model.class_weights
    if "export" in model.model_fields_set:
        settings["export"] = resolve_export(context.at_path("export"), model.export)
    with _at_line(context, model):
        duplicates = model.near_duplicates
        if duplicates is not None:
            embeddings = _settings(context.at_path("near_duplicates"), duplicates)
            for name in {"path", "image_ids"} & embeddings.keys():
                embeddings[name] = _path(context, embeddings[name])
            if "asset" in embeddings:
                embeddings["asset"] = dg.AssetKey.from_user_string(embeddings["asset"])
            settings["near_duplicates"] = NearDuplicates(**embeddings)
        return LabelingBatch(**settings)


def resolve_evaluation(context: dg.ResolutionContext, model: Any) -> RuleEvaluation | None:
    """The evaluation of rules that the YAML describes."""
    if model is None:
        return None
    if isinstance(model, str):
        raise ValueError(
            f"evaluation is {model!r}, expected an object with first and more, which may be "
            "empty: {}"
        )
    settings = _settings(context, model)
    if "boxes" in settings:
        settings["boxes"] = _path(context, settings["boxes"])
    with _at_line(context, model):
        return RuleEvaluation(**settings)


def resolve_churn(context: dg.ResolutionContext, model: Any) -> ModelChurn | None:
    """The comparison of prediction sets that the YAML describes."""
    if model is None:
        return None
    if isinstance(model, str):
        raise ValueError(
            f"churn is {model!r}, expected an object with against and max_changed_share, which may "
            "be empty: {}"
        )
    with _at_line(context, model):
        return ModelChurn(**_settings(context, model))


def resolve_labeling(context: dg.ResolutionContext, model: Any) -> LabelStudio | None:
    """The labeling tool that the YAML describes."""
    if model is None:
        return None
    if isinstance(model, str):
        raise ValueError(
            f"labeling is {model!r}, expected an object such as {{label_studio: {{project: …}}}}"
        )
    place = context.at_path("label_studio")
    settings = _settings(place, model.label_studio, {"export"})
    if model.label_studio.export is not None:
        settings["export"] = resolve_export(place.at_path("export"), model.label_studio.export)
    if "local_files_root" in settings:
        settings["local_files_root"] = _path(context, settings["local_files_root"])
    if "default_status" in settings:
        settings["default_status"] = dg.DefaultSensorStatus(settings["default_status"])
    with _at_line(place, model.label_studio):
        return LabelStudio(**settings)


@contextmanager
def _at_line(context: dg.ResolutionContext, model: dg.Model) -> Generator[None]:
    """Name the line of a setting that cannot be used."""
    try:
        yield
    except SettingError as error:
        place = context.at_path(error.setting)
        raise place.build_resolve_fn_exc([str(error)], error.setting, model) from None


def resolve_partitions_def(
    context: dg.ResolutionContext, model: Any
) -> dg.PartitionsDefinition | None:
    """The partitions that the YAML describes: those Dagster has in YAML, and dynamic ones."""
    if isinstance(model, DynamicPartitionsModel):
        return dg.DynamicPartitionsDefinition(name=resolve_text(context, model.name))
    if isinstance(model, core_models.StaticPartitionsDefinitionModel):
        return dg.StaticPartitionsDefinition(resolve_text(context, list(model.partition_keys)))
    if isinstance(model, str):
        raise ValueError(
            f"partitions_def is {model!r}, expected an object with the key type, for example "
            "{type: dynamic, name: …}"
        )
    return core_models.resolve_partitions_def(context, model)


def resolve_paths(context: dg.ResolutionContext, model: Any) -> list[str]:
    """Paths as the YAML file's folder sees them, and addresses as they are."""
    return [_path(context, path) for path in resolve_text(context, model)]


def resolve_export(context: dg.ResolutionContext, model: Any) -> Any:
    """The files of candidates, as the YAML file's folder sees them."""
    if isinstance(model, dict):
        return {name: resolve_export(context.at_path(name), path) for name, path in model.items()}
    paths = resolve_text(context, model)
    if isinstance(paths, list):
        return [_path(context, path) for path in paths]
    return None if paths is None else _path(context, paths)


def _settings(
    context: dg.ResolutionContext, model: dg.Model, nested: Collection[str] = ()
) -> dict[str, Any]:
    """The settings that the YAML gives and does not leave to their defaults, but nested ones."""
    settings: dict[str, Any] = {}
    for name in model.model_fields_set - set(nested):
        place = context.at_path(name)
        try:
            settings[name] = resolve_text(place, getattr(model, name))
        except ValueError as error:
            raise place.build_resolve_fn_exc([str(error)], name, model) from None
    if "deps" in settings:
        settings["deps"] = [dg.AssetKey.from_user_string(key) for key in settings["deps"]]
    return settings


def _path(context: dg.ResolutionContext, path: str) -> str:
    """A path as the YAML file's folder sees it; an address as it is."""
    if is_address(path):
        return path
    folder = context.resolve_source_relative_path(".")
    return os.path.normpath(folder / Path(path))
