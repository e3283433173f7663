"""Points beside the carotid siphon of one real, tilted, unevenly spaced head CT, located by another program.

The points and their largest HU came from plain pydicom and a resampled copy; they are no ground truth of calcium.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from apatite.calcium.cases import read_measurable
from apatite.calcium.measurement import measure
from apatite.calcium.rule import annotate_circles
from apatite.core.scan import Scan
from apatite.io.circles import draw_circles

HEAD = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "head_ct_ge"


@pytest.fixture(scope="module")
def head() -> tuple[Scan, float | None]:
    if not HEAD.is_dir():
        pytest.skip(f"the head CT is not at {HEAD}")
    return read_measurable(HEAD / "dicom", "head")


@pytest.fixture(scope="module")
def foci() -> list[Mapping[str, Any]]:
    if not HEAD.is_dir():
        pytest.skip(f"the head CT is not at {HEAD}")
    return json.loads((HEAD / "parasellar_foci.json").read_text())["foci"]


def test_points_of_the_patient_land_on_their_slices_and_pixels(head, foci):
    scan, kvp = head
    assert kvp == 120
    for focus in foci:
        circle = {"point_lps_mm": focus["lps_mm"], "radius_mm": 3.0}
        drawn = draw_circles({"format": 1, "circles": [circle]}, scan.stack)
        k, row, column = np.argwhere(drawn).mean(axis=0)
        assert k == focus["k"]
        assert (row, column) == (pytest.approx(focus["row"], abs=0.3), pytest.approx(focus["col"], abs=0.3))


def test_a_circle_finds_the_focus_with_its_largest_hu_on_its_side(head, foci):
    scan, kvp = head
    values = {"R": 1, "L": 2}
    found = 0
    for focus in foci:
        circle = {"slice": focus["k"], "centre": [focus["row"], focus["col"]], "radius_mm": 3.0}
        label = draw_circles({"format": 1, "circles": [{**circle, "label": values[focus["side"][0]]}]}, scan.stack)
        annotated = annotate_circles(scan, label)
        made = measure(scan, annotated > 0, annotated, kvp=kvp)
        side, other = (made.right, made.left) if focus["side"][0] == "R" else (made.left, made.right)
        assert side is not None
        assert other is not None
        assert other.volume_mm3 == 0
        assert side.max_hu is not None
        assert side.max_hu >= focus["max_hu"]
        found += side.max_hu == focus["max_hu"]
        # The circle may hold more than the focus, never less; slices are 4 mm along the normal.
        assert side.volume_mm3 >= 4.0 * (focus["area_mm2"] - 0.3)
        assert not made.agatston_standard  # slices 4 and 7 mm apart
    assert found >= len(foci) - 1
