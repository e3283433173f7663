"""The search: gradients of both families against differences, a known map found again, threads that do not count."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from apatite.ct.matching import Samples, Target, correlation, information
from apatite.ct.search import (
    AFFINE,
    MNI_OVER_HEAD,
    SIMILARITY,
    Match,
    best_starts,
    distance_mm,
    refine,
    refine_all,
    starts,
    unlikely_size,
)

START = np.column_stack([1.08 * Rotation.from_euler("xyz", [12, -5, 8], degrees=True).as_matrix(), [3.0, -4.0, 7.0]])


def bumps(points: np.ndarray) -> np.ndarray:
    """A smooth field without symmetry, from 0 to about 1."""
    centres = np.array([[-25, 10, 5], [20, -15, 12], [5, 25, -20], [-10, -28, -8], [28, 18, 22.0]])
    sizes, heights = np.array([14, 18, 11, 20, 13.0]), np.array([0.9, 0.5, 0.7, 0.35, 0.6])
    square = ((points[..., None, :] - centres) ** 2).sum(-1)
    return np.clip((heights * np.exp(-square / (2 * sizes**2))).sum(-1), 0, 1)


def a_target() -> Target:
    shape, step = (46, 52, 58), 2.0
    origin = -step * (np.array(shape[::-1]) - 1) / 2
    kji = np.stack(np.meshgrid(*(np.arange(float(n)) for n in shape), indexing="ij"), axis=-1)
    voxels = bumps(origin + step * kji[..., ::-1])
    return Target(voxels=voxels.astype(np.float32), origin_mm=origin, step_mm=step, middle_mm=np.zeros(3))


def samples_under(matrix: np.ndarray, number: int = 4000) -> Samples:
    """Points of a scan whose map to the target is known."""
    points = np.random.default_rng(2).uniform(-38, 38, (number, 3))
    return Samples(
        points_mm=points, values=bumps(points @ matrix[:, :3].T + matrix[:, 3]), pivot_mm=np.array([5.0, -80.0, 300.0])
    )


@pytest.mark.parametrize("family", [SIMILARITY, AFFINE], ids=["similarity", "affine"])
@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), size=st.sampled_from([0.0, 1.0, 30.0]))
def test_a_familys_gradient_is_the_difference(family, seed, size):
    draw = np.random.default_rng(seed)
    parameters, slope = size * draw.normal(size=family.size), draw.normal(size=(3, 4))
    gradient = family.gradient(parameters, START, slope)
    for n in range(family.size):
        step = 1e-5 * np.eye(family.size)[n]
        above, below = (family.matrix(parameters + sign * step, START) for sign in (1, -1))
        assert gradient[n] == pytest.approx(np.sum(slope * (above - below)) / 2e-5, rel=1e-5, abs=1e-6)


def test_no_parameters_are_the_start_and_similarities_stay_so():
    for family in (SIMILARITY, AFFINE):
        np.testing.assert_allclose(family.matrix(np.zeros(family.size), START), START)
    linear = SIMILARITY.matrix(np.array([5.0, -9, 3, 4, 1, 2, 3]), START)[:, :3]
    np.testing.assert_allclose(linear @ linear.T, np.eye(3) * np.linalg.det(linear) ** (2 / 3), atol=1e-9)


def test_a_unit_of_a_turn_or_a_scale_is_a_millimetre_on_the_head():
    for n in range(4):
        moved = SIMILARITY.matrix(np.eye(7)[n], np.eye(3, 4)) - np.eye(3, 4)
        reach = np.linalg.norm(moved[:, :3], axis=0).max() * 70
        assert reach == pytest.approx(1.0, abs=0.01)


@pytest.mark.parametrize("make", [lambda s: information(s, 32), correlation], ids=["information", "correlation"])
def test_a_known_similarity_is_found_again(make):
    truth = np.column_stack(
        [MNI_OVER_HEAD * Rotation.from_euler("xyz", [9, -6, 11], degrees=True).as_matrix(), [4.0, -3.0, 2.5]]
    )
    samples = samples_under(truth)
    found = refine(samples, a_target(), make(samples), np.eye(3, 4), SIMILARITY, 80)
    assert distance_mm(found.matrix, truth, 30.0) < 0.3


def test_a_known_affine_map_is_found_again():
    linear = np.array([[1.04, 0.06, -0.02], [-0.05, 0.93, 0.08], [0.03, -0.07, 0.88]])
    # Of the usual size, which costs nothing.
    linear *= MNI_OVER_HEAD / np.cbrt(np.linalg.det(linear))
    truth = np.column_stack([linear, [3.0, -2.0, 4.0]])
    samples = samples_under(truth)
    found = refine(samples, a_target(), correlation(samples), np.eye(3, 4), AFFINE, 120)
    assert distance_mm(found.matrix, truth, 30.0) < 0.3


def test_the_starts_turn_and_shift_about_the_middle():
    matrices = starts(np.array([1.0, -20.0, 10.0]))
    assert len(matrices) == 5 * 3 * 11
    assert len({matrix.tobytes() for matrix in matrices}) == len(matrices)
    assert {tuple(matrix[:2, 3]) for matrix in matrices} == {(1.0, -20.0)}
    assert all(np.linalg.det(matrix[:, :3]) == pytest.approx(1.07**3) for matrix in matrices)


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_the_best_that_differ_are_kept_in_order_for_any_number_of_threads(threads):
    matrices = [np.column_stack([np.eye(3), [shift, 0.0, 0.0]]) for shift in (0.0, 5.0, 40.0, 80.0, 83.0)]
    scores = dict(zip((0.0, 5.0, 40.0, 80.0, 83.0), (0.3, 0.5, 0.1, 0.4, 0.6), strict=True))

    def climb(matrix: np.ndarray) -> Match:
        return Match(matrix=matrix, score=scores[float(matrix[0, 3])])

    kept = refine_all(matrices, climb, threads, 3)
    assert [float(match.matrix[0, 3]) for match in kept] == [83.0, 5.0, 40.0]


def test_an_unusual_size_costs_and_a_mirrored_head_is_impossible():
    assert unlikely_size(MNI_OVER_HEAD * np.eye(3, 4))[0] == pytest.approx(0, abs=1e-12)
    # By hand: larger by a factor of e^0.08, one spread, costs one hundredth of a nat; two spreads four.
    assert unlikely_size(MNI_OVER_HEAD * np.exp(0.08) * np.eye(3, 4))[0] == pytest.approx(0.01)
    assert unlikely_size(MNI_OVER_HEAD * np.exp(-0.16) * np.eye(3, 4))[0] == pytest.approx(0.04)
    assert unlikely_size(np.diag([-1.0, 1, 1]) @ np.eye(3, 4))[0] == np.inf


def test_the_gradient_of_the_size_is_the_difference():
    _, gradient = unlikely_size(START)
    numeric = np.zeros((3, 4))
    for place in np.ndindex(3, 4):
        step = np.zeros((3, 4))
        step[place] = 1e-6
        numeric[place] = (unlikely_size(START + step)[0] - unlikely_size(START - step)[0]) / 2e-6
    np.testing.assert_allclose(gradient, numeric, atol=1e-7)


def test_the_most_promising_starts_come_first():
    samples, target = samples_under(np.eye(3, 4)), a_target()
    shifted = [np.column_stack([np.eye(3), [0.0, shift, 0.0]]) for shift in (30.0, 2.0, 12.0)]
    best = best_starts(samples, target, correlation(samples), shifted, 2)
    assert [float(matrix[1, 3]) for matrix in best] == [2.0, 12.0]
