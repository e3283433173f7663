"""Scores against their definitions, voxel by voxel; intervals against resampling by hand."""

import numpy as np
import pytest

from apatite.calibrate.logit_histogram import Scale, logit_histogram, logit_of, pool
from apatite.calibrate.reliability import ScoreConfig, classwise_ace, reliability, times_drawn
from apatite.calibrate.scores import scores
from apatite.core.errors import DataError
from apatite.metrics.bootstrap import draw_patients

QUICK = ScoreConfig(resamples=200)


def of(probability, is_reference, voxel_mm3=None):
    values = np.asarray(probability, dtype=np.float64)
    weights = np.ones(len(values)) if voxel_mm3 is None else np.asarray(voxel_mm3, dtype=np.float64)
    return logit_histogram(values, np.asarray(is_reference, dtype=bool), weights)


def raw_ece(probability, is_reference, bins: int) -> tuple[float, float]:
    """Equal-mass ECE and ACE as other packages compute them: sort the voxels, cut into equal parts."""
    order = np.argsort(probability, kind="stable")
    gaps = [
        (len(part), abs(is_reference[part].mean() - probability[part].mean())) for part in np.array_split(order, bins)
    ]
    return sum(n * gap for n, gap in gaps) / len(probability), float(np.mean([gap for _, gap in gaps]))


def test_by_hand() -> None:
    # Fifteen voxels make fifteen bins of one each: the error of each is |y − p|.
    probability = np.linspace(0.03, 0.97, 15)
    is_reference = np.arange(15) % 3 == 0
    found = scores(pool([of(probability, is_reference)], ["a"]), [Scale(1.0)] * 1)
    gap = np.abs(is_reference - probability)
    assert (found.ece, found.ace) == pytest.approx((gap.mean(), gap.mean()))
    assert found.brier == pytest.approx((gap**2).mean())
    assert found.nll == pytest.approx(-np.log(1 - gap).mean())


def test_four_voxels_of_one_probability_are_one_bin() -> None:
    # Ties must stay together: apart, each would be wrong by itself.
    found = scores(pool([of([0.25] * 4, [1, 0, 0, 0]), of([0.25] * 4, [0, 0, 1, 0])], ["a", "b"]), [Scale(1.0)] * 2)
    assert found.ece == pytest.approx(0.0, abs=1e-12)
    assert found.brier == pytest.approx(0.25 * 0.75)


@pytest.mark.parametrize("temperature", [1.0, 2.5])
def test_agrees_with_sorting_the_voxels(temperature, sigmoid_case) -> None:
    case = sigmoid_case(3, temperature=1.8, count=60_000)
    found = scores(pool([of(case.probability, case.is_reference)], ["a"]), [Scale(temperature)])
    scaled = 1 / (1 + np.exp(-logit_of(case.probability) / temperature))
    ece, ace = raw_ece(scaled, case.is_reference, 15)
    assert (found.ece, found.ace) == pytest.approx((ece, ace), abs=2e-3)
    assert found.brier == pytest.approx(((scaled - case.is_reference) ** 2).mean(), abs=1e-4)


def test_volume_within_a_patient_and_patients_alike() -> None:
    # One voxel of 3 mm³ and one of 1 mm³ in one patient; a thousand voxels in another.
    first, second = of([0.2, 0.8], [True, True], [3.0, 1.0]), of([0.5] * 1000, np.arange(1000) % 2 == 0)
    found = scores(pool([first, second], ["a", "b"]), [Scale(1.0)] * 2)
    assert found.brier == pytest.approx(((3 * 0.64 + 0.04) / 4 + 0.25) / 2)


def test_a_calibrated_model_has_a_small_error_and_a_curve_on_the_diagonal(sigmoid_case) -> None:
    cases = [sigmoid_case(n, count=8000) for n in range(12)]
    histograms = [of(case.probability, case.is_reference, case.voxel_mm3) for case in cases]
    names = [f"p{n}" for n in range(12)]
    found = reliability(histograms, names, [1.0] * 12, QUICK)
    assert found.ece.value < 0.01
    curve = found.curve
    assert np.nanmax(np.abs(curve.frequency - curve.confidence)) < 0.03
    assert np.all(curve.low <= curve.high)
    assert curve.share.sum() == pytest.approx(1.0)
    everything = np.concatenate([case.is_reference for case in cases])
    assert found.prevalence == pytest.approx(everything.mean(), abs=0.02)
    worse = reliability(histograms, names, [0.4] * 12, QUICK)
    assert worse.ece.low > found.ece.high
    assert worse.nll.value > found.nll.value
    assert worse.brier.value > found.brier.value
    assert (found.num_cases, found.num_patients) == (12, 12)


def test_the_mass_of_what_nobody_takes_for_calcium_can_be_left_out() -> None:
    # 990 voxels of bone at 0.001, and ten at 0.6 of which none is marked.
    probability = np.array([0.001] * 990 + [0.6] * 10)
    found = reliability([of(probability, [0] * 1000)], ["a"], [1.0], QUICK)
    assert found.ece_found.value == pytest.approx(0.6)
    assert found.ece.value == pytest.approx(0.01 * 0.6 + 0.99 * 0.001)
    # Which voxels those are is asked before the temperature: at T = 8 all are above 1 %.
    scaled = reliability([of(probability, [0] * 1000)], ["a"], [8.0], QUICK)
    assert scaled.ece_found.value == pytest.approx(1.5**0.125 / (1 + 1.5**0.125))
    assert np.isnan(reliability([of([0.001], [0])], ["a"], [1.0], QUICK).ece_found.value)


def test_intervals_by_patient(sigmoid_case) -> None:
    cases = [sigmoid_case(n, 2.0, count=500) for n in range(8)]
    histograms = [of(case.probability, case.is_reference, case.voxel_mm3) for case in cases]
    names = list("abcdefgh")
    found = reliability(histograms, names, [1.0] * 8, ScoreConfig(resamples=300, method="percentile", seed=2))
    of_patients = np.array([scores(pool([h], ["x"]), [Scale(1.0)] * 1).brier for h in histograms])
    means = of_patients[draw_patients(8, 300, 2)].mean(axis=1)
    assert found.brier.value == pytest.approx(of_patients.mean())
    assert (found.brier.low, found.brier.high) == pytest.approx(tuple(np.percentile(means, [2.5, 97.5])))
    assert found.ece.low <= found.ece.value <= found.ece.high
    # The same patients in two series each: nothing becomes firmer.
    twice = reliability(histograms * 2, names * 2, [1.0] * 16, ScoreConfig(resamples=300, method="percentile", seed=2))
    assert (twice.brier.low, twice.ece.high) == pytest.approx((found.brier.low, found.ece.high))


def test_one_patient_has_no_interval(sigmoid_case) -> None:
    case = sigmoid_case(0, count=300)
    found = reliability([of(case.probability, case.is_reference)], ["a"], [1.0], QUICK)
    assert np.isnan(found.brier.low)
    assert np.isnan(found.ece.high)
    assert np.isnan(found.curve.low).all()
    assert np.isnan(of_empty_bins(found)).any() == (found.curve.share == 0).any()


def of_empty_bins(found):
    return found.curve.frequency[found.curve.share == 0]


def test_classwise_is_the_mean_over_labels(sigmoid_case) -> None:
    case = sigmoid_case(0, count=900)
    one = reliability([of(case.probability, case.is_reference)], ["a"], [1.0], QUICK)
    other = reliability([of(case.probability, case.is_reference)], ["a"], [3.0], QUICK)
    assert classwise_ace([one, other]) == pytest.approx((one.ace.value + other.ace.value) / 2)


def test_draws_are_those_of_the_bootstrap() -> None:
    draws = draw_patients(5, 40, 7)
    expected = np.array([np.bincount(draw, minlength=5) for draw in draws])
    np.testing.assert_array_equal(times_drawn(5, 40, 7), expected)


def test_refusals() -> None:
    with pytest.raises(DataError) as caught:
        reliability([of([], [])], ["a"], [1.0], QUICK)
    assert caught.value.code == "NO_CASES"
    with pytest.raises(ValueError, match="2 scales for 1 cases"):
        reliability([of([0.1], [False])], ["a"], [1.0, 1.0], QUICK)
