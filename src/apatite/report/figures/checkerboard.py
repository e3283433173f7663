"""A decoder's maps from coarse to fine, a row per model; grids in them are the decoder's, not the patient's."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from apatite.report.figures.canvas import WIDTH_IN, draw
from apatite.report.html import Picture

_PERCENTILES = (1.0, 99.0)


@dataclass(frozen=True, kw_only=True, eq=False)
class MapPanel:
    """One slice of one map.

    Attributes:
        title: Its stride and ratio, for example.
        values: Any unit; shown from its 1st to its 99th percentile.
    """

    title: str
    values: Float[np.ndarray, "height width"]


def checkerboard_figure(rows: Mapping[str, Sequence[MapPanel]], *, caption: str) -> Picture:
    """One row per model, its maps from the coarsest to the logits, which stand in the last column.

    Args:
        rows: Model → maps.
        caption: What stands under it.
    """
    num_columns = max(map(len, rows.values()))

    def paint(figure: Figure) -> None:
        grid = figure.subplots(len(rows), num_columns, squeeze=False)
        for axes, (name, panels) in zip(grid, rows.items(), strict=True):
            for axis in axes:
                axis.set(xticks=[], yticks=[])
                axis.spines[:].set_visible(False)
            for axis, panel in zip(axes[num_columns - len(panels) :], panels, strict=True):
                _panel(axis, panel)
            axes[0].set_ylabel(name, fontsize=9.5)

    alt = "; ".join(
        f"{' '.join(name.split())}: {', '.join(panel.title for panel in panels)}" for name, panels in rows.items()
    )
    size_in = (WIDTH_IN, (WIDTH_IN / num_columns + 0.4) * len(rows) + 0.1)
    return draw(paint, caption=caption, alt=f"Slices of feature maps. {alt}", size_in=size_in, kind="png")


def _panel(axis: Axes, panel: MapPanel) -> None:
    low, high = np.percentile(panel.values, _PERCENTILES)
    axis.imshow(
        panel.values, cmap="gray", vmin=low, vmax=max(high, low + 1e-12), interpolation="nearest", origin="lower"
    )
    axis.set_title(panel.title, fontsize=9, fontweight="normal")
