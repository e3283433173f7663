"""Faults of headers: large, deep, oddly written, and values that a careless program would put into a path."""

import struct

from faulty_series.damage import PIXELS
from faulty_series.folder import ROOT, Folder, number_text
from faulty_series.judge import Expectation

TOO_MUCH = "TOO_LARGE"


def _insert(folder: Folder, number: int, elements: bytes) -> None:
    """Put encoded elements just before the pixels."""

    def rewrite(content: bytes) -> bytes:
        place = content.rindex(PIXELS)
        return content[:place] + elements + content[place:]

    folder.rewrites[number] = rewrite


def _element(group: int, element: int, vr: str, value: bytes) -> bytes:
    """Explicit little endian, with a length of 4 bytes where the VR has one."""
    tag = struct.pack("<HH", group, element) + vr.encode()
    is_long = vr in ("OB", "SQ", "UN", "UT")
    return tag + (struct.pack("<HI", 0, len(value)) if is_long else struct.pack("<H", len(value))) + value


CREATOR = _element(0x7FDF, 0x0010, "LO", b"APATITE ")


def private_block(folder: Folder, severity: int) -> Expectation:
    """A private element of 1, 8, 70 MB in one slice."""
    size = (1, 8, 70)[severity] << 20
    _insert(folder, 12, CREATOR + _element(0x7FDF, 0x1001, "OB", bytes(size)))
    if severity < 2:
        return folder.right()
    rest = folder.without([12], TOO_MUCH)
    return Expectation(accepted=folder.right().accepted + rest.accepted, codes=rest.codes)


def many_elements(folder: Folder, severity: int) -> Expectation:
    """1000, 20000, 60000 private elements in one slice."""
    count = (1_000, 20_000, 60_000)[severity]
    # 250 elements to a private block, and group after group.
    numbers = [(0x7001 + 2 * (n // 4000), 0x1000 + (n % 4000 // 250 << 8) + n % 250) for n in range(count)]
    _insert(folder, 12, b"".join(_element(group, element, "LO", b"ab") for group, element in numbers))
    if severity < 2:
        return folder.right()
    rest = folder.without([12], TOO_MUCH)
    return Expectation(accepted=folder.right().accepted + rest.accepted, codes=rest.codes)


def deep_nesting(folder: Folder, severity: int) -> Expectation:
    """Sequences 8, 25, 2000 deep in one slice."""
    value = b""
    head = struct.pack("<HH2sHI", 0x7FDF, 0x1001, b"SQ", 0, 0xFFFFFFFF) + struct.pack(
        "<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF
    )
    tail = struct.pack("<HHI", 0xFFFE, 0xE00D, 0) + struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)
    depth = (8, 25, 2000)[severity]
    value = head * depth + tail * depth
    _insert(folder, 12, CREATOR + value)
    if severity < 2:
        return folder.right()
    return folder.without([12], "TOO_DEEP")


def long_name(folder: Folder, severity: int) -> Expectation:
    """A patient's name of 100, 4000, 65534 letters."""
    for image in folder.images:
        image.PatientName = "N" * (100, 4_000, 65_534)[severity]
    return folder.right()


def character_sets(folder: Folder, severity: int) -> Expectation:
    """Japanese by ISO 2022; Chinese by GB18030; a set that does not exist, with Latin bytes."""
    sets = (["", "ISO 2022 IR 87"], "GB18030", "ISO_IR 100")[severity]
    for image in folder.images:
        image.SpecificCharacterSet = sets
        if severity < 2:
            image.PatientName = ("Yamada^Tarou=山田^太郎", "王^小东")[severity]
    if severity == 2:
        for number in range(24):
            folder.rewrites[number] = lambda content: content.replace(b"ISO_IR 100", b"ISO_IR 999", 1).replace(
                b"SIMULATED head", b"SIM\xff\xfe\xe4\xfcED head", 1
            )
    return folder.right()


def no_character_set(folder: Folder, severity: int) -> Expectation:
    """Bytes above 127 with no character set; with an empty one; with a UTF-8 one that they break."""
    for image in folder.images:
        if severity == 0:
            del image.SpecificCharacterSet
        else:
            image.SpecificCharacterSet = ("", "ISO_IR 192")[severity - 1]
    for number in range(24):
        folder.rewrites[number] = lambda content: content.replace(b"SIMULATED head", b"SIM\xff\xfe\xe4\xfcED head", 1)
    return folder.right()


def series_uid_odd(folder: Folder, severity: int) -> Expectation:
    """A series UID with a newline, with `../`, of 200 digits."""
    for image in folder.images:
        image.SeriesInstanceUID = ("1.2.3\n.4", "../../../etc/passwd", "1." + "2" * 198)[severity]
    # It may be taken for none at all.
    return folder.right("MIXED_SERIES")


def sop_uid_odd(folder: Folder, severity: int) -> Expectation:
    """SOP instance UIDs with NUL inside, with `../`, as free text."""
    for number, image in enumerate(folder.images):
        image.SOPInstanceUID = (f"1.2\x00.{number}", f"../../{number}", f"<script>{number}")[severity]
    return folder.right()


def sop_uid_equal(folder: Folder, severity: int) -> Expectation:
    """The same SOP instance UID twice, in half, in all of the slices, at different positions."""
    for image in folder.images[: (2, 12, 24)[severity]]:
        image.SOPInstanceUID = f"{ROOT}.1.1"
    return folder.right("MIXED_SERIES", "DUP_FILE", "DUP_POS")


def uids_missing(folder: Folder, severity: int) -> Expectation:
    """No SOP instance UID, no study UID, an empty one of both."""
    for image in folder.images:
        image.file_meta.MediaStorageSOPInstanceUID = image.SOPInstanceUID
        if severity == 0:
            del image.SOPInstanceUID
        elif severity == 1:
            del image.StudyInstanceUID
        else:
            image.SOPInstanceUID = image.StudyInstanceUID = ""
    return folder.right()


def series_uid_missing(folder: Folder, severity: int) -> Expectation:
    """No series UID: in one slice, half, all."""
    lost = folder.some(severity)
    for number in lost:
        del folder.images[number].SeriesInstanceUID
    codes = ("MIXED_SERIES",)
    if severity == 2:
        return folder.right("MIXED_SERIES", "NOT_CT")
    expected = folder.without(lost, *codes) if severity == 0 else Expectation(codes=frozenset(codes))
    return Expectation(accepted=(*folder.right().accepted, *expected.accepted), codes=expected.codes)


def patient_missing(folder: Folder, severity: int) -> Expectation:
    """No patient ID anywhere; empty everywhere; missing in half of the slices."""
    for image in folder.images[: (24, 24, 12)[severity]]:
        if severity == 1:
            image.PatientID = image.PatientName = image.PatientBirthDate = ""
        else:
            del image.PatientID
    return folder.right(*(("MIXED_PATIENT",) if severity == 2 else ()))


def foreign_preamble(folder: Folder, severity: int) -> Expectation:
    """The preamble of an ELF program, of a Windows program, of a shell script."""
    start = (b"\x7fELF\x02\x01\x01", b"MZ\x90\x00", b"#!/bin/sh\nexit 1\n")[severity].ljust(128, b"\x00")
    for number in range(24):
        folder.rewrites[number] = lambda content: start + content[128:]
    return folder.right()


def values_odd(folder: Folder, severity: int) -> Expectation:
    """Instance numbers that are text, decimals, of 12 digits; KVP and dates that are nonsense."""
    for number, image in enumerate(folder.images):
        text = (b"abc ", b"12.5", b"9" * 12)[severity]
        image.InstanceNumber = 7777
        image.KVP, image.ReconstructionDiameter = number_text("kilo"), number_text("-1")
        image.AcquisitionDate, image.PatientAge = "31.12.99", "old"
        new = b"IS" + len(text).to_bytes(2, "little") + text
        folder.rewrites[number] = lambda content, new=new: content.replace(b"IS\x04\x007777", new, 1)
    return folder.right(flags=("KVP", "SMALL_FIELD"))


def group_lengths(folder: Folder, severity: int) -> Expectation:
    """Retired group lengths: right, wrong, of every group."""
    for image in folder.images:
        for group in (0x0008, 0x0010, 0x0018, 0x0028)[: severity + 2]:
            image.add_new((group, 0x0000), "UL", 4 if severity else 200)
    return folder.right()


def meta_length_lies(folder: Folder, severity: int) -> Expectation:
    """The meta group states a length of zero, ten too many, 4 GB."""
    length = (0, 166, 0xFFFFFFF0)[severity]
    for number in range(24):
        folder.rewrites[number] = lambda content: content[:140] + length.to_bytes(4, "little") + content[144:]
    return folder.right("LENGTH_LIE", "NOT_DICOM", "TRUNCATED")


ALL_BASES = ()
KINDS = (
    private_block,
    many_elements,
    deep_nesting,
    long_name,
    character_sets,
    no_character_set,
    series_uid_odd,
    sop_uid_odd,
    sop_uid_equal,
    uids_missing,
    series_uid_missing,
    patient_missing,
    foreign_preamble,
    values_odd,
    group_lengths,
    meta_length_lies,
)
