"""What counts as calcium: at least 130 HU, inside an artery, not a lone voxel.

Source: Jin et al. 2025 (arXiv 2507.01744), "labels": circling in 2D, threshold at 130 HU, single voxels dropped.
Differs: the authors' public code uses > 130; the paper says >= 130, and so do we (one HU apart).
"""

import numpy as np
from jaxtyping import Bool, Shaped
from scipy import ndimage

CALCIUM_HU = 130.0
"""Threshold on the original slices."""

_ALL_26 = np.ones((3, 3, 3), dtype=bool)


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


def drop_single_voxels(is_calcium: Bool[np.ndarray, "slices rows columns"]) -> Bool[np.ndarray, "slices rows columns"]:
    """Remove every voxel that has no neighbour among its 26."""
    neighbours = ndimage.convolve(is_calcium.astype(np.uint8), _ALL_26.astype(np.uint8), mode="constant")
    return is_calcium & (neighbours >= 2)
