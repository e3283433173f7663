"""What may be said about one predicted volume: between which limits it lies, and which burden groups that allows.

Nothing is said where the calibration has no ground for it: another slice thickness than it saw, too few of one, or a
domain from which none of its cases came. A volume that is a lower bound by itself has a lower limit and no upper one.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from apatite.calcium.burden import BurdenCuts
from apatite.calibrate.groups import GroupSet, group_set, group_words
from apatite.calibrate.interval import IntervalFit

NO_INTERVAL, OUT_OF_RANGE = "NO_INTERVAL", "OUT_OF_CAL_RANGE"


def three_figures(volume_mm3: float) -> float:
    """A volume as a table states it: the measurement is no finer, whatever the arithmetic says."""
    return float(f"{volume_mm3:.3g}")


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """Limits of one volume.

    Attributes:
        low_mm3: Lower limit; `None` without an interval.
        high_mm3: Upper limit; `None` without an interval, and where the volume is a lower bound.
        coverage: How often such an interval holds the annotated volume; `None` without one.
        groups: Burden groups that the interval touches; empty without an interval or without cut-points.
        flags: Codes of `core.reasons.REASONS`.
    """

    low_mm3: float | None = None
    high_mm3: float | None = None
    coverage: float | None = None
    groups: GroupSet = ()
    flags: tuple[str, ...] = ()

    def cells(self) -> dict[str, Any]:
        """The columns of a table of volumes; empty cells where nothing may be said, three significant figures."""
        return {
            "volume_low_mm3": "" if self.low_mm3 is None else three_figures(self.low_mm3),
            "volume_high_mm3": "" if self.high_mm3 is None else three_figures(self.high_mm3),
            "interval_coverage": "" if self.coverage is None else self.coverage,
            "burden_groups": group_words(self.groups),
        }

    def to_dict(self) -> dict[str, Any]:
        """Plain values, safe for JSON; the flags stand elsewhere."""
        limits = {"low_mm3": self.low_mm3, "high_mm3": self.high_mm3}
        return {**limits, "coverage": self.coverage, "burden_groups": list(self.groups)}

    def words(self, volume_mm3: float) -> str:
        """The volume and its limits in plain ASCII, for the free text of an image; empty where nothing may be said."""
        if self.low_mm3 is None or self.coverage is None:
            return ""
        end = "no upper limit" if self.high_mm3 is None else f"{three_figures(self.high_mm3):g}"
        low, volume = three_figures(self.low_mm3), three_figures(volume_mm3)
        return f"calcium {volume:g} mm3, {self.coverage:.0%} interval {low:g} to {end}"


NOTHING = Bounds()
"""Of a model whose calibration has no intervals."""


def limits_text(cells: Mapping[str, Any]) -> str:
    """The limits in a row of such a table, to stand after its volume; empty where it has none."""
    if cells["volume_low_mm3"] == "":
        return ""
    high = "∞" if cells["volume_high_mm3"] == "" else f"{cells['volume_high_mm3']:g}"
    return f" [{cells['volume_low_mm3']:g}; {high}]"


def bounds_of(
    volume_mm3: float,
    thickness_mm: float | None,
    fit: IntervalFit | None,
    cuts: BurdenCuts | None,
    *,
    is_lower_bound: bool = False,
    is_like_calibration: bool = True,
) -> Bounds:
    """Limits of a predicted volume.

    Args:
        volume_mm3: As predicted, with the threshold and the gate of the calibration.
        thickness_mm: Of its slices; `None` where unknown.
        fit: The intervals of that reading; `None` where the model has none.
        cuts: The burden groups of that reading, or none.
        is_lower_bound: The scan shows part of the region only.
        is_like_calibration: The scan is of a domain that took part in the calibration, and the model saw no more of it
            than of those.

    Raises:
        DataError: the volume is negative or not a number (`NONFINITE`).
    """
    if fit is None:
        return NOTHING
    found = fit.interval(volume_mm3, thickness_mm) if is_like_calibration else None
    is_strange = is_like_calibration and thickness_mm is not None and not fit.has_seen(volume_mm3, thickness_mm)
    flags = (OUT_OF_RANGE,) if is_strange else ()
    if found is None:
        return Bounds(flags=(NO_INTERVAL, *flags))
    high_mm3 = math.inf if is_lower_bound else found.high
    return Bounds(
        low_mm3=found.low,
        high_mm3=None if is_lower_bound else found.high,
        coverage=found.coverage,
        groups=() if cuts is None else group_set(found.low, high_mm3, cuts),
        flags=flags,
    )
