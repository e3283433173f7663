"""Which cubes of a scan are the patient's head, and which the table, a headrest or the shoulders.

The largest body of tissue; what hangs on it by less than one cube (a cushion, a wire) falls off. Of a longer scan only
the upper part counts, by the length of a head.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from scipy import ndimage

from apatite.ct.isotropic import Cubes
from apatite.ct.template import BONE_HU, TISSUE_HU

HEAD_MM = 230.0
"""From the crown to below the chin."""
LEAST_TISSUE_LITRES = 0.15
LEAST_BONE_LITRES = 0.01
"""Fewer is no part of a head that could be placed; ten slices of a skull base have ten times as much."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Subject:
    """The head within the cubes.

    Attributes:
        is_tissue: True for the head's own tissue, air inside it excluded.
        centre_ras_mm: Its centre of mass, from the weight (HU + 200) where positive.
        tissue_litres, bone_litres: How much there is.
    """

    is_tissue: Bool[np.ndarray, "depth height width"]
    centre_ras_mm: Float[np.ndarray, "3"]
    tissue_litres: float
    bone_litres: float

    @property
    def is_enough(self) -> bool:
        """Whether there is anything to register."""
        return self.tissue_litres >= LEAST_TISSUE_LITRES and self.bone_litres >= LEAST_BONE_LITRES


def find_subject(cubes: Cubes) -> Subject:
    """Find the head in cubes of about 4 mm."""
    voxels, grid = cubes.volume.voxels, cubes.volume.grid
    is_tissue = _largest(ndimage.binary_opening(voxels > TISSUE_HU)) & (voxels > TISSUE_HU)
    levels = np.flatnonzero(is_tissue.any(axis=(1, 2)))
    if len(levels):
        is_tissue[: max(0, levels[-1] + 1 - round(HEAD_MM / cubes.step_mm))] = False
    weight = np.where(is_tissue, np.maximum(voxels + 200, 0), 0).astype(np.float64)
    total = weight.sum()
    centre_kji = [float(np.sum(weight, axis=others) @ np.arange(n)) / max(total, 1.0) for n, others in _axes(weight)]
    litres = grid.voxel_mm3 * 1e-6
    return Subject(
        is_tissue=is_tissue,
        centre_ras_mm=grid.to_ras(np.array(centre_kji[::-1])),
        tissue_litres=float(is_tissue.sum()) * litres,
        bone_litres=float((is_tissue & (voxels > BONE_HU)).sum()) * litres,
    )


def _axes(voxels: np.ndarray) -> list[tuple[int, tuple[int, ...]]]:
    """Each axis' length, and the other axes."""
    return [(voxels.shape[axis], tuple(a for a in range(3) if a != axis)) for axis in range(3)]


def _largest(is_part: Bool[np.ndarray, "depth height width"]) -> Bool[np.ndarray, "depth height width"]:
    """The largest connected part, one cube wider, as the opening had made it narrower."""
    if not is_part.any():
        return is_part
    labels = np.empty(is_part.shape, dtype=np.int32)
    ndimage.label(is_part, output=labels)
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    return ndimage.binary_dilation(labels == int(sizes.argmax()))
