"""Scenes composed of real digits as files, and the manifest that lists them."""

import dagster as dg

from labeling.paths import DATA_FOLDER

FOLDER = DATA_FOLDER / "digit_scenes"
MANIFEST = FOLDER / "manifest.csv"
SCENES = 200
LABELED_SCENES = 20
SCENE_SIZE = 72
DIGIT_SIZE = 16
MOST_DIGITS = 6
# The detector's classifier learns from the digits before this one, scenes show the others.
FIRST_DIGIT = 900
SEED = 0


@dg.asset(
    key=["digit_scenes", "scene_files"], group_name="digit_scenes", kinds={"scikitlearn", "file"}
)
def scene_files() -> dg.MaterializeResult:
    """Scenes of up to six digits as PNG files, and a manifest of them.

    Digits lie where chance puts them: some overlap, and some scenes have none at all.
    """
    import numpy as np
    import polars as pl
    from PIL import Image
    from sklearn.datasets import load_digits

    digits, _ = load_digits(return_X_y=True)
    random = np.random.default_rng(SEED)
    (FOLDER / "images").mkdir(parents=True, exist_ok=True)
    rows = []
    for number in range(SCENES):
        scene = np.zeros((SCENE_SIZE, SCENE_SIZE))
        for _ in range(random.integers(0, MOST_DIGITS + 1)):
            pixels = digits[random.integers(FIRST_DIGIT, len(digits))].reshape(8, 8)
            x, y = random.integers(0, SCENE_SIZE - DIGIT_SIZE, 2)
            place = scene[y : y + DIGIT_SIZE, x : x + DIGIT_SIZE]
            np.maximum(place, np.kron(pixels, np.ones((2, 2))), out=place)
        image_id = f"scene_{number:03d}"
        path = FOLDER / "images" / f"{image_id}.png"
        Image.fromarray((255 - scene * (255 / 16)).round().astype(np.uint8)).save(path)
        rows.append(
            {
                "image_id": image_id,
                "uri": str(path),
                "width": SCENE_SIZE,
                "height": SCENE_SIZE,
                "labeled": number < LABELED_SCENES,
            }
        )
    pl.DataFrame(rows).write_csv(MANIFEST)
    return dg.MaterializeResult(
        metadata={"dagster/row_count": SCENES, "manifest": dg.MetadataValue.path(MANIFEST)}
    )
