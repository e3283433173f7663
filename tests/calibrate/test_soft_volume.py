"""Soft volumes by brute force on tilted, uneven slices; the line against scipy."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import linregress

from apatite.calibrate.reliability import ScoreConfig
from apatite.calibrate.soft_volume import soft_agreement, soft_volume_mm3
from apatite.calibrate.temperature import TemperatureFit
from apatite.core.scan import SliceStack

FIT = TemperatureFit(
    temperature=2.0, slope=0.5, seen_mm=(1.0, 5.0), nll_before=0.4, nll_after=0.3, ece_before=0.1, ece_after=0.02,
    brier_before=0.1, brier_after=0.09, num_voxels=900, num_cases=9, low=1.5, high=2.4,
)  # fmt: skip
TILTED = SliceStack(
    shape=(4, 5, 7),
    origins_ras_mm=np.array([[0.0, 0.0, z] for z in (0.0, 2.0, 5.0, 6.0)]),
    column_step_ras_mm=np.array([0.5, 0.0, 0.0]),
    row_step_ras_mm=np.array([0.0, 0.6, 0.2]),
    thickness_mm=np.full(4, 2.5),
)


def test_by_brute_force() -> None:
    rng = np.random.default_rng(0)
    probability = rng.random(TILTED.shape)
    is_summed = rng.random(TILTED.shape) < 0.6
    # Slices are 0, 2, 5, 6 apart along z, seen along the normal; the pixel is 0.5 mm × 0.6325 mm.
    cosine = 0.6 / np.hypot(0.6, 0.2)
    weights_mm = np.array([(2 * cosine + 2.5) / 2, 2.5 * cosine, 2 * cosine, (cosine + 2.5) / 2])
    expected = 0.0
    for place in np.argwhere(is_summed):
        odds = (probability[tuple(place)] / (1 - probability[tuple(place)])) ** (1 / (2.0 * (4 / 3) ** 0.5))
        expected += odds / (1 + odds) * weights_mm[place[0]] * 0.5 * np.hypot(0.6, 0.2)
    assert soft_volume_mm3(probability, is_summed, TILTED, FIT, 4.0) == pytest.approx(expected)
    assert soft_volume_mm3(probability, is_summed & False, TILTED, FIT, 4.0) == 0.0
    with pytest.raises(ValueError, match="does not fit the slices"):
        soft_volume_mm3(probability[:3], is_summed[:3], TILTED, FIT, None)


def test_of_calibrated_probabilities_the_line_is_the_diagonal(sigmoid_case) -> None:
    fit = replace(FIT, slope=0.0)
    stack = replace(TILTED, shape=(4, 25, 30))
    soft, volume = [], []
    for seed in range(60):
        case = sigmoid_case(seed, temperature=2.0, count=3000)
        # Cases differ in how much of them is looked at.
        is_summed = (np.arange(3000) < 50 * seed).reshape(stack.shape)
        probability = case.probability.reshape(stack.shape)
        soft.append(soft_volume_mm3(probability, is_summed, stack, fit, None))
        sure = np.where(case.is_reference.reshape(stack.shape), 1.0, 0.0)
        volume.append(soft_volume_mm3(sure, is_summed, stack, replace(fit, temperature=0.1, low=0.1), None))
    names = [f"p{n}" for n in range(60)]
    found = soft_agreement(np.array(soft), np.array(volume), names, ScoreConfig(resamples=300))
    assert found.slope.low < 1 < found.slope.high
    assert found.slope.value == pytest.approx(1, abs=0.03)
    assert found.intercept.low < 0 < found.intercept.high
    line = linregress(soft, volume)
    assert (found.slope.value, found.intercept.value) == pytest.approx((line.slope, line.intercept))
    assert (found.intercept.unit, found.num_cases) == ("mm³", 60)


def test_a_line_needs_two_volumes() -> None:
    for soft in ([3.0, 3.0], [3.0]):
        values = np.array(soft)
        found = soft_agreement(values, values, [str(n) for n in range(len(soft))], ScoreConfig(resamples=20))
        assert np.isnan(found.slope.value)
        assert np.isnan(found.intercept.value)
