"""Where one image lies, and the stack of planes that several make.

Source: DICOM PS3.3, C.7.6.2.1.1 (position and orientation).
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from apatite.core.scan import SliceStack
from apatite.io.dicom.header import Header, Refusal

ORIENTATION_TOLERANCE = 1e-3
PIXEL_SPACINGS_MM = (0.05, 5.0)
MAX_POSITION_MM = 10_000.0
MAX_THICKNESS_MM = 50.0
JUMP_MM = 1.0

_TO_RAS = np.array([-1.0, -1.0, 1.0])


def is_parallel(one: Header, other: Header) -> bool:
    """Whether two images are turned alike."""
    if one.orientation_lps is None or other.orientation_lps is None:
        return one.orientation_lps is other.orientation_lps
    return bool(np.all(np.abs(np.subtract(one.orientation_lps, other.orientation_lps)) <= ORIENTATION_TOLERANCE))


def why_no_plane(header: Header) -> Refusal | None:
    """Why an image lies nowhere; `None` where it does."""

    def refuse(code: str, what: str, tag: str) -> Refusal:
        return Refusal(code=code, what=what, path=header.path, tag=tag)

    if header.orientation_lps is None:
        return refuse("NO_IOP", "there is no orientation", "ImageOrientationPatient")
    row, column = np.reshape(header.orientation_lps, (2, 3))
    lengths = np.linalg.norm([row, column], axis=1)
    if not (np.all(np.abs(lengths - 1) <= ORIENTATION_TOLERANCE) and abs(row @ column) <= ORIENTATION_TOLERANCE):
        return refuse("BAD_IOP", "the orientation is not two unit vectors at a right angle", "ImageOrientationPatient")
    if header.position_lps_mm is None:
        return refuse("NO_IPP", "there is no position", "ImagePositionPatient")
    if not np.all(np.abs(header.position_lps_mm) < MAX_POSITION_MM):
        return refuse("BAD_IPP", f"the position is beyond {MAX_POSITION_MM:.0f} mm", "ImagePositionPatient")
    if header.pixel_spacing_mm is None:
        return refuse("NO_SPACING", "there is no pixel spacing", "PixelSpacing")
    low, high = PIXEL_SPACINGS_MM
    if not all(low <= spacing <= high for spacing in header.pixel_spacing_mm):
        return refuse("BAD_SPACING", f"the pixel spacing is not from {low} to {high} mm", "PixelSpacing")
    return None


def positions_along_mm(headers: Sequence[Header]) -> Float[np.ndarray, "images"]:
    """Along the normal of the first image."""
    row, column = np.reshape(headers[0].orientation_lps or (), (2, 3))
    return np.array([header.position_lps_mm for header in headers]) @ np.cross(row, column)


def stack_of(headers: Sequence[Header]) -> SliceStack:
    """The planes in RAS. Written directions have few digits: they are made unit and orthogonal here."""
    first = headers[0]
    row, column = np.reshape(first.orientation_lps or (), (2, 3)) * _TO_RAS
    row = row / np.linalg.norm(row)
    column = column - (column @ row) * row
    column = column / np.linalg.norm(column)
    between_rows_mm, between_columns_mm = first.pixel_spacing_mm or (0.0, 0.0)
    origins = np.array([header.position_lps_mm for header in headers]) * _TO_RAS
    return SliceStack(
        shape=(len(headers), first.rows, first.columns),
        origins_ras_mm=origins,
        column_step_ras_mm=row * between_columns_mm,
        row_step_ras_mm=column * between_rows_mm,
        thickness_mm=_thickness_mm(headers, origins @ np.cross(row, column)),
    )


def _thickness_mm(headers: Sequence[Header], along_mm: Float[np.ndarray, "slices"]) -> Float[np.ndarray, "slices"]:
    """As stated; the distance to the nearer neighbour where nothing usable is."""
    steps = np.abs(np.diff(along_mm))
    nearest = np.minimum(np.append(steps, np.inf), np.insert(steps, 0, np.inf))
    stated = np.array([stated_thickness_mm(header) for header in headers])
    return np.where(np.isnan(stated), nearest, stated)


def stated_thickness_mm(header: Header) -> float:
    """Nominal thickness; NaN where none is stated, or an impossible one."""
    thickness = header.thickness_mm
    return thickness if thickness is not None and 0 < thickness <= MAX_THICKNESS_MM else np.nan


def tilt_of_deg(stack: SliceStack) -> float:
    """Angle between the way from slice to slice and the normal; zero without tilt."""
    way = stack.origins_ras_mm[-1] - stack.origins_ras_mm[0]
    across = np.linalg.norm(np.cross(way, stack.normal_ras))
    return float(np.rad2deg(np.arctan2(across, way @ stack.normal_ras)))


def jumping_slice(stack: SliceStack) -> int | None:
    """A slice that lies beside the line through its neighbours, which go on without it; `None` where there is none.

    A stack may be tilted, and its field of view may be moved once on the way; it does not go back.
    """
    ways = np.diff(stack.origins_ras_mm, axis=0)
    steps_mm = np.diff(stack.positions_mm)[:, None]
    aside = ways - steps_mm * np.median(ways / steps_mm, axis=0)
    is_far = np.linalg.norm(aside, axis=1) > JUMP_MM
    is_back = np.linalg.norm(aside[:-1] + aside[1:], axis=1) < JUMP_MM / 2
    jumps = np.flatnonzero(is_far[:-1] & is_far[1:] & is_back)
    return int(jumps[0]) + 1 if jumps.size else None
