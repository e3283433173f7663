"""The temperature against scipy on raw voxels, against a known truth, and at its edges."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize, minimize_scalar

from apatite.calibrate.likelihood import likelihood_loss
from apatite.calibrate.logit_histogram import logit_histogram, logit_of, pool
from apatite.calibrate.temperature import TemperatureFit, fit_temperature
from apatite.core.errors import ConfigError, DataError
from apatite.metrics.bootstrap import draw_patients

UNKNOWN = [None] * 8


def histograms(cases):
    return [logit_histogram(case.probability, case.is_reference, case.voxel_mm3) for case in cases]


def raw_nll(cases, log_temperatures, offset=0.0) -> float:
    """Mean over cases of the volume-weighted NLL, voxel by voxel, by its definition."""
    values = []
    for case, log_temperature in zip(cases, log_temperatures, strict=True):
        p = 1 / (1 + np.exp(-logit_of(case.probability) / math.exp(log_temperature) - offset))
        nll = -np.log(np.where(case.is_reference, p, 1 - p))
        values.append(np.average(nll, weights=case.voxel_mm3))
    return float(np.mean(values))


@pytest.mark.parametrize("truth", [0.5, 1.0, 1.7, 3.0])
def test_agrees_with_scipy_on_raw_voxels_to_a_thousandth(truth, sigmoid_case) -> None:
    cases = [sigmoid_case(seed, truth) for seed in range(8)]
    fit = fit_temperature(histograms(cases), list("abcdefgh"), UNKNOWN, has_offset=False, resamples=200)
    best = minimize_scalar(
        lambda at: raw_nll(cases, [at] * 8), bounds=(-2, 2), method="bounded", options={"xatol": 1e-9}
    )
    assert fit.temperature == pytest.approx(math.exp(best.x), abs=1e-3)
    assert fit.nll_after == pytest.approx(best.fun, abs=1e-4)
    assert fit.nll_before == pytest.approx(raw_nll(cases, [0.0] * 8), abs=1e-4)
    # And the truth is recovered, within what 24,000 voxels tell.
    assert fit.temperature == pytest.approx(truth, rel=0.05)
    assert fit.low <= fit.temperature <= fit.high
    assert fit.low <= truth * 1.03
    assert fit.high >= truth * 0.97
    assert (fit.slope, fit.num_cases, fit.num_voxels) == (0.0, 8, 24_000)
    if truth == 3.0:
        assert fit.ece_after < 0.25 * fit.ece_before
        assert fit.brier_after < fit.brier_before


@pytest.mark.parametrize(("truth", "offset"), [(1.0, 0.0), (2.2, -1.8), (0.7, 0.9)])
def test_temperature_and_offset_against_scipy_on_raw_voxels(truth, offset, sigmoid_case) -> None:
    """As of a network that is too sure and too generous."""
    cases = [sigmoid_case(seed, truth, offset=offset) for seed in range(8)]
    fit = fit_temperature(histograms(cases), list("abcdefgh"), UNKNOWN, resamples=200)
    best = minimize(lambda at: raw_nll(cases, [at[0]] * 8, at[1]), [0.0, 0.0], method="Nelder-Mead",
                    options={"xatol": 1e-7, "fatol": 1e-12})  # fmt: skip
    assert (fit.temperature, fit.offset) == pytest.approx((math.exp(best.x[0]), best.x[1]), abs=1e-3)
    assert (fit.temperature, fit.offset) == pytest.approx((truth, offset), abs=0.12)
    assert fit.low < fit.temperature < fit.high
    if offset:
        alone = fit_temperature(histograms(cases), list("abcdefgh"), UNKNOWN, has_offset=False, resamples=0)
        assert fit.ece_after < 0.5 * alone.ece_after
        assert alone.offset == 0.0


def test_the_spread_is_that_of_refits(sigmoid_case) -> None:
    """One step of scoring against fitting each resample anew."""
    cases = [sigmoid_case(seed, (1.5, 2.5)[seed % 2], 1500, offset=-1.0) for seed in range(10)]
    made, names = histograms(cases), [str(n) for n in range(10)]
    fit = fit_temperature(made, names, [None] * 10, 60, 5)
    refits = []
    for draw in draw_patients(10, 60, 5):
        chosen = [f"{place}" for place in range(10)]
        refits.append(fit_temperature([made[n] for n in draw], chosen, [None] * 10, 0).temperature)
    assert (fit.low, fit.high) == pytest.approx(tuple(np.percentile(refits, [2.5, 97.5])), rel=0.02)


def test_the_gradient_is_that_of_the_loss_and_the_loss_is_convex_in_one_over_t(sigmoid_case) -> None:
    (case,) = cases = [sigmoid_case(1, 2.0, 400)]
    pooled = pool(histograms(cases), ["a"])
    none = np.zeros(1)
    for at in ([-1.0, 0.0, 0.0], [0.3, 0.4, -1.5], [0.7, -0.2, 0.6]):
        _, gradient = likelihood_loss(pooled, np.array([0.5]), np.array(at))
        for place in range(3):
            step = 1e-5 * np.eye(3)[place]
            ends = [likelihood_loss(pooled, np.array([0.5]), np.array(at) + sign * step)[0] for sign in (1, -1)]
            assert gradient[place] == pytest.approx((ends[0] - ends[1]) / 2e-5, abs=1e-6)
    assert likelihood_loss(pooled, none, np.array([0.7, 0.0, 0.0]))[0] == pytest.approx(raw_nll(cases, [0.7]), abs=1e-4)
    inverse = np.linspace(0.1, 4, 60)
    losses = np.array([raw_nll([case], [-math.log(beta)]) for beta in inverse])
    assert np.all(np.diff(losses, 2) > -1e-12)


def test_every_patient_counts_alike(sigmoid_case) -> None:
    sure, unsure = [sigmoid_case(s, 3.0) for s in range(5)], [sigmoid_case(s, 1.0) for s in range(5, 10)]
    big = [replace(case, voxel_mm3=100 * case.voxel_mm3) for case in sure]
    names = list("abcdefghij")
    first = fit_temperature(histograms(sure + unsure), names, [None] * 10, has_offset=False, resamples=50)
    second = fit_temperature(histograms(big + unsure), names, [None] * 10, has_offset=False, resamples=50)
    assert second.temperature == pytest.approx(first.temperature, rel=1e-9)
    # Two series of one patient are one patient, in the fit and in its spread.
    twice = fit_temperature(
        histograms(sure + sure + unsure), names[:5] * 2 + names[5:], [None] * 15, has_offset=False, resamples=50
    )
    assert twice.temperature == pytest.approx(first.temperature, rel=1e-9)
    assert (twice.low, twice.high) == pytest.approx((first.low, first.high), rel=1e-6)


def thick_and_thin(sigmoid_case, slope: float, per_group: int = 6):
    thickness = [1.0] * per_group + [5.0] * per_group
    cases = [sigmoid_case(n, 2.0 * (mm / 3) ** slope) for n, mm in enumerate(thickness)]
    return cases, thickness, [f"p{n}" for n in range(len(cases))]


def test_a_dependence_on_thickness_is_found_and_shrunk(sigmoid_case) -> None:
    cases, thickness, patients = thick_and_thin(sigmoid_case, 0.5)
    free = fit_temperature(histograms(cases), patients, thickness, has_offset=False, resamples=20, prior_patients=0.0)
    log_mm = np.log(np.array(thickness) / 3)
    best = minimize(lambda at: raw_nll(cases, at[0] + at[1] * log_mm), [0.0, 0.0], method="Nelder-Mead",
                    options={"xatol": 1e-7, "fatol": 1e-12})  # fmt: skip
    assert (math.log(free.temperature), free.slope) == pytest.approx(best.x, abs=1e-3)
    assert free.slope == pytest.approx(0.5, abs=0.08)
    shrunk = fit_temperature(histograms(cases), patients, thickness, has_offset=False, resamples=20)
    assert 0.5 * free.slope < shrunk.slope < 0.9 * free.slope
    assert fit_temperature(histograms(cases), patients, thickness, 20, 0, prior_patients=math.inf).slope == 0.0
    assert shrunk.at(1.0) < shrunk.at(3.0) < shrunk.at(5.0)
    assert shrunk.at(3.0) == pytest.approx(shrunk.temperature)
    # Beyond what was seen the nearer end holds; where nothing is known, 3 mm.
    assert (shrunk.at(0.4), shrunk.at(20.0)) == (shrunk.at(1.0), shrunk.at(5.0))
    assert shrunk.at(None) == pytest.approx(shrunk.temperature)
    assert shrunk.seen_mm == (1.0, 5.0)


def test_one_group_or_few_cases_in_one_leave_the_slope_at_0(sigmoid_case) -> None:
    cases, thickness, patients = thick_and_thin(sigmoid_case, 0.5)
    few = fit_temperature(histograms(cases[:10]), patients[:10], thickness[:10], has_offset=False, resamples=20)
    assert few.slope == 0.0
    same = fit_temperature(histograms(cases), patients, [2.0] * 6 + [3.0] * 6, has_offset=False, resamples=20)
    assert same.slope == 0.0


def test_a_refit_is_the_same_and_survives_json(sigmoid_case) -> None:
    cases, thickness, patients = thick_and_thin(sigmoid_case, 0.3)
    first, second = (fit_temperature(histograms(cases), patients, thickness, 50, 3) for _ in range(2))
    assert first == second
    text = json.dumps(first.to_dict(), allow_nan=False)
    assert TemperatureFit.from_dict({**json.loads(text), "comment": "kept apart"}) == first
    other = fit_temperature(histograms(cases), patients, thickness, 50, 4)
    assert (other.temperature, other.slope) == (first.temperature, first.slope)
    assert other.low != first.low


FIT = TemperatureFit(
    temperature=2.0, slope=0.25, seen_mm=(1.0, 5.0), nll_before=0.4, nll_after=0.3, ece_before=0.1, ece_after=0.02,
    brier_before=0.1, brier_after=0.09, num_voxels=900, num_cases=9, low=1.5, high=2.4,
)  # fmt: skip


@given(st.lists(st.floats(0, 1, width=32), min_size=2, max_size=20), st.sampled_from([None, 0.2, 1.0, 2.7, 40.0]))
def test_the_map_is_monotone_and_finite(values, thickness_mm) -> None:
    probability = np.sort(np.array([0.0, *values, 1.0], dtype=np.float32))
    found = FIT.calibrated(probability, thickness_mm)
    assert np.all(np.diff(found) >= 0)
    assert found.min() > 0
    assert found.max() < 1
    assert FIT.calibrated(np.array([0.5]), thickness_mm) == pytest.approx([0.5])


def test_the_map_by_hand() -> None:
    # logit(0.9) / 2 is that of 0.75, for √9 = 3.
    assert FIT.calibrated(np.array([0.9, 0.1]), None) == pytest.approx([0.75, 0.25])
    # And moved by ln 2, odds of 1 to 3 become 2 to 3.
    moved = replace(FIT, offset=math.log(2))
    assert moved.calibrated(np.array([0.1]), None) == pytest.approx([0.4])
    assert moved.scale(4.0) == (pytest.approx(FIT.at(4.0)), math.log(2))
    assert FIT.at(4.0) == pytest.approx(2 * (4 / 3) ** 0.25)


def test_cases_that_are_told_apart_perfectly_end_at_the_edge() -> None:
    perfect = logit_histogram(np.array([0.3, 0.7]), np.array([False, True]), np.ones(2))
    fit = fit_temperature([perfect] * 6, list("abcdef"), [None] * 6, has_offset=False, resamples=20)
    assert (fit.temperature, fit.low, fit.high) == pytest.approx((0.1, 0.1, 0.1))
    upside_down = logit_histogram(np.array([0.7, 0.3]), np.array([False, True]), np.ones(2))
    assert fit_temperature(
        [upside_down] * 6, list("abcdef"), [None] * 6, has_offset=False, resamples=20
    ).temperature == pytest.approx(10.0)


def test_too_little_to_fit(sigmoid_case) -> None:
    few = histograms([sigmoid_case(n) for n in range(4)])
    empty = logit_histogram(np.zeros(0), np.zeros(0, bool), np.zeros(0))
    for cases in (few, [*few, empty], [logit_histogram(np.array([0.2]), np.array([False]), np.ones(1))] * 6):
        with pytest.raises(DataError) as caught:
            fit_temperature(cases, [str(n) for n in range(len(cases))], [None] * len(cases))
        assert caught.value.code == "TOO_FEW_CASES"
    with pytest.raises(ValueError, match="3 slice thicknesses for 4 cases"):
        fit_temperature(few, list("abcd"), [None] * 3)


@pytest.mark.parametrize(
    "changes",
    [
        {"temperature": 0.0}, {"temperature": math.nan}, {"temperature": 10.5}, {"offset": 11.0}, {"slope": 3.0},
        {"low": -1.0}, {"seen_mm": (5.0, 1.0)}, {"seen_mm": (0.0, 1.0)}, {"seen_mm": (1.0, math.inf)},
        {"ece_after": math.inf},
    ],
)  # fmt: skip
def test_impossible_fits(changes) -> None:
    with pytest.raises(ConfigError, match="impossible"):
        replace(FIT, **changes)
