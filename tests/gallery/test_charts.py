"""Charts of an evaluation: small pictures that have what they are to show."""

from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from dagster_active_learning.gallery import (
    Band,
    Line,
    error_curves,
    learning_curves,
    reliability_diagram,
)

X = np.linspace(0, 1, 10_001)
FIRST, SECOND = (213, 94, 0), (0, 114, 178)
"""The colors of the first two lines."""


def colors(png):
    picture = Image.open(BytesIO(png)).convert("RGB")
    counted = picture.getcolors(picture.width * picture.height) or []
    return picture.size, {color for _, color in counted}


def lines(count):
    return [Line(name=f"a $strange_{number}$ name", x=X, y=X ** (number + 1)) for number in range(count)]  # fmt: skip


@pytest.mark.parametrize("count", [1, 2, 20])
def test_curves_are_drawn_small_with_a_color_each(count):
    png = error_curves(lines(count), lines(count), title="Errors $of_a$ pool " * 20)
    size, found = colors(png)
    assert size == (1000, 420)
    assert FIRST in found
    assert (SECOND in found) == (count > 1)
    assert len(png) < 40_000


def test_a_diagram_leaves_empty_bins_out():
    accuracy = np.array([np.nan, 0.4, np.nan, 0.9])
    confidence = np.array([np.nan, 0.3, np.nan, 0.8])
    png = reliability_diagram(
        {"as it is": (confidence, accuracy), "at temperature 1.50": (confidence, accuracy / 2)},
        np.array([0, 0.25, 0, 0.75]),
        title="Reliability",
    )
    size, found = colors(png)
    assert size == (600, 450)
    assert {FIRST, SECOND} <= found
    assert len(png) < 30_000


@pytest.mark.parametrize("has_intervals", [True, False])
def test_learning_curves_have_their_intervals(has_intervals):
    labels, accuracy = np.array([20.0, 40, 60]), np.array([0.5, 0.7, 0.8])
    half = 0.1 if has_intervals else np.nan
    bands = [
        Band(name=name, x=labels, y=accuracy + shift, low=accuracy + shift - half, high=accuracy + shift + half)
        for name, shift in (("margin", 0), ("random", -0.3))
    ]  # fmt: skip
    size, found = colors(learning_curves(bands, title="Accuracy"))
    assert size == (800, 450)
    assert {FIRST, SECOND} <= found


def test_a_line_that_another_covers_keeps_its_color_in_the_legend():
    same = [Line(name=name, x=X, y=X) for name in ("one", "other")]
    _, found = colors(error_curves(same, same, title="Errors"))
    assert {FIRST, SECOND} <= found
