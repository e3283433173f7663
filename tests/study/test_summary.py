import math

import pytest

from apatite.calcium.burden import deployed_cuts
from apatite.study.intervals import IntervalConfig
from apatite.study.outcomes import CaseOutcome
from apatite.study.strata import strata
from apatite.study.summary import summarise

QUICK = IntervalConfig(resamples=50)


def test_every_figure_of_four_cases_by_hand(four_cases: list[CaseOutcome]):
    summary = summarise("m", four_cases, config=QUICK)
    value = {name: estimate.value for name, estimate in summary.estimates.items()}
    assert value["dice"] == pytest.approx((12 / 16 + 20 / 30 + 0) / 3)
    assert value["precision"] == pytest.approx((6 / 8 + 1) / 2)
    assert value["recall"] == pytest.approx((6 / 8 + 1 / 2 + 0) / 3)
    assert value["volume_error_mm3"] == pytest.approx((0 + 5 + 2) / 3)
    assert value["volume_error_median_mm3"] == pytest.approx(2)
    assert value["volume_bias_mm3"] == pytest.approx((0 - 5 - 2) / 3)
    assert value["volume_error_all_mm3"] == pytest.approx((0 + 5 + 2 + 3) / 4)
    assert value["lesion_sensitivity"] == pytest.approx(2 / 6)
    assert value["lesion_precision"] == pytest.approx(2 / 3)
    assert (summary.num_positive, summary.num_free, summary.num_unpredicted) == (3, 1, 1)


def test_surface_and_topology_are_averaged_over_the_positive_cases_that_have_them(make_outcome):
    cases = [
        make_outcome("a", 6, 2, 2, hd95_mm=1.5, betti_error=3, surface_dice=0.5),
        make_outcome("b", 0, 0, 4, hd95_mm=90.0, betti_error=1, surface_dice=0.0),
        make_outcome("of an earlier version", 5, 0, 0),
        make_outcome("free", 0, 6, 0, hd95_mm=90.0, betti_error=40, surface_dice=0.0),
    ]
    value = {name: estimate.value for name, estimate in summarise("m", cases, config=QUICK).estimates.items()}
    assert (value["hd95_mm"], value["betti_error"], value["surface_dice"]) == (45.75, 2.0, 0.25)
    unknown = summarise("m", cases[2:], config=QUICK).estimates
    assert math.isnan(unknown["hd95_mm"].value)
    assert unknown["hd95_mm"].unit == "mm"


def test_cases_without_calcium_stand_apart(four_cases: list[CaseOutcome]):
    summary = summarise("m", four_cases, config=QUICK)
    assert summary.estimates["false_volume_mm3"].value == 3.0
    assert summary.estimates["specificity"].value == 0.0
    without = summarise("m", four_cases[:3], config=QUICK)
    assert without.estimates["dice"] == summary.estimates["dice"]
    assert without.bland_altman == summary.bland_altman
    assert math.isnan(without.estimates["specificity"].value)


def test_false_volume_percentile_and_detection_limit(make_outcome):
    free = [make_outcome(f"n{i}", 0, i, 0) for i in range(11)]
    import numpy as np

    cuts = deployed_cuts(np.array([5.0, 10.0, 20.0, 40.0]), np.array([2.0]), 1.0)
    summary = summarise("m", free, [cuts], QUICK)
    assert summary.estimates["false_volume_p95_mm3"].value == pytest.approx(4.75)
    assert summary.estimates["specificity"].value == pytest.approx(1 / 11)
    # Below 2 mm³ lie 0, 0.5, 1 and 1.5 mm³.
    assert summary.estimates["specificity_detection_limit"].value == pytest.approx(4 / 11)


def test_bland_altman_on_both_scales(make_outcome):
    cases = [make_outcome("a", 10, 10, 0), make_outcome("b", 10, 0, 10)]
    summary = summarise("m", cases, config=QUICK)
    assert summary.bland_altman["raw"].bias == pytest.approx(0.0)
    assert summary.bland_altman["raw"].sd == pytest.approx(math.sqrt(50))
    assert summary.bland_altman["log"].sd == pytest.approx(math.sqrt(2) * math.log(11 / 6))


def test_intervals_resample_patients_not_cases(make_outcome):
    # Two patients with twenty equal cases each: forty independent cases would give a far narrower interval.
    one = [make_outcome(f"a{i}", 10, 0, 0, patient_id="p1") for i in range(20)]
    two = [make_outcome(f"b{i}", 0, 10, 10, patient_id="p2") for i in range(20)]
    dice = summarise("m", one + two, config=IntervalConfig(resamples=400, method="percentile")).estimates["dice"]
    assert (dice.low, dice.high) == (0.0, 1.0)


def test_strata_leave_out_what_is_unknown(four_cases: list[CaseOutcome]):
    subsets = {name: [o.case_id for o in cases] for name, cases in strata(four_cases).items()}
    assert subsets == {
        "slice thickness ≤ 1.5 mm": ["a"],
        "slice thickness 3.5–6 mm": ["b", "c"],
        "slice thickness > 6 mm": ["d"],
        "kernel soft": ["a", "c"],
        "kernel bone": ["b"],
    }
