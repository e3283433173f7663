"""How the threshold was chosen: volume error on the development cases against it, and how sure the choice is."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from apatite.report.figures.canvas import PALETTE, QUIET, draw
from apatite.report.html import Picture
from apatite.report.numbers import number_text


def threshold_figure(
    thresholds: Float[np.ndarray, "thresholds"],
    error: Float[np.ndarray, "thresholds"],
    chosen: float,
    resampled: Sequence[float],
    *,
    error_label: str = "mean |volume difference| (mm³)",
    caption: str = "",
) -> Picture:
    """Error over the threshold above, the thresholds chosen on resampled patients below.

    Args:
        thresholds: Ascending, in (0, 1).
        error: What the calibration minimises, at each of them.
        chosen: The threshold it settled on.
        resampled: The choice on each resample of the development patients.
        error_label: Name and unit of the error.
        caption: What stands under it.
    """

    def paint(figure: Figure) -> None:
        upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
        _error_panel(upper, thresholds, error, chosen)
        upper.set_ylabel(error_label)
        bins = np.linspace(0.0, 1.0, 51)
        lower.hist(list(resampled), bins=bins.tolist(), color=PALETTE[0], alpha=0.75)
        lower.axvline(chosen, color=PALETTE[1], linewidth=1.6)
        lower.set(xlabel="threshold on the probability", ylabel="resamples", xlim=(0, 1))

    alt = f"{error_label} against the threshold; {number_text(chosen)} was chosen"
    return draw(paint, caption=caption, alt=alt, size_in=(7.0, 4.6))


def _error_panel(axis: Axes, thresholds: np.ndarray, error: np.ndarray, chosen: float) -> None:
    axis.plot(thresholds, error, color=PALETTE[0], linewidth=1.8)
    axis.axvline(0.5, color=QUIET, linestyle=":", linewidth=1.2, label="0.5 (before)")
    axis.axvline(chosen, color=PALETTE[1], linewidth=1.6, label=f"{number_text(chosen)} (chosen)")
    axis.set_ylim(bottom=0.0 if error.min() >= 0 else None)
    axis.grid(visible=True, axis="y")
    axis.legend(loc="best")
