"""What counts as calcium: at least 130 HU, inside an artery, not a lone voxel.

Source: Jin et al. 2025 (arXiv 2507.01744), "labels": circling in 2D, threshold at 130 HU, single voxels dropped.
Agatston et al. 1990 (J Am Coll Cardiol 15:827) for islands of at least 1 mm².
Differs: the authors' public code uses > 130; the paper says >= 130, and so do we (one HU apart).
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Shaped, UInt8
from scipy import ndimage

from apatite.calcium.lesions import label_islands
from apatite.core.errors import DataError
from apatite.core.scan import Scan

CALCIUM_HU = 130.0
"""Threshold on the original slices."""
LEAST_ISLAND_MM2 = 1.0
"""Smaller islands are noise in Agatston's tradition."""

IsMarked = Bool[np.ndarray, "slices rows columns"]

_ALL_26 = np.ones((3, 3, 3), dtype=bool)
_ROUNDING = 1e-9


@dataclass(frozen=True, kw_only=True)
class Rule:
    """What of the marked pixels is counted as calcium.

    Attributes:
        what: One sentence, for tables and reports.
        threshold_hu: Least HU; `None` counts whatever is marked.
        drop_small: Removes what is too small, given the area of a pixel in mm²; `None` removes nothing.
    """

    what: str
    threshold_hu: float | None
    drop_small: Callable[[IsMarked, float], IsMarked] | None


def annotate_calcium(
    voxels_hu: Shaped[np.ndarray, "slices rows columns"], is_circled: Bool[np.ndarray, "slices rows columns"]
) -> Bool[np.ndarray, "slices rows columns"]:
    """The paper's annotation: voxels of at least 130 HU inside what a reader circled, without single voxels.

    Args:
        voxels_hu: Original slices.
        is_circled: True inside the reader's circles (or the artery, for a phantom).

    Returns:
        True where calcium is annotated. A voxel none of whose 26 neighbours is annotated is dropped.
    """
    return drop_single_voxels((voxels_hu >= CALCIUM_HU) & is_circled)


def annotate_circles(
    scan: Scan, circles: UInt8[np.ndarray, "slices rows columns"]
) -> UInt8[np.ndarray, "slices rows columns"]:
    """The paper's annotation of circles that carry label values, such as 1 for right and 2 for left.

    Single voxels are judged over all circles together: two voxels that touch across two labels keep each other.

    Args:
        scan: Original slices; padding is never annotated.
        circles: Label value inside the reader's circles, 0 elsewhere.

    Raises:
        DataError: a circled voxel is not finite (`NONFINITE`).
    """
    return circles * count_calcium(scan, circles > 0, RULES["paper"])


def count_calcium(scan: Scan, is_marked: IsMarked, rule: Rule) -> IsMarked:
    """Which of the marked pixels a rule counts; padding never is.

    Args:
        scan: Original slices.
        is_marked: True in the artery, the circles or the prediction.
        rule: One of `RULES`.

    Raises:
        DataError: a marked voxel is not finite (`NONFINITE`).
        ValueError: the pixels do not fit the slices.
    """
    if is_marked.shape != scan.stack.shape:
        raise ValueError(f"marked pixels {is_marked.shape} do not fit the slices {scan.stack.shape}")
    is_calcium = is_marked if scan.is_padding is None else is_marked & ~scan.is_padding
    if not np.isfinite(scan.voxels_hu[is_calcium]).all():
        raise DataError("a marked voxel is not a finite number", fix="read the scan again", code="NONFINITE")
    if rule.threshold_hu is not None:
        is_calcium = is_calcium & (scan.voxels_hu >= rule.threshold_hu)
    return is_calcium if rule.drop_small is None else rule.drop_small(is_calcium, scan.stack.pixel_mm2)


def drop_single_voxels(is_calcium: Bool[np.ndarray, "slices rows columns"]) -> Bool[np.ndarray, "slices rows columns"]:
    """Remove every voxel that has no neighbour among its 26."""
    neighbours = ndimage.convolve(is_calcium.astype(np.uint8), _ALL_26.astype(np.uint8), mode="constant")
    return is_calcium & (neighbours >= 2)


def drop_small_islands(is_calcium: IsMarked, pixel_mm2: float) -> IsMarked:
    """Remove every island (8-connected, within one slice) of less than 1 mm²."""
    numbers, count = label_islands(is_calcium)
    areas_mm2 = np.bincount(numbers.ravel(), minlength=count + 1) * pixel_mm2
    return is_calcium & (areas_mm2 >= LEAST_ISLAND_MM2 - _ROUNDING)[numbers]


RULES: dict[str, Rule] = {
    "paper": Rule(
        what="at least 130 HU, without single voxels (26-connected)",
        threshold_hu=CALCIUM_HU,
        drop_small=lambda is_calcium, _pixel_mm2: drop_single_voxels(is_calcium),
    ),
    "agatston": Rule(
        what="at least 130 HU, islands of at least 1 mm² in their slice (8-connected)",
        threshold_hu=CALCIUM_HU,
        drop_small=drop_small_islands,
    ),
    "marked": Rule(what="everything that is marked, whatever its HU", threshold_hu=None, drop_small=None),
}
"""By name: the paper's rule, Agatston's tradition, and a label map as it stands."""
