"""What a detector finds in the scenes."""

import json

import dagster as dg

from labeling.defs.digit_scenes.scene_files import FIRST_DIGIT, FOLDER, MANIFEST, scene_files

DETECTIONS = FOLDER / "detections.jsonl"
CLASS_NAMES = [str(digit) for digit in range(10)]


@dg.asset(
    key=["digit_scenes", "detections"],
    deps=[scene_files],
    group_name="digit_scenes",
    kinds={"scikitlearn", "json"},
)
def detections() -> dg.MaterializeResult:
    """What the detector finds in every scene: a box and ten class probabilities an object."""
    import numpy as np
    import polars as pl
    from PIL import Image

    from labeling.detector import find_parts, train_classifier

    # From digits that no scene shows.
    classifier = train_classifier(FIRST_DIGIT)
    manifest = pl.read_csv(MANIFEST)
    objects = 0
    with DETECTIONS.open("w", encoding="utf-8") as lines:
        for image_id, uri in manifest.select("image_id", "uri").iter_rows():
            for bbox, pixels in find_parts(np.asarray(Image.open(uri))):
                class_probs = classifier.predict_proba(pixels)[0]
                detection = {
                    "image_id": image_id,
                    "bbox": bbox,
                    "category": CLASS_NAMES[int(class_probs.argmax())],
                    "class_probs": class_probs.tolist(),
                }
                lines.write(json.dumps(detection) + "\n")
                objects += 1
    return dg.MaterializeResult(
        metadata={
            "dagster/row_count": objects,
            "detections": dg.MetadataValue.path(DETECTIONS),
        }
    )
