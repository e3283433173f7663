"""One compressed frame to stored values: one decoder per transfer syntax, and a size that is checked beforehand.

What a codestream says of its own size is compared with the header before a decoder sees it, because decoders allocate
what they are told. They run in the child process only.

Source: DICOM PS3.5, A.4 and G (RLE); ISO 10918-1, B.2 (JPEG), ISO 14495-1 (JPEG-LS), ISO 15444-1, A.5 (JPEG 2000).
"""

import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from jaxtyping import UInt16

from apatite.io.dicom.header import Header
from apatite.io.dicom.refused import RefusedError
from apatite.io.dicom.stored import JPEG_2000, JPEG_LS, RLE

Stored = UInt16[np.ndarray, "rows columns"]

_J2K_START = b"\xff\x4f\xff\x51"
_JP2_START = b"\x00\x00\x00\x0cjP  "
_MAX_TILES = 4096
# Frame headers of JPEG; C4, C8 and CC in between are something else. F7 is that of JPEG-LS.
_FRAME_MARKERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC} | {0xF7}
_DAMAGED = "the compressed pixels cannot be decoded"


@dataclass(frozen=True, kw_only=True)
class _Codestream:
    """What a codestream says of itself."""

    rows: int
    columns: int
    components: int
    precision: int
    is_signed: bool = False


def decode_frame(data: bytes, header: Header) -> Stored:
    """Stored values of one frame, as bits: a negative value is its two's complement in `bits_stored` bits or in 16.

    Args:
        data: The codestream.
        header: Of the image; its transfer syntax is one of the compressed ones.

    Raises:
        RefusedError: damaged (`DAMAGED`, `TRUNCATED`), or another size or depth than the header's (`BAD_PIXELS`).
    """
    if header.transfer_syntax_uid == RLE:
        return _rle(data, header)
    is_2000 = header.transfer_syntax_uid in JPEG_2000
    if is_2000 and data.startswith(_JP2_START):
        data = data[max(data.find(_J2K_START), 0) :]
    stream = _j2k_codestream(data) if is_2000 else _jpeg_codestream(data)
    _check(stream, header)
    try:
        if is_2000:
            decoded = _openjpeg(data)
        elif header.transfer_syntax_uid in JPEG_LS:
            decoded = _charls(data)
        else:
            decoded = _gdcm(data, header, stream.precision)
    except MemoryError:
        raise
    except Exception:
        raise RefusedError("DAMAGED", _DAMAGED, "PixelData") from None
    dtype = np.dtype("<u2" if stream.precision > 8 else np.uint8)
    if len(decoded) != header.rows * header.columns * dtype.itemsize:
        raise RefusedError("DAMAGED", _DAMAGED, "PixelData")
    values = np.frombuffer(decoded, dtype).reshape(header.rows, header.columns)
    return _checked_bits(values, stream, header)


def _check(stream: _Codestream, header: Header) -> None:
    if (stream.rows, stream.columns, stream.components) != (header.rows, header.columns, 1):
        raise RefusedError("BAD_PIXELS", "the compressed image is of another size than the header says", "Rows")
    if not 1 < stream.precision <= header.bits_allocated or header.high_bit + 1 != header.bits_stored:
        raise RefusedError("BAD_PIXELS", "the compressed image is of another depth than the header says", "BitsStored")
    if stream.precision <= 8 < header.bits_stored:
        raise RefusedError("BAD_PIXELS", "the compressed image has 8 bits only", "BitsStored")
    if header.is_signed and not stream.is_signed and stream.precision < header.bits_stored:
        raise RefusedError("BAD_PIXELS", "the sign of the compressed values cannot be told", "PixelRepresentation")


def _checked_bits(values: np.ndarray, stream: _Codestream, header: Header) -> Stored:
    """The values in 16 bits; refused where one does not fit the bits stored, as decoding would wrap it."""
    bits = header.bits_stored
    if stream.precision <= 8 and stream.is_signed:
        values = values.view(np.int8).astype("<i2").view("<u2")
    values = values.astype(np.uint16)
    as_signed = values.view(np.int16)
    low, high = int(as_signed.min()), int(as_signed.max())
    is_twos_complement = -(1 << (bits - 1)) <= low and high < 1 << (bits - 1)
    is_pattern = int(values.max()) < 1 << bits
    if not (is_pattern or (header.is_signed and is_twos_complement)):
        raise RefusedError("BAD_PIXELS", "compressed values do not fit the bits stored", "BitsStored")
    return values


def _j2k_codestream(data: bytes) -> _Codestream:
    if data[:4] != _J2K_START or len(data) < 45:
        raise RefusedError("DAMAGED", _DAMAGED, "PixelData")
    right, bottom, left, top, tile_width, tile_height = struct.unpack_from(">6I", data, 8)
    components, depth, step_x, step_y = struct.unpack_from(">HBBB", data, 40)
    columns, rows = right - left, bottom - top
    if not (tile_width and tile_height) or (columns // tile_width + 1) * (rows // tile_height + 1) > _MAX_TILES:
        raise RefusedError("TOO_LARGE", f"the compressed image has over {_MAX_TILES} tiles", "PixelData")
    if (step_x, step_y) != (1, 1):
        raise RefusedError("BAD_PIXELS", "the compressed image is subsampled", "PixelData")
    return _Codestream(
        rows=rows,
        columns=columns,
        components=components,
        precision=(depth & 0x7F) + 1,
        is_signed=bool(depth & 0x80),
    )


def _jpeg_codestream(data: bytes) -> _Codestream:
    at = 2 if data[:2] == b"\xff\xd8" else len(data)
    while at + 10 <= len(data) and data[at] == 0xFF:
        if data[at + 1] == 0xFF:
            at += 1
            continue
        if data[at + 1] in _FRAME_MARKERS:
            precision, rows, columns, components = struct.unpack_from(">BHHB", data, at + 4)
            return _Codestream(rows=rows, columns=columns, components=components, precision=precision)
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    raise RefusedError("DAMAGED", _DAMAGED, "PixelData")


def _openjpeg(data: bytes) -> bytes | bytearray:
    from openjpeg.utils import decode_pixel_data

    return decode_pixel_data(data, version=2)  # pyright: ignore[reportReturnType] - version 2 gives a bytearray


def _charls(data: bytes) -> bytes | bytearray:
    from jpeg_ls import decode_pixel_data

    return decode_pixel_data(data)[0]


def _gdcm(data: bytes, header: Header, precision: int) -> bytes:
    import gdcm

    fragment = gdcm.Fragment()
    fragment.SetByteStringValue(data)
    fragments = gdcm.SequenceOfFragments.New()
    fragments.AddFragment(fragment)
    element = gdcm.DataElement(gdcm.Tag(0x7FE0, 0x0010))
    element.SetValue(fragments.__ref__())
    image = gdcm.Image()
    image.SetNumberOfDimensions(2)
    image.SetDimensions((header.columns, header.rows, 1))
    image.SetDataElement(element)
    grey = gdcm.PhotometricInterpretation.GetPIType("MONOCHROME2")
    image.SetPhotometricInterpretation(gdcm.PhotometricInterpretation(grey))
    syntax = gdcm.TransferSyntax.GetTSType(header.transfer_syntax_uid)
    image.SetTransferSyntax(gdcm.TransferSyntax(syntax))
    allocated = 16 if precision > 8 else 8
    image.SetPixelFormat(gdcm.PixelFormat(1, allocated, precision, precision - 1, 0))
    with _complaints() as said:
        # It hands out bytes as a string.
        decoded = image.GetBuffer().encode("utf-8", "surrogateescape")
    if any(b"Corrupt JPEG data" in text for text in said):
        raise ValueError("the decoder filled in what was missing")
    return decoded


@contextmanager
def _complaints() -> Iterator[list[bytes]]:
    """What native code writes to stderr meanwhile: libjpeg only says there that data are missing, and goes on."""
    said: list[bytes] = []
    read_from, write_to = os.pipe()
    kept = os.dup(2)
    try:
        os.set_blocking(read_from, False)
        os.set_blocking(write_to, False)
        os.dup2(write_to, 2)
        yield said
    finally:
        os.dup2(kept, 2)
        with suppress(BlockingIOError):
            said.append(os.read(read_from, 2**16))
        for descriptor in (read_from, write_to, kept):
            os.close(descriptor)


def _rle(data: bytes, header: Header) -> Stored:
    """Run-length segments, the high byte's first."""
    num_bytes = header.bits_allocated // 8
    size = header.rows * header.columns
    if len(data) < 64 or int.from_bytes(data[:4], "little") != num_bytes:
        raise RefusedError("BAD_PIXELS", "the run-length segments are not those of the header's depth", "BitsAllocated")
    starts = [*struct.unpack_from(f"<{num_bytes}I", data, 4), len(data)]
    if starts[0] < 64 or starts != sorted(starts):
        raise RefusedError("DAMAGED", _DAMAGED, "PixelData")
    values = np.zeros(size, np.uint16)
    for start, end in pairwise(starts):
        values = values << 8 | np.frombuffer(_unpacked(data[start:end], size), np.uint8)
    return values.reshape(header.rows, header.columns)


def _unpacked(segment: bytes, size: int) -> bytearray:
    """PackBits, to exactly `size` bytes; one byte more in the last run is the padding that some writers leave."""
    unpacked, at, end = bytearray(), 0, len(segment)
    while at < end and len(unpacked) < size:
        count = segment[at]
        if count < 128:
            unpacked += segment[at + 1 : at + 2 + count]
            at += 2 + count
        elif count > 128:
            unpacked += segment[at + 1 : at + 2] * (257 - count)
            at += 2
        else:
            at += 1
    if len(unpacked) < size:
        raise RefusedError("TRUNCATED", "the run-length pixels end early", "PixelData")
    return unpacked[:size]
