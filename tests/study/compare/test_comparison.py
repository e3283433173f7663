"""A comparison by hand, against its own parts, and by what it promises when effects are planted."""

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from apatite.calcium.burden import deployed_cuts
from apatite.core.errors import ConfigError, DataError
from apatite.study.compare.comparison import Comparison, compare
from apatite.study.compare.config import CompareConfig
from apatite.study.compare.contrast import contrast
from apatite.study.intervals import IntervalConfig
from apatite.study.outcomes import CaseOutcome
from apatite.study.strata import volume_strata

QUICK = CompareConfig(intervals=IntervalConfig(resamples=80))
Make = Callable[..., CaseOutcome]


def of(found: Comparison, quantity: str, pair: int = 0):
    return [one for one in found.contrasts if one.quantity == quantity][pair]


def cohort(make: Make, true_positive: Callable[[int], int], **changes) -> list[CaseOutcome]:
    """Twelve patients with 20 to 31 voxels of calcium, the first two of them with two series."""
    rows = [make(f"c{n}", true_positive(n), n % 3, 20 + n - true_positive(n), **changes) for n in range(12)]
    more = [
        make(f"d{n}", true_positive(n), 0, 20 + n - true_positive(n), patient_id=f"patient of c{n}", **changes)
        for n in (0, 1)
    ]
    return rows + more


def test_every_figure_of_a_difference_by_hand(make_outcome: Make) -> None:
    old = cohort(make_outcome, lambda n: 10)
    new = cohort(make_outcome, lambda n: 12 - (n == 3) * 4)
    found = compare({"old": old, "new": new[::-1]}, QUICK)
    recall = of(found, "recall")
    per_case = [(2 - 4 * (n == 3)) / (20 + n) for n in [*range(12), 0, 1]]
    per_patient = [(2 - 4 * (n == 3)) / (20 + n) for n in range(12)]
    assert (recall.model, recall.baseline) == ("new", "old")
    assert (recall.num_cases, recall.num_patients) == (14, 12)
    assert recall.estimate.value == pytest.approx(np.mean(per_case))
    assert recall.estimate.value == pytest.approx(recall.model_value - recall.baseline_value)
    assert recall.test.p_value == pytest.approx(stats.wilcoxon(np.round(per_patient, 12)).pvalue)
    assert recall.d_z == pytest.approx(np.mean(per_patient) / np.std(per_patient, ddof=1))
    # |−2/23| lies between 2/23 … : only 2/22, 2/21, 2/20 are larger, and 2/23 is not there.
    assert recall.test.minus == 9.0
    assert recall.margin is None


def test_lesions_are_pooled_over_cases_and_a_patient_is_a_ratio(make_outcome: Make) -> None:
    counts = {"lesions_reference": 4, "lesions_predicted": 2, "lesions_found": 1, "lesions_true": 1}
    old = [make_outcome("a", 5, 0, 5, **counts), make_outcome("b", 0, 0, 0, lesions_predicted=0)]
    new = [replace(old[0], lesions_found=4, lesions_true=2), replace(old[1], lesions_predicted=2)]
    f1 = of(compare({"old": old, "new": new}, QUICK), "lesion_f1")
    # Case b has no lesion on either side for the old model: 0/0 adds nothing to the pool, but is no ratio of a patient.
    assert (f1.baseline_value, f1.model_value) == (2 / 6, 6 / 8)
    assert (f1.num_cases, f1.num_patients) == (2, 1)


def test_margins_are_judged_in_the_direction_that_is_worse(make_outcome: Make) -> None:
    old = cohort(make_outcome, lambda n: 15)
    better = cohort(make_outcome, lambda n: 15 + n % 2)
    config = replace(QUICK, margins={"dice": 0.05, "volume_error_mm3": 0.6})
    up, down = (compare(both, config) for both in ({"o": old, "b": better}, {"b": better, "o": old}))
    assert of(up, "dice").margin.verdict == of(up, "volume_error_mm3").margin.verdict == "equivalent"
    assert of(up, "dice").estimate.value > 0 > of(up, "volume_error_mm3").estimate.value
    narrow = replace(config, margins={"dice": 0.001, "volume_error_mm3": 0.01})
    up, down = (compare(both, narrow) for both in ({"o": old, "b": better}, {"b": better, "o": old}))
    for quantity in ("dice", "volume_error_mm3"):
        good, bad = of(up, quantity).margin, of(down, quantity).margin
        assert (good.verdict, bad.verdict) == ("non-inferior", "inferior")
        assert good.p_non_inferior < 0.05 < bad.p_non_inferior
        assert good.p_equivalent > 0.05


def test_a_smaller_hd95_and_betti_error_are_better(make_outcome: Make) -> None:
    old = cohort(make_outcome, lambda n: 15, hd95_mm=4.0, betti_error=5)
    better = [replace(o, hd95_mm=3.0 + 0.1 * (n % 3), betti_error=n % 2) for n, o in enumerate(old)]
    margins = {"hd95_mm": 0.5, "betti_error": 1.0}
    config = replace(QUICK, quantities=tuple(margins), margins=margins)
    up, down = (compare(both, config) for both in ({"o": old, "b": better}, {"b": better, "o": old}))
    for quantity in margins:
        good, bad = of(up, quantity), of(down, quantity)
        assert good.estimate.high < 0 < bad.estimate.low
        assert (good.num_cases, good.margin.verdict, bad.margin.verdict) == (14, "non-inferior", "inferior")
    assert of(up, "hd95_mm").estimate.value == pytest.approx(-1 + np.mean([0.1 * (n % 3) for n in range(14)]))
    # A table of an earlier version beside one of this: no case has both, so nothing is said and nothing corrected.
    beside = compare({"earlier": cohort(make_outcome, lambda n: 15), "b": better}, QUICK)
    assert (of(beside, "hd95_mm").num_cases, beside.family_size(None)) == (0, 5)


def test_a_handful_of_patients_passes_no_margin(make_outcome: Make) -> None:
    config = replace(QUICK, margins={"dice": 0.5})
    verdicts = []
    for count in (4, 5):
        old, new = (cohort(make_outcome, lambda n, by=by: 15 + by * (n % 2))[:count] for by in (0, 1))
        verdicts.append(of(compare({"old": old, "new": new}, config), "dice").margin.verdict)
    assert verdicts == ["undecided", "equivalent"]


def test_the_family_is_all_tests_of_a_reading(make_outcome: Make) -> None:
    rows = {
        name: cohort(make_outcome, lambda n, up=up: 10 + up * (n % 4)) for name, up in (("a", 0), ("b", 1), ("c", 2))
    }
    gated = {name: [replace(o, hu_gate=130.0) for o in several] for name, several in rows.items()}
    alone = compare(rows, QUICK)
    both = compare({name: rows[name] + gated[name] for name in rows}, QUICK)
    # Surface Dice was not measured: no test, and none that counts.
    assert alone.family_size(None) == 3 * 5
    assert (both.family_size(None), both.family_size(130.0)) == (15, 15)
    by_test = {(c.quantity, c.model, c.baseline): p for c, p in zip(alone.contrasts, alone.p_holm, strict=True)}
    for one, p_value in zip(both.contrasts, both.p_holm, strict=True):
        assert p_value == pytest.approx(by_test[one.quantity, one.model, one.baseline], nan_ok=True)
    smallest = min(c.test.p_value for c in alone.contrasts if c.num_patients)
    assert min(p for p in alone.p_holm if not math.isnan(p)) == pytest.approx(min(1, 15 * smallest))
    surface = of(alone, "surface_dice")
    assert (surface.num_cases, math.isnan(surface.estimate.value), math.isnan(surface.test.p_value)) == (0, True, True)


def test_trainings_are_averaged_case_by_case_and_their_spread_is_shown(make_outcome: Make) -> None:
    one, two = cohort(make_outcome, lambda n: 10), cohort(make_outcome, lambda n: 14)
    old = cohort(make_outcome, lambda n: 11)
    found = compare({"old": old, "new #1": one, "new #2": two}, QUICK)
    recall = of(found, "recall")
    mean = np.mean([1 / (20 + n) for n in [*range(12), 0, 1]])
    assert recall.estimate.value == pytest.approx(mean)
    assert [side.name for side in found.sides] == ["old", "new"]
    level = next(one for one in found.levels if (one.model, one.quantity) == ("new", "recall"))
    singles = [np.mean([k / (20 + n) for n in [*range(12), 0, 1]]) for k in (10, 14)]
    assert level.run_values == pytest.approx(singles)
    assert level.estimate.value == pytest.approx(np.mean(singles))
    assert level.run_sd == pytest.approx(abs(singles[1] - singles[0]) / math.sqrt(2))
    assert level.run_range == pytest.approx((singles[0], singles[1]))
    assert not found.groups
    assert math.isnan(next(one for one in found.levels if one.model == "old").run_sd)


def test_groups_are_judged_by_patient_in_either_definition(make_outcome: Make) -> None:
    # Reference volumes 4, 8, …, 32 mm³; quartiles at 11, 18, 25.
    truth = [8 * n for n in range(1, 9)]
    right = [make_outcome(f"c{n}", voxels, 0, 0) for n, voxels in enumerate(truth)]
    wrong = [make_outcome(f"c{n}", voxels // 4, 0, voxels - voxels // 4) for n, voxels in enumerate(truth)]
    found = compare({"wrong": wrong, "right": right}, QUICK)
    (paper,) = found.groups
    assert (paper.definition, paper.num_patients, paper.model_accuracy, paper.baseline_accuracy) == (
        "paper",
        8,
        1.0,
        0.25,
    )
    assert (paper.test.only_first, paper.test.only_second) == (6, 0)
    assert found.groups_p_holm == (paper.test.p_value,) == (pytest.approx(2 / 2**6),)
    # One wrong series makes a patient wrong.
    together = [replace(o, patient_id=f"p{n // 2}") for n, o in enumerate(wrong)]
    both = compare(
        {"wrong": together, "right": [replace(o, patient_id=f"p{n // 2}") for n, o in enumerate(right)]}, QUICK
    )
    assert (both.groups[0].num_patients, both.groups[0].baseline_accuracy) == (4, 0.25)
    cuts = deployed_cuts(np.array([4.0, 12.0, 20.0, 28.0]), np.array([]), 1.0)
    frozen = compare({"wrong": wrong, "right": right}, QUICK, deployed={"wrong": {None: cuts}, "right": {None: cuts}})
    assert [one.definition for one in frozen.groups] == ["paper", "deployed"]
    assert (
        compare({"wrong": wrong, "right": right}, QUICK, deployed={"right": {None: cuts}}).groups[-1].definition
        == "paper"
    )
    assert not compare({"wrong": wrong, "right": right}, replace(QUICK, burden_label=None)).groups


def test_strata_are_those_of_the_reference(make_outcome: Make) -> None:
    old = [replace(o, slice_thickness_mm=(1.0, 5.0)[n % 2]) for n, o in enumerate(cohort(make_outcome, lambda n: 10))]
    new = [replace(o, slice_thickness_mm=(1.0, 5.0)[n % 2]) for n, o in enumerate(cohort(make_outcome, lambda n: 12))]
    found = compare({"old": old, "new": new}, replace(QUICK, size_cuts_mm3=(11.0, 13.0)))
    counts = {one.stratum: one.num_cases for one in found.strata if one.quantity == "dice"}
    # 10, 10.5, … 15.5 mm³, and 10 and 10.5 again.
    assert counts == {
        "slice thickness ≤ 1.5 mm": 7, "slice thickness 3.5–6 mm": 7, "volume quartile 1": 4, "volume quartile 2": 3,
        "volume quartile 3": 3, "volume quartile 4": 4,
        "volume ≤ 11 mm³": 5, "volume 11–13 mm³": 4, "volume > 13 mm³": 5,
    }  # fmt: skip
    thick = next(o for o in found.strata if (o.stratum, o.quantity) == ("slice thickness 3.5–6 mm", "recall"))
    assert thick.estimate.value == pytest.approx(np.mean([2 / (20 + n) for n in (1, 3, 5, 7, 9, 11, 1)]))


@pytest.mark.parametrize("change", ["missing", "reference", "patient", "volume", "twice", "more"])
def test_the_odd_one_out_is_named(make_outcome: Make, change: str) -> None:
    good = cohort(make_outcome, lambda n: 10)
    bad = {
        "missing": good[1:],
        "reference": [replace(good[0], false_negative=3), *good[1:]],
        "patient": [replace(good[0], patient_id="x"), *good[1:]],
        "volume": [replace(good[0], reference_mm3=1.0), *good[1:]],
        "twice": [*good, good[0]],
        "more": [*good, replace(good[0], case_id="z")],
    }[change]
    for order in ({"a": bad, "b": good, "c": good}, {"a": good, "b": bad, "c": good}, {"x": good, "b": bad}):
        with pytest.raises(DataError) as caught:
            compare(order, QUICK)
        odd = next(name for name, rows in order.items() if rows is bad)
        assert (caught.value.code, caught.value.where) == ("CASES_DIFFER", odd)


def test_rounding_is_no_difference_and_nothing_is_nothing(make_outcome: Make) -> None:
    good = cohort(make_outcome, lambda n: 10)
    rounded = [replace(o, reference_mm3=o.reference_mm3 * (1 + 1e-9)) for o in good]
    compare({"a": good, "b": rounded}, QUICK)
    with pytest.raises(DataError) as caught:
        compare({"a": []}, QUICK)
    assert caught.value.code == "NO_CASES"


def test_a_comparison_about_nothing_is_refused() -> None:
    for wrong in (
        {"quantities": ("dise",)}, {"quantities": ()}, {"quantities": ("dice", "dice")}, {"margins": {"dice": 0.0}},
        {"margins": {"false_volume_mm3": 1.0}}, {"quantities": ("volume_bias_mm3",), "margins": {}},
        {"size_cuts_mm3": (8.0, 3.0)},
    ):  # fmt: skip
        with pytest.raises(ConfigError):
            CompareConfig(**wrong)
    with pytest.raises(ConfigError, match="cut-points"):
        volume_strata([], (3.0, 3.0))


def simulated(make: Make, seed: int, effect: float) -> tuple[list[CaseOutcome], list[CaseOutcome]]:
    """Thirty patients of 200 voxels; the second model finds a share more that differs between patients."""
    rng = np.random.default_rng(seed)
    base = rng.uniform(0.4, 0.6, 30)
    gain = effect + rng.normal(0, 0.05, 30)
    sides = []
    for recall in (base, base + gain):
        found = np.rint(200 * np.clip(recall, 0, 1)).astype(int).tolist()
        sides.append([make(f"c{n}", tp, 0, 200 - tp) for n, tp in enumerate(found)])
    return sides[0], sides[1]


def test_a_planted_effect_is_covered_and_found(make_outcome: Make) -> None:
    covered, p_values = 0, []
    settings = IntervalConfig(resamples=300)
    for seed in range(200):
        old, new = simulated(make_outcome, seed, 0.03)
        found = contrast("recall", ("new", [new]), ("old", [old]), settings)
        covered += found.estimate.low <= 0.03 <= found.estimate.high
        p_values.append(found.test.p_value)
    # Nominal 0.95; BCa of 30 patients is a little short, and 200 simulations have a standard error of 0.015.
    assert 0.89 <= covered / 200 <= 0.99
    assert np.mean(np.array(p_values) < 0.05) > 0.8


def test_without_an_effect_p_is_uniform_and_intervals_hold_zero(make_outcome: Make) -> None:
    p_values, excluded = [], 0
    settings = IntervalConfig(resamples=200)
    for seed in range(200):
        old, new = simulated(make_outcome, 1000 + seed, 0.0)
        found = contrast("recall", ("new", [new]), ("old", [old]), settings)
        p_values.append(found.test.p_value)
        excluded += not found.estimate.low <= 0 <= found.estimate.high
    assert stats.kstest(p_values, "uniform").pvalue > 0.01
    assert np.mean(np.array(p_values) <= 0.05) == pytest.approx(0.05, abs=0.03)
    assert excluded / 200 < 0.1
