import numpy as np
import pytest

from apatite.phantom.density import ARTERY, BASE, BONY, EXCESS, fill_tissue
from apatite.phantom.lesions import calcium_mm3
from apatite.phantom.siphon import STEP_MM


def _coordinates(tissue):
    depth, height, width = tissue.values.shape[:3]
    z, y, x = np.meshgrid(
        *[(np.arange(n) - (n - 1) / 2) * tissue.step_mm for n in (depth, height, width)], indexing="ij"
    )
    return np.stack([x, y, z], axis=-1)


def test_calcium_on_the_grid_has_the_analytic_mass(anatomy):
    """The excess summed over the grid is volume times density, which integration over the wall gives too."""
    tissue = fill_tissue(anatomy, 0.5)
    blood = (anatomy.scalars["blood_hu"] + anatomy.scalars["wall_hu"]) / 2
    expected = {}
    for side, (wall, artery) in enumerate(zip(anatomy.walls, anatomy.arteries, strict=True)):
        expected[side] = float((calcium_mm3(wall, artery) * (wall.density_hu - blood)).sum())
    x = _coordinates(tissue)[..., 0]
    excess = tissue.values[..., EXCESS] * tissue.step_mm**3
    # The density of the nearest four map points is read, so edges are a few per cent brighter than the sum.
    assert float(excess[x > 0].sum()) == pytest.approx(expected[0], rel=0.07)
    assert float(excess[x < 0].sum()) == pytest.approx(expected[1], rel=0.07)


def test_volume_of_calcium_is_that_of_integration_within_two_per_cent(anatomy):
    """With one density everywhere, the sum of the excess is the volume itself."""
    from dataclasses import replace

    blood = anatomy.scalars["blood_hu"]
    flat = tuple(replace(wall, density_hu=np.full_like(wall.density_hu, blood + 1000)) for wall in anatomy.walls)
    from apatite.phantom.anatomy import Anatomy

    same = Anatomy(
        solids=anatomy.solids, arteries=anatomy.arteries, walls=flat, plaques=anatomy.plaques,
        scalars={**anatomy.scalars, "wall_hu": blood}, septa=anatomy.septa, lattice=anatomy.lattice,
    )  # fmt: skip
    tissue = fill_tissue(same, 0.5)
    measured = float(tissue.values[..., EXCESS].sum(dtype=np.float64)) * tissue.step_mm**3 / 1000
    expected = sum(float(calcium_mm3(wall, artery).sum()) for wall, artery in zip(flat, anatomy.arteries, strict=True))
    assert measured == pytest.approx(expected, rel=0.02)


def test_calcium_lies_in_the_wall_of_the_artery(anatomy, tissue):
    points = _coordinates(tissue)[tissue.values[..., EXCESS] > 5]
    distance = np.full(len(points), np.inf)
    for artery in anatomy.arteries:
        for start in range(0, len(points), 2000):
            gap = np.linalg.norm(points[start : start + 2000, None] - artery.points_mm[None], axis=-1).min(axis=1)
            distance[start : start + 2000] = np.minimum(distance[start : start + 2000], gap - artery.radius_mm)
    # A cell reaches half its diagonal beyond its middle.
    assert distance.max() < 0.87 * tissue.step_mm + STEP_MM / 4
    assert np.all(tissue.values[..., ARTERY][tissue.values[..., EXCESS] > 0] > 0)


def test_fractions_are_fractions_and_tissues_have_their_values(tissue):
    values = tissue.values
    assert np.isfinite(values).all()
    for channel in (ARTERY, BONY):
        assert values[..., channel].min() >= 0 and values[..., channel].max() <= 1
    assert np.all(values[..., ARTERY] + values[..., BONY] <= 1 + 1e-6)
    assert values[..., BASE].min() >= -1000 and 1200 < values[..., BASE].max() < 4000
    assert (values[..., BASE] < -900).sum() * tissue.step_mm**3 > 500


def test_the_artery_has_the_volume_of_a_tube(anatomy):
    tissue = fill_tissue(anatomy, 0.6, (70.0, 70.0, 60.0))
    points = _coordinates(tissue)
    for artery, on_side in zip(anatomy.arteries, (points[..., 0] > 0, points[..., 0] < 0), strict=True):
        # Count only where the tube runs inside the grid from one face of a slab to the other.
        measured = float((tissue.values[..., ARTERY] * on_side).sum()) * tissue.step_mm**3
        inside = np.all(np.abs(artery.points_mm) < np.array([35.0, 35.0, 30.0]), axis=1).sum() * STEP_MM
        assert measured == pytest.approx(np.pi * artery.radius_mm**2 * inside, rel=0.12)
