"""Volumes, scans and label maps as NIfTI: the one place where (i, j, k) on disk meets depth height width in memory.

A scan whose slices are uneven, or thicker than their distance, has a sidecar `<stem>.slices.json` that is
authoritative; the affine of its NIfTI then uses the mean step and is for viewers only.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Integer, Shaped, UInt8

from apatite.core.commit import commit_json
from apatite.core.errors import DataError
from apatite.core.scan import Scan, SliceStack, stack_from_grid
from apatite.core.volume import Grid, Volume
from apatite.io.manifest import MAX_LABEL
from apatite.io.nifti_file import read_nifti, write_nifti

SIDECAR_TOLERANCE_MM = 1e-3
"""A stack that a plain NIfTI states to within this needs no sidecar."""

_INT16 = np.iinfo(np.int16)
_KEPT_TYPES = (np.uint8, np.int8, np.int16, np.uint16, np.int32, np.uint32, np.float32)


def read_volume(path: Path, case_id: str = "") -> Volume:
    """Read a NIfTI as voxels on a regular grid.

    Args:
        path: `.nii` or `.nii.gz`.
        case_id: The case, for messages.

    Raises:
        DataError: as `nifti_file.read_nifti`.
    """
    content = read_nifti(path, case_id or path.name)
    return Volume(voxels=content.voxels, grid=Grid(shape=content.voxels.shape, ijk_to_ras=content.ijk_to_ras))


def read_scan(path: Path, case_id: str = "") -> Scan:
    """Read a NIfTI as slices with their own positions, in the order in which they are stored.

    The slice axis is the stored k, whatever way it runs in the patient. Without a sidecar the slices are those of the
    regular, perhaps sheared, grid.

    Args:
        path: `.nii` or `.nii.gz`, in HU.
        case_id: The case, for messages.

    Returns:
        Int16 where every value is a whole number that fits, else float32.

    Raises:
        DataError: as `read_volume`, or the sidecar does not fit.
    """
    volume = read_volume(path, case_id)
    return Scan(voxels_hu=_as_hu(volume.voxels), stack=_read_stack(path, volume.grid, case_id or path.name))


def read_label(path: Path, stack: SliceStack, case_id: str = "") -> UInt8[np.ndarray, "slices rows columns"]:
    """Read a label map that must lie on the slices of its image.

    Args:
        path: `.nii` or `.nii.gz`.
        stack: The slices of the image.
        case_id: The case, for messages.

    Raises:
        DataError: another grid (`GRID_MISMATCH`), or values other than 0 to 254 (`BAD_LABEL`).
    """
    where = case_id or path.name
    volume = read_volume(path, where)
    if not volume.grid.matches(viewer_grid(stack)):
        what = "the label map lies on another grid than its image"
        if volume.grid.shape != stack.shape:
            what += f": {volume.grid.shape} voxels, not {stack.shape}"
        raise DataError(what, where=where, fix="resample the label map onto the image", code="GRID_MISMATCH")
    return label_values(volume.voxels, where)


def label_values(voxels: np.ndarray, where: str) -> UInt8[np.ndarray, "depth height width"]:
    """Voxels as label values.

    Raises:
        DataError: they are not whole numbers from 0 to 254 (`BAD_LABEL`).
    """
    low, high = voxels.min(), voxels.max()
    if low < 0 or high > MAX_LABEL or (voxels.dtype.kind == "f" and np.any(voxels != np.floor(voxels))):
        raise DataError(
            f"label values run from {low} to {high}, not whole numbers from 0 to {MAX_LABEL}",
            where=where,
            fix="give label numbers, not probabilities",
            code="BAD_LABEL",
        )
    return voxels.astype(np.uint8)


def write_volume(path: Path, volume: Volume, note: str = "") -> None:
    """Write voxels on a regular grid: integers as they are, everything else as float32, never rescaled.

    Args:
        path: `.nii` or `.nii.gz`.
        volume: The voxels.
        note: What the header says in its free text.

    Raises:
        DataError: the voxels are not finite.
        StorageError: as `core.commit.committed`.
    """
    write_nifti(path, _storable(volume.voxels, path.name), volume.grid.ijk_to_ras, note)


def write_scan(path: Path, scan: Scan) -> None:
    """Write slices, with a sidecar where a NIfTI alone could not say where they lie.

    Raises:
        DataError: the voxels are not finite.
        StorageError: as `core.commit.committed`.
    """
    voxels = _storable(_as_hu(scan.voxels_hu), path.name)
    write_sidecar(path, scan.stack)
    write_nifti(path, voxels, viewer_grid(scan.stack).ijk_to_ras)


def write_sidecar(path: Path, stack: SliceStack) -> None:
    """Say beside a NIfTI where its slices lie, where its affine could not; remove what an earlier file said.

    Raises:
        StorageError: as `core.commit.committed`.
    """
    if is_plain(stack):
        sidecar_path(path).unlink(missing_ok=True)
    else:
        commit_json(sidecar_path(path), _stack_values(stack))


def write_label(
    path: Path, label: Integer[np.ndarray, "slices rows columns"], stack: SliceStack, note: str = ""
) -> None:
    """Write a label map on the slices of its image, as uint8.

    Args:
        path: `.nii` or `.nii.gz`.
        label: Whole values.
        stack: The slices of the image.
        note: What the header says in its free text.

    Raises:
        DataError: another shape, or values other than 0 to 254.
        StorageError: as `core.commit.committed`.
    """
    if label.shape != stack.shape:
        raise DataError(
            f"label {label.shape} does not fit the slices {stack.shape}", where=path.name, code="GRID_MISMATCH"
        )
    if label.size and (label.min() < 0 or label.max() > MAX_LABEL):
        raise DataError(f"label values run from {label.min()} to {label.max()}", where=path.name, code="BAD_LABEL")
    write_nifti(path, label.astype(np.uint8), viewer_grid(stack).ijk_to_ras, note)


def stem(path: Path) -> str:
    """File name without `.nii` or `.nii.gz`."""
    return path.name.removesuffix(".gz").removesuffix(".nii")


def sidecar_path(path: Path) -> Path:
    """The file that says where uneven slices lie."""
    return path.with_name(f"{stem(path)}.slices.json")


def viewer_grid(stack: SliceStack) -> Grid:
    """The regular grid nearest to a stack: its first slice and the mean step. Exact for even slices."""
    affine = np.eye(4)
    affine[:3, 0], affine[:3, 1] = stack.column_step_ras_mm, stack.row_step_ras_mm
    if stack.shape[0] > 1:
        affine[:3, 2] = (stack.origins_ras_mm[-1] - stack.origins_ras_mm[0]) / (stack.shape[0] - 1)
    else:
        affine[:3, 2] = stack.normal_ras * stack.thickness_mm[0]
    affine[:3, 3] = stack.origins_ras_mm[0]
    return Grid(shape=stack.shape, ijk_to_ras=affine)


def is_plain(stack: SliceStack) -> bool:
    """Whether a NIfTI without sidecar states the stack: even steps, thickness equal to the distance."""
    plain = stack_from_grid(viewer_grid(stack))
    moved_mm = np.abs(plain.origins_ras_mm - stack.origins_ras_mm).max()
    thicker_mm = np.abs(plain.thickness_mm - stack.thickness_mm).max()
    return bool(max(moved_mm, thicker_mm) <= SIDECAR_TOLERANCE_MM)


def _as_hu(voxels: Shaped[np.ndarray, "slices rows columns"]) -> Shaped[np.ndarray, "slices rows columns"]:
    """Int16 where nothing is lost, else float32."""
    if voxels.dtype == np.int16:
        return voxels
    is_in_range = voxels.min() >= _INT16.min and voxels.max() <= _INT16.max
    if is_in_range and (voxels.dtype.kind in "iub" or np.array_equal(voxels, np.rint(voxels))):
        return voxels.astype(np.int16)
    return voxels.astype(np.float32)


def _storable(voxels: Shaped[np.ndarray, "depth height width"], where: str) -> Shaped[np.ndarray, "depth height width"]:
    if voxels.dtype == np.bool_:
        return voxels.astype(np.uint8)
    if voxels.dtype in _KEPT_TYPES and voxels.dtype.kind != "f":
        return voxels
    if voxels.dtype.kind in "iu" and abs(voxels).max() < 2**31:
        return voxels.astype(np.int32)
    if not np.all(np.isfinite(voxels)):
        raise DataError("holds voxels that are not finite", where=where, fix="nothing was written", code="NONFINITE")
    return voxels.astype(np.float32)


def _stack_values(stack: SliceStack) -> dict[str, Any]:
    return {
        "origins_ras_mm": stack.origins_ras_mm.tolist(),
        "column_step_ras_mm": stack.column_step_ras_mm.tolist(),
        "row_step_ras_mm": stack.row_step_ras_mm.tolist(),
        "thickness_mm": stack.thickness_mm.tolist(),
    }


def _read_stack(path: Path, grid: Grid, where: str) -> SliceStack:
    sidecar = sidecar_path(path)
    if not sidecar.exists():
        return stack_from_grid(grid)
    try:
        values = json.loads(sidecar.read_text(encoding="utf-8"))
        arrays = {
            key: np.array(values[key], dtype=np.float64)
            for key in ("origins_ras_mm", "column_step_ras_mm", "row_step_ras_mm", "thickness_mm")
        }
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            "the .slices.json file cannot be read", where=where, fix="write the scan anew", code="BAD_AFFINE"
        ) from error
    slices = grid.shape[0]
    shapes = {
        "origins_ras_mm": (slices, 3),
        "column_step_ras_mm": (3,),
        "row_step_ras_mm": (3,),
        "thickness_mm": (slices,),
    }
    for key, array in arrays.items():
        if array.shape != shapes[key] or not np.all(np.isfinite(array)):
            raise DataError(
                f"{key} in .slices.json does not fit {slices} slices",
                where=where,
                fix="write the scan anew",
                code="BAD_AFFINE",
            )
    if np.any(arrays["thickness_mm"] <= 0) or not np.any(
        np.cross(arrays["column_step_ras_mm"], arrays["row_step_ras_mm"])
    ):
        raise DataError(
            "the .slices.json file describes flat slices", where=where, fix="write the scan anew", code="BAD_AFFINE"
        )
    try:
        stack = SliceStack(shape=grid.shape, **arrays)
    except ValueError:
        raise DataError(
            "the slices are not sorted, or two share a position", where=where, fix="sort them", code="DUP_POS"
        ) from None
    if not grid.matches(viewer_grid(stack)):
        raise DataError(
            "the .slices.json file belongs to another image",
            where=where,
            fix="remove it or write the scan anew",
            code="GRID_MISMATCH",
        )
    return stack
