"""A folder of anything: every file below it is opened once, and each becomes images or the reason why not.

Nothing is followed out of the folder: links are named and left alone, and so are pipes, sockets and devices. Archives
are not unpacked.
"""

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from apatite.core.errors import DataError
from apatite.core.watch import Watch, unwatched
from apatite.io.dicom.child import Decoder
from apatite.io.dicom.header import Header, Refusal
from apatite.io.dicom.reading import read_headers

FILES_AT_ONCE: Final = 64
"""Files per message to the child process that reads them."""
_SUFFIXES: Final = (".dcm", ".ima", ".dicom")
_LOOKED_AT: Final = 200
"""Files without a telling name that are opened to find out whether a folder holds DICOM."""


@dataclass(frozen=True, kw_only=True)
class Tree:
    """What lies below a folder.

    Attributes:
        root: The folder.
        files: Every file (and link, and folder that cannot be opened), sorted.
        headers: All images, in the order of their files.
        refusals: At most one per file; a file has images or a refusal.
    """

    root: Path
    files: tuple[Path, ...]
    headers: tuple[Header, ...]
    refusals: tuple[Refusal, ...]


def read_tree(root: Path, decoder: Decoder, watch: Watch = unwatched) -> Tree:
    """Read the headers of every file below a folder.

    Args:
        root: The folder.
        decoder: The child process that opens the files.
        watch: Shows the progress.

    Raises:
        DataError: it is no folder, or holds no file (`MISSING_FILE`).
    """
    if not root.is_dir():
        raise DataError("is no folder", where=str(root), fix="check the path", code="MISSING_FILE")
    entries = sorted(_entries(root), key=lambda entry: entry[0])
    if not entries:
        raise DataError("holds no file", where=str(root), fix="check the path", code="MISSING_FILE")
    refusals = [refusal for _, refusal in entries if refusal is not None]
    paths = [path for path, refusal in entries if refusal is None]
    headers: list[Header] = []
    batches = [paths[start : start + FILES_AT_ONCE] for start in range(0, len(paths), FILES_AT_ONCE)]
    for batch in watch(batches, f"reading headers, {FILES_AT_ONCE} files a step", len(batches)):
        for found in read_headers(batch, decoder):
            if isinstance(found, Refusal):
                refusals.append(found)
            else:
                headers += found
    return Tree(
        root=root,
        files=tuple(path for path, _ in entries),
        headers=tuple(headers),
        refusals=tuple(refusals),
    )


def holds_dicom(root: Path) -> bool:
    """Whether a folder holds DICOM files and no NIfTI; by names first, then by the mark that DICOM files carry.

    Raises:
        DataError: it holds files of both by name, and which are meant is not for us to guess.
    """
    paths = [path for path, refusal in _entries(root) if refusal is None]
    names = [path.name.lower() for path in paths]
    is_named = any(name.endswith(_SUFFIXES) for name in names)
    if any(name.endswith((".nii", ".nii.gz")) for name in names):
        if is_named:
            raise DataError(
                "holds DICOM and NIfTI files", where=str(root), fix="say which with --layout dicom or folder"
            )
        return False
    return is_named or any(map(_has_mark, paths[:_LOOKED_AT]))


def _entries(root: Path) -> Iterator[tuple[Path, Refusal | None]]:
    """Every entry that is no folder, and why it is not to be opened."""
    unreadable: list[Path] = []
    walk = os.walk(root, followlinks=False, onerror=lambda error: unreadable.append(Path(str(error.filename))))
    for folder, below, names in walk:
        links = [name for name in below if (Path(folder) / name).is_symlink()]
        for name in [*names, *links]:
            path = Path(folder) / name
            yield path, _reason(path)
    for path in unreadable:
        yield path, Refusal(code="IO_ERROR", what="the folder cannot be opened", path=path)


def _reason(path: Path) -> Refusal | None:
    try:
        mode = path.lstat().st_mode
    except OSError:
        return Refusal(code="IO_ERROR", what="the file cannot be read", path=path)
    if not stat.S_ISREG(mode):
        what = "a link is not followed" if stat.S_ISLNK(mode) else "a pipe, socket or device is not opened"
        return Refusal(code="NOT_REGULAR", what=what, path=path)
    if path.name.upper() == "DICOMDIR":
        return Refusal(code="SECONDARY", what="a directory of files is not needed", path=path)
    return None


def _has_mark(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(132)[128:] == b"DICM"
    except OSError:
        return False
