"""Files that state two voxel sizes: where it is known which one is right, they are written anew with that one.

A NIfTI states its voxel sizes twice, in `pixdim` (with the qform) and in the sform, which is authoritative here as in
the standard. The files of ACDC have sforms of 1 mm whatever the scanner's voxels were (issue 2741 of nnU-Net's
repository shows 1×1×1 mm beside 1.3×1.3×10 mm); read by them, a heart would be a tenth as long as it is.
"""

from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
from jaxtyping import Float

from apatite.core.errors import DataError
from apatite.core.volume import Grid, Volume
from apatite.core.watch import Watch, unwatched
from apatite.io.channels import UNREADABLE
from apatite.io.manifest import Manifest, relative_path
from apatite.io.nifti import write_volume
from apatite.io.nifti_file import EDGE_RANGE_MM, read_nifti

TOLERANCE = 0.01
"""Sizes that differ by less than this share are rounded, not contradictory."""


def sizes_folder(manifest: Path) -> Path:
    """Where files that were written anew lie, beside a manifest."""
    return manifest.with_name(f"{manifest.stem}.sizes")


def with_pixdim_sizes(manifest: Manifest, out: Path, watch: Watch = unwatched) -> tuple[Manifest, int]:
    """Write images and label maps anew whose sform contradicts their `pixdim`, with the sizes of `pixdim`.

    Args:
        manifest: Cases of which it is known that `pixdim` is right.
        out: Where the manifest will lie; the files go to `sizes_folder` beside it.
        watch: Shows progress.

    Returns:
        The manifest, naming the new files; and how many there are. Files that cannot be read are left for the
        survey, which reads them all and names those.

    Raises:
        StorageError: as `core.commit.committed`.
    """
    cases, count, folder = [], 0, sizes_folder(out)
    for case in watch(manifest.cases, "looking at voxel sizes"):
        changes: dict[str, str] = {}
        for column, path in (("image", manifest.image_path(case)), ("label", manifest.label_path(case))):
            volume = None if path is None else _mended(path)
            if volume is not None:
                target = folder / f"{case.case_id}_{column}.nii.gz"
                folder.mkdir(parents=True, exist_ok=True)
                write_volume(target, volume, "voxel sizes of pixdim")
                changes[column] = relative_path(target, manifest.root)
        count += len(changes)
        cases.append(replace(case, **changes))
    return replace(manifest, cases=tuple(cases)), count


def pixdim_affine(path: Path) -> Float[np.ndarray, "4 4"] | None:
    """The affine of a file by its `pixdim`, where its sform says otherwise; `None` where there is nothing to mend.

    The qform is taken where there is one, else the sform's directions with the sizes of `pixdim`.
    """
    try:
        header = nib.Nifti1Image.from_filename(path).header
    except UNREADABLE:
        return None
    if int(header["sform_code"]) <= 0 or int(header["dim"][0]) < 3:
        return None
    sform = np.asarray(header.get_sform(), dtype=np.float64)
    stated_mm = np.asarray(header["pixdim"][1:4], dtype=np.float64)
    edges_mm = np.linalg.norm(sform[:3, :3], axis=0)
    is_size = np.all((stated_mm >= EDGE_RANGE_MM[0]) & (stated_mm <= EDGE_RANGE_MM[1]) & (edges_mm > 0))
    if not is_size or np.all(np.abs(edges_mm - stated_mm) <= TOLERANCE * stated_mm):
        return None
    qform = _sound_qform(header)
    if qform is not None:
        return qform
    affine = sform.copy()
    affine[:3, :3] *= stated_mm / edges_mm
    return affine


def _sound_qform(header: nib.Nifti1Header) -> Float[np.ndarray, "4 4"] | None:
    """The qform where there is one whose numbers are a rotation."""
    if int(header["qform_code"]) <= 0:
        return None
    try:
        qform = np.asarray(header.get_qform(), dtype=np.float64)
    except ValueError:  # a quaternion longer than 1
        return None
    return qform if np.isfinite(qform).all() else None


def _mended(path: Path) -> Volume | None:
    """The voxels of a file at the affine of its `pixdim`; `None` where that is no other, or it cannot be read."""
    affine = pixdim_affine(path)
    if affine is None:
        return None
    try:
        voxels = read_nifti(path, path.name).voxels
    except DataError:
        return None
    return Volume(voxels=voxels, grid=Grid(shape=voxels.shape, ijk_to_ras=affine))
