"""Figures of trust, each on a head made by hand on the judged grid."""

import numpy as np
import pytest

from apatite.core.scan import PADDING_HU
from apatite.core.volume import Grid, Volume, axis_aligned_grid
from apatite.ct.boxes import BOXES
from apatite.ct.confidence import (
    JUDGED,
    Registered,
    bone_overlap,
    box_seen_share,
    cover_of,
    mirror_symmetry,
    on_judged,
    register,
    sinus_air_share,
)
from apatite.ct.isotropic import Cubes
from apatite.ct.pose import HeadPose


def points(grid: Grid) -> np.ndarray:
    kji = np.stack(np.meshgrid(*(np.arange(float(n)) for n in grid.shape), indexing="ij"), axis=-1)
    return grid.to_ras(np.ascontiguousarray(kji[..., ::-1]))


X, Y, Z = np.moveaxis(points(JUDGED), -1, 0)


def ball(x: float, y: float, z: float, radius_mm: float) -> np.ndarray:
    return (X - x) ** 2 + (Y - y) ** 2 + (Z - z) ** 2 <= radius_mm**2


def head(shift_mm: float = 0.0) -> np.ndarray:
    """A skull, its middle `shift_mm` off, with brain inside."""
    inside, outer = ball(shift_mm, -18, 10, 60), ball(shift_mm, -18, 10, 70)
    return np.where(inside, 30, np.where(outer, 900, -1000)).astype(np.float32)


def seen(voxels: np.ndarray, is_seen: np.ndarray | None = None) -> Registered:
    return Registered(voxels_hu=voxels, is_seen=np.ones(JUDGED.shape, bool) if is_seen is None else is_seen)


def test_registering_reads_a_plane_where_the_pose_says():
    grid = axis_aligned_grid((70, 80, 75), (3.0, 3.0, 3.0), np.array([30.0, -40.0, 100.0]))
    at = points(grid)
    cubes = Cubes(
        volume=Volume(voxels=(at @ [1.0, -2.0, 0.5]).astype(np.float32), grid=grid), is_seen=np.ones(grid.shape, bool)
    )
    matrix = np.array([[0.9, 0.1, 0, 30], [-0.1, 0.95, 0.05, -40], [0, 0.02, 0.85, 100], [0, 0, 0, 1.0]])
    registered = register(cubes, HeadPose(mni_to_ras=matrix))
    expected = HeadPose(mni_to_ras=matrix).to_ras(points(JUDGED)) @ [1.0, -2.0, 0.5]
    inside = registered.is_seen & (registered.voxels_hu != PADDING_HU)
    assert inside.mean() > 0.9
    np.testing.assert_allclose(registered.voxels_hu[inside], expected[inside], atol=1e-2)


def test_a_template_on_another_grid_is_read_in_mni_mm():
    grid = Grid(
        shape=(60, 70, 65), ijk_to_ras=np.array([[-3.0, 0, 0, 95], [0, 3, 0, -120], [0, 0, 3, -70], [0, 0, 0, 1]])
    )
    read = on_judged(Volume(voxels=(points(grid)[..., 0]).astype(np.float32), grid=grid))
    inside = read != PADDING_HU
    np.testing.assert_allclose(read[inside], X[inside], atol=1e-3)


def test_bone_overlap_by_hand():
    first, second = np.where(X < 0, 900, 0).astype(np.float32), np.where(X < 20, 900, 0).astype(np.float32)
    ours, theirs = (X < 0).sum(), (X < 20).sum()
    assert bone_overlap(seen(first), second) == pytest.approx(2 * ours / (ours + theirs))
    assert bone_overlap(seen(first, X < 0), second) == 1
    assert bone_overlap(seen(np.zeros_like(first)), np.zeros_like(first)) == 0


def test_the_sinus_holds_air_or_is_not_in_view():
    voxels = np.where(ball(0, 12, -42, 10) & (X < 0), -1000, 40).astype(np.float32)
    share = np.mean((X < 0)[ball(0, 12, -42, 10)])
    assert sinus_air_share(seen(voxels)) == pytest.approx(share)
    assert sinus_air_share(seen(voxels, Z > -42)) == -1


@pytest.mark.parametrize("shift_mm", [0.0, 2.0, -4.0, 5.0])
def test_the_mirror_plane_is_found(shift_mm):
    correlation, offset_mm = mirror_symmetry(seen(head(shift_mm)))
    assert offset_mm == pytest.approx(shift_mm, abs=0.4)
    assert (correlation > 0.999) == (shift_mm == 0)


def test_cover_by_hand():
    """Half of the head's levels in view, the crown among them or not; lengths are the patient's."""
    pose = HeadPose(mni_to_ras=np.diag([0.9, 0.9, 0.8, 1.0]))
    levels = np.unique(Z[ball(0, -18, 10, 70)])
    for is_seen, has_vertex in ((Z >= 10, True), (Z < 10, False)):
        cover = cover_of(seen(head(), is_seen), head(), pose)
        count = np.sum(levels >= 10) if has_vertex else np.sum(levels < 10)
        assert cover.share == pytest.approx(count / len(levels))
        assert cover.length_mm == pytest.approx(count * 2 * 0.8)
        assert cover.has_vertex == has_vertex
    nothing = cover_of(seen(head(), np.zeros(JUDGED.shape, bool)), head(), pose)
    assert (nothing.share, nothing.length_mm, nothing.has_vertex) == (0, 0, False)


def test_how_much_of_a_box_is_seen():
    assert box_seen_share(seen(head()), BOXES["ica"]) == 1
    assert box_seen_share(seen(head(), Z > 0), BOXES["ica"]) == 0
    half = box_seen_share(seen(head(), X > 0), BOXES["ica"])
    assert half == pytest.approx(0.5, abs=0.05)
