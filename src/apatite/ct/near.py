"""The part of a scan that a small body can touch: slices, rows and columns round its corners.

A region fills a hundredth of a head; everything that looks for its pixels looks here only.
"""

import numpy as np
from jaxtyping import Float

from apatite.core.scan import SliceStack, Window
from apatite.core.volume import Grid

_ROUNDING_MM = 1e-6


def near(stack: SliceStack, corners_ras_mm: Float[np.ndarray, "corners 3"], reach_mm: float = 0.0) -> Window:
    """The smallest window that holds every pixel whose centre lies in the convex hull of some points.

    Args:
        stack: Where the slices lie.
        corners_ras_mm: Corners of a convex body.
        reach_mm: How far beyond it, along the normal, slices still count; half their thickness, for example.

    Returns:
        A window of the stack, perhaps empty.
    """
    # Within one slice, rows and columns are linear in the point, so no point of the hull lies beyond its corners.
    along = corners_ras_mm @ stack.normal_ras
    reach_mm += _ROUNDING_MM
    is_met = (stack.positions_mm >= along.min() - reach_mm) & (stack.positions_mm <= along.max() + reach_mm)
    met = np.flatnonzero(is_met)
    if not met.size:
        return slice(0, 0), slice(0, 0), slice(0, 0)
    to_row_column = np.linalg.pinv(np.stack([stack.row_step_ras_mm, stack.column_step_ras_mm], axis=1))
    points = (corners_ras_mm[None] - stack.origins_ras_mm[met][:, None]).reshape(-1, 3) @ to_row_column.T
    first = np.clip(np.floor(points.min(axis=0)).astype(int), 0, stack.shape[1:])
    end = np.clip(np.ceil(points.max(axis=0)).astype(int) + 1, 0, stack.shape[1:])
    return slice(int(met[0]), int(met[-1]) + 1), slice(int(first[0]), int(end[0])), slice(int(first[1]), int(end[1]))


def is_empty(window: Window) -> bool:
    """Whether a window holds no pixel."""
    return any(part.stop <= part.start for part in window)


def row_columns(stack: SliceStack) -> Float[np.ndarray, "rows columns 2"]:
    """Every (row, column) of a slice."""
    _, rows, columns = stack.shape
    return np.stack(np.meshgrid(np.arange(float(rows)), np.arange(float(columns)), indexing="ij"), axis=-1)


def grid_corners_ras_mm(grid: Grid) -> Float[np.ndarray, "8 3"]:
    """The outer corners of a grid: half a voxel beyond the outer centres."""
    depth, height, width = grid.shape
    edges = np.meshgrid([-0.5, width - 0.5], [-0.5, height - 0.5], [-0.5, depth - 0.5], indexing="ij")
    return grid.to_ras(np.stack(edges, axis=-1).reshape(8, 3))
