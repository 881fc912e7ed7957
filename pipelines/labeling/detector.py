"""A detector: connected parts of a scene, each given class probabilities by a classifier."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from PIL import Image
from scipy import ndimage
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

DARK = 60
SMALLEST_SIDE = 4


def train_classifier(n_digits: int) -> Pipeline:
    """A classifier of digits cut out as ``find_parts`` cuts them, from the first digits."""
    digits, labels = load_digits(return_X_y=True)
    cut = []
    for digit in digits[:n_digits]:
        image = (255 - np.kron(digit.reshape(8, 8), np.ones((2, 2))) * (255 / 16)).round()
        whole = ndimage.find_objects((image < 255 - DARK).astype(np.uint8))[0]
        cut.append(as_pixels(image.astype(np.uint8), whole))
    classifier = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1_000))
    return classifier.fit(np.concatenate(cut), labels[:n_digits])


def find_parts(scene: np.ndarray[Any, Any]) -> Iterator[tuple[list[int], np.ndarray[Any, Any]]]:
    """The connected dark parts of a scene: x, y, width and height, and 64 pixels of each."""
    labeled: Any = ndimage.label(scene < 255 - DARK, structure=np.ones((3, 3)))
    for rows, columns in ndimage.find_objects(labeled[0]):
        height, width = rows.stop - rows.start, columns.stop - columns.start
        if max(height, width) >= SMALLEST_SIDE:
            bbox = [int(columns.start), int(rows.start), int(width), int(height)]
            yield bbox, as_pixels(scene, (rows, columns))


def as_pixels(image: np.ndarray[Any, Any], part: tuple[slice, slice]) -> np.ndarray[Any, Any]:
    """A part of an image as one row of 8 x 8 pixels, its longer side filling them."""
    cut = image[part]
    height, width = len(cut), len(cut[0])
    side = max(height, width)
    square = np.full((side, side), 255, dtype=np.uint8)
    top, left = (side - height) // 2, (side - width) // 2
    square[top : top + height, left : left + width] = cut
    resized = Image.fromarray(square).resize((8, 8), Image.Resampling.BOX)
    return np.asarray(resized, dtype=np.float64).reshape(1, -1)
