"""Slices with their own positions: the form in which calcium is measured.

A scan is not a regular grid. Gantry tilt shears it, protocols change the spacing halfway, slices overlap or leave
gaps. So every slice keeps its own origin, and nothing is resampled away. Calcium is measured here and nowhere else.

Source: the algorithm follows the DICOM image plane module (PS3.3, C.7.6.2.1.1).
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Shaped

from apatite.core.volume import Grid, Points

PADDING_HU = -1024.0
"""Value of everything outside the reconstructed field of view."""

Window = tuple[slice, slice, slice]
"""Slices, rows and columns of a stack, each with a start and a stop."""


@dataclass(frozen=True, kw_only=True, eq=False)
class SliceStack:
    """Where the pixels of a scan lie.

    Attributes:
        shape: Slices, rows, columns.
        origins_ras_mm: Centre of the pixel in row 0, column 0 of each slice, sorted along the normal.
        column_step_ras_mm: From one column to the next.
        row_step_ras_mm: From one row to the next.
        thickness_mm: Nominal thickness of each slice. It is not the distance between slices.
    """

    shape: tuple[int, int, int]
    origins_ras_mm: Float[np.ndarray, "slices 3"]
    column_step_ras_mm: Float[np.ndarray, "3"]
    row_step_ras_mm: Float[np.ndarray, "3"]
    thickness_mm: Float[np.ndarray, "slices"]

    def __post_init__(self) -> None:
        if len(self.origins_ras_mm) != self.shape[0] or len(self.thickness_mm) != self.shape[0]:
            raise ValueError(
                f"{self.shape[0]} slices, but {len(self.origins_ras_mm)} origins, {len(self.thickness_mm)} thicknesses"
            )
        if self.shape[0] > 1 and np.any(np.diff(self.positions_mm) <= 0):
            raise ValueError("slices are not sorted along the normal, or two of them share a position")

    @property
    def normal_ras(self) -> Float[np.ndarray, "3"]:
        """Unit normal of the slices, pointing the way they are sorted."""
        normal = np.cross(self.column_step_ras_mm, self.row_step_ras_mm)
        normal = normal / np.linalg.norm(normal)
        along = (self.origins_ras_mm[-1] - self.origins_ras_mm[0]) @ normal
        return -normal if along < 0 else normal

    @property
    def positions_mm(self) -> Float[np.ndarray, "slices"]:
        """Position of each slice along the normal."""
        return self.origins_ras_mm @ self.normal_ras

    @property
    def pixel_mm2(self) -> float:
        """Area of one pixel."""
        return float(np.linalg.norm(np.cross(self.column_step_ras_mm, self.row_step_ras_mm)))

    @property
    def column_spacing_mm(self) -> float:
        """Distance between neighbouring columns."""
        return float(np.linalg.norm(self.column_step_ras_mm))

    @property
    def row_spacing_mm(self) -> float:
        """Distance between neighbouring rows."""
        return float(np.linalg.norm(self.row_step_ras_mm))

    def to_ras(self, slice_index: int, points_row_column: Float[np.ndarray, "*points 2"]) -> Points:
        """RAS mm of (row, column) points in one original slice."""
        rows, columns = points_row_column[..., :1], points_row_column[..., 1:]
        return self.origins_ras_mm[slice_index] + rows * self.row_step_ras_mm + columns * self.column_step_ras_mm

    def part(self, window: Window) -> "SliceStack":
        """The slices, rows and columns of a window that is not empty, where they lay before."""
        slices, rows, columns = window
        corner = rows.start * self.row_step_ras_mm + columns.start * self.column_step_ras_mm
        return SliceStack(
            shape=(slices.stop - slices.start, rows.stop - rows.start, columns.stop - columns.start),
            origins_ras_mm=self.origins_ras_mm[slices] + corner,
            column_step_ras_mm=self.column_step_ras_mm,
            row_step_ras_mm=self.row_step_ras_mm,
            thickness_mm=self.thickness_mm[slices],
        )

    def to_slice_row_column(self, points_ras_mm: Points) -> Points:
        """Fractional (slice, row, column) of points in the patient; inverse of `to_ras` at whole slices.

        Between slices the in-plane origin moves linearly, which is exact for a tilted gantry and for uneven spacing.
        Beyond the ends the spacing of the nearest pair goes on; for a single slice, its thickness.
        """
        positions = self.positions_mm
        along = np.asarray(points_ras_mm @ self.normal_ras)
        index = _interpolated_index(along, positions, float(self.thickness_mm[0]))
        lower = np.clip(np.floor(index), 0, max(self.shape[0] - 2, 0)).astype(int)
        upper = np.minimum(lower + 1, self.shape[0] - 1)
        weight = (index - lower)[..., None]
        origin = self.origins_ras_mm[lower] * (1 - weight) + self.origins_ras_mm[upper] * weight
        offset = points_ras_mm - origin
        step = np.stack([self.row_step_ras_mm, self.column_step_ras_mm], axis=1)
        in_plane = offset @ np.linalg.pinv(step).T
        return np.concatenate([index[..., None], in_plane], axis=-1)


def _interpolated_index(
    along: Float[np.ndarray, "*points"], positions: Float[np.ndarray, "slices"], thickness_mm: float
) -> Float[np.ndarray, "*points"]:
    """Fractional slice index of positions along the normal, going on linearly beyond both ends."""
    if len(positions) == 1:
        return np.asarray((along - positions[0]) / thickness_mm)
    index = np.interp(along, positions, np.arange(len(positions), dtype=float))
    below = (along - positions[0]) / (positions[1] - positions[0])
    above = len(positions) - 1 + (along - positions[-1]) / (positions[-1] - positions[-2])
    return np.where(along < positions[0], below, np.where(along > positions[-1], above, index))


@dataclass(frozen=True, kw_only=True, eq=False)
class Scan:
    """Original slices in Hounsfield units, and where they lie.

    Attributes:
        voxels_hu: `slices rows columns`; `PADDING_HU` where nothing was reconstructed.
        stack: Their geometry.
        is_padding: True where the scanner reconstructed nothing (outside its circle); `None` where there is no such
            pixel or the file cannot say. Kept apart, because air can have the same value.
    """

    voxels_hu: Shaped[np.ndarray, "slices rows columns"]
    stack: SliceStack
    is_padding: Bool[np.ndarray, "slices rows columns"] | None = None

    def __post_init__(self) -> None:
        if self.voxels_hu.shape != self.stack.shape:
            raise ValueError(f"voxels {self.voxels_hu.shape} do not fit the slices {self.stack.shape}")
        if self.is_padding is not None and self.is_padding.shape != self.stack.shape:
            raise ValueError(f"padding {self.is_padding.shape} does not fit the slices {self.stack.shape}")


def stack_from_grid(grid: Grid) -> SliceStack:
    """The slices of a regular (perhaps sheared) grid; the thickness is taken to be their distance along the normal.

    A grid whose slices run against the normal is a stack all the same: only the order along the normal counts.
    """
    i_step, j_step, k_step = grid.ijk_to_ras[:3, 0], grid.ijk_to_ras[:3, 1], grid.ijk_to_ras[:3, 2]
    normal = np.cross(i_step, j_step)
    distance = abs(float(k_step @ (normal / np.linalg.norm(normal))))
    depth = grid.shape[0]
    return SliceStack(
        shape=grid.shape,
        origins_ras_mm=grid.ijk_to_ras[:3, 3] + np.arange(depth)[:, None] * k_step,
        column_step_ras_mm=i_step.copy(),
        row_step_ras_mm=j_step.copy(),
        thickness_mm=np.full(depth, distance),
    )
