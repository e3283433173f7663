"""How well scattered samples of a scan agree with a volume under an affine map, and which way is better.

The scan's samples stay the same for every map, and the volume goes on as air at its sides, so scores of different maps
compare, and the map cannot win by leaving the scan (part of a head would otherwise be stretched over all of it).

Source: mutual information with B-spline windows and its exact gradient, Mattes et al. 2003
(10.1109/TMI.2003.809072), equations 8 to 12.
Differs: samples are drawn once and not per iteration, so the score is a smooth function and a quasi-Newton method
converges in few steps; it does not depend on the number of threads.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import no_type_check

import numpy as np
from jaxtyping import Float, Float32, Float64
from numba import njit

WINDOW_HU = (-200.0, 1000.0)
"""Bone and air are what registers a head; the contrast within the brain does not count."""

Values = Float64[np.ndarray, "samples"]
Score = Callable[[Values], tuple[float, Values]]
"""From the volume's values at the samples to the agreement and its slope in each of them."""


def windowed(values_hu: Float32[np.ndarray, "*any"]) -> Float32[np.ndarray, "*any"]:
    """HU as numbers from 0 to 1."""
    low, high = WINDOW_HU
    return np.clip((values_hu - np.float32(low)) / np.float32(high - low), 0, 1)


@dataclass(frozen=True, kw_only=True, eq=False)
class Samples:
    """Points of a scan.

    Attributes:
        points_mm: RAS, relative to `pivot_mm`.
        values: From 0 to 1.
        pivot_mm: RAS; what maps turn about.
    """

    points_mm: Float64[np.ndarray, "samples 3"]
    values: Float64[np.ndarray, "samples"]
    pivot_mm: Float[np.ndarray, "3"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Target:
    """A volume to match, on cubes along the axes of MNI space; its border goes on for ever.

    Attributes:
        voxels: From 0 to 1.
        origin_mm: Centre of the first voxel, in MNI.
        step_mm: Edge of a voxel.
        middle_mm: The head's centre of mass, in MNI.
    """

    voxels: Float32[np.ndarray, "depth height width"]
    origin_mm: Float[np.ndarray, "3"]
    step_mm: float
    middle_mm: Float[np.ndarray, "3"]


def agreement(
    samples: Samples, target: Target, score: Score, matrix: Float[np.ndarray, "3 4"]
) -> tuple[float, Float[np.ndarray, "3 4"]]:
    """The score of a map, and its gradient in the map.

    Args:
        samples: Points of the scan.
        target: What they are matched to.
        score: Of the target's values at the samples.
        matrix: From points relative to the pivot to MNI mm.
    """
    values, slopes = _read(target.voxels, target.origin_mm, target.step_mm, samples.points_mm, matrix)
    result, influence = score(values)
    return result, _pull(influence, slopes, samples.points_mm)


def information(samples: Samples, bins: int) -> Score:
    """Mutual information in nats, with `bins` bins on either side."""
    fixed = np.minimum(samples.values * bins, bins - 1).astype(np.int64)
    share = np.bincount(fixed, minlength=bins) / len(fixed)
    # The cubic window reaches one bin beyond the range on either side.
    padded = bins + 2

    def score(values: Values) -> tuple[float, Values]:
        joint = _joint(fixed, values, bins, padded) / len(fixed)
        moving = joint.sum(axis=0)
        with np.errstate(divide="ignore", invalid="ignore"):
            conditional = np.where(joint > 0, np.log(joint / moving), 0.0)
            entropy = float(np.sum(np.where(share > 0, share * np.log(share), 0.0)))
        result = float(np.sum(joint * conditional)) - entropy
        return result, _influence(fixed, values, conditional, bins)

    return score


def correlation(samples: Samples) -> Score:
    """Pearson's correlation with the samples' own values: another opinion, for a target in the same units."""
    # Sums and not dot products: those wake the threads of the linear algebra library, which costs more than it saves.
    centred = samples.values - samples.values.mean()
    fixed = centred / max(float(np.sqrt(np.sum(centred**2))), 1e-12)

    def score(values: Values) -> tuple[float, Values]:
        moving = values - values.mean()
        norm = max(float(np.sqrt(np.sum(moving**2))), 1e-12)
        result = float(np.sum(fixed * moving)) / norm
        return result, (fixed - result * moving / norm) / norm

    return score


@njit(cache=True, nogil=True)
@no_type_check
def _read(voxels, origin, step, points, matrix):
    """Trilinear values and their gradients per MNI mm; beyond the border the nearest value, without a gradient."""
    depth, height, width = voxels.shape
    values = np.empty(len(points))
    slopes = np.zeros((len(points), 3))
    for n in range(len(points)):
        a, b, c = points[n, 0], points[n, 1], points[n, 2]
        x = (matrix[0, 0] * a + matrix[0, 1] * b + matrix[0, 2] * c + matrix[0, 3] - origin[0]) / step
        y = (matrix[1, 0] * a + matrix[1, 1] * b + matrix[1, 2] * c + matrix[1, 3] - origin[1]) / step
        z = (matrix[2, 0] * a + matrix[2, 1] * b + matrix[2, 2] * c + matrix[2, 3] - origin[2]) / step
        in_x, in_y, in_z = 0 < x < width - 1, 0 < y < height - 1, 0 < z < depth - 1
        x, y, z = min(max(x, 0.0), width - 1.0), min(max(y, 0.0), height - 1.0), min(max(z, 0.0), depth - 1.0)
        i, j, k = min(int(x), width - 2), min(int(y), height - 2), min(int(z), depth - 2)
        u, v, w = x - i, y - j, z - k
        v000, v001 = voxels[k, j, i], voxels[k, j, i + 1]
        v010, v011 = voxels[k, j + 1, i], voxels[k, j + 1, i + 1]
        v100, v101 = voxels[k + 1, j, i], voxels[k + 1, j, i + 1]
        v110, v111 = voxels[k + 1, j + 1, i], voxels[k + 1, j + 1, i + 1]
        low_back, low_front = v000 + u * (v001 - v000), v010 + u * (v011 - v010)
        high_back, high_front = v100 + u * (v101 - v100), v110 + u * (v111 - v110)
        low, high = low_back + v * (low_front - low_back), high_back + v * (high_front - high_back)
        values[n] = low + w * (high - low)
        if in_x:
            back = (v001 - v000) * (1 - v) + (v011 - v010) * v
            front = (v101 - v100) * (1 - v) + (v111 - v110) * v
            slopes[n, 0] = (back * (1 - w) + front * w) / step
        if in_y:
            slopes[n, 1] = ((low_front - low_back) * (1 - w) + (high_front - high_back) * w) / step
        if in_z:
            slopes[n, 2] = (high - low) / step
    return values, slopes


@njit(cache=True, nogil=True)
@no_type_check
def _pull(influence, slopes, points):
    """Sum over the samples of influence × slope × (point, 1)."""
    gradient = np.zeros((3, 4))
    for n in range(len(points)):
        for axis in range(3):
            weight = influence[n] * slopes[n, axis]
            gradient[axis, 0] += weight * points[n, 0]
            gradient[axis, 1] += weight * points[n, 1]
            gradient[axis, 2] += weight * points[n, 2]
            gradient[axis, 3] += weight
    return gradient


@njit(cache=True, nogil=True)
@no_type_check
def _joint(fixed, values, bins, padded):
    """Joint histogram: whole bins of the scan, cubic B-spline windows of the target."""
    joint = np.zeros((bins, padded))
    for n in range(len(values)):
        position = min(max(values[n], 0.0), 1.0) * (bins - 1)
        low = min(int(position), bins - 2)
        t = position - low
        joint[fixed[n], low] += (1 - t) ** 3 / 6
        joint[fixed[n], low + 1] += (3 * t**3 - 6 * t**2 + 4) / 6
        joint[fixed[n], low + 2] += (-3 * t**3 + 3 * t**2 + 3 * t + 1) / 6
        joint[fixed[n], low + 3] += t**3 / 6
    return joint


@njit(cache=True, nogil=True)
@no_type_check
def _influence(fixed, values, conditional, bins):
    """Slope of the mutual information in each value."""
    result = np.empty(len(values))
    for n in range(len(values)):
        position = min(max(values[n], 0.0), 1.0) * (bins - 1)
        low = min(int(position), bins - 2)
        t = position - low
        row = conditional[fixed[n]]
        slope = -((1 - t) ** 2) / 2 * row[low] + (3 * t**2 - 4 * t) / 2 * row[low + 1]
        slope += (-3 * t**2 + 2 * t + 1) / 2 * row[low + 2] + t**2 / 2 * row[low + 3]
        result[n] = slope * (bins - 1) / len(values)
    return result
