"""Whether the stored values of an image can become Hounsfield units: decided by its header alone.

Source: DICOM PS3.3, C.7.6.3 (pixels), C.11.1 (modality LUT), C.8.2.1 (CT: RescaleType HU); PS3.5, 8.2 and A.4.
Differs: a rescale that is missing is never taken to be 1 and 0, and syntaxes that lose values are refused or flagged.
"""

import math

from apatite.io.dicom.elements import BIG_ENDIAN, DEFLATED, EXPLICIT, IMPLICIT
from apatite.io.dicom.header import Header, Refusal
from apatite.io.dicom.limits import ReadLimits

NATIVE = frozenset([IMPLICIT, EXPLICIT, DEFLATED, BIG_ENDIAN])
RLE = "1.2.840.10008.1.2.5"
JPEG_LOSSLESS = frozenset(["1.2.840.10008.1.2.4.57", "1.2.840.10008.1.2.4.70"])
JPEG_LS = frozenset(["1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.81"])
JPEG_2000 = frozenset(["1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.4.91"])
READABLE = NATIVE | {RLE} | JPEG_LOSSLESS | JPEG_LS | JPEG_2000

MAY_LOSE = frozenset(["1.2.840.10008.1.2.4.81", "1.2.840.10008.1.2.4.91"])
"""Near-lossless JPEG-LS and JPEG 2000 with or without loss: read, and flagged `LOSSY`."""

_LOSSY_8BIT = frozenset(["1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.51"])
_MONOCHROME = frozenset(["MONOCHROME1", "MONOCHROME2"])

SLOPES = (1e-4, 100.0)
MAX_INTERCEPT = 1e5
"""Rescales of CT are 1 and -1024, or near; beyond these they are a mistake, not a scanner."""


def why_no_hu(header: Header, limits: ReadLimits | None = None) -> Refusal | None:
    """Why the stored values of an image cannot become Hounsfield units; `None` where they can."""
    limits = limits or ReadLimits()
    return _why_no_codec(header) or _why_no_stored(header, limits) or _why_no_rescale(header)


def may_be_lossy(header: Header) -> bool:
    """Whether values may differ from what the scanner made: the file says so, or its syntax allows it."""
    return header.lossy or header.transfer_syntax_uid in MAY_LOSE


def _why_no_codec(header: Header) -> Refusal | None:
    def refuse(code: str, what: str, tag: str) -> Refusal:
        return Refusal(code=code, what=what, path=header.path, tag=tag)

    if header.pixel_bytes == 0:
        return refuse("NO_PIXELS", "the file holds no pixels", "PixelData")
    if header.transfer_syntax_uid in _LOSSY_8BIT or (header.lossy and 0 < header.bits_stored <= 8):
        return refuse("LOSSY_8BIT", "the pixels were compressed to 8 bits with loss", "TransferSyntaxUID")
    if header.transfer_syntax_uid not in READABLE:
        return refuse("SYNTAX_UNSUPPORTED", "the transfer syntax is not read", "TransferSyntaxUID")
    if (header.pixel_bytes is None) == (header.transfer_syntax_uid in NATIVE):
        return refuse("LENGTH_LIE", "the pixels are not encoded as the transfer syntax says", "PixelData")
    return None


def _why_no_stored(header: Header, limits: ReadLimits) -> Refusal | None:
    def refuse(code: str, what: str, tag: str) -> Refusal:
        return Refusal(code=code, what=what, path=header.path, tag=tag)

    if max(header.rows, header.columns) > limits.edge:
        return refuse("TOO_LARGE", f"there are over {limits.edge} rows or columns", "Rows")
    if not (header.rows and header.columns):
        return refuse("BAD_PIXELS", "there is no number of rows or columns", "Rows")
    if header.samples_per_pixel != 1 or header.photometric not in _MONOCHROME:
        return refuse("BAD_PIXELS", "the pixels are not grey values", "PhotometricInterpretation")
    if header.bits_allocated not in (8, 16) or not 1 < header.bits_stored <= header.bits_allocated:
        return refuse("BAD_PIXELS", "the pixels are not of 8 or 16 bits", "BitsStored")
    if not header.bits_stored <= header.high_bit + 1 <= header.bits_allocated:
        return refuse("BAD_PIXELS", "the high bit does not fit the bits stored", "HighBit")
    return None


def _why_no_rescale(header: Header) -> Refusal | None:
    def refuse(code: str, what: str, tag: str) -> Refusal:
        return Refusal(code=code, what=what, path=header.path, tag=tag)

    if header.has_lookup:
        return refuse("NO_HU", "a lookup table stands in place of the rescale", "ModalityLUTSequence")
    if header.rescale_type not in ("", "HU"):
        return refuse("NO_HU", "the rescale does not give Hounsfield units", "RescaleType")
    if header.slope is None:
        return refuse("NO_HU", "there is no rescale slope", "RescaleSlope")
    if header.intercept is None:
        return refuse("NO_HU", "there is no rescale intercept", "RescaleIntercept")
    if not math.isfinite(header.slope) or not SLOPES[0] <= header.slope <= SLOPES[1]:
        return refuse("BAD_RESCALE", f"the rescale slope is not from {SLOPES[0]} to {SLOPES[1]}", "RescaleSlope")
    if not abs(header.intercept) <= MAX_INTERCEPT:
        return refuse("BAD_RESCALE", f"the rescale intercept is over {MAX_INTERCEPT}", "RescaleIntercept")
    return None
