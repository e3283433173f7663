"""How far a pose may be trusted: figures of the registered scan that do not enter the registration.

The scan is put on a grid of MNI space once. There the skull should lie on the template's, the sphenoid sinus should
hold air, and the head should mirror itself about x = 0.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Float32
from scipy import ndimage

from apatite.core.scan import PADDING_HU
from apatite.core.volume import Grid, Volume, axis_aligned_grid
from apatite.ct.boxes import Box
from apatite.ct.isotropic import Cubes
from apatite.ct.matching import windowed
from apatite.ct.pose import HeadPose
from apatite.ct.template import AIR_HU, BONE_HU, TISSUE_HU

JUDGED = axis_aligned_grid((91, 109, 91), (2.0, 2.0, 2.0), np.array([0.0, -18.0, 18.0]))
"""MNI152's own 2 mm grid; its first axis is symmetric about x = 0."""
SINUS_MNI_MM = (0.0, 12.0, -42.0)
SINUS_RADIUS_MM = 10.0
FARTHEST_MIDLINE = 10
"""Largest midline offset that is looked for, in mm."""
COVERED_SHARE = 0.5
"""A level of the template counts as covered when this share of its tissue was seen."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Registered:
    """A volume on `JUDGED`.

    Attributes:
        voxels_hu: `PADDING_HU` where nothing was seen.
        is_seen: True where something was.
    """

    voxels_hu: Float32[np.ndarray, "depth height width"]
    is_seen: Bool[np.ndarray, "depth height width"]


@dataclass(frozen=True, kw_only=True)
class Cover:
    """How much of the head a scan shows.

    Attributes:
        share: Of the template's levels.
        length_mm: Along the head's axis, in the patient.
        has_vertex: Whether the crown is in view.
    """

    share: float
    length_mm: float
    has_vertex: bool


def register(cubes: Cubes, pose: HeadPose) -> Registered:
    """Read a scan on `JUDGED`."""
    to_source = _between(JUDGED, cubes.volume.grid, pose)
    seen = ndimage.affine_transform(cubes.is_seen.astype(np.uint8), to_source, output_shape=JUDGED.shape, order=0)
    return Registered(voxels_hu=_read(cubes.volume.voxels, to_source), is_seen=seen > 0)


def on_judged(volume: Volume) -> Float32[np.ndarray, "depth height width"]:
    """A template on `JUDGED`; air beyond it."""
    to_source = _between(JUDGED, volume.grid, HeadPose(mni_to_ras=np.eye(4)))
    return _read(volume.voxels.astype(np.float32), to_source)


def _read(
    voxels: Float32[np.ndarray, "depth height width"], to_source: Float[np.ndarray, "4 4"]
) -> Float32[np.ndarray, "depth2 height2 width2"]:
    return np.asarray(ndimage.affine_transform(voxels, to_source, output_shape=JUDGED.shape, order=1, cval=PADDING_HU))


def _between(target: Grid, source: Grid, pose: HeadPose) -> Float[np.ndarray, "4 4"]:
    """From array index (k, j, i) of an MNI grid to that of a grid in the patient."""
    ijk_to_ijk = np.linalg.inv(source.ijk_to_ras) @ pose.mni_to_ras @ target.ijk_to_ras
    flip = np.eye(4)[[2, 1, 0, 3]]
    return flip @ ijk_to_ijk @ flip


def cover_of(registered: Registered, template_hu: Float32[np.ndarray, "depth height width"], pose: HeadPose) -> Cover:
    """How much of the template's head lies inside the scan."""
    is_tissue = template_hu > TISSUE_HU
    levels = is_tissue.sum(axis=(1, 2))
    is_level = levels > 0
    is_covered = (is_tissue & registered.is_seen).sum(axis=(1, 2)) >= COVERED_SHARE * np.maximum(levels, 1)
    is_covered &= is_level
    step_mm = float(np.linalg.norm(pose.mni_to_ras[:3, 2])) * JUDGED.spacing_mm[2]
    crown = np.flatnonzero(is_level)[-3:] if is_level.any() else np.zeros(0, dtype=int)
    return Cover(
        share=float(is_covered.sum() / max(int(is_level.sum()), 1)),
        length_mm=float(is_covered.sum()) * step_mm,
        has_vertex=bool(is_covered[crown].any()),
    )


def box_seen_share(registered: Registered, box: Box) -> float:
    """How much of a box the scan shows; where it shows little, its place is an extrapolation."""
    depth, height, width = JUDGED.shape
    low, high = np.rint(JUDGED.to_ijk(np.array([box.low_mni_mm, box.high_mni_mm]))).astype(int)
    low, high = np.clip(low, 0, None), np.minimum(high, [width - 1, height - 1, depth - 1])
    inside = registered.is_seen[low[2] : high[2] + 1, low[1] : high[1] + 1, low[0] : high[0] + 1]
    return float(np.mean(inside))


def bone_overlap(registered: Registered, template_hu: Float32[np.ndarray, "depth height width"]) -> float:
    """Dice of bone above 300 HU with the template's, where the scan shows anything."""
    ours = registered.is_seen & (registered.voxels_hu > BONE_HU)
    theirs = registered.is_seen & (template_hu > BONE_HU)
    return float(2 * (ours & theirs).sum() / max(int(ours.sum() + theirs.sum()), 1))


def sinus_air_share(registered: Registered) -> float:
    """Share of air in a ball where the sphenoid sinus is; -1 where the scan does not show all of it."""
    depth, height, width = JUDGED.shape
    k, j, i = np.meshgrid(np.arange(depth), np.arange(height), np.arange(width), indexing="ij", sparse=True)
    middle_i, middle_j, middle_k = JUDGED.to_ijk(np.array(SINUS_MNI_MM))
    radius = SINUS_RADIUS_MM / JUDGED.spacing_mm[0]
    is_ball = (i - middle_i) ** 2 + (j - middle_j) ** 2 + (k - middle_k) ** 2 <= radius**2
    if not registered.is_seen[is_ball].all():
        return -1.0
    return float(np.mean(registered.voxels_hu[is_ball] < AIR_HU))


def mirror_symmetry(registered: Registered) -> tuple[float, float]:
    """Correlation of the scan with its mirror image about x = 0, and by how many mm the best mirror plane lies off."""
    values, is_seen = windowed(registered.voxels_hu), registered.is_seen
    # The plane at d mm mirrors voxel i to (width - 1) - i + d, since a voxel is 2 mm.
    offsets = range(-FARTHEST_MIDLINE, FARTHEST_MIDLINE + 1)
    scores = np.array([_mirrored(values, is_seen, offset) for offset in offsets])
    best = int(scores.argmax())
    offset = float(best - FARTHEST_MIDLINE)
    if 0 < best < len(scores) - 1:
        below, at, above = scores[best - 1 : best + 2]
        offset += float((above - below) / max(2 * (2 * at - above - below), 1e-9))
    return float(scores[FARTHEST_MIDLINE]), offset


def _mirrored(values: np.ndarray, is_seen: np.ndarray, offset: int) -> float:
    width = values.shape[2]
    here = slice(max(0, offset), width + min(0, offset))
    there = slice(max(0, -offset), width + min(0, -offset))
    mirrored, mirrored_seen = values[:, :, ::-1], is_seen[:, :, ::-1]
    both = is_seen[:, :, here] & mirrored_seen[:, :, there]
    if both.sum() < 100:
        return 0.0
    a, b = values[:, :, here][both], mirrored[:, :, there][both]
    return float(np.corrcoef(a, b)[0, 1]) if a.std() > 0 and b.std() > 0 else 0.0
