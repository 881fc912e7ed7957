"""Charts of evaluations: what orders find, what models learn, what probabilities are worth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from PIL import Image, ImageColor

from dagster_active_learning.gallery.png import encode_png, frequent_colors

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_PIXELS_PER_INCH = 100
_COLORS = 40
_POINTS = 200
_LINES = 8

_GROUND = "#f0f1f3"
_TEXT = "#1c1e22"
_MUTED = "#686c74"
_GRID = "#e2e4e8"
_LINE_COLORS = (
    "#d55e00", "#0072b2", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#5b4a9b", "#8f99a8",
)  # fmt: skip
"""Colors that those who confuse red and green tell apart (Okabe and Ito), and two more."""


@dataclass(frozen=True, kw_only=True)
class Line:
    """A line of a chart.

    Attributes:
        name: The name in the legend.
        x: (n_points,) rising.
        y: (n_points,).
    """

    name: str
    x: npt.NDArray[np.float64]
    y: npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Band(Line):
    """A line of a chart with an interval around each of its points.

    Attributes:
        low: (n_points,) the lower ends, NaN where there is no interval.
        high: (n_points,) the upper ends.
    """

    low: npt.NDArray[np.float64]
    high: npt.NDArray[np.float64]


def error_curves(found: Sequence[Line], risks: Sequence[Line], *, title: str) -> bytes:
    """Draw two charts side by side as a PNG 1000 pixels wide on a light ground.

    On the left the share of errors that is found over the share of images that is looked at, beside
    a random order; on the right the error rate of the images that are kept over their share.

    Args:
        found: The lines on the left; the first eight are drawn.
        risks: The lines on the right, in the same order.
        title: The words above.
    """
    figure = _figure((10.0, 4.2), title)
    left = figure.add_axes((0.07, 0.14, 0.40, 0.70), facecolor="white")
    _draw(left, found, "share of images looked at", "share of errors found")
    left.plot([0, 1], [0, 1], color=_MUTED, linewidth=0.8, linestyle="--", label="random order")
    left.legend(fontsize=8, frameon=False, loc="lower right")
    right = figure.add_axes((0.575, 0.14, 0.40, 0.70), facecolor="white")
    _draw(right, risks, "share of images kept, the most certain first", "error rate of those kept")
    right.set_ylim(bottom=0)
    for axes in (left, right):
        axes.set_xlim(0, 1)
    return _png(figure)


def learning_curves(curves: Sequence[Band], *, title: str) -> bytes:
    """Draw learning curves with their intervals as a PNG 800 pixels wide on a light ground.

    Args:
        curves: The accuracy over the number of labels, of each rule; the first eight are drawn.
        title: The words above.
    """
    figure = _figure((8.0, 4.5), title)
    axes = figure.add_axes((0.09, 0.13, 0.88, 0.73), facecolor="white")
    for curve, color in zip(curves[:_LINES], _LINE_COLORS, strict=False):
        axes.fill_between(curve.x, curve.low, curve.high, color=color, alpha=0.15, linewidth=0)
    _draw(axes, curves, "labels", "accuracy on images that no rule may ask for", marker="o")
    axes.legend(fontsize=8, frameon=False, loc="lower right")
    return _png(figure)


def reliability_diagram(
    diagrams: Mapping[str, tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]],
    weights: npt.NDArray[np.float64],
    *,
    title: str,
) -> bytes:
    """Draw a reliability diagram as a PNG 600 pixels wide on a light ground.

    Args:
        diagrams: Confidence and accuracy (n_bins,) each by the name in the legend, NaN where a bin
            is empty. On the diagonal a model is right as often as it says.
        weights: (n_bins,) the share of predictions in each bin of equal width, of the first
            diagram, drawn as bars.
        title: The words above.
    """
    import numpy as np

    figure = _figure((6.0, 4.5), title)
    axes = figure.add_axes((0.12, 0.13, 0.84, 0.73), facecolor="white")
    edges = np.linspace(0, 1, weights.size + 1)
    axes.stairs(weights, edges, fill=True, color=_GRID, label="share of predictions")
    axes.plot([0, 1], [0, 1], color=_MUTED, linewidth=0.8, linestyle="--")
    lines = [
        Line(name=name, x=x[np.isfinite(x)], y=y[np.isfinite(x)])
        for name, (x, y) in diagrams.items()
    ]
    _draw(axes, lines, "confidence", "accuracy", marker="o")
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1.02)
    axes.legend(fontsize=8, frameon=False, loc="upper left")
    return _png(figure)


def _draw(axes: Axes, lines: Sequence[Line], x_label: str, y_label: str, **options: Any) -> None:
    import numpy as np

    for line, color in zip(lines[:_LINES], _LINE_COLORS, strict=False):
        # More points than pixels only cost time.
        at = np.unique(np.linspace(0, line.x.size - 1, _POINTS).astype(int))
        axes.plot(line.x[at], line.y[at], color=color, linewidth=1.5, label=line.name, **options)
    axes.set_xlabel(x_label, color=_MUTED, fontsize=9, parse_math=False)
    axes.set_ylabel(y_label, color=_MUTED, fontsize=9, parse_math=False)
    axes.tick_params(color=_GRID, labelcolor=_MUTED, labelsize=9)
    axes.grid(color=_GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("bottom", "left"))
        spine.set_color(_MUTED)


def _figure(size: tuple[float, float], title: str) -> Figure:
    # Heavy, and without pyplot, which keeps figures in global state.
    from matplotlib.figure import Figure

    figure = Figure(size, dpi=_PIXELS_PER_INCH, facecolor=_GROUND)
    figure.text(0.02, 0.93, title, color=_TEXT, fontsize=11, fontweight="bold", parse_math=False)
    return figure


def _png(figure: Figure) -> bytes:
    import numpy as np
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    picture = Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")
    # Of a line that others cover only the legend is left: its color is rare, and must not go.
    of_lines = [ImageColor.getrgb(color)[:3] for color in _LINE_COLORS]
    return encode_png(picture, [*of_lines, *frequent_colors(picture, _COLORS - len(of_lines))])
