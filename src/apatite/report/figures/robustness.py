"""How a model holds as scans get worse: Dice and volume, level after level, models side by side."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullFormatter, NullLocator

from apatite.core.volume import Estimate
from apatite.report.figures.canvas import QUIET, WIDTH_IN, colour, draw, flat_axes, marker
from apatite.report.html import Picture

_FINE_TICKS = (0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.1, 1.25, 1.4, 1.6, 1.8, 2.0)
_COARSE_TICKS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0)
_FINE_SPAN = 3.0
"""Widest ratio of the axis' ends with fine ticks."""
_APART = 0.12
"""Between models at one level, where neighbouring levels are 1 apart."""
_SMALL = 8.5


@dataclass(frozen=True, kw_only=True)
class LadderPanel:
    """One quantity against the level.

    Attributes:
        title: What is shown.
        y_label: Quantity and unit.
        lines: Model to one estimate per level; NaN leaves a gap.
        plain: A further line without interval, for example what the reference itself does; none where it is empty.
        plain_name: What that line is.
        limits: Horizontal lines at which a model stops holding.
        is_ratio: Whether the axis is logarithmic, around 1.
    """

    title: str
    y_label: str
    lines: Mapping[str, Sequence[Estimate]]
    plain: Sequence[float] = ()
    plain_name: str = ""
    limits: Sequence[float] = ()
    is_ratio: bool = False


def ladder_figure(
    levels: Sequence[str], counts: Sequence[int], x_label: str, panels: Sequence[LadderPanel], *, caption: str
) -> Picture:
    """Panels side by side over the same levels.

    Args:
        levels: Texts of the levels in order, the scan as it is among them.
        counts: Cases that have the label, at each level.
        x_label: What the levels are, with unit.
        panels: One to three quantities.
        caption: What stands under it.
    """

    def paint(figure: Figure) -> None:
        axes = flat_axes(figure.subplots(1, len(panels), squeeze=False))
        for axis, panel in zip(axes, panels, strict=True):
            _panel(axis, panel, np.array(counts) == max(counts))
            ticks = [f"{level}\n{count}" for level, count in zip(levels, counts, strict=True)]
            axis.set_xticks(range(len(levels)), ticks, fontsize=_SMALL)
            axis.set_xlim(-0.5, len(levels) - 0.5)
            axis.set_xlabel(f"{x_label}; below: cases")
        handles, names = axes[-1].get_legend_handles_labels()
        figure.legend(handles, names, loc="outside upper left", ncols=min(len(names), 4))

    alt = "; ".join(f"{panel.title} against {x_label} for {', '.join(panel.lines)}" for panel in panels)
    return draw(paint, caption=caption, alt=alt, size_in=(WIDTH_IN, 3.9))


def _panel(axis: Axes, panel: LadderPanel, is_full: Bool[np.ndarray, "levels"]) -> None:
    for limit in panel.limits:
        axis.axhline(limit, color=QUIET, linewidth=1.0, linestyle=(0, (4, 3)))
    if panel.plain:
        places = np.arange(len(panel.plain), dtype=float)
        axis.plot(places, list(panel.plain), color="#8c959f", linewidth=1.6, label=panel.plain_name)
    for index, (model, estimates) in enumerate(panel.lines.items()):
        shift = (index - (len(panel.lines) - 1) / 2) * _APART
        _line(axis, model, estimates, is_full, (index, shift))
    axis.set_title(panel.title)
    axis.set_ylabel(panel.y_label)
    axis.grid(visible=True, axis="y")
    if panel.is_ratio:
        _ratio_axis(axis)


def _line(
    axis: Axes, model: str, estimates: Sequence[Estimate], is_full: Bool[np.ndarray, "levels"], place: tuple[int, float]
) -> None:
    """A model's values with their intervals, joined by a line over the levels that all cases have.

    A level that some cases lack stands beside the line: other cases, another difficulty.
    """
    index, shift = place
    along = np.arange(len(estimates)) + shift
    values = np.array([estimate.value for estimate in estimates], dtype=np.float64)
    look: dict[str, Any] = {"color": colour(index), "marker": marker(index), "markersize": 6}
    axis.plot(along[is_full], values[is_full], linewidth=1.4, markeredgecolor="white", label=model, **look)
    axis.plot(along[~is_full], values[~is_full], linestyle="none", markerfacecolor="white", **look)
    for x, estimate in zip(along, estimates, strict=True):
        if np.isfinite(estimate.low) and np.isfinite(estimate.high):
            axis.plot([x] * 2, [estimate.low, estimate.high], color=colour(index), linewidth=2.0, alpha=0.55, zorder=1)


def _ratio_axis(axis: Axes) -> None:
    """Ratios on a logarithmic axis that always shows 1, with ticks that can be read."""
    axis.set_yscale("log")
    low, high = axis.get_ylim()
    low, high = min(low, 0.7), max(high, 1.4)
    axis.set_ylim(low, high)
    ticks = [tick for tick in (_FINE_TICKS if high / low <= _FINE_SPAN else _COARSE_TICKS) if low <= tick <= high]
    axis.yaxis.set_major_locator(FixedLocator(ticks))
    axis.yaxis.set_minor_locator(NullLocator())
    axis.yaxis.set_minor_formatter(NullFormatter())
    axis.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
