import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apatite.core.errors import ConfigError
from apatite.phantom.head_slices import LAYOUTS, SliceLayout, lay_head_slices, slice_positions
from apatite.phantom.protocol import Protocol

CENTRE, CAROTID = np.array([3.0, -20.0, 45.0]), np.array([1.0, 2.0, 15.0])


@settings(max_examples=40, deadline=None)
@given(
    name=st.sampled_from(sorted(LAYOUTS)),
    tilt=st.floats(-25, 25),
    oblique=st.tuples(*[st.floats(-30, 30)] * 3),
    spacing=st.floats(0.4, 8),
)
def test_any_layout_is_centred_tilted_and_spaced_as_asked(name, tilt, oblique, spacing):
    protocol = Protocol(pixel_mm=0.7, thickness_mm=3.0, spacing_mm=spacing, tilt_deg=tilt)
    layout = SliceLayout(name=name, rows=30, columns=41, oblique_deg=oblique, low_mm=-20, high_mm=33)
    stack = lay_head_slices(protocol, layout, CENTRE, CAROTID)
    np.testing.assert_allclose(np.diff(stack.positions_mm), spacing)
    assert stack.row_spacing_mm == pytest.approx(0.7) and stack.column_spacing_mm == pytest.approx(0.7)
    assert abs(stack.row_step_ras_mm @ stack.column_step_ras_mm) < 1e-12
    way = stack.origins_ras_mm[-1] - stack.origins_ras_mm[0]
    assert way @ stack.normal_ras / np.linalg.norm(way) == pytest.approx(math.cos(math.radians(tilt)))
    # The first slice lies 20 mm before the carotids, and the line through the middles of all slices meets the centre.
    assert (stack.origins_ras_mm[0] - CAROTID) @ stack.normal_ras == pytest.approx(-20)
    middle = stack.to_ras(0, np.array([29 / 2, 40 / 2]))
    unit = way / np.linalg.norm(way)
    assert np.linalg.norm(np.cross(CENTRE - middle, unit)) < 1e-6


def test_a_supine_head_is_shown_as_on_any_screen():
    stack = lay_head_slices(Protocol(), SliceLayout(rows=8, columns=9), CENTRE, CAROTID)
    np.testing.assert_allclose(stack.column_step_ras_mm / 0.45, [-1, 0, 0])
    np.testing.assert_allclose(stack.row_step_ras_mm / 0.45, [0, -1, 0], atol=1e-12)
    np.testing.assert_allclose(stack.normal_ras, [0, 0, 1], atol=1e-12)


def test_two_blocks_touch():
    protocol = Protocol(thickness_mm=4.0, spacing_mm=4.0, vault_mm=7.0, vault_from_mm=12.0)
    positions, thickness = slice_positions(protocol, -40.0, 110.0)
    edges = positions + thickness / 2, positions - thickness / 2
    np.testing.assert_allclose(edges[0][:-1], edges[1][1:])
    assert positions[thickness == 4].max() < 12 < edges[0][thickness == 4].max() + 4
    assert edges[0][-1] >= 110 - 3.5 and positions[0] == -40


@pytest.mark.parametrize("wrong", [{"name": "supin"}, {"rows": 2}, {"low_mm": 5.0, "high_mm": 5.0}])
def test_impossible_layouts_are_refused(wrong):
    with pytest.raises(ConfigError):
        SliceLayout(**wrong)
