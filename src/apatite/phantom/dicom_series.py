"""A scan as a series of DICOM files: CT images that are valid, and whose every value is synthetic.

Every dataset can be changed between making and writing, so that a test plants one fault and nothing else. UIDs are a
function of seed, patient, study and series: the same settings give the same bytes.

Source: DICOM PS3.3 A.3 (CT image), C.7.6.2 (image plane), C.8.2.1 (CT image module); PS3.5 B.2 (UIDs from 128 bits).
"""

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import numpy as np
from jaxtyping import Integer
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import (
    UID,
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
)
from pydicom.valuerep import format_number_as_ds

from apatite.core.commit import commit_bytes
from apatite.core.errors import ConfigError
from apatite.core.registry import choose
from apatite.core.rng import derived_seed
from apatite.core.scan import Scan, SliceStack
from apatite.io.dicom.header import SIMULATED
from apatite.phantom.head_slices import tilt_of

TRANSFER_SYNTAXES: Final[dict[str, UID]] = {
    "explicit": ExplicitVRLittleEndian,
    "implicit": ImplicitVRLittleEndian,
    "deflated": DeflatedExplicitVRLittleEndian,
    "rle": RLELossless,
    "jpeg2000": JPEG2000Lossless,
    "jpegls": JPEGLSLossless,
}
"""Every way of storing the pixels, all of them without loss."""

_ENCODERS: Final = {"rle": "pydicom", "jpeg2000": "pylibjpeg", "jpegls": "pyjpegls"}
_TO_LPS = np.array([-1.0, -1.0, 1.0])


@dataclass(frozen=True, kw_only=True)
class SeriesSettings:
    """What a series says of itself beside its pixels and positions.

    Attributes:
        seed: Another seed, other UIDs.
        number: Of the patient; the ID is `PHANTOM-<number>`.
        study, series: Their numbers, from 1. Series of one study share its UID and its frame of reference.
        age_years: `None` leaves the age empty.
        sex: "F", "M" or "".
        vendor, scanner_model, kernel: As the scanner names them.
        kvp: Tube voltage.
        body_part: Body part examined.
        description: Of the series; `SIMULATED` is put before it.
        position: PatientPosition, such as `HFS`; words only, the geometry is in the slices.
        tilt_deg: GantryDetectorTilt; `None` takes the slices' own.
        slope, intercept: Of the rescale; stored values are rounded.
        bits_stored, is_signed: Of the stored values, in 16 bits.
        padding_stored: Stored value of padding; `None` stores its HU like any other pixel's.
        has_padding_tag: Whether PixelPaddingValue says so; some scanners do not.
        instances: Whether instance numbers (and file names) run up or down in the patient.
        syntax: Key of `TRANSFER_SYNTAXES`.
        date: Of the study.
    """

    seed: int = 0
    number: int = 0
    study: int = 1
    series: int = 1
    age_years: float | None = 70.0
    sex: str = ""
    vendor: str = f"APATITE {SIMULATED}"
    scanner_model: str = "PHANTOM"
    kernel: str = "STANDARD"
    kvp: float = 120.0
    body_part: str = "HEAD"
    description: str = "HEAD"
    position: str = "HFS"
    tilt_deg: float | None = None
    slope: float = 1.0
    intercept: float = -1024.0
    bits_stored: int = 12
    is_signed: bool = False
    padding_stored: int | None = None
    has_padding_tag: bool = True
    instances: Literal["up", "down"] = "up"
    syntax: str = "explicit"
    date: str = "20000101"

    def __post_init__(self) -> None:
        choose(TRANSFER_SYNTAXES, self.syntax, "transfer syntax")
        if not 8 <= self.bits_stored <= 16:
            raise ConfigError(f"{self.bits_stored} bits cannot hold CT values", fix="use 8 to 16 bits")
        if self.slope == 0 or not math.isfinite(self.slope) or not math.isfinite(self.intercept):
            raise ConfigError("a rescale needs a slope that is finite and not 0, and a finite intercept")
        if self.padding_stored is not None and not self.lowest <= self.padding_stored <= self.highest:
            raise ConfigError(
                f"padding {self.padding_stored} does not fit stored values {self.lowest} to {self.highest}",
                fix="change padding_stored, bits_stored or is_signed",
            )

    @property
    def patient_id(self) -> str:
        """For example `PHANTOM-0007`."""
        return f"PHANTOM-{self.number:04d}"

    @property
    def lowest(self) -> int:
        """Lowest stored value."""
        return -(1 << (self.bits_stored - 1)) if self.is_signed else 0

    @property
    def highest(self) -> int:
        """Highest stored value."""
        return (1 << (self.bits_stored - self.is_signed)) - 1

    def uid(self, *keys: int | str) -> UID:
        """A UID for one named thing of this patient."""
        return UID(f"2.25.{derived_seed(self.seed, 'dicom', self.number, *keys)}")


def write_series(folder: Path, scan: Scan, settings: SeriesSettings) -> list[Path]:
    """Write a scan as one file per slice.

    Args:
        folder: Where to; made when missing. Files of another series number are left alone.
        scan: Slices in HU.
        settings: Everything else.

    Returns:
        The files, in the order of the slices.

    Raises:
        ConfigError: the HU do not fit the stored type.
        StorageError: as `core.commit.committed`.
    """
    return write_datasets(folder, series_datasets(scan, settings), settings.syntax)


def series_datasets(scan: Scan, settings: SeriesSettings) -> list[Dataset]:
    """One dataset per slice, uncompressed; change them at will, then `write_datasets`.

    Raises:
        ConfigError: the HU do not fit the stored type.
    """
    stored = _stored(scan, settings)
    stack = scan.stack
    tilt_deg = tilt_of(stack) if settings.tilt_deg is None else settings.tilt_deg
    common = _common(stack, settings, tilt_deg)
    datasets = []
    for index in range(stack.shape[0]):
        dataset = Dataset()
        dataset.update(common)
        instance = index + 1 if settings.instances == "up" else stack.shape[0] - index
        dataset.SOPInstanceUID = settings.uid("image", settings.study, settings.series, instance)
        dataset.InstanceNumber = instance
        dataset.ImagePositionPatient = _numbers(stack.origins_ras_mm[index] * _TO_LPS)
        dataset.SliceLocation = _number(float(stack.positions_mm[index]))
        dataset.SliceThickness = _number(float(stack.thickness_mm[index]))
        dataset.PixelData = stored[index].tobytes()
        datasets.append(dataset)
    return datasets


def write_datasets(folder: Path, datasets: Sequence[Dataset], syntax: str = "explicit") -> list[Path]:
    """Write datasets as files named by series and place, compressed as asked; the datasets stay as they are.

    Args:
        folder: Where to; made when missing.
        datasets: As `series_datasets` makes them, changed or not.
        syntax: Key of `TRANSFER_SYNTAXES`.

    Raises:
        StorageError: as `core.commit.committed`.
    """
    paths = []
    for place, dataset in enumerate(datasets, start=1):
        series, number = dataset.get("SeriesNumber", 1), dataset.get("InstanceNumber") or place
        path = folder / f"s{int(series or 0):02d}-{int(number):04d}.dcm"
        if path in paths:
            path = path.with_name(f"{path.stem}-{place:04d}.dcm")
        commit_bytes(path, encoded(dataset, syntax))
        paths.append(path)
    return paths


def encoded(dataset: Dataset, syntax: str = "explicit") -> bytes:
    """The bytes of one file.

    Args:
        dataset: An uncompressed image.
        syntax: Key of `TRANSFER_SYNTAXES`.

    Raises:
        ConfigError: the image is too small for JPEG 2000.
    """
    if syntax == "jpeg2000" and min(dataset.Rows, dataset.Columns) < 32:
        raise ConfigError(f"an image of {dataset.Rows}×{dataset.Columns} is too small for JPEG 2000", fix="use 32×32")
    copy = Dataset()
    copy.update(dataset)
    uid = choose(TRANSFER_SYNTAXES, syntax, "transfer syntax")
    copy.file_meta = FileMetaDataset()
    copy.file_meta.MediaStorageSOPClassUID = dataset.get("SOPClassUID", CTImageStorage)
    copy.file_meta.MediaStorageSOPInstanceUID = dataset.get("SOPInstanceUID", "2.25.0")
    copy.file_meta.ImplementationClassUID = UID(f"2.25.{derived_seed(0, 'apatite')}")
    copy.file_meta.ImplementationVersionName = "APATITE"
    copy.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian if uid.is_compressed else uid
    if syntax in _ENCODERS:
        copy.compress(uid, encoding_plugin=_ENCODERS[syntax], generate_instance_uid=False)
    copy.file_meta.TransferSyntaxUID = uid
    buffer = io.BytesIO()
    copy.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def _stored(scan: Scan, settings: SeriesSettings) -> Integer[np.ndarray, "slices rows columns"]:
    """Stored values of all slices, little-endian in 16 bits."""
    values = np.rint((scan.voxels_hu.astype(np.float64) - settings.intercept) / settings.slope)
    if scan.is_padding is not None and settings.padding_stored is not None:
        values[scan.is_padding] = settings.padding_stored
    if not (values.min() >= settings.lowest and values.max() <= settings.highest):
        raise ConfigError(
            f"stored values {values.min():.0f} to {values.max():.0f} do not fit {settings.bits_stored} bits",
            fix="change slope, intercept, bits_stored or is_signed",
        )
    return values.astype("<i2" if settings.is_signed else "<u2")


def _common(stack: SliceStack, settings: SeriesSettings, tilt_deg: float) -> Dataset:
    """What all slices of a series share."""
    dataset = Dataset()
    _describe(dataset, settings)
    dataset.SeriesInstanceUID = settings.uid("series", settings.study, settings.series)
    dataset.StudyInstanceUID = settings.uid("study", settings.study)
    dataset.FrameOfReferenceUID = settings.uid("frame", settings.study)
    rows, columns = stack.row_step_ras_mm, stack.column_step_ras_mm
    dataset.ImageOrientationPatient = _numbers(
        np.concatenate([columns / stack.column_spacing_mm * _TO_LPS, rows / stack.row_spacing_mm * _TO_LPS])
    )
    dataset.PixelSpacing = _numbers(np.array([stack.row_spacing_mm, stack.column_spacing_mm]))
    dataset.GantryDetectorTilt = _number(round(tilt_deg, 3))
    dataset.ReconstructionDiameter = _number(round(stack.column_spacing_mm * stack.shape[2], 3))
    dataset.Rows, dataset.Columns = stack.shape[1], stack.shape[2]
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, settings.bits_stored, settings.bits_stored - 1
    dataset.PixelRepresentation = int(settings.is_signed)
    if settings.padding_stored is not None and settings.has_padding_tag:
        dataset.add_new(0x00280120, "SS" if settings.is_signed else "US", settings.padding_stored)
    dataset.RescaleSlope, dataset.RescaleIntercept = _number(settings.slope), _number(settings.intercept)
    dataset.RescaleType = "HU"
    dataset.WindowCenter, dataset.WindowWidth = "40", "80"
    return dataset


def _describe(dataset: Dataset, settings: SeriesSettings) -> None:
    """Words and numbers about patient, study and scanner; all of them synthetic."""
    dataset.SpecificCharacterSet = "ISO_IR 192"
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    dataset.SOPClassUID, dataset.Modality = CTImageStorage, "CT"
    dataset.PatientName, dataset.PatientID = f"PHANTOM^{settings.number:04d}", settings.patient_id
    dataset.PatientBirthDate, dataset.PatientSex = "", settings.sex
    dataset.PatientAge = "" if settings.age_years is None else f"{int(settings.age_years):03d}Y"
    dataset.StudyDate = dataset.SeriesDate = dataset.AcquisitionDate = dataset.ContentDate = settings.date
    dataset.StudyTime = dataset.SeriesTime = dataset.AcquisitionTime = dataset.ContentTime = "120000"
    dataset.AccessionNumber = dataset.ReferringPhysicianName = dataset.PositionReferenceIndicator = ""
    dataset.StudyID, dataset.SeriesNumber, dataset.AcquisitionNumber = str(settings.study), settings.series, 1
    dataset.StudyDescription, dataset.SeriesDescription = "SIMULATED HEAD CT", f"SIMULATED {settings.description}"
    dataset.ProtocolName, dataset.ImageComments = "SIMULATED", "SIMULATED: a phantom, no patient"
    dataset.BodyPartExamined, dataset.PatientPosition = settings.body_part, settings.position
    dataset.Manufacturer, dataset.ManufacturerModelName = settings.vendor, settings.scanner_model
    dataset.ConvolutionKernel, dataset.KVP = settings.kernel, _number(settings.kvp)
    dataset.BurnedInAnnotation = "NO"


def _number(value: float) -> str:
    """A number in at most 16 characters."""
    return format_number_as_ds(value + 0.0)


def _numbers(values: np.ndarray) -> list[str]:
    return [_number(float(value)) for value in values]
