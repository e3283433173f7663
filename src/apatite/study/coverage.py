"""How often the interval on the volume holds the annotated volume, beside how often it promised to.

A coverage is a count of cases, so it is judged with its exact binomial interval (Clopper & Pearson 1934). All cases
together are not enough: an interval can be right on average, too narrow for thick slices and too wide for thin ones.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from apatite.calibrate.thickness import THICKNESS_GROUPS, thickness_group
from apatite.core.volume import Estimate
from apatite.metrics.proportion import proportion
from apatite.study.outcomes import CaseOutcome

ALL_CASES = "all"


@dataclass(frozen=True, kw_only=True)
class IntervalCoverage:
    """The intervals of one group of cases.

    Attributes:
        group: `all`, or a group of slice thickness.
        num_cases: Cases that have an interval.
        num_patients: Their patients.
        num_without: Cases that have none: thickness unknown, or too few development patients in its group.
        coverage: Share whose annotated volume lies in its interval; Clopper–Pearson, NaN without cases.
        width_mm3: Mean width.
        ratio: Median of (high + 1) / (low + 1).
    """

    group: str
    num_cases: int
    num_patients: int
    num_without: int
    coverage: Estimate
    width_mm3: float
    ratio: float


def interval_coverages(outcomes: Sequence[CaseOutcome]) -> list[IntervalCoverage]:
    """Coverage over all cases, then by slice thickness; empty where no case has an interval.

    Args:
        outcomes: Of one calibrated model, one label and one reading.
    """
    if not any(row.low_mm3 is not None for row in outcomes):
        return []
    groups = {ALL_CASES: list(outcomes)}
    for name in THICKNESS_GROUPS:
        groups[name] = [row for row in outcomes if thickness_group(row.slice_thickness_mm) == name]
    return [_of_group(name, rows) for name, rows in groups.items() if rows]


def _of_group(group: str, rows: Sequence[CaseOutcome]) -> IntervalCoverage:
    known = [(row, row.low_mm3, row.high_mm3) for row in rows if row.low_mm3 is not None and row.high_mm3 is not None]
    low = np.array([end for _, end, _ in known], dtype=np.float64)
    high = np.array([end for _, _, end in known], dtype=np.float64)
    reference = np.array([row.reference_mm3 for row, _, _ in known], dtype=np.float64)
    is_covered = (low <= reference) & (reference <= high)
    return IntervalCoverage(
        group=group,
        num_cases=len(known),
        num_patients=len({row.patient_id for row, _, _ in known}),
        num_without=len(rows) - len(known),
        coverage=proportion(int(np.count_nonzero(is_covered)), len(known)),
        width_mm3=float((high - low).mean()) if known else np.nan,
        ratio=float(np.median((high + 1) / (low + 1))) if known else np.nan,
    )
