"""What masked pre-training fills in: the original, what the encoder saw, and the reconstruction."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from matplotlib.figure import Figure

from apatite.report.figures.canvas import draw
from apatite.report.html import Picture

_HIDDEN_GREY = 0.55


@dataclass(frozen=True, kw_only=True, eq=False)
class Reconstruction:
    """One region before and after.

    Attributes:
        title: For example the case.
        original_hu: The region.
        is_hidden: True where the encoder did not look.
        reconstruction_hu: The decoder's output; visible voxels are shown as they were.
    """

    title: str
    original_hu: Float[np.ndarray, "depth height width"]
    is_hidden: Bool[np.ndarray, "depth height width"]
    reconstruction_hu: Float[np.ndarray, "depth height width"]


def reconstruction_figure(
    regions: Sequence[Reconstruction], *, caption: str, window_hu: tuple[float, float] = (-150.0, 350.0)
) -> Picture:
    """One row per region, its middle slice: original, visible part, reconstruction."""
    titles = ("original", "visible to the encoder", "reconstruction")

    def paint(figure: Figure) -> None:
        axes = figure.subplots(len(regions), 3, squeeze=False)
        for row, region in zip(axes, regions, strict=True):
            for axis, picture in zip(row, _pictures(region, window_hu), strict=True):
                axis.imshow(picture, cmap="gray", vmin=0.0, vmax=1.0, interpolation="nearest", origin="lower")
                axis.set(xticks=[], yticks=[])
                axis.spines[:].set_visible(False)
            row[0].set_ylabel(region.title, fontsize=9.5)
        for axis, title in zip(axes[0], titles, strict=True):
            axis.set_title(title)

    alt = "Original, visible part and reconstruction of " + ", ".join(region.title for region in regions)
    return draw(paint, caption=caption, alt=alt, size_in=(7.2, 2.35 * len(regions) + 0.3), kind="png")


def _pictures(region: Reconstruction, window_hu: tuple[float, float]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Three grey images between 0 and 1; the region's grid runs along the patient's axes, anterior up."""
    low, high = window_hu
    middle = region.original_hu.shape[0] // 2
    original = np.clip((region.original_hu[middle] - low) / (high - low), 0.0, 1.0)
    filled = np.clip((region.reconstruction_hu[middle] - low) / (high - low), 0.0, 1.0)
    is_hidden = region.is_hidden[middle]
    return original, np.where(is_hidden, _HIDDEN_GREY, original), np.where(is_hidden, filled, original)
