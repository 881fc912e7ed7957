"""The candidates' scores among the scores of all images."""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from PIL import Image, ImageDraw

from dagster_active_learning.gallery.png import encode_png, frequent_colors
from dagster_active_learning.gallery.text import load_font, number_text, shorten

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    _Floats = npt.NDArray[np.float64]

MIN_BYTES = 12_000
"""The size of a histogram in its fewest colors is below this."""

_SIZE = (1000, 300)
_WORDS_WIDTH = 850
_LEFT, _TOP, _RIGHT, _BOTTOM = 110, 30, 985, 248
"""The edges of the plot; left of it is room for counts up to 100,000,000."""

_MIDDLE_OF_COUNT_LABEL = 16
_BASE_OF_SCORES = 267
_BASE_OF_SCORE_LABEL = 287
_GAP = 8
_COLORS = (32, 16, 8)

_GROUND = "#f0f1f3"
_PAPER = "#ffffff"
_TEXT = "#1c1e22"
_MUTED = "#686c74"
_GRID = "#e2e4e8"
_OTHERS = "#8f99a8"
_CANDIDATES = "#d55e00"
_CUT_BIN = "#eba776"
_CUT = "#a34700"
_SHADE = "#fcebdf"

_MOST_COUNTS, _MOST_SCORES = 5, 7
_LONGEST_NUMBER = 14

# The plot is about 200 pixels high: next to a bar 200 times as high, a bar is not seen.
_SEEN_ON_LINEAR_SCALE = 200


def score_histogram(
    counts: npt.ArrayLike,
    edges: npt.ArrayLike,
    *,
    cut: float | None,
    label_first: Literal["highest", "lowest"],
    title: str,
    score_label: str,
    max_bytes: int,
) -> bytes:
    """Draw the number of images per score as a PNG 1000 pixels wide on a light ground.

    The score at the cut, that of the last candidate, has a line. The candidates' side is shaded,
    and the bin that the cut is in has a color between. Counts have a logarithmic scale if the
    lowest bar could not be seen next to the highest.

    Args:
        counts: The number of images in each bin, shape (n_bins,), as from ``numpy.histogram``.
        edges: The bins' edges, rising, shape (n_bins + 1,), in the unit of the score.
        cut: The score of the last candidate; None if there is no candidate with a score.
        label_first: The end of the scale that is labeled first, so the side of the candidates.
        title: The words above the plot.
        score_label: The score's formula, and its unit.
        max_bytes: The most bytes that the PNG may have. One that is too large gets fewer colors.

    Raises:
        ValueError: If counts, edges or the cut are not of this kind, or ``max_bytes`` is below
            ``MIN_BYTES``.
    """
    import numpy as np

    if max_bytes < MIN_BYTES:
        raise ValueError(f"max_bytes is {max_bytes}, expected at least {MIN_BYTES}")
    heights, bounds = _checked(counts, edges)
    if cut is not None and not np.isfinite(cut):
        raise ValueError(f"cut is {cut}, expected a finite score or None")

    picture = _plot(heights, bounds, cut, label_first, title, score_label)
    content = b""
    for colors in _COLORS:
        content = encode_png(picture, frequent_colors(picture, colors))
        if len(content) <= max_bytes:
            break
    return content


def _checked(counts: npt.ArrayLike, edges: npt.ArrayLike) -> tuple[_Floats, _Floats]:
    import numpy as np

    heights, bounds = np.asarray(counts, np.float64), np.asarray(edges, np.float64)
    if heights.ndim != 1 or not heights.size or bounds.shape != (heights.size + 1,):
        raise ValueError(
            f"counts have shape {heights.shape} and edges {bounds.shape}: "
            "expected (n_bins,) and (n_bins + 1,), n_bins at least 1"
        )
    if not np.isfinite(bounds).all() or (np.diff(bounds) <= 0).any():
        raise ValueError("edges are not finite and rising: expected what numpy.histogram returns")
    if not np.isfinite(heights).all() or (heights < 0).any():
        raise ValueError("counts are not finite numbers from 0 on")
    return heights, bounds


@dataclass(frozen=True)
class _Axis:
    """A scale: the values at its ends, and the pixels where those are."""

    low: float
    high: float
    first_pixel: int
    last_pixel: int
    is_logarithmic: bool = False

    def pixels(self, values: npt.ArrayLike) -> npt.NDArray[np.int64]:
        """The places of values, those outside at the ends."""
        import numpy as np

        within = np.clip(values, self.low, self.high)
        low, high = self.low, self.high
        if self.is_logarithmic:
            within, low, high = np.log10(within), math.log10(low), math.log10(high)
        length = self.last_pixel - self.first_pixel
        return np.rint(self.first_pixel + (within - low) / (high - low) * length).astype(np.int64)

    def numbers(self, most: int, *, whole: bool = False) -> list[tuple[int, str]]:
        """The places of round numbers, ``most`` or one more, and what is written there."""
        if self.is_logarithmic:
            powers = range(math.ceil(math.log10(self.low)), math.floor(math.log10(self.high)) + 1)
            step = -(-len(powers) // most)
            values, decimals = [10.0**power for power in powers[::step]], 0
        else:
            # The smallest of 1, 2, 5, 10, 20, … that is not too small.
            least = max((self.high - self.low) / most, 1 if whole else sys.float_info.min)
            power = math.floor(math.log10(least))
            step = next(size for size in (1, 2, 5, 10) if size >= least / 10.0**power - 1e-9)
            step, decimals = step * 10.0**power, max(-power, 0)
            steps = range(math.ceil(self.low / step), math.floor(self.high / step) + 1)
            values = [position * step for position in steps]
        places = self.pixels(values).tolist()
        return [
            (place, _number_text(value, decimals))
            for place, value in zip(places, values, strict=True)
        ]


def _number_text(value: float, decimals: int) -> str:
    text = f"{value:,.{decimals}f}"
    return text if len(text) <= _LONGEST_NUMBER else f"{value:.3g}"


def _plot(
    heights: _Floats,
    bounds: _Floats,
    cut: float | None,
    label_first: str,
    title: str,
    score_label: str,
) -> Image.Image:
    picture = Image.new("RGB", _SIZE, _GROUND)
    draw = ImageDraw.Draw(picture)
    score_axis, count_axis = _score_axis(bounds, cut), _count_axis(heights)
    draw.rectangle((_LEFT, _TOP, _RIGHT, _BOTTOM), _PAPER)
    cut_place = None if cut is None else int(score_axis.pixels(cut))
    if cut_place is not None:
        side = (_LEFT, cut_place) if label_first == "lowest" else (cut_place, _RIGHT)
        draw.rectangle((side[0], _TOP, side[1], _BOTTOM), _SHADE)
    _draw_numbers(draw, score_axis, count_axis)
    colors = _bar_colors(bounds, cut, label_first)
    _draw_bars(draw, heights, score_axis.pixels(bounds), count_axis, colors)
    draw.line((_LEFT, _BOTTOM, _RIGHT, _BOTTOM), _MUTED)
    if cut is not None and cut_place is not None:
        draw.rectangle((cut_place - 1, _TOP, cut_place, _BOTTOM), _CUT)
        words = f"cut: {'up to' if label_first == 'lowest' else 'from'} {number_text(cut)}"
        in_left_half = cut_place < (_LEFT + _RIGHT) / 2
        at = (cut_place + (_GAP if in_left_half else -_GAP), _TOP + _GAP)
        anchor = "la" if in_left_half else "ra"
        draw.text(at, words, _CUT, load_font(12, bold=True), anchor)
    bold, plain = load_font(15, bold=True), load_font(12)
    title = shorten(title, bold, _WORDS_WIDTH)
    draw.text((_LEFT, _TOP - _GAP), title, _TEXT, bold, "ls")
    score_label = shorten(score_label, plain, _WORDS_WIDTH)
    draw.text((_SIZE[0] / 2, _BASE_OF_SCORE_LABEL), score_label, _MUTED, plain, "ms")
    _draw_upwards(picture, "images (log scale)" if count_axis.is_logarithmic else "images")
    return picture


def _score_axis(bounds: _Floats, cut: float | None) -> _Axis:
    margin = float(bounds[-1] - bounds[0]) * 0.02
    ends = [float(bounds[0]), float(bounds[-1]), *([] if cut is None else [cut])]
    return _Axis(min(ends) - margin, max(ends) + margin, _LEFT, _RIGHT)


def _count_axis(heights: _Floats) -> _Axis:
    bars = heights[heights > 0]
    if bars.size and bars.max() > _SEEN_ON_LINEAR_SCALE * bars.min():
        return _Axis(float(bars.min()) / 2, float(bars.max()) * 4, _BOTTOM, _TOP, True)
    return _Axis(0, max(float(heights.max()) * 1.25, 1), _BOTTOM, _TOP)


def _draw_numbers(draw: ImageDraw.ImageDraw, score_axis: _Axis, count_axis: _Axis) -> None:
    font = load_font(12)
    for place, text in count_axis.numbers(_MOST_COUNTS, whole=True):
        draw.line((_LEFT, place, _RIGHT, place), _GRID)
        draw.text((_LEFT - _GAP, place), text, _MUTED, font, "rm")
    for place, text in score_axis.numbers(_MOST_SCORES):
        draw.text((place, _BASE_OF_SCORES), text, _MUTED, font, "ms")


def _draw_bars(
    draw: ImageDraw.ImageDraw,
    heights: _Floats,
    edges: npt.NDArray[np.int64],
    count_axis: _Axis,
    colors: list[str],
) -> None:
    """Draw a bar for each bin that is not empty, a pixel wide and high at the least."""
    tops = count_axis.pixels(heights)
    bars = zip(edges[:-1].tolist(), edges[1:].tolist(), tops.tolist(), colors, strict=True)
    for (left, right, top, color), height in zip(bars, heights.tolist(), strict=True):
        if height:
            draw.rectangle((left, min(top, _BOTTOM - 1), max(right - 1, left), _BOTTOM), color)


def _draw_upwards(picture: Image.Image, words: str) -> None:
    """Write left of the plot, from below."""
    font = load_font(12)
    across = Image.new("RGB", (math.ceil(font.getlength(words)), 20), _GROUND)
    ImageDraw.Draw(across).text((0, 10), words, _MUTED, font, "lm")
    upwards = across.rotate(90, expand=True)
    picture.paste(
        upwards,
        (_MIDDLE_OF_COUNT_LABEL - upwards.width // 2, (_TOP + _BOTTOM - upwards.height) // 2),
    )


def _bar_colors(bounds: _Floats, cut: float | None, label_first: str) -> list[str]:
    inside, partly = _candidate_bins(bounds, cut, label_first)
    return [
        _CANDIDATES if is_inside else _CUT_BIN if is_partly else _OTHERS
        for is_inside, is_partly in zip(inside.tolist(), partly.tolist(), strict=True)
    ]


def _candidate_bins(
    bounds: _Floats, cut: float | None, label_first: str
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Bins wholly on the candidates' side of the cut, and the bin that the cut is in."""
    import numpy as np

    lower, upper = bounds[:-1], bounds[1:].copy()
    if cut is None:
        return np.zeros(lower.size, np.bool_), np.zeros(lower.size, np.bool_)
    # The upper edge belongs to the next bin, the last one to its own.
    upper[-1] = np.nextafter(upper[-1], np.inf)
    if label_first == "lowest":
        return upper <= cut, (lower <= cut) & (cut < upper)
    return lower >= cut, (lower < cut) & (cut < upper)
