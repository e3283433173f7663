import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apatite.calcium.measure import volume_mm3
from apatite.core.errors import ConfigError, DataError
from apatite.core.scan import Scan, SliceStack
from apatite.phantom.fault_phantom import fault_stack
from apatite.phantom.implant import Lesion, implant, lesion_share
from apatite.phantom.shapes import rotation


def _stack(steps_mm, thickness_mm, tilt_deg=0.0, pixel_mm=(0.45, 0.5), shape=(70, 64)):
    """Slices at uneven steps along the normal, round the origin; more columns than rows would hide a swap."""
    even = fault_stack(shape=(2, *shape), spacing_mm=pixel_mm, step_mm=1.0, tilt_deg=tilt_deg)
    along = np.concatenate([[0.0], np.cumsum(steps_mm)])
    along -= along.mean()
    way = (even.origins_ras_mm[1] - even.origins_ras_mm[0]) / 1.0
    return SliceStack(
        shape=(len(along), *shape),
        origins_ras_mm=even.origins_ras_mm.mean(axis=0) + along[:, None] * way,
        column_step_ras_mm=even.column_step_ras_mm,
        row_step_ras_mm=even.row_step_ras_mm,
        thickness_mm=np.broadcast_to(np.asarray(thickness_mm, dtype=float), (len(along),)).copy(),
    )


def _slab_mm3(lesion, stack, index):
    """Volume of an ellipsoid between two planes, from its support along the normal: V (3u - u³) / 4 at both ends."""
    own = rotation(lesion.turn_deg) @ stack.normal_ras
    half = math.sqrt(sum((r * c) ** 2 for r, c in zip(lesion.radii_mm, own, strict=True)))
    along = stack.positions_mm[index] - float(np.array(lesion.centre_ras_mm) @ stack.normal_ras)
    ends = np.clip((along + np.array([-0.5, 0.5]) * stack.thickness_mm[index]) / half, -1, 1)
    return lesion.volume_mm3 * float(np.diff((3 * ends - ends**3) / 4)[0])


def _noisy(stack, hu=40.0, sd=5.0, seed=0):
    voxels = np.rint(np.random.default_rng(seed).normal(hu, sd, stack.shape)).astype(np.int16)
    return Scan(voxels_hu=voxels, stack=stack)


lesions = st.builds(
    Lesion,
    centre_ras_mm=st.tuples(*[st.floats(-3, 3)] * 3),
    radii_mm=st.tuples(st.floats(0.9, 4), st.floats(0.9, 4), st.floats(0.9, 4)),
    added_hu=st.just(500.0),
    turn_deg=st.tuples(*[st.floats(-90, 90)] * 3),
)


@settings(max_examples=20, deadline=None)
@given(
    lesion=lesions,
    tilt=st.floats(-25, 25),
    steps=st.lists(st.floats(0.6, 7), min_size=4, max_size=6),
    thickness=st.floats(0.5, 8),
    fwhm=st.floats(0.6, 1.6),
)
def test_every_slice_holds_what_lies_in_its_slab(lesion, tilt, steps, thickness, fwhm):
    stack = _stack(steps, thickness, tilt)
    box, share = lesion_share(stack, lesion, fwhm)
    held = np.zeros(stack.shape[0])
    held[box[0]] = share.sum(axis=(1, 2)) * stack.pixel_mm2 * thickness
    expected = [_slab_mm3(lesion, stack, k) for k in range(stack.shape[0])]
    np.testing.assert_allclose(held, expected, atol=0.01 * lesion.volume_mm3)
    assert share.size == 0 or (share.min() >= 0 and share.max() <= 1 + 1e-9)


@pytest.mark.parametrize("tilt", [0.0, 18.5])
@pytest.mark.parametrize(("step", "radii"), [(0.8, (1.5, 1.2, 2.0)), (4.0, (2.3, 1.8, 3.5)), (5.0, (3.0, 3.0, 4.0))])
def test_the_added_total_is_volume_times_added_hu(step, radii, tilt):
    stack = _stack([step] * 20, step, tilt)
    lesion = Lesion(centre_ras_mm=(2.2, -1.4, 0.7), radii_mm=radii, added_hu=660.0, turn_deg=(20, -35, 50))
    before = _noisy(stack)
    after = implant(before, [lesion], fwhm_mm=1.0)
    added = (after.scan.voxels_hu.astype(float) - before.voxels_hu).sum() * stack.pixel_mm2 * step
    assert added == pytest.approx(lesion.volume_mm3 * 660.0, rel=0.01)
    assert after.lesions[0].background_hu == pytest.approx(40, abs=3)
    assert after.volume_mm3 == pytest.approx(4 / 3 * math.pi * math.prod(radii))


def test_it_lies_where_it_was_put():
    stack = _stack([4.0] * 6 + [1.08] + [7.0] * 5, [4.0] * 7 + [7.0] * 6, 18.5)
    place = np.array([5.0, -6.5, -8.0])
    lesion = Lesion(centre_ras_mm=tuple(place.tolist()), radii_mm=(3.0, 3.0, 3.0), added_hu=500.0)
    box, share = lesion_share(stack, lesion, 1.0)
    rows, columns = np.meshgrid(*(np.arange(b.start, b.stop, dtype=float) for b in box[1:]), indexing="ij")
    points = np.stack([stack.to_ras(k, np.stack([rows, columns], -1)) for k in range(box[0].start, box[0].stop)])
    weight = share * stack.thickness_mm[box[0], None, None]
    found = (points * weight[..., None]).reshape(-1, 3).sum(axis=0) / weight.sum()
    # In the plane exactly; along the normal to within the thickness that was averaged over.
    off = found - place
    in_plane = off - (off @ stack.normal_ras) * stack.normal_ras
    assert np.linalg.norm(in_plane) < 0.05
    assert abs(off @ stack.normal_ras) < 2.0


def test_noise_stays_and_nothing_else_changes():
    stack = _stack([2.0] * 10, 2.0)
    before = _noisy(stack, sd=6.0)
    lesion = Lesion(centre_ras_mm=(0.0, 0.0, 0.0), radii_mm=(6.0, 6.0, 6.0), added_hu=400.0)
    after = implant(before, [lesion], fwhm_mm=1.0)
    truth = after.lesions[0]
    inside = truth.share > 0.999
    assert inside.sum() > 500
    new, old = after.scan.voxels_hu[truth.box][inside].astype(float), before.voxels_hu[truth.box][inside].astype(float)
    assert new.std() == pytest.approx(old.std(), rel=0.03)
    assert new.mean() == pytest.approx(truth.lesion_hu, abs=1.0)
    untouched = np.ones(stack.shape, dtype=bool)
    untouched[truth.box] = False
    assert np.array_equal(after.scan.voxels_hu[untouched], before.voxels_hu[untouched])
    assert after.scan.voxels_hu.dtype == np.int16


def test_calcium_replaces_bone_and_air_instead_of_adding_to_them():
    stack = _stack([1.0] * 20, 1.0)
    voxels = np.full(stack.shape, 40, dtype=np.int16)
    voxels[:, :, :20], voxels[:, :20, :] = 1500, -1000
    lesion = Lesion(centre_ras_mm=(4.0, 5.0, 0.0), radii_mm=(9.0, 9.0, 6.0), added_hu=500.0)
    after = implant(Scan(voxels_hu=voxels, stack=stack), [lesion], fwhm_mm=0.8)
    truth = after.lesions[0]
    inside = truth.share > 0.999
    assert truth.background_hu == 40
    # What noise could explain is kept, so bone and air end within `noise_hu` of the lesion (and a rest of 0.1 %).
    assert np.abs(after.scan.voxels_hu[truth.box][inside] - 540.0).max() <= 27
    assert len(np.unique(voxels[truth.box][inside])) == 3


def test_padding_is_left_alone():
    stack = _stack([2.0] * 6, 2.0)
    is_padding = np.zeros(stack.shape, dtype=bool)
    is_padding[:, :, 30:34] = True
    voxels = np.where(is_padding, -1024, 40).astype(np.int16)
    lesion = Lesion(centre_ras_mm=(0.0, 0.0, 0.0), radii_mm=(4.0, 4.0, 4.0), added_hu=400.0)
    after = implant(Scan(voxels_hu=voxels, stack=stack, is_padding=is_padding), [lesion], fwhm_mm=1.0)
    assert (after.scan.voxels_hu[is_padding] == -1024).all()


@pytest.mark.parametrize(("thickness", "added", "ratio", "within"), [(1.0, 260, 1.12, 0.06), (5.0, 660, 2.35, 0.35)])
def test_the_rule_of_130_hu_reads_what_an_independent_simulation_read(thickness, added, ratio, within):
    """20 mm³, twice as long along z, through a point spread of 1 mm: the figures of `phantom.checks`."""
    stack = _stack([thickness] * (12 if thickness > 2 else 30), thickness, pixel_mm=(0.45, 0.45))
    short = (20 / (4 / 3 * math.pi * 2)) ** (1 / 3)
    ratios = []
    for offset in np.random.default_rng(3).uniform(-2.5, 2.5, (8, 3)):
        lesion = Lesion(centre_ras_mm=tuple(offset.tolist()), radii_mm=(short, short, 2 * short), added_hu=float(added))
        after = implant(_noisy(stack), [lesion], fwhm_mm=1.0)
        ratios.append(volume_mm3(after.scan.voxels_hu >= 130, stack) / 20)
    assert np.mean(ratios) == pytest.approx(ratio, abs=within)


def test_what_cannot_be_implanted_is_refused():
    scan = _noisy(_stack([2.0] * 6, 2.0))
    far = Lesion(centre_ras_mm=(0.0, 0.0, 90.0), radii_mm=(1.0, 1.0, 1.0), added_hu=400.0)
    beside = Lesion(centre_ras_mm=(90.0, 0.0, 0.0), radii_mm=(1.0, 1.0, 1.0), added_hu=400.0)
    for lesion in (far, beside):
        with pytest.raises(DataError, match="lesion 1 lies outside"):
            implant(scan, [lesion], fwhm_mm=1.0)
    with pytest.raises(ConfigError, match="no lesion"):
        Lesion(centre_ras_mm=(0.0, 0.0, 0.0), radii_mm=(1.0, 0.0, 1.0), added_hu=400.0)
    with pytest.raises(ConfigError, match="impossible"):
        implant(scan, [], fwhm_mm=0.0)
