import math
from dataclasses import replace

import numpy as np
import pytest

from apatite.calcium.measure import slice_weights_mm
from apatite.phantom.checks import check_volume_ratios, ellipsoid_volume
from apatite.phantom.density import Tissue
from apatite.phantom.protocol import VENDORS, Protocol, draw_protocol
from apatite.phantom.scanner import HALF_REGION_MM, acquire, lay_slices, make_pose

QUIET = Protocol(noise_hu=0.0, pixel_mm=0.5, thickness_mm=2.0, spacing_mm=2.0)
ORIGIN = np.zeros(3)


def _tissue(paint, step_mm=0.7):
    """A tissue of 40 HU whose other values `paint(x, y, z, values)` sets."""
    shape = (88, 92, 96)
    values = np.zeros((*shape, 4), dtype=np.float32)
    values[..., 0] = 40.0
    z, y, x = np.meshgrid(*[(np.arange(n) - (n - 1) / 2) * step_mm for n in shape], indexing="ij")
    paint(x, y, z, values)
    return Tissue(values=values, step_mm=step_mm)


def _scan(tissue, protocol, centre=ORIGIN, shift=ORIGIN, seed=0):
    rng = np.random.default_rng(seed)
    return acquire(tissue, make_pose(protocol, shift), protocol, lay_slices(protocol, centre, 0.3), rng)


def _nothing(x, y, z, values):
    del x, y, z, values


@pytest.mark.parametrize("overshoot", [0.0, 0.5])
def test_thickness_and_point_spread_keep_the_total(overshoot):
    def ball(x, y, z, values):
        values[..., 1] = np.where(x**2 + y**2 + (z - 1) ** 2 < 16, 700.0, 0.0)

    tissue = _tissue(ball)
    protocol = replace(QUIET, overshoot=overshoot, turn_deg=(7.0, -4.0, 9.0))
    seen = _scan(tissue, protocol)
    stack = seen.scan.stack
    total = float((seen.excess_hu.sum(axis=(1, 2), dtype=np.float64) * slice_weights_mm(stack)).sum()) * stack.pixel_mm2
    assert total == pytest.approx(float(tissue.values[..., 1].sum()) * tissue.step_mm**3, rel=0.01)


def test_a_thin_plate_is_seen_through_the_slice_profile():
    def plate(x, y, z, values):
        del x, y
        values[..., 0] = np.where(np.abs(z) < 0.7, 1040.0, 40.0)

    seen = _scan(_tissue(plate), replace(QUIET, thickness_mm=5.0, spacing_mm=1.0))
    middle = seen.scan.voxels_hu[:, 40, 40] - 40.0
    # Half width of a box of 5 mm; its height is the plate's share of the slice (1.4 mm of 5 mm).
    assert (middle > middle.max() / 2).sum() == 5
    assert middle.max() == pytest.approx(1000 * 1.4 / 5, rel=0.12)


def test_the_point_spread_has_the_stated_width():
    def edge(x, y, z, values):
        del y, z
        values[..., 0] = np.where(x > 0.0, 1040.0, 40.0)

    for fwhm in (0.9, 1.2):
        seen = _scan(_tissue(edge, step_mm=0.4), replace(QUIET, fwhm_mm=fwhm, pixel_mm=0.2))
        rise = np.abs(np.diff(seen.scan.voxels_hu[8].mean(axis=0)))
        place = np.arange(len(rise)) * 0.2
        centre = (rise * place).sum() / rise.sum()
        sigma = math.sqrt((rise * (place - centre) ** 2).sum() / rise.sum())
        assert sigma * 2.3548 == pytest.approx(fwhm, rel=0.1)


@pytest.mark.parametrize(("kernel", "noise", "spacing"), [("soft", 5.0, 2.0), ("soft", 12.0, 1.0), ("bone", 30.0, 2.0)])
def test_noise_has_the_stated_sd(kernel, noise, spacing):
    protocol = replace(QUIET, kernel_class=kernel, noise_hu=noise, spacing_mm=spacing)
    voxels = _scan(_tissue(_nothing), protocol).scan.voxels_hu.astype(float)
    assert voxels.mean() == pytest.approx(40, abs=0.5)
    # Noise grows by up to 30 % between the petrous bones.
    assert noise * 0.95 < voxels.std() < noise * 1.2
    shared = np.corrcoef(voxels[8].ravel(), voxels[9].ravel())[0, 1]
    assert shared > 0.3 if spacing < 2 else abs(shared) < 0.1


def test_a_tilted_gantry_shears_the_stack_and_still_shows_things_where_they_are():
    spot = np.array([6.0, -5.0, 7.0])

    def ball(x, y, z, values):
        values[..., 1] = np.where((x - spot[0]) ** 2 + (y - spot[1]) ** 2 + (z - spot[2]) ** 2 < 9, 800.0, 0.0)

    tissue = _tissue(ball)
    shift = np.array([11.0, -7.0, 3.0])
    for tilt in (-4.0, 0.0, 18.5):
        protocol = replace(QUIET, tilt_deg=tilt)
        seen = _scan(tissue, protocol, centre=shift, shift=shift)
        stack = seen.scan.stack
        step = np.diff(stack.origins_ras_mm, axis=0)[0]
        np.testing.assert_allclose(step, [0, 0, 2.0 / math.cos(math.radians(tilt))], atol=1e-9)
        np.testing.assert_allclose(np.diff(stack.positions_mm), 2.0)
        weight = np.maximum(seen.excess_hu, 0).astype(float)
        k, r, c = (
            np.tensordot(weight, np.arange(n), axes=([axis], [0])).sum() / weight.sum()
            for axis, n in enumerate(weight.shape)
        )
        found = stack.origins_ras_mm[0] + k * step + r * stack.row_step_ras_mm + c * stack.column_step_ras_mm
        np.testing.assert_allclose(found, spot + shift, atol=0.15)
        # Columns run to the left: the spot on the right lies in the first half of the columns.
        assert c < stack.shape[2] / 2


@pytest.mark.parametrize("tilt", [0.0, 20.0])
def test_the_slices_hold_the_whole_region(tilt):
    centre = np.array([3.0, -20.0, 50.0])
    stack = lay_slices(replace(QUIET, tilt_deg=tilt), centre, 0.9)
    corners = centre + np.array([[a, b, c] for a in (-1, 1) for b in (-1, 1) for c in (-1, 1)]) * HALF_REGION_MM
    index = stack.to_slice_row_column(corners)
    assert np.all(index > 0) and np.all(index < np.array(stack.shape) - 1)


def test_two_blocks_touch_and_change_thickness_where_they_should():
    protocol = replace(QUIET, thickness_mm=4.0, spacing_mm=4.0, vault_mm=7.0, vault_from_mm=6.0)
    stack = lay_slices(protocol, ORIGIN, 0.5)
    thick = stack.thickness_mm == 7.0
    assert thick.any() and not thick.all() and np.all(np.diff(thick.astype(int)) >= 0)
    edges = stack.positions_mm + stack.thickness_mm / 2, stack.positions_mm - stack.thickness_mm / 2
    np.testing.assert_allclose(edges[0][:-1], edges[1][1:], atol=1e-9)
    assert stack.positions_mm[~thick].max() < 6.0


def test_motion_moves_some_slices_only():
    def half(x, y, z, values):
        del y, z
        values[..., 0] = np.where(x > 0, 1040.0, 40.0)

    still, moved = (_scan(_tissue(half), replace(QUIET, shift_mm=shift), seed=4).scan.voxels_hu for shift in (0.0, 2.0))
    is_same = np.array([np.abs(a.astype(int) - b).max() < 3 for a, b in zip(still, moved, strict=True)])
    assert is_same.any() and not is_same.all()


def test_volume_by_thickness_is_that_of_an_independent_simulation():
    for row in check_volume_ratios(seed=1, offsets=2):
        if row["mm3"] < 20:
            continue
        np.testing.assert_allclose(row["ratio"][:3], row["expected"][:3], rtol=0.2)


def test_faint_small_lesions_vanish_in_thick_slices():
    thick = replace(QUIET, thickness_mm=10.0, spacing_mm=10.0, noise_hu=5.0)
    assert ellipsoid_volume(5, 300, thick, np.random.default_rng(0)) == 0


def test_protocols_are_as_mixed_as_a_trial():
    rng = np.random.default_rng(0)
    drawn = [draw_protocol(rng, list(VENDORS)[n % len(VENDORS)], 1.0) for n in range(1500)]
    thickness = np.array([p.thickness_mm for p in drawn])
    for low, high, share in ((0, 1.5, 0.30), (1.5, 3.5, 0.15), (3.5, 5.5, 0.40), (5.5, 11, 0.15)):
        assert np.mean((thickness > low) & (thickness <= high)) == pytest.approx(share, abs=0.06)
    assert np.mean([p.vault_mm > 0 for p in drawn]) == pytest.approx(0.09, abs=0.04)
    assert np.mean([p.shift_mm > 0 for p in drawn]) == pytest.approx(0.03, abs=0.015)
    assert {p.kernel_class for p in drawn} == {"soft", "bone"}
    assert all(0.4 <= p.pixel_mm <= 0.55 and -4 <= p.tilt_deg <= 20 for p in drawn)
