"""The pool, its model and the server: batches go to Label Studio, and labels come back."""

import os

import dagster as dg

from dagster_active_learning import (
    LabelingBatch,
    LabelStudio,
    LabelStudioResource,
    PoolImages,
    PredictionFiles,
    active_learning_definitions,
)
from labeling.defs.digits.image_files import MANIFEST, image_files
from labeling.paths import DATA_FOLDER

FOLDER = DATA_FOLDER / "labeled_digits"
PREDICTIONS = FOLDER / "predictions.parquet"
LABELS = FOLDER / "labels.csv"


@dg.asset(
    key=["labeled_digits", "classifier_predictions"],
    deps=[image_files],
    group_name="labeled_digits",
    kinds={"scikitlearn", "parquet"},
)
def classifier_predictions() -> dg.MaterializeResult:
    """Class probabilities of a logistic regression that has seen what people said so far.

    It reads the file that ``labeled_digits/labels`` writes, and does not depend on that asset: the
    loop would be one of assets, too.
    """
    from labeling.classifier import predict_digits

    FOLDER.mkdir(parents=True, exist_ok=True)
    labels = LABELS if LABELS.exists() else MANIFEST
    predicted, trained_on = predict_digits(MANIFEST, labels, PREDICTIONS)
    return dg.MaterializeResult(metadata={"dagster/row_count": predicted, "trained_on": trained_on})


@dg.definitions
def labeled_digits() -> dg.Definitions:
    """The pool where there is a server, and nothing where there is none."""
    if "LABEL_STUDIO_URL" not in os.environ:
        return dg.Definitions()
    pool = active_learning_definitions(
        pool="labeled_digits",
        predictions=PredictionFiles(PREDICTIONS, "parquet", deps=[classifier_predictions.key]),
        images=PoolImages(MANIFEST, deps=[image_files.key]),
        batch=LabelingBatch(size=20),
        labeling=LabelStudio(
            project="digits",
            # A digit has some hundred bytes: the server needs no way to the files.
            embed_max_bytes=10_000,
            export=LABELS,
            default_status=dg.DefaultSensorStatus.RUNNING,
        ),
    )
    server = LabelStudioResource(
        url=dg.EnvVar("LABEL_STUDIO_URL"), token=dg.EnvVar("LABEL_STUDIO_TOKEN")
    )
    model = dg.Definitions(assets=[classifier_predictions], resources={"label_studio": server})
    return dg.Definitions.merge(pool, model)
