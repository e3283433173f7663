"""The box in a scan: the grid holds it, its pixels are exactly those whose centre maps into it, and the shown share
is the share by hand."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apatite.core.errors import DataError
from apatite.core.scan import PADDING_HU, Scan, SliceStack
from apatite.ct.boxes import BOXES, Box
from apatite.ct.cover import Coverage, box_grid, coverage, is_inside_box, slice_reach_mm, training_grid
from apatite.ct.near import grid_corners_ras_mm, is_empty, near
from apatite.ct.pose import HeadPose
from apatite.ct.region import REGIONS, RegionConfig

REGION = REGIONS["paper"]
BOX = Box(name="b", low_mni_mm=(-6.0, -3.0, -10.0), high_mni_mm=(8.0, 7.0, 14.0))
"""14 × 10 × 24 mm."""


def a_pose(seed: int | None = None, most_deg: float = 25.0) -> HeadPose:
    """Unturned for `None`; else turned, scaled and sheared a little, and moved."""
    affine = np.eye(4)
    if seed is not None:
        rng = np.random.default_rng(seed)
        x, y, z = np.deg2rad(rng.uniform(-most_deg, most_deg, 3))
        turn_x = np.array([[1, 0, 0], [0, np.cos(x), -np.sin(x)], [0, np.sin(x), np.cos(x)]])
        turn_y = np.array([[np.cos(y), 0, np.sin(y)], [0, 1, 0], [-np.sin(y), 0, np.cos(y)]])
        turn_z = np.array([[np.cos(z), -np.sin(z), 0], [np.sin(z), np.cos(z), 0], [0, 0, 1]])
        shear = np.eye(3) + np.triu(rng.uniform(-0.05, 0.05, (3, 3)), 1)
        affine[:3, :3] = turn_x @ turn_y @ turn_z @ np.diag(rng.uniform(0.8, 1.05, 3)) @ shear
        affine[:3, 3] = rng.uniform(-40, 40, 3)
    return HeadPose(mni_to_ras=affine)


def stack_over(
    pose: HeadPose, box: Box, positions: np.ndarray, *, tilt_deg: float = 0.0, pixels: tuple[int, int] = (70, 90)
) -> SliceStack:
    """Slices round the middle of a mapped box, 2 mm thick, pixels of 0.55 × 0.45 mm, tilted about x."""
    tilt = np.deg2rad(tilt_deg)
    row, column = 0.55 * np.array([0.0, -np.cos(tilt), -np.sin(tilt)]), np.array([-0.45, 0.0, 0.0])
    corner = pose.to_ras(box.centre_mni_mm) - row * (pixels[0] - 1) / 2 - column * (pixels[1] - 1) / 2
    return SliceStack(
        shape=(len(positions), *pixels),
        origins_ras_mm=corner + positions[:, None] * np.array([0.0, 0.0, 1.0]),
        column_step_ras_mm=column,
        row_step_ras_mm=row,
        thickness_mm=np.full(len(positions), 2.0),
    )


def padded(stack: SliceStack, is_padding: np.ndarray | None = None) -> Scan:
    return Scan(voxels_hu=np.full(stack.shape, PADDING_HU, np.int16), stack=stack, is_padding=is_padding)


EVEN = np.arange(-15, 15.1, 2.0)
UNEVEN = np.array([-21, -17, -12.5, -8, -4, -3, -2.2, 1, 2, 5.5, 6, 9, 13, 19.0])


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**31), name=st.sampled_from(sorted(BOXES)))
def test_the_grid_holds_the_whole_mapped_box_and_a_tensor(seed: int, name: str) -> None:
    pose, box = a_pose(seed), BOXES[name]
    grid = box_grid(pose, box, REGION, margin_mm=1.5)
    ijk = grid.to_ijk(pose.to_ras(box.corners_mni_mm))
    margin = 1.5 / np.array(REGION.spacing_mm)
    assert np.all(ijk >= -0.5 + margin - 1e-9)
    assert np.all(ijk <= np.array(grid.shape[::-1]) - 0.5 - margin + 1e-9)
    assert all(have >= want for have, want in zip(grid.shape, REGION.shape, strict=True))
    # No voxel more than needed: the box, or the tensor, fills it along every axis.
    spare = np.array(grid.shape[::-1]) - (np.ptp(ijk, axis=0) + 2 * margin)
    assert all(s < 1 or n == t for s, n, t in zip(spare, grid.shape[::-1], REGION.shape[::-1], strict=True))
    np.testing.assert_allclose(grid.spacing_mm, REGION.spacing_mm)


def test_an_unturned_box_needs_the_voxels_by_hand() -> None:
    region = RegionConfig(shape=(4, 30, 5), spacing_mm=(0.5, 1.0, 1.5))
    grid = box_grid(a_pose(), BOX, region)
    assert grid.shape == (16, 30, 28)  # 24 / 1.5, 30 of the tensor over 10 mm, 14 / 0.5
    np.testing.assert_allclose(grid.centre_ras_mm, [1, 2, 2])
    one = training_grid(a_pose(), BOX, region)
    assert one.shape == region.shape
    np.testing.assert_allclose(one.centre_ras_mm, [1, 2, 2])


@pytest.mark.parametrize("tilt_deg", [0.0, 18.5])
@pytest.mark.parametrize("seed", range(4))
def test_pixels_inside_are_those_whose_centre_maps_into_the_box(seed: int, tilt_deg: float) -> None:
    pose = a_pose(seed)
    stack = stack_over(pose, BOX, UNEVEN, tilt_deg=tilt_deg)
    rows, columns = np.meshgrid(*(np.arange(float(n)) for n in stack.shape[1:]), indexing="ij")
    by_hand = np.stack([
        BOX.holds(pose.to_mni(stack.to_ras(k, np.stack([rows, columns], axis=-1)))) for k in range(stack.shape[0])
    ])  # fmt: skip
    assert by_hand.sum() > 2000
    assert np.array_equal(is_inside_box(stack, pose, BOX), by_hand)


def test_a_box_beside_the_scan_has_no_pixel() -> None:
    stack = stack_over(a_pose(), BOX, EVEN)
    for shift in ([200, 0, 0], [0, -200, 0], [0, 0, 200]):
        away = np.eye(4)
        away[:3, 3] = shift
        pose = HeadPose(mni_to_ras=away)
        assert not is_inside_box(stack, pose, BOX).any()
        assert coverage(padded(stack), pose, BOX).fraction == 0


def test_a_window_is_where_it_lay_before() -> None:
    pose = a_pose(3)
    stack = stack_over(pose, BOX, UNEVEN, tilt_deg=12)
    window = near(stack, pose.to_ras(BOX.corners_mni_mm), reach_mm=1.0)
    part = stack.part(window)
    k, r, c = (w.start for w in window)
    np.testing.assert_allclose(part.to_ras(2, np.array([3.0, 4.0])), stack.to_ras(k + 2, np.array([r + 3.0, c + 4.0])))
    assert not is_empty(window)
    inside = is_inside_box(stack, pose, BOX)
    assert inside[window].sum() == inside.sum()


def test_the_corners_of_a_grid_are_half_a_voxel_beyond_its_centres() -> None:
    grid = RegionConfig(shape=(4, 6, 10), spacing_mm=(1.0, 1.5, 2.0)).grid(np.array([3.0, -4.0, 5.0]))
    corners = grid_corners_ras_mm(grid)
    np.testing.assert_allclose(np.ptp(corners, axis=0), [10, 9, 8])
    np.testing.assert_allclose(corners.mean(axis=0), [3, -4, 5])


@pytest.mark.parametrize(
    ("positions", "fraction"),
    [
        (np.arange(-15, 15.1, 2.0), 1.0),  # 1 mm spare on either side
        (np.arange(-11, 11.1, 2.0), 1.0),  # its 24 mm exactly
        (np.arange(-11, 0.1, 2.0), 0.5),  # the lower half: slices at -11 ... -1 end at 0
        (np.arange(-3, 15.1, 2.0), 16 / 24),
        (np.arange(-10, 10.1, 4.0), 1.0),  # twice their thickness apart: as good as contiguous, -10 - 1 ... 10 + 1
        (np.array([-11, -9, -7, 5, 7, 9, 11.0]), 14 / 24),  # a gap of 12 mm: only what the slices show
    ],
)
def test_the_shown_share_of_an_unturned_box_by_hand(positions: np.ndarray, fraction: float) -> None:
    stack = stack_over(a_pose(), BOX, positions)
    found = coverage(padded(stack), a_pose(), BOX)
    expected = 22 / 24 if positions[0] == -10 else fraction
    assert found.fraction == pytest.approx(expected, abs=0.01)


def test_columns_beyond_the_field_and_padding_are_not_shown() -> None:
    pose, stack = a_pose(), stack_over(a_pose(), BOX, EVEN)
    # 14 mm wide from x = -6; 16 columns of 0.45 mm to either side of its middle reach 7.2 mm: all; 10 reach 4.5: 9/14.
    narrow = stack_over(pose, BOX, EVEN, pixels=(70, 20))
    assert coverage(padded(narrow), pose, BOX).fraction == pytest.approx(9 / 14, abs=0.01)
    is_padding = np.zeros(stack.shape, dtype=bool)
    is_padding[:, :, : stack.shape[2] // 2] = True
    assert coverage(padded(stack, is_padding), pose, BOX).fraction == pytest.approx(0.5, abs=0.01)
    assert coverage(padded(stack, ~np.zeros_like(is_padding)), pose, BOX).fraction == 0


@pytest.mark.parametrize("seed", range(3))
def test_a_turned_box_is_shown_as_points_drawn_at_random_say(seed: int) -> None:
    pose = a_pose(seed)
    stack = stack_over(pose, BOX, np.arange(-9, 5.1, 2.0), tilt_deg=15.0)
    draw = np.random.default_rng(9).uniform(BOX.low_mni_mm, BOX.high_mni_mm, (40000, 3))
    index = stack.to_slice_row_column(pose.to_ras(draw))
    # Even slices as far apart as they are thick along the normal, but for the cosine of the tilt.
    reach = stack.thickness_mm[0] / 2 / np.diff(stack.positions_mm)[0]
    is_shown = (index[:, 0] >= -reach) & (index[:, 0] <= stack.shape[0] - 1 + reach)
    is_shown &= np.all((index[:, 1:] >= -0.5) & (index[:, 1:] <= np.array(stack.shape[1:]) - 0.5), axis=-1)
    assert 0.3 < is_shown.mean() < 0.9
    assert coverage(padded(stack), pose, BOX).fraction == pytest.approx(is_shown.mean(), abs=0.015)


def test_codes_and_refusal() -> None:
    whole, part, least, absent = (Coverage(box="ica", fraction=f) for f in (0.996, 0.97, 0.5, 0.49))
    assert (whole.flags, part.flags, least.flags) == ((), ("ROI_PARTIAL",), ("ROI_PARTIAL",))
    part.require()
    with pytest.raises(DataError, match="shows 49% of the region 'ica'") as error:
        absent.require()
    assert error.value.code == "ROI_ABSENT"


def test_a_slice_reaches_half_way_to_its_neighbours_but_not_across_a_gap() -> None:
    stack = stack_over(a_pose(), BOX, np.array([0.0, 1.0, 4.0, 9.0]))
    stack = replace(stack, thickness_mm=np.array([1.0, 2.0, 2.0, 2.5]))
    by_hand = [[0.5, 0.5], [0.5, 1.5], [1.5, 1.0], [1.25, 1.25]]
    np.testing.assert_allclose(slice_reach_mm(stack), by_hand)
    single = replace(stack_over(a_pose(), BOX, np.array([0.0])), thickness_mm=np.array([3.0]))
    np.testing.assert_allclose(slice_reach_mm(single), [[1.5, 1.5]])
