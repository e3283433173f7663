"""The head within a scan, and the points drawn from it: a table falls off, a neck is cut, a focus draws more."""

import numpy as np
import pytest

from apatite.core.volume import Volume, axis_aligned_grid
from apatite.ct.isotropic import Cubes
from apatite.ct.sampling import FOCUS_MM, Draw, draw_samples
from apatite.ct.subject import HEAD_MM, find_subject

GRID = axis_aligned_grid((60, 62, 66), (4.0, 4.0, 4.0), np.array([5.0, -7.0, 40.0]))


def points() -> np.ndarray:
    kji = np.stack(np.meshgrid(*(np.arange(float(n)) for n in GRID.shape), indexing="ij"), axis=-1)
    return GRID.to_ras(np.ascontiguousarray(kji[..., ::-1]))


X, Y, Z = np.moveaxis(points(), -1, 0)
BALL = ((X - 10) ** 2 + (Y - 5) ** 2 + (Z - 60) ** 2) ** 0.5
HEAD = np.where(BALL < 64, 30, np.where(BALL < 72, 900, -1000)).astype(np.float32)
TABLE = Y < -105


def cubes(voxels: np.ndarray, is_seen: np.ndarray | None = None) -> Cubes:
    seen = np.ones(GRID.shape, bool) if is_seen is None else is_seen
    return Cubes(volume=Volume(voxels=voxels.astype(np.float32), grid=GRID), is_seen=seen)


def test_the_head_is_found_and_the_table_is_not_it():
    subject = find_subject(cubes(np.where(TABLE, 200, HEAD)))
    np.testing.assert_allclose(subject.centre_ras_mm, [10, 5, 60], atol=1)
    assert not (subject.is_tissue & TABLE).any()
    assert subject.tissue_litres == pytest.approx(4 / 3 * np.pi * 72**3 * 1e-6, rel=0.05)
    assert subject.bone_litres == pytest.approx(4 / 3 * np.pi * (72**3 - 64**3) * 1e-6, rel=0.1)
    assert subject.is_enough


def test_of_a_longer_scan_the_upper_part_is_the_head():
    body = np.where(np.hypot(X - 10, Y - 5) < 60, 30, -1000)
    subject = find_subject(cubes(body))
    heights = Z[subject.is_tissue]
    assert heights.max() - heights.min() == pytest.approx(HEAD_MM, abs=6)
    assert heights.max() == Z.max()


@pytest.mark.parametrize(
    "voxels", [np.full(GRID.shape, -1000.0), np.where(BALL < 20, 900.0, -1000), np.where(BALL < 70, 30.0, -1000)]
)
def test_air_a_pebble_and_a_ball_of_water_are_not_enough(voxels):
    assert not find_subject(cubes(voxels)).is_enough


def test_points_are_the_heads_and_a_rim_of_air_and_the_table_is_air():
    scan = cubes(np.where((Y < -75) & (Y > -90), 200, HEAD))
    samples = draw_samples(scan, find_subject(scan), Draw(number=20_000, seed=0, name="all"))
    at = samples.points_mm + samples.pivot_mm
    away = np.linalg.norm(at - [10, 5, 60], axis=1)
    assert away.max() < 72 + 40
    assert samples.values[(away > 80)].max() == 0
    assert samples.values[(away < 60)].min() == pytest.approx(230 / 1200, abs=1e-3)


def test_only_what_was_seen_is_drawn():
    scan = cubes(HEAD, X > 10)
    samples = draw_samples(scan, find_subject(scan), Draw(number=5000, seed=0, name="half"))
    assert (samples.points_mm[:, 0] + samples.pivot_mm[0] > 10).all()


def test_a_draw_has_about_as_many_points_as_asked_and_is_named():
    scan = cubes(HEAD)
    subject = find_subject(scan)
    first, again, other = (draw_samples(scan, subject, Draw(number=2000, seed=s, name="a")) for s in (0, 0, 1))
    np.testing.assert_array_equal(first.points_mm, again.points_mm)
    assert len(first.values) == pytest.approx(2000, rel=0.1)
    assert not np.array_equal(first.points_mm[:50], other.points_mm[:50])


def test_a_focus_draws_more_near_it_and_a_hair_does_not_change_the_draw():
    scan = cubes(HEAD)
    subject, focus = find_subject(scan), np.array([10.0, 10.0, 10.0])
    near, same = (
        draw_samples(scan, subject, Draw(number=3000, seed=0, name="f", focus_ras_mm=focus + hair))
        for hair in (0, 1e-9)
    )
    np.testing.assert_array_equal(near.points_mm, same.points_mm)
    away = np.linalg.norm(near.points_mm + near.pivot_mm - focus, axis=1)
    everywhere = draw_samples(scan, subject, Draw(number=3000, seed=0, name="f"))
    assert (
        np.median(away)
        < 1.5 * FOCUS_MM
        < np.median(np.linalg.norm(everywhere.points_mm + everywhere.pivot_mm - focus, axis=1)) * 1.1
    )
