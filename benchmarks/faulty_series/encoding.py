"""Faults of encoding: every way to write the same pixels, and ways that lose or contradict them."""

import io
from collections.abc import Callable

import numpy as np
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate, generate_frames
from pydicom.uid import (
    JPEG2000,
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)

from faulty_series.folder import HOLE, Folder, refuse, to_bytes
from faulty_series.judge import Accepted, Expectation, Slices, measure

CODECS = {RLELossless: "pydicom", JPEGLSLossless: "pyjpegls", JPEG2000Lossless: "pylibjpeg"}
BROKEN = (
    "DAMAGED",
    "NOT_DICOM",
    "TRUNCATED",
    "LENGTH_LIE",
    "SYNTAX_UNSUPPORTED",
    "DECODER_CRASH",
    "BAD_PIXELS",
    "NO_PIXELS",
)


def compress(image: Dataset, syntax: UID) -> None:
    """Without loss."""
    image.compress(syntax, encoding_plugin=CODECS[syntax], generate_instance_uid=False)


def _compressed(syntax: UID, name: str) -> Callable[[Folder, int], Expectation]:
    def change(folder: Folder, severity: int) -> Expectation:
        for number in folder.some(severity):
            folder.encode[number] = lambda image: compress(image, syntax)
        return folder.right()

    change.__name__ = name
    change.__doc__ = f"{syntax.name} in one, half, all slices."
    return change


def _rewritten(syntax: UID, name: str) -> Callable[[Folder, int], Expectation]:
    def encode(image: Dataset) -> None:
        image.file_meta.TransferSyntaxUID = syntax
        if syntax == ExplicitVRBigEndian:
            image.PixelData = np.frombuffer(image.PixelData, "<u2").astype(">u2").tobytes()

    def change(folder: Folder, severity: int) -> Expectation:
        for number in folder.some(severity):
            folder.encode[number] = encode
        return folder.right()

    change.__name__ = name
    change.__doc__ = f"{syntax.name} in one, half, all slices."
    return change


def no_file_meta(folder: Folder, severity: int) -> Expectation:
    """A bare data set, implicit little endian, without preamble and meta: one, half, all files."""
    lost = folder.some(severity)
    for number in lost:
        folder.rewrites[number] = lambda _, image=folder.images[number]: _bare(image)
    expected = folder.right("NOT_DICOM")
    rest = folder.without(lost, "NOT_DICOM").accepted if severity == 0 else ()
    return Expectation(accepted=expected.accepted + rest, codes=frozenset({"NOT_DICOM", *HOLE}))


def _bare(image: Dataset) -> bytes:
    buffer = io.BytesIO()
    del image.file_meta
    image.save_as(buffer, implicit_vr=True, little_endian=True)
    return buffer.getvalue()


def no_preamble(folder: Folder, severity: int) -> Expectation:
    """The file begins with DICM; with the meta group; after a preamble of letters."""
    cut = (lambda content: content[128:], lambda content: content[132:], lambda content: b"A" * 128 + content[128:])
    for number in range(24):
        folder.rewrites[number] = cut[severity]
    return folder.right(*(() if severity == 2 else ("NOT_DICOM",)))


def syntax_lies(folder: Folder, severity: int) -> Expectation:
    """The meta group names another syntax than was written: implicit, big endian, JPEG-LS."""
    named = (ImplicitVRLittleEndian, ExplicitVRBigEndian, JPEGLSLossless)[severity]
    old = _uid_value(ExplicitVRLittleEndian)
    for number in range(24):
        folder.rewrites[number] = lambda content: _grow_meta(content, old, _uid_value(named))
    return folder.right(*BROKEN, "NOT_CT")


def _grow_meta(content: bytes, old: bytes, new: bytes) -> bytes:
    """Exchange an element of the meta group and correct the group's length."""
    length = int.from_bytes(content[140:144], "little") + len(new) - len(old)
    content = content[:140] + length.to_bytes(4, "little") + content[144:]
    return content.replace(old, new, 1)


def syntax_unknown(folder: Folder, severity: int) -> Expectation:
    """A syntax that nobody knows, MPEG-2, JPEG XL: native in name only, encapsulated, encapsulated."""
    uid = ("1.2.3.4.5", "1.2.840.10008.1.2.4.100", "1.2.840.10008.1.2.4.110")[severity]

    def wrong(image: Dataset) -> bytes:
        if severity:
            _enclose(image, encapsulate([image.PixelData]))
        return _said_to_be(image, RLELossless if severity else ExplicitVRLittleEndian, UID(uid))

    for number, image in enumerate(folder.images):
        folder.rewrites[number] = lambda _, image=image: wrong(image)
    return refuse("SYNTAX_UNSUPPORTED")


def _enclose(image: Dataset, pixels: bytes) -> None:
    """Encapsulated pixels in place of native ones."""
    image.PixelData = pixels
    image["PixelData"].VR = "OB"
    image["PixelData"].is_undefined_length = True


def syntax_missing(folder: Folder, severity: int) -> Expectation:
    """The syntax is left out of the meta group; it is empty; it is cut."""
    old = b"\x02\x00\x10\x00UI\x14\x001.2.840.10008.1.2.1\x00"
    new = (b"", b"\x02\x00\x10\x00UI\x00\x00", b"\x02\x00\x10\x00UI\x0a\x001.2.840.10")[severity]
    for number in range(24):
        folder.rewrites[number] = lambda content: _grow_meta(content, old, new)
    return folder.right(*BROKEN)


def lossy_8bit(folder: Folder, severity: int) -> Expectation:
    """JPEG of 8 bits: baseline in all slices, extended in all, baseline in one slice."""
    lost = [12] if severity == 2 else list(range(24))
    for number in lost:
        folder.encode[number] = lambda image: _to_jpeg(image, JPEGExtended12Bit if severity == 1 else JPEGBaseline8Bit)
    return folder.without(lost, "LOSSY_8BIT") if severity == 2 else refuse("LOSSY_8BIT")


def _to_jpeg(image: Dataset, syntax: UID) -> None:
    from PIL import Image

    values = np.frombuffer(image.PixelData, np.uint16).reshape(image.Rows, image.Columns)
    buffer = io.BytesIO()
    Image.fromarray((values >> 4).astype(np.uint8)).save(buffer, "JPEG", quality=90)
    _enclose(image, encapsulate([buffer.getvalue()]))
    image.file_meta.TransferSyntaxUID = syntax
    image.LossyImageCompression = "01"
    if syntax == JPEGBaseline8Bit:
        image.BitsAllocated, image.BitsStored, image.HighBit = 8, 8, 7
        image.RescaleSlope = "16"


def lossy_more_bits(folder: Folder, severity: int) -> Expectation:
    """Compressed with a loss of up to a few HU: JPEG-LS near-lossless by 1, by 3; JPEG 2000."""
    folder.hu = np.stack([_lossy(image, severity) for image in folder.images]).astype(float) - 1024
    answer = Accepted(truth=measure(Slices.on(folder.planes, folder.hu)), needs=frozenset({"LOSSY"}))
    return Expectation(accepted=(answer,), codes=frozenset({"LOSSY", "SYNTAX_UNSUPPORTED"}), is_rule=True)


def _lossy(image: Dataset, severity: int) -> np.ndarray:
    if severity == 2:
        image.compress(JPEG2000, encoding_plugin="pylibjpeg", j2k_cr=[2], generate_instance_uid=False)
    else:
        near = (1, 3)[severity]
        image.compress(JPEGLSNearLossless, encoding_plugin="pyjpegls", jls_error=near, generate_instance_uid=False)
    return image.pixel_array


def fragments(folder: Folder, severity: int) -> Expectation:
    """Compressed pixels without an offset table, with one, in four fragments without one."""
    for number in range(24):
        folder.encode[number] = lambda image: _fragment(image, severity)
    return folder.right()


def _fragment(image: Dataset, severity: int) -> None:
    compress(image, JPEG2000Lossless)
    stream = _stream(image)
    _enclose(image, encapsulate([stream], has_bot=severity == 1, fragments_per_frame=4 if severity == 2 else 1))


def _stream(image: Dataset) -> bytes:
    """The code stream of one compressed image."""
    return next(generate_frames(image.PixelData, number_of_frames=1))


def stream_cut(folder: Folder, severity: int) -> Expectation:
    """The code stream of one slice of the lesion ends halfway: RLE, JPEG-LS, JPEG 2000."""
    syntax = tuple(CODECS)[severity]

    def cut(image: Dataset) -> None:
        compress(image, syntax)
        stream = _stream(image)
        _enclose(image, encapsulate([stream[: len(stream) // 4 * 2]], has_bot=False))

    for number in range(24):
        folder.encode[number] = cut if number == 12 else lambda image: compress(image, syntax)
    return folder.without([12], *BROKEN, "DECODER_TIMEOUT")


def stream_of_another_size(folder: Folder, severity: int) -> Expectation:
    """The code stream holds fewer rows, other columns, fewer bits than the header says."""

    def shrink(image: Dataset) -> None:
        rows, columns = image.Rows, image.Columns
        values = np.frombuffer(image.PixelData, np.uint16).reshape(rows, columns)
        inner = (values[:48], values[:, :48], (values >> 4).astype(np.uint8))[severity]
        image.Rows, image.Columns = inner.shape
        if severity == 2:
            image.BitsAllocated, image.BitsStored, image.HighBit = 8, 8, 7
        image.PixelData = inner.tobytes()
        compress(image, JPEGLSLossless)
        image.Rows, image.Columns = rows, columns
        image.BitsAllocated, image.BitsStored, image.HighBit = 16, 12, 11

    for number in range(24):
        folder.encode[number] = shrink
    return refuse(*BROKEN)


def stream_missing(folder: Folder, severity: int) -> Expectation:
    """Compressed pixels of no fragment, of an empty one, of zeros."""

    item = b"\xfe\xff\x00\xe0"
    fragment = (b"", item + bytes(4), item + b"\x40\x00\x00\x00" + bytes(64))[severity]

    def empty(image: Dataset) -> None:
        compress(image, JPEG2000Lossless)
        _enclose(image, item + bytes(4) + fragment)

    for number in range(24):
        folder.encode[number] = empty
    return refuse(*BROKEN)


def native_in_capsule(folder: Folder, severity: int) -> Expectation:
    """Native syntax, but encapsulated; compressed syntax, but native; the first in one slice."""

    def wrong(image: Dataset) -> bytes:
        if severity == 1:
            return _said_to_be(image, ExplicitVRLittleEndian, JPEG2000Lossless)
        _enclose(image, encapsulate([image.PixelData]))
        return _said_to_be(image, RLELossless, ExplicitVRLittleEndian)

    lost = [12] if severity == 2 else list(range(24))
    for number in lost:
        folder.rewrites[number] = lambda _, image=folder.images[number]: wrong(image)
    codes = (*BROKEN, "TRAILING_DATA")
    return folder.without(lost, *codes) if severity == 2 else refuse(*codes)


def _said_to_be(image: Dataset, written_as: UID, said: UID) -> bytes:
    """A file whose meta group names another syntax than it was written in."""
    image.file_meta.TransferSyntaxUID = written_as
    return _grow_meta(to_bytes(image), _uid_value(written_as), _uid_value(said))


def _uid_value(uid: UID) -> bytes:
    text = uid.encode() + b"\x00" * (len(uid) % 2)
    return b"UI" + len(text).to_bytes(2, "little") + text


ALL_BASES = ()
KINDS = (
    _compressed(RLELossless, "rle"),
    _compressed(JPEGLSLossless, "jpeg_ls"),
    _compressed(JPEG2000Lossless, "jpeg_2000"),
    _rewritten(DeflatedExplicitVRLittleEndian, "deflated"),
    _rewritten(ExplicitVRBigEndian, "big_endian"),
    _rewritten(ImplicitVRLittleEndian, "implicit"),
    no_file_meta,
    no_preamble,
    syntax_lies,
    syntax_unknown,
    syntax_missing,
    lossy_8bit,
    lossy_more_bits,
    fragments,
    stream_cut,
    stream_of_another_size,
    stream_missing,
    native_in_capsule,
)
