"""Planted patterns give the ratio that follows from the window; noise without any gives 1."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from apatite.metrics.checkerboard import mean_ratio, periodic_powers

SHAPE = (3, 20, 48, 24)


def noise(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(SHAPE)


def ratios(values: np.ndarray, repeats: tuple[int, int, int] = (2, 8, 4)) -> dict[tuple[str, int], float]:
    return {(found.axis, found.period): found.ratio for found in periodic_powers(values, repeats)}


def test_every_axis_has_the_periods_of_its_own_doublings():
    expected = [("depth", 2), ("height", 2), ("height", 4), ("height", 8), ("width", 2), ("width", 4)]
    assert list(ratios(noise())) == expected


@pytest.mark.parametrize("sigma", [0.0, 0.5, 0.8])
def test_noise_without_a_pattern_gives_1(sigma):
    found = ratios(np.stack([gaussian_filter(plane, sigma) for plane in noise()]))
    assert all(value == pytest.approx(1, abs=0.3) for value in found.values()), found


def test_a_very_smooth_map_is_not_taken_for_a_checkerboard():
    found = ratios(np.stack([gaussian_filter(plane, 2.0) for plane in noise()]))
    for (_, period), value in found.items():
        assert value < 1.8 if period == 2 else value == pytest.approx(1, abs=0.8)


@pytest.mark.parametrize(
    ("axis", "period", "length", "gain"),
    [("height", 2, 48, 2 / 3), ("height", 4, 48, 1 / 6), ("height", 8, 48, 1 / 12), ("width", 4, 24, 1 / 6)],
)
def test_a_planted_cosine_gives_the_ratio_that_follows(axis, period, length, gain):
    """At 8 elements there are two frequencies, 1/8 and 3/8, and only the first was planted: half the excess."""
    places = np.arange(length).reshape((-1, 1) if axis == "height" else (1, -1))
    amplitude = 0.7
    values = 40 + 5 * (noise() + amplitude * np.cos(2 * np.pi * places / period))
    found = ratios(values)
    assert found.pop((axis, period)) == pytest.approx(1 + gain * length * amplitude**2, rel=0.12)
    assert all(value == pytest.approx(1, abs=0.35) for value in found.values()), found


def test_the_share_is_that_part_of_the_variance():
    """A pattern alone in a map: all of its power, but for what the window spreads to one bin on each side."""
    values = np.broadcast_to(np.cos(np.pi * np.arange(24)), (1, 6, 6, 24)).copy()
    (found,) = periodic_powers(values, (1, 1, 2))
    # Hann: amplitudes 1/2 at the bin and 1/4 on each side, so 1/4 of 1/4 + 2/16.
    assert (found.axis, found.period) == ("width", 2)
    assert found.share == pytest.approx((1 / 4) / (1 / 4 + 2 / 16), rel=1e-6)
    assert found.ratio > 1e6


def test_every_channel_counts_the_same_and_the_scale_does_not():
    values = noise()
    values[1] += 0.6 * np.cos(np.pi * np.arange(24))
    loud = values * np.array([1e3, 1.0, 1e-3]).reshape(3, 1, 1, 1) - 7
    dead = np.concatenate([loud, np.full((1, *SHAPE[1:]), 3.0)])
    for other in (loud, dead):
        assert ratios(other) == pytest.approx(ratios(values))


def test_what_cannot_be_measured_is_left_out():
    assert [found.axis for found in periodic_powers(noise(), (8, 1, 4))] == ["width", "width"]  # 20 / 8, not doubled
    assert periodic_powers(noise()[:, :8], (2, 1, 1)) == []  # 4 tokens
    assert periodic_powers(np.full(SHAPE, 2.5), (2, 2, 2)) == []
    assert np.isnan(mean_ratio([]))


def test_one_number_is_the_mean_over_axes_and_periods():
    found = periodic_powers(noise(), (2, 4, 1))
    assert mean_ratio(found) == pytest.approx(sum(power.ratio for power in found) / 3)
