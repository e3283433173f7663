"""Curves, ranges and strangers from rows whose every number can be checked by hand."""

import math

import numpy as np
import pytest
from scipy import stats

from apatite.core.errors import ConfigError
from apatite.core.volume import Estimate
from apatite.ct.degrade.registry import DEGRADATIONS, parse_ladders
from apatite.phantom.protocol import VENDORS
from apatite.study.intervals import IntervalConfig
from apatite.study.robustness.config import Criteria, RobustnessConfig
from apatite.study.robustness.curves import Curve, Point, curves
from apatite.study.robustness.rescan import RESCANS
from apatite.study.robustness.rows import AS_IS, LevelRow, read_rows, write_rows
from apatite.study.robustness.strangers import strangers
from apatite.study.robustness.validated import miss, ranges_for_card, validated_ranges

QUICK = IntervalConfig(resamples=400)
DICES = (0.9, 0.7, 0.8, 0.6)


def a_row(case: int, by: str = AS_IS, level: float = 0.0, *, dice: float = 0.5, volume: float = 10.0, **changes):
    """Dice and volume as wanted; a case below 0 holds no calcium."""
    hits = round(100 * dice)
    empty = case < 0
    values = {
        "model": "a",
        "by": by,
        "level": level,
        "case_id": f"c{case}",
        "patient_id": f"p{abs(case) // 2}",
        "label": 1,
        "true_positive": 0 if empty else hits,
        "false_positive": 100 if empty else 100 - hits,
        "false_negative": 0 if empty else 100 - hits,
        "predicted_mm3": volume,
        "reference_mm3": 0.0 if empty else 8.0,
        "original_mm3": 0.0 if empty else 12.0,
        "analytic_mm3": 6.0,
        "thickness_mm": 1.0 + abs(case) / 10,
        "noise_hu": 5.0 + abs(case),
    }
    return LevelRow(**{**values, **changes})


def one_curve():
    before = [a_row(case, dice=dice, volume=11.0) for case, dice in enumerate(DICES)]
    after = [
        a_row(case, "thickness", 5.0, dice=dice - 0.1 - case / 100, volume=20.0) for case, dice in enumerate(DICES)
    ]
    free = [a_row(-9, volume=3.0), a_row(-9, "thickness", 5.0, volume=7.0)]
    return curves([*before, *after, *free], QUICK)


def test_a_curve_by_hand():
    (curve,) = one_curve()
    (point,) = curve.points
    assert (curve.model, curve.by, curve.label, curve.thickness_mm) == ("a", "thickness", 1, (1.0, 1.9))
    assert curve.noise_hu == pytest.approx(np.median([5, 6, 7, 8, 14]))
    assert (point.level, point.num_cases, point.num_positive) == (5.0, 5, 4)
    assert (curve.as_is.level, curve.as_is.num_cases) == (0.0, 5)
    expected = {
        "dice": np.mean(DICES) - 0.115,
        "dice_drop": 0.115,
        "volume_bias_mm3": 8.0,
        "volume_ratio": 21 / 13,
        "volume_change": 21 / 12,
        "reference_ratio": 9 / 13,
        "analytic_ratio": 21 / 7,
        "false_mm3": 7.0,
    }
    assert {name: estimate.value for name, estimate in point.estimates.items()} == pytest.approx(expected)
    assert curve.as_is.estimates["dice_drop"].value == curve.as_is.estimates["dice_drop"].high == 0
    assert curve.as_is.estimates["volume_ratio"].value == pytest.approx(12 / 13)
    assert curve.as_is.estimates["false_mm3"].value == 3.0


def test_the_drop_is_paired_and_its_interval_that_of_the_differences():
    rng = np.random.default_rng(4)
    hard, fall = rng.uniform(0.3, 0.9, 40), rng.uniform(0.04, 0.16, 40)
    rows = [a_row(2 * case, dice=hard[case]) for case in range(40)]
    rows += [a_row(2 * case, "noise", 10.0, dice=hard[case] - fall[case]) for case in range(40)]
    drop = curves(rows, IntervalConfig(resamples=2000))[0].points[0].estimates["dice_drop"]
    known = np.array([before.dice - after.dice for before, after in zip(rows[:40], rows[40:], strict=True)])
    oracle = stats.bootstrap((known,), np.mean, n_resamples=4000, rng=np.random.default_rng(1))
    assert drop.value == pytest.approx(known.mean())
    assert (drop.low, drop.high) == pytest.approx(oracle.confidence_interval, abs=0.003)
    # Unpaired, the interval would be ten times as wide.
    assert drop.high - drop.low < 0.03


def test_a_case_without_a_dice_takes_no_part_in_the_drop():
    rows = [a_row(case, dice=0.8) for case in range(4)]
    gone = {"true_positive": 0, "false_positive": 0, "false_negative": 0}
    rows += [a_row(case, "thickness", 8.0, dice=0.6, **(gone if case == 0 else {})) for case in range(4)]
    (point,) = curves(rows, QUICK)[0].points
    assert point.num_positive == 4
    assert point.estimates["dice_drop"].value == pytest.approx(0.2)


def test_a_level_that_some_cases_lack_is_compared_with_its_own_cases():
    rows = [a_row(case, dice=dice) for case, dice in enumerate(DICES)]
    rows += [a_row(case, "thickness", 5.0, dice=DICES[case] - 0.1) for case in range(4)]
    rows += [a_row(case, "thickness", 1.0, dice=DICES[case] - 0.02) for case in (1, 3)]
    (curve,) = curves(rows, QUICK)
    assert [point.level for point in curve.points] == [1.0, 5.0]
    assert [point.num_cases for point in curve.points] == [2, 4]
    assert [point.estimates["dice_drop"].value for point in curve.points] == pytest.approx([0.02, 0.1])


def a_point(level, *, high=0.01, ratio=1.0, cases=20) -> Point:
    def made(value, high):
        return Estimate(value=value, low=value - 0.01, high=high, unit="", coverage=0.95)

    estimates = {"dice_drop": made(high - 0.01, high), "volume_ratio": made(ratio, ratio + 0.5)}
    return Point(level=level, num_cases=cases + 3, num_positive=cases, estimates=estimates)


def range_of(by, points, *, as_is=None, noise_hu=6.0):
    curve = Curve(
        model="a",
        by=by,
        label=1,
        as_is=a_point(0.0, high=0.0) if as_is is None else as_is,
        points=tuple(points),
        thickness_mm=(0.6, 1.25),
        noise_hu=noise_hu,
    )
    (found,) = validated_ranges([curve], parse_ladders([by], DEGRADATIONS), Criteria())
    return found


def test_a_range_ends_before_the_first_level_that_fails():
    good, bad = a_point(3.0), a_point(4.0, high=0.051)
    found = range_of("thickness", [a_point(2.0), good, bad, a_point(5.0)])
    assert (found.low, found.high, found.num_positive) == (0.6, 3.0, 20)
    assert "drop by 0.05 at 4" in found.ends_because
    assert range_of("thickness", [bad]).high == 1.25
    # Some of the scans are 1 mm as they are; that only few are thinner says nothing against 2 mm.
    assert range_of("thickness", [a_point(1.0, cases=2), a_point(2.0)]).high == 2.0
    assert range_of("thickness", [a_point(2.0), a_point(10.0)]).ends_because == "no worse scans were looked at"


def test_the_criteria_at_their_edges():
    criteria = Criteria()
    assert miss(a_point(1.0, high=0.05), criteria) == ""
    assert "Dice" in miss(a_point(1.0, high=0.0501), criteria)
    assert miss(a_point(1.0, ratio=1.25), criteria) == ""
    assert miss(a_point(1.0, ratio=0.75), criteria) == ""
    assert "1.26" in miss(a_point(1.0, ratio=1.26), criteria)
    assert "0.74" in miss(a_point(1.0, ratio=0.74), criteria)
    assert "only 9" in miss(a_point(1.0, cases=9), criteria)
    # What could not be computed does not hold.
    assert miss(a_point(1.0, high=math.nan), criteria)
    assert miss(a_point(1.0, ratio=math.nan), criteria)


def test_ranges_on_either_side_and_none_at_all():
    points = [a_point(-20.0, ratio=0.5), a_point(-10.0), a_point(10.0), a_point(20.0)]
    found = range_of("offset", points)
    assert (found.low, found.high) == (-10.0, 20.0)
    # Below -20 could be fine again; a range has no holes.
    found = range_of("offset", [a_point(-30.0), *points])
    assert found.low == -10.0
    found = range_of("noise", [a_point(8.0), a_point(20.0, high=0.2)])
    assert (found.low, found.high, found.total) == (0.0, 8.0, pytest.approx(10.0))
    assert range_of("noise", [a_point(8.0)], noise_hu=None).total is None
    found = range_of("noise", [a_point(8.0)], as_is=a_point(0.0, high=0.0, ratio=1.5))
    assert (found.low, found.high, found.total) == (None, None, None)
    assert "on the scans as they are" in found.ends_because
    assert ranges_for_card([found])["noise"]["high"] is None


def test_vendors_have_no_range():
    curve = Curve(
        model="a", by="vendor", label=1, as_is=a_point(0.0), points=(a_point(1.0),), thickness_mm=(1, 2), noise_hu=None
    )
    assert validated_ranges([curve], parse_ladders(["vendor"], RESCANS), Criteria()) == ()


def test_strangers_unpaired():
    rows = [a_row(case, dice=0.5 if case % 2 else 0.8, is_stranger=case % 2 == 1, model="a") for case in range(12)]
    rows.append(a_row(-5, is_stranger=True))
    assert strangers(rows, {}, QUICK) == ()
    (found,) = strangers(rows, {"a": ["vendor=X"]}, QUICK)
    assert (found.num_held_out, found.num_seen, found.is_paired, found.what) == (6, 6, False, "vendor=X")
    assert (found.held_out.value, found.seen.value) == pytest.approx((0.5, 0.8))
    assert found.difference.value == pytest.approx(-0.3)
    assert found.difference.low <= -0.3 + 1e-9 <= found.difference.high + 2e-9


def test_strangers_paired_are_the_same_patients():
    names = list(VENDORS)
    rng = np.random.default_rng(2)
    hard = rng.uniform(0.3, 0.9, 10)
    rows = [a_row(2 * case, dice=hard[case], vendor="Aldan") for case in range(10)]
    for case in range(10):
        for number in range(1, len(names) + 1):
            fall = 0.1 if names[number - 1] == "Dorn" else 0.02
            rows.append(a_row(2 * case, "vendor", float(number), dice=hard[case] - fall))
    found = strangers(rows, {"a": ["vendor=dorn", "kernel_class=bone"]}, QUICK)
    assert [one.is_paired for one in found] == [False, True]
    paired = found[1]
    assert (paired.what, paired.num_held_out) == ("vendor=Dorn", 10)
    assert paired.difference.value == pytest.approx(-0.08, abs=0.011)
    assert paired.difference.high - paired.difference.low < 0.03
    assert math.isnan(found[0].difference.value)


def test_rows_are_kept_and_read_back_only_by_the_run_that_made_them(tmp_path):
    rows = [a_row(1), a_row(2, noise_hu=None, analytic_mm3=None)]
    path = tmp_path / "rows" / "a" / "c1.json"
    assert read_rows(path, LevelRow, {"model": "x"}) is None
    write_rows(path, rows, {"model": "x"})
    assert read_rows(path, LevelRow, {"model": "x"}) == rows


@pytest.mark.parametrize(
    "values", [{"dice_drop": 0.0}, {"dice_drop": 1.5}, {"volume_bias": -0.1}, {"least_positive": 1}]
)
def test_criteria_without_sense(values):
    with pytest.raises(ConfigError):
        Criteria(**values)


def test_ladders_that_apply():
    assert list(RobustnessConfig().ladders()) == list(DEGRADATIONS)
    assert "pose" not in RobustnessConfig().ladders(has_region=False)
    assert list(RobustnessConfig(rescan=True).ladders()) == list(RESCANS)
    with pytest.raises(ConfigError, match="tilt"):
        RobustnessConfig(by=("tilt",)).ladders()
    with pytest.raises(ConfigError, match="no region"):
        RobustnessConfig(by=("pose",)).ladders(has_region=False)
