"""What an annotator would have marked on a degraded scan, from what was marked on the scan as it is.

Calcium. On the scan as it is, the annotation adds e = HU - 40 to its voxels, and so do the voxels of its rim: those
within `RIM_MM` of it in their slice that the annotator passed over because they stay below 130 HU. What was passed over
at 130 HU or more is bone, by the annotator's own word, and adds nothing. e goes through the same blur or average as the
scan; where at least 45 HU of it arrive, a voxel is circled; of what is circled, the rule (at least 130 HU in the
degraded scan, no single voxels) makes the reference. On the scan as it is this gives back the annotation.

Any other label: voxels more than half of which were marked.

Limits: calcium that the annotator missed is missed at every level. Where bone touches calcium, a thick voxel that
holds both is circled for the calcium's sake. A faint lesion whose rim is wider than `RIM_MM` keeps less of it. How far
this is from a perfect reader of a phantom stands in docs/how-to/measure-robustness.md.

Source: the 45 HU are those of the phantom's perfect reader (`phantom.reader`).
"""

from typing import Final

import numpy as np
from jaxtyping import Bool
from scipy import ndimage

from apatite.calcium.rule import CALCIUM_HU, RULES, count_calcium
from apatite.core.scan import Scan, SliceStack
from apatite.ct.degrade.degradation import Degradation, Values
from apatite.phantom.reader import ADDED_HU

RIM_MM: Final = 1.0
"""How far beyond the annotation a voxel may hold some of the calcium."""
BLOOD_HU: Final = 40.0
"""What is there without calcium."""

Marked = Bool[np.ndarray, "slices rows columns"]
NewMarked = Bool[np.ndarray, "new_slices rows columns"]


def calcium_reference(scan: Scan, is_annotated: Marked, degraded: Scan, degradation: Degradation | None) -> NewMarked:
    """The annotation of calcium on a degraded scan.

    Args:
        scan: As it is.
        is_annotated: Calcium on its slices.
        degraded: The same scan, degraded.
        degradation: How; `None` where it was not.
    """
    if degradation is None:
        return is_annotated
    if not is_annotated.any():
        return np.zeros(degraded.stack.shape, dtype=bool)
    added_hu = degradation.spread(added_by_calcium(scan, is_annotated), None, scan.stack)
    return count_calcium(degraded, added_hu >= ADDED_HU, RULES["paper"])


def added_by_calcium(scan: Scan, is_annotated: Marked) -> Values:
    """HU that the annotated calcium and its rim add to blood."""
    is_low = scan.voxels_hu < CALCIUM_HU
    if scan.is_padding is not None:
        is_low &= ~scan.is_padding
    is_source = is_annotated | (_rim(is_annotated, scan.stack) & is_low)
    return np.where(is_source, np.maximum(scan.voxels_hu.astype(np.float32) - BLOOD_HU, 0), 0).astype(np.float32)


def label_reference(scan: Scan, is_annotated: Marked, degradation: Degradation | None) -> NewMarked:
    """Any other label on a degraded scan: where more than half of a voxel was marked."""
    if degradation is None:
        return is_annotated
    return degradation.spread(is_annotated.astype(np.float32), None, scan.stack) > 0.5


def _rim(is_annotated: Marked, stack: SliceStack) -> Marked:
    """Pixels within `RIM_MM` of annotated ones in the same slice."""
    is_near = np.zeros_like(is_annotated)
    for k in np.flatnonzero(is_annotated.any(axis=(1, 2))):
        distance_mm = ndimage.distance_transform_edt(
            ~is_annotated[k], sampling=(stack.row_spacing_mm, stack.column_spacing_mm)
        )
        is_near[k] = np.asarray(distance_mm) <= RIM_MM
    return is_near
