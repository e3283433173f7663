"""Stored values to Hounsfield units, exactly, read in the child process.

A whole slope and intercept give whole numbers; nothing wraps, because every value is checked against the type before
it is stored. What the scanner did not reconstruct is kept apart: it has no Hounsfield units.

Source: DICOM PS3.5, 8.1.1 (bits stored, high bit, sign); PS3.3, C.7.5.1.1.2 (pixel padding), C.11.1 (rescale).
Differs: MONOCHROME1 concerns display only and never turns values round; values below -1024 HU count as padding with
or without the attribute, because vendors pad with -1500, -2000 or -3024.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Int32, Shaped, UInt16

from apatite.core.errors import ModelError
from apatite.core.scan import PADDING_HU
from apatite.io.dicom.codecs import decode_frame
from apatite.io.dicom.elements import PIXEL_TAGS, FileElements, read_elements
from apatite.io.dicom.header import Header, Refusal
from apatite.io.dicom.limits import ReadLimits
from apatite.io.dicom.parse import WANTED, headers_of, refusal_of
from apatite.io.dicom.refused import RefusedError
from apatite.io.dicom.stored import NATIVE, RLE, why_no_hu
from apatite.io.regular_file import open_regular

MAX_HU = 65_536.0
"""16 bits hold less, whatever the metal."""
LEAST_TISSUE_HU = -500.0
"""A padding value above this would hide tissue, and is a mistake."""

_INT16 = np.iinfo(np.int16)
_INTEGERS = PIXEL_TAGS[2]


@dataclass(frozen=True, kw_only=True, eq=False)
class Pixels:
    """One image in HU.

    Attributes:
        hu: Int16 where every value is a whole number that fits, else float32; `PADDING_HU` in the padding.
        is_padding: Where nothing was reconstructed; `None` where there is no such pixel.
        is_clipped: Whether a pixel has the largest value that could be stored.
        sop_uid: Of the image, to tell a file that was replaced since its header was read.
    """

    hu: Shaped[np.ndarray, "rows columns"]
    is_padding: Bool[np.ndarray, "rows columns"] | None
    is_clipped: bool
    sop_uid: str = ""


class PixelReader:
    """Reads images one by one; of neighbouring frames of one file the header is read once."""

    def __init__(self, limits: ReadLimits) -> None:
        self.limits = limits
        self.path: Path | None = None
        self.file: FileElements | None = None
        self.headers: list[Header] = []

    def read(self, path: Path, frame: int) -> Pixels | Refusal:
        """One image, or why it cannot be had."""
        try:
            if path != self.path:
                self._open(path)
            assert self.file is not None
            if not 0 <= frame < len(self.headers):
                raise RefusedError("TRUNCATED", "the file has fewer frames than before", "NumberOfFrames")
            header = self.headers[frame]
            refusal = why_no_hu(header, self.limits)
            return refusal or to_hu(stored_values(self.file, header), header)
        except ModelError:
            return Refusal(code="IO_ERROR", what="the file cannot be opened, or is a link", path=path)
        except OSError:
            return Refusal(code="IO_ERROR", what="the file cannot be read", path=path)
        except RefusedError as refused:
            return refusal_of(refused, path)

    def _open(self, path: Path) -> None:
        self.path, self.file, self.headers = None, None, []
        with open_regular(path) as file:
            self.file = read_elements(file, WANTED, self.limits)
        self.headers = headers_of(path, self.file, self.limits)
        self.path = path


def stored_values(file: FileElements, header: Header) -> Int32[np.ndarray, "rows columns"]:
    """The stored values of one frame, sign and all; bits beyond those stored (overlays) are dropped.

    Args:
        file: The elements of the file.
        header: Of the frame; `why_no_hu` found nothing.

    Raises:
        RefusedError: as `codecs.decode_frame`, or the frames cannot be told apart.
    """
    assert file.pixels is not None
    if file.pixels.tag != _INTEGERS:
        raise RefusedError("BAD_PIXELS", "the pixels are not whole numbers", "FloatPixelData")
    is_compressed = header.transfer_syntax_uid not in NATIVE
    bits = decode_frame(_frame_bytes(file, header), header) if is_compressed else _native(file, header)
    has_junk = not is_compressed or header.transfer_syntax_uid == RLE
    if header.bits_stored == 16:
        return (bits.view(np.int16) if header.is_signed else bits).astype(np.int32)
    shift = header.high_bit + 1 - header.bits_stored if has_junk else 0
    values = (bits.astype(np.int32) >> shift) & ((1 << header.bits_stored) - 1)
    if header.is_signed:
        sign = 1 << (header.bits_stored - 1)
        values = (values ^ sign) - sign
    return values


def to_hu(stored: Int32[np.ndarray, "rows columns"], header: Header) -> Pixels:
    """HU = slope · stored + intercept, in whole numbers where both are whole, else in float64.

    Raises:
        RefusedError: HU beyond `MAX_HU` (`HU_RANGE`), or a padding value that tissue has (`BAD_PIXELS`).
    """
    slope, intercept = header.slope, header.intercept
    assert slope is not None
    assert intercept is not None
    if slope.is_integer() and intercept.is_integer():
        hu = stored * np.int32(slope) + np.int32(intercept)
    else:
        hu = slope * stored.astype(np.float64) + intercept
    is_padding = _is_padding(stored, hu, header)
    is_read = ~is_padding
    highest = float(hu[is_read].max()) if is_read.any() else PADDING_HU
    if highest > MAX_HU:
        raise RefusedError("HU_RANGE", f"values reach beyond {MAX_HU:.0f} HU", "RescaleSlope")
    top = (1 << (header.bits_stored - header.is_signed)) - 1
    is_clipped = bool((is_read & (stored == top)).any())
    hu[is_padding] = PADDING_HU
    is_whole = hu.dtype.kind == "i" or np.array_equal(hu, np.rint(hu))
    dtype = np.int16 if is_whole and highest <= _INT16.max else np.float32
    return Pixels(
        hu=hu.astype(dtype),
        is_padding=is_padding if is_padding.any() else None,
        is_clipped=is_clipped,
        sop_uid=header.sop_uid,
    )


def _is_padding(
    stored: Int32[np.ndarray, "rows columns"], hu: Shaped[np.ndarray, "rows columns"], header: Header
) -> Bool[np.ndarray, "rows columns"]:
    is_padding = np.asarray(hu < PADDING_HU)
    if header.padding is None:
        return is_padding
    ends = [_as_stored(value, header) for value in header.padding]
    if None in ends:
        # No stored value can be the padding, so there is none.
        return is_padding
    low, high = sorted(end for end in ends if end is not None)
    is_stated = (stored >= low) & (stored <= high)
    if is_stated.any() and float(hu[is_stated].max()) > LEAST_TISSUE_HU:
        raise RefusedError("BAD_PIXELS", f"the padding value is above {LEAST_TISSUE_HU:.0f} HU", "PixelPaddingValue")
    return is_padding | is_stated


def _as_stored(value: int, header: Header) -> int | None:
    """A padding value as the pixels store it: some writers give -2000 as 63536, and the other way round."""
    low = -(1 << (header.bits_stored - 1)) if header.is_signed else 0
    high = low + (1 << header.bits_stored) - 1
    for candidate in (value, value - 65_536, value + 65_536):
        if low <= candidate <= high:
            return candidate
    return None


def _native(file: FileElements, header: Header) -> UInt16[np.ndarray, "rows columns"]:
    assert file.pixels is not None
    num_bytes = header.bits_allocated // 8
    size = header.rows * header.columns * num_bytes
    if file.is_big_endian and num_bytes == 1:
        raise RefusedError("BAD_PIXELS", "the order of the pixels cannot be told", "BitsAllocated")
    start = file.pixels.start + header.frame * size
    data = file.content[start : start + size]
    if len(data) < size:
        raise RefusedError("TRUNCATED", "there are fewer pixels than the header says", "PixelData")
    dtype = np.dtype(np.uint8 if num_bytes == 1 else (">u2" if file.is_big_endian else "<u2"))
    return np.frombuffer(data, dtype).astype(np.uint16).reshape(header.rows, header.columns)


def _frame_bytes(file: FileElements, header: Header) -> bytes:
    """The codestream of one frame: one fragment each, or all of a single frame, or as the offset table says."""
    assert file.pixels is not None
    if len(file.pixels.fragments) < 2:
        raise RefusedError("TRUNCATED", "there are no compressed pixels", "PixelData")
    table, *fragments = file.pixels.fragments
    if header.frames == 1:
        chosen = fragments
    elif len(fragments) == header.frames:
        chosen = [fragments[header.frame]]
    else:
        chosen = _by_offsets(file, table, fragments, header)
    return b"".join(file.content[start : start + length] for start, length in chosen)


def _by_offsets(
    file: FileElements, table: tuple[int, int], fragments: list[tuple[int, int]], header: Header
) -> list[tuple[int, int]]:
    start, length = table
    if length != 4 * header.frames:
        raise RefusedError("BAD_PIXELS", "nothing says where a compressed frame begins", "PixelData")
    offsets = np.frombuffer(file.content[start : start + length], "<u4").astype(np.int64)
    # Offsets count from the first byte of the first fragment's item, whose own 8 bytes come before its value.
    places = np.array([place for place, _ in fragments]) - fragments[0][0]
    if offsets[0] != 0 or np.any(np.diff(offsets) <= 0) or not np.isin(offsets, places).all():
        raise RefusedError("LENGTH_LIE", "the offset table does not fit the compressed frames", "PixelData")
    ends = np.append(offsets[1:], places[-1] + 1)
    is_of_frame = (places >= offsets[header.frame]) & (places < ends[header.frame])
    return [fragment for fragment, is_chosen in zip(fragments, is_of_frame, strict=True) if is_chosen]
