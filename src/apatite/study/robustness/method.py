"""How far degrading a scan is from scanning the patient again: the method checks itself, on phantoms.

Both are made on the same slices. The perfect reader reads both; the reference made from the annotation is compared with
what the perfect reader marks on the very same degraded scan.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool

from apatite.calcium.measure import volume_mm3
from apatite.core.scan import Scan
from apatite.core.volume import Estimate
from apatite.ct.degrade.degradation import Degradation, degrade
from apatite.ct.degrade.registry import DEGRADATIONS
from apatite.metrics.bootstrap import mean
from apatite.metrics.overlap import overlap
from apatite.phantom.reader import read_perfectly
from apatite.phantom.scanner import Acquisition
from apatite.study.intervals import IntervalConfig, interval
from apatite.study.robustness.original import Original
from apatite.study.robustness.reference import calcium_reference
from apatite.study.robustness.rescan import scan_again
from apatite.study.robustness.rows import MethodRow

CALCIUM_ADDS_HU = 100.0
"""Where values are compared: voxels to which plaques add at least so much."""


@dataclass(frozen=True, kw_only=True)
class MethodCheck:
    """One way and level over all cases that have calcium.

    Attributes:
        by: Name of the way.
        level: How much.
        num_cases: With calcium.
        reference_dice: Reference made from the annotation against the perfect reader, same scan.
        scan_dice: Perfect reader of the degraded scan against that of the scan made again.
        volume_ratio: Their volumes, degraded over made again (ratio of sums).
        difference_hu: Degraded minus made again, in calcium.
    """

    by: str
    level: float
    num_cases: int
    reference_dice: Estimate
    scan_dice: Estimate
    volume_ratio: float
    difference_hu: Estimate


def is_checkable(name: str) -> bool:
    """Whether a way exists both as a degradation and as another scan."""
    return name in DEGRADATIONS and name != "pose"


def check_method(original: Original, name: str, degradation: Degradation, seed: int) -> MethodRow:
    """Compare the two ways on one phantom case.

    Raises:
        ValueError: the case is no phantom that can be scanned again.
    """
    if original.phantom is None:
        raise ValueError(f"{original.case.case_id} cannot be scanned again")
    first = original.phantom.series.acquisition
    scan = degrade(first.scan, degradation, original.case.case_id, seed)
    degraded = _through(first, scan, degradation)
    again = scan_again(original.phantom, name, degradation)
    is_seen, is_there = read_perfectly(degraded), read_perfectly(again)
    is_annotated = next(iter(original.references.values()))
    is_made = calcium_reference(first.scan, is_annotated, scan, degradation)
    is_calcium = again.excess_hu >= CALCIUM_ADDS_HU
    difference = float((scan.voxels_hu - again.scan.voxels_hu)[is_calcium].mean()) if is_calcium.any() else None
    return MethodRow(
        by=name,
        level=degradation.level,
        case_id=original.case.case_id,
        patient_id=original.case.patient_id,
        reference_dice=_dice(is_made, is_seen),
        scan_dice=_dice(is_seen, is_there),
        degraded_mm3=volume_mm3(is_seen, scan.stack),
        again_mm3=volume_mm3(is_there, scan.stack),
        difference_hu=difference,
    )


def summarise_method(rows: Sequence[MethodRow], config: IntervalConfig) -> tuple[MethodCheck, ...]:
    """One check per way and level, in the order of the rows."""
    checks = []
    for by, level in dict.fromkeys((row.by, row.level) for row in rows):
        chosen = [row for row in rows if (row.by, row.level) == (by, level) and row.difference_hu is not None]
        patients = [row.patient_id for row in chosen]

        def estimate(name: str, unit: str = "", chosen=chosen, patients=patients) -> Estimate:
            values = [math.nan if (found := getattr(row, name)) is None else found for row in chosen]
            return interval(np.array(values, dtype=np.float64), mean, patients, config, unit)

        again_mm3 = sum(row.again_mm3 for row in chosen)
        checks.append(
            MethodCheck(
                by=by,
                level=level,
                num_cases=len(chosen),
                reference_dice=estimate("reference_dice"),
                scan_dice=estimate("scan_dice"),
                volume_ratio=sum(row.degraded_mm3 for row in chosen) / again_mm3 if again_mm3 else math.nan,
                difference_hu=estimate("difference_hu", "HU"),
            )
        )
    return tuple(checks)


def _through(first: Acquisition, scan: Scan, degradation: Degradation) -> Acquisition:
    """What is true of a degraded phantom: its channels go the same linear way as its values."""
    stack = first.scan.stack
    return replace(
        first,
        scan=scan,
        excess_hu=degradation.spread(first.excess_hu, None, stack),
        artery=degradation.spread(first.artery, None, stack),
        artery_seen=degradation.spread(first.artery_seen, None, stack),
        bone=degradation.spread(first.bone, None, stack),
    )


def _dice(
    is_one: Bool[np.ndarray, "slices rows columns"], is_other: Bool[np.ndarray, "slices rows columns"]
) -> float | None:
    dice = overlap(is_one, is_other).dice
    return None if math.isnan(dice) else dice
