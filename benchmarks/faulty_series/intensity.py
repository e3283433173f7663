"""Faults of intensity: what turns stored values into Hounsfield units is missing, wrong, or differs by slice."""

import numpy as np
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from faulty_series.folder import OFFSET_HU, Folder, Storage, number_text, refuse, store, store_all
from faulty_series.judge import Expectation

UNSURE = ("NO_HU", "BAD_RESCALE")


def rescale_missing(folder: Folder, severity: int) -> Expectation:
    """No slope and no intercept; no slope; no intercept."""
    for image in folder.images:
        for keyword in (("RescaleSlope", "RescaleIntercept"), ("RescaleSlope",), ("RescaleIntercept",))[severity]:
            delattr(image, keyword)
    return refuse("NO_HU")


def rescale_missing_in_some(folder: Folder, severity: int) -> Expectation:
    """No rescale in one slice, half of them, all but one."""
    lost = ([12], list(range(0, 24, 2)), list(range(1, 24)))[severity]
    for number in lost:
        del folder.images[number].RescaleSlope
        del folder.images[number].RescaleIntercept
    return refuse("NO_HU") if severity else folder.without(lost, "NO_HU")


def rescale_by_slice(folder: Folder, severity: int) -> Expectation:
    """Every slice has its own intercept; slopes of 1 and 0.5 in turn; of 0.3 to 0.7."""
    for number, image in enumerate(folder.images):
        how = (
            Storage(intercept=OFFSET_HU - 7.0 * number, stored=16),
            Storage(slope=(1.0, 0.5)[number % 2], stored=16),
            Storage(slope=round(0.3 + 0.4 * number / 23, 4), stored=16),
        )[severity]
        folder.hu = np.array(folder.hu, float)
        folder.hu[number] = store(image, folder.hu[number], how)
    return folder.right()


def rescale_slope_bad(folder: Folder, severity: int) -> Expectation:
    """A slope of zero, not a number, 1E+300."""
    return _rescale(folder, "RescaleSlope", ("0", "NaN", "1E+300")[severity])


def rescale_intercept_bad(folder: Folder, severity: int) -> Expectation:
    """An intercept that is not a number, 1E+300, text."""
    return _rescale(folder, "RescaleIntercept", ("NaN", "1E+300", "minus 1024")[severity])


def rescale_bad_in_one(folder: Folder, severity: int) -> Expectation:
    """One slice of the lesion with a slope of zero, infinite, empty."""
    folder.images[12].RescaleSlope = number_text(("0", "Infinity", "")[severity])
    return folder.without([12], *UNSURE)


def rescale_negative(folder: Folder, severity: int) -> Expectation:
    """A negative slope: -1, -2, -0.5, with stored values to match or none."""
    slope = (-1.0, -2.0, -0.5)[severity]
    store_all(folder, Storage(slope=slope, intercept=3000.0, stored=16))
    return folder.right("BAD_RESCALE")


def _rescale(folder: Folder, keyword: str, text: str) -> Expectation:
    for image in folder.images:
        setattr(image, keyword, number_text(text))
    return refuse(*UNSURE)


def rescale_type_other(folder: Folder, severity: int) -> Expectation:
    """RescaleType US, Z_EFF, MGML: no Hounsfield units."""
    for image in folder.images:
        image.RescaleType = ("US", "Z_EFF", "MGML")[severity]
    return refuse("NO_HU", is_rule=True)


def rescale_type_missing(folder: Folder, severity: int) -> Expectation:
    """RescaleType absent, empty, in small letters: CT means HU."""
    for image in folder.images:
        if severity == 0:
            del image.RescaleType
        else:
            image.RescaleType = ("", "hu")[severity - 1]
    return folder.right(*(("NO_HU",) if severity == 2 else ()))


def monochrome1(folder: Folder, severity: int) -> Expectation:
    """MONOCHROME1 in one, half, all slices: a matter of display, never of HU."""
    for number in folder.some(severity):
        folder.images[number].PhotometricInterpretation = "MONOCHROME1"
    return folder.right()


def presentation_shape_inverse(folder: Folder, severity: int) -> Expectation:
    """Display settings that change no HU: an inverse shape, an absurd window, a VOI table."""
    table = Dataset()
    table.LUTDescriptor, table.LUTData = [2, 0, 16], [65535, 0]
    table["LUTDescriptor"].VR = table["LUTData"].VR = "US"
    for image in folder.images:
        if severity == 0:
            image.PresentationLUTShape = "INVERSE"
        elif severity == 1:
            image.WindowCenter, image.WindowWidth = number_text("-1e5"), number_text("0")
        else:
            image.VOILUTSequence = Sequence([table])
    return folder.right()


def modality_table(folder: Folder, severity: int) -> Expectation:
    """A modality lookup table instead of the rescale; beside it; in one slice."""
    table = Dataset()
    table.LUTDescriptor, table.ModalityLUTType = [2, 0, 16], "HU"
    table.LUTData = [0, 1]
    table["LUTDescriptor"].VR = table["LUTData"].VR = "US"
    for number, image in enumerate(folder.images):
        if severity == 2 and number != 12:
            continue
        image.ModalityLUTSequence = Sequence([table])
        if severity != 1:
            del image.RescaleSlope, image.RescaleIntercept
    return folder.without([12], "NO_HU") if severity == 2 else refuse("NO_HU")


KINDS = (
    rescale_missing,
    rescale_missing_in_some,
    rescale_slope_bad,
    rescale_intercept_bad,
    rescale_bad_in_one,
    rescale_negative,
    rescale_type_other,
    rescale_type_missing,
    presentation_shape_inverse,
    modality_table,
)
ALL_BASES = (rescale_by_slice, monochrome1)
