"""One image of a manifest as slices, whatever it is on disk: NIfTI, a DICOM folder, an enhanced file, or a listing."""

from collections.abc import Sequence
from pathlib import Path

from apatite.core.errors import DataError
from apatite.core.scan import Scan
from apatite.io.dicom.child import Decoder
from apatite.io.dicom.header import Header, Refusal
from apatite.io.dicom.listing import images_digest, is_listing, read_listing
from apatite.io.dicom.reading import Reading, lay_out_read, read_files, read_folder, read_headers, read_series, refused
from apatite.io.nifti import read_scan

_NIFTI = (".nii", ".nii.gz")


def is_nifti(path: Path) -> bool:
    """Whether a path names a NIfTI file."""
    return path.name.lower().endswith(_NIFTI)


def read_image(path: Path, case_id: str = "") -> Scan:
    """Read an image as slices in HU with their own positions.

    Args:
        path: `.nii` or `.nii.gz`; a folder with one measurable DICOM series; one DICOM file that holds all slices; or
            a `*.series.json` of `apatite index`.
        case_id: The case, for messages.

    Raises:
        DataError: it cannot be read, or cannot be measured; the code says why.
    """
    if is_nifti(path):
        return read_scan(path, case_id)
    return read_dicom(path, case_id).scan


def read_dicom(path: Path, case_id: str = "") -> Reading:
    """As `read_image`, for DICOM only: with headers and flags.

    Raises:
        DataError: as `read_image`.
    """
    where = case_id or path.name
    if path.is_dir():
        return read_folder(path, case_id=where)
    if not path.exists():
        raise DataError("does not exist", where=where, fix="check the path", code="IO_ERROR")
    with Decoder() as decoder:
        if not is_listing(path):
            return read_files([path], decoder, case_id=where)
        listing = read_listing(path, where)
        headers = _listed(listing.files, decoder, where)
        if images_digest(headers) != listing.digest:
            raise DataError(
                "the listed files hold other images now",
                where=where,
                fix="run `apatite index` again",
                code="MIXED_SERIES",
            )
        return read_series(lay_out_read(headers, decoder), decoder, where)


def _listed(files: Sequence[tuple[Path, int]], decoder: Decoder, where: str) -> list[Header]:
    """The headers of the listed images, in their order; each file is read once.

    Raises:
        DataError: a file is gone, cannot be used, or has fewer frames.
    """
    paths = list(dict.fromkeys(path for path, _ in files))
    headers: dict[tuple[Path, int], Header] = {}
    for found in read_headers(paths, decoder):
        if isinstance(found, Refusal):
            raise refused(found, where)
        headers.update({(header.path, header.frame): header for header in found})
    missing = [path for path, frame in files if (path, frame) not in headers]
    if missing:
        raise DataError(
            f"{missing[0].name} holds fewer images than listed",
            where=where,
            fix="run `apatite index` again",
            code="MIXED_SERIES",
        )
    return [headers[key] for key in files]
