"""A forest plot of differences: a line at no difference, the margin that was stated, and better always to the right."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from apatite.core.volume import Estimate
from apatite.report.figures.canvas import QUIET, WIDTH_IN, colour, draw, flat_axes, hide_rest, marker
from apatite.report.html import Picture

_PANELS_PER_ROW = 3
_INSIDE = "#eef3f7"
_INK = "#1b1f24"


@dataclass(frozen=True, kw_only=True)
class ForestPanel:
    """One quantity of several pairs of models, or one pair in several strata.

    Attributes:
        title: What all rows have in common.
        rows: Name, and the difference with its interval.
        margin: Half the width of the band in which a difference does not matter; None without one.
        lower_is_better: Turns the axis, so that better is to the right in every panel.
    """

    title: str
    rows: Sequence[tuple[str, Estimate]]
    margin: float | None
    lower_is_better: bool


def forest_figure(panels: Sequence[ForestPanel], *, caption: str, has_colours: bool = True) -> Picture:
    """Differences with intervals, better always to the right.

    Args:
        panels: At least one; each has the same rows.
        caption: What stands under it.
        has_colours: A colour and marker of its own for each row; else one for all.
    """
    num_lines = -(-len(panels) // _PANELS_PER_ROW)
    num_rows = max(len(panel.rows) for panel in panels)
    longest = max(len(name) for panel in panels for name, _ in panel.rows)

    def paint(figure: Figure) -> None:
        figure.get_layout_engine().set(wspace=0.05, hspace=0.06)  # pyright: ignore[reportOptionalMemberAccess, reportCallIssue]
        axes = flat_axes(figure.subplots(num_lines, min(len(panels), _PANELS_PER_ROW), squeeze=False))
        for index, (axis, panel) in enumerate(zip(axes, panels, strict=False)):
            _panel(axis, panel, with_names=index % _PANELS_PER_ROW == 0, has_colours=has_colours)
        hide_rest(axes, len(panels))

    # Names take room from the panels; where they are long, each row of names is broken.
    height = num_lines * (1.25 + (0.34 if longest <= 30 else 0.46) * num_rows)
    return draw(paint, caption=caption, alt=_alt(panels), size_in=(WIDTH_IN, height))


def _panel(axis: Axes, panel: ForestPanel, *, with_names: bool, has_colours: bool) -> None:
    if panel.margin is not None:
        axis.axvspan(-panel.margin, panel.margin, color=_INSIDE, zorder=0)
        worse = panel.margin if panel.lower_is_better else -panel.margin
        axis.axvline(worse, color=QUIET, linewidth=1.0, linestyle=(0, (4, 3)), zorder=1)
    axis.axvline(0.0, color=_INK, linewidth=1.0, zorder=1)
    for row, (_, estimate) in enumerate(panel.rows):
        if np.isfinite(estimate.value):
            _line(axis, row, estimate, row if has_colours else 0)
    names = [_broken(name) if with_names else "" for name, _ in panel.rows]
    axis.set_yticks(range(len(panel.rows)), names)
    axis.set_ylim(len(panel.rows) - 0.5, -0.5)
    axis.tick_params(axis="y", length=0, labelcolor=_INK)
    axis.spines["left"].set_visible(False)
    axis.set_title(_broken(panel.title))
    axis.set_xlabel("difference, better →", color=QUIET)
    axis.margins(x=0.08)
    axis.locator_params(axis="x", nbins=5)
    if panel.lower_is_better:
        axis.invert_xaxis()


def _line(axis: Axes, row: int, estimate: Estimate, style: int) -> None:
    if np.isfinite(estimate.low) and np.isfinite(estimate.high):
        ends = [estimate.low, estimate.high]
        axis.plot(ends, [row, row], color=colour(style), linewidth=2.2, solid_capstyle="round", zorder=2)
    axis.plot(
        estimate.value, row, marker=marker(style), color=colour(style), markersize=7, markeredgecolor="white", zorder=3
    )


def _broken(name: str) -> str:
    """`model − baseline` on two lines where one would be long."""
    return name.replace(" − ", "\n− ", 1) if len(name) > 24 else name


def _alt(panels: Sequence[ForestPanel]) -> str:
    return "; ".join(f"{panel.title}: {name} {estimate}" for panel in panels for name, estimate in panel.rows)
