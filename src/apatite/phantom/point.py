"""What the shapes say at one point: nearest artery, plaque, bone, air, soft tissue; and the noise behind texture."""

import math
from typing import no_type_check

import numpy as np
from numba import njit

from apatite.phantom.anatomy import NOISE_EDGE
from apatite.phantom.lesions import ALONG_MM, NUM_ANGLES, THINNEST_MM
from apatite.phantom.shapes import AIR, BONE, CARVE, ROLE, SOFT, VALUE, signed_distance, smooth_union
from apatite.phantom.siphon import STEP_MM

SEAM_MM = 1.2
"""Width of the rounded seam where bones join."""
_WRAP = NOISE_EDGE - 1


@njit(cache=True, error_model="numpy")
@no_type_check
def noise_at(lattice: np.ndarray, x: float, y: float, z: float) -> float:
    """Smooth noise in -1…1: a random lattice, read linearly, repeated for ever."""
    fx, fy, fz = math.floor(x), math.floor(y), math.floor(z)
    i, j, k = int(fx) & _WRAP, int(fy) & _WRAP, int(fz) & _WRAP
    u, v, w = x - fx, y - fy, z - fz
    a, b, c = (i + 1) & _WRAP, (j + 1) & _WRAP, (k + 1) & _WRAP
    low = (lattice[k, j, i] * (1 - u) + lattice[k, j, a] * u) * (1 - v) + (
        lattice[k, b, i] * (1 - u) + lattice[k, b, a] * u
    ) * v
    high = (lattice[c, j, i] * (1 - u) + lattice[c, j, a] * u) * (1 - v) + (
        lattice[c, b, i] * (1 - u) + lattice[c, b, a] * u
    ) * v
    return low * (1 - w) + high * w


@njit(cache=True, error_model="numpy")
@no_type_check
def nearest_segment(tubes, side, segments, count, x, y, z):  # noqa: PLR0913 - compiled
    """Squared distance to the nearest of some centreline segments, which segment, and how far along it."""
    best, which, share = 1e18, 0, 0.0
    for q in range(count):
        s = segments[q]
        px, py, pz = tubes[side, s, 0], tubes[side, s, 1], tubes[side, s, 2]
        ax, ay, az = tubes[side, s + 1, 0] - px, tubes[side, s + 1, 1] - py, tubes[side, s + 1, 2] - pz
        dx, dy, dz = x - px, y - py, z - pz
        t = (dx * ax + dy * ay + dz * az) / (ax * ax + ay * ay + az * az)
        t = min(max(t, 0.0), 1.0)
        ex, ey, ez = dx - t * ax, dy - t * ay, dz - t * az
        square = ex * ex + ey * ey + ez * ez
        if square < best:
            best, which, share = square, s, t
    return best, which, share


@njit(cache=True, error_model="numpy")
@no_type_check
def plaque_hu(tubes, walls, side, radius, hit, x, y, z):  # noqa: PLR0913 - compiled
    """HU of the plaque at a point inside the artery, or 0 where there is none."""
    square, s, t = hit
    along = (s + t) * STEP_MM / ALONG_MM
    row = min(int(along), walls.shape[2] - 2)
    u = min(along - row, 1.0)
    p, q = 0.0, 0.0
    for axis in range(3):
        start = tubes[side, s, axis]
        offset = (x if axis == 0 else y if axis == 1 else z) - start - t * (tubes[side, s + 1, axis] - start)
        p += offset * (tubes[side, s, 3 + axis] * (1 - t) + tubes[side, s + 1, 3 + axis] * t)
        q += offset * (tubes[side, s, 6 + axis] * (1 - t) + tubes[side, s + 1, 6 + axis] * t)
    turn = math.atan2(q, p) * NUM_ANGLES / (2 * math.pi)
    if turn < 0:
        turn += NUM_ANGLES
    column = int(turn) % NUM_ANGLES
    v, after = turn - int(turn), (column + 1) % NUM_ANGLES
    deep = (walls[side, 0, row, column] * (1 - v) + walls[side, 0, row, after] * v) * (1 - u)
    deep += (walls[side, 0, row + 1, column] * (1 - v) + walls[side, 0, row + 1, after] * v) * u
    if deep <= THINNEST_MM or math.sqrt(square) < radius - deep:
        return 0.0
    one, two = walls[side, 1, row, column], walls[side, 1, row, after]
    return max(one, two, walls[side, 1, row + 1, column], walls[side, 1, row + 1, after])


@njit(cache=True, error_model="numpy")
@no_type_check
def tissue_at(solids, near, count, scalars, septa, local, clear, x, y, z):  # noqa: C901, PLR0913 - compiled
    """HU and whether it is bone at a point outside the arteries."""
    air, bone, carve, speck = 1e9, 1e9, 1e9, 0.0
    soft, inner, nearest = local[0], 0.0, 1e9
    wx, wy, wz = x + local[4], y + local[5], z + local[6]
    for q in range(count):
        solid = near[q]
        role = solids[solid, ROLE]
        distance = signed_distance(solids, solid, wx, wy, wz)
        if role == SOFT:
            if distance < 0:
                soft = solids[solid, VALUE] + local[3]
        elif role == AIR:
            air = min(air, distance)
        elif role == BONE:
            if distance < nearest:
                nearest, inner = distance, solids[solid, VALUE]
            bone = smooth_union(bone, distance, SEAM_MM)
        elif role == CARVE:
            carve = min(carve, distance)
        elif distance < 0:
            speck = solids[solid, VALUE]
    if clear < scalars[7] and air >= 0:
        return (speck if speck > 0 else scalars[11]), 0.0
    if air < 0:
        for q in range(septa.shape[0]):
            if abs(septa[q, 0] * wx + septa[q, 1] * wy + septa[q, 2] * wz - septa[q, 3]) < septa[q, 4]:
                return local[1], 1.0
        return (scalars[3], 0.0) if z < scalars[4] else (-1000.0, 0.0)
    if air < scalars[5]:
        return local[1], 1.0
    bone = max(bone, -carve)
    if bone < 0:
        return (local[1], 1.0) if bone > -scalars[6] else (local[2] * (inner if inner > 0 else scalars[2]), 1.0)
    return (speck if speck > 0 else soft), 0.0
