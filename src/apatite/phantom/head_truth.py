"""What is true of a scanned head: where MNI lies in it, how much calcium it holds, and which pixels show that.

The volumes are analytic; the pixels are those of a reader who knows which brightness comes from plaques.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Float32

from apatite.core.scan import Scan, SliceStack
from apatite.ct.pose import HeadPose
from apatite.phantom.density import ARTERY, BONY, EXCESS
from apatite.phantom.head import ORIGIN_MNI_MM, Head
from apatite.phantom.protocol import Protocol
from apatite.phantom.reader import read_perfectly
from apatite.phantom.scanner import Acquisition, Pose, artefact_frame, gaussian_weights, point_spread, sampled_tissue
from apatite.phantom.siphon import SIDES

Place = tuple[float, float, float]
_ROUND_MM = 8.0


@dataclass(frozen=True, kw_only=True, eq=False)
class HeadTruth:
    """The truth of one scan.

    Attributes:
        pose: From MNI to the patient.
        calcium_mm3: Analytic volume by side ("right", "left").
        centroid_ras_mm: Of the calcium by side; `None` for a side without.
        plaques: Per plaque: side, pattern, density (HU), analytic volume (mm³), centroid (RAS mm).
        is_calcium: The rule of 130 HU on the plaques as they look.
        is_right: The part of it on the patient's right.
    """

    pose: HeadPose
    calcium_mm3: dict[str, float]
    centroid_ras_mm: dict[str, Place | None]
    plaques: tuple[dict[str, Any], ...]
    is_calcium: Bool[np.ndarray, "slices rows columns"]
    is_right: Bool[np.ndarray, "slices rows columns"]


def mni_to_ras(head: Head, pose: Pose) -> HeadPose:
    """The true map from MNI to the patient of a head that lies in a pose."""
    affine = np.eye(4)
    affine[:3, :3] = pose.turn * head.scale
    affine[:3, 3] = pose.shift_mm - affine[:3, :3] @ ORIGIN_MNI_MM
    return HeadPose(mni_to_ras=affine)


def kernel_weights(
    head: Head, protocol: Protocol
) -> tuple[Float32[np.ndarray, "taps"], Float32[np.ndarray, "wide_taps"]]:
    """In-plane weights of the kernel and of its sharpening, less what the fine grid has blurred already."""
    variance = max((protocol.fwhm_mm / 2.3548) ** 2 - head.tissue.step_mm**2 / 4, 1e-4)
    return (
        gaussian_weights(math.sqrt(variance), protocol.pixel_mm),
        gaussian_weights(math.sqrt(variance + 0.36), protocol.pixel_mm),
    )


def head_truth(head: Head, pose: Pose, protocol: Protocol, scan: Scan) -> HeadTruth:
    """The truth of a finished scan.

    Args:
        head: Who was scanned.
        pose: Where the head lay.
        protocol: With which kernel.
        scan: What came out.
    """
    is_calcium, is_right = _read(head, pose, protocol, scan)
    volumes, centroids, plaques = {}, {}, []
    for side, pieces in zip(SIDES, head.patient.calcium, strict=True):
        volumes[side] = float(pieces.volume_mm3.sum())
        centroids[side] = _centroid(pose, pieces.points_mm, pieces.volume_mm3)
        for plaque in (p for p in head.patient.anatomy.plaques if p.side == side):
            own = pieces.plaque == plaque.number
            plaques.append(
                {
                    "side": side,
                    "pattern": plaque.pattern,
                    "density_hu": plaque.density_hu,
                    "volume_mm3": float(pieces.volume_mm3[own].sum()),
                    "centroid_ras_mm": _centroid(pose, pieces.points_mm[own], pieces.volume_mm3[own]),
                }
            )
    return HeadTruth(
        pose=mni_to_ras(head, pose),
        calcium_mm3=volumes,
        centroid_ras_mm=centroids,
        plaques=tuple(plaques),
        is_calcium=is_calcium,
        is_right=is_right,
    )


def _read(
    head: Head, pose: Pose, protocol: Protocol, scan: Scan
) -> tuple[Bool[np.ndarray, "slices rows columns"], Bool[np.ndarray, "slices rows columns"]]:
    """Calcium as a perfect reader marks it, and the part of it on the right."""
    is_calcium, is_right = np.zeros(scan.stack.shape, dtype=bool), np.zeros(scan.stack.shape, dtype=bool)
    box = _box_of_arteries(head, pose, scan.stack)
    if box is None:
        return is_calcium, is_right
    part = scan.stack.part(box)
    ideal = sampled_tissue(head.tissue, pose, part, part.origins_ras_mm)
    point, wide = kernel_weights(head, protocol)
    seen = Acquisition(
        scan=Scan(voxels_hu=np.ascontiguousarray(scan.voxels_hu[box]), stack=part),
        excess_hu=point_spread(ideal[EXCESS], point, wide, protocol.overshoot),
        artery=ideal[ARTERY],
        artery_seen=point_spread(ideal[ARTERY], point, wide, 0.0),
        bone=ideal[BONY],
    )
    is_calcium[box] = read_perfectly(seen)
    frame = artefact_frame(pose, part)
    rows, columns = np.arange(part.shape[1])[:, None], np.arange(part.shape[2])[None, :]
    x_mm = frame[:, 0, None, None] + rows * frame[0, 3] + columns * frame[0, 6]
    is_right[box] = is_calcium[box] & (x_mm > 0)
    return is_calcium, is_right


def _box_of_arteries(head: Head, pose: Pose, stack: SliceStack) -> tuple[slice, slice, slice] | None:
    """The box of pixels round both arteries; `None` where no slice shows them."""
    points = pose.to_ras(np.concatenate([artery.points_mm for artery in head.patient.anatomy.arteries]))
    index = stack.to_slice_row_column(points)
    margin = np.array([2.0, _ROUND_MM / stack.row_spacing_mm, _ROUND_MM / stack.column_spacing_mm])
    low = np.maximum(np.floor(index.min(axis=0) - margin), 0).astype(int)
    high = np.minimum(np.ceil(index.max(axis=0) + margin) + 1, stack.shape).astype(int)
    if np.any(high - low < 1):
        return None
    return slice(int(low[0]), int(high[0])), slice(int(low[1]), int(high[1])), slice(int(low[2]), int(high[2]))


def _centroid(
    pose: Pose, points_mm: Float[np.ndarray, "pieces 3"], volume_mm3: Float[np.ndarray, "pieces"]
) -> Place | None:
    """Of some pieces, in the patient; `None` where there are none."""
    total = float(volume_mm3.sum())
    if total == 0:
        return None
    x, y, z = pose.to_ras((points_mm * volume_mm3[:, None]).sum(axis=0, keepdims=True) / total)[0].tolist()
    return x, y, z
