"""Right or left, and which stretch of the carotid: from where calcium lies in template space.

Never from the halves of an array: a file may be stored in any order, and a head may lie askew. The sign of x in MNI
space decides. Near the midline that sign hangs on the error of the pose, so there a pixel goes with its lesion.

Differs: from a rule that gives a whole lesion to one side: a lesion that reaches beyond the midline band on both sides
is divided, so that joined plaques of both arteries are not counted on one.
"""

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8
from scipy import ndimage

from apatite.core.scan import SliceStack
from apatite.ct.pose import HeadPose

RIGHT, LEFT = 1, 2
SIDES: dict[int, str] = {RIGHT: "right", LEFT: "left"}
"""Name of each value of `sides`."""
MIDLINE_MM = 2.0
"""Half width of the band in which a pixel goes with its lesion."""
SEGMENTS: dict[int, str] = {1: "petrous", 2: "cavernous", 3: "supraclinoid"}
"""Name of each value of `segments`, from below upwards."""
SEGMENT_CUTS_MNI_MM = (-40.0, -20.0)
"""Heights between them; approximate, from no landmark of the patient's own."""

_ALL_26 = np.ones((3, 3, 3), dtype=bool)


def sides(
    is_calcium: Bool[np.ndarray, "slices rows columns"], stack: SliceStack, pose: HeadPose
) -> UInt8[np.ndarray, "slices rows columns"]:
    """The side of every marked pixel.

    A pixel at least `MIDLINE_MM` from the midline is on the side of its own x. Nearer, it is on the side of the middle
    of its 26-connected lesion (left where that is exactly 0): a small lesion on the midline stays in one piece, and the
    tip of a lateral one stays with it.

    Args:
        is_calcium: On the original slices.
        stack: Where they lie.
        pose: How the head lies.

    Returns:
        1 right, 2 left, 0 where nothing is marked.
    """
    where = np.argwhere(is_calcium)
    result = np.zeros(is_calcium.shape, dtype=np.uint8)
    if len(where):
        x_mm = _mni_mm(where, stack, pose)[:, 0]
        lesion = _lesion_of(is_calcium, where)
        middle_mm = np.bincount(lesion, weights=x_mm) / np.maximum(np.bincount(lesion), 1)
        is_right = np.where(np.abs(x_mm) < MIDLINE_MM, middle_mm[lesion], x_mm) > 0
        result[tuple(where.T)] = np.where(is_right, RIGHT, LEFT)
    return result


def segments(
    is_calcium: Bool[np.ndarray, "slices rows columns"], stack: SliceStack, pose: HeadPose
) -> UInt8[np.ndarray, "slices rows columns"]:
    """The approximate stretch of the carotid of every marked pixel, by its height in MNI space alone.

    Returns:
        A key of `SEGMENTS`, 0 where nothing is marked.
    """
    where = np.argwhere(is_calcium)
    result = np.zeros(is_calcium.shape, dtype=np.uint8)
    height_mm = _mni_mm(where, stack, pose)[:, 2]
    result[tuple(where.T)] = 1 + np.searchsorted(SEGMENT_CUTS_MNI_MM, height_mm, side="right")
    return result


def _mni_mm(where: Int[np.ndarray, "pixels 3"], stack: SliceStack, pose: HeadPose) -> Float[np.ndarray, "pixels 3"]:
    """MNI mm of (slice, row, column) indices."""
    slices, rows, columns = where.T
    points = (
        stack.origins_ras_mm[slices]
        + rows[:, None] * stack.row_step_ras_mm
        + columns[:, None] * stack.column_step_ras_mm
    )
    return pose.to_mni(points)


def _lesion_of(
    is_calcium: Bool[np.ndarray, "slices rows columns"], where: Int[np.ndarray, "pixels 3"]
) -> Int[np.ndarray, "pixels"]:
    """Number of the 26-connected lesion of each marked pixel; only the part of the scan that holds any is labelled."""
    first = where.min(axis=0)
    box = tuple(slice(low, high) for low, high in zip(first, where.max(axis=0) + 1, strict=True))
    labels, _ = ndimage.label(is_calcium[box], structure=_ALL_26)  # pyright: ignore[reportGeneralTypeIssues]
    return labels[tuple((where - first).T)].astype(np.int64)
