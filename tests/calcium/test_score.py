"""Agatston scores worked by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from apatite.calcium.score import agatston_score, is_standard_agatston
from apatite.core.errors import DataError
from apatite.core.scan import Scan


def scan_of(stack, **blocks):
    """40 HU, and blocks of (slice, rows, columns, HU)."""
    voxels_hu = np.full(stack.shape, 40, np.int16)
    for k, rows, columns, hu in blocks.values():
        voxels_hu[k, rows, columns] = hu
    return Scan(voxels_hu=voxels_hu, stack=stack)


def everywhere(scan):
    return np.ones(scan.stack.shape, bool)


@pytest.mark.parametrize(
    ("hu", "weight"),
    [(130, 1), (199, 1), (200, 2), (299, 2), (300, 3), (399, 3), (400, 4), (3000, 4), (25_000, 4)],
)
def test_the_weight_is_that_of_the_largest_hu(make_stack, hu, weight):
    scan = scan_of(
        make_stack([0, 3, 6]), low=(1, slice(1, 4), slice(2, 5), 130), peak=(1, slice(2, 3), slice(3, 4), hu)
    )
    # 9 pixels of 0.2 mm² in a slice of 3 mm
    assert agatston_score(scan, everywhere(scan)) == pytest.approx(1.8 * weight)


def test_three_islands_by_hand(make_stack):
    scan = scan_of(
        make_stack([0, 3, 6]),
        first=(0, slice(0, 2), slice(0, 3), 210),  # 6 pixels, 1.2 mm², weight 2
        second=(0, slice(4, 7), slice(5, 9), 450),  # 12 pixels, 2.4 mm², weight 4
        third=(2, slice(0, 2), slice(0, 4), 350),  # 8 pixels, 1.6 mm², weight 3
        speck=(1, slice(0, 2), slice(0, 2), 900),  # 4 pixels, 0.8 mm²: too small
    )
    assert agatston_score(scan, everywhere(scan)) == pytest.approx(1.2 * 2 + 2.4 * 4 + 1.6 * 3)


def test_islands_are_joined_at_corners_and_not_across_slices(make_stack):
    stack = make_stack([0, 3])
    corner = scan_of(stack, a=(0, slice(0, 1), slice(0, 3), 150), b=(0, slice(1, 2), slice(3, 5), 420))
    assert agatston_score(corner, everywhere(corner)) == pytest.approx(5 * 0.2 * 4)
    apart = scan_of(stack, a=(0, slice(0, 1), slice(0, 3), 150), b=(1, slice(0, 1), slice(0, 2), 420))
    assert agatston_score(apart, everywhere(apart)) == 0.0


def test_an_island_of_exactly_1_mm2_counts(make_stack):
    scan = scan_of(make_stack([0, 3]), five=(0, slice(3, 4), slice(0, 5), 130))
    assert agatston_score(scan, everywhere(scan)) == pytest.approx(1.0)
    scan = scan_of(make_stack([0, 3]), four=(0, slice(3, 4), slice(0, 4), 130))
    assert agatston_score(scan, everywhere(scan)) == 0.0


def test_129_hu_and_padding_and_what_is_not_marked_do_not_count(make_stack):
    stack = make_stack([0, 3])
    scan = scan_of(stack, a=(0, slice(0, 3), slice(0, 4), 129), b=(1, slice(0, 3), slice(0, 4), 500))
    assert agatston_score(scan, np.zeros(stack.shape, bool)) == 0.0
    only_first = everywhere(scan)
    only_first[1] = False
    assert agatston_score(scan, only_first) == 0.0
    padded = Scan(voxels_hu=scan.voxels_hu, stack=stack, is_padding=everywhere(scan))
    assert agatston_score(padded, everywhere(scan)) == 0.0


@pytest.mark.parametrize("spacing_mm", [1.5, 3.0, 5.0])
def test_the_score_is_scaled_with_the_spacing(make_stack, spacing_mm):
    stack = make_stack([k * spacing_mm for k in range(4)], spacing_mm)
    scan = scan_of(stack, a=(1, slice(0, 2), slice(0, 3), 250))
    assert agatston_score(scan, everywhere(scan)) == pytest.approx(1.2 * 2 * spacing_mm / 3)


def test_overlapping_slices_are_not_scored_twice(make_stack):
    apart, overlapping = make_stack([0, 3, 6, 9], 3.0), make_stack([1.5 * k for k in range(7)], 3.0)
    scores = []
    for stack in (apart, overlapping):
        voxels_hu = np.full(stack.shape, 40, np.int16)
        voxels_hu[:, 1:5, 2:5] = 320
        scan = Scan(voxels_hu=voxels_hu, stack=stack)
        scores.append(agatston_score(scan, everywhere(scan)))
    assert scores[0] == pytest.approx(12 * 0.2 * 3 * 4)
    assert scores[1] == pytest.approx(scores[0])


@given(st.integers(0, 2**31), st.floats(100, 400), st.floats(0, 200))
def test_never_more_at_a_higher_threshold(make_stack, seed, low, more):
    stack = make_stack([0, 2, 5], [2.0, 3.0, 3.0])
    scan = Scan(voxels_hu=np.random.default_rng(seed).uniform(0, 600, stack.shape), stack=stack)
    at_low, at_high = (agatston_score(scan, everywhere(scan), t) for t in (low, low + more))
    assert at_high <= at_low + 1e-9


def test_standard_means_three_millimetres_and_120_kvp(make_stack):
    good = make_stack([0, 3, 6])
    assert is_standard_agatston(good, 120)
    assert is_standard_agatston(make_stack([0, 2.5, 6.0]), 120.0)
    assert not is_standard_agatston(good, None)
    assert not is_standard_agatston(good, 100)
    assert not is_standard_agatston(make_stack([0, 3, 7]), 120)
    assert not is_standard_agatston(make_stack([0, 2.4, 4.8]), 120)
    assert is_standard_agatston(make_stack([0], 3.0), 120)
    # 3.6 mm along the table is 3.38 mm along the normal of a gantry tilted by 20°
    assert is_standard_agatston(make_stack([0, 3.6, 7.2], tilt_deg=20), 120)
    assert not is_standard_agatston(make_stack([0, 3.6, 7.2]), 120)


def test_not_a_number_is_named(make_stack):
    stack = make_stack([0, 3])
    voxels_hu = np.full(stack.shape, 200.0)
    voxels_hu[0, 0, 0] = np.inf
    with pytest.raises(DataError) as caught:
        agatston_score(Scan(voxels_hu=voxels_hu, stack=stack), np.ones(stack.shape, bool))
    assert caught.value.code == "NONFINITE"
