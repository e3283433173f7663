"""Cubes of a scan: linear fields are exact under tilt and uneven spacing; the array's own order does not count."""

from dataclasses import replace
from itertools import permutations, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apatite.core.errors import DataError
from apatite.core.scan import PADDING_HU, Scan, SliceStack, stack_from_grid
from apatite.core.volume import Grid
from apatite.ct.isotropic import Cubes, isotropic


def plane(points: np.ndarray) -> np.ndarray:
    return 20 + 2.0 * points[..., 0] - 1.5 * points[..., 1] + 3.0 * points[..., 2]


def a_stack(positions: list[float], tilt_deg: float, pixel_mm: tuple[float, float], turn_deg: float) -> SliceStack:
    tilt, turn = np.deg2rad(tilt_deg), np.deg2rad(turn_deg)
    about_z = np.array([[np.cos(turn), -np.sin(turn), 0], [np.sin(turn), np.cos(turn), 0], [0, 0, 1.0]])
    row = about_z @ np.array([0.0, np.cos(tilt), np.sin(tilt)]) * pixel_mm[0]
    column = about_z @ np.array([1.0, 0.0, 0.0]) * pixel_mm[1]
    corner = -30 * row - 35 * column
    return SliceStack(
        shape=(len(positions), 61, 71),
        origins_ras_mm=corner + np.array([[0.0, 0.0, z] for z in positions]),
        column_step_ras_mm=column,
        row_step_ras_mm=row,
        thickness_mm=np.full(len(positions), 1.5),
    )


def pixel_centres(stack: SliceStack) -> np.ndarray:
    row_column = np.stack(np.meshgrid(*(np.arange(float(n)) for n in stack.shape[1:]), indexing="ij"), axis=-1)
    return np.stack([stack.to_ras(k, row_column) for k in range(stack.shape[0])])


def cube_centres(cubes: Cubes) -> np.ndarray:
    kji = np.stack(np.meshgrid(*(np.arange(float(n)) for n in cubes.volume.grid.shape), indexing="ij"), axis=-1)
    return cubes.volume.grid.to_ras(np.ascontiguousarray(kji[..., ::-1]))


def depth_inside_mm(stack: SliceStack, points: np.ndarray) -> np.ndarray:
    """How far points lie inside the outermost pixel centres, along the axes."""
    index = stack.to_slice_row_column(points)[..., 1:]
    along = points @ stack.normal_ras
    spacing = np.array([stack.row_spacing_mm, stack.column_spacing_mm])
    in_plane = np.minimum(index, np.array(stack.shape[1:]) - 1 - index) * spacing
    return np.minimum(in_plane.min(axis=-1), np.minimum(along - stack.positions_mm[0], stack.positions_mm[-1] - along))


@settings(max_examples=15, deadline=None)
@given(
    st.floats(-22, 22),
    st.floats(-30, 30),
    st.sampled_from(
        [[0.0, 1.0, 2.0, 5.0, 12.0, 19.0], [0.0, 0.6, 1.2, 1.8, 2.4, 3.0, 3.6, 4.2], [0.0, 7.0, 8.1, 15.0]]
    ),
    st.sampled_from([(0.45, 0.5), (0.9, 0.6), (2.5, 1.9)]),
)
def test_a_plane_stays_a_plane(tilt_deg, turn_deg, positions, pixel_mm):
    stack = a_stack(positions, tilt_deg, pixel_mm, turn_deg)
    cubes = isotropic(Scan(voxels_hu=plane(pixel_centres(stack)), stack=stack))
    # The outermost blocks are held, not extrapolated, and pixels that fill no whole block are left out.
    is_inner = depth_inside_mm(stack, cube_centres(cubes)) > 3
    assert cubes.is_seen[is_inner].all()
    expected = np.maximum(plane(cube_centres(cubes)), PADDING_HU)
    np.testing.assert_allclose(cubes.volume.voxels[is_inner], expected[is_inner], atol=1e-2)


def test_everything_scanned_is_seen_and_nothing_else():
    stack = a_stack([0.0, 3.0, 6.0, 12.0], 15.0, (1.0, 1.2), 10.0)
    cubes = isotropic(Scan(voxels_hu=np.full(stack.shape, 40, np.int16), stack=stack))
    depth_mm = depth_inside_mm(stack, cube_centres(cubes))
    assert cubes.is_seen[depth_mm > 2].all()
    assert not cubes.is_seen[depth_mm < -2].any()
    assert (depth_mm > 2).sum() > 3000
    np.testing.assert_allclose(cubes.volume.voxels, np.where(cubes.is_seen, 40, PADDING_HU), atol=1e-3)


def test_padding_is_not_seen_and_does_not_darken_its_neighbours():
    stack = a_stack([0.0, 2.0, 4.0, 6.0], 0.0, (0.5, 0.5), 0.0)
    is_padding = np.zeros(stack.shape, dtype=bool)
    is_padding[:, :, :30] = True
    voxels = np.where(is_padding, -1500, 60).astype(np.int16)
    cubes = isotropic(Scan(voxels_hu=voxels, stack=stack, is_padding=is_padding))
    np.testing.assert_allclose(cubes.volume.voxels, np.where(cubes.is_seen, 60, PADDING_HU), atol=1e-3)
    x = cube_centres(cubes)[..., 0]
    edge = float(stack.origins_ras_mm[0, 0]) + 29.5 * 0.5
    assert not cubes.is_seen[x < edge - 2].any()
    assert cubes.is_seen[(x > edge + 2) & (depth_inside_mm(stack, cube_centres(cubes)) > 2)].all()


def test_thin_slices_are_averaged_not_skipped():
    stack = a_stack([0.5 * n for n in range(40)], 0.0, (2.0, 2.0), 0.0)
    stripes = np.where(np.arange(40)[:, None, None] % 4 < 2, 300, -100).repeat(61, 1).repeat(71, 2)
    cubes = isotropic(Scan(voxels_hu=stripes.astype(np.int16), stack=stack))
    np.testing.assert_allclose(cubes.volume.voxels[2:-2, 3:-3, 3:-3], 100, atol=1e-3)


@pytest.mark.parametrize("seen", [False, True])
def test_all_48_orders_of_the_axes_give_the_same_cubes(seen):
    draw = np.random.default_rng(3)
    grid = Grid(
        shape=(13, 17, 22), ijk_to_ras=np.array([[1.4, 0, 0, -9], [0, 1.7, 0, 4], [0, 0, 1.1, 30], [0, 0, 0, 1.0]])
    )
    voxels = draw.normal(0, 300, grid.shape).astype(np.float32)
    is_padding = draw.random(grid.shape) < 0.1 if seen else None
    first = isotropic(Scan(voxels_hu=voxels, stack=stack_from_grid(grid), is_padding=is_padding), 3.0)
    for order, flips in product(permutations(range(3)), product((False, True), repeat=3)):
        other = isotropic(re_encoded(voxels, is_padding, grid, order, flips), 3.0)
        np.testing.assert_array_equal(other.is_seen, first.is_seen)
        np.testing.assert_allclose(other.volume.voxels, first.volume.voxels, atol=1e-2)
        np.testing.assert_allclose(other.volume.grid.ijk_to_ras, first.volume.grid.ijk_to_ras, atol=1e-9)


def re_encoded(voxels, is_padding, grid, order, flips) -> Scan:
    """The same content with its array axes in another order, some of them turned round."""
    affine, parts = grid.ijk_to_ras.copy(), [voxels, is_padding]
    for axis in range(3):
        if flips[axis]:
            affine[:3, 3] += affine[:3, 2 - axis] * (voxels.shape[axis] - 1)
            affine[:3, 2 - axis] *= -1
            parts = [None if part is None else np.flip(part, axis) for part in parts]
    columns = [2 - axis for axis in order][::-1]
    affine[:3, :3] = affine[:3, columns]
    parts = [None if part is None else np.ascontiguousarray(part.transpose(order)) for part in parts]
    stack = stack_from_grid(Grid(shape=parts[0].shape, ijk_to_ras=affine))
    return Scan(voxels_hu=parts[0], stack=stack, is_padding=parts[1])


def test_halved_cubes_are_means_of_what_was_seen():
    stack = a_stack([2.0 * n for n in range(9)], 0.0, (2.0, 2.0), 0.0)
    cubes = isotropic(Scan(voxels_hu=plane(pixel_centres(stack)) / 4, stack=stack))
    half = cubes.halved()
    assert half.step_mm == pytest.approx(2 * cubes.step_mm)
    inner = (slice(0, 4), slice(0, 30), slice(0, 35))
    assert half.is_seen[inner].all()
    np.testing.assert_allclose(half.volume.voxels[inner], plane(cube_centres(half))[inner] / 4, atol=1e-2)


def test_a_single_slice_is_cut_too():
    stack = replace(a_stack([5.0], 10.0, (1.0, 1.0), 0.0), thickness_mm=np.array([4.0]))
    cubes = isotropic(Scan(voxels_hu=np.full(stack.shape, 7, np.int16), stack=stack))
    assert cubes.is_seen.any()
    np.testing.assert_allclose(cubes.volume.voxels[cubes.is_seen], 7, atol=1e-3)


def test_a_scan_longer_than_any_head_is_refused():
    stack = a_stack([0.0, 400.0, 800.0], 0.0, (1.0, 1.0), 0.0)
    with pytest.raises(DataError) as raised:
        isotropic(Scan(voxels_hu=np.zeros(stack.shape, np.int16), stack=stack))
    assert raised.value.code == "REG_FAIL"
