"""Whether a region looks unlike those that a method knows: a few named numbers, each against a reference.

A network says something about any input. Five numbers of the region tell when it is not the kind of input that it was
made for: another body part, contrast agent, another unit than HU, noise or slices beyond all it has seen. They say
nothing about rarer anatomy.

    z = (number - median) / (1.4826 * median absolute deviation)          over the reference scans
    unusual: the largest |z| of a scan is above that of 99 % of the reference scans, and above 4
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np

from apatite.core.commit import commit_json
from apatite.core.errors import DataError
from apatite.core.scan import Scan
from apatite.ct.boxes import Box
from apatite.ct.cover import is_inside_box
from apatite.ct.near import near
from apatite.ct.pose import HeadPose
from apatite.io.strict_json import parse_json

QUANTILE = 0.99
LEAST_LIMIT = 4.0
"""With few reference scans the 99th percentile says little; below this nothing is unusual."""
LEAST_CASES = 20
SOFT_HU = (-20.0, 100.0)
BONE_HU = 300.0
AIR_HU = -200.0
_LEAST_SPREAD = 1e-3
_FORMAT = 1


@dataclass(frozen=True, kw_only=True)
class Features:
    """What is compared; `nan` where the region holds too little of it.

    Attributes:
        soft_hu: Median of the soft tissue.
        log_noise_hu: Logarithm of the noise in it, from differences of neighbouring pixels.
        air_share: Of the box, below -200 HU.
        bone_share: Of the box, from 300 HU on.
        log_slice_mm: Logarithm of the median slice thickness.
    """

    soft_hu: float
    log_noise_hu: float
    air_share: float
    bone_share: float
    log_slice_mm: float


NAMES = tuple(field.name for field in fields(Features))


@dataclass(frozen=True, kw_only=True)
class Reference:
    """What is usual.

    Attributes:
        median: Of each feature.
        spread: Of each feature: 1.4826 times the median absolute deviation.
        limit: A largest |z| above this is unusual.
        num_cases: Reference scans.
    """

    median: Mapping[str, float]
    spread: Mapping[str, float]
    limit: float
    num_cases: int

    def unusual(self, features: Features) -> dict[str, float]:
        """The z of every feature beyond the limit, largest first; a feature that is not a number is infinitely far."""
        far = {name: z for name, z in self._z(features).items() if abs(z) > self.limit}
        return dict(sorted(far.items(), key=lambda item: -abs(item[1])))

    def _z(self, features: Features) -> dict[str, float]:
        values = asdict(features)
        return {
            name: (values[name] - self.median[name]) / self.spread[name] if math.isfinite(values[name]) else math.inf
            for name in NAMES
        }


def region_features(scan: Scan, pose: HeadPose, box: Box) -> Features:
    """The numbers of a box.

    Args:
        scan: Original slices.
        pose: How the head lies.
        box: The artery's box; padding does not count.
    """
    window = near(scan.stack, pose.to_ras(box.corners_mni_mm))
    is_counted = is_inside_box(scan.stack, pose, box)[window]
    if scan.is_padding is not None:
        is_counted &= ~scan.is_padding[window]
    voxels = scan.voxels_hu[window].astype(np.float32)
    inside = voxels[is_counted]
    is_soft = is_counted & (voxels >= SOFT_HU[0]) & (voxels < SOFT_HU[1])
    step_hu = np.abs(np.diff(voxels, axis=2))[is_soft[:, :, 1:] & is_soft[:, :, :-1]]
    # The difference of two pixels has twice the variance of one.
    noise_hu = 1.4826 * float(np.median(step_hu)) / math.sqrt(2) if step_hu.size else math.nan
    return Features(
        soft_hu=float(np.median(voxels[is_soft])) if is_soft.any() else math.nan,
        log_noise_hu=math.log(max(noise_hu, 0.1)),
        air_share=float(np.mean(inside < AIR_HU)) if inside.size else math.nan,
        bone_share=float(np.mean(inside >= BONE_HU)) if inside.size else math.nan,
        log_slice_mm=math.log(float(np.median(scan.stack.thickness_mm))),
    )


def fit_reference(rows: Sequence[Features]) -> Reference:
    """What is usual among scans that a person has looked at.

    Raises:
        DataError: fewer than 20 scans, or one whose region holds no soft tissue.
    """
    values = np.array([[getattr(row, name) for name in NAMES] for row in rows]).reshape(-1, len(NAMES))
    usable = int(np.isfinite(values).all(axis=1).sum())
    if usable < max(LEAST_CASES, len(rows)):
        raise DataError(
            f"{usable} of {len(rows)} scans have soft tissue in the region, which makes no reference",
            fix=f"use at least {LEAST_CASES} scans that were looked at",
        )
    median = np.median(values, axis=0)
    spread = np.maximum(1.4826 * np.median(np.abs(values - median), axis=0), _LEAST_SPREAD)
    largest = np.abs((values - median) / spread).max(axis=1)
    return Reference(
        median=dict(zip(NAMES, median.tolist(), strict=True)),
        spread=dict(zip(NAMES, spread.tolist(), strict=True)),
        limit=max(float(np.quantile(largest, QUANTILE)), LEAST_LIMIT),
        num_cases=len(rows),
    )


def write_reference(path: Path, reference: Reference) -> None:
    """Write a reference as JSON, whole or not at all."""
    content = {"format": _FORMAT, "quantile": QUANTILE, "limit": reference.limit, "num_cases": reference.num_cases}
    commit_json(path, {**content, "median": dict(reference.median), "spread": dict(reference.spread)})


def read_reference(path: Path) -> Reference:
    """Read a reference.

    Raises:
        DataError: the file is no reference, or one of another version.
    """
    try:
        content = parse_json(path.read_bytes())
        if content["format"] != _FORMAT:
            raise ValueError("format")
        median, spread = ({name: float(content[key][name]) for name in NAMES} for key in ("median", "spread"))
        limit, num_cases = float(content["limit"]), int(content["num_cases"])
        numbers = [*median.values(), *spread.values(), limit]
        if not all(math.isfinite(number) for number in numbers) or min([*spread.values(), limit]) <= 0:
            raise ValueError("number")
    except (OSError, ValueError, KeyError, TypeError):
        raise DataError(
            "is no reference of usual scans", where=str(path), fix="write it again with this version"
        ) from None
    return Reference(median=median, spread=spread, limit=limit, num_cases=num_cases)
