"""Which part of the head a scan shows, read from the registered scan alone.

Source: Jin et al. 2024 (DEMI@MICCAI), "information presence", as in the authors' public code
(bjin96/ct-processing, `scan_completeness.py` and `create_completeness_groups.py`).
"""

from typing import Literal

import numpy as np
from jaxtyping import Float

from apatite.core.scan import Scan
from apatite.core.volume import Grid, Volume
from apatite.ct.pose import HeadPose
from apatite.ct.region import cut_region

Completeness = Literal["complete", "skull base", "skull vault", "middle", "incomplete"]
DOUBTFUL: tuple[Completeness, ...] = ("middle", "incomplete")
"""Groups of which every scan is looked at."""
LEAST_SHARE = 0.05
"""From this share of the range of values above the lowest one, a voxel carries information."""
LEAST_MEDIAN = 0.4
LEAST_MIDDLE = 0.6


def register(scan: Scan, pose: HeadPose, template_grid: Grid) -> Volume:
    """A scan as it looks in template space.

    Args:
        scan: Original slices.
        pose: How the head lies.
        template_grid: From voxel index to MNI mm; 2 mm voxels are enough for quality control.

    Returns:
        HU on the template's grid; air where the scan shows nothing.
    """
    in_patient = Grid(shape=template_grid.shape, ijk_to_ras=pose.mni_to_ras @ template_grid.ijk_to_ras)
    return Volume(voxels=cut_region(scan, in_patient).voxels, grid=template_grid)


def information(registered: Volume) -> Float[np.ndarray, "depth"]:
    """The share of voxels that carry information, for each axial slice of the template from below upwards.

    Raises:
        ValueError: the template's grid does not run upwards along its third axis.
    """
    if np.argmax(np.abs(registered.grid.ijk_to_ras[2, :3])) != 2 or registered.grid.ijk_to_ras[2, 2] <= 0:
        raise ValueError("the template's slices do not run upwards")
    voxels = registered.voxels
    low, high = float(voxels.min()), float(voxels.max())
    return (voxels >= low + LEAST_SHARE * (high - low)).mean(axis=(1, 2), dtype=np.float64)


def completeness(share: Float[np.ndarray, "depth"]) -> Completeness:
    """The group of a scan.

    Args:
        share: Information per slice from below upwards, as `information` gives it.
    """
    middle = round(len(share) / 2)
    has_base, has_vault = _has_data(share[:middle]), _has_data(share[middle:])
    if has_base and has_vault:
        return "complete" if share[middle] >= LEAST_MIDDLE else "incomplete"
    if has_base or has_vault:
        return "skull base" if has_base else "skull vault"
    return "middle" if _has_data(np.sort(share)[middle:]) else "incomplete"


def _has_data(share: Float[np.ndarray, "slices"]) -> bool:
    return float(np.median(share)) >= LEAST_MEDIAN
