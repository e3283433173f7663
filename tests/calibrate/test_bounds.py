"""What is said about one volume, and when nothing is."""

import math

import pytest

from apatite.calcium.burden import BurdenCuts
from apatite.calibrate.bounds import NOTHING, bounds_of, limits_text
from apatite.calibrate.interval import GroupFit, IntervalFit
from apatite.calibrate.thickness import THICKNESS_GROUPS
from apatite.core.errors import DataError
from apatite.core.reasons import REASONS

CUTS = BurdenCuts(definition="deployed", cuts_mm3=(10.0, 20.0, 40.0), none_below_mm3=2.0, source="by hand")
FIT = IntervalFit(
    coverage=0.9,
    scale="log",
    groups={
        name: GroupFit(num_cases=cases, below=distance, above=distance, largest_mm3=100.0, joined=(name,))
        for name, cases, distance in zip(
            THICKNESS_GROUPS, (50, 4, 40, 0), (math.log(2), None, math.log(3), None), strict=True
        )
    },
)


def test_limits_and_groups_by_hand():
    found = bounds_of(23.0, 1.0, FIT, CUTS)  # 24 / 2 − 1 to 24 · 2 − 1
    assert (found.low_mm3, found.high_mm3) == (pytest.approx(11), pytest.approx(47))
    assert (found.coverage, found.groups, found.flags) == (0.9, (2, 3, 4), ())
    assert list(found.cells().values()) == [11.0, 47.0, 0.9, "2 3 4"]
    assert found.words(23.0) == "calcium 23 mm3, 90% interval 11 to 47"
    assert limits_text(found.cells()) == " [11; 47]"
    assert bounds_of(23.0, 1.0, FIT, None).groups == ()
    assert bounds_of(2.0, 5.0, FIT, CUTS).cells()["burden_groups"] == "0 1"


def test_a_lower_bound_has_no_upper_limit():
    found = bounds_of(23.0, 1.0, FIT, CUTS, is_lower_bound=True)
    assert (found.low_mm3, found.high_mm3, found.groups) == (pytest.approx(11), None, (2, 3, 4))
    assert found.cells()["volume_high_mm3"] == ""
    assert limits_text(found.cells()) == " [11; ∞]"
    assert found.to_dict() == {
        "low_mm3": pytest.approx(11),
        "high_mm3": None,
        "coverage": 0.9,
        "burden_groups": [2, 3, 4],
    }
    assert found.words(23.0) == "calcium 23 mm3, 90% interval 11 to no upper limit"


@pytest.mark.parametrize(
    ("volume_mm3", "thickness_mm", "is_like_calibration", "flags"),
    [
        (5.0, 2.5, True, ("NO_INTERVAL",)),  # too few
        (5.0, 8.0, True, ("NO_INTERVAL", "OUT_OF_CAL_RANGE")),  # none
        (101.0, 2.5, True, ("NO_INTERVAL", "OUT_OF_CAL_RANGE")),
        (5.0, None, True, ("NO_INTERVAL",)),
        (5.0, 1.0, False, ("NO_INTERVAL",)),
    ],
)
def test_nothing_is_said_without_ground(volume_mm3, thickness_mm, is_like_calibration, flags):
    found = bounds_of(volume_mm3, thickness_mm, FIT, CUTS, is_like_calibration=is_like_calibration)
    assert (found.low_mm3, found.high_mm3, found.coverage, found.groups) == (None, None, None, ())
    assert found.flags == flags
    assert set(flags) <= set(REASONS)
    assert set(found.cells().values()) == {""}
    assert limits_text(found.cells()) == ""
    assert found.words(volume_mm3) == ""


def test_a_volume_beyond_those_seen_has_limits_and_a_flag():
    found = bounds_of(101.0, 1.0, FIT, CUTS)
    assert (found.groups, found.flags) == ((4,), ("OUT_OF_CAL_RANGE",))
    assert bounds_of(100.0, 1.0, FIT, CUTS).flags == ()


def test_a_model_without_intervals_says_nothing_and_flags_nothing():
    assert bounds_of(5.0, 1.0, None, CUTS) == NOTHING
    assert NOTHING.flags == ()


def test_no_volume_is_an_error():
    with pytest.raises(DataError, match="is not a volume"):
        bounds_of(-1.0, 1.0, FIT, CUTS)
