"""Faults of the folder: what else lies there, how files are called, how they are spread."""

import os
import shutil
import socket
from pathlib import Path

from faulty_series.folder import HOLE, Folder, refuse
from faulty_series.judge import Expectation


def junk_text(folder: Folder, severity: int) -> Expectation:
    """A text file; one that is called .dcm; twenty of all sorts."""
    if severity < 2:
        folder.extra[("readme.txt", "notes.dcm")[severity]] = b"nothing to see here\n"
    for number in range(20 if severity == 2 else 0):
        folder.extra[f"junk-{number}{('.txt', '.jpg', '.dcm', '')[number % 4]}"] = folder.rng.bytes(100 * number + 50)
    # What is called like a slice may have been one.
    return folder.right(*(("NOT_DICOM",) if severity else ()))


def other_formats(folder: Folder, severity: int) -> Expectation:
    """A JPEG, a ZIP archive, a NIfTI header beside the series."""
    name, start = (("a.jpg", b"\xff\xd8\xff\xe0"), ("a.zip", b"PK\x03\x04"), ("a.nii", b"\x5c\x01\x00\x00"))[severity]
    folder.extra[name] = start + bytes(600)
    return folder.right()


def pipe(folder: Folder, severity: int) -> Expectation:
    """A named pipe, among the slices by name; two of them; one in a subfolder."""
    names = (["000a.dcm"], ["0.dcm", "zz.dcm"], ["sub/0.dcm"])[severity]

    def add(place: Path) -> None:
        for name in names:
            (place / name).parent.mkdir(exist_ok=True)
            os.mkfifo(place / name)

    folder.after.append(add)
    return folder.right()


def link_loop(folder: Folder, severity: int) -> Expectation:
    """A link to itself, to nothing, to the folder above."""

    def add(place: Path) -> None:
        target = (place / "loop.dcm", place / "missing", place)[severity]
        (place / "loop.dcm").symlink_to(target, target_is_directory=severity == 2)

    folder.after.append(add)
    return folder.right()


def linked_files(folder: Folder, severity: int) -> Expectation:
    """One, half, all slices are links to files elsewhere."""
    lost = folder.some(severity)
    names = [folder.names[number] for number in lost]

    def move(place: Path) -> None:
        store = place.parent / f"{place.name}-store"
        store.mkdir(exist_ok=True)
        for name in names:
            shutil.move(place / name, store / name)
            (place / name).symlink_to(store / name)

    folder.after.append(move)
    codes = ("IO_ERROR", "NOT_DICOM", *(HOLE if severity == 0 else ()))
    rest = folder.without(lost, *codes).accepted if severity == 0 else ()
    return Expectation(accepted=folder.right().accepted + rest, codes=frozenset(codes))


def socket_file(folder: Folder, severity: int) -> Expectation:
    """A socket, a folder called like a slice, an empty file called like a slice."""

    def add(place: Path) -> None:
        if severity == 1:
            (place / "000a.dcm").mkdir()
        elif severity == 2:
            (place / "000a.dcm").touch()
        else:
            with socket.socket(socket.AF_UNIX) as end:
                before = Path.cwd()
                # The path of a socket may have 107 bytes only.
                os.chdir(place)
                end.bind("0.dcm")
                os.chdir(before)

    folder.after.append(add)
    # An empty file may have been a slice.
    return folder.right(*(("TRUNCATED", "NOT_DICOM") if severity == 2 else ()))


def odd_names(folder: Folder, severity: int) -> Expectation:
    """Names of 255 bytes; with spaces, quotes and a newline; that begin with a dash."""
    for number in range(24):
        folder.names[number] = (
            f"{number:03d}".ljust(255, "x"),
            f'{number:03d} it\'s "a"\n;$(x).dcm',
            f"-{number:03d}.dcm",
        )[severity]
    return folder.right()


def no_extension(folder: Folder, severity: int) -> Expectation:
    """Names without an ending; .IMA; UIDs as names."""
    for number in range(24):
        folder.names[number] = (f"IM{number:04d}", f"{number}.IMA", f"2.25.4711.1.{number + 1}")[severity]
    return folder.right()


def bytes_in_names(folder: Folder, severity: int) -> Expectation:
    """Names in other alphabets; that are no UTF-8; that differ in case only."""
    for number in range(24):
        names = (
            f"Срез-{number}.dcm",
            os.fsdecode(b"\xff\xfe%03d.dcm" % number),
            f"{'aA'[number % 2]}{number // 2}.dcm",
        )
        folder.names[number] = names[severity]
    return folder.right()


def subfolders(folder: Folder, severity: int) -> Expectation:
    """An empty folder; one with junk; all slices one level down."""

    def add(place: Path) -> None:
        (place / "sub").mkdir()
        if severity == 1:
            (place / "sub" / "junk.dcm").write_bytes(b"junk" * 100)
        elif severity == 2:
            for path in list(place.glob("*.dcm")):
                shutil.move(path, place / "sub" / path.name)

    folder.after.append(add)
    return folder.right(*(("NOT_DICOM", "LT3_SLICES") if severity == 2 else ()))


def split_over_subfolders(folder: Folder, severity: int) -> Expectation:
    """The slices of one series in two, three, four folders; half of a stack must not pass for the whole."""

    def move(place: Path) -> None:
        for number, name in enumerate(folder.names):
            part = place / f"part{number % (severity + 2)}"
            part.mkdir(exist_ok=True)
            shutil.move(place / name, part / name)

    folder.after.append(move)
    return folder.right("NOT_DICOM", "LT3_SLICES")


def hidden_files(folder: Folder, severity: int) -> Expectation:
    """Files of a Mac: .DS_Store, ._ companions of all slices, an archive's folder."""
    if severity == 0:
        folder.extra[".DS_Store"] = b"\x00\x00\x00\x01Bud1" + bytes(100)
    for number in range(24):
        if severity:
            prefix = "._" if severity == 1 else "__MACOSX/._"
            folder.extra[f"{prefix}{folder.names[number]}"] = b"\x00\x05\x16\x07\x00\x02\x00\x00Mac OS X" + bytes(80)
    return folder.right()


def directory_file(folder: Folder, severity: int) -> Expectation:
    """A DICOMDIR that is empty, that ends early, that is text."""
    folder.extra["DICOMDIR"] = (b"", bytes(128) + b"DICM" + b"\x02\x00", b"text")[severity]
    return folder.right()


def no_images(folder: Folder, severity: int) -> Expectation:
    """An empty folder; with one text file; with an empty subfolder."""
    folder.drop(list(range(24)))
    if severity == 1:
        folder.extra["readme.txt"] = b"no images here"
    elif severity == 2:
        folder.after.append(lambda place: (place / "sub").mkdir())
    return refuse("NOT_DICOM", "NOT_CT", "LT3_SLICES")


ALL_BASES = ()
KINDS = (
    junk_text,
    other_formats,
    pipe,
    link_loop,
    linked_files,
    socket_file,
    odd_names,
    no_extension,
    bytes_in_names,
    subfolders,
    split_over_subfolders,
    hidden_files,
    directory_file,
    no_images,
)
