"""Grids: index and patient map onto each other, and the volume of a sheared voxel is its determinant."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from apatite.core.volume import Estimate, Grid, Volume, axis_aligned_grid

SHAPE = (3, 5, 8)


def a_grid(seed: int) -> Grid:
    rng = np.random.default_rng(seed)
    rotation, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    shear = np.eye(3) + np.triu(rng.uniform(-0.4, 0.4, (3, 3)), 1)
    affine = np.eye(4)
    affine[:3, :3] = rotation @ shear @ np.diag(rng.uniform(0.2, 5, 3))
    affine[:3, 3] = rng.uniform(-200, 200, 3)
    return Grid(shape=SHAPE, ijk_to_ras=affine)


@given(st.integers(0, 2**31))
def test_there_and_back(seed: int) -> None:
    grid = a_grid(seed)
    points = np.random.default_rng(seed + 1).uniform(-20, 20, (2, 4, 3))
    assert grid.to_ijk(grid.to_ras(points)) == pytest.approx(points, abs=1e-8)


@given(st.integers(0, 2**31))
def test_sheared_voxel_volume_is_the_triple_product(seed: int) -> None:
    grid = a_grid(seed)
    i, j, k = grid.ijk_to_ras[:3, :3].T
    assert grid.voxel_mm3 == pytest.approx(abs(np.dot(np.cross(i, j), k)), rel=1e-9)
    assert grid.voxel_mm3 <= np.prod(grid.spacing_mm) * (1 + 1e-12)


def test_gantry_tilt_by_hand() -> None:
    # Slices 5 mm apart along the table, tilted by 30°: the perpendicular distance is 5·cos 30°.
    tilt = np.deg2rad(30)
    affine = np.eye(4)
    affine[:3, 1] = 0.5 * np.array([0, np.cos(tilt), np.sin(tilt)])
    affine[:3, 0] = [0.4, 0, 0]
    affine[:3, 2] = [0, 0, 5]
    grid = Grid(shape=SHAPE, ijk_to_ras=affine)
    assert grid.voxel_mm3 == pytest.approx(0.4 * 0.5 * 5 * np.cos(tilt))
    assert grid.spacing_mm == pytest.approx((0.4, 0.5, 5))


def test_planted_axis_order() -> None:
    grid = axis_aligned_grid(SHAPE, (0.5, 2.0, 3.0), np.array([10.0, -20.0, 30.0]))
    # i runs along width and +x, j along height and +y, k along depth and +z.
    assert grid.to_ras(np.array([7.0, 4.0, 2.0])) == pytest.approx([10 + 3.5 * 0.5, -20 + 2 * 2.0, 30 + 1 * 3.0])
    assert grid.to_ras(np.array([0.0, 0.0, 0.0])) == pytest.approx([10 - 3.5 * 0.5, -20 - 4.0, 30 - 3.0])
    assert grid.centre_ras_mm == pytest.approx([10.0, -20.0, 30.0])


@given(st.integers(0, 2**31))
def test_centre_is_the_mean_of_all_voxels(seed: int) -> None:
    grid = a_grid(seed)
    kji = np.stack(np.meshgrid(*(np.arange(n, dtype=float) for n in SHAPE), indexing="ij"), axis=-1).reshape(-1, 3)
    assert grid.to_ras(kji[:, ::-1]).mean(axis=0) == pytest.approx(grid.centre_ras_mm, abs=1e-9)


def test_matching_looks_at_the_far_corner() -> None:
    grid = axis_aligned_grid((10, 20, 200), (0.5, 0.5, 1.0), np.zeros(3))
    turned = grid.ijk_to_ras.copy()
    turned[1, 0] = 0.001  # 0.2 mm off at i = 199
    assert not grid.matches(Grid(shape=grid.shape, ijk_to_ras=turned))
    turned[1, 0] = 0.0002
    assert grid.matches(Grid(shape=grid.shape, ijk_to_ras=turned))
    assert not grid.matches(Grid(shape=(20, 10, 200), ijk_to_ras=grid.ijk_to_ras))


def test_voxels_of_another_shape_are_refused() -> None:
    with pytest.raises(ValueError, match="do not fit"):
        Volume(voxels=np.zeros(SHAPE[::-1]), grid=a_grid(0))


def test_an_estimate_reads_with_three_figures() -> None:
    estimate = Estimate(value=123.456, low=98.7654, high=150.0, unit="mm³", coverage=0.95)
    assert str(estimate) == "123 mm³ [98.8; 150]"
