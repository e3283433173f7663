"""A whole batch of registered scans on one page: all of them summed, and a sheet with a thumbnail of each.

Where every head is registered well, the sum of their bones is sharp; a head that lies askew shows as a ghost beside
it. The sheet then shows which one: worst first, flagged ones framed, the middle of the head from the side and the
region from below. Both show patients and stay with the data.

Source: Jin et al. 2024 (DEMI@MICCAI) and their superposition tool: bone above 100 HU, log2 of the sum.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int, Shaped, UInt8
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from apatite.core.volume import Grid, Volume
from apatite.report.figures.canvas import PALETTE, WIDTH_IN, draw, flat_axes
from apatite.report.html import Picture

BONE_HU = 100.0
WINDOW_HU = (-200.0, 800.0)
"""Grey levels of a thumbnail: skin, brain and bone can be told apart."""
PER_SHEET = 200
"""Thumbnails on one sheet; what a person looks through in a minute."""
COLUMNS = 10
_TILE_PX = 160
"""Width of a thumbnail; a sheet of ten is as wide as a figure at 160 dots per inch."""
_LINE_PX = 15
_LABEL_PX = 2 * _LINE_PX
_LETTERS = 22
_GAP_PX = 6


@dataclass(frozen=True, kw_only=True, eq=False)
class Superposition:
    """Registered scans, summed.

    Attributes:
        count: How many of them have bone at each voxel of the template's grid.
        grid: The template's grid, in MNI mm.
        num_scans: How many were summed.
    """

    count: Int[np.ndarray, "depth height width"]
    grid: Grid
    num_scans: int


@dataclass(frozen=True, kw_only=True, eq=False)
class Thumbnail:
    """One registered scan, small.

    Attributes:
        case_id: Stands below it.
        picture: Side view and view from below, side by side, 0 to 255.
        similarity: To the template; the lowest comes first.
        flags: Codes; a flagged scan is framed.
    """

    case_id: str
    picture: UInt8[np.ndarray, "rows columns"]
    similarity: float
    flags: tuple[str, ...] = ()


def superpose(volumes: Iterable[Volume]) -> Superposition:
    """Sum registered scans, each as bone or no bone; only the sum is held.

    Raises:
        ValueError: there is none, or they lie on different grids.
    """
    count, grid, number = None, None, 0
    for volume in volumes:
        if grid is None or count is None:
            grid, count = volume.grid, np.zeros(volume.voxels.shape, dtype=np.int64)
        if not volume.grid.matches(grid):
            raise ValueError("registered scans lie on different grids")
        count += volume.voxels >= BONE_HU
        number += 1
    if grid is None or count is None:
        raise ValueError("no scan to sum")
    return Superposition(count=count, grid=grid, num_scans=number)


def superposition_figure(summed: Superposition, centre_mni_mm: Float[np.ndarray, "3"], *, caption: str = "") -> Picture:
    """log2 of the sum on three slices through a point, for example the middle of the artery's box."""

    def paint(figure: Figure) -> None:
        axes = flat_axes(figure.subplots(1, 3, squeeze=False))
        shown = _orthogonal(np.log2(np.maximum(summed.count, 0.5)), summed.grid, centre_mni_mm)
        most = max(1.0, math.log2(max(summed.num_scans, 2)))
        norm = Normalize(0, most)
        for axis, (title, plane) in zip(axes, shown, strict=True):
            # Where no scan has bone nothing is drawn.
            axis.imshow(np.ma.masked_less(plane, 0.0), cmap="cividis", norm=norm, origin="lower")
            axis.set_facecolor("black")
            axis.set(title=title, xticks=[], yticks=[])
        scale = ScalarMappable(norm, cmap="cividis")
        bar = figure.colorbar(scale, ax=axes, location="bottom", shrink=0.5, aspect=40, label="scans with bone here")
        ticks = range(math.floor(most) + 1)
        bar.set_ticks(list(ticks), labels=[str(2**tick) for tick in ticks])

    alt = f"Sum of {summed.num_scans} registered scans on sagittal, coronal and axial slices"
    return draw(paint, caption=caption, alt=alt, size_in=(WIDTH_IN, 4.6), kind="png")


def thumbnail(
    registered: Volume,
    centre_mni_mm: Float[np.ndarray, "3"],
    *,
    case_id: str,
    similarity: float,
    flags: tuple[str, ...] = (),
) -> Thumbnail:
    """A registered scan as it stands on the sheet.

    Args:
        registered: HU on the template's grid.
        centre_mni_mm: Where the view from below is taken; the side view is always the midline.
        case_id: Stands below it.
        similarity: Orders the sheet.
        flags: Codes.
    """
    midline = np.array([0.0, centre_mni_mm[1], centre_mni_mm[2]])
    views = dict(_orthogonal(registered.voxels, registered.grid, midline))
    side, below = (_grey(views[name][::-1]) for name in ("sagittal", "axial"))
    height = max(len(side), len(below))
    both = [np.pad(view, ((height - len(view), 0), (0, 0))) for view in (side, below)]
    return Thumbnail(case_id=case_id, picture=np.hstack(both), similarity=similarity, flags=flags)


def contact_sheets(thumbnails: Sequence[Thumbnail], *, per_sheet: int = PER_SHEET) -> list[Picture]:
    """All thumbnails, flagged ones first, then the least alike their template; several sheets where there are many."""
    ordered = sorted(thumbnails, key=_worst_first)
    parts = [ordered[start : start + per_sheet] for start in range(0, len(ordered), per_sheet)]
    return [_sheet(part, number, len(parts)) for number, part in enumerate(parts, start=1)]


def _worst_first(one: Thumbnail) -> tuple[bool, float, str]:
    return not one.flags, (one.similarity if math.isfinite(one.similarity) else -math.inf), one.case_id


def _sheet(shown: Sequence[Thumbnail], number: int, sheets: int) -> Picture:
    rows = math.ceil(len(shown) / COLUMNS)
    tile_height = max(round(_TILE_PX * one.picture.shape[0] / one.picture.shape[1]) for one in shown)
    step = tile_height + _LABEL_PX + _GAP_PX
    size_px = (COLUMNS * _TILE_PX, rows * step)

    def paint(figure: Figure) -> None:
        # Pixels of the sheet are the unit; there is nothing to lay out.
        figure.set_layout_engine("none")
        axis = figure.add_axes((0.0, 0.0, 1.0, 1.0))
        axis.set(xlim=(0, size_px[0]), ylim=(size_px[1], 0))
        axis.set_axis_off()
        for place, one in enumerate(shown):
            row, column = divmod(place, COLUMNS)
            _tile(axis, one, (column * _TILE_PX, row * step), tile_height)

    framed = sum(bool(one.flags) for one in shown)
    caption = (
        f"Sheet {number} of {sheets}: {len(shown)} scans, first {framed} flagged ones (framed), then the least alike "
        "their template first. Side view at the midline, front to the right; view of the region, the patient's right "
        "on the left."
    )
    size_in = (WIDTH_IN, WIDTH_IN * size_px[1] / size_px[0])
    return draw(paint, caption=caption, alt=f"Thumbnails of {len(shown)} registered scans", size_in=size_in, kind="png")


def _tile(axis: Axes, one: Thumbnail, corner: tuple[float, float], height: float) -> None:
    left, top = corner
    inner = _TILE_PX - _GAP_PX
    axis.imshow(
        one.picture, cmap="gray", vmin=0, vmax=255, extent=(left, left + inner, top + height, top), aspect="auto",
        interpolation="antialiased",
    )  # fmt: skip
    axis.set_autoscale_on(False)
    if one.flags:
        axis.add_patch(
            Rectangle((left + 1, top + 1), inner - 2, height - 2, fill=False, edgecolor=PALETTE[1], linewidth=2.2)
        )
    colour = PALETTE[1] if one.flags else "black"
    for line, words in enumerate((one.case_id, " ".join(one.flags))):
        text = words if len(words) <= _LETTERS else f"{words[: _LETTERS - 1]}…"
        axis.text(left + 1, top + height + 3 + line * _LINE_PX, text, va="top", fontsize=5.4, color=colour)


def _grey(plane_hu: Shaped[np.ndarray, "rows columns"]) -> UInt8[np.ndarray, "rows columns"]:
    low, high = WINDOW_HU
    return np.rint(255 * np.clip((plane_hu - low) / (high - low), 0, 1)).astype(np.uint8)


def _orthogonal(
    voxels: Shaped[np.ndarray, "depth height width"], grid: Grid, centre_mni_mm: Float[np.ndarray, "3"]
) -> list[tuple[str, np.ndarray]]:
    """Three planes through a point, first row lowest: the side from the left (front right), front, and below."""
    if np.any(np.argmax(np.abs(grid.ijk_to_ras[:3, :3]), axis=0) != np.arange(3)):
        raise ValueError("the template's grid does not lie along the axes of its space")
    turned = voxels
    for axis in range(3):
        if grid.ijk_to_ras[axis, axis] < 0:
            turned = np.flip(turned, 2 - axis)
    index = np.clip(np.rint(grid.to_ijk(centre_mni_mm)).astype(int), 0, np.array(grid.shape[::-1]) - 1)
    i, j, k = (
        int(index[axis]) if grid.ijk_to_ras[axis, axis] > 0 else grid.shape[2 - axis] - 1 - int(index[axis])
        for axis in range(3)
    )
    # As in radiology, the patient's right is on the left.
    return [("sagittal", turned[:, :, i]), ("coronal", turned[:, j, ::-1]), ("axial", turned[k, :, ::-1])]
