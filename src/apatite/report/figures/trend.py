"""A quantity against a number on a logarithmic axis: Dice over the size of a patch, or over the number of labels."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from apatite.core.volume import Estimate
from apatite.report.figures.canvas import WIDTH_IN, colour, draw, marker
from apatite.report.html import Picture

_DASHES = ("-", "--", "-.", ":")
_LETTERS_PER_ROW = 120
"""Of the legend, with the room of a sign for each name."""


@dataclass(frozen=True, kw_only=True)
class TrendPoint:
    """One place of one line.

    Attributes:
        x: Above 0.
        estimate: What was found there, with its interval.
        runs: The same of each run alone, drawn as small dots; none where there is one run.
    """

    x: float
    estimate: Estimate
    runs: Sequence[float] = ()


def trend_figure(
    lines: Mapping[str, Sequence[TrendPoint]], *, ticks: Mapping[float, str], x_label: str, y_label: str, caption: str
) -> Picture:
    """One line per model with its intervals, and a small dot for every run.

    Args:
        lines: Name → its points; a line without points is left out.
        ticks: Place along x → what stands there.
        x_label: Quantity and unit along x.
        y_label: Quantity and unit along y.
        caption: What stands under it.
    """
    shown = {name: sorted(points, key=lambda point: point.x) for name, points in lines.items() if points}

    def paint(figure: Figure) -> None:
        axis = figure.subplots()
        axis.set_xscale("log")
        for index, (name, points) in enumerate(shown.items()):
            # Side by side, so that intervals at one place do not hide each other.
            _line(axis, index, name, points, 1.0 + 0.012 * (index - (len(shown) - 1) / 2))
        axis.set_xticks(list(ticks), list(ticks.values()))
        axis.xaxis.set_minor_locator(NullLocator())
        axis.set(xlabel=x_label, ylabel=y_label)
        axis.margins(x=0.08)
        axis.grid(visible=True, axis="y")
        longest = max(map(len, shown), default=0)
        figure.legend(loc="outside upper left", ncols=max(1, min(len(shown), _LETTERS_PER_ROW // (longest + 6))))

    parts = [
        f"{name}: " + ", ".join(f"{point.estimate.value:.3g} at {point.x:.3g}" for point in points)
        for name, points in shown.items()
    ]
    return draw(paint, caption=caption, alt=f"{y_label} against {x_label}. {'; '.join(parts)}", size_in=(WIDTH_IN, 4.2))


def _line(axis: Axes, index: int, name: str, points: Sequence[TrendPoint], shift: float) -> None:
    x = np.array([point.x * shift for point in points])
    values = np.array([point.estimate.value for point in points])
    axis.plot(
        x, values, _DASHES[index // 2 % len(_DASHES)], color=colour(index), linewidth=1.8, marker=marker(index),
        markersize=7, markeredgecolor="white", label=name,
    )  # fmt: skip
    for place, point in zip(x.tolist(), points, strict=True):
        axis.plot(
            [place, place], [point.estimate.low, point.estimate.high], color=colour(index), linewidth=2.2, alpha=0.6,
            solid_capstyle="round",
        )  # fmt: skip
        if len(point.runs) > 1:
            axis.plot([place] * len(point.runs), list(point.runs), ".", color=colour(index), markersize=5, alpha=0.7)
