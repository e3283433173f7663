"""A scan as small cubes along the patient's axes, and which of them were seen: what registration works on.

Pixels are first averaged over blocks of about the cubes' edge, also across thin slices, so nothing aliases; then the
blocks are read at the cubes' centres from their true positions, so tilt and uneven spacing are exact. Between thick
slices the value is linear. Only the physical content counts: another order of the array's axes gives the same cubes.
"""

import math
from dataclasses import dataclass
from typing import no_type_check

import numpy as np
from jaxtyping import Bool, Float, Float32, Int64
from numba import njit

from apatite.core.errors import DataError
from apatite.core.scan import PADDING_HU, Scan, SliceStack
from apatite.core.volume import Grid, Volume, axis_aligned_grid

LARGEST_MM = 700.0
"""Edge of the largest scan that is looked at; a head with neck and shoulders is well below."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Cubes:
    """A scan on a regular grid along the patient's axes.

    Attributes:
        volume: Float32 HU; `PADDING_HU` where nothing was seen.
        is_seen: True where the scan shows something, be it air.
    """

    volume: Volume
    is_seen: Bool[np.ndarray, "depth height width"]

    @property
    def step_mm(self) -> float:
        """Edge of a cube."""
        return self.volume.grid.spacing_mm[0]

    def halved(self) -> "Cubes":
        """Cubes of twice the edge: means over what was seen."""
        grid = self.volume.grid
        depth, height, width = (math.ceil(edge / 2) for edge in grid.shape)
        room = [(0, edge % 2) for edge in grid.shape]
        blocks = (depth, 2, height, 2, width, 2)
        seen = np.pad(self.is_seen, room).astype(np.float32).reshape(blocks)
        values = np.pad(self.volume.voxels, room).reshape(blocks)
        affine = grid.ijk_to_ras.copy()
        affine[:3, 3] += affine[:3, :3].sum(axis=1) / 2
        affine[:3, :3] *= 2
        return _cubes(
            (values * seen).mean(axis=(1, 3, 5)),
            seen.mean(axis=(1, 3, 5)),
            Grid(shape=(depth, height, width), ijk_to_ras=affine),
        )


def isotropic(scan: Scan, step_mm: float = 2.0) -> Cubes:
    """Cut a scan into cubes.

    Args:
        scan: Original slices; pixels of `is_padding` are not seen.
        step_mm: Edge of a cube.

    Raises:
        DataError: the scan is too large for one of a head (`REG_FAIL`).
    """
    total, share, stack, ends = _blocks(scan, step_mm)
    grid = _covering_grid(scan.stack, step_mm)
    step = np.stack([stack.row_step_ras_mm, stack.column_step_ras_mm], axis=1)
    total, share = _read_blocks(
        total,
        share,
        stack.positions_mm,
        np.ascontiguousarray(stack.origins_ras_mm),
        stack.normal_ras,
        np.ascontiguousarray(np.linalg.pinv(step)),
        np.array(grid.shape),
        np.append(grid.ijk_to_ras[:3, 3], step_mm),
        ends,
    )
    return _cubes(total, share, grid)


def _cubes(
    total: Float32[np.ndarray, "depth height width"], share: Float32[np.ndarray, "depth height width"], grid: Grid
) -> Cubes:
    """From sums over what was seen, and how much of each cube that was."""
    is_seen = share >= 0.5
    voxels = np.where(is_seen, total / np.maximum(share, 0.5), PADDING_HU).astype(np.float32)
    return Cubes(volume=Volume(voxels=voxels, grid=grid), is_seen=is_seen)


def _covering_grid(stack: SliceStack, step_mm: float) -> Grid:
    """The grid of cubes that holds every slice with half its thickness."""
    rows, columns = np.array([-0.5, stack.shape[1] - 0.5]), np.array([-0.5, stack.shape[2] - 0.5])
    corners = np.stack(np.meshgrid(rows, columns, indexing="ij"), axis=-1).reshape(-1, 2)
    half = stack.normal_ras * float(np.median(stack.thickness_mm)) / 2
    points = np.concatenate([stack.to_ras(0, corners) - half, stack.to_ras(stack.shape[0] - 1, corners) + half])
    low, high = points.min(axis=0), points.max(axis=0)
    if np.any(high - low > LARGEST_MM):
        raise DataError(
            f"the scan is {(high - low).max():.0f} mm long, more than any scan of a head",
            fix="give the series that shows the head",
            code="REG_FAIL",
        )
    # The tolerance keeps rounding in the corners from adding a cube in one order of the axes and not in another.
    width, height, depth = (max(1, math.ceil(edge / step_mm - 1e-3)) for edge in high - low)
    return axis_aligned_grid((depth, height, width), (step_mm, step_mm, step_mm), (low + high) / 2)


def _blocks(
    scan: Scan, step_mm: float
) -> tuple[
    Float32[np.ndarray, "slices rows columns"],
    Float32[np.ndarray, "slices rows columns"],
    SliceStack,
    Float[np.ndarray, "2"],
]:
    """Sums over blocks of pixels divided by the pixels of a block, the share of them that was seen, and their places.

    The last is where the slices end along the normal. Blocks begin at the patient's left, back and bottom, whatever
    way the array runs.
    """
    stack = scan.stack
    rows = _block_of_pixel(stack.shape[1], stack.row_step_ras_mm, step_mm)
    columns = _block_of_pixel(stack.shape[2], stack.column_step_ras_mm, step_mm)
    slices = _block_of_slice(stack, step_mm)
    shape = (int(slices.max()) + 1, int(rows.max()) + 1, int(columns.max()) + 1)
    is_padding = np.zeros((1, 1, 1), dtype=bool) if scan.is_padding is None else scan.is_padding
    total, count = _sum_blocks(scan.voxels_hu, is_padding, slices, rows, columns, np.array(shape))
    pixels = np.bincount(slices[slices >= 0])[:, None, None] * (np.sum(rows == 0) * np.sum(columns == 0)).astype(
        np.float32
    )
    row_column = np.array([[np.flatnonzero(rows == 0).mean(), np.flatnonzero(columns == 0).mean()]])
    first = stack.to_ras(0, row_column)[0] - stack.origins_ras_mm[0]
    origins = np.stack([stack.origins_ras_mm[slices == block].mean(axis=0) for block in range(shape[0])]) + first
    blocks = SliceStack(
        shape=shape,
        origins_ras_mm=origins,
        column_step_ras_mm=stack.column_step_ras_mm * np.sum(columns == 0),
        row_step_ras_mm=stack.row_step_ras_mm * np.sum(rows == 0),
        thickness_mm=np.full(shape[0], step_mm),
    )
    kept = stack.positions_mm[slices >= 0]
    ends = np.array([kept[0], kept[-1]]) + np.array([-0.5, 0.5]) * np.median(stack.thickness_mm)
    return (total / pixels).astype(np.float32), (count / pixels).astype(np.float32), blocks, ends


def _runs_up(direction: Float[np.ndarray, "3"]) -> bool:
    """Whether an axis runs to the right, to the front or up."""
    return bool(direction[np.argmax(np.abs(direction))] > 0)


def _block_of_pixel(pixels: int, step: Float[np.ndarray, "3"], step_mm: float) -> Int64[np.ndarray, "pixels"]:
    """Block of each row or column; -1 for those that fill no whole block, less than one cube at the edge."""
    factor = min(max(1, int(1.005 * step_mm / np.linalg.norm(step))), pixels)
    block = np.arange(pixels) // factor
    block[block == pixels // factor] = -1
    if _runs_up(step):
        return block
    return np.where(block >= 0, pixels // factor - 1 - block, -1)[::-1].copy()


def _block_of_slice(stack: SliceStack, step_mm: float) -> Int64[np.ndarray, "slices"]:
    """Block of each slice: thin ones share one, thick ones have their own; -1 for those that fill no whole block."""
    is_up = _runs_up(stack.normal_ras)
    at = stack.positions_mm if is_up else -stack.positions_mm[::-1]
    spacing = np.diff(at, prepend=2 * at[0] - at[min(1, len(at) - 1)])
    block, begin = np.zeros(len(at), dtype=np.int64), at[0]
    for n in range(1, len(at)):
        is_new = at[n] - begin + spacing[n] > step_mm * 1.005
        block[n] = block[n - 1] + is_new
        begin = at[n] if is_new else begin
    if block[-1] > 0 and at[-1] - begin + 2 * spacing[-1] <= step_mm * 1.005:
        block[block == block[-1]] = -1
    return block if is_up else np.where(block >= 0, block.max() - block, -1)[::-1].copy()


@njit(cache=True, nogil=True)
@no_type_check
def _sum_blocks(voxels, is_padding, slices, rows, columns, shape):
    """Sum and number of the seen pixels of each block."""
    total = np.zeros((shape[0], shape[1], shape[2]), dtype=np.float32)
    count = np.zeros((shape[0], shape[1], shape[2]), dtype=np.float32)
    has_padding = is_padding.shape == voxels.shape
    for s in range(voxels.shape[0]):
        for r in range(voxels.shape[1]):
            if slices[s] < 0 or rows[r] < 0:
                continue
            for c in range(voxels.shape[2]):
                if columns[c] < 0 or (has_padding and is_padding[s, r, c]):
                    continue
                total[slices[s], rows[r], columns[c]] += max(np.float32(voxels[s, r, c]), np.float32(-1024))
                count[slices[s], rows[r], columns[c]] += 1
    return total, count


@njit(cache=True, nogil=True)
@no_type_check
def _read_blocks(total, share, positions, origins, normal, to_row_column, shape, corner_step, ends):  # noqa: PLR0913 - compiled
    """Trilinear sums and shares at the centres of the cubes; nothing beyond half a slice or half a block."""
    values = np.zeros((shape[0], shape[1], shape[2]), dtype=np.float32)
    weights = np.zeros((shape[0], shape[1], shape[2]), dtype=np.float32)
    slices, rows, columns = total.shape
    for k in range(shape[0]):
        z = corner_step[2] + k * corner_step[3]
        for j in range(shape[1]):
            y = corner_step[1] + j * corner_step[3]
            for i in range(shape[2]):
                x = corner_step[0] + i * corner_step[3]
                along = x * normal[0] + y * normal[1] + z * normal[2]
                if along < ends[0] or along > ends[1]:
                    continue
                lower = min(max(np.searchsorted(positions, along, side="right") - 1, 0), max(slices - 2, 0))
                upper = min(lower + 1, slices - 1)
                gap = positions[upper] - positions[lower]
                # Beyond the ends the in-plane origin goes on moving (a tilted stack), the value is the end's.
                w = (along - positions[lower]) / gap if gap > 0 else 0.0
                dx = x - origins[lower, 0] * (1 - w) - origins[upper, 0] * w
                dy = y - origins[lower, 1] * (1 - w) - origins[upper, 1] * w
                dz = z - origins[lower, 2] * (1 - w) - origins[upper, 2] * w
                row = to_row_column[0, 0] * dx + to_row_column[0, 1] * dy + to_row_column[0, 2] * dz
                column = to_row_column[1, 0] * dx + to_row_column[1, 1] * dy + to_row_column[1, 2] * dz
                if row < -0.5 or column < -0.5 or row > rows - 0.5 or column > columns - 0.5:
                    continue
                w = min(max(w, 0.0), 1.0)
                row, column = min(max(row, 0.0), rows - 1.0), min(max(column, 0.0), columns - 1.0)
                r, c = int(row), int(column)
                v, u = row - r, column - c
                for s, ws in ((lower, 1 - w), (upper, w)):
                    for rr, wr in ((r, 1 - v), (min(r + 1, rows - 1), v)):
                        for cc, wc in ((c, 1 - u), (min(c + 1, columns - 1), u)):
                            values[k, j, i] += ws * wr * wc * total[s, rr, cc]
                            weights[k, j, i] += ws * wr * wc * share[s, rr, cc]
    return values, weights
