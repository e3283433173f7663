"""Calcium of exactly known volume and density, put into a scan the way its scanner would have shown it.

A lesion is an ellipsoid. Its share of every pixel is exact across the slice (the chord of the ellipsoid within a box of
the slice's thickness along the normal) and takes the in-plane point spread into account; tilt, overlap and gaps need
no special case. Calcium replaces tissue:

    new = old + share * (background + added - tissue)

where `tissue` is the background wherever the pixel differs from it by no more than noise does, and the pixel itself
where it is something else (bone, air). So the noise stays as it is, and bone is not made brighter by adding to it.

Source: partial volume as in the simulation behind `phantom.checks`; the slice profile is taken to be a box.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from scipy.ndimage import correlate1d

from apatite.core.errors import ConfigError, DataError
from apatite.core.scan import Scan, SliceStack
from apatite.phantom.scanner import gaussian_weights
from apatite.phantom.shapes import Vector, rotation

NOISE_HU = 25.0
"""A pixel that differs from the background by less than this is background with noise."""
_FINE = 7
_FWHM_TO_SIGMA = 2.3548

Box = tuple[slice, slice, slice]


@dataclass(frozen=True, kw_only=True)
class Lesion:
    """An ellipsoid of calcium.

    Attributes:
        centre_ras_mm: Its middle in the patient.
        radii_mm: Half axes.
        added_hu: How much denser than the tissue around it.
        turn_deg: Turn of the half axes about x, y, z of the patient.
    """

    centre_ras_mm: Vector
    radii_mm: Vector
    added_hu: float
    turn_deg: Vector = (0.0, 0.0, 0.0)

    def __post_init__(self) -> None:
        if min(self.radii_mm) <= 0:
            raise ConfigError(f"half axes {self.radii_mm} mm make no lesion", fix="use positive lengths")

    @property
    def volume_mm3(self) -> float:
        """By the formula."""
        return 4 / 3 * math.pi * math.prod(self.radii_mm)


@dataclass(frozen=True, kw_only=True, eq=False)
class LesionTruth:
    """What is true of one implanted lesion.

    Attributes:
        lesion: As it was asked for.
        background_hu: The tissue that it replaced.
        box: Slices, rows and columns that it touches.
        share: How much of each of those pixels is calcium, after slice profile and point spread.
    """

    lesion: Lesion
    background_hu: float
    box: Box
    share: Float[np.ndarray, "slices rows columns"]

    @property
    def volume_mm3(self) -> float:
        """True volume."""
        return self.lesion.volume_mm3

    @property
    def lesion_hu(self) -> float:
        """HU inside a lesion that fills its pixels."""
        return self.background_hu + self.lesion.added_hu


@dataclass(frozen=True, kw_only=True, eq=False)
class Implanted:
    """A scan with lesions, and the truth of each."""

    scan: Scan
    lesions: tuple[LesionTruth, ...]

    @property
    def volume_mm3(self) -> float:
        """Of all lesions."""
        return sum(truth.volume_mm3 for truth in self.lesions)


def implant(scan: Scan, lesions: Sequence[Lesion], fwhm_mm: float, noise_hu: float = NOISE_HU) -> Implanted:
    """Put lesions into a scan; lesions that overlap are put in one after the other, and share their volume.

    Args:
        scan: Original slices in HU; left as it is.
        lesions: What to put in.
        fwhm_mm: In-plane width of the scanner's point spread.
        noise_hu: Largest difference from the background that is noise.

    Raises:
        DataError: a lesion lies outside the slices (`ROI_ABSENT`).
    """
    if not fwhm_mm > 0:
        raise ConfigError(f"a point spread of {fwhm_mm} mm is impossible", fix="use a positive width")
    voxels = scan.voxels_hu.astype(np.float64)
    truths = []
    for number, lesion in enumerate(lesions, start=1):
        box, share = lesion_share(scan.stack, lesion, fwhm_mm)
        if not share.size or share.max() <= 0:
            raise DataError(
                f"lesion {number} lies outside the slices", fix="choose a place that the scan shows", code="ROI_ABSENT"
            )
        truths.append(_replace(voxels, scan.is_padding, (lesion, box, share), noise_hu))
    dtype = scan.voxels_hu.dtype
    if np.issubdtype(dtype, np.integer):
        limits = np.iinfo(dtype)
        voxels = np.clip(np.rint(voxels), limits.min, limits.max)
    result = Scan(voxels_hu=voxels.astype(dtype), stack=scan.stack, is_padding=scan.is_padding)
    return Implanted(scan=result, lesions=tuple(truths))


def lesion_share(
    stack: SliceStack, lesion: Lesion, fwhm_mm: float
) -> tuple[Box, Float[np.ndarray, "slices rows columns"]]:
    """How much of each pixel a lesion fills, as the scanner sees it.

    Args:
        stack: The slices.
        lesion: The ellipsoid.
        fwhm_mm: In-plane width of the point spread, the pixel's own width included.

    Returns:
        Slices, rows and columns that it touches, and its share there, 0 to 1. Empty where it touches none.
    """
    turn = rotation(lesion.turn_deg)
    # Points p with |form @ (p - centre)| <= 1 are inside.
    form = turn / np.array(lesion.radii_mm)[:, None]
    spread = np.linalg.inv(form)
    reach = np.linalg.norm(spread.T @ stack.normal_ras)
    centre = np.array(lesion.centre_ras_mm)
    along = stack.positions_mm - float(centre @ stack.normal_ras)
    touched = np.flatnonzero(np.abs(along) < reach + stack.thickness_mm / 2)
    if not len(touched):
        return (slice(0, 0), slice(0, 0), slice(0, 0)), np.zeros((0, 0, 0))
    steps = (stack.row_step_ras_mm, stack.column_step_ras_mm)
    pixel_mm = (stack.row_spacing_mm, stack.column_spacing_mm)
    # The in-plane half width of the ellipsoid's shadow along the normal, and room for the point spread.
    half = [float(np.linalg.norm(spread.T @ step)) / mm**2 for step, mm in zip(steps, pixel_mm, strict=True)]
    half = [h + 1.5 * fwhm_mm / mm + 1 for h, mm in zip(half, pixel_mm, strict=True)]
    offset = (centre - _along_normal(stack, touched, centre) - stack.origins_ras_mm[touched]) @ np.stack(
        [step / mm**2 for step, mm in zip(steps, pixel_mm, strict=True)], axis=1
    )
    low = np.maximum(np.floor(offset.min(axis=0) - half), 0).astype(int)
    high = np.minimum(np.ceil(offset.max(axis=0) + half) + 1, stack.shape[1:]).astype(int)
    if np.any(high <= low):
        return (slice(0, 0), slice(0, 0), slice(0, 0)), np.zeros((0, 0, 0))
    box = (
        slice(int(touched[0]), int(touched[-1]) + 1),
        slice(int(low[0]), int(high[0])),
        slice(int(low[1]), int(high[1])),
    )
    share = np.stack([_slice_share(stack, k, box, (form, centre), fwhm_mm) for k in range(box[0].start, box[0].stop)])
    return box, share


def _along_normal(
    stack: SliceStack, indices: np.ndarray, point_ras_mm: Float[np.ndarray, "3"]
) -> Float[np.ndarray, "slices 3"]:
    """From each slice's plane to a point, along the normal."""
    distance = float(point_ras_mm @ stack.normal_ras) - stack.positions_mm[indices]
    return distance[:, None] * stack.normal_ras


def _slice_share(
    stack: SliceStack, index: int, box: Box, ellipsoid: tuple[np.ndarray, np.ndarray], fwhm_mm: float
) -> Float[np.ndarray, "rows columns"]:
    """Share of the pixels of one slice: chords on a fine raster, then the point spread, then means over pixels."""
    form, centre = ellipsoid
    sigma = fwhm_mm / _FWHM_TO_SIGMA
    margin = [math.ceil(3.5 * sigma / mm) for mm in (stack.row_spacing_mm, stack.column_spacing_mm)]
    rows, columns = (
        (np.arange((part.stop - part.start + 2 * extra) * _FINE) + 0.5) / _FINE - 0.5 + part.start - extra
        for part, extra in zip(box[1:], margin, strict=True)
    )
    grid = np.stack(np.meshgrid(rows, columns, indexing="ij"), axis=-1)
    points = (stack.to_ras(index, grid) - centre) @ form.T
    # Along the normal a point moves by `pace` in the ellipsoid's unit ball: a quadratic gives where it is inside.
    pace = form @ stack.normal_ras
    a, b, c = float(pace @ pace), points @ pace, (points**2).sum(axis=-1) - 1
    root = np.sqrt(np.maximum(b**2 - a * c, 0))
    half = float(stack.thickness_mm[index]) / 2
    chord = np.maximum(np.minimum((-b + root) / a, half) - np.maximum((-b - root) / a, -half), 0) * (root > 0)
    share = chord / (2 * half)
    for axis, mm in enumerate((stack.row_spacing_mm, stack.column_spacing_mm)):
        # The mean over a pixel blurs too; the point spread is narrowed by that much.
        narrowed = math.sqrt(max(sigma**2 - mm**2 / 12, 1e-4))
        weights = gaussian_weights(narrowed, mm / _FINE).astype(float)
        share = correlate1d(share, weights / weights.sum(), axis=axis, mode="constant")
    means = share.reshape(len(rows) // _FINE, _FINE, len(columns) // _FINE, _FINE).mean(axis=(1, 3))
    return means[margin[0] : len(means) - margin[0], margin[1] : means.shape[1] - margin[1]]


def _replace(
    voxels: Float[np.ndarray, "slices rows columns"],
    is_padding: Bool[np.ndarray, "slices rows columns"] | None,
    placed: tuple[Lesion, Box, Float[np.ndarray, "depth height width"]],
    noise_hu: float,
) -> LesionTruth:
    """Put one lesion into the voxels, in place."""
    lesion, box, share = placed
    old = voxels[box]
    background = float(np.median(old[share >= share.max() / 2]))
    difference = old - background
    tissue = background + np.sign(difference) * np.maximum(np.abs(difference) - noise_hu, 0)
    new = old + share * (background + lesion.added_hu - tissue)
    voxels[box] = new if is_padding is None else np.where(is_padding[box], old, new)
    return LesionTruth(lesion=lesion, background_hu=background, box=box, share=share)
