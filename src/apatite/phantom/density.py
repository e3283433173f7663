"""From shapes to Hounsfield units on a fine patient grid, with partial volume taken before any blur.

Each cell holds the mean over itself of what the shapes say: cells that no boundary crosses are read once at their
middle, cells crossed by one at 3³ points, cells near calcium at 4³ points. Order at a point: artery, air of the
sinuses with its bony wall and septa, bone, specks, soft tissue, brain.
"""

import math
from dataclasses import dataclass
from typing import no_type_check

import numpy as np
from jaxtyping import Float32
from numba import njit

from apatite.phantom.anatomy import Anatomy, packed
from apatite.phantom.point import SEAM_MM, nearest_segment, noise_at, plaque_hu, tissue_at
from apatite.phantom.shapes import AIR, BONE, CARVE, ELLIPSOID, KIND, ROLE, signed_distance, smooth_union
from apatite.phantom.siphon import STEP_MM

EXTENT_MM = (70.0, 70.0, 60.0)
"""Size of the patient grid along x, y, z: the region, with room for pose, jitter and thick slices."""
BLOCK = 6
WARP_MM = 0.9
"""How far shapes other than the artery are bent out of their geometric form."""
BASE, EXCESS, ARTERY, BONY = 0, 1, 2, 3
"""Channels: HU without plaques, HU that the plaques add, fraction of artery, fraction of bone."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Tissue:
    """One patient's anatomy on a fine grid along the axes of the region frame, centred on the region.

    Attributes:
        values: `depth height width channel` (see `BASE`, `EXCESS`, `ARTERY`, `BONY`).
        step_mm: Edge of a cell.
    """

    values: Float32[np.ndarray, "depth height width 4"]
    step_mm: float


def fill_tissue(anatomy: Anatomy, step_mm: float, extent_mm: tuple[float, float, float] = EXTENT_MM) -> Tissue:
    """Evaluate an anatomy on a fine grid.

    Args:
        anatomy: The patient.
        step_mm: Edge of a cell; 0.4 to 0.7 mm is below the sharpest scanner kernel.
        extent_mm: Size along x, y, z, centred on the region.
    """
    width, height, depth = (math.ceil(extent / step_mm) for extent in extent_mm)
    values = np.empty((depth, height, width, 4), dtype=np.float32)
    _fill(values, step_mm, *packed(anatomy))
    return Tissue(values=values, step_mm=step_mm)


@njit(cache=True, error_model="numpy")
@no_type_check
def _listed(solids, bounds, middle, half, margin, found):
    """Solids that come within `margin` of a block of half edge `half`."""
    count = 0
    radius = half * math.sqrt(3.0)
    for s in range(solids.shape[0]):
        apart = False
        for axis in range(3):
            apart = (
                apart
                or bounds[s, axis] - margin > middle[axis] + half
                or bounds[s, axis + 3] + margin < middle[axis] - half
            )
        # The distance to an ellipsoid is exact near it only, so it is not asked from afar.
        if not apart and solids[s, KIND] != ELLIPSOID:
            apart = signed_distance(solids, s, middle[0], middle[1], middle[2]) > radius + margin
        if not apart:
            found[count] = s
            count += 1
    return count


@njit(cache=True, error_model="numpy")
@no_type_check
def _segments(tubes, side, middle, reach, found):
    """Centreline segments within `reach` of a block's middle."""
    count = 0
    for s in range(tubes.shape[1] - 1):
        square = 0.0
        for axis in range(3):
            square += (0.5 * (tubes[side, s, axis] + tubes[side, s + 1, axis]) - middle[axis]) ** 2
        if square < reach * reach:
            found[count] = s
            count += 1
    return count


@njit(cache=True, error_model="numpy")
@no_type_check
def _fill(values, step, solids, bounds, scalars, septa, lattice, tubes, walls, reach):  # noqa: PLR0913 - compiled
    """Every block of cells: list what is near it, then every cell of it."""
    depth, height, width = values.shape[:3]
    found, near = np.empty(solids.shape[0], dtype=np.int64), np.empty(solids.shape[0], dtype=np.int64)
    segments = np.empty(tubes.shape[1], dtype=np.int64)
    middle = np.empty(3)
    start = np.array([-0.5 * (width - 1), -0.5 * (height - 1), -0.5 * (depth - 1)]) * step
    half = 0.5 * step * BLOCK
    margin = max(scalars[5], SEAM_MM) + step + 1.1
    for k0 in range(0, depth, BLOCK):
        for j0 in range(0, height, BLOCK):
            for i0 in range(0, width, BLOCK):
                middle[0] = start[0] + (i0 - 0.5) * step + half
                middle[1] = start[1] + (j0 - 0.5) * step + half
                middle[2] = start[2] + (k0 - 0.5) * step + half
                bend = _texture(lattice, scalars, True, middle[0], middle[1], middle[2])
                num_solids = _listed(
                    solids, bounds, middle + np.array([bend[4], bend[5], bend[6]]), half, margin, found
                )
                side = 0 if middle[0] > 0 else 1
                far = half * math.sqrt(3.0) + 0.5 * STEP_MM + scalars[7] + step + scalars[8 + side]
                num_segments = _segments(tubes, side, middle, far, segments)
                if num_solids + num_segments == 0:
                    _fill_brain(
                        values[k0 : k0 + BLOCK, j0 : j0 + BLOCK, i0 : i0 + BLOCK], step, scalars, lattice, middle
                    )
                    continue
                for k in range(k0, min(k0 + BLOCK, depth)):
                    for j in range(j0, min(j0 + BLOCK, height)):
                        for i in range(i0, min(i0 + BLOCK, width)):
                            place = (start[0] + i * step, start[1] + j * step, start[2] + k * step)
                            lists = (num_solids, num_segments, side)
                            cell = _cell(
                                step,
                                solids,
                                found,
                                near,
                                scalars,
                                septa,
                                lattice,
                                tubes,
                                walls,
                                reach,
                                segments,
                                lists,
                                place,
                            )
                            for channel in range(4):
                                values[k, j, i, channel] = cell[channel]


@njit(cache=True, error_model="numpy")
@no_type_check
def _fill_brain(values, step, scalars, lattice, middle):
    """A block that nothing but brain is near."""
    values[...] = 0.0
    for k in range(values.shape[0]):
        for j in range(values.shape[1]):
            for i in range(values.shape[2]):
                x, y, z = (
                    middle[0] + (i - 0.5 * (BLOCK - 1)) * step,
                    middle[1] + (j - 0.5 * (BLOCK - 1)) * step,
                    middle[2] + (k - 0.5 * (BLOCK - 1)) * step,
                )
                values[k, j, i, BASE] = _texture(lattice, scalars, False, x, y, z)[0]


@njit(cache=True, error_model="numpy")
@no_type_check
def _texture(lattice, scalars, crowded, x, y, z):
    """What varies slowly: HU of brain and cortex, factor on marrow, HU added to soft tissue, bend of shapes (mm)."""
    slow = noise_at(lattice, x * 0.13 + 7.3, y * 0.13, z * 0.13)
    brain = scalars[0] + 4.0 * slow + (0.0 if z > -14.0 else 12.0)
    if not crowded:
        return brain, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
    grain = noise_at(lattice, x * 0.55, y * 0.55, z * 0.55)
    clump = noise_at(lattice, x * 0.22, y * 0.22 + 3.1, z * 0.22)
    bend_x = WARP_MM * (noise_at(lattice, x * 0.15, y * 0.15 + 11.7, z * 0.15) + 0.5 * clump)
    bend_y = WARP_MM * (noise_at(lattice, x * 0.15, y * 0.15, z * 0.15 + 5.9) - 0.5 * clump)
    bend_z = 0.7 * WARP_MM * slow
    marrow = 1 + 0.55 * grain + 0.45 * clump
    return brain, scalars[1] * (1 + 0.3 * slow + 0.25 * grain), marrow, 3.0 * slow, bend_x, bend_y, bend_z


@njit(cache=True, error_model="numpy")
@no_type_check
def _near_solids(solids, found, near, num_solids, scalars, septa, half, local, x, y, z):  # noqa: PLR0913 - compiled
    """Keep the solids that matter to one cell; say how many, and whether a boundary may cross it."""
    wx, wy, wz = x + local[4], y + local[5], z + local[6]
    count, crossed = 0, False
    bone, carve, air = 1e9, 1e9, 1e9
    for q in range(num_solids):
        solid = found[q]
        distance = signed_distance(solids, solid, wx, wy, wz)
        role = solids[solid, ROLE]
        if role == BONE:
            bone = smooth_union(bone, distance, SEAM_MM)
            beyond = SEAM_MM
        elif role == CARVE:
            carve = min(carve, distance)
            beyond = SEAM_MM
        elif role == AIR:
            air = min(air, distance)
            beyond = scalars[5]
        else:
            beyond = 0.0
            crossed = crossed or abs(distance) < half
        if distance < half + beyond:
            near[count] = solid
            count += 1
    bone = max(bone, -carve)
    crossed = (
        crossed or abs(bone) < half or abs(bone + scalars[6]) < half or abs(air) < half or abs(air - scalars[5]) < half
    )
    if air < half and not crossed:
        crossed = abs(z - scalars[4]) < half
        for q in range(septa.shape[0]):
            gap = abs(septa[q, 0] * wx + septa[q, 1] * wy + septa[q, 2] * wz - septa[q, 3])
            crossed = crossed or gap < septa[q, 4] + half
    return count, crossed


@njit(cache=True, error_model="numpy")
@no_type_check
def _around(segments, count, middle):
    """Keep, in front, the listed segments at most two from the middle one."""
    kept = 0
    for q in range(count):
        if abs(segments[q] - middle) <= 2:
            segments[kept], segments[q] = segments[q], segments[kept]
            kept += 1
    return kept


@njit(cache=True, error_model="numpy")
@no_type_check
def _cell(step, solids, found, near, scalars, septa, lattice, tubes, walls, reach, segments, lists, place):  # noqa: PLR0913 - compiled
    """Mean over one cell of the four channels."""
    num_solids, num_segments, side = lists
    x, y, z = place
    half, outer = 0.9 * step, scalars[8 + side]
    local = _texture(lattice, scalars, num_solids > 0, x, y, z)
    count, crossed = _near_solids(solids, found, near, num_solids, scalars, septa, half, local, x, y, z)
    samples = 3 if crossed else 1
    if num_segments > 0:
        square, s, _ = nearest_segment(tubes, side, segments, num_segments, x, y, z)
        gap = math.sqrt(square) - outer
        if abs(gap) < half or abs(gap - scalars[7]) < half:
            samples = 3
        if gap < half and reach[side, s] > 0:
            samples = 4
        # Within one cell the nearest segment is the same or one close by; far from the artery it does not matter.
        num_segments = _around(segments, num_segments, s) if gap < half + scalars[7] else 0
    total, excess, artery, bony = 0.0, 0.0, 0.0, 0.0
    for sample in range(samples**3):
        px = x + ((sample % samples + 0.5) / samples - 0.5) * step
        py = y + ((sample // samples % samples + 0.5) / samples - 0.5) * step
        pz = z + ((sample // (samples * samples) + 0.5) / samples - 0.5) * step
        clear = 1e9
        if num_segments > 0:
            hit = nearest_segment(tubes, side, segments, num_segments, px, py, pz)
            clear = math.sqrt(hit[0]) - outer
            if clear <= 0:
                blood = scalars[10] if clear < -scalars[12] else scalars[11]
                plaque = plaque_hu(tubes, walls, side, outer, hit, px, py, pz) if samples == 4 else 0.0
                total += blood
                artery += 1.0
                excess += plaque - blood if plaque > 0 else 0.0
                continue
        value, is_bone = tissue_at(solids, near, count, scalars, septa, local, clear, px, py, pz)
        total += value
        bony += is_bone
    share = 1.0 / samples**3
    return total * share, excess * share, artery * share, bony * share
