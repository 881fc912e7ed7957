"""The settings of a pool as YAML has them, for editors and docs; ``yaml_resolvers`` reads them."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal

import dagster as dg
from dagster.components.resolved import core_models
from pydantic import Field, GetCoreSchemaHandler, GetJsonSchemaHandler, TypeAdapter
from pydantic_core import core_schema

from dagster_active_learning.acquisition.functions import ACQUISITION_FUNCTIONS
from dagster_active_learning.readers.formats import FORMATS


class Described:
    """What a setting should be, for editors and for docs; anything is taken.

    A value that is none of it is for the resolver to refuse: it names the line and what was meant,
    where JSON schema says that the value is not valid under any of the given schemas.
    """

    def __init__(self, kind: Any) -> None:
        self._kind = kind

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> core_schema.CoreSchema:
        """Take anything."""
        return core_schema.any_schema()

    def __get_pydantic_json_schema__(
        self, schema: core_schema.CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        """What it should be, or anything else."""
        adapter: TypeAdapter[Any] = TypeAdapter(self._kind | None)  # pyright: ignore[reportArgumentType]
        described = handler(adapter.core_schema)
        options = described["anyOf"]
        # Without a type: `dg utils inspect-component --defs-yaml-schema` knows no lists of them.
        return {"anyOf": [*options, {}]}


def _name_in(registry: Mapping[str, object]) -> Any:
    """A name in a registry, as it is when an editor asks: entries may have been added."""

    def list_names(schema: dict[str, Any]) -> None:
        schema["enum"] = list(registry)

    return Annotated[str, Field(json_schema_extra=list_names)]


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
    in_place: bool | None = Field(
        None,
        description=(
            "parquet: whether the files are not copied into the database, but read where they are, "
            "by the pool's engine, and their scores written to its storage."
        ),
    )
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


class LocalWorkersModel(dg.Model):
    """Processes of this machine that score predictions in place."""

    type: Literal["local"]
    workers: int | None = Field(
        None, description="How many tasks run at a time; by default one per processor."
    )


class RayTasksModel(dg.Model):
    """A Ray cluster that scores predictions in place."""

    type: Literal["ray"]
    address: str | None = Field(
        None,
        description=(
            "Address of the cluster, such as ray://host:10001; by default auto, the one that the "
            "machine belongs to."
        ),
    )
    environment: list[str] | None = Field(
        None,
        description=(
            "Names of environment variables whose values the tasks get, such as "
            "AWS_SECRET_ACCESS_KEY; by default they have what their node has."
        ),
    )


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


class RetryPolicyModel(dg.Model):
    """How often and after which pause a failed step is tried again."""

    max_retries: int = Field(1, description="How often a failed step is tried again.")
    delay: float | None = Field(None, description="Seconds before it is tried again.")
    backoff: Literal["LINEAR", "EXPONENTIAL"] | None = Field(
        None, description="How the delay grows with each retry."
    )
    jitter: Literal["FULL", "PLUS_MINUS"] | None = Field(
        None, description="How chance changes the delay."
    )


class OpModel(dg.Model):
    """What every step of the pool is run with."""

    tags: dict[str, Any] | None = Field(
        None, description="Tags of the steps, such as dagster-k8s/config."
    )
    retry_policy: RetryPolicyModel | None = Field(
        None, description="How often a failed step is tried again; by default never."
    )
    pool: str | None = Field(
        None, description="Concurrency pool of Dagster that limits the steps, by default duckdb."
    )


class DynamicPartitionsModel(dg.Model):
    """Partitions that are added while Dagster runs, by a sensor or a person."""

    type: Literal["dynamic"] = "dynamic"
    name: str = Field(description="Name of the partitions in the Dagster instance.")


Partitions = Annotated[
    DynamicPartitionsModel
    | core_models.StaticPartitionsDefinitionModel
    | core_models.HourlyPartitionsDefinitionModel
    | core_models.DailyPartitionsDefinitionModel
    | core_models.WeeklyPartitionsDefinitionModel
    | core_models.TimeWindowPartitionsDefinitionModel,
    Field(discriminator="type"),
]

PredictionsSetting = Annotated[
    Any, Described(PredictionFilesModel | PredictionAssetModel | PredictionQueryModel)
]
FunctionsSetting = Annotated[Any, Described(list[FunctionName])]
ReportSetting = Annotated[Any, Described(bool | str)]
ManifestSetting = Annotated[Any, Described(ManifestModel | str)]
PartitionsSetting = Annotated[Any, Described(Partitions)]
BatchSetting = Annotated[Any, Described(LabelingBatchModel)]
EvaluationSetting = Annotated[Any, Described(RuleEvaluationModel)]
ChurnSetting = Annotated[Any, Described(ModelChurnModel)]
LabelingSetting = Annotated[Any, Described(LabelingModel)]
EngineSetting = Annotated[Any, Described(LocalWorkersModel | RayTasksModel)]
SensorSetting = Annotated[Any, Described(SensorModel)]
OpSetting = Annotated[Any, Described(OpModel)]
