import numpy as np
import pytest

from apatite.phantom.lesions import ALONG_MM, NUM_ANGLES, WallMap, calcium_mm3, calcium_pieces, draw_plaques, empty_map
from apatite.phantom.siphon import build_artery, draw_arteries


def _ring(artery, thickness_mm):
    wall = empty_map(artery)
    return WallMap(
        thickness_mm=wall.thickness_mm + thickness_mm,
        density_hu=wall.density_hu + 500,
        plaque=wall.plaque + np.int16(1),
    )


def test_a_full_ring_has_the_volume_of_a_tube_however_it_bends():
    angle = np.linspace(0, 1.5 * np.pi, 13)
    bent = build_artery("right", np.stack([7 * np.cos(angle), 7 * np.sin(angle), angle], axis=1), 2.0, 0.6)
    wall = _ring(bent, 0.5)
    length = len(wall.thickness_mm) * ALONG_MM
    # Pappus: the centroid of a ring lies on the centreline.
    assert calcium_mm3(wall, bent).sum() == pytest.approx(np.pi * (2.6**2 - 2.1**2) * length, rel=1e-6)


def test_the_outer_half_of_a_bend_holds_more_than_the_inner():
    angle = np.linspace(0, np.pi, 9)
    bent = build_artery("right", np.stack([8 * np.cos(angle), 8 * np.sin(angle), np.zeros(9)], axis=1), 2.0, 0.6)
    volume = calcium_mm3(_ring(bent, 0.5), bent)
    middle = len(volume) // 2
    towards = bent.bend_per_mm[middle // 2]
    angles = np.arange(NUM_ANGLES) * 2 * np.pi / NUM_ANGLES
    inner = (
        np.cos(angles) * (bent.first_axis[middle // 2] @ towards)
        + np.sin(angles) * (bent.second_axis[middle // 2] @ towards)
        > 0
    )
    assert volume[middle, ~inner].sum() > 1.2 * volume[middle, inner].sum()


@pytest.mark.parametrize(("target", "medial"), [(3.0, 0.0), (40.0, 1.0), (150.0, 0.5)])
def test_plaques_add_up_to_what_was_wanted(target, medial):
    rng = np.random.default_rng(1)
    artery = draw_arteries(rng)[0]
    wall, plaques = draw_plaques(rng, artery, target, medial)
    assert sum(plaque.volume_mm3 for plaque in plaques) == pytest.approx(target, rel=0.05)
    assert calcium_pieces(wall, artery).volume_mm3.sum() == pytest.approx(sum(p.volume_mm3 for p in plaques))
    assert wall.thickness_mm.max() < artery.radius_mm
    found = wall.density_hu[wall.thickness_mm > 0.2]
    assert found.min() >= 150 and found.max() <= 1600


def test_patterns_are_what_they_are_called():
    rng = np.random.default_rng(2)
    artery = draw_arteries(rng)[0]
    arcs, thickness = {}, {}
    for pattern, share in (("intimal", 0.0), ("medial", 1.0)):
        wall, plaques = draw_plaques(rng, artery, 25.0, share)
        assert {plaque.pattern for plaque in plaques} == {pattern}
        arcs[pattern] = (wall.thickness_mm > 0.2).sum(axis=1).max() / NUM_ANGLES * 360
        thickness[pattern] = wall.thickness_mm.max()
    assert arcs["intimal"] < 150 < arcs["medial"]
    assert thickness["intimal"] > thickness["medial"]


def test_no_calcium_wanted_none_given():
    rng = np.random.default_rng(3)
    wall, plaques = draw_plaques(rng, draw_arteries(rng)[0], 0.0, 0.5)
    assert plaques == [] and not wall.thickness_mm.any()
