"""From headers to slices with their own positions: what belongs together, in which order, and what is wrong with it.

Geometry comes from ImagePositionPatient and ImageOrientationPatient alone, never from SliceThickness, InstanceNumber
or a file name. Nothing ambiguous is guessed: a series is laid out, laid out with flags, or refused by name.

Source: DICOM PS3.3, C.7.6.2 (image plane).
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from apatite.core.scan import SliceStack
from apatite.io.dicom.header import Header, Refusal
from apatite.io.dicom.limits import ReadLimits
from apatite.io.dicom.planes import (
    ORIENTATION_TOLERANCE,
    is_parallel,
    jumping_slice,
    positions_along_mm,
    stack_of,
    stated_thickness_mm,
    tilt_of_deg,
    why_no_plane,
)
from apatite.io.dicom.steps import SAME_POSITION_MM, missing_slices, step_flags
from apatite.io.dicom.stored import may_be_lossy, why_no_hu

ImageKey = tuple[str, int]
"""Path and frame."""

LEAST_SLICES = 3
SAME_THICKNESS_MM, SAME_SPACING_MM = 0.01, 2e-4
MAX_TILT_DEG = 45.0
"""No gantry tilts so far; positions that say so are wrong."""
TILT_DEG, TILT_TAG_DEG = 0.5, 1.0
USUAL_KVP = (80.0, 140.0)
SMALL_FIELD_MM = 150.0


@dataclass(frozen=True, kw_only=True, eq=False)
class Series:
    """Images that belong together.

    Attributes:
        headers: One per slice, in the order of the stack; in the order given where the series is refused.
        stack: Where the slices lie; `None` where the series is refused.
        flags: Codes of what is unusual but was dealt with, such as `TILT`.
        refusal: Why the series cannot be measured; `None` where it can.
        left_out: Images of the series that are not slices of it (an identical duplicate, ...), each with its reason.
    """

    headers: tuple[Header, ...]
    stack: SliceStack | None
    flags: tuple[str, ...] = ()
    refusal: Refusal | None = None
    left_out: tuple[Refusal, ...] = ()


class _RefusedError(Exception):
    def __init__(self, code: str, what: str, header: Header, tag: str = "") -> None:
        super().__init__(code)
        self.refusal = Refusal(code=code, what=what, path=header.path, tag=tag)


def image_key(header: Header) -> ImageKey:
    """What names one image among files."""
    return str(header.path), header.frame


def group_images(headers: Sequence[Header]) -> list[tuple[Header, ...]]:
    """Images that may form one stack, in the order in which they are met.

    Together are images of one patient, study, series, frame of reference, size, pixel spacing, kernel and orientation;
    of one acquisition too, where positions repeat otherwise. Two patients under one series stay together, so that
    `lay_out` refuses both. So do images of one kind (ImageType) that fewer than three others are like: a slice with
    another orientation or size must not drop out of its stack unseen, and what is no stack is refused as one series.
    """
    by_series: dict[tuple[str, str], list[Header]] = {}
    patients: dict[str, set[str]] = {}
    for header in headers:
        patients.setdefault(header.series_uid, set()).add(header.patient)
        by_series.setdefault((header.series_uid, header.study_uid), []).append(header)
    is_mixed = {uid for uid, found in patients.items() if len(found) > 1 and uid}
    groups: list[list[Header]] = [[header for header in headers if header.series_uid == uid] for uid in is_mixed]
    for (uid, _), members in by_series.items():
        if uid not in is_mixed:
            groups += _by_geometry(members)
    place = {image_key(header): index for index, header in enumerate(headers)}
    return [tuple(group) for group in sorted(groups, key=lambda group: place[image_key(group[0])])]


def _by_geometry(members: list[Header]) -> list[list[Header]]:
    """Groups of images that are alike; an image without its like goes with the group that it may be a slice of."""
    alike: dict[tuple[object, ...], list[Header]] = {}
    for header in members:
        key = (
            header.patient,
            header.frame_of_reference_uid,
            header.modality,
            header.rows,
            header.columns,
            _rounded(header.pixel_spacing_mm),
            header.kernel,
        )
        alike.setdefault(key, []).append(header)
    groups = [group for found in alike.values() for group in _by_orientation(found)]
    large = [group for group in groups if len(group) >= LEAST_SLICES]
    strays: dict[tuple[str, ...], list[Header]] = {}
    for group in groups:
        if len(group) < LEAST_SLICES:
            for header in group:
                homes = [one for one in large if one[0].image_type == header.image_type]
                home = max(homes, key=len) if homes else strays.setdefault(header.image_type, [])
                home.append(header)
    return [split for group in [*large, *strays.values()] for split in _by_acquisition(group)]


def _rounded(spacing_mm: tuple[float, float] | None) -> str:
    """As text, since a number that is none equals nothing."""
    return str(spacing_mm and tuple(round(value, 4) for value in spacing_mm))


def _by_orientation(members: list[Header]) -> list[list[Header]]:
    """Groups of parallel images."""
    groups: list[list[Header]] = []
    for header in members:
        for group in groups:
            if is_parallel(group[0], header):
                group.append(header)
                break
        else:
            groups.append([header])
    return groups


def _by_acquisition(members: list[Header]) -> list[list[Header]]:
    """Split by acquisition, where that makes positions unique that were not."""
    if not _repeats(members):
        return [members]
    split: dict[int | None, list[Header]] = {}
    for header in members:
        split.setdefault(header.acquisition_number, []).append(header)
    is_better = len(split) > 1 and all(len(group) >= LEAST_SLICES for group in split.values())
    return list(split.values()) if is_better and not any(map(_repeats, split.values())) else [members]


def _repeats(members: list[Header]) -> bool:
    """Whether a position comes twice with another image (a second copy of a file has the same SOP instance UID)."""
    images = {(header.sop_uid, header.frame, header.position_lps_mm) for header in members}
    return max(Counter(position for _, _, position in images).values()) > 1


def lay_out(
    headers: Sequence[Header], digests: Mapping[ImageKey, str] | None = None, limits: ReadLimits | None = None
) -> Series:
    """Slices in order, with their positions, or why that cannot be.

    Args:
        headers: One group of `group_images`, in any order.
        digests: Of the pixels of images that share a position (`reading.pixel_digests`), by `image_key`. Without them,
            images of one SOP instance UID are taken to be equal and others to differ.
        limits: Caps.
    """
    try:
        return _laid_out(list(headers), digests or {}, limits or ReadLimits())
    except _RefusedError as refused:
        return Series(headers=tuple(headers), stack=None, refusal=refused.refusal)


def shared_positions(headers: Sequence[Header]) -> list[Header]:
    """Images that share their position with another one of the same orientation; their pixels decide what they are."""
    if any(why_no_plane(header) for header in headers):
        return []
    along = positions_along_mm(headers)
    order = np.argsort(along, kind="stable")
    is_same = np.diff(along[order]) < SAME_POSITION_MM
    shared = np.append(is_same, False) | np.insert(is_same, 0, False)
    return [headers[index] for index in order[shared]]


def _laid_out(headers: list[Header], digests: Mapping[ImageKey, str], limits: ReadLimits) -> Series:
    _check_identity(headers, limits)
    for header in headers:
        refusal = why_no_hu(header, limits) or why_no_plane(header)
        if refusal is not None:
            raise _RefusedError(refusal.code, refusal.what, header, refusal.tag)
    _check_alike(headers)
    headers, left_out = _without_copies(headers, digests)
    if len(headers) < LEAST_SLICES:
        raise _RefusedError("LT3_SLICES", f"there are {len(headers)} slices", headers[0])
    if len(headers) * headers[0].rows * headers[0].columns > limits.series_voxels:
        raise _RefusedError("TOO_LARGE", f"the series has over {limits.series_voxels} voxels", headers[0])
    stack = stack_of(headers)
    jump = jumping_slice(stack)
    if jump is not None:
        raise _RefusedError("BAD_IPP", "one slice lies beside all others", headers[jump], "ImagePositionPatient")
    steps_mm = np.diff(stack.positions_mm)
    missing = missing_slices(steps_mm)
    if missing is not None:
        raise _RefusedError("MISSING_SLICES", "slices are missing: one step is far longer", headers[missing])
    tilt_deg = tilt_of_deg(stack)
    if tilt_deg > MAX_TILT_DEG:
        raise _RefusedError(
            "BAD_IPP", "the positions do not follow the orientation", headers[0], "ImagePositionPatient"
        )
    flags = [*_tilt_flags(tilt_deg, headers), *step_flags(steps_mm, stack.thickness_mm), *_other_flags(headers)]
    return Series(headers=tuple(headers), stack=stack, flags=tuple(flags), left_out=tuple(left_out))


def _check_identity(headers: list[Header], limits: ReadLimits) -> None:
    first = headers[0]
    if len(headers) > limits.series_files:
        raise _RefusedError("TOO_LARGE", f"the series has over {limits.series_files} images", first)
    for header in headers:
        if header.patient != first.patient:
            raise _RefusedError("MIXED_PATIENT", "one series holds images of two patients", header, "PatientID")
    for header in headers:
        if header.modality != "CT":
            raise _RefusedError("NOT_CT", "the image is not CT", header, "Modality")
        if header.pixel_bytes == 0:
            raise _RefusedError("NO_PIXELS", "the file holds no pixels", header, "PixelData")
        if not header.series_uid:
            raise _RefusedError(
                "MIXED_SERIES", "nothing says to which series the image belongs", header, "SeriesInstanceUID"
            )
        if header.frame_of_reference_uid != first.frame_of_reference_uid:
            raise _RefusedError("MIXED_SERIES", "positions have two frames of reference", header, "FrameOfReferenceUID")
        if header.kernel != first.kernel:
            raise _RefusedError("MIXED_SERIES", "the slices have two kernels", header, "ConvolutionKernel")


def _check_alike(headers: list[Header]) -> None:
    first = headers[0]
    for header in headers:
        if (header.rows, header.columns) != (first.rows, first.columns):
            raise _RefusedError("MIXED_SIZE", "the slices are of different size", header, "Rows")
        if not np.allclose(header.pixel_spacing_mm or (), first.pixel_spacing_mm or (), rtol=0, atol=SAME_SPACING_MM):
            raise _RefusedError("MIXED_SIZE", "the slices have different pixel spacing", header, "PixelSpacing")
        difference = np.subtract(header.orientation_lps or (), first.orientation_lps or ())
        if np.abs(difference).max() > 2 * ORIENTATION_TOLERANCE:
            raise _RefusedError("MIXED_IOP", "the slices are not parallel", header, "ImageOrientationPatient")


def _without_copies(headers: list[Header], digests: Mapping[ImageKey, str]) -> tuple[list[Header], list[Refusal]]:
    """Sorted along the normal, with identical copies left out; two different images at one place are refused."""
    along = positions_along_mm(headers)
    order = sorted(range(len(headers)), key=lambda index: (along[index], image_key(headers[index])))
    kept: list[int] = []
    left_out = []
    for index in order:
        if kept and along[index] - along[kept[-1]] < SAME_POSITION_MM:
            if not _is_copy(headers[kept[-1]], headers[index], digests):
                raise _RefusedError("DUP_POS", "two different slices lie at one position", headers[index])
            left_out.append(Refusal(code="DUP_FILE", what="an equal slice is there already", path=headers[index].path))
        else:
            kept.append(index)
    return [headers[index] for index in kept], left_out


def _is_copy(one: Header, other: Header, digests: Mapping[ImageKey, str]) -> bool:
    first, second = digests.get(image_key(one)), digests.get(image_key(other))
    if first is not None and second is not None:
        is_same = first == second
    else:
        is_same = bool(one.sop_uid) and (one.sop_uid, one.frame) == (other.sop_uid, other.frame)
    return is_same and one.position_lps_mm == other.position_lps_mm and is_parallel(one, other)


def _tilt_flags(tilt_deg: float, headers: list[Header]) -> list[str]:
    flags = ["TILT"] if tilt_deg > TILT_DEG else []
    # Vendors differ in the sign; only the size can be compared.
    tags = [abs(header.tilt_deg) for header in headers if header.tilt_deg is not None]
    if any(not abs(tag - tilt_deg) <= TILT_TAG_DEG for tag in tags):
        flags.append("TILT_TAG")
    return flags


def _other_flags(headers: list[Header]) -> list[str]:
    flags = []
    stated = [stated_thickness_mm(header) for header in headers]
    known = [thickness for thickness in stated if not np.isnan(thickness)]
    if len(known) < len(stated):
        flags.append("NO_THICKNESS")
    if known and max(known) - min(known) > SAME_THICKNESS_MM:
        flags.append("THICKNESS_VARIES")
    if any(header.kvp is not None and not USUAL_KVP[0] <= header.kvp <= USUAL_KVP[1] for header in headers):
        flags.append("KVP")
    between_rows_mm, between_columns_mm = headers[0].pixel_spacing_mm or (0.0, 0.0)
    if min(headers[0].rows * between_rows_mm, headers[0].columns * between_columns_mm) < SMALL_FIELD_MM:
        flags.append("SMALL_FIELD")
    if any(map(may_be_lossy, headers)):
        flags.append("LOSSY")
    return flags
