"""The region of a head CT that the network sees, and the way back to the original slices.

The region is a small regular grid around a centre, along the patient's axes. A voxel of it is the mean over its own
extent (sub-samples, trilinear between original pixels), so a coarse region does not alias. On the way back, each
original pixel reads the network's probability, averaged over the thickness of its slice.

Source: iac region of Jin et al. 2025 (arXiv 2507.01744): 96×96×32 voxels of 0.44×0.44×1.0 mm, recovered from public
code of the same group and very likely, not certain.
Differs: the authors crop the scanner's own grid; here the region is resampled, because the network's patches have a
fixed size in mm.
"""

import math
from dataclasses import dataclass
from typing import no_type_check

import numpy as np
from jaxtyping import Bool, Float, Float32
from numba import njit

from apatite.core.errors import ConfigError
from apatite.core.scan import PADDING_HU, Scan, SliceStack
from apatite.core.volume import Grid, Volume, axis_aligned_grid
from apatite.ct.near import grid_corners_ras_mm, is_empty, near, row_columns
from apatite.io.nifti import viewer_grid

MUCH_LARGER = 1.5
"""A scan of more than this many regions along any axis has to say where its region is."""
MOST_SAMPLES = 16
"""Sub-samples of a voxel along an axis; a thickness of nearly nothing in a header must not cost minutes."""
PROFILE_SAMPLES = 5
"""How many points across a thick slice are averaged on the way back."""


@dataclass(frozen=True, kw_only=True)
class RegionConfig:
    """Size of the region.

    Attributes:
        shape: Voxels along depth, height, width.
        spacing_mm: Along i (width), j (height), k (depth).
    """

    shape: tuple[int, int, int] = (32, 96, 96)
    spacing_mm: tuple[float, float, float] = (0.44, 0.44, 1.0)

    def __post_init__(self) -> None:
        if min(self.shape) < 1 or min(self.spacing_mm) <= 0:
            raise ConfigError(
                f"a region of {self.shape} voxels of {self.spacing_mm} mm is empty", fix="use positive numbers"
            )

    def grid(self, centre_ras_mm: Float[np.ndarray, "3"]) -> Grid:
        """The region's grid around a centre."""
        return axis_aligned_grid(self.shape, self.spacing_mm, centre_ras_mm)


REGIONS: dict[str, RegionConfig] = {
    "paper": RegionConfig(),
    "small": RegionConfig(shape=(16, 48, 48), spacing_mm=(0.88, 0.88, 2.0)),
}
"""Named sizes: `paper` after Jin 2025, `small` for two cores; both cover 42×42×32 mm."""


def middle_region(stack: SliceStack, region: RegionConfig) -> Grid | None:
    """The region around the middle of a scan that is about as large as it; `None` where the scan is much larger.

    A scan cut out beforehand needs no stated centre. In a whole head the middle is not where the artery is, and taking
    it would be silently wrong.
    """
    middle = viewer_grid(stack)
    # The region lies along the patient's axes, the scan's own axes may come in any order.
    extent_mm = np.abs(middle.ijk_to_ras[:3, :3]) @ np.array(stack.shape[::-1], dtype=float)
    region_mm = np.array(region.spacing_mm) * np.array(region.shape[::-1])
    return region.grid(middle.centre_ras_mm) if np.all(extent_mm <= MUCH_LARGER * region_mm) else None


def cut_region(scan: Scan, grid: Grid) -> Volume:
    """Resample a scan onto a region's grid.

    Args:
        scan: Original slices.
        grid: Regular grid in the same patient.

    Returns:
        Float32 HU on the grid; outside the scan it is air padding (-1024 HU), never 0 (which would be water).
    """
    return Volume(voxels=_resample(scan.voxels_hu, scan.stack, grid, PADDING_HU), grid=grid)


def cut_fraction(is_marked: Bool[np.ndarray, "slices rows columns"], stack: SliceStack, grid: Grid) -> Volume:
    """What fraction of each region voxel is marked on the original slices (0 outside the scan)."""
    return Volume(voxels=_resample(is_marked.astype(np.float32), stack, grid, 0.0), grid=grid)


def is_inside_region(stack: SliceStack, grid: Grid) -> Bool[np.ndarray, "slices rows columns"]:
    """True for the original pixels whose centre lies inside the region: truth is counted there only."""
    inside = np.zeros(stack.shape, dtype=bool)
    window = near(stack, grid_corners_ras_mm(grid))
    if is_empty(window):
        return inside
    part, upper = stack.part(window), np.array(grid.shape[::-1]) - 0.5
    found, points = inside[window], row_columns(part)
    for k in range(part.shape[0]):
        ijk = grid.to_ijk(part.to_ras(k, points))
        found[k] = np.all((ijk >= -0.5) & (ijk < upper), axis=-1)
    return inside


def carry_back(values: Volume, stack: SliceStack) -> Float32[np.ndarray, "slices rows columns"]:
    """Read a region's values at the original pixels, averaged over the thickness of each slice.

    Args:
        values: For example the network's probability on the region's grid.
        stack: Original slices.

    Returns:
        One value per original pixel; 0 outside the region.
    """
    result = np.zeros(stack.shape, dtype=np.float32)
    window = near(stack, grid_corners_ras_mm(values.grid), float(stack.thickness_mm.max()) / 2)
    if is_empty(window):
        return result
    part = stack.part(window)
    step = np.stack([part.column_step_ras_mm, part.row_step_ras_mm], axis=1)
    inverse = np.linalg.inv(values.grid.ijk_to_ras[:3, :3])
    offsets = (np.arange(PROFILE_SAMPLES) + 0.5) / PROFILE_SAMPLES - 0.5
    along_mm = stack.positions_mm[window[0], None] + offsets * part.thickness_mm[:, None]
    corner = part.origins_ras_mm[0] - stack.origins_ras_mm[window[0].start]
    starts = np.stack([_origin_at(stack, along) for along in along_mm.T], axis=1) + corner
    start_ijk = (starts - values.grid.ijk_to_ras[:3, 3]) @ inverse.T
    result[window] = _read_back(
        np.ascontiguousarray(values.voxels, dtype=np.float32),
        start_ijk,
        np.ascontiguousarray((inverse @ step).T),
        part.shape[1],
        part.shape[2],
    )
    return result


def _resample(
    voxels: np.ndarray, stack: SliceStack, grid: Grid, outside: float
) -> Float32[np.ndarray, "depth height width"]:
    """Mean over each voxel of `grid`, by sub-samples no farther apart than the original pixels."""
    # The slice axis may be uneven, so its coordinate is looked up per point. The map along the normal is piecewise
    # linear; rows and columns are linear in the point and in the interpolated origin.
    thickness_mm = float(np.median(stack.thickness_mm))
    wanted = [math.ceil(g / s - 0.01) for g, s in zip(grid.spacing_mm, _source_mm(stack, grid), strict=True)]
    counts = np.clip(np.array(wanted), 1, MOST_SAMPLES)
    step = np.stack([stack.row_step_ras_mm, stack.column_step_ras_mm], axis=1)
    return _sample_mean(
        np.ascontiguousarray(voxels, dtype=np.float32),
        stack.positions_mm,
        thickness_mm,
        np.ascontiguousarray(stack.origins_ras_mm),
        stack.normal_ras,
        np.ascontiguousarray(np.linalg.pinv(step)),
        np.array(grid.shape),
        np.ascontiguousarray(grid.ijk_to_ras),
        counts,
        np.float32(outside),
    )


def _origin_at(stack: SliceStack, along_mm: Float[np.ndarray, "points"]) -> Float[np.ndarray, "points 3"]:
    """Pixel (0, 0) at positions along the normal, on the lines on which pixels of neighbouring slices are joined.

    These are the lines along which `cut_region` interpolates. In a tilted scan they run along the table and not along
    the normal; reading across them would blur what it has cut.
    """
    positions, origins = stack.positions_mm, stack.origins_ras_mm
    if len(positions) == 1:
        return origins + (along_mm - positions)[:, None] * stack.normal_ras
    lower = np.clip(np.searchsorted(positions, along_mm, side="right") - 1, 0, len(positions) - 2)
    weight = (along_mm - positions[lower]) / (positions[lower + 1] - positions[lower])
    return origins[lower] + weight[:, None] * (origins[lower + 1] - origins[lower])


def _source_mm(stack: SliceStack, grid: Grid) -> list[float]:
    """Along each axis of a grid, the pixel's edge or the thickness, whichever axis of the scan runs most along it."""
    steps = np.stack([stack.column_step_ras_mm, stack.row_step_ras_mm, stack.normal_ras], axis=1)
    along = np.abs(grid.ijk_to_ras[:3, :3].T @ (steps / np.linalg.norm(steps, axis=0)))
    edges_mm = (stack.column_spacing_mm, stack.row_spacing_mm, float(np.median(stack.thickness_mm)))
    return [edges_mm[int(axis)] for axis in along.argmax(axis=1)]


@njit(cache=True)
@no_type_check
def _trilinear(voxels: np.ndarray, z: float, y: float, x: float, outside: float) -> float:
    """Trilinear value at a fractional index; half a voxel beyond the border still counts as the border."""
    depth, height, width = voxels.shape
    if z < -0.5 or y < -0.5 or x < -0.5 or z > depth - 0.5 or y > height - 0.5 or x > width - 0.5:
        return outside
    z, y, x = min(max(z, 0.0), depth - 1.0), min(max(y, 0.0), height - 1.0), min(max(x, 0.0), width - 1.0)
    z0, y0, x0 = int(z), int(y), int(x)
    z1, y1, x1 = min(z0 + 1, depth - 1), min(y0 + 1, height - 1), min(x0 + 1, width - 1)
    dz, dy, dx = z - z0, y - y0, x - x0
    low = (voxels[z0, y0, x0] * (1 - dx) + voxels[z0, y0, x1] * dx) * (1 - dy) + (
        voxels[z0, y1, x0] * (1 - dx) + voxels[z0, y1, x1] * dx
    ) * dy
    high = (voxels[z1, y0, x0] * (1 - dx) + voxels[z1, y0, x1] * dx) * (1 - dy) + (
        voxels[z1, y1, x0] * (1 - dx) + voxels[z1, y1, x1] * dx
    ) * dy
    return low * (1 - dz) + high * dz


@njit(cache=True)
@no_type_check
def _slice_index(positions: np.ndarray, along: float, thickness: float) -> float:
    """Fractional slice index of a position along the normal; a single slice reaches as far as it is thick."""
    last = len(positions) - 1
    if last == 0:
        return (along - positions[0]) / thickness
    if along < positions[0]:
        return (along - positions[0]) / (positions[1] - positions[0])
    if along >= positions[last]:
        return last + (along - positions[last]) / (positions[last] - positions[last - 1])
    lower = np.searchsorted(positions, along, side="right") - 1
    return lower + (along - positions[lower]) / (positions[lower + 1] - positions[lower])


@njit(cache=True)
@no_type_check
def _sample_mean(voxels, positions, thickness, origins, normal, to_row_column, shape, affine, counts, outside):  # noqa: PLR0913 - compiled
    """Mean of sub-samples over each voxel of the target grid."""
    result = np.empty((shape[0], shape[1], shape[2]), dtype=np.float32)
    last = max(len(positions) - 2, 0)
    total = counts[0] * counts[1] * counts[2]
    for k in range(shape[0]):
        for j in range(shape[1]):
            for i in range(shape[2]):
                accumulated = 0.0
                for c in range(counts[2]):
                    kk = k + (c + 0.5) / counts[2] - 0.5
                    for b in range(counts[1]):
                        jj = j + (b + 0.5) / counts[1] - 0.5
                        for a in range(counts[0]):
                            ii = i + (a + 0.5) / counts[0] - 0.5
                            x = affine[0, 0] * ii + affine[0, 1] * jj + affine[0, 2] * kk + affine[0, 3]
                            y = affine[1, 0] * ii + affine[1, 1] * jj + affine[1, 2] * kk + affine[1, 3]
                            z = affine[2, 0] * ii + affine[2, 1] * jj + affine[2, 2] * kk + affine[2, 3]
                            index = _slice_index(positions, x * normal[0] + y * normal[1] + z * normal[2], thickness)
                            if index < -0.5:
                                accumulated += outside
                                continue
                            lower = min(max(math.floor(index), 0), last)
                            upper = min(lower + 1, len(positions) - 1)
                            w = index - lower
                            dx = x - origins[lower, 0] * (1 - w) - origins[upper, 0] * w
                            dy = y - origins[lower, 1] * (1 - w) - origins[upper, 1] * w
                            dz = z - origins[lower, 2] * (1 - w) - origins[upper, 2] * w
                            row = to_row_column[0, 0] * dx + to_row_column[0, 1] * dy + to_row_column[0, 2] * dz
                            column = to_row_column[1, 0] * dx + to_row_column[1, 1] * dy + to_row_column[1, 2] * dz
                            accumulated += _trilinear(voxels, index, row, column, outside)
                result[k, j, i] = accumulated / total
    return result


@njit(cache=True)
@no_type_check
def _read_back(voxels, start_ijk, step_ijk, rows, columns):
    """Mean over the slice profile of trilinear reads at every original pixel."""
    slices, samples, _ = start_ijk.shape
    result = np.zeros((slices, rows, columns), dtype=np.float32)
    for s in range(slices):
        for r in range(rows):
            for c in range(columns):
                accumulated = 0.0
                for q in range(samples):
                    i = start_ijk[s, q, 0] + step_ijk[0, 0] * c + step_ijk[1, 0] * r
                    j = start_ijk[s, q, 1] + step_ijk[0, 1] * c + step_ijk[1, 1] * r
                    k = start_ijk[s, q, 2] + step_ijk[0, 2] * c + step_ijk[1, 2] * r
                    accumulated += _trilinear(voxels, k, j, i, 0.0)
                result[s, r, c] = accumulated / samples
    return result
