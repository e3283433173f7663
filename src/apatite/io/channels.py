"""One channel of images that have several, each written as a volume of its own that every other verb can read.

A scan here is one value per voxel. Of a file with several channels (the four sequences of a BraTS case) one is taken by
name, and never the first one in silence: `read_nifti` refuses such a file.
"""

import zlib
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
from jaxtyping import Float, Shaped
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError
from nibabel.wrapstruct import WrapStructError

from apatite.core.errors import ConfigError, DataError
from apatite.core.registry import nearest
from apatite.core.volume import Grid, Volume
from apatite.core.watch import Watch, unwatched
from apatite.io.manifest import Manifest, relative_path
from apatite.io.nifti import write_volume
from apatite.io.nifti_file import MAX_VOXELS, affine_of

UNREADABLE = (ImageFileError, HeaderDataError, WrapStructError, OSError, EOFError, ValueError, zlib.error)
"""What nibabel raises for a file that is no sound NIfTI."""


def channel_folder(manifest: Path, channel: str) -> Path:
    """Where the volumes of a channel lie, beside a manifest."""
    return manifest.with_name(f"{manifest.stem}.{channel.lower()}")


def with_channel(
    manifest: Manifest, channels: tuple[str, ...], channel: str, out: Path, watch: Watch = unwatched
) -> Manifest:
    """Write one channel of every case, and name that file as its image.

    Args:
        manifest: Cases whose images have `len(channels)` channels.
        channels: Their names, in the order of the files.
        channel: Which one.
        out: Where the manifest will lie; the volumes go to `channel_folder` beside it, as `<case_id>.nii.gz`.
        watch: Shows progress.

    Raises:
        ConfigError: no channel, or an unknown one, is named.
        DataError: an image does not have that many channels (`NOT_3D`), or cannot be read.
        StorageError: as `core.commit.committed`.
    """
    if channel not in channels:
        what = f"{channel!r} is no channel" if channel else "each image has several channels"
        hint = nearest(channel, list(channels)) if channel else f"choose one of {', '.join(channels)}"
        raise ConfigError(what, where="--channel", fix=hint)
    number, folder, cases = channels.index(channel), channel_folder(out, channel), []
    folder.mkdir(parents=True, exist_ok=True)
    for case in watch(manifest.cases, f"taking the channel {channel}"):
        volume = read_channel(manifest.image_path(case), number, len(channels), case.case_id)
        path = folder / f"{case.case_id}.nii.gz"
        write_volume(path, volume, f"channel {channel}")
        cases.append(replace(case, image=relative_path(path, manifest.root)))
    return replace(manifest, cases=tuple(cases))


def read_channel(path: Path, number: int, num_channels: int, where: str) -> Volume:
    """One channel of a NIfTI file with four axes, of which the last are the channels.

    Args:
        path: `.nii` or `.nii.gz`.
        number: Of the channel, from 0.
        num_channels: So many there must be.
        where: The case, for messages.

    Raises:
        DataError: the file is missing, damaged, no NIfTI, without orientation, or of another shape.
    """
    if not path.exists():
        raise DataError("the file does not exist", where=where, fix=f"check the path {path}", code="MISSING_FILE")
    try:
        image = nib.Nifti1Image.from_filename(path)
    except UNREADABLE as error:
        raise DataError("is not a NIfTI file", where=where, fix="copy it again", code="NOT_NIFTI") from error
    _check_header(image, num_channels, where)
    affine = affine_of(image.header, where)
    try:
        voxels = np.asanyarray(image.dataobj[..., number])
    except UNREADABLE as error:
        raise DataError(
            "ends before its last voxel, or is damaged", where=where, fix="copy it again", code="TRUNCATED"
        ) from error
    return _volume(voxels, affine)


def _check_header(image: nib.Nifti1Image, num_channels: int, where: str) -> None:
    """Refuse before anything is allocated."""
    shape, header = image.shape, image.header
    if len(shape) != 4 or shape[3] != num_channels or min(shape) < 1:
        raise DataError(
            f"has the shape {shape}, not three axes and {num_channels} channels",
            where=where,
            fix="take the file as it was distributed",
            code="NOT_3D",
        )
    if int(np.prod(shape[:3], dtype=np.int64)) > MAX_VOXELS:
        raise DataError(f"declares {shape} voxels", where=where, fix="crop it", code="TOO_LARGE")
    if header.get_data_dtype().kind not in "iuf":
        raise DataError("has voxels that are no plain numbers", where=where, code="SYNTAX_UNSUPPORTED")


def _volume(voxels: Shaped[np.ndarray, "width height depth"], affine: Float[np.ndarray, "4 4"]) -> Volume:
    turned = np.ascontiguousarray(voxels.T)
    depth, height, width = turned.shape
    return Volume(voxels=turned, grid=Grid(shape=(depth, height, width), ijk_to_ras=affine))
