import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apatite.phantom.shapes import BONE, Solids, rotation, signed_distance, smooth_union

TURN = (20.0, -35.0, 50.0)


def _solids():
    solids = Solids()
    solids.ellipsoid(BONE, (1.0, -2.0, 3.0), (4.0, 2.0, 3.0), turn_deg=TURN)
    solids.rod(BONE, ((-3.0, 0.0, 1.0), (4.0, 5.0, -2.0)), (1.0, 2.5))
    solids.box(BONE, (0.0, 1.0, -1.0), (5.0, 2.0, 1.0), turn_deg=TURN)
    return solids.table()


def test_volumes_are_those_of_geometry():
    table, bounds = _solids()
    rng = np.random.default_rng(0)
    expected = {0: 4 / 3 * np.pi * 24}
    length = np.sqrt(49 + 25 + 9)
    # A cone frustum with two half balls; the ends differ in radius, so this holds to a few per cent.
    expected[1] = np.pi * length * (1 + 2.5 + 2.5**2) / 3 + 2 / 3 * np.pi * (1 + 2.5**3)
    for solid, volume in expected.items():
        low, high = bounds[solid, :3], bounds[solid, 3:]
        points = rng.uniform(low, high, (60_000, 3))
        inside = np.mean([signed_distance(table, solid, *point) < 0 for point in points])
        assert inside * np.prod(high - low) == pytest.approx(volume, rel=0.04)


@settings(max_examples=60, deadline=None)
@given(st.tuples(*[st.floats(-8, 8)] * 3))
def test_what_is_inside_is_inside_the_bounds(point):
    table, bounds = _solids()
    for solid in range(len(table)):
        if signed_distance(table, solid, *point) < 0:
            assert np.all(bounds[solid, :3] - 1e-9 <= point) and np.all(point <= bounds[solid, 3:] + 1e-9)


def test_distance_to_a_turned_box_is_exact_along_its_own_axes():
    table, _ = _solids()
    own_axes = rotation(TURN)
    for axis, half in enumerate((5.0, 2.0, 1.0)):
        point = np.array([0.0, 1.0, -1.0]) + own_axes[axis] * (half + 0.7)
        assert signed_distance(table, 2, *point) == pytest.approx(0.7)


def test_smooth_union_only_adds_and_only_near_the_seam():
    assert smooth_union(1.0, 5.0, 1.2) == 1.0
    assert smooth_union(0.1, 0.1, 1.2) == pytest.approx(0.1 - 1.2 / 4)
