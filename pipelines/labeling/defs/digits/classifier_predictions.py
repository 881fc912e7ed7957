"""A classifier trained on the labeled images, and what it says about all of them."""

import dagster as dg

from labeling.defs.digits.image_files import FOLDER, MANIFEST, image_files

PREDICTIONS = FOLDER / "predictions.parquet"


@dg.asset(
    key=["digits", "classifier_predictions"],
    deps=[image_files],
    group_name="digits",
    kinds={"scikitlearn", "parquet"},
)
def classifier_predictions() -> dg.MaterializeResult:
    """Class probabilities of a logistic regression that has seen the labeled images only."""
    from labeling.classifier import predict_digits

    predicted, trained_on = predict_digits(MANIFEST, MANIFEST, PREDICTIONS)
    return dg.MaterializeResult(
        metadata={
            "dagster/row_count": predicted,
            "trained_on": trained_on,
            "predictions": dg.MetadataValue.path(PREDICTIONS),
        }
    )
