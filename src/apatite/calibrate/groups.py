"""The burden groups that an interval on the volume allows: all those that it touches.

Where the true volume lies in the interval, its group is in the set; so the set holds the true group at least as often
as the interval holds the true volume. A set of one group is a firm answer, a set of all of them is none.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from apatite.calcium.burden import BurdenCuts
from apatite.core.volume import Estimate
from apatite.metrics.proportion import proportion

GroupSet = tuple[int, ...]
"""Ascending, without gaps."""


def group_set(low_mm3: float, high_mm3: float, cuts: BurdenCuts) -> GroupSet:
    """Every group that some volume between two limits falls into.

    Args:
        low_mm3: Lower end of the interval.
        high_mm3: Its upper end; infinite where the volume is known to be a lower bound only.
        cuts: The frozen cut-points.

    Raises:
        DataError: an end is negative or not a number (`NONFINITE`).
        ValueError: the ends are the wrong way round.
    """
    if low_mm3 > high_mm3:
        raise ValueError(f"{low_mm3} to {high_mm3} mm³ is no interval")
    return tuple(range(cuts.assign(low_mm3), cuts.assign(high_mm3) + 1))


def group_words(groups: GroupSet) -> str:
    """A set as a table shows it: the groups with blanks between, for a spreadsheet would take `2-3` for a date."""
    return " ".join(map(str, groups))


@dataclass(frozen=True, kw_only=True)
class SetQuality:
    """How good group sets were on cases whose group is known.

    Attributes:
        num_cases: Cases.
        coverage: How often the set held the true group, with its exact 95 % interval.
        singleton_rate: How often the set was one group, with its exact 95 % interval.
        mean_size: Groups per set.
    """

    num_cases: int
    coverage: Estimate
    singleton_rate: Estimate
    mean_size: float


def judge_sets(sets: Sequence[GroupSet], reference_mm3: Sequence[float], cuts: BurdenCuts) -> SetQuality:
    """Compare sets with the groups of the annotated volumes, one case per patient.

    Raises:
        ValueError: no case, or lengths that do not fit.
    """
    if not sets or len(sets) != len(reference_mm3):
        raise ValueError(f"{len(sets)} sets for {len(reference_mm3)} volumes")
    held = sum(cuts.assign(volume) in groups for groups, volume in zip(sets, reference_mm3, strict=True))
    return SetQuality(
        num_cases=len(sets),
        coverage=proportion(held, len(sets)),
        singleton_rate=proportion(sum(len(groups) == 1 for groups in sets), len(sets)),
        mean_size=sum(map(len, sets)) / len(sets),
    )
