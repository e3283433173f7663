"""Reliability diagrams: how often the reference agrees against how sure the model was, before and after calibration."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from apatite.calibrate.reliability import ReliabilityCurve
from apatite.report.figures.canvas import QUIET, WIDTH_IN, colour, draw, marker
from apatite.report.html import Picture


@dataclass(frozen=True, kw_only=True, eq=False)
class ReliabilityPanel:
    """One model and label.

    Attributes:
        title: For example the model's name.
        curves: Name → curve, for example before and after the temperature.
    """

    title: str
    curves: Mapping[str, ReliabilityCurve]


def reliability_figure(panels: Sequence[ReliabilityPanel], *, caption: str) -> Picture:
    """Diagrams side by side; below each, how much of the volume lies in each bin (logarithmic).

    Args:
        panels: At least one.
        caption: What stands under it.
    """

    def paint(figure: Figure) -> None:
        axes = figure.subplots(2, len(panels), squeeze=False, sharex=True, sharey="row", height_ratios=(3, 1))
        for column, panel in enumerate(panels):
            _diagram(axes[0, column], panel)
            _shares(axes[1, column], panel)
        axes[0, 0].set_ylabel("share marked by the reference")
        axes[1, 0].set_ylabel("share of\nthe volume")
        axes[0, 0].legend(loc="upper left")

    alt = "; ".join(
        f"{panel.title}: {', '.join(map(_in_words, panel.curves, panel.curves.values()))}" for panel in panels
    )
    size_in = (min(WIDTH_IN, 5.0 * len(panels)), 5.6)
    return draw(paint, caption=caption, alt=f"Reliability diagrams. {alt}", size_in=size_in)


def _diagram(axis: Axes, panel: ReliabilityPanel) -> None:
    axis.plot([0, 1], [0, 1], color=QUIET, linewidth=1.0, linestyle=":")
    for index, (name, curve) in enumerate(panel.curves.items()):
        is_drawn = ~np.isnan(curve.frequency)
        x, y = curve.confidence[is_drawn], curve.frequency[is_drawn]
        below, above = y - curve.low[is_drawn], curve.high[is_drawn] - y
        # Where resamples do not tell the spread there is a dot without a bar.
        bars = np.nan_to_num(np.stack([below, above]).clip(min=0.0))
        axis.errorbar(
            x, y, bars, color=colour(index), marker=marker(index), markersize=5, linewidth=1.6, elinewidth=0.9,
            capsize=2, label=name,
        )  # fmt: skip
    axis.set(title=panel.title, xlim=(0, 1), ylim=(-0.02, 1.02))
    axis.grid(visible=True)


def _shares(axis: Axes, panel: ReliabilityPanel) -> None:
    for index, curve in enumerate(panel.curves.values()):
        width = 1 / len(curve.share)
        centres = (np.arange(len(curve.share)) + 0.5) * width
        part = width * 0.8 / len(panel.curves)
        places = centres + (index - (len(panel.curves) - 1) / 2) * part
        axis.bar(places, curve.share, part, color=colour(index), alpha=0.75)
    axis.set_yscale("log")
    axis.yaxis.set_major_locator(LogLocator(base=10, numticks=4))
    axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.yaxis.set_minor_formatter(NullFormatter())
    axis.set_xlabel("probability")


def _in_words(name: str, curve: ReliabilityCurve) -> str:
    is_drawn = ~np.isnan(curve.frequency)
    far = float(np.abs(curve.frequency - curve.confidence)[is_drawn].max()) if is_drawn.any() else 0.0
    return f"{name}, at most {far:.2f} from the diagonal"
