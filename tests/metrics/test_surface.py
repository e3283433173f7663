"""Surfaces against shifted boxes by hand, against MONAI, and against a brute force over every face of both sets."""

import math
from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.metrics.hausdorff_distance import compute_hausdorff_distance
from monai.metrics.surface_dice import compute_surface_dice

from apatite.core.scan import SliceStack
from apatite.metrics.surface import span_mm, surface_dice, surface_distances

SHAPE = (7, 9, 12)


def stack_of(
    shape=SHAPE, row_mm=0.5, column_mm=0.8, heights_mm=None, shear=0.0, thickness_mm=2.0, turn=None
) -> SliceStack:
    """Slices at given heights; a sheared stack moves along the rows by `shear` mm per mm, as a tilted gantry's does."""
    heights = 2.0 * np.arange(shape[0]) if heights_mm is None else np.asarray(heights_mm, dtype=float)
    origins = np.array([-3.0, 4.0, 10.0]) + heights[:, None] * np.array([0.0, shear, 1.0])
    turn = np.eye(3) if turn is None else turn
    return SliceStack(
        shape=shape,
        origins_ras_mm=origins @ turn.T,
        column_step_ras_mm=turn @ np.array([column_mm, 0.0, 0.0]),
        row_step_ras_mm=turn @ np.array([0.0, row_mm, 0.0]),
        thickness_mm=np.full(shape[0], thickness_mm),
    )


def box(shape, slices, rows, columns) -> np.ndarray:
    marked = np.zeros(shape, dtype=bool)
    marked[slice(*slices), slice(*rows), slice(*columns)] = True
    return marked


def test_areas_of_a_box_on_uneven_slices() -> None:
    # Borders at 1, 3.5, 6.5 mm: two slices of 2.5 and 3 mm, 3 rows of 0.5 mm, 4 columns of 0.8 mm.
    stack = stack_of((4, 6, 8), heights_mm=[0.0, 2.0, 5.0, 8.0])
    found = surface_distances(box(stack.shape, (1, 3), (2, 5), (3, 7)), box(stack.shape, (1, 3), (2, 5), (3, 7)), stack)
    depth, height, width = 5.5, 1.5, 3.2
    assert found.predicted_mm2.sum() == pytest.approx(2 * (depth * height + depth * width + height * width))
    assert sorted({round(area, 9) for area in found.predicted_mm2.tolist()}) == [0.4, 1.25, 1.5, 2.0, 2.4]
    assert found.dice() == 1.0
    assert found.mean_mm() == found.percentile_mm() == 0.0


def test_the_first_and_the_last_slice_reach_half_a_thickness_out() -> None:
    stack = stack_of((2, 3, 4), heights_mm=[0.0, 5.0], thickness_mm=3.0)
    found = surface_distances(np.ones(stack.shape, bool), np.zeros(stack.shape, bool), stack)
    depth, height, width = 8.0, 1.5, 3.2
    assert found.predicted_mm2.sum() == pytest.approx(2 * (depth * height + depth * width + height * width))
    single = stack_of((1, 3, 4), thickness_mm=3.0)
    found = surface_distances(np.ones(single.shape, bool), np.zeros(single.shape, bool), single)
    assert found.predicted_mm2.sum() == pytest.approx(2 * (3 * height + 3 * width + height * width))


@pytest.mark.parametrize(
    ("shift", "tolerance_mm", "share"),
    [
        # A 5 × 4 × 3-voxel box of 10 × 2 × 2.4 mm, shifted by two columns (1.6 mm): its surface is 2·(20 + 24 + 4.8)
        # = 97.6 mm². Beyond 1 mm lie one end of 20 mm², and of the four sides that run along the shift
        # (2·(10 + 2) mm around) the outermost 0.8 mm, where faces' middles stand at 1.2 mm.
        (2, 1.0, 1 - (20 + 24 * 0.8) / 97.6),
        (2, 1.6, 1.0),
        (2, 1.59, 1 - (20 + 0) / 97.6),
        # By one column (0.8 mm): the end inside the other box is 0.25 or 0.75 mm from its sides, the rim 0.4 mm.
        (1, 0.4, 1 - (20 + 10) / 97.6),
        (1, 0.3, 1 - (20 + 10 + 24 * 0.8) / 97.6),
        (0, 0.1, 1.0),
    ],
)
def test_a_shifted_box_by_hand(shift: int, tolerance_mm: float, share: float) -> None:
    stack = stack_of()
    a, b = box(SHAPE, (1, 6), (2, 6), (3, 6)), box(SHAPE, (1, 6), (2, 6), (3 + shift, 6 + shift))
    assert surface_dice(a, b, stack, tolerance_mm) == pytest.approx(share)
    assert surface_dice(b, a, stack, tolerance_mm) == pytest.approx(share)


def test_a_shift_across_slices_counts_the_slices_distance() -> None:
    stack = stack_of(heights_mm=[0, 2, 4, 6, 9, 12, 15])
    a, b = box(SHAPE, (1, 4), (2, 6), (3, 6)), box(SHAPE, (1, 5), (2, 6), (3, 6))
    # The upper face of 4.8 mm² rises from 7.5 to 10.5 mm; the middles of the rim between them stand at 9 mm.
    for tolerance_mm, far_mm2 in ((3.0, 0.0), (1.5, 4.8), (1.4, 4.8 + 2 * 3 * (2 + 2.4))):
        found = surface_distances(a, b, stack)
        whole = found.predicted_mm2.sum() + found.reference_mm2.sum()
        assert found.dice(tolerance_mm) == pytest.approx(1 - far_mm2 / whole)


def test_a_sheared_stack_equals_its_shear_by_hand() -> None:
    # A tilt of 30°: side faces along the rows stay upright, those along the columns lean and are 1/cos 30° taller.
    tilt = math.tan(math.radians(30))
    stack = stack_of(shear=tilt)
    a = box(SHAPE, (1, 6), (2, 6), (3, 6))
    found = surface_distances(a, box(SHAPE, (1, 6), (2, 6), (5, 8)), stack)
    depth, height, width = 10.0, 2.0, 2.4
    upright, leaning = 2 * depth * height, 2 * depth / math.cos(math.radians(30)) * width
    around = upright + leaning + 2 * height * width
    assert found.predicted_mm2.sum() == pytest.approx(around)
    # The shift runs along the columns, where nothing leans: 1.6 mm, as without a tilt.
    assert found.dice(1.6) == pytest.approx(1.0)
    assert found.dice(1.59) == pytest.approx(1 - upright / 2 / around)
    # Along the rows by 2 rows (1 mm): the leaning faces are only cos 30° apart.
    moved = surface_distances(a, box(SHAPE, (1, 6), (4, 8), (3, 6)), stack)
    assert moved.dice(1.0) == 1.0
    assert moved.dice(0.8) < 1.0


def test_where_the_patient_lies_says_nothing() -> None:
    rng = np.random.default_rng(3)
    a, b = rng.random(SHAPE) < 0.3, rng.random(SHAPE) < 0.3
    turn, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    turn *= np.linalg.det(turn)
    heights = [0, 1.5, 3, 4.5, 8, 11, 14]
    plain, turned = (stack_of(heights_mm=heights, shear=0.2, turn=way) for way in (None, turn))
    for tolerance_mm in (0.3, 0.9, 2.0):
        assert surface_dice(a, b, plain, tolerance_mm) == pytest.approx(surface_dice(a, b, turned, tolerance_mm))


def brute_force(is_from: np.ndarray, is_to: np.ndarray, borders: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Area and exact distance of every face's middle to the nearest face of the other set, on a grid without shear."""

    def faces_of(is_marked: np.ndarray) -> np.ndarray:
        padded, found = np.pad(is_marked, 1), []
        for voxel in product(*(range(1, n + 1) for n in is_marked.shape)):
            for axis, way in product(range(3), (-1, 1)):
                beside = list(voxel)
                beside[axis] += way
                if padded[voxel] and not padded[tuple(beside)]:
                    low = [borders[n][v - 1] for n, v in enumerate(voxel)]
                    high = [borders[n][v] for n, v in enumerate(voxel)]
                    low[axis] = high[axis] = high[axis] if way > 0 else low[axis]
                    found.append((low, high))
        return np.array(found)

    ours, theirs = faces_of(is_from), faces_of(is_to)
    extent = ours[:, 1] - ours[:, 0]
    area = np.prod(np.where(extent == 0, 1, extent), axis=1)
    middle = ours.mean(axis=1)
    nearest = np.clip(middle[:, None], theirs[None, :, 0], theirs[None, :, 1])
    return area, np.linalg.norm(nearest - middle[:, None], axis=2).min(axis=1)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**31), st.sampled_from([0.05, 0.3]))
def test_distances_equal_a_brute_force_over_all_faces(seed: int, density: float) -> None:
    rng = np.random.default_rng(seed)
    shape = (4, 5, 6)
    a, b = rng.random(shape) < density, rng.random(shape) < density
    a[1, 2, 3] = b[2, 0, 5] = True
    stack = stack_of(shape, heights_mm=[0, 2, 5, 9], thickness_mm=1.0)
    borders = [np.array([-0.5, 1, 3.5, 7, 9.5]), 0.5 * np.arange(-0.5, 5), 0.8 * np.arange(-0.5, 6)]
    found = surface_distances(a, b, stack)
    area, distance = brute_force(a, b, borders)
    assert np.sort(found.predicted_mm2) == pytest.approx(np.sort(area))
    assert np.sort(found.to_reference_mm) == pytest.approx(np.sort(distance))
    for tolerance_mm in (0.4, 1.0, 3.0):
        near = area[distance <= tolerance_mm + 1e-9].sum()
        back, far = brute_force(b, a, borders)
        near += back[far <= tolerance_mm + 1e-9].sum()
        assert surface_dice(a, b, stack, tolerance_mm) == pytest.approx(near / (area.sum() + back.sum()))
    assert found.mean_mm() == pytest.approx(((area * distance).sum() + (back * far).sum()) / (area.sum() + back.sum()))


def ellipsoid(shape, centre, radii) -> np.ndarray:
    points = np.stack(np.meshgrid(*(np.arange(n) for n in shape), indexing="ij"), axis=-1)
    return (((points - np.array(centre)) / np.array(radii)) ** 2).sum(axis=-1) <= 1


@pytest.mark.parametrize("tolerance_mm", [1.0, 1.5, 2.5])
def test_agrees_with_monai_on_smooth_shapes(tolerance_mm: float) -> None:
    # MONAI measures between the corners of voxels, so both agree where voxels are small against the tolerance.
    shape, spacing = (38, 70, 84), (0.5, 0.3, 0.25)
    a = ellipsoid(shape, (18.5, 34, 42), (13, 22, 29))
    b = ellipsoid(shape, (20.3, 37, 40), (12, 27, 34))
    heights = spacing[0] * np.arange(shape[0])
    stack = stack_of(shape, row_mm=spacing[1], column_mm=spacing[2], heights_mm=heights, thickness_mm=spacing[0])
    theirs = compute_surface_dice(
        torch.from_numpy(a)[None, None].float(), torch.from_numpy(b)[None, None].float(),
        class_thresholds=[tolerance_mm], include_background=True, spacing=spacing, use_subvoxels=True,
    )  # fmt: skip
    assert surface_dice(a, b, stack, tolerance_mm) == pytest.approx(float(theirs), abs=0.03)


def monai_hd95_mm(is_predicted: np.ndarray, is_reference: np.ndarray, spacing_mm: tuple[float, ...]) -> float:
    a, b = (torch.from_numpy(one)[None, None].float() for one in (is_predicted, is_reference))
    found = compute_hausdorff_distance(a, b, include_background=True, percentile=95, spacing=spacing_mm)
    return float(found)


@pytest.mark.parametrize(("axis", "voxels"), [(0, 1), (1, 3), (2, 2), (2, 4)])
def test_hd95_of_a_shifted_box_is_the_shift_as_monai_says(axis: int, voxels: int) -> None:
    # Either end of the box is more than 5 % of its surface.
    a = box(SHAPE, (1, 5), (1, 5), (2, 6))
    b = np.roll(a, voxels, axis=axis)
    spacing_mm = (2.0, 0.5, 0.8)
    expected = voxels * spacing_mm[axis]
    assert surface_distances(a, b, stack_of()).percentile_mm() == pytest.approx(expected)
    assert monai_hd95_mm(a, b, spacing_mm) == pytest.approx(expected, rel=1e-6)


def test_hd95_agrees_with_monai_on_smooth_shapes() -> None:
    # MONAI measures between middles of voxels, so both agree to a voxel.
    shape, spacing = (38, 70, 84), (0.5, 0.3, 0.25)
    a = ellipsoid(shape, (18.5, 34, 42), (13, 22, 29))
    stack = stack_of(shape, row_mm=spacing[1], column_mm=spacing[2], heights_mm=spacing[0] * np.arange(38),
                     thickness_mm=spacing[0])  # fmt: skip
    for centre, radii in (((20.3, 37, 40), (12, 27, 34)), ((18.5, 34, 50), (13, 22, 29)), ((14, 40, 42), (6, 9, 9))):
        b = ellipsoid(shape, centre, radii)
        found = surface_distances(a, b, stack)
        assert found.percentile_mm() == pytest.approx(monai_hd95_mm(a, b, spacing), abs=0.25)
        assert found.percentile_mm() == surface_distances(b, a, stack).percentile_mm() > 1.0


def test_the_span_of_a_region_by_hand() -> None:
    # Borders of uneven slices: −1, 1, 3.5, 6.5, 9.5 mm; three rows of 0.5 mm, four columns of 0.8 mm in slices 1, 2.
    stack = stack_of((4, 6, 8), heights_mm=[0.0, 2.0, 5.0, 8.0])
    region = box(stack.shape, (1, 3), (2, 5), (3, 7))
    assert span_mm(region, stack) == pytest.approx(math.hypot(5.5, 1.5, 3.2))
    assert span_mm(np.ones(stack.shape, bool), stack) == pytest.approx(math.hypot(1 + 8 + 1, 6 * 0.5, 8 * 0.8))
    # Two voxels have the same span as the box around them.
    ends = np.zeros_like(region)
    ends[1, 2, 3] = ends[2, 4, 6] = True
    assert span_mm(ends, stack) == span_mm(region, stack)
    # Sheared by 3 mm per mm, the longer diagonal leans with the rows.
    assert span_mm(region, stack_of((4, 6, 8), heights_mm=[0.0, 2.0, 5.0, 8.0], shear=3.0)) == pytest.approx(
        math.hypot(5.5, 3 * 5.5 + 1.5, 3.2)
    )
    # A slice in the middle that stands out is the furthest there is.
    bent = stack_of((3, 2, 2))
    bent.origins_ras_mm[1, 0] += 50.0
    assert span_mm(np.ones(bent.shape, bool), bent) > 25.0
    for is_marked in (np.zeros((4, 6, 8), bool), np.ones((4, 6, 7), bool)):
        with pytest.raises(ValueError, match="no span"):
            span_mm(is_marked, stack)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**31))
def test_no_surfaces_in_a_region_are_further_apart_than_its_span(seed: int) -> None:
    rng = np.random.default_rng(seed)
    stack = stack_of((4, 5, 6), heights_mm=[0, 2, 5, 9], shear=float(rng.normal()), thickness_mm=1.0)
    region = box(stack.shape, (1, 4), (0, 4), (2, 6))
    a, b = np.zeros(stack.shape, bool), np.zeros(stack.shape, bool)
    for one in (a, b):
        one[rng.integers(1, 4), rng.integers(0, 4), rng.integers(2, 6)] = True
    assert surface_distances(a, b, stack).percentile_mm(1.0) <= span_mm(region, stack)


def test_empty_sets() -> None:
    stack, nothing, some = stack_of(), np.zeros(SHAPE, bool), box(SHAPE, (1, 2), (3, 4), (5, 6))
    assert math.isnan(surface_dice(nothing, nothing, stack))
    assert surface_dice(some, nothing, stack) == surface_dice(nothing, some, stack) == 0.0
    both, one = surface_distances(nothing, nothing, stack), surface_distances(some, nothing, stack)
    assert math.isnan(both.mean_mm())
    assert math.isnan(both.percentile_mm())
    assert math.isinf(one.mean_mm())
    assert math.isinf(one.percentile_mm())


def test_the_percentile_is_that_of_the_worse_direction() -> None:
    stack = stack_of((3, 4, 30), column_mm=1.0)
    a, b = box(stack.shape, (1, 2), (1, 3), (0, 2)), box(stack.shape, (1, 2), (1, 3), (0, 2))
    b[1, 1:3, 20:22] = True
    found = surface_distances(a, b, stack)
    assert np.max(found.to_reference_mm) == 0.0
    assert found.percentile_mm() == found.percentile_mm(1.0) == pytest.approx(20.0)
    # Half of the reference's surface is the prediction's own.
    assert found.percentile_mm(0.5) == 0.0


def test_sets_must_fit_the_slices() -> None:
    with pytest.raises(ValueError, match="do not fit"):
        surface_dice(np.zeros((6, 9, 12), bool), np.zeros((6, 9, 12), bool), stack_of())
