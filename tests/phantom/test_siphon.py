import numpy as np
import pytest

from apatite.phantom.siphon import STEP_MM, build_artery, draw_arteries


@pytest.mark.parametrize("seed", range(4))
def test_tubes_are_smooth_enough_that_cross_sections_never_meet(seed):
    for artery in draw_arteries(np.random.default_rng(seed)):
        assert np.linalg.norm(artery.bend_per_mm, axis=1).max() * artery.radius_mm < 0.95
        steps = np.linalg.norm(np.diff(artery.points_mm, axis=0), axis=1)
        assert np.all((steps > 0.9 * STEP_MM) & (steps <= STEP_MM + 1e-9))


def test_sides_lie_on_their_sides_where_anatomy_says():
    right, left = draw_arteries(np.random.default_rng(5))
    assert right.points_mm[:, 0].min() > 4 and left.points_mm[:, 0].max() < -4
    for artery in (right, left):
        index = [round(site / STEP_MM) for site in artery.sites_mm]
        horizontal = artery.points_mm[index[3] : index[5]]
        assert np.all((np.abs(horizontal[:, 0]) > 7) & (np.abs(horizontal[:, 0]) < 18))
        # It enters from behind and below, runs forward, and turns back above itself.
        assert horizontal[0, 1] < horizontal[-1, 1]
        assert artery.points_mm[index[7], 2] > artery.points_mm[index[4], 2] + 5
        assert artery.points_mm[index[7], 1] < artery.points_mm[index[6], 1]


def test_axes_are_orthonormal_and_do_not_twist():
    artery = draw_arteries(np.random.default_rng(6))[0]
    tangent = np.gradient(artery.points_mm, axis=0)
    tangent /= np.linalg.norm(tangent, axis=1, keepdims=True)
    for axis in (artery.first_axis, artery.second_axis):
        np.testing.assert_allclose(np.linalg.norm(axis, axis=1), 1)
        np.testing.assert_allclose(np.einsum("ij,ij->i", axis, tangent), 0, atol=1e-9)
    np.testing.assert_allclose(np.einsum("ij,ij->i", artery.first_axis, artery.second_axis), 0, atol=1e-9)
    turned = np.einsum("ij,ij->i", np.diff(artery.first_axis, axis=0), artery.second_axis[1:])
    assert np.abs(turned).max() < 0.05


def test_the_bend_of_a_circle_is_one_over_its_radius_and_points_inwards():
    angle = np.linspace(0, np.pi, 9)
    circle = np.stack([10 * np.cos(angle), 10 * np.sin(angle), np.zeros(9)], axis=1)
    artery = build_artery("right", circle, 2.0, 0.5)
    middle = len(artery.points_mm) // 2
    np.testing.assert_allclose(artery.bend_per_mm[middle], -artery.points_mm[middle] / 100, atol=0.01)
