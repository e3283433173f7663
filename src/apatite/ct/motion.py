"""Whether the slices of a region fit together: how far each lies in its plane from where its neighbours put it.

A slice is compared with the mean of its two neighbours, weighted by distance, so that a surface which slopes evenly
from slice to slice cancels out. The shift between the two is found as in optical flow, with one shift per slice.

    minimise  sum of w * (slice - neighbours + gradient * shift)²,   w small where both differ much

Source: Lucas & Kanade 1981; the weights are Cauchy's.
Differs: only shifts within the plane are seen, and only against both neighbours: turns, motion during one slice
(doubled contours) and a shift of half the scan spread over many slices are not. The limits come from simulated heads
with slices moved by a known distance and one real head at rest; no real scan with known motion was at hand.
"""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float32
from scipy import ndimage

from apatite.core.scan import Scan
from apatite.ct.boxes import Box
from apatite.ct.near import is_empty, near
from apatite.ct.pose import HeadPose

WINDOW_HU = (-200.0, 300.0)
"""Skin, brain and the outline of bone; what lies inside bone tells little."""
BLUR_MM = 1.0
STEP_MM = 1.0
"""Pixels of about this size are compared."""
UNLIKE_HU = 60.0
"""Pixels that differ by more than this count less."""
STEPS = 3
MOVED_MM = 0.3
"""A slice farther from its neighbours than this has moved, where slices are thin."""
MOVED_PER_MM = 0.12
"""And by so much more per millimetre between slices, since anatomy bends between them."""
LEAST_FIELD_MM = 120.0
"""A smaller field shows no outline of the head; anatomy alone then looks like shifts of a millimetre."""


@dataclass(frozen=True, kw_only=True)
class Motion:
    """How well the slices of a region fit together.

    Attributes:
        shift_mm: The largest shift of a slice against its neighbours; `nan` where it cannot be judged: fewer than three
            slices, or a field too small for a head.
        limit_mm: What anatomy alone may look like at this distance between slices.
    """

    shift_mm: float
    limit_mm: float

    @property
    def is_moved(self) -> bool:
        """Whether a slice lies farther off than anatomy explains."""
        return self.shift_mm > self.limit_mm


def motion(scan: Scan, pose: HeadPose, box: Box) -> Motion:
    """How well the slices fit together that show a box, and one more on either side.

    Args:
        scan: Original slices.
        pose: How the head lies.
        box: The artery's box.
    """
    stack = scan.stack
    window = near(stack, pose.to_ras(box.corners_mni_mm))
    shown = slice(max(0, window[0].start - 1), min(stack.shape[0], window[0].stop + 1))
    gaps = np.diff(stack.positions_mm[shown])
    field_mm = min(stack.shape[1] * stack.row_spacing_mm, stack.shape[2] * stack.column_spacing_mm)
    if is_empty(window) or gaps.size < 2 or field_mm < LEAST_FIELD_MM:
        return Motion(shift_mm=math.nan, limit_mm=MOVED_MM)
    limit_mm = MOVED_MM + MOVED_PER_MM * float(np.median(gaps))
    return Motion(shift_mm=float(slice_shifts_mm(scan, shown).max()), limit_mm=limit_mm)


def slice_shifts_mm(scan: Scan, slices: slice) -> Float[np.ndarray, "slices"]:
    """How far each slice lies, in its plane, from where its two neighbours put it.

    Args:
        scan: Original slices.
        slices: Which of them to compare; the first and the last have one neighbour only and are given as 0.
    """
    stack = scan.stack
    pixel_mm = np.array([stack.row_spacing_mm, stack.column_spacing_mm])
    every = np.maximum(1, np.rint(STEP_MM / pixel_mm)).astype(int)
    views = [_view(voxels, pixel_mm, every) for voxels in scan.voxels_hu[slices]]
    positions, origins = stack.positions_mm[slices], stack.origins_ras_mm[slices]
    in_plane = np.stack([stack.row_step_ras_mm, stack.column_step_ras_mm]) / pixel_mm[:, None]
    shifts = np.zeros(len(views))
    for k in range(1, len(views) - 1):
        weight = float((positions[k] - positions[k - 1]) / (positions[k + 1] - positions[k - 1]))
        found = _shift(views[k], (1 - weight) * views[k - 1] + weight * views[k + 1])
        # Slices may be reconstructed round different centres; what the file states is no motion.
        stated = in_plane @ (origins[k] - (1 - weight) * origins[k - 1] - weight * origins[k + 1])
        shifts[k] = np.linalg.norm(found * pixel_mm * every + stated)
    return shifts


def _view(voxels: np.ndarray, pixel_mm: np.ndarray, every: np.ndarray) -> Float32[np.ndarray, "rows columns"]:
    """A slice in the window, blurred, with larger pixels."""
    blurred = ndimage.gaussian_filter(np.clip(voxels.astype(np.float32), *WINDOW_HU), tuple(BLUR_MM / pixel_mm))
    return blurred[:: every[0], :: every[1]]


def _shift(moved: np.ndarray, still: np.ndarray) -> Float[np.ndarray, "2"]:
    """Rows and columns by which `still` has to be shifted to fit `moved`; 0 where neither holds an edge."""
    shift = np.zeros(2)
    if min(moved.shape) < 3:
        return shift
    for _ in range(STEPS):
        here = ndimage.shift(still, shift, order=1, mode="nearest")
        along_rows, along_columns = np.gradient((here + moved) / 2)
        gradient = np.stack([along_rows.ravel(), along_columns.ravel()], axis=-1)
        difference = (moved - here).ravel()
        weight = 1 / (1 + (difference / UNLIKE_HU) ** 2)
        normal = gradient.T @ (gradient * weight[:, None])
        if np.linalg.det(normal) <= 1e-6 * max(np.trace(normal) ** 2, 1.0):
            return shift
        shift = shift - np.linalg.solve(normal, gradient.T @ (weight * difference))
    return shift
