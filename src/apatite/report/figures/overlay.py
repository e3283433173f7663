"""The reference's outline and the model's, drawn on the original slices."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Shaped
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from apatite.report.figures.canvas import PREDICTION_COLOUR, REFERENCE_COLOUR, WIDTH_IN, draw, flat_axes
from apatite.report.html import Picture

WINDOW_HU = (-100.0, 500.0)
"""Grey levels of the slices: soft tissue dark, calcium and bone bright."""

SLICES_SHOWN = 5
_MARGIN = 6


@dataclass(frozen=True, kw_only=True, eq=False)
class OverlayCase:
    """One row of the figure.

    Attributes:
        title: Case and its figures, for example `best: p0007-s2, Dice 0.83`.
        voxels_hu: Original slices.
        is_reference: True where the reference says so.
        is_predicted: True where the model says so.
        is_counted: True inside the region; the picture is cut to it.
        aspect: Row spacing over column spacing.
    """

    title: str
    voxels_hu: Shaped[np.ndarray, "slices rows columns"]
    is_reference: Bool[np.ndarray, "slices rows columns"]
    is_predicted: Bool[np.ndarray, "slices rows columns"]
    is_counted: Bool[np.ndarray, "slices rows columns"]
    aspect: float = 1.0


def overlay_figure(
    cases: Sequence[OverlayCase], *, caption: str, window_hu: tuple[float, float] = WINDOW_HU
) -> Picture:
    """One row per case, the slices with most of either outline in their anatomical order."""

    def paint(figure: Figure) -> None:
        rows = figure.subfigures(len(cases), 1, squeeze=False)[:, 0]
        for row, case in zip(rows, cases, strict=True):
            row.suptitle(case.title, x=0.01, ha="left", fontsize=11, fontweight="bold")
            axes = flat_axes(row.subplots(1, SLICES_SHOWN, squeeze=False))
            _case_row(axes, case, window_hu)
        figure.legend(
            handles=[
                Line2D([], [], color=REFERENCE_COLOUR, linewidth=2, label="reference"),
                Line2D([], [], color=PREDICTION_COLOUR, linewidth=2, linestyle="--", label="model"),
            ],
            loc="outside lower left", ncols=2,
        )  # fmt: skip

    alt = "Outlines on slices: " + "; ".join(case.title for case in cases)
    return draw(paint, caption=caption, alt=alt, size_in=(WIDTH_IN, 2.45 * len(cases) + 0.4), kind="png")


def busiest_slices(is_marked: Bool[np.ndarray, "slices rows columns"], num_slices: int = SLICES_SHOWN) -> list[int]:
    """The slices with most marked pixels, in ascending order; the middle ones where nothing is marked."""
    counts = is_marked.sum(axis=(1, 2))
    distance = np.abs(np.arange(len(counts)) - (len(counts) - 1) / 2)
    order = np.lexsort((distance, -counts))
    return sorted(int(index) for index in order[:num_slices])


def _case_row(axes: Sequence[Axes], case: OverlayCase, window_hu: tuple[float, float]) -> None:
    window = _bounding_box(case.is_counted)
    within = np.flatnonzero(case.is_counted.any(axis=(1, 2)))
    is_marked = (case.is_reference | case.is_predicted) & case.is_counted
    first = int(within[0]) if len(within) else 0
    last = int(within[-1]) if len(within) else len(is_marked) - 1
    shown = [first + index for index in busiest_slices(is_marked[first : last + 1])]
    for axis, index in zip(axes, shown, strict=False):
        view = (index, *window)
        axis.imshow(case.voxels_hu[view], cmap="gray", vmin=window_hu[0], vmax=window_hu[1], aspect=case.aspect)
        _outline(axis, case.is_reference[view], REFERENCE_COLOUR, "solid")
        _outline(axis, case.is_predicted[view], PREDICTION_COLOUR, "dashed")
        axis.set_title(f"slice {index}", fontsize=9, fontweight="normal")
    for axis in axes:
        axis.set_axis_off()


def _outline(axis: Axes, is_inside: Bool[np.ndarray, "rows columns"], line_colour: str, style: str) -> None:
    if is_inside.any():
        axis.contour(is_inside.astype(float), levels=[0.5], colors=[line_colour], linewidths=1.3, linestyles=style)


def _bounding_box(is_counted: Bool[np.ndarray, "slices rows columns"]) -> tuple[slice, slice]:
    """Rows and columns of the region with a small margin; the whole slice where no region is given."""
    if not is_counted.any():
        return slice(None), slice(None)
    rows, columns = (np.flatnonzero(is_counted.any(axis=axes)) for axes in ((0, 2), (0, 1)))
    return (
        slice(max(0, int(rows[0]) - _MARGIN), int(rows[-1]) + _MARGIN + 1),
        slice(max(0, int(columns[0]) - _MARGIN), int(columns[-1]) + _MARGIN + 1),
    )
