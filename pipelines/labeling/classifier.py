"""A classifier of digits, trained on the images that a manifest says the labels of."""

import json
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

LABELS = {"label": pl.String}


def predict_digits(manifest: Path, labels: Path, predictions: Path) -> tuple[int, int]:
    """Train on labels, and write class probabilities of the images of a manifest.

    Args:
        manifest: The images.
        labels: A manifest of labeled images, which may be the same file.
        predictions: The Parquet file to write.

    Returns:
        The numbers of images predicted, and of labels trained on.
    """
    images = pl.read_csv(manifest, schema_overrides=LABELS)
    labeled = pl.read_csv(labels, schema_overrides=LABELS).filter(pl.col("label").is_not_null())
    classifier = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1_000))
    classifier.fit(_pixels(labeled["uri"]), labeled["label"].to_numpy())
    class_probs = classifier.predict_proba(_pixels(images["uri"])).astype(np.float32)
    table = pa.table({"image_id": images["image_id"].to_arrow(), "class_probs": list(class_probs)})
    class_names = json.dumps(classifier.classes_.tolist())
    pq.write_table(table.replace_schema_metadata({"class_names": class_names}), predictions)
    return table.num_rows, labeled.height


def _pixels(uris: pl.Series) -> np.ndarray:
    return np.stack([np.asarray(Image.open(uri)).ravel() for uri in uris])
