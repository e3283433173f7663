"""Bland–Altman: how far measured volumes lie from the reference, small and large ones alike.

Source: Bland & Altman 1986; the logarithmic form as in `metrics.agreement`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from apatite.metrics.agreement import bland_altman
from apatite.report.figures.canvas import PALETTE, QUIET, WIDTH_IN, draw
from apatite.report.html import Picture
from apatite.report.numbers import number_text

Scale = Literal["raw", "log"]


@dataclass(frozen=True, kw_only=True, eq=False)
class AgreementPanel:
    """The volumes of one model, one per case.

    Attributes:
        title: For example `pre-trained, threshold 0.5`.
        predicted_mm3: Measured.
        reference_mm3: By the reference, same cases in the same order.
    """

    title: str
    predicted_mm3: Float[np.ndarray, "cases"]
    reference_mm3: Float[np.ndarray, "cases"]


def bland_altman_figure(panels: Sequence[AgreementPanel], *, caption: str) -> Picture:
    """Panels side by side on common axes: differences in mm³ above, ratios (log scale) below.

    Args:
        panels: For example before and after calibration.
        caption: What stands under it.
    """

    def paint(figure: Figure) -> None:
        axes = figure.subplots(2, len(panels), squeeze=False, sharey="row", sharex="row")
        for column, panel in enumerate(panels):
            _difference_panel(axes[0, column], panel)
            _ratio_panel(axes[1, column], panel)
        axes[0, 0].set_ylabel("predicted − reference (mm³)")
        axes[1, 0].set_ylabel("(predicted + 1) / (reference + 1)")

    alt = "; ".join(f"{panel.title}: {len(panel.reference_mm3)} cases" for panel in panels)
    size_in = (min(WIDTH_IN, 4.8 * len(panels)), 7.0)
    return draw(paint, caption=caption, alt=f"Bland–Altman plots. {alt}", size_in=size_in)


def _difference_panel(axis: Axes, panel: AgreementPanel) -> None:
    predicted, reference = panel.predicted_mm3, panel.reference_mm3
    _dots(axis, (predicted + reference) / 2, predicted - reference)
    if len(predicted) >= 2:
        limits = bland_altman(predicted, reference, "raw")
        _lines(axis, (limits.bias, limits.low_limit, limits.high_limit), "")
    axis.set(title=panel.title, xlabel="mean of both (mm³)")


def _ratio_panel(axis: Axes, panel: AgreementPanel) -> None:
    predicted, reference = panel.predicted_mm3, panel.reference_mm3
    _dots(axis, np.exp((np.log1p(predicted) + np.log1p(reference)) / 2) - 1, (predicted + 1) / (reference + 1))
    if len(predicted) >= 2:
        limits = bland_altman(predicted, reference, "log")
        _lines(axis, (np.exp(limits.bias), np.exp(limits.low_limit), np.exp(limits.high_limit)), "×")
    axis.set_yscale("log")
    axis.yaxis.set_major_locator(LogLocator(base=10, subs=(1.0, 2.0, 5.0)))
    axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.yaxis.set_minor_formatter(NullFormatter())
    axis.set_xscale("symlog", linthresh=10)
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_xlabel("geometric mean of both (mm³)")


def _dots(axis: Axes, x: np.ndarray, y: np.ndarray) -> None:
    axis.scatter(x, y, s=22, color=PALETTE[0], alpha=0.65, linewidths=0)


def _lines(axis: Axes, levels: tuple[float, float, float], sign: str) -> None:
    """Bias and 95 % limits of agreement, each with its value at the right edge."""
    for level, style in zip(levels, ("-", "--", "--"), strict=True):
        axis.axhline(level, linestyle=style, color=PALETTE[1], linewidth=1.4)
        axis.annotate(
            sign + number_text(float(level)), (1.0, level), xycoords=("axes fraction", "data"), xytext=(-2, 3),
            textcoords="offset points", ha="right", fontsize=9, color=PALETTE[1],
            bbox={"facecolor": "white", "alpha": 0.75, "edgecolor": "none", "pad": 0.5},
        )  # fmt: skip
    axis.margins(y=0.08)
    axis.axhline(1.0 if sign else 0.0, color=QUIET, linewidth=0.8)
