import numpy as np
import pytest

from apatite.core.errors import ConfigError
from apatite.ct.boxes import BOXES
from apatite.phantom.cohort import CohortConfig, draw_patient
from apatite.phantom.head import ORIGIN_MNI_MM, draw_head, painted, procedural_template
from apatite.phantom.head_shapes import Canvas, head_canvas


def at(volume, *points_mm):
    """HU at the voxels nearest to points."""
    i, j, k = np.rint(volume.grid.to_ijk(np.array(points_mm, dtype=float))).astype(int).T
    return volume.voxels[k, j, i]


@pytest.fixture(scope="module")
def template():
    return procedural_template()


@pytest.fixture(scope="module")
def head():
    return draw_head(CohortConfig(patients=3, seed=4), 1, step_mm=1.5, region_step_mm=1.2)


def test_the_template_lies_on_the_mni_grid(template):
    assert template.voxels.shape == (91, 109, 91)
    np.testing.assert_allclose(template.grid.ijk_to_ras[:3, 3], [-90, -126, -72])
    np.testing.assert_allclose(template.grid.spacing_mm, 2.0)
    assert np.isfinite(template.voxels).all() and template.voxels.min() == -1000 and template.voxels.max() < 2000


def test_the_average_head_is_symmetric_and_the_same_every_time(template):
    # The septum of the nose is the one thing that is not.
    assert np.mean(np.abs(template.voxels - template.voxels[:, :, ::-1]) > 1) < 0.002
    assert np.array_equal(procedural_template().voxels, template.voxels)


@pytest.mark.parametrize("side", [1, -1])
def test_bone_and_air_lie_where_anatomy_has_them(template, side):
    bone = [(side * 73, -30, 0), (0, -110, 0), (0, -17, 88), (side * 40, -27, -43), (side * 69, 4, -56), (0, -97, -36)]
    air = [(side * 8, 8, -45), (side * 11, 76, -18), (side * 30, 40, -68), (side * 70, -28, -52), (side * 88, 40, 60)]
    soft = [(side * 40, -4, -32), (side * 30, 30, 20), (side * 30, -60, -40), (side * 32, 63, -38), (0, -48, -66)]
    assert (at(template, *bone) > 400).all()
    assert (at(template, *air) < -500).all()
    values = at(template, *soft)
    assert ((values > -30) & (values < 70)).all()


def test_the_sphenoid_sinus_is_as_airy_as_registration_checks_expect(template):
    depth, height, width = template.voxels.shape
    k, j, i = np.indices((depth, height, width))
    points = template.grid.to_ras(np.stack([i, j, k], axis=-1).astype(float))
    near = np.linalg.norm(points - np.array([0.0, 12.0, -42.0]), axis=-1) < 10
    assert (template.voxels[near] < -400).mean() > 0.2


def test_the_step_does_not_move_anything(template):
    fine = procedural_template(1.0)
    difference = np.abs(fine.voxels[::2, ::2, ::2] - template.voxels)
    assert np.median(difference) == 0 and np.mean(difference > 300) < 0.06


def test_heads_differ_but_only_by_seed_and_number(head):
    config = CohortConfig(patients=3, seed=4)
    again = draw_head(config, 1, step_mm=1.5, region_step_mm=1.2)
    assert np.array_equal(again.coarse_hu.voxels, head.coarse_hu.voxels)
    assert np.array_equal(again.tissue.values, head.tissue.values)
    other = draw_head(config, 2, step_mm=1.5, region_step_mm=1.2)
    assert not np.allclose(other.scale, head.scale)
    assert draw_patient(config, 1).analytic_mm3 == head.patient.analytic_mm3


def test_a_head_is_of_real_size_and_its_right_side_is_marked(head):
    assert (head.scale > 0.8).all() and (head.scale < 1.0).all()
    np.testing.assert_allclose(ORIGIN_MNI_MM, BOXES["ica"].centre_mni_mm)
    np.testing.assert_allclose(head.to_head(ORIGIN_MNI_MM), 0)
    right, left = (head.to_head(np.array([x, -42.0, 24.0])) for x in (77.0, -77.0))
    assert at(head.coarse_hu, right)[0] == 300 and at(head.coarse_hu, left)[0] < 300
    width = head.to_head(np.array([[-76.0, 0, 0], [76.0, 0, 0]]))
    assert 120 < width[1, 0] - width[0, 0] < 160


def test_a_sphere_is_painted_with_its_volume_and_cut_where_asked():
    canvas = Canvas()
    canvas.ellipsoid(100.0, (3.0, -2.0, 10.0), (12.0, 15.0, 9.0))
    canvas.ellipsoid(200.0, (3.0, -2.0, 10.0), (12.0, 15.0, 9.0), (np.inf, 10.0, -2.0))
    corners = (np.array([-20.0, -25.0, -5.0]), np.array([25.0, 20.0, 30.0]))
    volume = painted(canvas, 0.5, np.array([0.9, 1.0, 1.1]), corners)
    share = (volume.voxels + 1000) / 1100
    whole = 4 / 3 * np.pi * 12 * 15 * 9 * 0.9 * 1.0 * 1.1
    assert np.minimum(share, 1).sum() * 0.125 == pytest.approx(whole, rel=0.01)
    assert (volume.voxels >= 149.9).sum() * 0.125 == pytest.approx(whole / 4, rel=0.06)
    upper, lower, front = (volume.grid.to_ijk((np.array(p) - ORIGIN_MNI_MM) * [0.9, 1.0, 1.1]) for p in
                           ((3.0, -8.0, 14.0), (3.0, -8.0, 6.0), (3.0, 4.0, 14.0)))  # fmt: skip
    values = [volume.voxels[tuple(np.rint(p[::-1]).astype(int))] for p in (upper, lower, front)]
    assert values == [200, 100, 100]


def test_a_variant_never_shows_in_the_average_head():
    assert len(head_canvas(None).cuts) <= len(head_canvas(np.random.default_rng(0)).cuts)


def test_a_step_that_shows_nothing_is_refused():
    with pytest.raises(ConfigError, match="cannot show a head"):
        procedural_template(20.0)
