"""The Agatston score of calcium on original slices, scaled to 3 mm.

    A = sum over slices k of  (w_k / 3 mm) * sum over islands of  area in mm² * f(largest HU of the island)

with f = 1 from 130 HU, 2 from 200, 3 from 300, 4 from 400, and islands 8-connected in their slice, of at least 1 mm².
w_k is the part of the normal that slice k stands for, so overlapping slices are not scored twice.

Source: Agatston et al. 1990 (J Am Coll Cardiol 15:827).
Differs: the original has slices of 3 mm only; `is_standard_agatston` tells whether a score compares with it.
"""

import numpy as np

from apatite.calcium.lesions import label_islands
from apatite.calcium.measure import slice_weights_mm
from apatite.calcium.rule import CALCIUM_HU, IsMarked, Rule, count_calcium, drop_small_islands
from apatite.core.scan import Scan, SliceStack

REFERENCE_MM = 3.0
STANDARD_SPACING_MM = (2.5, 3.5)
STANDARD_KVP = 120.0

_ROUNDING = 1e-6


def agatston_score(scan: Scan, is_marked: IsMarked, threshold_hu: float = CALCIUM_HU) -> float:
    """Score of the marked pixels; 0 where none of them reaches the threshold.

    The threshold and the least island of 1 mm² belong to the score: it is the same whichever rule the volume follows.

    Args:
        scan: Original slices.
        is_marked: True in the artery, the circles or the prediction.
        threshold_hu: 130 by definition.

    Raises:
        DataError: a marked voxel is not finite (`NONFINITE`).
    """
    rule = Rule(what="Agatston's", threshold_hu=threshold_hu, drop_small=drop_small_islands)
    is_calcium = count_calcium(scan, is_marked, rule)
    numbers, count = label_islands(is_calcium)
    if not count:
        return 0.0
    place = np.nonzero(is_calcium)
    island = numbers[place] - 1
    largest_hu = np.full(count, -np.inf)
    np.maximum.at(largest_hu, island, scan.voxels_hu[place].astype(np.float64))
    slice_of = np.zeros(count, dtype=int)
    slice_of[island] = place[0]
    areas_mm2 = np.bincount(island, minlength=count) * scan.stack.pixel_mm2
    density = np.clip(np.floor(largest_hu / 100), 1, 4)
    return float(np.sum(areas_mm2 * density * slice_weights_mm(scan.stack)[slice_of]) / REFERENCE_MM)


def is_standard_agatston(stack: SliceStack, kvp: float | None) -> bool:
    """Whether a score of such a scan compares with published ones: every slice 2.5 to 3.5 mm from the next, 120 kVp.

    Args:
        stack: The slices; of a single one, its thickness counts.
        kvp: Tube voltage; unknown is not standard.
    """
    steps_mm = np.diff(stack.positions_mm) if stack.shape[0] > 1 else stack.thickness_mm
    low, high = STANDARD_SPACING_MM
    is_spaced = bool(np.all((steps_mm >= low - _ROUNDING) & (steps_mm <= high + _ROUNDING)))
    return is_spaced and kvp is not None and abs(kvp - STANDARD_KVP) < 0.5
