"""The histogram shows all counts, where the cut is and which side of it is labeled first."""

import subprocess
import sys
from io import BytesIO

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from dagster_active_learning.gallery import score_histogram
from dagster_active_learning.gallery.histogram import MIN_BYTES, _Axis, _candidate_bins

OTHERS, CUT_BIN, CANDIDATES = (143, 153, 168), (235, 167, 118), (213, 94, 0)
CUT, SHADE, PAPER = (163, 71, 0), (252, 235, 223), (255, 255, 255)

EDGES = np.linspace(0, 1, 11)


def draw(counts, edges=EDGES, *, max_bytes=15_000, **values) -> np.ndarray:
    given = {"cut": 0.6, "label_first": "highest", "title": "Entropy", "score_label": "bits"}
    content = score_histogram(counts, edges, max_bytes=max_bytes, **given | values)
    assert len(content) <= max_bytes
    with Image.open(BytesIO(content)) as image:
        assert (image.format, image.size) == ("PNG", (1000, 300))
        return np.asarray(image.convert("RGB"), int)


def heights(pixels, color) -> np.ndarray:
    """How many pixels of a color each column of the picture has."""
    return (np.abs(pixels - color).max(axis=-1) <= 10).sum(axis=0)


def test_bars_are_as_high_as_the_counts_and_colored_by_the_side_of_the_cut():
    counts = np.array([50, 40, 30, 20, 10, 20, 30, 40, 45, 50])
    # Below the words at the cut: their edges may have a bar's color.
    pixels = draw(counts, cut=EDGES[6])[60:]
    others, candidates = heights(pixels, OTHERS), heights(pixels, CANDIDATES)
    filled = np.nonzero(others + candidates > 20)[0]
    width = (filled.max() - filled.min() + 1) / 10
    middles = (filled.min() + (np.arange(10) + 0.5) * width).astype(int)
    drawn = (others + candidates)[middles]
    assert np.abs(drawn / drawn.max() - counts / 50).max() < 0.03
    assert (others[middles][:6] > 0).all()
    assert not others[middles][6:].any()
    assert not candidates[middles][:6].any()


@pytest.mark.parametrize(
    ("label_first", "shaded"), [("highest", slice(6, 10)), ("lowest", slice(0, 6))]
)
def test_the_side_that_is_labeled_first_is_shaded(label_first, shaded):
    pixels = draw(np.full(10, 5), cut=EDGES[6], label_first=label_first)
    columns = np.nonzero(heights(pixels, OTHERS) + heights(pixels, CANDIDATES) > 5)[0]
    width = (columns.max() - columns.min() + 1) / 10
    middles = (columns.min() + (np.arange(10) + 0.5) * width).astype(int)
    is_shaded = heights(pixels, SHADE)[middles] > 10
    expected = np.zeros(10, bool)
    expected[shaded] = True
    assert is_shaded.tolist() == expected.tolist()


@pytest.mark.parametrize("cut", [0.0, 0.25, 0.6, 1.0, -0.5, 2.0])
def test_the_cut_is_a_line_at_its_place(cut):
    pixels = draw(np.full(10, 5), cut=cut, label_first="lowest")
    line = np.nonzero(heights(pixels, CUT) > 150)[0]
    assert 1 <= line.size <= 3
    if 0 <= cut <= 1:
        bars = sum(heights(pixels, color) for color in (OTHERS, CANDIDATES, CUT_BIN))
        columns = np.nonzero(bars > 50)[0]
        place = (line.mean() - columns.min()) / (columns.max() - columns.min())
        assert place == pytest.approx(cut, abs=0.01)


def test_histograms_of_few_and_of_many_images_have_the_same_scale():
    few, many = (heights(draw(np.full(10, count)), OTHERS) for count in (5, 50_000_000))
    assert np.nonzero(few > 50)[0].tolist() == np.nonzero(many > 50)[0].tolist()


def test_without_candidates_there_is_no_cut():
    pixels = draw(np.full(10, 5), cut=None)
    assert not any(heights(pixels, color).any() for color in (CUT, CUT_BIN, CANDIDATES, SHADE))
    assert heights(pixels, OTHERS).any()


def test_few_images_are_seen_beside_very_many():
    pixels = draw([100_000_000] + [0] * 8 + [1], cut=0.95)
    assert heights(pixels, CUT_BIN).max() > 5


@given(
    scores=st.lists(st.integers(0, 20), min_size=1, max_size=30),
    bins=st.integers(1, 7),
    label_first=st.sampled_from(["highest", "lowest"]),
    data=st.data(),
)
@settings(max_examples=300, deadline=None)
def test_bins_are_on_the_side_of_the_cut_that_their_scores_are_on(scores, bins, label_first, data):
    cut = data.draw(st.sampled_from(scores))
    edges = np.histogram_bin_edges(scores, bins)
    inside, partly = _candidate_bins(edges, float(cut), label_first)
    assert not (inside & partly).any()
    assert partly.sum() <= 1
    for score in scores:
        counts, _ = np.histogram([score], edges)
        place = int(counts.argmax())
        is_candidate = score >= cut if label_first == "highest" else score <= cut
        if not partly[place]:
            assert inside[place] == is_candidate


@pytest.mark.parametrize(
    ("axis", "most", "whole", "expected"),
    [
        (_Axis(0, 1, 0, 100), 5, False, [(0, "0.0"), (20, "0.2"), (40, "0.4"), (60, "0.6"), (80, "0.8"), (100, "1.0")]),
        (_Axis(0, 1, 0, 100), 5, True, [(0, "0"), (100, "1")]),
        (_Axis(0, 3.75, 0, 375), 5, True, [(0, "0"), (100, "1"), (200, "2"), (300, "3")]),
        (_Axis(-300, 300, 0, 600), 3, False, [(100, "-200"), (300, "0"), (500, "200")]),
        (_Axis(1e6, 1e6 + 0.02, 0, 200), 2, False, [(0, "1,000,000.00"), (100, "1,000,000.01"), (200, "1,000,000.02")]),
        (_Axis(0.5, 4e3, 0, 390, True), 5, True, [(30, "1"), (130, "10"), (230, "100"), (330, "1,000")]),
        (_Axis(1, 1e12, 0, 120, True), 5, True, [(0, "1"), (30, "1,000"), (60, "1,000,000"), (90, "1,000,000,000"), (120, "1e+12")]),
        (_Axis(0, 5e-324, 0, 100), 5, False, [(0, "0")]),
    ],
)  # fmt: skip
def test_an_axis_has_round_numbers_at_their_places(axis, most, whole, expected):
    assert axis.numbers(most, whole=whole) == expected


HOSTILE = ["", "$x_{$", "a\nb", "\u202e", "人" * 50, "x" * 10_000, "\ud800", "%s {0}"]


@given(
    counts=st.lists(st.integers(0, 10) | st.integers(0, 10**12), min_size=1, max_size=300),
    low=st.floats(-1e6, 1e6),
    width=st.floats(1e-3, 1e6),
    cut=st.none() | st.floats(-1e7, 1e7),
    label_first=st.sampled_from(["highest", "lowest"]),
    title=st.sampled_from(HOSTILE) | st.text(max_size=20),
    max_bytes=st.sampled_from([MIN_BYTES, 15_000]),
)
@settings(max_examples=40, deadline=None)
def test_any_counts_are_a_valid_png_below_the_limit(
    counts, low, width, cut, label_first, title, max_bytes
):
    edges = np.linspace(low, low + width, len(counts) + 1)
    draw(counts, edges, cut=cut, label_first=label_first, title=title, score_label=title, max_bytes=max_bytes)  # fmt: skip


def test_very_many_bins_are_below_the_limit():
    counts = np.random.default_rng(0).integers(0, 100, 10_000)
    draw(counts, np.linspace(0, 1, 10_001), max_bytes=MIN_BYTES)


@pytest.mark.parametrize(
    ("counts", "edges", "values", "words"),
    [
        ([], [0], {}, r"counts have shape \(0,\)"),
        ([1, 2], [0, 1], {}, r"edges \(2,\)"),
        ([[1, 2]], [0, 1, 2], {}, "expected"),
        ([1, 2], [0, 1, 1], {}, "edges are not finite and rising"),
        ([1, 2], [0, 1, np.nan], {}, "edges are not finite and rising"),
        ([1, -2], [0, 1, 2], {}, "counts are not finite numbers from 0 on"),
        ([1, np.nan], [0, 1, 2], {}, "counts are not finite numbers from 0 on"),
        ([1, 2], [0, 1, 2], {"cut": np.nan}, "cut is nan"),
        ([1, 2], [0, 1, 2], {"max_bytes": 10}, "max_bytes is 10"),
    ],
)
def test_wrong_input_is_refused(counts, edges, values, words):
    with pytest.raises(ValueError, match=words):
        draw(counts, edges, **values)


def test_a_histogram_takes_no_second_to_import():
    code = (
        "import sys\n"
        "from dagster_active_learning.gallery import score_histogram\n"
        "score_histogram([1, 2], [0, 1, 2], cut=1, label_first='lowest', title='', score_label='', max_bytes=15000)\n"
        "assert 'matplotlib' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
