"""The images of the pool as files, and the manifest that lists them."""

from typing import Any

import dagster as dg

from labeling.paths import DATA_FOLDER

FOLDER = DATA_FOLDER / "digits"
MANIFEST = FOLDER / "manifest.csv"
LABELED_IMAGES = 50
SEED = 0


@dg.asset(key=["digits", "image_files"], group_name="digits", kinds={"scikitlearn", "file"})
def image_files() -> dg.MaterializeResult:
    """The digits of scikit-learn as PNG files of 8 x 8 pixels, and a manifest of them.

    Fifty, as many of each digit, are marked as labeled; the labels of the others are left out, as
    if nobody had given them yet.
    """
    import numpy as np
    import polars as pl
    from PIL import Image
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    digits: Any = load_digits()
    labeled, _ = train_test_split(
        np.arange(len(digits.images)),
        train_size=LABELED_IMAGES,
        stratify=digits.target,
        random_state=SEED,
    )
    (FOLDER / "images").mkdir(parents=True, exist_ok=True)
    rows = []
    for position, pixels in enumerate(digits.images):
        image_id = f"digit_{position:04d}"
        path = FOLDER / "images" / f"{image_id}.png"
        # The data set has 17 shades from 0 (white) to 16 (black).
        Image.fromarray((255 - pixels * (255 / 16)).round().astype(np.uint8)).save(path)
        is_labeled = position in labeled
        rows.append(
            {
                "image_id": image_id,
                "uri": str(path),
                "width": pixels.shape[1],
                "height": pixels.shape[0],
                "labeled": is_labeled,
                "label": str(digits.target[position]) if is_labeled else None,
            }
        )
    pl.DataFrame(rows).write_csv(MANIFEST)
    return dg.MaterializeResult(
        metadata={
            "dagster/row_count": len(rows),
            "labeled": LABELED_IMAGES,
            "manifest": dg.MetadataValue.path(MANIFEST),
        }
    )
