"""Faults of mixing: images that do not belong together in one folder, or even under one series UID."""

import copy
from collections.abc import Callable
from dataclasses import replace

import numpy as np
from pydicom.dataset import Dataset

from faulty_series.folder import ROOT, Folder, make_images, number_text, refuse
from faulty_series.judge import Expectation, Slices, measure
from faulty_series.phantom import Layout, sampled

SEVERAL = ("MIXED_SERIES",)
"""Two series that can both be measured: the reader must ask which one is meant."""
IDENTITY = ("MIXED_PATIENT", *SEVERAL)
HALVES = (*SEVERAL, "MIXED_SIZE", "MIXED_IOP", "DUP_POS")


def _whole_second(folder: Folder, change: Callable[[Dataset], object], series: int = 1) -> list[Dataset]:
    """All slices once more, changed."""
    images = make_images(folder.planes, folder.hu, series)
    for number, image in enumerate(images):
        image.SOPInstanceUID = f"{ROOT}.9{series}.{number + 1}"
        change(image)
    folder.images += images
    folder.names += [f"other-{series}-{number:03d}.dcm" for number in range(len(images))]
    return images


def two_series(folder: Folder, severity: int) -> Expectation:
    """One, two, three further series in the same folder, each with its own UID and all of them whole."""
    expected = folder.right(*SEVERAL)
    for series in range(2, severity + 3):
        _whole_second(folder, lambda _: None, series)
    return expected


def two_patients_one_series(folder: Folder, severity: int) -> Expectation:
    """Another patient's images under the same series UID: one slice, half the slices, every position twice."""
    if severity == 2:
        _whole_second(folder, _other_patient)
    else:
        for number in ([12], range(12))[severity]:
            _other_patient(folder.images[number])
    return refuse("MIXED_PATIENT")


def _other_patient(image: Dataset) -> None:
    image.PatientID = image.PatientName = "PHANTOM-2"
    image.PatientBirthDate = "19620304"


def two_patients_same_id(folder: Folder, severity: int) -> Expectation:
    """The same ID of another issuer; with another birth date; both: half of the slices."""
    for image in folder.images[:12]:
        if severity != 1:
            image.IssuerOfPatientID = "ELSEWHERE"
        if severity > 0:
            image.PatientBirthDate = "19720304"
    return refuse("MIXED_PATIENT")


def two_patients_two_series(folder: Folder, severity: int) -> Expectation:
    """Two patients, each with a series: 24, 12, 3 slices of the second."""
    expected = folder.right(*IDENTITY)
    images = _whole_second(folder, _other_patient, series=2)
    lost = len(images) - (24, 12, 3)[severity]
    folder.drop(list(range(len(folder.images) - lost, len(folder.images))))
    return replace(expected, others=(folder.truth(list(range(24 - lost))),))


def two_kernels(folder: Folder, severity: int) -> Expectation:
    """Two kernels under one series UID: of every position, of the halves, of every second slice."""

    def bone(image: Dataset) -> None:
        image.ConvolutionKernel = "BONE"

    if severity == 0:
        for image in _whole_second(folder, bone):
            _brighter(image, 15)
        return refuse(*SEVERAL, "DUP_POS")
    for image in (folder.images[:12], folder.images[::2])[severity - 1]:
        bone(image)
    return folder.right(*HALVES)


def two_reconstructions(folder: Folder, severity: int) -> Expectation:
    """Two fields of view under one series UID: of every position, of the halves, of every second slice."""
    layout = replace(folder.layout, spacing_mm=(2.5, 2.5))
    images = make_images(layout.planes(), sampled(layout))
    for number, image in enumerate(images):
        image.SOPInstanceUID = f"{ROOT}.91.{number + 1}"
    if severity == 0:
        folder.images += images
        folder.names += [f"other-{number:03d}.dcm" for number in range(len(images))]
    else:
        for number in (range(12), range(0, 24, 2))[severity - 1]:
            folder.images[number] = images[number]
    return refuse(*HALVES)


def contrast_phases(folder: Folder, severity: int) -> Expectation:
    """Plain and contrast phase under one series UID: told apart by acquisition, by time, by nothing but the pixels."""

    def phase(image: Dataset) -> None:
        if severity == 0:
            image.AcquisitionNumber = 2
        if severity < 2:
            image.AcquisitionTime = "111500"
        image.ContrastBolusAgent = "" if severity == 2 else "IOHEXOL"
        _brighter(image, 40)

    expected = folder.right(*SEVERAL, "DUP_POS", "CONTRAST")
    _whole_second(folder, phase)
    # Where tags tell the phases apart, giving the plain one is right.
    return refuse(*SEVERAL, "DUP_POS") if severity == 2 else expected


def _brighter(image: Dataset, by_hu: int) -> None:
    image.PixelData = (np.frombuffer(image.PixelData, np.uint16) + np.uint16(by_hu)).tobytes()


def contrast_only(folder: Folder, severity: int) -> Expectation:
    """One series with contrast agent: named, by route, in the description."""
    for image in folder.images:
        if severity == 0:
            image.ContrastBolusAgent = "IOHEXOL 300"
        elif severity == 1:
            image.ContrastBolusRoute = "INTRAVENOUS"
        else:
            image.SeriesDescription = "CTA Head post contrast"
    return folder.right("CONTRAST")


def localizer_in_series(folder: Folder, severity: int) -> Expectation:
    """A localizer under the same series UID: one, two, one of another size."""
    expected = folder.right("LOCALIZER", "MIXED_IOP", "MIXED_SIZE", flags=("LOCALIZER",))
    size = (48, 80) if severity == 2 else (64, 64)
    coronal = Layout(along_column=(0.0, 0.0, -1.0), steps_mm=(4.0,), size=size)
    for number, image in enumerate(make_images(coronal.planes(), sampled(coronal))[: (1, 2, 1)[severity]]):
        image.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
        image.SOPInstanceUID = f"{ROOT}.92.{number + 1}"
        folder.images.append(image)
        folder.names.append(f"localizer-{number}.dcm")
    return expected


def _companion(folder: Folder, sop_class: str, modality: str, *, pixels: bool) -> Dataset:
    """Another object of the study, in a series of its own."""
    image = copy.deepcopy(folder.images[0])
    image.SOPClassUID, image.Modality = sop_class, modality
    image.SOPInstanceUID, image.SeriesInstanceUID = f"{ROOT}.93.1", f"{ROOT}.200.93"
    for keyword in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "RescaleSlope"):
        delattr(image, keyword)
    if not pixels:
        for keyword in ("PixelData", "Rows", "Columns"):
            delattr(image, keyword)
    return image


def report_beside(folder: Folder, severity: int) -> Expectation:
    """A dose report, a structured report, a presentation state in the folder."""
    sop_class = ("88.67", "88.33", "11.1")[severity]
    folder.extra["report.dcm"] = _companion(folder, f"1.2.840.10008.5.1.4.1.1.{sop_class}", "SR", pixels=False)
    return folder.right()


def picture_beside(folder: Folder, severity: int) -> Expectation:
    """A secondary capture, a segmentation, an MR image in the folder."""
    sop_class, modality = (("7", "OT"), ("66.4", "SEG"), ("4", "MR"))[severity]
    folder.extra["other.dcm"] = _companion(folder, f"1.2.840.10008.5.1.4.1.1.{sop_class}", modality, pixels=True)
    return folder.right()


def picture_in_series(folder: Folder, severity: int) -> Expectation:
    """A secondary capture, a dose page, a text page under the same series UID."""
    image = _companion(folder, "1.2.840.10008.5.1.4.1.1.7", "CT", pixels=True)
    image.SeriesInstanceUID = folder.images[0].SeriesInstanceUID
    image.ImageType = ["DERIVED", "SECONDARY", ("OTHER", "DOSE", "SCREEN SAVE")[severity]]
    folder.extra["page.dcm"] = image
    return folder.right("SECONDARY", "NOT_CT", "NO_IPP", "NO_IOP", "NO_HU", flags=("SECONDARY",))


def reformat_beside(folder: Folder, severity: int) -> Expectation:
    """A coronal, a sagittal, an axial reformat in a series of its own."""
    expected = folder.right(*SEVERAL)
    axes = (
        ((1.0, 0.0, 0.0), (0.0, 0.0, -1.0)),
        ((0.0, 1.0, 0.0), (0.0, 0.0, -1.0)),
        ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0)),
    )
    layout = Layout(along_row=axes[severity][0], along_column=axes[severity][1], steps_mm=(5.0,) * 23)
    planes, hu = layout.planes(), sampled(layout)
    for number, image in enumerate(make_images(planes, hu, series=7)):
        image.ImageType = ["DERIVED", "SECONDARY", "REFORMATTED"]
        folder.images.append(image)
        folder.names.append(f"mpr-{number:03d}.dcm")
    return replace(expected, others=(measure(Slices.on(planes, hu)),))


def map_only(folder: Folder, severity: int) -> Expectation:
    """One derived series: monoenergetic, iodine, a maximum projection."""
    words = (["MONOENERGETIC", "MONO_E70"], ["IODINE", "MAT"], ["MIP", "PROJECTION IMAGE"])[severity]
    for image in folder.images:
        image.ImageType = ["DERIVED", "SECONDARY", "AXIAL", *words]
        image.SeriesDescription = ("MonoE 70 keV", "Iodine map", "Thick MIP")[severity]
    return folder.right("DERIVED")


def energies_in_series(folder: Folder, severity: int) -> Expectation:
    """80 and 140 kV under one series UID: all positions, the halves, every second slice."""

    def high(image: Dataset) -> None:
        image.KVP = number_text("140")
        _brighter(image, 25)

    if severity == 0:
        _whole_second(folder, high)
        return refuse(*SEVERAL, "DUP_POS")
    for image in (folder.images[:12], folder.images[::2])[severity - 1]:
        image.KVP = number_text("140")
    return folder.right(*HALVES, flags=("KVP",))


def frames_of_reference(folder: Folder, severity: int) -> Expectation:
    """Another frame of reference in one slice, in half the slices, in every second one."""
    lost = ([12], list(range(12)), list(range(0, 24, 2)))[severity]
    for number in lost:
        folder.images[number].FrameOfReferenceUID = f"{ROOT}.301"
    return folder.without(lost, *HALVES) if severity == 0 else refuse(*HALVES)


def frame_of_reference_missing(folder: Folder, severity: int) -> Expectation:
    """No frame of reference: deleted, empty, deleted in half of the slices."""
    for image in folder.images[: (24, 24, 12)[severity]]:
        if severity == 1:
            image.FrameOfReferenceUID = ""
        else:
            del image.FrameOfReferenceUID
    return folder.right(*(HALVES if severity == 2 else ()))


def two_studies(folder: Folder, severity: int) -> Expectation:
    """Another study UID under the same series UID: one slice, half, every second."""
    lost = ([12], list(range(12)), list(range(0, 24, 2)))[severity]
    for number in lost:
        folder.images[number].StudyInstanceUID = f"{ROOT}.101"
    if severity == 0:
        return replace(folder.without(lost, *HALVES), is_rule=True)
    return refuse(*HALVES, is_rule=True)


def other_modality(folder: Folder, severity: int) -> Expectation:
    """Not CT: an MR object, PT in a CT object, a secondary capture that is otherwise complete."""
    for image in folder.images:
        image.Modality = ("MR", "PT", "OT")[severity]
        if severity != 1:
            image.SOPClassUID = ("1.2.840.10008.5.1.4.1.1.4", "", "1.2.840.10008.5.1.4.1.1.7")[severity]
    return refuse("NOT_CT", "SECONDARY", is_rule=True)


def one_slice_of_other_size(folder: Folder, severity: int) -> Expectation:
    """One slice of the lesion has other rows, other columns, other pixel spacing."""
    size, spacing = (((32, 64), (3.0, 3.0)), ((64, 32), (3.0, 3.0)), ((64, 64), (1.5, 3.0)))[severity]
    layout = replace(folder.layout, size=size, spacing_mm=spacing)
    folder.images[12] = make_images(layout.planes(), sampled(layout))[12]
    return folder.without([12], "MIXED_SIZE", *SEVERAL)


def burned_in_text(folder: Folder, severity: int) -> Expectation:
    """BurnedInAnnotation says yes: in one, half, all slices."""
    for number in folder.some(severity):
        folder.images[number].BurnedInAnnotation = "YES"
    return folder.right("BURNED_IN", flags=("BURNED_IN",))


ALL_BASES = (two_patients_one_series, frames_of_reference)
KINDS = (
    two_series,
    two_patients_same_id,
    two_patients_two_series,
    two_kernels,
    two_reconstructions,
    contrast_phases,
    contrast_only,
    localizer_in_series,
    report_beside,
    picture_beside,
    picture_in_series,
    reformat_beside,
    map_only,
    energies_in_series,
    frame_of_reference_missing,
    two_studies,
    other_modality,
    one_slice_of_other_size,
    burned_in_text,
)
