"""Right and left come from template space: by hand at the midline, and alike however a file is stored."""

from collections.abc import Sequence
from itertools import permutations, product

import numpy as np
import pytest

from apatite.calcium.measure import volume_mm3
from apatite.core.scan import Scan, SliceStack, stack_from_grid
from apatite.core.volume import Grid
from apatite.ct.boxes import BOXES
from apatite.ct.cover import coverage, is_inside_box
from apatite.ct.pose import HeadPose
from apatite.ct.region import RegionConfig, carry_back, cut_fraction
from apatite.ct.side import LEFT, RIGHT, segments, sides

LYING = HeadPose(mni_to_ras=np.eye(4))
FLIPS = list(product((False, True), repeat=3))


def a_stack() -> SliceStack:
    """9 slices of 12 × 30 pixels of 1.5 × 1 mm, 2 mm apart; x of a column is 14.5 - column, as scanners store it."""
    return SliceStack(
        shape=(9, 12, 30),
        origins_ras_mm=np.array([14.5, 8.0, -50.0]) + np.arange(9)[:, None] * np.array([0.0, 0.3, 4.0]),
        column_step_ras_mm=np.array([-1.0, 0.0, 0.0]),
        row_step_ras_mm=np.array([0.0, -1.5, 0.0]),
        thickness_mm=np.full(9, 4.0),
    )


def of_columns(columns: slice | list[int], slices: slice = slice(4, 5)) -> np.ndarray:
    is_calcium = np.zeros(a_stack().shape, dtype=bool)
    is_calcium[slices, 5, columns] = True
    return is_calcium


def re_encoded(
    scan: Scan, is_calcium: np.ndarray, order: Sequence[int], flips: Sequence[bool]
) -> tuple[Scan, np.ndarray]:
    """The same voxels and marks of an even scan, stored along other axes: `order` of the old ones, then flipped."""
    stack = scan.stack
    apart = stack.origins_ras_mm[1] - stack.origins_ras_mm[0]
    steps = np.stack([apart, stack.row_step_ras_mm, stack.column_step_ras_mm])[list(order)]
    shape = tuple(stack.shape[axis] for axis in order)
    origin = stack.origins_ras_mm[0].copy()
    arrays = [np.transpose(array, order) for array in (scan.voxels_hu, is_calcium)]
    for axis, is_flipped in enumerate(flips):
        if is_flipped:
            origin += (shape[axis] - 1) * steps[axis]
            steps[axis] *= -1
            arrays = [np.flip(array, axis) for array in arrays]
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = steps[::-1].T, origin
    made = stack_from_grid(Grid(shape=(shape[0], shape[1], shape[2]), ijk_to_ras=affine))
    return Scan(voxels_hu=arrays[0].copy(), stack=made), arrays[1].copy()


@pytest.mark.parametrize(
    ("columns", "right", "left"),
    [
        (slice(2, 6), 4, 0),  # x = 12.5 ... 9.5
        (slice(20, 23), 0, 3),
        (slice(13, 15), 2, 0),  # x = 1.5, 0.5: in the band, middle 1.0
        (slice(13, 18), 0, 5),  # x = 1.5 ... -2.5: middle -0.5, and one pixel beyond the band on the same side
        (slice(5, 17), 12, 0),  # x = 9.5 ... -1.5: the tip goes with the lesion
        (slice(5, 20), 12, 3),  # x = 9.5 ... -4.5: -2.5 ... -4.5 lie beyond the band on the left
        ([13, 16], 1, 1),  # two lesions in the band, x = 1.5 and -1.5
        (slice(14, 16), 0, 2),  # middle exactly 0: left
    ],
)
def test_sides_by_hand(columns, right: int, left: int) -> None:
    found = sides(of_columns(columns), a_stack(), LYING)
    assert ((found == RIGHT).sum(), (found == LEFT).sum()) == (right, left)
    assert np.array_equal(found > 0, of_columns(columns))


def test_a_turned_head_turns_its_midline() -> None:
    quarter = np.eye(4)
    quarter[:3, :3] = [[0, -1, 0], [1, 0, 0], [0, 0, 1]]  # the right of MNI points forward in the scan
    is_calcium = np.zeros(a_stack().shape, dtype=bool)
    is_calcium[4, 1, 3], is_calcium[4, 10, 25] = True, True  # in front and behind
    found = sides(is_calcium, a_stack(), HeadPose(mni_to_ras=quarter))
    assert (found[4, 1, 3], found[4, 10, 25]) == (RIGHT, LEFT)


def test_nothing_has_no_side() -> None:
    nothing = np.zeros(a_stack().shape, dtype=bool)
    assert not sides(nothing, a_stack(), LYING).any()
    assert not segments(nothing, a_stack(), LYING).any()


def test_segments_by_height() -> None:
    found = segments(of_columns(slice(3, 4), slice(0, 9)), a_stack(), LYING)[:, 5, 3]
    # From 50 mm below upwards in steps of 4 mm.
    assert found.tolist() == [1, 1, 1, 2, 2, 2, 2, 2, 3]


def scattered(shape: tuple[int, int, int], seed: int = 4) -> np.ndarray:
    """Blobs, some of them across the midline."""
    rng = np.random.default_rng(seed)
    is_calcium = np.zeros(shape, dtype=bool)
    for _ in range(14):
        k, r, c = (int(rng.integers(0, n - 3)) for n in shape)
        is_calcium[k : k + 2, r : r + 3, c : c + int(rng.integers(1, 4))] = True
    return is_calcium


def numbers(scan: Scan, is_calcium: np.ndarray, pose: HeadPose) -> np.ndarray:
    """Volume per side, of what lies in the box, there and back through a region, the shown share."""
    side = sides(is_calcium, scan.stack, pose)
    grid = RegionConfig(shape=(40, 60, 60), spacing_mm=(1.1, 0.9, 1.3)).grid(np.array([1.0, 2.0, -32.0]))
    back = carry_back(cut_fraction(is_calcium, scan.stack, grid), scan.stack)
    return np.array([
        volume_mm3(side == RIGHT, scan.stack),
        volume_mm3(side == LEFT, scan.stack),
        volume_mm3(is_calcium & is_inside_box(scan.stack, pose, BOXES["ica"]), scan.stack),
        volume_mm3(back, scan.stack),
        coverage(scan, pose, BOXES["ica"]).fraction,
    ])  # fmt: skip


def askew() -> HeadPose:
    turn, affine = np.deg2rad(7), np.eye(4)
    affine[:3, :3] = 0.93 * np.array([[np.cos(turn), -np.sin(turn), 0], [np.sin(turn), np.cos(turn), 0], [0, 0, 1]])
    affine[:3, 3] = [0.8, 1.0, -4.0]
    return HeadPose(mni_to_ras=affine)


@pytest.mark.parametrize("order", [(0, 1, 2), (0, 2, 1)])
def test_slices_stored_in_any_order_give_the_same_numbers_on_the_same_sides(order: tuple[int, ...]) -> None:
    is_calcium = scattered(a_stack().shape)
    scan = Scan(voxels_hu=np.where(is_calcium, 400, 30).astype(np.int16), stack=a_stack())
    expected, side = numbers(scan, is_calcium, askew()), sides(is_calcium, a_stack(), askew())
    assert expected[:4].min() > 0
    for flips in FLIPS:
        made, marked = re_encoded(scan, is_calcium, order, flips)
        np.testing.assert_allclose(numbers(made, marked, askew()), expected, rtol=1e-4)
        _, as_expected = re_encoded(scan, side, order, flips)
        assert np.array_equal(sides(marked, made.stack, askew()), as_expected)


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_all_48_orders_of_an_even_scan_give_the_same_numbers_on_the_same_sides(order: tuple[int, ...]) -> None:
    affine = np.diag([-2.0, -2.0, 2.0, 1.0])
    affine[:3, 3] = [29.0, 24.0, -50.0]
    stack = stack_from_grid(Grid(shape=(20, 24, 30), ijk_to_ras=affine))
    is_calcium = scattered(stack.shape, seed=8)
    scan = Scan(voxels_hu=np.where(is_calcium, 400, 30).astype(np.int16), stack=stack)
    expected, side = numbers(scan, is_calcium, askew()), sides(is_calcium, stack, askew())
    assert expected[:4].min() > 0
    for flips in FLIPS:
        made, marked = re_encoded(scan, is_calcium, order, flips)
        found = numbers(made, marked, askew())
        # The way back averages over the thickness of a slice, so another axis as the slice axis reads a little else.
        np.testing.assert_allclose(np.delete(found, 3), np.delete(expected, 3), rtol=1e-4)
        assert found[3] == pytest.approx(expected[3], rel=0.02)
        _, as_expected = re_encoded(scan, side, order, flips)
        assert np.array_equal(sides(marked, made.stack, askew()), as_expected)
