"""Boxes and masks stand where they are in the upright picture."""

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dagster_active_learning.exporters.masks import run_lengths_of
from dagster_active_learning.gallery.thumbnails import Placement
from dagster_active_learning.report.contents import PageObject
from dagster_active_learning.report.objects import drawn_object

UPRIGHT = Placement(stored_size=(200, 100), orientation=1)
NUMBER = r"-?[\d.]+"


def drawn(placement=UPRIGHT, unit="pixel", image_size=None, **settings):
    found = PageObject(**{"label": "car", "score": 0.5, **settings})
    return drawn_object(found, {"tree": 0}, placement, unit, image_size)


def points_of(path):
    """The corners of an outline in a path."""
    return [
        [float(number) for number in pair.split()]
        for pair in path.removeprefix("M").removesuffix("Z").split("L")
    ]


def painted(path, shape):
    """The pixels that the bars of a path cover, at their centers."""
    pixels = np.zeros(shape, bool)
    for bar in re.findall(rf"M({NUMBER}) ({NUMBER})h({NUMBER})v({NUMBER})h{NUMBER}z", path):
        x, y, width, height = map(float, bar)
        top, left = y * shape[0], x * shape[1]
        pixels[
            round(top) : round(top + height * shape[0]),
            round(left) : round(left + width * shape[1]),
        ] = True
    return pixels


def test_a_class_the_page_does_not_know_is_added_to_its_classes():
    classes = {"tree": 0}
    found = PageObject(label="car", score=0.12345)
    assert drawn_object(found, classes, UPRIGHT, "pixel", None) == [1, 0.123, None, None]
    assert classes == {"tree": 0, "car": 1}


@pytest.mark.parametrize(
    ("bbox", "unit", "corners"),
    [
        ((20, 10, 40, 30), "pixel", [0.1, 0.1, 0.3, 0.4]),
        ((0.1, 0.1, 0.2, 0.3), "relative", [0.1, 0.1, 0.3, 0.4]),
        ((-20, 50, 400, 100), "pixel", [0, 0.5, 1, 1]),
        ((300, 10, 10, 10), "pixel", None),
        ((10, 10, -5, 5), "pixel", None),
        ((float("nan"), 0, 1, 1), "pixel", None),
    ],
)
def test_a_box_is_shares_of_the_picture(bbox, unit, corners):
    made = drawn(bbox=bbox, unit=unit)[2]
    assert made == (corners if corners is None else pytest.approx(corners))


def test_an_outline_is_a_path_and_only_some_of_many_points_are_drawn():
    path = drawn(mask=[[0, 0, 100, 0, 100, 50, 0, 50]])[3]
    assert points_of(path) == [[0, 0], [0.5, 0], [0.5, 0.5], [0, 0.5]]
    angles = np.linspace(0, 2 * np.pi, 5_000)
    circle = np.stack([100 + 50 * np.cos(angles), 50 + 40 * np.sin(angles)], axis=1)
    points = points_of(drawn(mask=[circle.ravel().tolist()])[3])
    assert 40 <= len(points) <= 80
    radii = [((x * 200 - 100) / 50) ** 2 + ((y * 100 - 50) / 40) ** 2 for x, y in points]
    assert radii == pytest.approx([1] * len(points), abs=0.02)


@given(st.data())
def test_run_lengths_cover_the_pixels_of_the_mask(data):
    shape = data.draw(st.tuples(st.integers(1, 20), st.integers(1, 20)))
    bits = data.draw(
        st.lists(st.booleans(), min_size=shape[0] * shape[1], max_size=shape[0] * shape[1])
    )
    pixels = np.array(bits).reshape(shape)
    path = drawn(mask=run_lengths_of(pixels))[3]
    np.testing.assert_array_equal(painted(path or "", shape), pixels)


TURNS = {
    1: lambda image: image,
    2: lambda image: image[:, ::-1],
    3: lambda image: image[::-1, ::-1],
    4: lambda image: image[::-1],
    5: lambda image: image.T,
    6: lambda image: image.T[:, ::-1],
    7: lambda image: image.T[::-1, ::-1],
    8: lambda image: image.T[::-1],
}


@pytest.mark.parametrize("orientation", [5, 6, 7, 8])
def test_masks_outlines_and_boxes_of_the_stored_image_are_turned_with_it(orientation):
    """As an array is turned, which is the reference: a rectangle of pixels of the stored image."""
    stored = np.zeros((6, 10), bool)
    stored[1:3, 2:7] = True
    upright = TURNS[orientation](stored)
    placement = Placement(stored_size=(10, 6), orientation=orientation)
    _, _, corners, path = drawn(
        placement, bbox=(2, 1, 5, 2), mask=run_lengths_of(stored), image_size=(10, 6)
    )
    np.testing.assert_array_equal(painted(path, upright.shape), upright)
    rows, columns = np.nonzero(upright)
    expected = [columns.min() / 6, rows.min() / 10, (columns.max() + 1) / 6, (rows.max() + 1) / 10]
    assert corners == pytest.approx(expected, abs=1e-3)
    outline = points_of(drawn(placement, mask=[[2, 1, 7, 1, 7, 3, 2, 3]], image_size=(10, 6))[3])
    xs, ys = zip(*outline, strict=True)
    assert [min(xs), min(ys), max(xs), max(ys)] == pytest.approx(expected, abs=1e-3)


def test_a_large_mask_is_drawn_with_few_rows():
    pixels = np.zeros((3_000, 2_000), bool)
    pixels[1_000:2_000, 500:1_500] = True
    path = drawn(Placement(stored_size=(2_000, 3_000), orientation=1), mask=run_lengths_of(pixels))[
        3
    ]
    assert path.count("M") <= 72
    assert painted(path, (3_000, 2_000)).mean() == pytest.approx(pixels.mean(), abs=0.01)


@pytest.mark.parametrize(
    "mask",
    [
        {"size": [2, 2], "counts": [1, 2]},
        {"size": [2], "counts": [1]},
        {"size": [2, 2], "counts": "\x7f"},
        {"size": ["a", "b"], "counts": [1]},
        {"size": [0, 0], "counts": []},
        {"size": [1_000_000, 1_000_000], "counts": [0, 10**12]},
        {"size": [20_000, 10_000], "counts": [0, 2 * 10**8]},
        {"size": [10**400, 1], "counts": [10**400]},
        {"size": None, "counts": []},
        {"size": 4, "counts": [4]},
        [[1, 2]],
        [[float("nan")] * 6],
        [[1, 2, 3, 4, float("inf"), 6]],
        [],
        None,
    ],
)
def test_what_is_no_mask_is_not_drawn(mask):
    assert drawn(mask=mask)[3] is None
