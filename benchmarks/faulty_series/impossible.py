"""Faults of geometry that leave no right answer: positions, orientations and spacings that are missing or cannot be."""

from collections.abc import Sequence

import numpy as np
from pydicom.dataset import Dataset

from faulty_series.folder import Folder, decimals, number_text, refuse
from faulty_series.geometry import PARTS
from faulty_series.judge import Expectation


def orientation_skewed(folder: Folder, severity: int) -> Expectation:
    """Orientation vectors 5 % too long; not at a right angle (85°); one half as long."""
    row, column = folder.planes.along_row, folder.planes.along_column
    angle = np.deg2rad(5.0)
    pairs = (
        (1.05 * row, 1.05 * column),
        (row, np.cos(angle) * column + np.sin(angle) * row),
        (row, 0.5 * column),
    )
    _set(folder.images, "ImageOrientationPatient", decimals(np.concatenate(pairs[severity])))
    return refuse("BAD_IOP")


def orientation_impossible(folder: Folder, severity: int) -> Expectation:
    """Orientation vectors of zeros, not a number, only five values."""
    values = (["0"] * 6, ["NaN"] * 6, ["1", "0", "0", "0", "1"])[severity]
    _set(folder.images, "ImageOrientationPatient", [number_text(value) for value in values])
    return refuse("BAD_IOP", "NO_IOP")


def orientation_parallel(folder: Folder, severity: int) -> Expectation:
    """Both orientation vectors the same, opposite, one of them zero."""
    row = folder.planes.along_row
    second = (row, -row, 0 * row)[severity]
    _set(folder.images, "ImageOrientationPatient", decimals(np.concatenate([row, second])))
    return refuse("BAD_IOP")


def _set(images: Sequence[Dataset], keyword: str, value: object) -> None:
    for image in images:
        setattr(image, keyword, value)


def _delete(folder: Folder, severity: int, *keywords: str) -> list[int]:
    lost = folder.some(severity)
    for number in lost:
        for keyword in keywords:
            delattr(folder.images[number], keyword)
    return lost


def orientation_missing(folder: Folder, severity: int) -> Expectation:
    """No orientation in one, half, all slices."""
    lost = _delete(folder, severity, "ImageOrientationPatient")
    return folder.without(lost, "NO_IOP", *PARTS) if severity == 0 else refuse("NO_IOP", *PARTS)


def position_missing(folder: Folder, severity: int) -> Expectation:
    """No position in one, half, all slices."""
    lost = _delete(folder, severity, "ImagePositionPatient")
    return folder.without(lost, "NO_IPP", *PARTS) if severity == 0 else refuse("NO_IPP", *PARTS)


def position_no_number(folder: Folder, severity: int) -> Expectation:
    """Positions that are not a number, text, only two values."""
    values = (["NaN", "0", "0"], ["left", "0", "0"], ["0", "0"])[severity]
    for number, image in enumerate(folder.images):
        last = [] if severity == 2 else [number_text(f"{5 * number}")]
        image.ImagePositionPatient = [*(number_text(value) for value in values[:2]), *last]
    return refuse("NO_IPP", "BAD_IPP")


def positions_equal(folder: Folder, severity: int) -> Expectation:
    """All slices at one position; pairs of them; the position of one is its neighbour's."""
    for number, image in enumerate(folder.images):
        twin = (0, number - number % 2, 11 if number == 12 else number)[severity]
        image.ImagePositionPatient = decimals(folder.planes.origins_lps_mm[twin])
    return refuse("DUP_POS", "BAD_IPP", "MIXED_SERIES")


def position_far_off(folder: Folder, severity: int) -> Expectation:
    """Positions of 1e9 mm: of one slice, of all; one slice 2 m away."""
    far = ("1e9", "1e9", "2000")[severity]
    for number in ([12], range(24), [12])[severity]:
        x, y, _ = folder.planes.origins_lps_mm[number]
        folder.images[number].ImagePositionPatient = [*decimals((x, y)), number_text(far)]
    # A reader that leaves the slice out has a hole; one that keeps it has a gap of two metres.
    return folder.without([12], "BAD_IPP", *PARTS) if severity != 1 else refuse("BAD_IPP", "DUP_POS")


def steps_absurd(folder: Folder, severity: int) -> Expectation:
    """Positions of steps so small or so large that no scanner makes them: 0.001, 0.01, 200 mm."""
    step_mm = (0.001, 0.01, 200.0)[severity]
    origins = folder.planes.origins_lps_mm[:1] + np.arange(24)[:, None] * step_mm * folder.planes.normal
    for image, origin in zip(folder.images, origins, strict=True):
        image.ImagePositionPatient = decimals(origin)
    return refuse("BAD_IPP", "DUP_POS", "BAD_SPACING", "GAP", "MISSING_SLICES")


def spacing_zero(folder: Folder, severity: int) -> Expectation:
    """Pixel spacing of zero: both, one of the two, in one slice."""
    values = (["0", "0"], ["3", "0"], ["0", "0"])[severity]
    return _spacing(folder, values, [12] if severity == 2 else None)


def spacing_negative(folder: Folder, severity: int) -> Expectation:
    """Negative pixel spacing: both, one of the two, in one slice."""
    values = (["-3", "-3"], ["3", "-3"], ["-3", "3"])[severity]
    return _spacing(folder, values, [12] if severity == 2 else None)


def spacing_absurd(folder: Folder, severity: int) -> Expectation:
    """Pixel spacing of 1e-9, 0.001, 1e9 mm."""
    return _spacing(folder, [("1e-9", "0.001", "1e9")[severity]] * 2)


def spacing_no_number(folder: Folder, severity: int) -> Expectation:
    """Pixel spacing that is one value, not a number, written with a decimal comma."""
    return _spacing(folder, (["3"], ["NaN", "NaN"], ["3,0", "3,0"])[severity])


def _spacing(folder: Folder, values: list[str], only: list[int] | None = None) -> Expectation:
    codes = ("BAD_SPACING", "NO_SPACING")
    for number in range(24) if only is None else only:
        folder.images[number].PixelSpacing = [number_text(value) for value in values]
    return refuse(*codes) if only is None else folder.without(only, *codes, *PARTS)


def spacing_missing(folder: Folder, severity: int) -> Expectation:
    """No pixel spacing in one, half, all slices."""
    lost = _delete(folder, severity, "PixelSpacing")
    codes = ("NO_SPACING", *PARTS)
    return folder.without(lost, *codes) if severity == 0 else refuse(*codes)


def detector_spacing_only(folder: Folder, severity: int) -> Expectation:
    """Only the spacing at the detector; only a nominal one; only a reconstruction diameter."""
    _delete(folder, 2, "PixelSpacing")
    for image in folder.images:
        if severity == 0:
            image.ImagerPixelSpacing = [number_text("3"), number_text("3")]
        elif severity == 1:
            image.NominalScannedPixelSpacing = [number_text("3"), number_text("3")]
    return refuse("NO_SPACING")


KINDS = (detector_spacing_only,)
ALL_BASES = (
    orientation_skewed,
    orientation_impossible,
    orientation_parallel,
    orientation_missing,
    position_missing,
    position_no_number,
    positions_equal,
    position_far_off,
    steps_absurd,
    spacing_zero,
    spacing_negative,
    spacing_absurd,
    spacing_no_number,
    spacing_missing,
)
