"""All that is reported of the calcium of one scan, per side and in total, as plain numbers.

Every number comes from original slices with their own weights; nothing was resampled. Milligrams are never given: they
need a phantom in the scan. A number that does not exist, such as the largest HU of no calcium, is `None`.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jaxtyping import Integer, UInt8

from apatite.calcium.lesions import IsMarked, label_lesions, lesion_volumes_mm3
from apatite.calcium.measure import slice_weights_mm, volume_mm3
from apatite.calcium.partial import RING_MM, calcium_fraction
from apatite.calcium.rule import RULES, count_calcium
from apatite.calcium.score import agatston_score, is_standard_agatston
from apatite.core.errors import DataError
from apatite.core.registry import choose
from apatite.core.scan import Scan

RIGHT, LEFT = 1, 2
"""Values of a map of sides; 0 is no side."""

Sides = UInt8[np.ndarray, "slices rows columns"]


@dataclass(frozen=True, kw_only=True)
class Calcium:
    """The calcium of one side, or of both.

    Attributes:
        volume_mm3: Of the pixels that the rule counts.
        num_lesions: 26-connected. A lesion that reaches over the midline is one in the total and one on either side.
        largest_lesion_mm3: Volume of the largest of them; 0 without any.
        max_hu: Largest HU; `None` without calcium.
        mean_hu: Mean over the volume, so slices count by their weight; `None` without calcium.
        partial_volume_mm3: Volume with half-filled pixels counted as half (`partial.calcium_fraction`).
        num_without_background: Lesions for which that could not be estimated; they count in full.
        agatston: Agatston score, by its own rule.
        density_volume_hu_mm3: HU times volume, summed; what a mass would be, before any calibration.
    """

    volume_mm3: float
    num_lesions: int
    largest_lesion_mm3: float
    max_hu: float | None
    mean_hu: float | None
    partial_volume_mm3: float
    num_without_background: int
    agatston: float
    density_volume_hu_mm3: float


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """What was measured in one scan, and how.

    Attributes:
        total: All calcium, on either side and in between.
        right, left: Of the patient; `None` where sides were not told apart.
        no_side_mm3: Volume in `total` that belongs to neither side; 0 where sides were not told apart.
        rule: Name in `rule.RULES` of what was counted.
        agatston_standard: Whether the score compares with published ones (slices 2.5 to 3.5 mm apart, 120 kVp).
        kvp: Tube voltage; `None` where unknown.
    """

    total: Calcium
    right: Calcium | None
    left: Calcium | None
    no_side_mm3: float
    rule: str
    agatston_standard: bool
    kvp: float | None

    def to_dict(self) -> dict[str, Any]:
        """Plain values, safe for JSON; not rounded."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Measurement":
        """Inverse of `to_dict`."""
        parts = {name: None if values[name] is None else Calcium(**values[name]) for name in ("total", "right", "left")}
        return cls(**{**values, **parts})


def measure(
    scan: Scan, is_calcium: IsMarked, sides: Sides | None = None, kvp: float | None = None, rule: str = "paper"
) -> Measurement:
    """Measure the calcium of a scan on its original slices.

    Args:
        scan: Original slices; padding never counts.
        is_calcium: True where calcium is marked: circles, an annotation, or a prediction.
        sides: 1 on the patient's right, 2 on the left, 0 on neither; `None` where that is not known.
        kvp: Tube voltage, where it is known.
        rule: Which of the marked pixels count, by name from `rule.RULES`.

    Raises:
        ConfigError: an unknown rule.
        DataError: a marked voxel is not finite (`NONFINITE`), or a side is none of 0, 1, 2 (`BAD_LABEL`).
        ValueError: the pixels do not fit the slices.
    """
    chosen = choose(RULES, rule, "rule")
    if is_calcium.shape != scan.stack.shape or (sides is not None and sides.shape != scan.stack.shape):
        raise ValueError(f"marked pixels {is_calcium.shape} or their sides do not fit the slices {scan.stack.shape}")
    standard = is_standard_agatston(scan.stack, kvp)
    whole = scan
    scan, place = _around(whole, is_calcium)
    is_marked = is_calcium[place]
    side = None if sides is None else sides[place]
    if side is not None and side[is_marked].max(initial=0) > LEFT:
        raise DataError("a side is neither 0, 1 nor 2", fix="give 1 for right and 2 for left", code="BAD_LABEL")
    # The rule sees all sides at once: what touches across the midline is no single voxel.
    is_counted = count_calcium(scan, is_marked, chosen)
    return Measurement(
        total=_calcium(scan, is_counted, is_marked),
        right=None if side is None else _calcium(scan, is_counted & (side == RIGHT), is_marked & (side == RIGHT)),
        left=None if side is None else _calcium(scan, is_counted & (side == LEFT), is_marked & (side == LEFT)),
        no_side_mm3=0.0 if side is None else volume_mm3(is_counted & (side == 0), scan.stack),
        rule=rule,
        agatston_standard=standard,
        kvp=None if kvp is None else float(kvp),
    )


def _calcium(scan: Scan, is_counted: IsMarked, is_marked: IsMarked) -> Calcium:
    """Everything of one set of pixels; `is_marked` is what the score's own rule starts from."""
    numbers, count = label_lesions(is_counted)
    fractions = calcium_fraction(scan, is_counted)
    volume = volume_mm3(is_counted, scan.stack)
    values_hu = scan.voxels_hu[is_counted].astype(np.float64)
    slice_mm3 = slice_weights_mm(scan.stack) * scan.stack.pixel_mm2
    density = float(np.sum(values_hu * slice_mm3[np.nonzero(is_counted)[0]]))
    return Calcium(
        volume_mm3=volume,
        num_lesions=count,
        largest_lesion_mm3=float(lesion_volumes_mm3(numbers, count, scan.stack).max(initial=0.0)),
        max_hu=float(values_hu.max()) if count else None,
        mean_hu=density / volume if count else None,
        partial_volume_mm3=volume_mm3(fractions.fraction, scan.stack),
        num_without_background=fractions.num_without_background,
        agatston=agatston_score(scan, is_marked),
        density_volume_hu_mm3=density,
    )


def _around(scan: Scan, is_marked: IsMarked) -> tuple[Scan, tuple[slice, slice, slice]]:
    """The rows and columns that hold everything marked and its surroundings; all slices, so that weights stay."""
    stack = scan.stack
    offset = stack.origins_ras_mm - stack.origins_ras_mm[0]
    along = np.outer(offset @ stack.normal_ras, stack.normal_ras)
    # A tilted gantry moves the shadow of a lesion by as much as neighbouring slices are shifted.
    reach_mm = 2 * RING_MM[1] + float(np.linalg.norm(np.diff(offset - along, axis=0), axis=1).max(initial=0.0))
    rows = _edge(np.flatnonzero(is_marked.any(axis=(0, 2))), stack.shape[1], int(reach_mm / stack.row_spacing_mm) + 2)
    columns = _edge(
        np.flatnonzero(is_marked.any(axis=(0, 1))), stack.shape[2], int(reach_mm / stack.column_spacing_mm) + 2
    )
    place = (slice(0, stack.shape[0]), rows, columns)
    is_padding = None if scan.is_padding is None else scan.is_padding[place]
    return Scan(voxels_hu=scan.voxels_hu[place], stack=stack.part(place), is_padding=is_padding), place


def _edge(found: Integer[np.ndarray, "marked"], length: int, margin: int) -> slice:
    """From the first to the last marked row or column with a margin; one row where nothing is marked."""
    if not found.size:
        return slice(0, 1)
    return slice(max(int(found[0]) - margin, 0), min(int(found[-1]) + 1 + margin, length))
