"""nnU-Net's probabilities of one case: a `.npz` beside a label map of the same grid.

Without the `.npz`, the label map stands in with probabilities of 0 and 1.

Source: nnunetv2 2.8.1, `export_prediction_from_logits`: key `probabilities`, classes × z y x, background first.
"""

import lzma
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float32

from apatite.core.errors import DataError
from apatite.core.volume import Grid
from apatite.io.nifti import read_volume

_UNREADABLE = (
    OSError, ValueError, KeyError, EOFError, RuntimeError, zipfile.BadZipFile, zipfile.LargeZipFile, zlib.error,
    lzma.LZMAError,
)  # fmt: skip
"""What a damaged or hostile archive raises; encrypted ones RuntimeError, unknown methods its NotImplementedError."""


@dataclass(frozen=True, kw_only=True, eq=False)
class OnGrid:
    """Probabilities on nnU-Net's own grid.

    Attributes:
        planes: One per label, without the background.
        grid: Where the voxels lie.
    """

    planes: Float32[np.ndarray, "labels depth height width"]
    grid: Grid


def case_of(label_map: Path) -> str:
    """The case of a label map, from its name."""
    return label_map.name.removesuffix(".gz").removesuffix(".nii")


def read_probabilities(label_map: Path, num_labels: int, case_id: str) -> OnGrid:
    """The probability of each label but the background, on the grid of the label map.

    Args:
        label_map: nnU-Net's label map; its `.npz` is looked for beside it.
        num_labels: Without the background.
        case_id: For messages.

    Raises:
        DataError: the files are damaged (`TRUNCATED`), of another shape (`GRID_MISMATCH`), or hold no probabilities
            or labels (`BAD_LABEL`).
    """
    volume = read_volume(label_map, case_id)
    archive = label_map.with_name(f"{case_of(label_map)}.npz")
    if archive.exists():
        classes = _read_npz(archive, (num_labels + 1, *volume.grid.shape), case_id)
        _refuse_disagreement(classes, volume.voxels, archive.name, case_id)
        return OnGrid(planes=classes[1:], grid=volume.grid)
    values = volume.voxels
    if values.min() < 0 or values.max() > num_labels or np.any(values != np.floor(values)):
        raise DataError(
            f"its label map holds values from {values.min()} to {values.max()}, not 0 to {num_labels}",
            where=case_id,
            fix="give results of the same labels",
            code="BAD_LABEL",
        )
    planes = np.stack([values == label for label in range(1, num_labels + 1)])
    return OnGrid(planes=planes.astype(np.float32), grid=volume.grid)


def _read_npz(path: Path, expected: tuple[int, ...], case_id: str) -> Float32[np.ndarray, "classes depth height width"]:
    """Probabilities of all classes; the header is checked before anything of that size is allocated."""
    try:
        with zipfile.ZipFile(path) as archive:
            with archive.open("probabilities.npy") as member:
                version = np.lib.format.read_magic(member)
                read_header = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
                shape, _, dtype = read_header[version](member)
            found = None
            if shape == expected and dtype.kind == "f":
                # The very member whose header was read: `np.load` would prefer one called `probabilities`.
                with archive.open("probabilities.npy") as member:
                    found = np.lib.format.read_array(member, allow_pickle=False)
    except _UNREADABLE as error:
        raise DataError(
            f"{path.name} cannot be read", where=case_id, fix="predict that case anew", code="TRUNCATED"
        ) from error
    if found is None:
        raise DataError(
            f"{path.name} holds {dtype} of the shape {shape}, not probabilities of the shape {expected}",
            where=case_id,
            fix="give results of the same labels, with the label maps that belong to them",
            code="GRID_MISMATCH",
        )
    # Also false where one is not a number.
    if not (found.min() >= -1e-3 and found.max() <= 1 + 1e-3):
        raise DataError(
            f"{path.name} holds numbers that are no probabilities",
            where=case_id,
            fix="predict that case anew",
            code="BAD_LABEL",
        )
    return np.clip(found.astype(np.float32), 0.0, 1.0)


def _refuse_disagreement(
    classes: Float32[np.ndarray, "classes depth height width"], label: np.ndarray, name: str, case_id: str
) -> None:
    """Where a voxel has a label, that class is the likeliest; post-processing only takes labels away.

    A reader that turns images round (`NibabelIOWithReorient`) turns its label maps back, and leaves the `.npz` turned.
    """
    is_labelled = label > 0
    agree = int((classes.argmax(axis=0) == label)[is_labelled].sum())
    if agree < 0.9 * is_labelled.sum():
        raise DataError(
            f"{name} is not of its label map: they agree in {agree} of {int(is_labelled.sum())} labelled voxels",
            where=case_id,
            fix="predict with the reader SimpleITKIO, or take the .npz away and keep the label maps",
            code="GRID_MISMATCH",
        )
