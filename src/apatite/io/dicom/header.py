"""What one DICOM image says of itself: the part of its header that geometry, Hounsfield units and choice need.

A header is plain values, so that it travels between processes and into JSON. It holds no name and no date of birth;
the patient is a digest. A value that is missing or unreadable is `None` (or empty), never a default.
"""

from dataclasses import dataclass
from pathlib import Path

SIMULATED = "(simulated)"
"""At the end of the vendor's name of every image that this package simulates."""

Vector3 = tuple[float, float, float]
Vector6 = tuple[float, float, float, float, float, float]


@dataclass(frozen=True, kw_only=True)
class Refusal:
    """Why a file or a series is not used.

    Attributes:
        code: One of `reasons.REASONS`.
        what: One sentence without any value that could name a patient.
        path: The file it concerns.
        tag: The DICOM keyword it concerns, such as `PixelSpacing`; empty where it is no single one.
        series_uid: The series of a file that is refused, where so much could be read: that series lacks an image now.
    """

    code: str
    what: str
    path: Path
    tag: str = ""
    series_uid: str = ""


@dataclass(frozen=True, kw_only=True)
class Header:
    """One image: a whole file, or one frame of an enhanced multi-frame file.

    Attributes:
        path: The file.
        frame: Place of the image in its file; 0 for a classic file.
        patient: SHA-256 (hex) of issuer, patient ID and birth date, enough to tell two patients apart; empty
            where the file names none.
        study_uid, series_uid, sop_uid, sop_class_uid, frame_of_reference_uid, transfer_syntax_uid: As given.
        modality: Such as `CT`.
        image_type: All values, upper case.
        rows, columns: Pixels.
        frames: Images in the file.
        pixel_spacing_mm: Between rows, between columns.
        position_lps_mm: Centre of the first pixel (ImagePositionPatient).
        orientation_lps: Direction of a row, then of a column (ImageOrientationPatient).
        thickness_mm: Nominal.
        tilt_deg: GantryDetectorTilt; only compared, never used.
        slope, intercept: Of the rescale.
        rescale_type: Such as `HU`; empty where missing.
        has_lookup: A modality lookup table stands in place of the rescale.
        padding: PixelPaddingValue, and the other end of its range.
        bits_allocated, bits_stored, high_bit, is_signed, samples_per_pixel, photometric: Of the stored values.
        pixel_bytes: Length of the pixel data in the file; `None` where it is not stated (compressed), 0 where there
            are no pixels.
        series_number, instance_number, acquisition_number: As given; only ever compared or shown.
        acquired_at: Date and time of the acquisition as one sortable text; empty where missing. Not to be written out.
        series_description, study_description, protocol_name, body_part: Free text, for choosing only.
        contrast: Contrast agent or route where one is named.
        kernel, vendor, scanner_model, software: As the scanner names them.
        kvp, reconstruction_diameter_mm: As given.
        age_years, sex: Of the patient at the study.
        burned_in: True where the file says that its pixels hold text.
        lossy: True where the file says that it was compressed with loss.
        derivation: Words on how the image was derived.
    """

    path: Path
    frame: int = 0
    patient: str = ""
    study_uid: str = ""
    series_uid: str = ""
    sop_uid: str = ""
    sop_class_uid: str = ""
    frame_of_reference_uid: str = ""
    transfer_syntax_uid: str = ""
    modality: str = ""
    image_type: tuple[str, ...] = ()
    rows: int = 0
    columns: int = 0
    frames: int = 1
    pixel_spacing_mm: tuple[float, float] | None = None
    position_lps_mm: Vector3 | None = None
    orientation_lps: Vector6 | None = None
    thickness_mm: float | None = None
    tilt_deg: float | None = None
    slope: float | None = None
    intercept: float | None = None
    rescale_type: str = ""
    has_lookup: bool = False
    padding: tuple[int, int] | None = None
    bits_allocated: int = 0
    bits_stored: int = 0
    high_bit: int = 0
    is_signed: bool = False
    samples_per_pixel: int = 1
    photometric: str = ""
    pixel_bytes: int | None = None
    series_number: int | None = None
    instance_number: int | None = None
    acquisition_number: int | None = None
    acquired_at: str = ""
    series_description: str = ""
    study_description: str = ""
    protocol_name: str = ""
    body_part: str = ""
    contrast: str = ""
    kernel: str = ""
    vendor: str = ""
    scanner_model: str = ""
    software: str = ""
    kvp: float | None = None
    reconstruction_diameter_mm: float | None = None
    age_years: float | None = None
    sex: str = ""
    burned_in: bool = False
    lossy: bool = False
    derivation: str = ""
