"""Thick slices out of thin ones: nothing is lost, and a ramp keeps its mean, whatever the tilt and the spacing."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from apatite.calcium.measure import slice_weights_mm
from apatite.core.errors import ConfigError
from apatite.core.scan import PADDING_HU, Scan, SliceStack
from apatite.ct.degrade.degradation import degrade
from apatite.ct.degrade.thickness import ThickSlices, profile_weights, slice_edges_mm

ROWS, COLUMNS = 5, 7


def stack_of(gaps, *, thickness=1.0, tilt_deg=0.0, pixel=(0.5, 0.8), rows=ROWS) -> SliceStack:
    """Slices `gaps` mm apart along their normal, sheared as by a tilted gantry."""
    tilt = np.deg2rad(tilt_deg)
    height = np.concatenate([[0.0], np.cumsum(gaps)])
    return SliceStack(
        shape=(len(height), rows, COLUMNS),
        origins_ras_mm=np.array([3.0, -8.0, 2.0]) + height[:, None] / np.cos(tilt) * np.array([0.0, 0.0, 1.0]),
        column_step_ras_mm=np.array([-pixel[1], 0.0, 0.0]),
        row_step_ras_mm=np.array([0.0, -np.cos(tilt), -np.sin(tilt)]) * pixel[0],
        thickness_mm=np.full(len(height), thickness),
    )


def integral(voxels, stack, edges) -> float:
    """HU times mm of what the slices stand for."""
    return float((voxels.astype(float).sum(axis=(1, 2)) * (edges[:, 1] - edges[:, 0])).sum())


@given(st.integers(0, 2**31), st.integers(4, 30), st.floats(2.0, 11.0))
def test_the_integral_of_hu_is_kept_whatever_the_spacing(seed, count, level):
    rng = np.random.default_rng(seed)
    stack = stack_of(rng.uniform(0.3, 1.9, count), thickness=1.2)
    voxels = rng.integers(-1000, 2000, stack.shape).astype(np.int16)
    thick = degrade(Scan(voxels_hu=voxels, stack=stack), ThickSlices(level=level), "k")
    edges = slice_edges_mm(stack)
    # At both ends the mean runs over what was scanned, so a thick slice stands for that much.
    filled = profile_weights(stack, thick.stack).sum(axis=1)
    found = float((thick.voxels_hu.astype(float).sum(axis=(1, 2)) * filled).sum())
    assert filled.sum() == pytest.approx((edges[:, 1] - edges[:, 0]).sum())
    assert found == pytest.approx(integral(voxels, stack, edges), rel=1e-4, abs=1.0)


@given(st.integers(0, 2**31), st.floats(1.0, 3.0))
def test_cells_are_the_weights_with_which_volumes_are_measured(seed, thickness):
    gaps = np.random.default_rng(seed).uniform(0.2, 1.9, 9)
    stack = stack_of(gaps, thickness=thickness)
    edges = slice_edges_mm(stack)
    assert (edges[:, 1] - edges[:, 0]) == pytest.approx(slice_weights_mm(stack))


def test_a_ramp_keeps_its_analytic_mean():
    stack = stack_of(np.full(29, 1.0))
    ramp = 7.0 * stack.positions_mm
    voxels = np.broadcast_to(ramp[:, None, None], stack.shape).astype(np.float32)
    thick = degrade(Scan(voxels_hu=voxels, stack=stack), ThickSlices(level=5.0), "k")
    assert thick.stack.shape == (6, ROWS, COLUMNS)
    assert thick.stack.positions_mm == pytest.approx(stack.positions_mm[0] - 0.5 + 5 * (np.arange(6) + 0.5))
    assert thick.stack.thickness_mm == pytest.approx(5.0)
    assert thick.voxels_hu[:, 2, 3] == pytest.approx(7.0 * thick.stack.positions_mm, abs=1e-3)


def test_slices_that_do_not_divide_count_by_their_share():
    stack = stack_of(np.full(3, 1.0))
    voxels = np.zeros(stack.shape, np.int16)
    voxels[1] = 300
    thick = degrade(Scan(voxels_hu=voxels, stack=stack), ThickSlices(level=2.5), "k")
    # 4 mm in two slices of 2.5: each reaches 0.5 mm beyond, so 2 mm are known of it, half of them the bright slice.
    assert thick.voxels_hu[:, 0, 0] == pytest.approx([150, 0])
    assert profile_weights(stack, thick.stack) == pytest.approx(np.array([[1, 1, 0, 0], [0, 0, 1, 1]]))
    three = stack_of(np.full(2, 2.0), thickness=2.0)
    voxels = np.zeros(three.shape, np.int16)
    voxels[1] = 300
    thick = degrade(Scan(voxels_hu=voxels, stack=three), ThickSlices(level=3.0), "k")
    assert thick.voxels_hu[:, 4, 6] == pytest.approx([100, 100])


@given(st.floats(-25, 25), st.sampled_from([2, 3, 4, 6]))
def test_what_is_linear_in_the_patient_stays_so_under_tilt(tilt_deg, number):
    level = number * 0.9
    stack = stack_of(np.full(23, 0.9), thickness=0.9, tilt_deg=tilt_deg, rows=15)
    rows, columns = np.meshgrid(np.arange(15.0), np.arange(float(COLUMNS)), indexing="ij")
    points = np.stack([stack.to_ras(k, np.stack([rows, columns], -1)) for k in range(stack.shape[0])])
    scan = Scan(voxels_hu=(points @ np.array([3.0, 0.0, 11.0])).astype(np.float32), stack=stack)
    thick = degrade(scan, ThickSlices(level=level), "k")
    inner = slice(1, -1)
    for k in range(1, thick.stack.shape[0] - 1):
        expected = thick.stack.to_ras(k, np.stack([rows, columns], -1)) @ np.array([3.0, 0.0, 11.0])
        shift = abs(level * np.tan(np.deg2rad(tilt_deg))) / 2 / 0.5
        far = slice(int(np.ceil(shift)) + 1, 15 - int(np.ceil(shift)) - 1)
        assert thick.voxels_hu[k][far, inner] == pytest.approx(expected[far, inner], abs=0.02)


def test_a_tilted_plate_is_not_smeared_along_the_table():
    """A bright row that runs straight along the normal stays one bright row; averaging along the table would not."""
    stack = stack_of(np.full(11, 0.5), thickness=0.5, tilt_deg=20.0, pixel=(0.25, 0.8), rows=25)
    voxels = np.zeros(stack.shape, np.float32)
    straight = stack.origins_ras_mm[5] + 12 * stack.row_step_ras_mm
    for k in range(12):
        row = np.linalg.lstsq(
            np.stack([stack.row_step_ras_mm, stack.normal_ras], axis=1), straight - stack.origins_ras_mm[k], rcond=None
        )[0][0]
        low = int(np.floor(row))
        for place, share in ((low, 1 - (row - low)), (low + 1, row - low)):
            if 0 <= place < 25:
                voxels[k, place] += 1000 * share
    thick = degrade(Scan(voxels_hu=voxels, stack=stack), ThickSlices(level=6.0), "k")
    assert thick.stack.shape[0] == 1
    # Two linear interpolations leave two thirds of it in its row; smeared over 6 mm tan 20° it would be a ninth.
    assert thick.voxels_hu[0].max() > 550


def test_padding_takes_no_part_and_stays_where_nothing_else_is():
    stack = stack_of(np.full(5, 1.0))
    voxels = np.full(stack.shape, 100, np.int16)
    is_padding = np.zeros(stack.shape, dtype=bool)
    is_padding[0, 0] = is_padding[:3, 4] = True
    voxels[is_padding] = -1024
    thick = degrade(Scan(voxels_hu=voxels, stack=stack, is_padding=is_padding), ThickSlices(level=3.0), "k")
    assert thick.is_padding is not None
    assert thick.is_padding[0].any(axis=1).tolist() == [False, False, False, False, True]
    assert not thick.is_padding[1].any()
    assert thick.voxels_hu[~thick.is_padding] == pytest.approx(100)
    assert thick.voxels_hu[thick.is_padding] == pytest.approx(PADDING_HU)


def test_only_thinner_slices_without_gaps_fit():
    level = ThickSlices(level=3.0)
    assert level.fits(stack_of(np.full(5, 1.0)))
    assert not level.fits(stack_of(np.full(5, 1.0), thickness=3.0))
    assert not level.fits(stack_of([1.0, 1.0, 3.5, 1.0]))
    single = stack_of(np.full(5, 1.0)).part((slice(0, 1), slice(0, 5), slice(0, 7)))
    assert not level.fits(single)
    thick = stack_of(np.full(5, 3.0), thickness=3.0)
    with pytest.raises(ValueError, match="does not fit"):
        degrade(Scan(voxels_hu=np.zeros(thick.shape, np.int16), stack=thick), level, "k")


@pytest.mark.parametrize("level", [0.0, -2.0, 0.1, 25.0, float("nan"), float("inf")])
def test_impossible_thicknesses_are_refused(level):
    with pytest.raises(ConfigError):
        ThickSlices(level=level)
