"""Half-filled pixels count as half; other bright structures do not count."""

from dataclasses import replace

import numpy as np
import pytest

from apatite.calcium.measure import volume_mm3
from apatite.calcium.partial import calcium_fraction
from apatite.core.scan import Scan


def scan_with(stack, lesion_hu=440.0):
    """40 HU, and a block of 3 slices, 8 rows, 10 columns; a rim of one pixel is filled to a quarter."""
    voxels_hu = np.full(stack.shape, 40.0)
    voxels_hu[2:5, 19:29, 24:36] = 40 + (lesion_hu - 40) / 4
    voxels_hu[2:5, 20:28, 25:35] = lesion_hu
    return Scan(voxels_hu=voxels_hu, stack=stack)


@pytest.fixture
def stack(make_stack):
    return make_stack([0, 2, 4, 6, 8, 10, 12], 2.0, pixels=(50, 60))


def test_a_rim_filled_to_a_quarter_counts_as_a_quarter(stack):
    scan = scan_with(stack)
    is_calcium = scan.voxels_hu >= 130
    found = calcium_fraction(scan, is_calcium)
    assert (is_calcium.sum(), found.num_without_background) == (3 * 12 * 10, 0)
    assert found.fraction[3, 22, 30] == 1
    assert found.fraction[3, 19, 30] == pytest.approx(0.25)
    assert volume_mm3(found.fraction, stack) == pytest.approx(0.4 * 3 * (80 + (120 - 80) / 4))
    # 340 HU: the rim has 115 HU, below the threshold; the plain volume loses it, this one does not.
    faint = scan_with(stack, 340.0)
    found = calcium_fraction(faint, faint.voxels_hu >= 130)
    assert volume_mm3(found.fraction, stack) == pytest.approx(0.4 * 3 * (80 + (120 - 80) / 4))
    assert volume_mm3(faint.voxels_hu >= 130, stack) == pytest.approx(0.4 * 3 * 80)


def test_a_half_filled_slice_above_counts_as_half(stack):
    scan = scan_with(stack)
    scan.voxels_hu[5, 20:28, 25:35] = 240
    bright = scan.voxels_hu >= 130
    assert calcium_fraction(scan, bright).fraction[5, 24, 30] == pytest.approx(0.5)
    # Too faint for the threshold: found all the same, since the lesion goes on below it.
    scan.voxels_hu[5, 20:28, 25:35] = 120
    found = calcium_fraction(scan, scan.voxels_hu >= 130)
    assert found.fraction[5, 24, 30] == pytest.approx(0.2)
    assert found.fraction[6].max() == 0


def test_bone_beside_a_lesion_is_not_its_rim(stack):
    scan = scan_with(stack)
    scan.voxels_hu[:, :, 36:] = 1200
    is_calcium = scan.voxels_hu >= 130
    is_calcium[:, :, 36:] = False
    found = calcium_fraction(scan, is_calcium)
    assert found.fraction[:, :, 36:].max() == 0
    assert volume_mm3(found.fraction, stack) == pytest.approx(0.4 * 3 * (80 + (120 - 80) / 4))


def test_air_beside_a_lesion_is_not_its_background(stack):
    scan = scan_with(stack)
    scan.voxels_hu[:, :, 38:] = -1000
    assert volume_mm3(calcium_fraction(scan, scan.voxels_hu >= 130).fraction, stack) == pytest.approx(0.4 * 3 * 90)


def test_without_tissue_around_it_a_lesion_counts_in_full(stack):
    scan = Scan(voxels_hu=np.full(stack.shape, 900.0), stack=stack)
    is_calcium = np.zeros(stack.shape, bool)
    is_calcium[2:4, 20:25, 20:25] = True
    found = calcium_fraction(scan, is_calcium)
    assert found.num_without_background == 1
    assert np.array_equal(found.fraction, is_calcium)


def test_padding_is_neither_rim_nor_background(stack):
    scan = scan_with(stack)
    scan.voxels_hu[:, :19] = 60
    is_padding = np.zeros(stack.shape, bool)
    is_padding[:, :19] = True
    scan = Scan(voxels_hu=scan.voxels_hu, stack=stack, is_padding=is_padding)
    assert volume_mm3(calcium_fraction(scan, scan.voxels_hu >= 130).fraction, stack) == pytest.approx(0.4 * 3 * 90)


@pytest.mark.parametrize("tilt_deg", [-25.0, 25.0])
def test_the_next_slice_is_looked_at_straight_along_the_normal(make_stack, tilt_deg):
    # 6 mm along the table move the next slice by 2.5 mm, six rows: below the lesion is not the same row.
    stack = make_stack([0, 6, 12, 18], 5.0, pixels=(50, 60), tilt_deg=tilt_deg)
    moved = round(6 * np.sin(np.deg2rad(tilt_deg)) / 0.4)
    scan = Scan(voxels_hu=np.full(stack.shape, 40.0), stack=stack)
    scan.voxels_hu[1, 22:27, 25:33] = 440
    scan.voxels_hu[2, 22 - moved : 27 - moved, 25:33] = 120
    found = calcium_fraction(scan, scan.voxels_hu >= 130)
    assert found.fraction[2, 24 - moved, 30] == pytest.approx(0.2)
    assert volume_mm3(found.fraction[1:3], make_stack([6, 12], 5.0, pixels=(50, 60), tilt_deg=tilt_deg)) > 0
    assert np.count_nonzero(found.fraction) == 2 * 5 * 8


def test_two_lesions_share_a_rim_without_counting_it_twice(stack):
    scan = Scan(voxels_hu=np.full(stack.shape, 40.0), stack=stack)
    scan.voxels_hu[3, 20:28, 20:25] = 440
    scan.voxels_hu[3, 20:28, 25] = 120
    scan.voxels_hu[3, 20:28, 26:31] = 840
    found = calcium_fraction(scan, scan.voxels_hu >= 130)
    # 80 of 400 above the background for the one, 80 of 800 for the other: the larger share counts, once.
    assert found.fraction[3, 24, 25] == pytest.approx(0.2)
    assert volume_mm3(found.fraction, stack) == pytest.approx(0.4 * 8 * (10 + 0.2))


def test_noise_around_a_lesion_is_not_its_rim(stack):
    rng = np.random.default_rng(0)
    scan = scan_with(stack)
    scan.voxels_hu[2:5, 19:29, 24:36] = 40
    scan.voxels_hu[2:5, 20:28, 25:35] = 440
    noisy = Scan(voxels_hu=scan.voxels_hu + rng.normal(0, 15, stack.shape), stack=stack)
    made = volume_mm3(calcium_fraction(noisy, scan.voxels_hu >= 130).fraction, stack)
    # The 95th percentile of 440 HU with noise of 15 is 465 HU, so all pixels count 6 % less. What noise in the rim adds
    # is not seen beside that.
    assert made == pytest.approx(0.4 * 3 * 80 * 400 / 425, rel=0.03)
    quiet = replace(noisy, voxels_hu=np.where(scan.voxels_hu >= 130, 440.0, noisy.voxels_hu))
    found = calcium_fraction(quiet, scan.voxels_hu >= 130).fraction
    assert volume_mm3(found, stack) == pytest.approx(0.4 * 3 * 80, rel=0.02)
