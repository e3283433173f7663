"""How training went: one line per run, against steps, epochs or time."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from apatite.report.figures.canvas import WIDTH_IN, colour, draw, flat_axes, hide_rest
from apatite.report.html import Picture

_PANELS_PER_ROW = 3
_DASHES = ("-", "--", "-.", ":")


@dataclass(frozen=True, kw_only=True)
class CurvePanel:
    """One panel of learning curves.

    Attributes:
        title: What is learnt.
        x_label: Quantity and unit along x, for example `step`.
        y_label: Quantity and unit along y, for example `loss`.
        lines: Name → x values and y values, of equal length; NaN leaves a gap.
        is_log: Whether the y axis is logarithmic.
    """

    title: str
    x_label: str
    y_label: str
    lines: Mapping[str, tuple[Sequence[float], Sequence[float]]]
    is_log: bool = False

    def __post_init__(self) -> None:
        for name, (x, y) in self.lines.items():
            if len(x) != len(y):
                raise ValueError(f"curve {name!r} has {len(x)} x values and {len(y)} y values")


def line_of(rows: Sequence[Mapping[str, Any]], y: str, x: str = "step") -> tuple[list[float], list[float]]:
    """The points of one quantity in a journal; rows that lack it are skipped.

    Args:
        rows: Rows as a training run writes them, one mapping per step or per epoch.
        y: Key of the quantity.
        x: Key of what it is drawn against.
    """
    points = [(float(row[x]), float(row[y])) for row in rows if row.get(x) is not None and row.get(y) is not None]
    return [point[0] for point in points], [point[1] for point in points]


def learning_figure(panels: Sequence[CurvePanel], *, caption: str) -> Picture:
    """Learning curves, up to three panels in a row."""
    num_columns = min(len(panels), _PANELS_PER_ROW)
    num_rows = -(-len(panels) // _PANELS_PER_ROW)

    def paint(figure: Figure) -> None:
        axes = flat_axes(figure.subplots(num_rows, num_columns, squeeze=False))
        for axis, panel in zip(axes, panels, strict=False):
            _panel(axis, panel)
        hide_rest(axes, len(panels))

    alt = "; ".join(
        f"{panel.title}: {panel.y_label} against {panel.x_label} for {', '.join(panel.lines)}" for panel in panels
    )
    return draw(paint, caption=caption, alt=alt, size_in=(WIDTH_IN, 3.4 * num_rows))


def _panel(axis: Axes, panel: CurvePanel) -> None:
    for index, (name, (x, y)) in enumerate(panel.lines.items()):
        style = _DASHES[index % len(_DASHES)]
        # A run of a few points is drawn with its points, or a single one would not be seen.
        points = "o" if np.size(x) <= 12 else ""
        axis.plot(x, y, style, marker=points, markersize=4, color=colour(index), linewidth=1.8, label=name)
    axis.set(title=panel.title, xlabel=panel.x_label, ylabel=panel.y_label)
    if panel.is_log:
        axis.set_yscale("log")
    axis.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
    axis.grid(visible=True)
    if len(panel.lines) > 1:
        axis.legend(loc="best")
