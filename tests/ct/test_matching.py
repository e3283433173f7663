"""Agreement of samples with a volume: values by hand and against brute force, gradients against differences."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apatite.ct.matching import Samples, Target, agreement, correlation, information, windowed

SHAPE = (9, 11, 14)
MATRIX = np.array([[1.02, 0.1, -0.03, 0.4], [-0.08, 0.97, 0.11, -0.3], [0.02, -0.1, 0.95, 0.2]])


def a_target(seed: int = 0) -> Target:
    """Smooth bumps, 2 mm voxels around the origin."""
    k, j, i = np.meshgrid(*(np.arange(float(n)) for n in SHAPE), indexing="ij")
    draw = np.random.default_rng(seed)
    voxels = sum(
        draw.uniform(0.2, 0.5) * np.exp(-((i - a) ** 2 + (j - b) ** 2 + (k - c) ** 2) / 18)
        for a, b, c in draw.uniform(1, 8, (4, 3))
    )
    origin = -np.array(SHAPE[::-1]) + 1.0
    return Target(voxels=voxels.astype(np.float32), origin_mm=origin, step_mm=2.0, middle_mm=np.zeros(3))


def some_samples(number: int = 300, seed: int = 1) -> Samples:
    draw = np.random.default_rng(seed)
    return Samples(points_mm=draw.uniform(-6, 6, (number, 3)), values=draw.uniform(0, 1, number), pivot_mm=np.zeros(3))


def test_the_window_keeps_bone_and_air():
    np.testing.assert_allclose(windowed(np.array([-1024, -200, 400, 1000, 3000], np.float32)), [0, 0, 0.5, 1, 1])


def test_information_of_two_halves_by_hand():
    """A scan of two classes that the target tells apart knows ln 2; one it does not tell apart knows nothing."""
    values = np.repeat([0.0, 1.0], 500)
    samples = Samples(points_mm=np.zeros((1000, 3)), values=values, pivot_mm=np.zeros(3))
    score = information(samples, 16)
    assert score(values)[0] == pytest.approx(np.log(2), abs=1e-9)
    assert score(1 - values)[0] == pytest.approx(np.log(2), abs=1e-9)
    assert score(np.full(1000, 0.3))[0] == pytest.approx(0, abs=1e-9)
    assert score(np.tile([0.1, 0.9], 500))[0] == pytest.approx(0, abs=1e-9)


def test_information_against_the_joint_histogram_written_out():
    draw = np.random.default_rng(4)
    fixed, moving, bins = draw.uniform(0, 1, 400), draw.uniform(0, 1, 400), 8
    joint = np.zeros((bins, bins + 2))
    for a, b in zip(fixed, moving, strict=True):
        for column in range(bins + 2):
            joint[min(int(a * bins), bins - 1), column] += cubic(b * (bins - 1) - (column - 1)) / 400
    expected = sum(
        joint[r, c] * np.log(joint[r, c] / joint[r].sum() / joint[:, c].sum()) for r, c in np.argwhere(joint > 0)
    )
    samples = Samples(points_mm=np.zeros((400, 3)), values=fixed, pivot_mm=np.zeros(3))
    assert information(samples, bins)(moving)[0] == pytest.approx(expected, rel=1e-9)


def cubic(distance: float) -> float:
    """The cubic B-spline."""
    u = abs(distance)
    return (4 - 6 * u**2 + 3 * u**3) / 6 if u < 1 else max(0.0, 2 - u) ** 3 / 6


def test_correlation_is_numpys():
    draw = np.random.default_rng(5)
    samples, values = some_samples(), draw.uniform(0, 1, 300)
    assert correlation(samples)(values)[0] == pytest.approx(np.corrcoef(samples.values, values)[0, 1])


@pytest.mark.parametrize("make", [lambda s: information(s, 12), correlation], ids=["information", "correlation"])
@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1000))
def test_the_slope_in_each_value_is_the_difference(make, seed):
    draw = np.random.default_rng(seed)
    samples = some_samples(60, seed)
    score, values = make(samples), draw.uniform(0.02, 0.98, 60)
    direction = draw.normal(size=60)
    _, slope = score(values)
    step = 1e-6
    difference = (score(values + step * direction)[0] - score(values - step * direction)[0]) / (2 * step)
    assert slope @ direction == pytest.approx(difference, rel=1e-4, abs=1e-6)


@pytest.mark.parametrize("make", [lambda s: information(s, 12), correlation], ids=["information", "correlation"])
def test_the_gradient_in_the_map_is_the_difference(make):
    samples, target = some_samples(), a_target()
    score = make(samples)
    _, gradient = agreement(samples, target, score, MATRIX)
    numeric = np.zeros((3, 4))
    for place in np.ndindex(3, 4):
        step = np.zeros((3, 4))
        step[place] = 1e-5
        above, below = (agreement(samples, target, score, MATRIX + sign * step)[0] for sign in (1, -1))
        numeric[place] = (above - below) / 2e-5
    np.testing.assert_allclose(gradient, numeric, rtol=2e-2, atol=2e-4)


def test_values_are_trilinear_and_the_border_goes_on():
    """A target that is linear in x, y, z is read exactly; beyond its border the nearest value stands."""
    k, j, i = np.meshgrid(*(np.arange(float(n)) for n in SHAPE), indexing="ij")
    linear = (0.01 * i + 0.02 * j + 0.03 * k).astype(np.float32)
    target = Target(voxels=linear, origin_mm=np.array([1.0, 2.0, 3.0]), step_mm=2.0, middle_mm=np.zeros(3))
    points = np.array([[1.0, 2.0, 3.0], [6.0, 9.0, 4.5], [-50.0, 2.0, 3.0], [500.0, 500.0, 500.0]])
    read: list[np.ndarray] = []

    def note(values):
        read.append(values)
        return 0.0, np.ones_like(values)

    samples = Samples(points_mm=points, values=np.zeros(4), pivot_mm=np.zeros(3))
    _, gradient = agreement(samples, target, note, np.eye(3, 4))
    top = 0.01 * 13 + 0.02 * 10 + 0.03 * 8
    np.testing.assert_allclose(read[0], [0, 0.025 + 0.07 + 0.0225, 0, top], atol=1e-6)
    # Only the one point inside has a slope.
    np.testing.assert_allclose(gradient[:, 3], [0.005, 0.01, 0.015], atol=1e-6)
