"""The candidates' scores among the scores of all images."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from PIL import Image

from dagster_active_learning.gallery.png import encode_png, frequent_colors
from dagster_active_learning.gallery.text import load_font, number_text, shorten

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from matplotlib.axes import Axes

    _Floats = npt.NDArray[np.float64]

MIN_BYTES = 12_000
"""The size of a histogram in its fewest colors is below this."""

_SIZE = (10.0, 3.0)
_PIXELS_PER_INCH = 100
_WORDS_WIDTH = 850
# The place of the plot, left, bottom, width and height as shares, and of the words next to it, for
# counts up to 100,000,000. If matplotlib looks for places itself, that takes as long as all the
# rest, 40 ms.
_PLOT = (0.11, 0.175, 0.875, 0.725)
_SCORE_LABEL = (0.5, 0.08)
_COUNT_LABEL = (0.024, 0.535)
_COLORS = (32, 16, 8)

_GROUND = "#f0f1f3"
_TEXT = "#1c1e22"
_MUTED = "#686c74"
_GRID = "#e2e4e8"
_OTHERS = "#8f99a8"
_CANDIDATES = "#d55e00"
_CUT_BIN = "#eba776"
_CUT = "#a34700"
_SHADE = "#fcebdf"

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


def _plot(
    heights: _Floats,
    bounds: _Floats,
    cut: float | None,
    label_first: str,
    title: str,
    score_label: str,
) -> Image.Image:
    import numpy as np

    # Heavy, and without pyplot, which keeps figures in global state.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(_SIZE, dpi=_PIXELS_PER_INCH, facecolor=_GROUND)
    canvas = FigureCanvasAgg(figure)
    axes = figure.add_axes(_PLOT, facecolor="white")
    # matplotlib's points are 1.4 pixels here; words wider than the picture would leave no plot.
    title = shorten(title, load_font(16, bold=True), _WORDS_WIDTH)
    axes.set_title(
        title, loc="left", y=1, color=_TEXT, fontsize=11, fontweight="bold", parse_math=False
    )
    score_label = shorten(score_label, load_font(13), _WORDS_WIDTH)
    axes.set_xlabel(score_label, color=_MUTED, fontsize=9, parse_math=False)
    axes.xaxis.set_label_coords(*_SCORE_LABEL, figure.transFigure)
    axes.yaxis.set_label_coords(*_COUNT_LABEL, figure.transFigure)
    _draw_scales(axes, heights)
    _draw_bars(axes, heights, bounds, cut, label_first)
    canvas.draw()
    return Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")


def _draw_scales(axes: Axes, heights: _Floats) -> None:
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    bars = heights[heights > 0]
    if bars.size and bars.max() > _SEEN_ON_LINEAR_SCALE * bars.min():
        axes.set_yscale("log")
        axes.set_ylim(bars.min() / 2, bars.max() * 4)
        axes.set_ylabel("images (log scale)", color=_MUTED, fontsize=9)
        axes.yaxis.minorticks_off()
    else:
        axes.set_ylim(0, max(heights.max() * 1.25, 1))
        axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))
        axes.set_ylabel("images", color=_MUTED, fontsize=9)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.tick_params(color=_GRID, labelcolor=_MUTED, labelsize=9)
    axes.grid(axis="y", color=_GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    for side, spine in axes.spines.items():
        spine.set_visible(side == "bottom")
        spine.set_color(_MUTED)


def _draw_bars(
    axes: Axes, heights: _Floats, bounds: _Floats, cut: float | None, label_first: str
) -> None:
    import numpy as np

    margin = (bounds[-1] - bounds[0]) * 0.02
    left, right = bounds[0] - margin, bounds[-1] + margin
    inside, partly = _candidate_bins(bounds, cut, label_first)
    for bins, color in (
        (~(inside | partly), _OTHERS),
        (partly, _CUT_BIN),
        (inside, _CANDIDATES),
    ):
        axes.stairs(np.where(bins, heights, 0), bounds, fill=True, color=color)
    if cut is not None:
        left, right = min(left, cut - margin), max(right, cut + margin)
        side, words = ((left, cut), "up to") if label_first == "lowest" else ((cut, right), "from")
        axes.axvspan(*side, color=_SHADE, linewidth=0, zorder=0)
        axes.axvline(cut, color=_CUT, linewidth=1.5)
        in_left_half = cut < (left + right) / 2
        axes.annotate(
            f"cut: {words} {number_text(cut)}",
            xy=(cut, 1),
            xycoords=("data", "axes fraction"),
            xytext=(6 if in_left_half else -6, -6),
            textcoords="offset points",
            horizontalalignment="left" if in_left_half else "right",
            verticalalignment="top",
            color=_CUT,
            fontsize=9,
            fontweight="bold",
        )
    axes.set_xlim(left, right)


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
