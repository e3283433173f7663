"""A DICOM series as slices in Hounsfield units, each with its own position.

    with Decoder() as decoder:
        headers = [one for found in read_headers(paths, decoder) if isinstance(found, list) for one in found]
        for images in group_images(headers):
            reading = read_series(lay_out(images), decoder)

Memory: the voxels once, one image more, and a bit per pixel while it travels; the child holds one file.
"""

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from apatite.core.errors import DataError
from apatite.core.scan import Scan
from apatite.io.dicom.child import Decoder
from apatite.io.dicom.header import Header, Refusal
from apatite.io.dicom.series import ImageKey, Series, group_images, image_key, lay_out, shared_positions

CLIPPED_HU = 3071
"""12 bits from -1024 end here; a scan whose largest value it is was cut off."""
MOST_HU = 60_000.0
"""No metal is beyond it, but a negative value is that was stored with a sign and is read without."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Reading:
    """A series that was read.

    Attributes:
        scan: Int16 where every value of the series is a whole number that fits, else float32.
        series: Where it came from.
        flags: Those of the series, and those that only the pixels show.
    """

    scan: Scan
    series: Series
    flags: tuple[str, ...]


def read_headers(paths: Sequence[Path], decoder: Decoder) -> list[list[Header] | Refusal]:
    """The headers of each file, one per frame, or why it cannot be used, in the order given."""
    return list(decoder.headers(paths))


def pixel_digests(headers: Sequence[Header], decoder: Decoder) -> dict[ImageKey, str]:
    """SHA-256 of the HU of images; one that cannot be decoded is left out. For `lay_out`."""
    digests = {}
    for header, pixels in zip(headers, decoder.pixels(headers), strict=True):
        if not isinstance(pixels, Refusal):
            values = np.ascontiguousarray(pixels.hu.astype(np.float32))
            digests[image_key(header)] = hashlib.sha256(values.tobytes()).hexdigest()
    return digests


def lay_out_read(headers: Sequence[Header], decoder: Decoder) -> Series:
    """As `lay_out`, with the pixels of images that share a position compared."""
    shared = shared_positions(headers)
    return lay_out(headers, pixel_digests(shared, decoder) if shared else None)


def read_series(series: Series, decoder: Decoder, case_id: str = "") -> Reading:
    """Read the pixels of a series that was laid out.

    Args:
        series: From `lay_out`.
        decoder: The child process.
        case_id: The case, for messages.

    Raises:
        DataError: the series is refused, or one of its files is; the code says why.
    """
    if series.refusal is not None or series.stack is None:
        raise refused(series.refusal, case_id)
    shape = series.stack.shape
    voxels_hu = np.empty(shape, np.int16)
    is_padding, is_clipped = None, False
    for index, pixels in enumerate(decoder.pixels(series.headers)):
        if isinstance(pixels, Refusal):
            raise refused(pixels, case_id)
        if pixels.hu.dtype != np.int16 and pixels.hu.max() > MOST_HU:
            what = f"values reach beyond {MOST_HU:.0f} HU, as negative ones do that lost their sign"
            raise refused(Refusal(code="HU_RANGE", what=what, path=series.headers[index].path), case_id)
        if pixels.hu.dtype != np.int16 and voxels_hu.dtype == np.int16:
            voxels_hu = voxels_hu.astype(np.float32)
        voxels_hu[index] = pixels.hu
        if pixels.is_padding is not None:
            is_padding = np.zeros(shape, np.bool_) if is_padding is None else is_padding
            is_padding[index] = pixels.is_padding
        is_clipped = is_clipped or pixels.is_clipped
    flags = list(series.flags)
    if is_clipped or voxels_hu.max() == CLIPPED_HU:
        flags.append("HU_CLIPPED")
    scan = Scan(voxels_hu=voxels_hu, stack=series.stack, is_padding=is_padding)
    return Reading(scan=scan, series=series, flags=tuple(flags))


def read_folder(folder: Path, series_uid: str = "", case_id: str = "") -> Reading:
    """Read the one series of a folder that can be measured.

    Args:
        folder: Searched with all folders below it; links are not followed.
        series_uid: The series to read; empty where there is one only.
        case_id: The case, for messages.

    Raises:
        DataError: none can be measured (the code says why), or several can.
    """
    with Decoder() as decoder:
        paths = files_below(folder, decoder.limits.series_files, case_id)
        return read_files(paths, decoder, series_uid, case_id or folder.name)


def read_files(paths: Sequence[Path], decoder: Decoder, series_uid: str = "", case_id: str = "") -> Reading:
    """Read the one series of some files that can be measured; as `read_folder`."""
    found = read_headers(paths, decoder)
    headers = [header for one in found if isinstance(one, list) for header in one]
    chosen = [header for header in headers if not series_uid or header.series_uid == series_uid]
    if series_uid and not chosen:
        raise DataError(
            "holds no image of the series that was named", where=case_id, fix="check the UID", code="LT3_SLICES"
        )
    series = [lay_out_read(images, decoder) for images in group_images(chosen)]
    refusals = [one for one in found if isinstance(one, Refusal)]
    the_one = _the_one(series, refusals, case_id)
    lost = [one for one in refusals if may_belong(one, the_one)]
    lost += [one.refusal for one in series if one.refusal is not None and is_rest_of(one, the_one)]
    if lost:
        raise refused(lost[0], case_id)
    return read_series(the_one, decoder, case_id)


def may_belong(refusal: Refusal, series: Series) -> bool:
    """Whether a file that is refused may hold a slice of a series, which would then be measured without it.

    A file that tells its series says so itself. One that does not may be a slice where it lies beside the slices and is
    named like them: with the same suffix, and a number where there is none.
    """
    if refusal.series_uid:
        return refusal.series_uid in {header.series_uid for header in series.headers}
    if not refusal.path.suffix and not any(letter.isdigit() for letter in refusal.path.name):
        return False
    places = {(header.path.parent, header.path.suffix.lower()) for header in series.headers}
    return (refusal.path.parent, refusal.path.suffix.lower()) in places


def is_rest_of(refused_series: Series, series: Series) -> bool:
    """Whether images that are refused may be slices of a series: of its UID or of none, and of its kind."""
    uids, kinds = zip(*[(header.series_uid, header.image_type) for header in series.headers], strict=True)
    return any(header.series_uid in ("", *uids) and header.image_type in kinds for header in refused_series.headers)


def files_below(folder: Path, most: int, case_id: str = "") -> list[Path]:
    """All files of a folder and of those below it that may hold an image, sorted.

    Links are not followed: a link to a file is among them, and will be refused by name, so that no slice is missed
    behind it. Pipes, sockets and links to nowhere hold no image, nor do a DICOMDIR and what a Mac writes beside a
    file (`._`).

    Raises:
        DataError: it cannot be read, or there are over `most`.
    """
    if not folder.is_dir():
        raise DataError("is no folder", where=case_id or folder.name, fix="check the path", code="IO_ERROR")
    paths: list[Path] = []
    for root, folders, names in os.walk(folder):
        folders.sort()
        found = [Path(root) / name for name in sorted(names) if not name.startswith("._") and name != "DICOMDIR"]
        paths += [path for path in found if path.is_file()]
        if len(paths) > most:
            raise DataError(
                f"holds over {most} files",
                where=case_id or folder.name,
                fix="name the folder of one series",
                code="TOO_LARGE",
            )
    return paths


def refused(refusal: Refusal | None, case_id: str = "") -> DataError:
    """A refusal as an error that names the file by its own name only."""
    if refusal is None:
        return DataError("cannot be measured", where=case_id, code="INTERNAL")
    tag = f" ({refusal.tag})" if refusal.tag else ""
    return DataError(
        f"{refusal.path.name}: {refusal.what}{tag}",
        where=case_id,
        fix="leave the series out, or export it anew",
        code=refusal.code,
    )


def _the_one(series: list[Series], of_files: list[Refusal], case_id: str) -> Series:
    """The one series that can be measured."""
    usable = [one for one in series if one.refusal is None]
    if len(usable) == 1:
        return usable[0]
    if usable:
        raise DataError(
            f"holds {len(usable)} series that can be measured",
            where=case_id,
            fix="name one by its UID, or index the folder with `apatite index`",
            code="MIXED_SERIES",
        )
    # Of several reasons, that of the largest series says most; files that are no DICOM say least.
    refusals = [one.refusal for one in sorted(series, key=lambda one: -len(one.headers)) if one.refusal is not None]
    refusals += sorted(of_files, key=lambda refusal: refusal.code == "NOT_DICOM")
    if not refusals:
        raise DataError("holds no files", where=case_id, fix="check the path", code="NOT_DICOM")
    raise refused(refusals[0], case_id)
