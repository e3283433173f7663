"""Estimates with their intervals: models side by side, over all cases and by stratum."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from apatite.core.volume import Estimate
from apatite.report.figures.canvas import WIDTH_IN, colour, draw, flat_axes, hide_rest, marker
from apatite.report.html import Picture

_PANELS_PER_ROW = 3


def interval_figure(panels: Mapping[str, Mapping[str, Estimate]], *, caption: str) -> Picture:
    """One panel per quantity; in it, one line per model: the estimate and its interval.

    Args:
        panels: Quantity (with its unit, the axis label) → model → estimate.
        caption: What stands under it.
    """
    num_rows = -(-len(panels) // _PANELS_PER_ROW)
    num_models = max(len(models) for models in panels.values())

    def paint(figure: Figure) -> None:
        # Room for the outermost tick labels of neighbouring panels.
        figure.get_layout_engine().set(wspace=0.06, hspace=0.06)  # pyright: ignore[reportOptionalMemberAccess, reportCallIssue]
        axes = flat_axes(figure.subplots(num_rows, min(len(panels), _PANELS_PER_ROW), squeeze=False))
        for index, (axis, (quantity, models)) in enumerate(zip(axes, panels.items(), strict=False)):
            _interval_panel(axis, quantity, models, with_names=index % _PANELS_PER_ROW == 0)
        hide_rest(axes, len(panels))

    height = num_rows * (1.0 + 0.34 * num_models)
    return draw(paint, caption=caption, alt=_interval_alt(panels), size_in=(WIDTH_IN, height))


def strata_figure(
    strata: Sequence[str], models: Mapping[str, Sequence[Estimate | None]], *, y_label: str, caption: str
) -> Picture:
    """An estimate per stratum and model, for example Dice by slice thickness.

    Args:
        strata: Names along the x axis, with their numbers of cases.
        models: Model → one estimate per stratum; None (or NaN) where there is none.
        y_label: Quantity and unit.
        caption: What stands under it.
    """

    def paint(figure: Figure) -> None:
        axis = figure.subplots()
        for index, (model, estimates) in enumerate(models.items()):
            shift = (index - (len(models) - 1) / 2) * 0.16
            _stratum_points(axis, index, model, estimates, shift)
        axis.set_xticks(range(len(strata)), list(strata))
        axis.set_xlim(-0.6, len(strata) - 0.4)
        axis.set_ylabel(y_label)
        axis.grid(visible=True, axis="y")
        figure.legend(loc="outside upper left", ncols=len(models))

    return draw(
        paint, caption=caption, alt=f"{y_label} by {', '.join(strata)} for {', '.join(models)}", size_in=(WIDTH_IN, 3.6)
    )


def _interval_panel(axis: Axes, quantity: str, models: Mapping[str, Estimate], *, with_names: bool) -> None:
    for row, estimate in enumerate(models.values()):
        if not np.isfinite(estimate.value):
            continue
        low, high = _ends(estimate)
        axis.plot([low, high], [row, row], color=colour(row), linewidth=2.2, solid_capstyle="round")
        axis.plot(estimate.value, row, marker=marker(row), color=colour(row), markersize=7, markeredgecolor="white")
    axis.set_yticks(range(len(models)), list(models) if with_names else [""] * len(models))
    axis.set_ylim(len(models) - 0.5, -0.5)
    axis.tick_params(axis="y", length=0, labelcolor="#1b1f24")
    axis.spines["left"].set_visible(False)
    axis.set_xlabel(quantity)
    axis.grid(visible=True, axis="x")


def _stratum_points(axis: Axes, index: int, model: str, estimates: Sequence[Estimate | None], shift: float) -> None:
    has_label = False
    for place, estimate in enumerate(estimates):
        if estimate is None or not np.isfinite(estimate.value):
            continue
        low, high = _ends(estimate)
        axis.plot([place + shift] * 2, [low, high], color=colour(index), linewidth=2.2, solid_capstyle="round")
        label = None if has_label else model
        axis.plot(
            place + shift, estimate.value, marker(index), color=colour(index), markersize=7,
            markeredgecolor="white", label=label,
        )  # fmt: skip
        has_label = True


def _ends(estimate: Estimate) -> tuple[float, float]:
    """The interval, or the bare value where no interval could be computed."""
    low = estimate.low if np.isfinite(estimate.low) else estimate.value
    high = estimate.high if np.isfinite(estimate.high) else estimate.value
    return low, high


def _interval_alt(panels: Mapping[str, Mapping[str, Estimate]]) -> str:
    parts = [
        f"{quantity}: {model} {estimate}" for quantity, models in panels.items() for model, estimate in models.items()
    ]
    return "; ".join(parts)
