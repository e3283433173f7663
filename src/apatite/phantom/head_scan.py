"""Scanning a whole head: original slices of any layout, and what is true of the calcium in them.

The same model scanner as for the region (`scanner`): thickness by averaging across the slice, point spread, noise,
bands and streaks. Near the sella tissue comes from the region's fine grid, elsewhere from the head's.
"""

from dataclasses import dataclass
from typing import no_type_check

import numpy as np
from jaxtyping import Bool, Float32, Int16
from numba import njit

from apatite.core.scan import PADDING_HU, Scan, SliceStack
from apatite.phantom.density import BASE, EXCESS
from apatite.phantom.head import Head
from apatite.phantom.head_truth import HeadTruth, head_truth, kernel_weights
from apatite.phantom.protocol import Protocol
from apatite.phantom.scanner import (
    Pose,
    add_artefacts,
    artefact_frame,
    correlated_noise,
    draw_artefacts,
    point_spread,
)

SEAM_MM = 6.0
"""Width over which the region's fine tissue goes over into the head's."""
HEADREST_HU = -150.0
_RIM_MM = 1.5
"""The outermost tissue of the region's grid is not used: its last cells are extrapolated when read."""
_ACROSS_MM = 0.75
"""Farthest apart that tissue is read across a slice."""


@dataclass(frozen=True, kw_only=True)
class Field:
    """What the scanner shows around the head.

    Attributes:
        has_circle: Whether pixels outside the largest circle are padding.
        has_headrest: Whether the head lies in a plastic bowl.
    """

    has_circle: bool = True
    has_headrest: bool = True


@dataclass(frozen=True, kw_only=True, eq=False)
class HeadScan:
    """A scan of a head (int16 HU) and what is true of it."""

    scan: Scan
    truth: HeadTruth


def scan_head(
    head: Head, pose: Pose, protocol: Protocol, stack: SliceStack, rng: np.random.Generator, field: Field | None = None
) -> HeadScan:
    """Scan a head.

    Args:
        head: Who.
        pose: Where it lies: patient RAS = turn @ head's own frame + shift.
        protocol: Point spread, noise, artefacts and offset; geometry comes from `stack` alone.
        stack: Where the slices lie.
        rng: Randomness of this scan.
        field: What surrounds the head.
    """
    field = field or Field()
    image = _exposed(head, pose, stack, field)
    point, wide = kernel_weights(head, protocol)
    image = point_spread(image, point, wide, protocol.overshoot)
    noise = correlated_noise(rng, stack.shape, protocol)
    add_artefacts(image, noise, artefact_frame(pose, stack), *draw_artefacts(rng, protocol))
    image += np.float32(protocol.offset_hu)
    np.rint(image, out=image)
    np.clip(image, PADDING_HU, 3071, out=image)
    voxels: Int16[np.ndarray, "slices rows columns"] = image.astype(np.int16)
    is_padding = None
    if field.has_circle:
        is_padding = np.broadcast_to(is_outside_circle(stack), stack.shape)
        voxels[is_padding] = int(PADDING_HU)
    scan = Scan(voxels_hu=voxels, stack=stack, is_padding=is_padding)
    return HeadScan(scan=scan, truth=head_truth(head, pose, protocol, scan))


def is_outside_circle(stack: SliceStack) -> Bool[np.ndarray, "rows columns"]:
    """True for the pixels of a slice outside the largest circle that fits."""
    rows, columns = np.indices(stack.shape[1:], dtype=float)
    down = (rows - (stack.shape[1] - 1) / 2) * stack.row_spacing_mm
    across = (columns - (stack.shape[2] - 1) / 2) * stack.column_spacing_mm
    radius = min(stack.shape[1] * stack.row_spacing_mm, stack.shape[2] * stack.column_spacing_mm) / 2
    return down**2 + across**2 > radius**2


def _exposed(head: Head, pose: Pose, stack: SliceStack, field: Field) -> Float32[np.ndarray, "slices rows columns"]:
    """HU averaged over the thickness of every slice, before point spread and noise."""
    start = (stack.origins_ras_mm - pose.shift_mm) @ pose.turn
    steps = np.stack([stack.row_step_ras_mm, stack.column_step_ras_mm, stack.normal_ras]) @ pose.turn
    counts = np.maximum(np.ceil(stack.thickness_mm / _ACROSS_MM), 2).astype(np.int64)
    fine = head.tissue.values[..., BASE] + head.tissue.values[..., EXCESS]
    image = np.empty(stack.shape, dtype=np.float32)
    grid = np.array([*head.coarse_hu.grid.ijk_to_ras[:3, 3], head.coarse_hu.grid.spacing_mm[0], head.tissue.step_mm])
    _expose(image, head.coarse_hu.voxels, fine, grid, start, steps, stack.thickness_mm, counts)
    if field.has_headrest:
        _add_headrest(image, head, pose, stack)
    return image


@njit(cache=True, error_model="numpy")
@no_type_check
def _expose(image, coarse, fine, grid, start, steps, thickness, counts):  # noqa: PLR0913 - compiled
    """Reads across each slice, averaged; the region's tissue where it is known, going over into the head's."""
    slices, rows, columns = image.shape
    low, step, fine_step = grid[:3], grid[3], grid[4]
    reach = np.array([fine.shape[2] * 0.5, fine.shape[1] * 0.5, fine.shape[0] * 0.5]) * fine_step - _RIM_MM
    for s in range(slices):
        for r in range(rows):
            for c in range(columns):
                total = 0.0
                for n in range(counts[s]):
                    across = ((n + 0.5) / counts[s] - 0.5) * thickness[s]
                    x = start[s, 0] + r * steps[0, 0] + c * steps[1, 0] + across * steps[2, 0]
                    y = start[s, 1] + r * steps[0, 1] + c * steps[1, 1] + across * steps[2, 1]
                    z = start[s, 2] + r * steps[0, 2] + c * steps[1, 2] + across * steps[2, 2]
                    depth = min(reach[0] - abs(x), reach[1] - abs(y), reach[2] - abs(z)) / SEAM_MM
                    value = 0.0
                    if depth < 1.0:
                        value = _read(coarse, (x - low[0]) / step, (y - low[1]) / step, (z - low[2]) / step)
                    if depth > 0.0:
                        share = min(depth, 1.0)
                        value *= 1.0 - share
                        value += share * _read(
                            fine,
                            x / fine_step + 0.5 * (fine.shape[2] - 1),
                            y / fine_step + 0.5 * (fine.shape[1] - 1),
                            z / fine_step + 0.5 * (fine.shape[0] - 1),
                        )
                    total += value
                image[s, r, c] = total / counts[s]


@njit(cache=True, error_model="numpy")
@no_type_check
def _read(values, i, j, k):
    """Trilinear; air outside."""
    depth, height, width = values.shape
    if i < 0.0 or j < 0.0 or k < 0.0 or i > width - 1.001 or j > height - 1.001 or k > depth - 1.001:
        return -1000.0
    a, b, d = int(i), int(j), int(k)
    u, v, w = i - a, j - b, k - d
    low = (values[d, b, a] * (1 - u) + values[d, b, a + 1] * u) * (1 - v) + (
        values[d, b + 1, a] * (1 - u) + values[d, b + 1, a + 1] * u
    ) * v
    high = (values[d + 1, b, a] * (1 - u) + values[d + 1, b, a + 1] * u) * (1 - v) + (
        values[d + 1, b + 1, a] * (1 - u) + values[d + 1, b + 1, a + 1] * u
    ) * v
    return low * (1 - w) + high * w


def _add_headrest(image: Float32[np.ndarray, "slices rows columns"], head: Head, pose: Pose, stack: SliceStack) -> None:
    """A bowl of plastic behind the head, fixed to the table: an arc across x and y of the patient, in place."""
    centre = pose.to_ras(head.to_head(np.array([[0.0, -16.0, 0.0]])))[0]
    rows, columns = np.indices(stack.shape[1:], dtype=float)
    radius = 108.0 * float(head.scale[1])
    for index in range(stack.shape[0]):
        points = stack.to_ras(index, np.stack([rows, columns], axis=-1))
        across, behind = points[..., 0] - centre[0], centre[1] - points[..., 1]
        distance = np.hypot(across, behind) - radius
        is_plastic = (np.abs(distance) < 2.0) & (behind > 0.5 * radius) & (image[index] < -900)
        image[index][is_plastic] = HEADREST_HU
