"""An artery's box in one scan: the grid on which the network looks at all of it, its pixels, and how much is shown.

A network sees tensors of a fixed size, smaller than the box. So it looks at one larger grid along the patient's axes,
in overlapping windows; what counts in the end are the original pixels inside the box itself, which lies obliquely.

Source: Jin et al. 2024 (DEMI@MICCAI): a series counts where more than half of the box is in view.
Differs: what is shown is the share of the box inside the acquired slices, not of a warped map of it; a part of it is
flagged, because its volume is a lower bound.
"""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from apatite.core.errors import DataError
from apatite.core.scan import Scan, SliceStack
from apatite.core.volume import Grid, axis_aligned_grid
from apatite.ct.boxes import Box
from apatite.ct.near import is_empty, near, row_columns
from apatite.ct.pose import HeadPose
from apatite.ct.region import RegionConfig

LEAST_FRACTION = 0.5
"""Less of the box than this, and the scan does not show the artery."""
WHOLE_FRACTION = 0.995
"""From here on the box counts as shown whole; the rest is the error of the pose."""
LATTICE_MM = 0.5
"""Distance of the points by which the shown part is measured."""


@dataclass(frozen=True, kw_only=True)
class Coverage:
    """How much of a box a scan shows.

    Attributes:
        box: Name of the box.
        fraction: Of its volume, from 0 to 1.
    """

    box: str
    fraction: float

    @property
    def code(self) -> str:
        """`ROI_ABSENT`, `ROI_PARTIAL`, or empty where the whole box is shown."""
        if self.fraction < LEAST_FRACTION:
            return "ROI_ABSENT"
        return "ROI_PARTIAL" if self.fraction < WHOLE_FRACTION else ""

    @property
    def flags(self) -> tuple[str, ...]:
        """The code, where there is one."""
        return (self.code,) if self.code else ()

    def require(self) -> None:
        """Refuse a scan that does not show the artery.

        Raises:
            DataError: less than half of the box is in view (`ROI_ABSENT`).
        """
        if self.code == "ROI_ABSENT":
            raise DataError(
                f"shows {self.fraction:.0%} of the region {self.box!r}",
                fix="use a series that reaches down to the skull base",
                code="ROI_ABSENT",
            )


def box_grid(pose: HeadPose, box: Box, region: RegionConfig, margin_mm: float = 0.0) -> Grid:
    """The smallest grid along the patient's axes that holds a mapped box, and at least one of the network's tensors.

    Args:
        pose: How the head lies.
        box: The artery's box.
        region: Size and spacing of one tensor.
        margin_mm: Added on every side, along the patient's axes.
    """
    corners = pose.to_ras(box.corners_mni_mm)
    low, high = corners.min(axis=0) - margin_mm, corners.max(axis=0) + margin_mm
    # A hair less, so that an extent of exactly n voxels does not become n + 1 by rounding.
    needed = np.ceil((high - low) / np.array(region.spacing_mm) - 1e-9).astype(int)
    depth, height, width = np.maximum(needed[::-1], np.array(region.shape)).tolist()
    return axis_aligned_grid((depth, height, width), region.spacing_mm, (low + high) / 2)


def training_grid(pose: HeadPose, box: Box, region: RegionConfig) -> Grid:
    """The grid of one tensor round the middle of a mapped box."""
    return region.grid(pose.to_ras(box.centre_mni_mm))


def is_inside_box(stack: SliceStack, pose: HeadPose, box: Box) -> Bool[np.ndarray, "slices rows columns"]:
    """True for the original pixels whose centre lies inside a box of MNI space.

    Args:
        stack: Where the slices lie.
        pose: How the head lies.
        box: The artery's box; its surface counts.
    """
    inside = np.zeros(stack.shape, dtype=bool)
    window = near(stack, pose.to_ras(box.corners_mni_mm))
    if is_empty(window):
        return inside
    part = stack.part(window)
    found, points = inside[window], row_columns(part)
    for k in range(part.shape[0]):
        found[k] = box.holds(pose.to_mni(part.to_ras(k, points)))
    return inside


def coverage(scan: Scan, pose: HeadPose, box: Box) -> Coverage:
    """How much of a box the acquired slices show.

    A slice shows what lies nearer to it than to its neighbours, as in the measurement; but where neighbours are more
    than twice their thickness apart, only its own thickness. Beyond the last pixel, and where the scanner reconstructed
    nothing, nothing is shown.

    Args:
        scan: Original slices; of the voxels only the padding counts.
        pose: How the head lies.
        box: The artery's box.
    """
    stack = scan.stack
    points = pose.to_ras(_lattice(box, LATTICE_MM / max(1.0, float(pose.scales[0]))))
    along = points @ stack.normal_ras
    positions = stack.positions_mm
    nearest = np.searchsorted((positions[1:] + positions[:-1]) / 2, along)
    reach = slice_reach_mm(stack)
    offset = along - positions[nearest]
    is_shown = (offset >= -reach[nearest, 0]) & (offset <= reach[nearest, 1])
    to_row_column = np.linalg.pinv(np.stack([stack.row_step_ras_mm, stack.column_step_ras_mm], axis=1))
    pixel = np.rint((points - stack.origins_ras_mm[nearest]) @ to_row_column.T).astype(int)
    is_shown &= np.all((pixel >= 0) & (pixel < stack.shape[1:]), axis=-1)
    if scan.is_padding is not None:
        is_shown[is_shown] = ~scan.is_padding[nearest[is_shown], pixel[is_shown, 0], pixel[is_shown, 1]]
    return Coverage(box=box.name, fraction=float(is_shown.mean()))


def slice_reach_mm(stack: SliceStack) -> Float[np.ndarray, "slices 2"]:
    """How far each slice shows below and above its middle, along the normal."""
    half = stack.thickness_mm / 2
    reach = np.stack([half, half], axis=1)
    gaps = np.diff(stack.positions_mm)
    # No farther apart than twice their thickness: what lies between is interpolated. Farther: it was not scanned.
    is_near = gaps <= stack.thickness_mm[1:] + stack.thickness_mm[:-1]
    reach[1:, 0] = np.where(is_near, gaps / 2, half[1:])
    reach[:-1, 1] = np.where(is_near, gaps / 2, half[:-1])
    return reach


def _lattice(box: Box, step_mm: float) -> Float[np.ndarray, "points 3"]:
    """The middles of equal cells, no larger than `step_mm`, that fill a box."""
    axes = []
    for low, high in zip(box.low_mni_mm, box.high_mni_mm, strict=True):
        count = math.ceil((high - low) / step_mm)
        axes.append(low + (np.arange(count) + 0.5) * (high - low) / count)
    return np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)
