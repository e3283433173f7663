"""HD95 as tables of UNETR++ and its kin print it, only to stand beside them: in voxels, and 0 where a set is empty.

Distances run from the border voxels of one set to those of the other, in voxel edges whatever the spacing is; both
directions are pooled before the percentile is taken. A model that finds nothing gets the best value there is. For
every other purpose use `surface.SurfaceDistances.percentile_mm`.

Source: the evaluation scripts of UNETR++ (2022), with medpy's `hd95`; border voxels are those that a 6-connected
erosion takes away.
"""

import numpy as np
from jaxtyping import Bool, Float
from scipy import ndimage

from apatite.metrics.lesion import box_of

Marked = Bool[np.ndarray, "depth height width"]


def published_hd95_voxels(is_predicted: Marked, is_reference: Marked) -> float:
    """The 95th percentile of the distances between the borders of two sets, in voxels; 0 where either is empty.

    Args:
        is_predicted: True where the prediction is, on the grid that the published numbers are of.
        is_reference: True where the reference is.
    """
    box = box_of(is_predicted | is_reference)
    is_predicted, is_reference = is_predicted[box], is_reference[box]
    if not is_predicted.any() or not is_reference.any():
        return 0.0
    distances = np.concatenate([_to_border(is_predicted, is_reference), _to_border(is_reference, is_predicted)])
    return float(np.percentile(distances, 95))


def _to_border(is_marked: Marked, is_other: Marked) -> Float[np.ndarray, "_"]:
    """From each border voxel of the one to the nearest of the other."""
    is_border, is_target = (one & ~np.asarray(ndimage.binary_erosion(one), dtype=bool) for one in (is_marked, is_other))
    return ndimage.distance_transform_edt(~is_target)[is_border]  # pyright: ignore[reportCallIssue, reportArgumentType, reportIndexIssue, reportReturnType, reportOptionalSubscript]
