"""The files that `dg scaffold defs dagster_active_learning.ActiveLearningComponent` writes."""

import json
import random
import re
from pathlib import Path

import dagster as dg
from dagster.components import scaffold_component
from pydantic import BaseModel, Field

DEFS_YAML = """\
type: {type_name}

# The database is that of the project's DuckDBResource, under the resource key "duckdb".
attributes:
  # Prefix of the asset keys, and name of the DuckDB schema.
  pool: {pool}

  # Paths are relative to this file's folder, where they do not begin with the project's.
  predictions:
{predictions}    # model: resnet50 of May          # for lineage
    # deps: [ml/predict]              # assets that write the files
    # in_place: true                  # Parquet is not copied; then a storage is needed
  # Or what an asset returns, or what a DuckDB query returns:
  # predictions:
  #   asset: ml/predictions
  # predictions:
  #   query: FROM ml.predictions

  # Which images there are, and which of them are labeled and so never candidates.
{images}  # image_roots: [/mnt/cameras]       # images that lie elsewhere than the manifest
  # report: reports                   # folder of pages; beside the database by default, or false

  # task: detection                   # classification by default; or segmentation
  # acquisition_functions: [entropy, margin]
  # limit: 1000                       # images in each ranking; null for all
  # seed: 0                           # order of images with equal scores
  # inputs: logits                    # probabilities by default; or independent
  # aggregation: max                  # mean by default; or min, sum
  # score_only: binary                # a lone score is a probability of two classes
  # images_without_predictions: last  # or first, exclude
  # sum_tolerance: 0.02               # of bfloat16 or two decimals; 0.001 by default
  # committee: true                   # several predictions of one image are votes
  # max_quarantined_share: 0.05       # above it a check fails, and nothing is scored
  # min_coverage: 1.0                 # share of the manifest with predictions; of objects 0.0
  # max_jump: 0.2                    # of uncertainty or classes, above it a check warns; or null
  # lock_timeout_seconds: 600         # wait for others that have the database open

  # Each partition key is a prediction set; put {{partition_key}} in the path of the files.
  # partitions_def:
  #   type: dynamic
  #   name: {pool}_predictions

  # Each new or changed file starts a run; without default_status, once it is on in the UI.
  # sensor:
  #   minimum_interval_seconds: 60
  #   default_status: RUNNING

  # Scores and candidates follow their predictions, once Dagster's automation sensor is on.
  # automation: true
  # How old the candidates may be.
  # freshness_policy: "{{{{ dg.FreshnessPolicy.time_window(datetime.timedelta(days=7)) }}}}"
  # schedule: "0 6 * * *"             # materializes the whole pool

  # The images to label next; written to a file they are handed out.
  # batch:
  #   size: 100
  #   rank_by: margin
  #   random_share: 0.1               # drawn from all images; without them nothing is known
  #   max_in_flight: 300
  #   return_after_days: 14
  #   export: "{{{{ context.project_root }}}}/labeling_batch.csv"
  # Batches go to a project of Label Studio, and labels come back: with batch, images and the
  # resource label_studio.
  # labeling:
  #   label_studio:
  #     project: street signs
  #     export: "{{{{ context.project_root }}}}/labels.csv"
  # Which function finds the model's errors, by labels that were drawn at random.
  # evaluation:
  #   labels_drawn_at_random: true    # labels of images in no batch are a test set
  # What each prediction set says differently from the one before it.
  # churn:
  #   max_changed_share: 0.1
  # Where the scores of predictions that are read in place are, and what computes them.
  # storage: s3://bucket/scores
  # engine: {{type: local, workers: 8}}   # or {{type: ray, address: "ray://host:10001"}}
  # keep_prediction_sets: 12          # the oldest go

  # What every step is run with.
  # op:
  #   tags:
  #     team: vision
  #   retry_policy:
  #     max_retries: 2
  #     delay: 30

  # group_name: labeling
  # Files that the candidates are written to, .parquet or .csv or one of each.
  # export: "{{{{ context.project_root }}}}/labeling_candidates.csv"
  # translation:
  #   owners: ["team:vision"]
  #   tags:
  #     table: "{{{{ table }}}}"
"""


RESOURCES = """\
from pathlib import Path

import dagster as dg
from dagster_duckdb import DuckDBResource

# Absolute, whatever the working directory is. In production, for example: dg.EnvVar("DATABASE").
DATABASE = str({place})


@dg.definitions
def resources() -> dg.Definitions:
    return dg.Definitions(resources={{"duckdb": DuckDBResource(database=DATABASE)}})
"""

PREDICTIONS = """\
    path: "{{ context.project_root }}/predictions/*.parquet"
    # parquet, csv, jsonl, npy, npz; for objects also coco, yolo, kitti, rvc, lightly,
    # megadetector, open_images
    format: parquet
    # class_column_prefix: prob_      # one column per class, where there is no list class_probs
"""

EXAMPLE_PREDICTIONS = """\
    path: example_predictions.csv     # {{ context.project_root }}/predictions/*.parquet, for one
    # parquet, csv, jsonl, npy, npz; for objects also coco, yolo, kitti, rvc, lightly,
    # megadetector, open_images
    format: csv
    class_column_prefix: prob_        # one column per class, or a list column class_probs
"""

IMAGES = "  # images: manifest.csv\n"
EXAMPLE_IMAGES = "  images: example_manifest.csv\n"

EXAMPLE_CLASSES = ("cat", "dog", "horse")
EXAMPLE_LABELED = 6
EXAMPLE_SIZE = 60

IGNORED = ("*.duckdb", "*.duckdb.wal", ".dagster_home/")


class ScaffoldParams(BaseModel):
    """The arguments of `dg scaffold` besides the name."""

    database: str | None = Field(
        None,
        description=(
            "Path of a DuckDB database, relative to the project, which need not exist: writes "
            'resources.py beside the component, with the resource "duckdb", for a project that has '
            "none yet."
        ),
    )
    example: bool = Field(
        False,
        description=(
            "Whether to write a small file of predictions and a manifest beside the YAML file, so "
            "that the pool can be materialized at once."
        ),
    )


class ActiveLearningScaffolder(dg.Scaffolder[ScaffoldParams]):
    """Writes a YAML file that can be loaded as it is, with every setting in a comment."""

    @classmethod
    def get_scaffold_params(cls) -> type[ScaffoldParams]:
        """The parameters."""
        return ScaffoldParams

    def scaffold(self, request: dg.ScaffoldRequest[ScaffoldParams]) -> None:
        """Write or append the YAML file; in Python, the function that makes the component.

        Raises:
            FileExistsError: If the resource is wanted, but there is a ``resources.py``.
            ValueError: If an example is wanted in Python.
        """
        is_python = request.scaffold_format == "python"
        if is_python and request.params.example:
            raise ValueError("example is true: expected the format yaml, which reads its files")
        if request.params.database is not None:
            _write_resources(request, request.params.database)
        if is_python:
            scaffold_component(request)
            return
        file = request.target_path if request.append else request.target_path / "defs.yaml"
        name = file.parent.name
        pool = re.sub(r"[^A-Za-z0-9_]", "_", name if name[:1].isalpha() else f"pool_{name}")
        example = request.params.example
        text = DEFS_YAML.format(
            type_name=request.type_name,
            pool=pool,
            predictions=EXAMPLE_PREDICTIONS if example else PREDICTIONS,
            images=EXAMPLE_IMAGES if example else IMAGES,
        )
        if example:
            _write_example(file.parent)
        with file.open("a" if request.append else "w", encoding="utf-8") as out:
            out.write(f"---\n{text}" if request.append else text)


def _write_resources(request: dg.ScaffoldRequest[ScaffoldParams], database: str) -> None:
    """The database's resource, and the lines by which git leaves the database alone."""
    file = request.target_path.parent / "resources.py"
    root = request.project_root
    place = f"Path({json.dumps(database)})"
    if root is not None and not Path(database).is_absolute() and file.is_relative_to(root):
        # As many folders up as the file is deep: a clone elsewhere has a database of its own.
        depth = len(file.relative_to(root).parents) - 1
        place = f"Path(__file__).resolve().parents[{depth}] / {json.dumps(database)}"
    with file.open("x", encoding="utf-8") as out:
        out.write(RESOURCES.format(place=place))
    if root is not None:
        ignored = root / ".gitignore"
        lines = ignored.read_text("utf-8").splitlines() if ignored.exists() else []
        missing = [line for line in IGNORED if line not in lines]
        if missing:
            text = "".join(f"{line}\n" for line in [*lines, *missing])
            ignored.write_text(text, encoding="utf-8")


def _write_example(folder: Path) -> None:
    """Predictions of a model of three classes that is not sure, and which images are labeled."""
    chance = random.Random(0)  # noqa: S311 - no secret is made of it
    names = [f"image_{number:02d}.jpg" for number in range(EXAMPLE_SIZE)]
    columns = ",".join(["image_id", *(f"prob_{name}" for name in EXAMPLE_CLASSES)])
    lines = [columns]
    for name in names:
        drawn = [chance.gammavariate(0.7, 1) for _ in EXAMPLE_CLASSES]
        *first, _ = [round(value / sum(drawn), 4) for value in drawn]
        lines.append(",".join([name, *map(str, first), f"{1 - sum(first):.4f}"]))
    (folder / "example_predictions.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    labeled = names[:EXAMPLE_LABELED]
    labels = [chance.choice(EXAMPLE_CLASSES) if name in labeled else "" for name in names]
    rows = [f"{name},{label}" for name, label in zip(names, labels, strict=True)]
    text = "\n".join(["image_id,label", *rows]) + "\n"
    (folder / "example_manifest.csv").write_text(text, encoding="utf-8")
