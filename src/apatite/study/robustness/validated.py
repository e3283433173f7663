"""On which scans a model holds: from curves and criteria stated before to ranges of thickness, noise and the rest.

A range begins at the scans as they are and ends before the first level at which a criterion is missed, or which too few
cases show. Beyond the last level that was looked at nothing is known, so the range ends there too.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from apatite.ct.degrade.degradation import Degradation
from apatite.study.robustness.config import Criteria
from apatite.study.robustness.curves import Curve, Point


@dataclass(frozen=True, kw_only=True)
class ValidatedRange:
    """From which level to which a model holds.

    Attributes:
        by: Name of the way.
        unit: Of the levels.
        low, high: Levels; for thickness the thickness itself. `None` where it holds not even on the scans as they are.
        num_positive: Fewest cases with the label at any level of the range.
        ends_because: Why it goes no further upwards.
        total: For noise: what was there and what was added, together; else `None`.
    """

    by: str
    unit: str
    low: float | None
    high: float | None
    num_positive: int
    ends_because: str
    total: float | None = None


def validated_ranges(
    curves: Sequence[Curve], ladders: Mapping[str, Sequence[Degradation]], criteria: Criteria
) -> tuple[ValidatedRange, ...]:
    """The ranges of one model and label, one per way whose levels are ordered."""
    return tuple(_range(curve, ladders[curve.by][0], criteria) for curve in curves if ladders[curve.by][0].is_ordered)


def ranges_for_card(ranges: Sequence[ValidatedRange]) -> dict[str, Any]:
    """Plain values by name of the way."""
    return {found.by: {key: value for key, value in asdict(found).items() if key != "by"} for found in ranges}


def miss(point: Point, criteria: Criteria) -> str:
    """Why a model does not hold at a level; empty where it does."""
    if point.num_positive < criteria.least_positive:
        return f"only {point.num_positive} cases with the label at {point.level:g}"
    drop, ratio = point.estimates["dice_drop"], point.estimates["volume_ratio"]
    if not drop.high <= criteria.dice_drop:
        return f"Dice may drop by {drop.high:.2f} at {point.level:g}"
    if not abs(ratio.value - 1) <= criteria.volume_bias:
        return f"the volume is {ratio.value:.2f} times the reference at {point.level:g}"
    return ""


def _range(curve: Curve, kind: Degradation, criteria: Criteria) -> ValidatedRange:
    why = miss(curve.as_is, criteria)
    if why:
        # The drop of the scans as they are is 0 by definition, and their level is none.
        return _made(
            curve, kind, (None, None), curve.as_is.num_positive, why.replace("at 0", "on the scans as they are")
        )
    start = curve.thickness_mm if kind.has_own_level else (0.0, 0.0)
    # A level that some of the scans have as they are is not yet a worse one.
    up = _held([point for point in curve.points if point.level > start[1]], criteria)
    down = _held([point for point in reversed(curve.points) if point.level < min(start[0], 0.0)], criteria)
    held = [*up[0], *down[0]]
    low = min([start[0], *(point.level for point in held)])
    high = max([start[1], *(point.level for point in held)])
    least = min(point.num_positive for point in [curve.as_is, *held])
    return _made(curve, kind, (low, high), least, up[1])


def _made(
    curve: Curve, kind: Degradation, ends: tuple[float | None, float | None], num_positive: int, why: str
) -> ValidatedRange:
    low, high = ends
    total = None
    if curve.by == "noise" and curve.noise_hu is not None and high is not None:
        total = float(np.hypot(curve.noise_hu, high))
    return ValidatedRange(
        by=curve.by, unit=kind.unit, low=low, high=high, num_positive=num_positive, ends_because=why, total=total
    )


def _held(points: Sequence[Point], criteria: Criteria) -> tuple[list[Point], str]:
    """The points up to the first miss, and why it stops there."""
    held: list[Point] = []
    for point in points:
        why = miss(point, criteria)
        if why:
            return held, why
        held.append(point)
    return held, "no worse scans were looked at"
