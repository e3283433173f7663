"""Metal in the slices of a region: clips, coils, teeth and implants, whose streaks run through the whole slice.

Nothing in a body but metal reaches 3000 HU. Many scanners store no more than 3071, some less; there, metal is where
many pixels touch that share the highest value of the scan.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool
from scipy import ndimage

from apatite.core.scan import Scan
from apatite.ct.boxes import Box
from apatite.ct.cover import slice_reach_mm
from apatite.ct.near import near
from apatite.ct.pose import HeadPose

METAL_HU = 3000.0
SATURATED_HU = 2000.0
"""A highest value of at least this, shared by many pixels, is a limit of what was stored."""
LEAST_SATURATED = 12
"""Touching pixels at that value; bone reaches its highest in one or two."""

_ALL_26 = np.ones((3, 3, 3), dtype=bool)


@dataclass(frozen=True, kw_only=True)
class Metal:
    """Metal in the slices of a region.

    Attributes:
        num_pieces: 26-connected pieces.
        volume_mm3: Of all of them; blooming makes it larger than the metal.
    """

    num_pieces: int
    volume_mm3: float


def metal(scan: Scan, pose: HeadPose, box: Box) -> Metal:
    """Metal anywhere in the slices that show a box.

    Args:
        scan: Original slices.
        pose: How the head lies.
        box: The artery's box.
    """
    slices = near(scan.stack, pose.to_ras(box.corners_mni_mm))[0]
    is_metal = _is_metal(scan.voxels_hu[slices])
    if not is_metal.any():
        return Metal(num_pieces=0, volume_mm3=0.0)
    _, pieces = ndimage.label(is_metal, structure=_ALL_26)  # pyright: ignore[reportGeneralTypeIssues]
    shown_mm = slice_reach_mm(scan.stack)[slices].sum(axis=1)
    pixels = is_metal.sum(axis=(1, 2))
    return Metal(num_pieces=int(pieces), volume_mm3=float(pixels @ shown_mm) * scan.stack.pixel_mm2)


def _is_metal(voxels_hu: np.ndarray) -> Bool[np.ndarray, "slices rows columns"]:
    is_metal = voxels_hu >= METAL_HU
    highest = float(voxels_hu.max(initial=0))
    if not SATURATED_HU <= highest < METAL_HU:
        return is_metal
    is_highest = voxels_hu == highest
    labels, _ = ndimage.label(is_highest, structure=_ALL_26)  # pyright: ignore[reportGeneralTypeIssues]
    piece = np.asarray(labels, dtype=np.int64)
    sizes = np.bincount(piece.ravel())
    sizes[0] = 0
    return is_metal | (sizes[piece] >= LEAST_SATURATED)
