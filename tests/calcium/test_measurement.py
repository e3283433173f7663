"""Measurements by hand, of nothing, of metal; and the same scan stored in another way."""

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apatite.calcium.measure import volume_mm3
from apatite.calcium.measurement import Measurement, measure
from apatite.calcium.partial import calcium_fraction
from apatite.calcium.rule import RULES, count_calcium
from apatite.core.errors import ConfigError, DataError
from apatite.core.scan import Scan, SliceStack, stack_from_grid
from apatite.core.volume import Grid


def everything(scan):
    return np.ones(scan.stack.shape, bool)


def noisy(stack, seed=0):
    """Tissue with a dozen bright blobs; every third pixel belongs to no side."""
    rng = np.random.default_rng(seed)
    voxels_hu = rng.normal(40, 20, stack.shape)
    for _ in range(12):
        k, row, column = (int(rng.integers(0, edge)) for edge in stack.shape)
        voxels_hu[k : k + 2, row : row + 3, column : column + 2] += rng.uniform(80, 700)
    sides = rng.integers(0, 3, stack.shape).astype(np.uint8)
    return Scan(voxels_hu=np.rint(voxels_hu).astype(np.int16), stack=stack), sides


def same(one, other) -> bool:
    """Equal, measured numbers to nine digits."""
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    return one == (pytest.approx(other, rel=1e-9, abs=1e-9) if isinstance(one, float) else other)


def test_two_lesions_by_hand(make_stack):
    stack = make_stack([0, 3, 6, 9], pixels=(11, 13))  # 0.6 mm³ a pixel
    voxels_hu = np.full(stack.shape, 40, np.int16)
    voxels_hu[1, 2:4, 2:5] = 200  # 6 pixels
    voxels_hu[2, 4, 5] = 500  # joined at a corner: one lesion of 7 pixels
    voxels_hu[0, 8:10, 9:12] = 310  # 6 pixels
    voxels_hu[3, 0, 0] = 900  # alone: dropped
    sides = np.zeros(stack.shape, np.uint8)
    sides[:, :7], sides[:, 7:] = 2, 1
    made = measure(Scan(voxels_hu=voxels_hu, stack=stack), np.ones(stack.shape, bool), sides, kvp=120)
    left, right, total = made.left, made.right, made.total
    assert left is not None
    assert right is not None
    assert (left.num_lesions, right.num_lesions, total.num_lesions) == (1, 1, 2)
    assert left.volume_mm3 == pytest.approx(7 * 0.6)
    assert right.volume_mm3 == pytest.approx(6 * 0.6)
    assert total.volume_mm3 == pytest.approx(13 * 0.6)
    assert (left.max_hu, right.max_hu, total.max_hu) == (500.0, 310.0, 500.0)
    assert left.mean_hu == pytest.approx((6 * 200 + 500) / 7)
    assert total.largest_lesion_mm3 == pytest.approx(7 * 0.6)
    assert left.density_volume_hu_mm3 == pytest.approx(0.6 * (6 * 200 + 500))
    # Islands: 1.2 mm² at 200, 1.2 mm² at 310; the corner and the speck are below 1 mm².
    assert left.agatston == pytest.approx(1.2 * 2)
    assert right.agatston == pytest.approx(1.2 * 3)
    assert total.agatston == pytest.approx(1.2 * 5)
    # On even ground without blur, a pixel of the right lesion is full and every other one empty.
    assert right.partial_volume_mm3 == pytest.approx(6 * 0.6)
    assert (made.rule, made.agatston_standard, made.kvp, made.no_side_mm3) == ("paper", True, 120.0, 0.0)


def test_rules_differ_where_they_should(make_stack):
    stack = make_stack([0, 3], pixels=(11, 13))
    voxels_hu = np.full(stack.shape, 40, np.int16)
    voxels_hu[0, 2:4, 2:5] = 200  # 1.2 mm²
    voxels_hu[1, 8, 8:10] = 200  # two pixels, 0.4 mm²
    scan = Scan(voxels_hu=voxels_hu, stack=stack)
    pixels = {rule: round(measure(scan, everything(scan), rule=rule).total.volume_mm3 / 0.6) for rule in RULES}
    assert pixels == {"paper": 8, "agatston": 6, "marked": 2 * 11 * 13}
    assert len({measure(scan, everything(scan), rule=rule).total.agatston for rule in RULES}) == 1
    assert measure(scan, everything(scan), rule="agatston").rule == "agatston"
    with pytest.raises(ConfigError, match="unknown rule"):
        measure(scan, everything(scan), rule="papre")


@pytest.mark.parametrize("hu", [-1024, 40, 129])
def test_nothing_is_zero_and_never_not_a_number(make_stack, hu):
    stack = make_stack([0, 3, 6])
    scan = Scan(voxels_hu=np.full(stack.shape, hu, np.int16), stack=stack)
    for marked in (everything(scan), ~everything(scan)):
        made = measure(scan, marked, np.ones(stack.shape, np.uint8))
        values = json.loads(json.dumps(made.to_dict(), allow_nan=False))
        assert (made.total.max_hu, made.total.mean_hu) == (None, None)
        assert values["right"] == values["total"] == values["left"]
        assert not any(value for value in values["total"].values())
        assert Measurement.from_dict(values) == made


def test_single_pixels_single_slices_constant_hu_and_metal(make_stack):
    one = Scan(voxels_hu=np.full((1, 1, 1), 300, np.int16), stack=make_stack([0], 4.0, pixels=(1, 1)))
    assert measure(one, everything(one)).total.num_lesions == 0
    alone = measure(one, everything(one), rule="marked").total
    assert alone.volume_mm3 == pytest.approx(0.8)
    # There is no tissue around it to compare with, so it counts in full, and says so.
    assert (alone.partial_volume_mm3, alone.num_without_background) == (pytest.approx(0.8), 1)
    stack = make_stack([0, 3, 6])
    for hu in (300.0, 25_000.0):
        flat = Scan(voxels_hu=np.full(stack.shape, hu), stack=stack)
        made = measure(flat, everything(flat))
        json.dumps(made.to_dict(), allow_nan=False)
        assert (made.total.num_lesions, made.total.max_hu) == (1, hu)
        assert made.total.volume_mm3 == pytest.approx(3 * 7 * 9 * 0.6)


def test_padding_never_counts(make_stack):
    stack = make_stack([0, 3, 6])
    voxels_hu = np.full(stack.shape, 40, np.int16)
    voxels_hu[1, 1:5, 1:7] = 400
    is_padding = np.zeros(stack.shape, bool)
    is_padding[1, 1:3] = True
    made = measure(Scan(voxels_hu=voxels_hu, stack=stack, is_padding=is_padding), np.ones(stack.shape, bool))
    assert made.total.volume_mm3 == pytest.approx(2 * 6 * 0.6)
    everywhere = measure(
        Scan(voxels_hu=voxels_hu, stack=stack, is_padding=np.ones(stack.shape, bool)),
        np.ones(stack.shape, bool),
        rule="marked",
    )
    assert everywhere.total.volume_mm3 == 0


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**31), st.sampled_from(sorted(RULES)))
def test_sides_and_the_rest_add_up(make_stack, seed, rule):
    scan, sides = noisy(make_stack([0, 2, 4, 9, 14], [2, 2, 5, 5, 5.0]), seed)
    made = measure(scan, everything(scan), sides, rule=rule)
    assert made.right is not None
    assert made.left is not None
    assert made.right.volume_mm3 + made.left.volume_mm3 + made.no_side_mm3 == pytest.approx(made.total.volume_mm3)
    for part in (made.right, made.left, made.total):
        if part.num_lesions:
            assert part.mean_hu is not None
            assert part.max_hu is not None
            assert part.mean_hu <= part.max_hu
            assert part.mean_hu * part.volume_mm3 == pytest.approx(part.density_volume_hu_mm3)
            assert part.largest_lesion_mm3 <= part.volume_mm3 + 1e-9
    assert measure(scan, everything(scan), rule=rule).total == made.total
    mirrored = measure(scan, everything(scan), np.array([0, 2, 1], np.uint8)[sides], rule=rule)
    assert (mirrored.right, mirrored.left, mirrored.total) == (made.left, made.right, made.total)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**31))
def test_less_in_a_smaller_region(make_stack, seed):
    scan, _ = noisy(make_stack([0, 2, 4, 9, 14]), seed)
    draw = np.random.default_rng(seed)
    larger = draw.random(scan.stack.shape) < 0.8
    smaller = larger & (draw.random(scan.stack.shape) < 0.8)
    for rule in RULES:
        small, large = (measure(scan, marked, rule=rule).total for marked in (smaller, larger))
        assert small.volume_mm3 <= large.volume_mm3 + 1e-9
        assert small.agatston <= large.agatston + 1e-9


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**31), st.integers(-500, 500))
def test_another_intercept_with_other_stored_values_is_the_same_scan(make_stack, seed, shift):
    scan, sides = noisy(make_stack([0, 2, 4, 9]), seed)
    stored = scan.voxels_hu.astype(np.int64) + 1024
    others = [(stored + shift) * 1.0 + (-1024 - shift), ((stored + shift) * 2 - 2 * shift) * 0.5 - 1024]
    for voxels_hu in others:
        again = measure(Scan(voxels_hu=voxels_hu, stack=scan.stack), everything(scan), sides)
        assert again == measure(scan, everything(scan), sides)


def stored_otherwise(scan: Scan, sides: np.ndarray, order: tuple[bool, bool, bool, bool]):
    """The same patient with slices, rows or columns reversed, or rows and columns exchanged."""
    stack, voxels_hu = scan.stack, scan.voxels_hu
    origins, row, column = stack.origins_ras_mm, stack.row_step_ras_mm, stack.column_step_ras_mm
    thickness = stack.thickness_mm
    if order[0]:
        voxels_hu, sides, origins, thickness = voxels_hu[::-1], sides[::-1], origins[::-1], thickness[::-1]
    if order[1]:
        origins, row = origins + (voxels_hu.shape[1] - 1) * row, -row
        voxels_hu, sides = voxels_hu[:, ::-1], sides[:, ::-1]
    if order[2]:
        origins, column = origins + (voxels_hu.shape[2] - 1) * column, -column
        voxels_hu, sides = voxels_hu[:, :, ::-1], sides[:, :, ::-1]
    if order[3]:
        row, column = column, row
        voxels_hu, sides = voxels_hu.transpose(0, 2, 1), sides.transpose(0, 2, 1)
    again = SliceStack(
        shape=voxels_hu.shape,
        origins_ras_mm=origins.copy(),
        column_step_ras_mm=column,
        row_step_ras_mm=row,
        thickness_mm=thickness.copy(),
    )
    return Scan(voxels_hu=voxels_hu.copy(), stack=again), sides.copy()


@pytest.mark.parametrize("tilt_deg", [0.0, -20.0])
@pytest.mark.parametrize("order", list(np.ndindex(2, 2, 2, 2)))
def test_the_same_scan_stored_otherwise_measures_the_same(make_stack, order, tilt_deg):
    stack = make_stack([0, 2, 4, 9, 14, 15.5], [2, 2, 3, 5, 5, 3], pixels=(17, 22), tilt_deg=tilt_deg)
    scan, sides = noisy(stack, 5)
    again, same_sides = stored_otherwise(scan, sides, tuple(map(bool, order)))
    for rule in RULES:
        made = measure(scan, sides > 0, sides, rule=rule)
        assert made.total.num_lesions > 0
        assert same(measure(again, same_sides > 0, same_sides, rule=rule).to_dict(), made.to_dict())


def test_a_scan_around_it_changes_nothing(make_stack):
    # Only the surroundings of the lesions are worked on; what is far away must not matter.
    stack = make_stack([0, 3, 6, 9, 12], pixels=(60, 70), tilt_deg=15.0)
    scan, _ = noisy(make_stack([0, 3, 6, 9, 12], pixels=(60, 70)), 3)
    scan = replace(scan, stack=stack)
    marked = np.zeros(stack.shape, bool)
    marked[:, 25:40, 30:48] = True
    voxels_hu = scan.voxels_hu.copy()
    voxels_hu[:, :3], voxels_hu[:, :, -3:] = 3000, -1000
    assert measure(scan, marked).total.num_lesions > 0
    assert measure(Scan(voxels_hu=voxels_hu, stack=stack), marked) == measure(scan, marked)
    counted = count_calcium(scan, marked, RULES["paper"])
    of_the_whole = volume_mm3(calcium_fraction(scan, counted).fraction, stack)
    assert measure(scan, marked).total.partial_volume_mm3 == pytest.approx(of_the_whole, rel=1e-12)


def test_sides_that_are_none(make_stack):
    scan, sides = noisy(make_stack([0, 3, 6]))
    with pytest.raises(DataError) as caught:
        measure(scan, everything(scan), sides + np.uint8(2))
    assert caught.value.code == "BAD_LABEL"
    with pytest.raises(ValueError, match="do not fit"):
        measure(scan, everything(scan)[:2])


@pytest.mark.parametrize("tilt_deg", [0.0, 20.0, -20.0])
@pytest.mark.parametrize(
    ("positions", "thickness"),
    [
        (np.arange(0, 30, 0.8), 0.8),
        (np.arange(0, 30, 0.75), 1.5),  # overlapping by half
        (np.concatenate([np.arange(0, 14, 0.6), np.arange(14, 30.1, 0.9)]), 0.9),  # two spacings
    ],
    ids=["even", "overlapping", "uneven"],
)
def test_an_ellipsoid_has_its_volume_however_it_is_sliced(make_stack, positions, thickness, tilt_deg):
    stack = make_stack(positions.tolist(), thickness, pixels=(80, 70), tilt_deg=tilt_deg)
    row_column = np.stack(np.meshgrid(np.arange(80.0), np.arange(70.0), indexing="ij"), axis=-1)
    points = np.stack([stack.to_ras(k, row_column) for k in range(stack.shape[0])])
    turn, _ = np.linalg.qr(np.random.default_rng(4).normal(size=(3, 3)))
    radii_mm = np.array([5.5, 4.0, 8.0])
    centre = points.reshape(-1, 3).mean(axis=0) + np.array([0.13, -0.21, 0.37])
    is_inside = np.linalg.norm((points - centre) @ turn / radii_mm, axis=-1) <= 1
    assert not is_inside[[0, -1]].any()
    scan = Scan(voxels_hu=np.where(is_inside, 600, 40).astype(np.int16), stack=stack)
    made = measure(scan, np.ones(stack.shape, bool)).total
    true_mm3 = 4 / 3 * np.pi * radii_mm.prod()
    assert made.volume_mm3 == pytest.approx(true_mm3, rel=0.02)
    assert made.largest_lesion_mm3 == pytest.approx(made.volume_mm3)
    assert made.partial_volume_mm3 == pytest.approx(true_mm3, rel=0.02)
    assert made.volume_mm3 == pytest.approx(volume_mm3(is_inside, stack), rel=1e-9)


def test_a_sheared_grid_gives_its_determinant():
    affine = np.array([[0.5, 0, 0, 3], [0, 0.4, -1.2, 5], [0, 0.1, 2.5, -7], [0, 0, 0, 1.0]])
    grid = Grid(shape=(6, 9, 11), ijk_to_ras=affine)
    stack = stack_from_grid(grid)
    scan = Scan(voxels_hu=np.full(grid.shape, 500, np.int16), stack=stack)
    made = measure(scan, np.ones(grid.shape, bool))
    assert made.total.volume_mm3 == pytest.approx(6 * 9 * 11 * grid.voxel_mm3)
