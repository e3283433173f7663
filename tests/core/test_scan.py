"""Slices with their own positions: tilted, uneven and overlapping stacks map there and back."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from apatite.core.scan import Scan, SliceStack, stack_from_grid
from apatite.core.volume import Grid

SHAPE = (5, 6, 9)


def a_stack(seed: int) -> SliceStack:
    """Turned, tilted, uneven (0.3 to 9 mm apart), overlapping, running up or down."""
    rng = np.random.default_rng(seed)
    axes, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    along = np.cumsum(rng.uniform(0.3, 9, SHAPE[0])) * rng.choice([-1, 1])
    tilt = rng.uniform(-0.4, 0.4)
    return SliceStack(
        shape=SHAPE,
        origins_ras_mm=rng.uniform(-100, 100, 3) + along[:, None] * (axes[2] + tilt * axes[1]),
        column_step_ras_mm=axes[0] * rng.uniform(0.2, 2),
        row_step_ras_mm=axes[1] * rng.uniform(0.2, 2),
        thickness_mm=rng.uniform(0.5, 10, SHAPE[0]),
    )


@given(st.integers(0, 2**31))
def test_whole_slices_there_and_back(seed: int) -> None:
    stack = a_stack(seed)
    row_column = np.random.default_rng(seed).uniform(-3, 12, (4, 2))
    for k in range(SHAPE[0]):
        back = stack.to_slice_row_column(stack.to_ras(k, row_column))
        assert back[:, 0] == pytest.approx(k, abs=1e-6)
        assert back[:, 1:] == pytest.approx(row_column, abs=1e-6)


@given(st.integers(0, 2**31), st.floats(0, 1))
def test_between_two_slices_the_index_is_linear(seed: int, share: float) -> None:
    stack = a_stack(seed)
    row_column = np.array([[2.0, 7.0]])
    between = (1 - share) * stack.to_ras(2, row_column) + share * stack.to_ras(3, row_column)
    assert stack.to_slice_row_column(between)[0] == pytest.approx([2 + share, 2.0, 7.0], abs=1e-6)


@given(st.integers(0, 2**31))
def test_beyond_the_ends_the_last_spacing_goes_on(seed: int) -> None:
    stack = a_stack(seed)
    first, second, before, last = (stack.to_ras(k, np.array([[1.0, 4.0]])) for k in (0, 1, 3, 4))
    assert stack.to_slice_row_column(first + (first - second))[0] == pytest.approx([-1, 1, 4], abs=1e-6)
    assert stack.to_slice_row_column(last + 0.5 * (last - before))[0] == pytest.approx([4.5, 1, 4], abs=1e-6)


@given(st.integers(0, 2**31))
def test_the_normal_points_the_way_slices_are_sorted(seed: int) -> None:
    stack = a_stack(seed)
    assert np.all(np.diff(stack.positions_mm) > 0)
    assert stack.normal_ras @ stack.column_step_ras_mm == pytest.approx(0, abs=1e-9)
    assert stack.normal_ras @ stack.row_step_ras_mm == pytest.approx(0, abs=1e-9)
    assert stack.pixel_mm2 == pytest.approx(stack.column_spacing_mm * stack.row_spacing_mm)


def test_the_area_of_a_pixel_that_is_no_rectangle() -> None:
    stack = SliceStack(
        shape=(1, 3, 4),
        origins_ras_mm=np.zeros((1, 3)),
        column_step_ras_mm=np.array([0.5, 0.0, 0.0]),
        row_step_ras_mm=np.array([0.3, 0.4, 0.0]),
        thickness_mm=np.array([2.0]),
    )
    assert stack.pixel_mm2 == pytest.approx(0.5 * 0.4)  # base times height; both edges are 0.5 mm long


def test_planted_axis_order() -> None:
    stack = SliceStack(
        shape=SHAPE,
        origins_ras_mm=np.array([[0.0, 0.0, 3.0 * k] for k in range(5)]),
        column_step_ras_mm=np.array([0.5, 0, 0]),
        row_step_ras_mm=np.array([0, 2.0, 0]),
        thickness_mm=np.full(5, 3.0),
    )
    assert stack.to_ras(1, np.array([4.0, 6.0])) == pytest.approx([6 * 0.5, 4 * 2.0, 3.0])
    assert stack.to_slice_row_column(np.array([3.0, 8.0, 3.0])) == pytest.approx([1.0, 4.0, 6.0])


def test_tilt_shortens_the_distance_along_the_normal() -> None:
    tilt = np.deg2rad(18.5)
    stack = SliceStack(
        shape=(3, 4, 5),
        origins_ras_mm=np.array([[0, 0, 4.22 * k] for k in range(3)]),
        column_step_ras_mm=np.array([0.5, 0, 0]),
        row_step_ras_mm=0.5 * np.array([0, np.cos(tilt), np.sin(tilt)]),
        thickness_mm=np.full(3, 4.0),
    )
    assert np.diff(stack.positions_mm) == pytest.approx(4.22 * np.cos(tilt))  # 4.00 mm


def test_a_single_slice_reaches_as_far_as_it_is_thick() -> None:
    stack = SliceStack(
        shape=(1, 4, 5),
        origins_ras_mm=np.array([[1.0, 2.0, 3.0]]),
        column_step_ras_mm=np.array([0.5, 0, 0]),
        row_step_ras_mm=np.array([0, 0.5, 0]),
        thickness_mm=np.array([4.0]),
    )
    points = np.array([[2.0, 2.5, 3.0], [2.0, 2.5, 5.0], [2.0, 2.5, 1.0]])
    assert stack.to_slice_row_column(points) == pytest.approx(np.array([[0, 1, 2], [0.5, 1, 2], [-0.5, 1, 2]]))


@given(st.integers(0, 2**31))
def test_a_sheared_grid_is_a_stack_with_the_same_voxels(seed: int) -> None:
    rng = np.random.default_rng(seed)
    axes, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    affine = np.eye(4)
    affine[:3, 0], affine[:3, 1] = 0.4 * axes[0], 0.7 * axes[1]
    affine[:3, 2] = rng.choice([-3.0, 3.0]) * axes[2] + rng.uniform(-1, 1) * axes[1]
    grid = Grid(shape=SHAPE, ijk_to_ras=affine)
    stack = stack_from_grid(grid)
    assert stack.thickness_mm == pytest.approx(3.0)
    assert stack.thickness_mm[0] * stack.pixel_mm2 == pytest.approx(grid.voxel_mm3)
    assert stack.to_ras(2, np.array([4.0, 7.0])) == pytest.approx(grid.to_ras(np.array([7.0, 4.0, 2.0])))


@pytest.mark.parametrize("positions", [[0.0, 3.0, 3.0], [0.0, 6.0, 3.0]])
def test_slices_out_of_order_or_at_one_place_are_refused(positions: list[float]) -> None:
    with pytest.raises(ValueError, match="sorted"):
        SliceStack(
            shape=(3, 4, 5),
            origins_ras_mm=np.array([[0.0, 0.0, z] for z in positions]),
            column_step_ras_mm=np.array([0.5, 0, 0]),
            row_step_ras_mm=np.array([0, 0.5, 0]),
            thickness_mm=np.full(3, 3.0),
        )


def test_counts_that_do_not_fit_are_refused() -> None:
    stack = a_stack(0)
    with pytest.raises(ValueError, match="do not fit"):
        Scan(voxels_hu=np.zeros(SHAPE[::-1]), stack=stack)
    with pytest.raises(ValueError, match="4 slices"):
        SliceStack(
            shape=(4, 6, 9),
            origins_ras_mm=stack.origins_ras_mm,
            column_step_ras_mm=stack.column_step_ras_mm,
            row_step_ras_mm=stack.row_step_ras_mm,
            thickness_mm=stack.thickness_mm,
        )
