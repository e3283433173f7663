"""A model CT scanner: tissue in, original slices out.

Thickness by averaging across the slice, in-plane point spread of the kernel, beam hardening and streaks, correlated
noise, offset, rounding to whole HU. The slices lie obliquely where the gantry is tilted, and unevenly where a series
has two blocks. Beside the image, the scanner carries what the plaques added, the artery and the bone through the same
slices, so that truth is known where it is measured.
"""

import math
from dataclasses import dataclass
from typing import no_type_check

import numpy as np
from jaxtyping import Float, Float32
from numba import njit

from apatite.core.scan import PADDING_HU, Scan, SliceStack
from apatite.phantom.density import ARTERY, BASE, BONY, EXCESS, Tissue
from apatite.phantom.protocol import Protocol
from apatite.phantom.shapes import rotation

HALF_REGION_MM = (21.12, 21.12, 16.0)
"""Half edges of the region that every scan must hold."""
MARGIN_MM = 2.0


@dataclass(frozen=True, kw_only=True, eq=False)
class Pose:
    """Where the head lies: patient RAS = turn @ point in the region frame + shift."""

    turn: Float[np.ndarray, "3 3"]
    shift_mm: Float[np.ndarray, "3"]

    def to_ras(self, points_mm: Float[np.ndarray, "n 3"]) -> Float[np.ndarray, "n 3"]:
        """From the region frame to patient RAS mm."""
        return points_mm @ self.turn.T + self.shift_mm


@dataclass(frozen=True, kw_only=True, eq=False)
class Acquisition:
    """A scan and what is true on its slices.

    Attributes:
        scan: int16 HU.
        excess_hu: What the plaques added to each voxel, without noise.
        artery: Fraction of artery (wall and lumen) in each voxel.
        artery_seen: The same after the in-plane point spread: the artery as it looks.
        bone: Fraction of bone in each voxel.
    """

    scan: Scan
    excess_hu: Float32[np.ndarray, "slices rows columns"]
    artery: Float32[np.ndarray, "slices rows columns"]
    artery_seen: Float32[np.ndarray, "slices rows columns"]
    bone: Float32[np.ndarray, "slices rows columns"]


def make_pose(protocol: Protocol, shift_mm: Float[np.ndarray, "3"]) -> Pose:
    """The pose of a series; `rotation` gives patient-to-own axes, so its transpose turns the head."""
    return Pose(turn=np.ascontiguousarray(rotation(protocol.turn_deg).T), shift_mm=shift_mm)


def lay_slices(protocol: Protocol, centre_ras_mm: Float[np.ndarray, "3"], phase: float) -> SliceStack:
    """Slices that hold the whole region round a centre, with a margin.

    Args:
        protocol: Thickness, spacing, blocks and tilt.
        centre_ras_mm: Middle of the region.
        phase: 0 to 1: where the first slice falls within one spacing.

    Returns:
        Columns run to the patient's left and rows to the back, as scanners do; slices run upwards.
    """
    tilt = math.radians(protocol.tilt_deg)
    normal = np.array([0.0, -math.sin(tilt), math.cos(tilt)])
    columns = math.ceil(2 * (HALF_REGION_MM[0] + MARGIN_MM) / protocol.pixel_mm)
    rows = math.ceil(2 * (HALF_REGION_MM[1] / math.cos(tilt) + MARGIN_MM) / protocol.pixel_mm)
    reach = abs(normal[1]) * HALF_REGION_MM[1] + abs(normal[2]) * HALF_REGION_MM[2] + MARGIN_MM
    along, thickness = _positions(protocol, reach, phase)
    row_step = np.array([0.0, -math.cos(tilt), -math.sin(tilt)]) * protocol.pixel_mm
    column_step = np.array([-protocol.pixel_mm, 0.0, 0.0])
    # A tilted gantry moves along the table, not along the slice normal, so the stack is sheared.
    middles = centre_ras_mm + along[:, None] / math.cos(tilt) * np.array([0.0, 0.0, 1.0])
    return SliceStack(
        shape=(len(along), rows, columns),
        origins_ras_mm=middles - row_step * (rows - 1) / 2 - column_step * (columns - 1) / 2,
        column_step_ras_mm=column_step,
        row_step_ras_mm=row_step,
        thickness_mm=thickness,
    )


def acquire(tissue: Tissue, pose: Pose, protocol: Protocol, stack: SliceStack, rng: np.random.Generator) -> Acquisition:
    """Scan a patient.

    Args:
        tissue: Anatomy on its fine grid.
        pose: Where the head lies.
        protocol: How it is scanned.
        stack: Where the slices lie.
        rng: Randomness of this series.
    """
    origins = stack.origins_ras_mm.copy()
    if protocol.shift_mm > 0 and stack.shape[0] > 3:
        first = int(rng.integers(1, stack.shape[0] - 1))
        moved = slice(first, first + int(rng.integers(1, 1 + max(2, stack.shape[0] // 4))))
        direction = rng.uniform(0, 2 * math.pi)
        origins[moved] += protocol.shift_mm * np.array([math.cos(direction), math.sin(direction), 0.0])
    ideal = sampled_tissue(tissue, pose, stack, origins)
    # What the fine grid and its reading blur already (a box and a triangle of one cell) is not blurred again.
    variance = max((protocol.fwhm_mm / 2.3548) ** 2 - tissue.step_mm**2 / 4, 1e-4)
    point, wide = (
        gaussian_weights(math.sqrt(variance), protocol.pixel_mm),
        gaussian_weights(math.sqrt(variance + 0.36), protocol.pixel_mm),
    )
    image = point_spread(ideal[BASE] + ideal[EXCESS], point, wide, protocol.overshoot)
    excess = point_spread(ideal[EXCESS], point, wide, protocol.overshoot)
    noise = correlated_noise(rng, stack.shape, protocol)
    add_artefacts(image, noise, artefact_frame(pose, stack), *draw_artefacts(rng, protocol))
    image = np.clip(np.rint(image + protocol.offset_hu), PADDING_HU, 3071).astype(np.int16)
    return Acquisition(
        scan=Scan(voxels_hu=image, stack=stack),
        excess_hu=excess,
        artery=ideal[ARTERY],
        artery_seen=point_spread(ideal[ARTERY], point, wide, 0.0),
        bone=ideal[BONY],
    )


def _positions(
    protocol: Protocol, reach: float, phase: float
) -> tuple[Float[np.ndarray, "slices"], Float[np.ndarray, "slices"]]:
    """Positions along the normal from the region's centre, and thicknesses; the vault touches the base."""
    low, high = -reach - protocol.spacing_mm * phase, reach + protocol.spacing_mm / 2
    stop = min(protocol.vault_from_mm, high) if protocol.vault_mm else high
    base = np.arange(low, stop, protocol.spacing_mm)
    if not protocol.vault_mm:
        return base, np.full(len(base), protocol.thickness_mm)
    vault = np.arange(
        base[-1] + (protocol.thickness_mm + protocol.vault_mm) / 2, high + protocol.vault_mm / 2, protocol.vault_mm
    )
    thickness = np.concatenate([np.full(len(base), protocol.thickness_mm), np.full(len(vault), protocol.vault_mm)])
    return np.concatenate([base, vault]), thickness


def sampled_tissue(
    tissue: Tissue, pose: Pose, stack: SliceStack, origins: Float[np.ndarray, "slices 3"]
) -> Float32[np.ndarray, "4 slices rows columns"]:
    """The four channels of the tissue, averaged over the thickness of every slice."""
    to_index = pose.turn.T / tissue.step_mm
    middle = (np.array(tissue.values.shape[2::-1]) - 1) / 2
    start = (origins - pose.shift_mm) @ to_index.T + middle
    steps = np.stack(
        [to_index @ stack.row_step_ras_mm, to_index @ stack.column_step_ras_mm, to_index @ stack.normal_ras]
    )
    counts = np.maximum(np.rint(stack.thickness_mm / tissue.step_mm), 2).astype(np.int64)
    return _average(tissue.values, start, steps, stack.thickness_mm, counts, stack.shape[1], stack.shape[2])


@njit(cache=True, error_model="numpy")
@no_type_check
def _average(values, start, steps, thickness, counts, rows, columns):  # noqa: PLR0913 - compiled
    """Trilinear reads across each slice, averaged."""
    depth, height, width, _ = values.shape
    result = np.zeros((4, start.shape[0], rows, columns), dtype=np.float32)
    for s in range(start.shape[0]):
        for r in range(rows):
            for c in range(columns):
                first, second, third, fourth = 0.0, 0.0, 0.0, 0.0
                for n in range(counts[s]):
                    across = ((n + 0.5) / counts[s] - 0.5) * thickness[s]
                    x = start[s, 0] + r * steps[0, 0] + c * steps[1, 0] + across * steps[2, 0]
                    y = start[s, 1] + r * steps[0, 1] + c * steps[1, 1] + across * steps[2, 1]
                    z = start[s, 2] + r * steps[0, 2] + c * steps[1, 2] + across * steps[2, 2]
                    x, y, z = (
                        min(max(x, 0.0), width - 1.001),
                        min(max(y, 0.0), height - 1.001),
                        min(max(z, 0.0), depth - 1.001),
                    )
                    i, j, k = int(x), int(y), int(z)
                    u, v, w = x - i, y - j, z - k
                    for q in range(8):
                        a, b, d = q & 1, (q >> 1) & 1, q >> 2
                        weight = (u if a else 1 - u) * (v if b else 1 - v) * (w if d else 1 - w)
                        first += weight * values[k + d, j + b, i + a, 0]
                        second += weight * values[k + d, j + b, i + a, 1]
                        third += weight * values[k + d, j + b, i + a, 2]
                        fourth += weight * values[k + d, j + b, i + a, 3]
                result[0, s, r, c], result[1, s, r, c] = first / counts[s], second / counts[s]
                result[2, s, r, c], result[3, s, r, c] = third / counts[s], fourth / counts[s]
    return result


def gaussian_weights(sigma_mm: float, pixel_mm: float) -> Float32[np.ndarray, "taps"]:
    """A Gaussian integrated over each pixel; the weights sum to 1, so means are kept."""
    reach = max(1, math.ceil(3.0 * sigma_mm / pixel_mm))
    edges = (np.arange(-reach, reach + 2) - 0.5) * pixel_mm / (sigma_mm * math.sqrt(2))
    weights = np.diff([math.erf(edge) for edge in edges])
    return (weights / weights.sum()).astype(np.float32)


def point_spread(
    image: np.ndarray, point: np.ndarray, wide: np.ndarray, overshoot: float
) -> Float32[np.ndarray, "slices rows columns"]:
    """Point spread, sharpened by taking away a wider one where the kernel overshoots."""
    sharp = separable(image, point)
    if overshoot == 0:
        return sharp
    return ((1 + overshoot) * sharp - overshoot * separable(image, wide)).astype(np.float32)


@njit(cache=True, error_model="numpy")
@no_type_check
def separable(image, weights):
    """The same weights along rows and columns of every slice; the border repeats."""
    slices, rows, columns = image.shape
    reach = len(weights) // 2
    result = np.empty((slices, rows, columns), dtype=np.float32)
    line = np.empty((rows, columns), dtype=np.float32)
    for s in range(slices):
        line[...] = 0
        for r in range(rows):
            for t in range(-reach, reach + 1):
                source, weight = min(max(r + t, 0), rows - 1), weights[t + reach]
                for c in range(columns):
                    line[r, c] += weight * image[s, source, c]
        for r in range(rows):
            for c in range(columns):
                total = np.float32(0.0)
                if reach <= c < columns - reach:
                    for t in range(-reach, reach + 1):
                        total += weights[t + reach] * line[r, c + t]
                else:
                    for t in range(-reach, reach + 1):
                        total += weights[t + reach] * line[r, min(max(c + t, 0), columns - 1)]
                result[s, r, c] = total
    return result


def correlated_noise(
    rng: np.random.Generator, shape: tuple[int, int, int], protocol: Protocol
) -> Float32[np.ndarray, "slices rows columns"]:
    """Correlated noise whose SD is the protocol's; overlapping slices share some of it."""
    shared = max(1.0, protocol.thickness_mm / protocol.spacing_mm)
    extra = math.ceil(shared) - 1
    white = rng.standard_normal((shape[0] + extra, *shape[1:]), dtype=np.float32)
    if extra:
        weights = np.minimum(1.0, shared - np.arange(extra + 1)).astype(np.float32)
        white = sum(weight * white[n : n + shape[0]] for n, weight in enumerate(weights))
    fine = separable(white, gaussian_weights(protocol.grain_mm, protocol.pixel_mm))
    if protocol.kernel_class == "bone":
        fine = fine - 0.6 * separable(fine, gaussian_weights(3 * protocol.grain_mm, protocol.pixel_mm))
    return (fine * np.float32(protocol.noise_hu / max(float(fine.std()), 1e-6))).astype(np.float32)


def artefact_frame(pose: Pose, stack: SliceStack) -> Float[np.ndarray, "slices 9"]:
    """Per slice: pixel (0, 0) in the region frame, and the steps along rows and columns, mm."""
    start = (stack.origins_ras_mm - pose.shift_mm) @ pose.turn
    steps = np.concatenate([stack.row_step_ras_mm @ pose.turn, stack.column_step_ras_mm @ pose.turn])
    return np.concatenate([start, np.tile(steps, (len(start), 1))], axis=1)


def draw_artefacts(
    rng: np.random.Generator, protocol: Protocol
) -> tuple[Float[np.ndarray, "4"], Float[np.ndarray, "streaks 5"]]:
    """Bands between the petrous bones (strength, y, z, phase) and streaks (point x, y, direction x, y, strength)."""
    band = np.array([protocol.band_hu, rng.uniform(-24, -15), rng.uniform(-12, -5), rng.uniform(0, 6.28)])
    angle = rng.uniform(-0.6, 0.6, 5) + rng.choice([0.0, math.pi / 2], 5, p=[0.8, 0.2])
    strength = protocol.streak_hu * rng.uniform(-1, 1, 5)
    origin_x, origin_y = rng.choice([-24.0, 24.0], 5), rng.uniform(-28, -12, 5)
    return band, np.stack([origin_x, origin_y, -np.sin(angle), np.cos(angle), strength], axis=1)


@njit(cache=True, error_model="numpy")
@no_type_check
def add_artefacts(image, noise, frame, band, streaks):
    """Bands, streaks and noise, added to the image in place; the noise grows in the bands."""
    slices, rows, columns = image.shape
    for s in range(slices):
        for r in range(rows):
            for c in range(columns):
                x = frame[s, 0] + r * frame[s, 3] + c * frame[s, 6]
                y = frame[s, 1] + r * frame[s, 4] + c * frame[s, 7]
                z = frame[s, 2] + r * frame[s, 5] + c * frame[s, 8]
                u, v = (y - band[1]) / 8.0, (z - band[2]) / 7.0
                near = 1.0 / (1.0 + u * u + v * v) ** 2
                added = band[0] * near * math.sin(0.55 * y + 0.06 * x + band[3])
                fade = 1.0 / (1.0 + v * v)
                for q in range(streaks.shape[0]):
                    gap = ((x - streaks[q, 0]) * streaks[q, 2] + (y - streaks[q, 1]) * streaks[q, 3]) / 0.9
                    added += streaks[q, 4] * fade / (1.0 + gap * gap)
                image[s, r, c] += added + noise[s, r, c] * (1.0 + 0.3 * near)
