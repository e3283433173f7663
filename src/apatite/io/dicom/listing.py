"""Which files are the slices of a series: a small JSON file, so that a manifest can name a series like any other image.

Paths start from the folder of the listing itself, which is `<manifest>.series` beside the manifest. The slices stand in
the order of the stack; geometry is read from the files again, never from here.
"""

import hashlib
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from apatite.core.commit import commit_json
from apatite.core.errors import DataError, ModelError
from apatite.io.dicom.header import Header
from apatite.io.dicom.series import Series
from apatite.io.regular_file import read_regular
from apatite.io.strict_json import parse_json

SUFFIX: Final = ".series.json"
FORMAT: Final = 1
_KEYS: Final = {"format", "series_uid", "files", "digest"}
_MAX_BYTES: Final = 16 << 20


@dataclass(frozen=True, kw_only=True)
class Listing:
    """The images of one series.

    Attributes:
        series_uid: Of the first image.
        files: Path and frame of each slice.
        digest: SHA-256 over the UIDs of the images: equal for the same images, wherever they lie.
    """

    series_uid: str
    files: tuple[tuple[Path, int], ...]
    digest: str


def is_listing(path: Path) -> bool:
    """Whether a path names a listing."""
    return path.name.endswith(SUFFIX)


def write_listing(path: Path, series: Series) -> None:
    """Write the listing of a series.

    Raises:
        StorageError: as `core.commit.committed`.
    """
    folder = path.parent.absolute()
    content = {
        "format": FORMAT,
        "series_uid": series.headers[0].series_uid,
        "digest": images_digest(series.headers),
        "files": [
            [Path(os.path.relpath(header.path.absolute(), folder)).as_posix(), header.frame]
            for header in series.headers
        ],
    }
    commit_json(path, content)


def read_listing(path: Path, case_id: str = "") -> Listing:
    """Read a listing.

    Args:
        path: The `*.series.json` file.
        case_id: Named in errors, instead of the path.

    Returns:
        Paths are joined to the listing's folder; whether they exist is not checked.

    Raises:
        DataError: it cannot be read, or is no listing (`IO_ERROR`).
    """
    try:
        content = parse_json(read_regular(path, _MAX_BYTES))
        files = _files(content, path.parent)
    except (ModelError, ValueError, TypeError, KeyError) as error:
        raise DataError(
            "is no list of DICOM files",
            where=case_id or path.name,
            fix="run `apatite index` again",
            code="IO_ERROR",
        ) from error
    return Listing(series_uid=content["series_uid"], files=files, digest=content["digest"])


def images_digest(headers: Iterable[Header]) -> str:
    """SHA-256 over the UIDs and frames of the images, in whatever order they come."""
    names = sorted(f"{header.sop_uid} {header.frame}" for header in headers)
    return hashlib.sha256("\n".join(names).encode()).hexdigest()


def _files(content: Any, folder: Path) -> tuple[tuple[Path, int], ...]:
    if not isinstance(content, dict) or set(content) != _KEYS or content["format"] != FORMAT:
        raise ValueError("other keys, or another format")
    if not isinstance(content["series_uid"], str) or not isinstance(content["digest"], str):
        raise ValueError("UID and digest are text")
    entries = [(name, frame) for name, frame in content["files"]]
    if not entries or not all(_is_entry(name, frame) for name, frame in entries):
        raise ValueError("each entry is a path and a frame")
    if len(set(entries)) != len(entries):
        raise ValueError("an image is named twice")
    return tuple((folder / name, frame) for name, frame in entries)


def _is_entry(name: Any, frame: Any) -> bool:
    is_name = isinstance(name, str) and name != "" and "\0" not in name
    return is_name and isinstance(frame, int) and not isinstance(frame, bool) and frame >= 0
