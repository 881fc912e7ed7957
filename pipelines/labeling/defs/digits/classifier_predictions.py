"""A classifier trained on the labeled images, and what it says about all of them."""

import json

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
    import numpy as np
    import polars as pl
    import pyarrow as pa
    import pyarrow.parquet as pq
    from PIL import Image
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    manifest = pl.read_csv(MANIFEST, schema_overrides={"label": pl.String})
    pixels = np.stack([np.asarray(Image.open(uri)).ravel() for uri in manifest["uri"]])
    labeled = manifest["labeled"].to_numpy()
    classifier = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1_000))
    classifier.fit(pixels[labeled], manifest["label"].to_numpy()[labeled])

    class_probs = classifier.predict_proba(pixels).astype(np.float32)
    predictions = pa.table(
        {"image_id": manifest["image_id"].to_arrow(), "class_probs": list(class_probs)}
    )
    class_names = json.dumps(classifier.classes_.tolist())
    pq.write_table(predictions.replace_schema_metadata({"class_names": class_names}), PREDICTIONS)
    return dg.MaterializeResult(
        metadata={
            "dagster/row_count": predictions.num_rows,
            "trained_on": int(labeled.sum()),
            "predictions": dg.MetadataValue.path(PREDICTIONS),
        }
    )
