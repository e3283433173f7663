"""Rings and arcs drawn by hand: how far around, how thick, whether broken."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apatite.calcium.wall import describe_wall, fit_lumen, thickness_mm

PIXEL_MM = (0.25, 0.2)
CENTRE = (40.3, 50.6)


def arc(radius_mm, thick_mm, *ranges_deg, shape=(80, 100)):
    """True on a ring around `CENTRE`, within the ranges of angle (0 along columns, 90 along rows)."""
    rows, columns = np.meshgrid(np.arange(shape[0]), np.arange(shape[1]), indexing="ij")
    y, x = (rows - CENTRE[0]) * PIXEL_MM[0], (columns - CENTRE[1]) * PIXEL_MM[1]
    angle = np.rad2deg(np.arctan2(y, x)) % 360
    is_ring = np.abs(np.hypot(x, y) - radius_mm) <= thick_mm / 2
    return is_ring & np.any([(angle - low) % 360 <= high - low for low, high in ranges_deg], axis=0)


def wall_of(make_stack, *planes, lumens=None):
    stack = make_stack([2.0 * k for k in range(len(planes))], 2.0, pixels=planes[0].shape, pixel_mm=PIXEL_MM)
    return describe_wall(np.stack(planes), stack, lumens)


NOTHING = np.zeros((80, 100), bool)


@pytest.mark.parametrize(
    ("ranges", "arc_deg", "longest_deg", "grade"),
    [
        (((0, 360),), 360, 360, 2),
        (((-45, 45),), 90, 90, 1),
        (((100, 300),), 200, 200, 2),
        (((300, 420),), 120, 120, 1),  # across 0°
        (((0, 80), (120, 200), (240, 320)), 240, 80, 1),
    ],
)
def test_thin_arcs(make_stack, ranges, arc_deg, longest_deg, grade):
    wall = wall_of(make_stack, arc(2.5, 0.9, *ranges), lumens={0: CENTRE})
    (part,) = wall.slices
    # A pixel at 2.5 mm is seen under 5°; every end of an arc is off by less.
    assert part.arc_deg == pytest.approx(arc_deg, abs=5 * len(ranges))
    assert part.longest_arc_deg == pytest.approx(longest_deg, abs=5)
    assert part.thickness_mm == pytest.approx(0.9, abs=0.2)
    assert part.num_islands == len(ranges)
    assert part.woodcock_like_unvalidated == grade


@pytest.mark.parametrize(
    ("thick_mm", "range_deg", "grade"),
    [(0.8, (0, 90), 1), (2.0, (0, 90), 2), (0.8, (0, 250), 2), (2.0, (0, 250), 3)],
)
def test_the_four_grades(make_stack, thick_mm, range_deg, grade):
    wall = wall_of(make_stack, arc(2.6, thick_mm, range_deg), lumens={0: CENTRE})
    assert wall.slices[0].woodcock_like_unvalidated == grade


@pytest.mark.parametrize("size", [(1, 1), (1, 6), (2, 9), (3, 3), (4, 7), (9, 5)])
def test_thickness_of_a_block_is_its_shorter_edge(size):
    block = np.zeros((14, 15), bool)
    block[2 : 2 + size[0], 3 : 3 + size[1]] = True
    assert thickness_mm(block, (0.5, 0.5)) == pytest.approx(0.5 * min(size), abs=1e-9)
    assert thickness_mm(block, (0.5, 0.3)) == pytest.approx(min(0.5 * size[0], 0.3 * size[1]), abs=0.08)


def test_thickness_of_a_disc_and_of_nothing():
    rows, columns = np.ogrid[:40, :44]
    disc = np.hypot((rows - 19.5) * 0.25, (columns - 20) * 0.2) <= 2.0
    # The circle inside the stairs of its pixels: less than a pixel too small.
    assert 4.0 - np.hypot(*PIXEL_MM) < thickness_mm(disc, PIXEL_MM) <= 4.0
    assert thickness_mm(NOTHING, PIXEL_MM) == 0.0


@settings(max_examples=25, deadline=None)
@given(st.floats(1.6, 3.5), st.floats(100, 340), st.floats(0, 360))
def test_the_lumen_of_an_arc_is_found(radius_mm, length_deg, start_deg):
    lumen = fit_lumen(arc(radius_mm, 0.6, (start_deg, start_deg + length_deg)), PIXEL_MM)
    assert lumen is not None
    off_mm = (np.array(lumen) - CENTRE) * PIXEL_MM
    assert np.linalg.norm(off_mm) < 0.35


def test_dots_lines_and_small_or_huge_rings_have_no_lumen(make_stack):
    dot = NOTHING.copy()
    dot[30:33, 40:43] = True
    line = NOTHING.copy()
    line[30, 40:60] = True
    pair = NOTHING.copy()
    pair[30, 40:42] = True
    for plane in (dot, line, pair, arc(6.0, 0.8, (0, 360)), NOTHING):
        assert fit_lumen(plane, PIXEL_MM) is None
    (part,) = wall_of(make_stack, dot).slices
    assert (part.arc_deg, part.longest_arc_deg, part.is_continuous) == (None, None, False)
    assert wall_of(make_stack, dot).circularity_like_unvalidated == "dots"


def test_calcium_on_the_lumen_is_all_around(make_stack):
    (part,) = wall_of(make_stack, arc(0.0, 3.0, (0, 360)), lumens={0: CENTRE}).slices
    assert (part.arc_deg, part.longest_arc_deg) == (360.0, 360.0)


def test_an_artery_by_hand(make_stack):
    thin, thick = arc(2.5, 0.8, (0, 120)), arc(2.5, 2.0, (0, 300))
    wall = wall_of(make_stack, NOTHING, thin, thick, NOTHING, lumens=dict.fromkeys(range(4), CENTRE))
    assert [part.slice_index for part in wall.slices] == [1, 2]
    assert wall.woodcock_like_unvalidated == 1 + 3
    assert wall.circularity_like_unvalidated == "270-360"
    assert wall.thickness_like_unvalidated == ">=1.5 mm"
    assert wall.morphology_like_unvalidated == "continuous"
    gap = wall_of(make_stack, thin, NOTHING, thin)
    assert gap.morphology_like_unvalidated == "irregular"
    assert (gap.circularity_like_unvalidated, gap.thickness_like_unvalidated) == ("90-270", "<1.5 mm")
    one = wall_of(make_stack, arc(2.5, 0.8, (0, 70)), lumens={0: CENTRE})
    assert (one.circularity_like_unvalidated, one.morphology_like_unvalidated) == ("<90", "indistinguishable")


def test_nothing_is_absent_and_every_output_says_that_it_is_unvalidated(make_stack):
    wall = wall_of(make_stack, NOTHING, NOTHING)
    values = json.loads(json.dumps(wall.to_dict(), allow_nan=False))
    assert values["validated"] is False
    assert (values["woodcock_like_unvalidated"], values["slices"]) == (0, [])
    assert values["circularity_like_unvalidated"] == values["thickness_like_unvalidated"] == "absent"
    assert {key for key in values if not key.endswith("_unvalidated")} == {"validated", "slices"}
