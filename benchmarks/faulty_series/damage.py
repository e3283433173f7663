"""Faults of bytes: files that end early, go on too long, or state lengths that they do not have."""

from faulty_series.folder import Bytes, Folder, refuse
from faulty_series.judge import Expectation

BROKEN = ("DAMAGED", "TRUNCATED", "LENGTH_LIE", "NO_PIXELS", "NOT_DICOM", "NOT_CT", "BAD_PIXELS")
PIXELS = b"\xe0\x7f\x10\x00OW\x00\x00"
"""Tag and VR of native pixel data; 4 bytes of length follow."""


def _in_some(folder: Folder, severity: int, rewrite: Bytes, *codes: str) -> Expectation:
    """Damage one slice of the lesion, half of the slices, all."""
    lost = folder.some(severity)
    for number in lost:
        folder.rewrites[number] = rewrite
    return folder.without(lost, *codes) if severity == 0 else refuse(*codes, "LT3_SLICES")


def _before(marker: bytes, extra: int = 0) -> Bytes:
    return lambda content: content[: content.index(marker) + extra]


def cut_between_elements(folder: Folder, severity: int) -> Expectation:
    """All files end just before the pixels, before the position, after the meta group."""
    marker = (PIXELS, b"\x20\x00\x32\x00DS", b"\x08\x00\x05\x00CS")[severity]
    for number in range(24):
        folder.rewrites[number] = _before(marker)
    return refuse(*BROKEN, "NO_IPP")


def cut_between_elements_of_one(folder: Folder, severity: int) -> Expectation:
    """One slice of the lesion ends just before the pixels, before the position, after the meta group."""
    marker = (PIXELS, b"\x20\x00\x32\x00DS", b"\x08\x00\x05\x00CS")[severity]
    folder.rewrites[12] = _before(marker)
    return folder.without([12], *BROKEN, "NO_IPP")


def cut_inside_element(folder: Folder, severity: int) -> Expectation:
    """All files end inside a tag, inside a length, inside the value of a position."""
    marker, extra = ((PIXELS, 2), (PIXELS, 10), (b"\x20\x00\x32\x00DS", 12))[severity]
    for number in range(24):
        folder.rewrites[number] = _before(marker, extra)
    return refuse(*BROKEN, "NO_IPP")


def half_a_slice(folder: Folder, severity: int) -> Expectation:
    """The pixels end halfway in one, half, all files."""
    return _in_some(folder, severity, lambda content: content[: len(content) - 64 * 64], *BROKEN)


def last_byte(folder: Folder, severity: int) -> Expectation:
    """The last byte is missing in one, half, all files."""
    return _in_some(folder, severity, lambda content: content[:-1], *BROKEN)


def last_row(folder: Folder, severity: int) -> Expectation:
    """The last row is missing and the length says so: in one, half, all files."""

    def shorten(content: bytes) -> bytes:
        place = content.index(PIXELS) + len(PIXELS)
        return content[:place] + (63 * 128).to_bytes(4, "little") + content[place + 4 : -128]

    return _in_some(folder, severity, shorten, *BROKEN)


def almost_empty(folder: Folder, severity: int) -> Expectation:
    """All files are of 0, 128, 132 bytes."""
    for number in range(24):
        folder.rewrites[number] = lambda content: content[: (0, 128, 132)[severity]]
    return refuse("NOT_DICOM", "TRUNCATED", "NOT_CT", "NO_PIXELS")


def almost_empty_one(folder: Folder, severity: int) -> Expectation:
    """One slice of the lesion is a file of 0, 128, 132 bytes."""
    folder.rewrites[12] = lambda content: content[: (0, 128, 132)[severity]]
    return folder.without([12], "NOT_DICOM", "TRUNCATED", "NOT_CT", "NO_PIXELS")


def zeros_at_the_end(folder: Folder, severity: int) -> Expectation:
    """The second half of one, half, all files is zeros, as after a broken transfer."""

    def blank(content: bytes) -> bytes:
        place = content.index(PIXELS)
        return content[:place] + bytes(len(content) - place)

    return _in_some(folder, severity, blank, *BROKEN, "TRAILING_DATA", "SYNTAX_UNSUPPORTED")


def more_at_the_end(folder: Folder, severity: int) -> Expectation:
    """1, 100, 10000 bytes of nonsense after the data set."""
    tail = folder.rng.integers(0, 256, (1, 100, 10_000)[severity], dtype="u1").tobytes()
    for number in range(24):
        folder.rewrites[number] = lambda content: content + tail
    return folder.right("TRAILING_DATA", "TRUNCATED", "LENGTH_LIE", "NOT_DICOM")


def padding_element(folder: Folder, severity: int) -> Expectation:
    """DataSetTrailingPadding of 2, 100, 10000 bytes, as the standard allows."""
    size = (2, 100, 10_000)[severity]
    tail = b"\xfc\xff\xfc\xffOB\x00\x00" + size.to_bytes(4, "little") + bytes(size)
    for number in range(24):
        folder.rewrites[number] = lambda content: content + tail
    return folder.right()


def pixel_length_lies(folder: Folder, severity: int) -> Expectation:
    """The pixels state one row more, 4 GB, nothing."""

    def lie(content: bytes) -> bytes:
        place = content.index(PIXELS) + len(PIXELS)
        length = (65 * 128, 0xFFFFFFF0, 0)[severity]
        return content[:place] + length.to_bytes(4, "little") + content[place + 4 :]

    for number in range(24):
        folder.rewrites[number] = lie
    return refuse(*BROKEN, "TOO_LARGE", "TRAILING_DATA")


def header_length_lies(folder: Folder, severity: int) -> Expectation:
    """The length of the kernel's name: one byte too long, 60000, too short by two."""

    def lie(content: bytes) -> bytes:
        place = content.index(b"\x18\x00\x10\x12SH") + 6
        length = (9, 60_000, 6)[severity]
        return content[:place] + length.to_bytes(2, "little") + content[place + 2 :]

    for number in range(24):
        folder.rewrites[number] = lie
    return refuse(*BROKEN, "TOO_LARGE", "TRAILING_DATA", "NO_IPP", "NO_IOP", "NO_SPACING", "NO_HU", "TOO_DEEP")


def rows_lie(folder: Folder, severity: int) -> Expectation:
    """More rows than there are pixels; fewer; none."""
    for image in folder.images:
        image.Rows = (80, 48, 0)[severity]
    return refuse(*BROKEN, "TRAILING_DATA", "TOO_LARGE")


def huge_size(folder: Folder, severity: int) -> Expectation:
    """65535 rows; 65535 of both; 32768 columns, with pixels for 64×64."""
    for image in folder.images:
        image.Rows, image.Columns = ((65535, 64), (65535, 65535), (64, 32768))[severity]
    return refuse(*BROKEN, "TOO_LARGE")


ALL_BASES = ()
KINDS = (
    cut_between_elements,
    cut_between_elements_of_one,
    cut_inside_element,
    half_a_slice,
    last_byte,
    last_row,
    almost_empty,
    almost_empty_one,
    zeros_at_the_end,
    more_at_the_end,
    padding_element,
    pixel_length_lies,
    header_length_lies,
    rows_lie,
    huge_size,
)
