"""One NIfTI file as bytes: its header is read under caps before anything is allocated, and writing is reproducible.

Source: NIfTI-1 and NIfTI-2 (nifti.nimh.nih.gov). The sform is authoritative; a file without orientation is refused,
because guessing one may swap left and right.
"""

import gzip
import io
import math
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from jaxtyping import Float, Shaped
from nibabel.spatialimages import HeaderDataError

from apatite.core.commit import committed
from apatite.core.errors import ConfigError, DataError, StorageError

MAX_VOXELS = 2**30
MAX_BYTES = 2**32
MAX_VOXEL_OFFSET = 64 * 2**20
EDGE_RANGE_MM = (1e-3, 1e3)
"""Edges of a voxel outside this range are a wrong unit, not a scanner."""

_CHUNK = 2**24
Stream = gzip.GzipFile | io.BufferedReader
_HEADERS = {348: (nib.Nifti1Header, 352), 540: (nib.Nifti2Header, 544)}
# The standard codes for "not said" and for mm.
_UNITS_MM = (0, 2)


@dataclass(frozen=True, kw_only=True, eq=False)
class NiftiContent:
    """What a file says: voxels `depth height width` as stored or rescaled, and the affine from ijk to RAS mm."""

    voxels: Shaped[np.ndarray, "depth height width"]
    ijk_to_ras: Float[np.ndarray, "4 4"]


@dataclass(frozen=True, kw_only=True, eq=False)
class _Layout:
    """Where the voxels lie in the file, and how they are to be understood."""

    shape: tuple[int, int, int]
    dtype: np.dtype[Any]
    offset: int
    slope: float
    intercept: float
    ijk_to_ras: Float[np.ndarray, "4 4"]

    @property
    def num_bytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize


def read_nifti(path: Path, where: str) -> NiftiContent:
    """Read a 3D NIfTI file.

    Args:
        path: `.nii` or `.nii.gz`.
        where: The case, for messages.

    Returns:
        Voxels in native byte order: as stored, or float32 where the header asks for another slope or intercept.

    Raises:
        DataError: the file is missing, no NIfTI, too large, truncated, damaged, not 3D, or holds values or an affine
            that are not finite.
    """
    try:
        with path.open("rb") as raw:
            is_gzip = raw.read(2) == b"\x1f\x8b"
            raw.seek(0)
            stream = gzip.GzipFile(fileobj=raw) if is_gzip else raw
            layout = _read_layout(stream, where)
            data = _read_bytes(stream, layout, where)
    except FileNotFoundError:
        raise DataError(
            "the file does not exist", where=where, fix=f"check the path {path}", code="MISSING_FILE"
        ) from None
    except EOFError:
        raise _truncated(where) from None
    except (gzip.BadGzipFile, zlib.error):
        raise DataError(
            "the compressed data is damaged", where=where, fix="copy the file again from its source", code="CRC"
        ) from None
    except OSError as error:
        raise DataError(
            "the file cannot be read", where=where, fix="check the path, its permissions and the disk", code="IO_ERROR"
        ) from error
    voxels = np.frombuffer(data, dtype=layout.dtype).reshape(layout.shape)
    return NiftiContent(voxels=_rescaled(voxels, layout, where), ijk_to_ras=layout.ijk_to_ras)


def write_nifti(
    path: Path, voxels: Shaped[np.ndarray, "depth height width"], ijk_to_ras: Float[np.ndarray, "4 4"], note: str = ""
) -> None:
    """Write a 3D NIfTI-1 file with slope 1, whole or not at all; the same content gives the same bytes.

    Args:
        path: Must end in `.nii` or `.nii.gz`.
        voxels: Integers of up to 32 bits or float32, written as they are.
        ijk_to_ras: Goes to the sform; the qform too where it can hold it, which it cannot with shear.
        note: What the header says in its free text; at most 79 characters of ASCII.

    Raises:
        StorageError: as `core.commit.committed`, or the file read back differs.
    """
    if not path.name.endswith((".nii", ".nii.gz")):
        raise ConfigError(f"{path.name!r} does not end in .nii or .nii.gz", fix="name the output so")
    stored = np.ascontiguousarray(voxels, dtype=voxels.dtype.newbyteorder("<"))
    content, expected = _header_bytes(voxels, ijk_to_ras, note) + stored.tobytes(), ijk_to_ras.astype(np.float32)

    def verify(part: Path) -> None:
        back = read_nifti(part, path.name)
        if not np.array_equal(back.voxels, voxels) or not np.array_equal(back.ijk_to_ras, expected.astype(np.float64)):
            raise StorageError("the file read back differs from what was written", where=str(path), code="IO_ERROR")

    with committed(path, verify) as part, part.open("wb") as file:
        if path.name.endswith(".gz"):
            with gzip.GzipFile(filename="", mode="wb", compresslevel=4, fileobj=file, mtime=0) as stream:
                stream.write(content)
        else:
            file.write(content)


def _header_bytes(voxels: np.ndarray, ijk_to_ras: np.ndarray, note: str) -> bytes:
    header = nib.Nifti1Header(endianness="<")
    header.set_data_dtype(voxels.dtype.newbyteorder("<"))
    header.set_data_shape(voxels.shape[::-1])
    header.set_xyzt_units("mm")
    edges = ijk_to_ras[:3, :3] / np.linalg.norm(ijk_to_ras[:3, :3], axis=0)
    is_sheared = not np.allclose(edges.T @ edges, np.eye(3), atol=1e-5)
    header.set_qform(ijk_to_ras, code=0 if is_sheared else 1, strip_shears=True)
    header.set_sform(ijk_to_ras, code=1)
    header.set_slope_inter(1.0, 0.0)
    header["vox_offset"] = 352
    header["magic"] = b"n+1"
    if len(note) > 79 or not note.isascii() or (note and not note.isprintable()):
        raise ConfigError(f"{note[:90]!r} does not fit a header", fix="use up to 79 characters of ASCII")
    header["descrip"] = note.encode()
    return header.binaryblock + b"\0\0\0\0"


def _read_layout(stream: Stream, where: str) -> _Layout:
    """The header scan: nothing larger than a header is read, and nothing is allocated, before all of it holds."""
    head = _read_up_to(stream, 544)
    sizes = {order: int.from_bytes(head[:4], order) for order in ("little", "big")}
    order = next((name for name, size in sizes.items() if size in _HEADERS), None)
    if len(head) < 348 and order is not None:
        raise _truncated(where)
    if order is None or len(head) < 352:
        raise DataError("is not a NIfTI file", where=where, fix="convert it to .nii.gz first", code="NOT_NIFTI")
    header_class, least_offset = _HEADERS[sizes[order]]
    if len(head) < sizes[order]:
        raise _truncated(where)
    header = header_class(head[: sizes[order]], endianness="<" if order == "little" else ">", check=False)
    if bytes(header["magic"].tobytes()[:2]) != b"n+":
        raise DataError("is not a single-file NIfTI", where=where, fix="convert it to .nii.gz first", code="NOT_NIFTI")
    return _checked_layout(header, least_offset, where)


def _checked_layout(header: Any, least_offset: int, where: str) -> _Layout:
    shape = _shape(header, where)
    try:
        dtype = header.get_data_dtype()
    except (HeaderDataError, KeyError):
        dtype = np.dtype("V1")
    if dtype.kind not in "iuf" or dtype.itemsize > 8:
        raise DataError(
            "has voxels that are no plain numbers",
            where=where,
            fix="store integers or floats",
            code="SYNTAX_UNSUPPORTED",
        )
    offset = float(header["vox_offset"])
    if not least_offset <= offset <= MAX_VOXEL_OFFSET or offset != int(offset):
        raise DataError(
            f"says its voxels begin at byte {offset:g}", where=where, fix="write the file anew", code="LENGTH_LIE"
        )
    if math.prod(shape) > MAX_VOXELS or math.prod(shape) * dtype.itemsize > MAX_BYTES:
        raise DataError(
            f"declares {math.prod(shape):.3g} voxels",
            where=where,
            fix=f"crop it below {MAX_VOXELS} voxels",
            code="TOO_LARGE",
        )
    slope, intercept = float(header["scl_slope"]), float(header["scl_inter"])
    if slope == 0 or math.isnan(slope):
        # By the standard, slope 0 means that the values are not scaled.
        slope, intercept = 1.0, 0.0
    if not math.isfinite(slope) or not math.isfinite(intercept):
        raise DataError(
            f"has slope {slope} and intercept {intercept}",
            where=where,
            fix="store the values unscaled",
            code="BAD_RESCALE",
        )
    affine = affine_of(header, where)
    return _Layout(shape=shape, dtype=dtype, offset=int(offset), slope=slope, intercept=intercept, ijk_to_ras=affine)


def _shape(header: Any, where: str) -> tuple[int, int, int]:
    dim = [int(length) for length in header["dim"]]
    num_axes = dim[0]
    lengths = dim[1 : num_axes + 1]
    if not 3 <= num_axes <= 7 or any(length != 1 for length in lengths[3:]):
        raise DataError(
            f"has {num_axes} axes of {lengths}, not 3", where=where, fix="store one 3D volume per file", code="NOT_3D"
        )
    width, height, depth = lengths[:3]
    if min(width, height, depth) < 1:
        raise DataError(f"has an empty axis in {lengths}", where=where, fix="check the file's source", code="NOT_3D")
    return depth, height, width


def affine_of(header: Any, where: str) -> Float[np.ndarray, "4 4"]:
    """From ijk to RAS mm as a header says: by the sform, else by the qform.

    Raises:
        DataError: it says neither, in another unit than mm, or what cannot be (`BAD_AFFINE`, `BAD_SPACING`).
    """
    unit = int(header["xyzt_units"]) & 7
    if unit not in _UNITS_MM:
        raise DataError("gives its positions in another unit than mm", where=where, fix="store mm", code="BAD_SPACING")
    if int(header["sform_code"]) > 0:
        affine = np.asarray(header.get_sform(), dtype=np.float64)
    elif int(header["qform_code"]) > 0:
        affine = _qform(header, where)
    else:
        raise DataError(
            "has neither sform nor qform", where=where, fix="write its orientation; none is guessed", code="BAD_AFFINE"
        )
    if not np.all(np.isfinite(affine)):
        raise DataError("has an affine that is not finite", where=where, fix="correct the sform", code="BAD_AFFINE")
    edges = np.linalg.norm(affine[:3, :3], axis=0)
    if min(edges) <= 0 or abs(np.linalg.det(affine[:3, :3])) < 1e-3 * np.prod(edges):
        raise DataError(
            "has an affine that flattens the volume", where=where, fix="correct the sform", code="BAD_AFFINE"
        )
    if min(edges) < EDGE_RANGE_MM[0] or max(edges) > EDGE_RANGE_MM[1]:
        raise DataError(
            f"has voxel edges of {edges.round(6).tolist()} mm",
            where=where,
            fix="store positions in mm",
            code="BAD_SPACING",
        )
    return affine


def _qform(header: Any, where: str) -> Float[np.ndarray, "4 4"]:
    try:
        return np.asarray(header.get_qform(), dtype=np.float64)
    except (HeaderDataError, ValueError):
        raise DataError(
            "has a qform that is no rotation", where=where, fix="write its orientation as sform", code="BAD_AFFINE"
        ) from None


def _read_bytes(stream: Stream, layout: _Layout, where: str) -> bytes:
    """The voxels' bytes; a compressed stream is followed no further than one byte beyond them."""
    stream.seek(layout.offset)
    data = _read_up_to(stream, layout.num_bytes)
    if len(data) < layout.num_bytes:
        raise _truncated(where)
    if stream.read(1):
        raise DataError("goes on after its last voxel", where=where, fix="write the file anew", code="TRAILING_DATA")
    return data


def _read_up_to(stream: Stream, num_bytes: int) -> bytes:
    """At most `num_bytes`, in chunks: memory follows the bytes present, not the bytes declared."""
    if num_bytes <= _CHUNK:
        return stream.read(num_bytes)
    out = io.BytesIO()
    while (left := num_bytes - out.tell()) > 0:
        chunk = stream.read(min(left, _CHUNK))
        if not chunk:
            break
        out.write(chunk)
    return out.getvalue()


def _rescaled(voxels: np.ndarray, layout: _Layout, where: str) -> np.ndarray:
    voxels = voxels.astype(voxels.dtype.newbyteorder("="), copy=True)
    if (layout.slope, layout.intercept) != (1.0, 0.0):
        scaled = voxels.astype(np.float64) * layout.slope + layout.intercept
        with np.errstate(over="ignore"):
            voxels = scaled.astype(np.float32)
    if voxels.dtype.kind == "f" and not np.all(np.isfinite(voxels)):
        count = int(np.count_nonzero(~np.isfinite(voxels)))
        raise DataError(
            f"holds {count} voxels that are not finite", where=where, fix="replace NaN and infinity", code="NONFINITE"
        )
    return voxels


def _truncated(where: str) -> DataError:
    return DataError(
        "ends before its last voxel", where=where, fix="copy the file again from its source", code="TRUNCATED"
    )
