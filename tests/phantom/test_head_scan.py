import numpy as np
import pytest

from apatite.calcium.measure import volume_mm3
from apatite.core.rng import generator
from apatite.phantom.cohort import CohortConfig, draw_patient
from apatite.phantom.head import draw_head
from apatite.phantom.head_scan import Field, is_outside_circle, scan_head
from apatite.phantom.head_slices import SliceLayout, lay_head_slices
from apatite.phantom.head_truth import mni_to_ras
from apatite.phantom.protocol import Protocol
from apatite.phantom.scanner import make_pose

SHIFT = np.array([9.0, -14.0, 6.0])
QUIET = Protocol(pixel_mm=1.6, thickness_mm=3.0, spacing_mm=3.0, noise_hu=0.0, fwhm_mm=1.0)


@pytest.fixture(scope="module")
def head():
    config = CohortConfig(patients=9, seed=4)
    numbers = (n for n in range(40) if all(p.volume_mm3.sum() > 40 for p in draw_patient(config, n).calcium))
    return draw_head(config, next(numbers), step_mm=1.5, region_step_mm=0.8)


def scanned(head, protocol, name="supine", field=None, low=-30.0, high=40.0, size=(150, 144)):
    pose = make_pose(protocol, SHIFT)
    centre = pose.to_ras(head.to_head(np.array([[0.0, -14.0, 0.0]])))[0]
    layout = SliceLayout(name=name, rows=size[0], columns=size[1], low_mm=low, high_mm=high)
    stack = lay_head_slices(protocol, layout, centre, SHIFT)
    return scan_head(head, pose, protocol, stack, generator(0, "test"), field)


def value_at(made, mni_mm):
    k, r, c = np.rint(made.scan.stack.to_slice_row_column(made.truth.pose.to_ras(np.array(mni_mm)))).astype(int)
    return made.scan.voxels_hu[k, r, c]


@pytest.mark.parametrize(
    ("name", "tilt", "turn"),
    [
        ("supine", 0.0, (0, 0, 0)),
        ("supine", 18.0, (8.0, -5.0, 10.0)),
        ("prone", 0.0, (0, 0, 6.0)),
        ("feet_first", 9.0, (0, 4.0, 0)),
    ],
)
def test_landmarks_lie_where_the_pose_says(head, name, tilt, turn):
    protocol = Protocol(pixel_mm=1.6, thickness_mm=3.0, spacing_mm=3.0, noise_hu=0.0, tilt_deg=tilt, turn_deg=turn)
    low, high = (-60.0, 60.0)
    made = scanned(head, protocol, name, low=low, high=high)
    assert value_at(made, (77.0, -42.0, 24.0)) > 200 > value_at(made, (-77.0, -42.0, 24.0))
    assert value_at(made, (30.0, 40.0, -66.0)) < -700
    assert 15 < value_at(made, (30.0, 10.0, 15.0)) < 50
    assert value_at(made, (40.0, -27.0, -43.0)) > 500


def test_the_calcium_is_marked_on_its_own_side_and_where_the_truth_says(head):
    protocol = Protocol(
        pixel_mm=0.6, thickness_mm=1.0, spacing_mm=1.0, noise_hu=0.0, fwhm_mm=0.9, turn_deg=(3.0, -4.0, 12.0)
    )
    made = scanned(head, protocol, low=-20.0, high=20.0, size=(160, 176))
    truth, stack = made.truth, made.scan.stack
    for side, is_side in (("right", truth.is_right), ("left", truth.is_calcium & ~truth.is_right)):
        read = volume_mm3(is_side, stack)
        assert 0.8 * truth.calcium_mm3[side] < read < 4 * truth.calcium_mm3[side]
        index = np.argwhere(is_side).astype(float)
        points = np.stack([stack.to_ras(int(k), np.array([r, c])) for k, r, c in index])
        assert np.linalg.norm(points.mean(axis=0) - truth.centroid_ras_mm[side]) < 2.5
        x_mni = truth.pose.to_mni(np.array(truth.centroid_ras_mm[side]))[0]
        assert x_mni > 5 if side == "right" else x_mni < -5
    assert (made.scan.voxels_hu[truth.is_calcium] >= 130).all()
    assert sum(p["volume_mm3"] for p in truth.plaques) == pytest.approx(sum(truth.calcium_mm3.values()), rel=1e-6)


def test_the_region_goes_over_into_the_head_without_a_step(head):
    made = scanned(head, QUIET, low=-10.0, high=30.0)
    # Brain above the sella, from inside the region's grid to outside of it.
    line = [float(value_at(made, (x, 4.0, -3.0))) for x in np.arange(24, 50, 2.0)]
    assert np.abs(np.diff(line)).max() < 25


def test_the_circle_is_padding_and_the_headrest_lies_behind(head):
    made = scanned(head, QUIET, low=-5.0, high=10.0)
    outside = is_outside_circle(made.scan.stack)
    assert made.scan.is_padding is not None and np.array_equal(made.scan.is_padding[0], outside)
    assert (made.scan.voxels_hu[:, outside] == -1024).all() and outside[0, 0] and not outside[75, 72]
    bare = scanned(head, QUIET, field=Field(has_circle=False, has_headrest=False), low=-5.0, high=10.0)
    assert bare.scan.is_padding is None
    changed = np.argwhere((made.scan.voxels_hu != bare.scan.voxels_hu)[1] & ~outside)
    assert len(changed) > 50 and changed[:, 0].min() > 75


def test_slices_that_miss_the_arteries_show_no_calcium(head):
    made = scanned(head, QUIET, low=60.0, high=75.0)
    assert not made.truth.is_calcium.any() and made.truth.calcium_mm3["right"] > 0


def test_the_true_map_from_mni_is_that_of_the_drawn_head(head):
    pose = make_pose(QUIET, SHIFT)
    points = np.array([[0.0, 4.0, -27.5], [30.0, -40.0, 50.0]])
    np.testing.assert_allclose(mni_to_ras(head, pose).to_ras(points), pose.to_ras(head.to_head(points)))


def test_noise_is_that_of_the_protocol(head):
    quiet, loud = (
        scanned(
            head, Protocol(pixel_mm=1.6, thickness_mm=3.0, spacing_mm=3.0, noise_hu=n), low=20.0, high=32.0
        ).scan.voxels_hu
        for n in (0.0, 8.0)
    )
    difference = (loud.astype(float) - quiet)[:, 60:90, 60:80]
    assert difference.std() == pytest.approx(8.0, rel=0.15)
