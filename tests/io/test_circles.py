"""Circles by hand, against matplotlib's polygons, in tilted and turned slices; and every way to write them wrong."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.path import Path as Outline

from apatite.core.errors import DataError
from apatite.core.scan import SliceStack
from apatite.io.circles import draw_circles, read_circles
from apatite.io.nifti import write_label


def a_stack(tilt_deg: float = 0.0, positions=(0.0, 3.0, 6.0, 10.0)) -> SliceStack:
    """Four slices, 20 rows of 0.4 mm, 30 columns of 0.5 mm; columns run to the left, as on most scanners."""
    tilt = np.deg2rad(tilt_deg)
    return SliceStack(
        shape=(len(positions), 20, 30),
        origins_ras_mm=np.array([[7.0, -5.0, z - 30.0] for z in positions]),
        column_step_ras_mm=np.array([-0.5, 0.0, 0.0]),
        row_step_ras_mm=0.4 * np.array([0.0, -np.cos(tilt), np.sin(tilt)]),
        thickness_mm=np.full(len(positions), 3.0),
    )


def drawn(*circles, stack=None, label=1):
    return draw_circles({"format": 1, "circles": list(circles)}, a_stack() if stack is None else stack, label=label)


SQUARE = [[3.5, 7.5], [3.5, 12.5], [9.5, 12.5], [9.5, 7.5]]


def test_a_square_holds_the_pixels_whose_centres_it_holds():
    label = drawn({"slice": 2, "polygon": SQUARE, "label": 2})
    assert label.dtype == np.uint8
    assert (label == 2).sum() == label.astype(bool).sum() == 6 * 5
    assert (label[2, 4:10, 8:13] == 2).all()


def test_even_and_odd_alternate_where_a_polygon_crosses_itself():
    bow = [[2.5, 2.5], [2.5, 11.5], [14.5, 2.5], [14.5, 11.5]]
    label = drawn({"slice": 0, "polygon": bow})[0]
    assert (label[4, 7], label[13, 7]) == (1, 1)
    assert (label[8, 3], label[8, 11]) == (0, 0)
    with pytest.raises(DataError, match="no centre of a pixel inside"):
        drawn({"slice": 1, "polygon": [*SQUARE, *SQUARE]})  # round it twice: all of it is outside again


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.floats(0, 19), st.floats(0, 29)), min_size=3, max_size=3))
def test_triangles_are_those_of_matplotlib(corners):
    # Corners on no pixel's row or column: what lies exactly on an edge is nobody's.
    points = np.minimum(np.array(corners) + np.array([0.1234567, 0.0987654]), np.array([19.4, 29.4]))
    rows, columns = np.meshgrid(np.arange(20), np.arange(30), indexing="ij")
    grid = np.stack([rows.ravel(), columns.ravel()], axis=1)
    inner, outer = (Outline(points).contains_points(grid, radius=r).reshape(20, 30) for r in (-1e-6, 1e-6))
    # matplotlib's radius grows or shrinks with the direction of the outline.
    both, either = inner & outer, inner | outer
    if not both.any():
        return
    label = drawn({"slice": 3, "polygon": points.tolist()})[3] == 1
    assert not np.any(both & ~label)
    assert not np.any(label & ~either)


def test_circles_in_pixels_and_in_millimetres():
    label = drawn(
        {"slice": 0, "centre": [8.0, 10.0], "radius_px": 2.0},
        {"slice": 1, "centre": [8.0, 10.0], "radius_mm": 1.0},
        {"slice": 3, "centre": [8.2, 10.3], "radius_mm": 3.1, "label": 7},
    )
    assert label[0].sum() == 13
    # 1 mm: 2.5 rows of 0.4 mm, 2 columns of 0.5 mm.
    assert np.argwhere(label[1]).min(axis=0).tolist() == [6, 8]
    assert np.argwhere(label[1]).max(axis=0).tolist() == [10, 12]
    assert (label[3] == 7).sum() * 0.2 == pytest.approx(np.pi * 3.1**2, rel=0.03)


def test_a_height_names_a_slice():
    for k, z_mm in enumerate((-30.0, -27.0, -24.05, -20.0)):
        label = drawn({"z_mm": z_mm, "polygon": SQUARE})
        assert np.flatnonzero(label.any(axis=(1, 2))).tolist() == [k]
    with pytest.raises(DataError, match="no slice is at z_mm") as caught:
        drawn({"z_mm": -22.0, "polygon": SQUARE})
    assert "-24.00" in caught.value.fix or "-20.00" in caught.value.fix


@settings(max_examples=40, deadline=None)
@given(st.floats(-25, 25), st.integers(0, 3), st.floats(4, 15), st.floats(4, 25), st.floats(-1.4, 1.4))
def test_a_point_of_the_patient_in_ras_or_lps(tilt_deg, k, row, column, above_mm):
    stack = a_stack(tilt_deg)
    point = stack.to_ras(k, np.array([row, column])) + above_mm * stack.normal_ras
    ras = drawn({"point_ras_mm": point.tolist(), "radius_mm": 1.3}, stack=stack)
    lps = drawn({"point_lps_mm": (point * [-1, -1, 1]).tolist(), "radius_mm": 1.3}, stack=stack)
    expected = drawn({"slice": k, "centre": [row, column], "radius_mm": 1.3}, stack=stack)
    # A point may end half a rounding beside a pixel's centre.
    assert np.count_nonzero(ras != expected) <= 2
    assert np.array_equal(ras, lps)
    assert np.flatnonzero(ras.any(axis=(1, 2))).tolist() == [k]


def test_labels_come_from_the_circle_or_from_the_caller():
    both = drawn({"slice": 0, "polygon": SQUARE}, {"slice": 1, "polygon": SQUARE, "label": 2}, label=9)
    assert (both[0].max(), both[1].max()) == (9, 2)
    assert drawn({"slice": 0, "polygon": SQUARE}, {"slice": 0, "centre": [5, 9], "radius_px": 9}).max() == 1
    beside = {"slice": 0, "centre": [6, 20], "radius_px": 3, "label": 2}
    assert np.unique(drawn({"slice": 0, "polygon": SQUARE}, beside)[0]).tolist() == [0, 1, 2]
    assert not drawn().any()
    with pytest.raises(DataError, match="shares pixels of slice 0") as caught:
        drawn({"slice": 0, "polygon": SQUARE}, {"slice": 0, "centre": [5, 9], "radius_px": 2, "label": 2})
    assert caught.value.code == "BAD_LABEL"


@pytest.mark.parametrize(
    ("circle", "said"),
    [
        ({"slice": 4, "polygon": SQUARE}, "slice 4 is not one of 0 to 3"),
        ({"slice": -1, "polygon": SQUARE}, "not one of 0 to 3"),
        ({"slice": 1.0, "polygon": SQUARE}, "not one of 0 to 3"),
        ({"slice": True, "polygon": SQUARE}, "not one of 0 to 3"),
        ({"slice": 1, "polygon": SQUARE[:2]}, "fewer than 3"),
        ({"slice": 1, "polygon": "square"}, "fewer than 3"),
        ({"slice": 1, "polygon": [[1, 2, 3]] * 3}, "not 2 numbers"),
        ({"slice": 1, "polygon": [[1, "2"]] * 3}, "no number"),
        ({"slice": 1, "polygon": [[1, 40], [2, 41], [3, 43]]}, "beyond the 20 rows and 30 columns"),
        ({"slice": 1, "polygon": [[5.2, 5.2], [5.3, 5.2], [5.3, 5.3]]}, "no centre of a pixel inside"),
        ({"slice": 1, "polygn": SQUARE}, "did you mean 'polygon'"),
        ({"slice": 1}, "0 shapes"),
        ({"slice": 1, "polygon": SQUARE, "centre": [1, 1]}, "2 shapes"),
        ({"slice": 1, "z_mm": -27, "polygon": SQUARE}, "beside polygon"),
        ({"polygon": SQUARE}, "beside polygon"),
        ({"slice": 1, "centre": [5, 5]}, "beside centre"),
        ({"slice": 1, "centre": [5, 5], "radius_mm": 1, "radius_px": 1}, "beside centre"),
        ({"slice": 1, "centre": [5, 5], "radius_mm": 0}, "not above 0"),
        ({"slice": 1, "centre": [5, 5], "radius_mm": True}, "no number"),
        ({"slice": 1, "centre": [5, 35], "radius_mm": 1}, "beyond"),
        ({"point_ras_mm": [0, 0, -50], "radius_mm": 1}, "above or below the scan"),
        ({"point_ras_mm": [70, -7, -27], "radius_mm": 1}, "beyond"),
        ({"point_ras_mm": [0, 0], "radius_mm": 1}, "not 3 numbers"),
        ({"point_ras_mm": [0, 0, 1e9], "radius_mm": 1}, "sensible"),
        ({"slice": 1, "polygon": SQUARE, "label": 255}, "1 to 254"),
        ({"slice": 1, "polygon": SQUARE, "label": 0}, "1 to 254"),
        ({"slice": 1, "polygon": SQUARE, "label": "right"}, "1 to 254"),
        ("circle", "no object"),
    ],
)
def test_what_is_wrong_is_said_and_which_circle(circle, said):
    with pytest.raises(DataError) as caught:
        drawn({"slice": 0, "polygon": SQUARE}, circle)
    assert said in str(caught.value)
    assert caught.value.code in ("BAD_CIRCLE", "BAD_LABEL")
    assert caught.value.where == "circle 1"


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "{}",
        '{"format": 2, "circles": []}',
        '{"format": 1, "circles": {}}',
        '{"format": 1, "circles": [], "slices": 3}',
        '{"format": 1, "format": 1, "circles": []}',
        '{"format": 1, "circles": [{"slice": 1, "centre": [NaN, 1], "radius_mm": 1}]}',
        "[" * 100_000,
    ],
)
def test_files_that_are_something_else(tmp_path, content):
    path = tmp_path / "circles.json"
    path.write_text(content)
    with pytest.raises(DataError) as caught:
        read_circles(path, a_stack(), "case-1")
    assert (caught.value.code, caught.value.where) == ("BAD_CIRCLE", "case-1")


def test_files(tmp_path):
    stack = a_stack()
    values = {"format": 1, "circles": [{"slice": 1, "polygon": SQUARE, "label": 2}]}
    (tmp_path / "circles.json").write_text(json.dumps(values))
    label = read_circles(tmp_path / "circles.json", stack)
    assert np.array_equal(label, draw_circles(values, stack))
    write_label(tmp_path / "circles.nii.gz", label, stack)
    assert np.array_equal(read_circles(tmp_path / "circles.nii.gz", stack), label)
    with pytest.raises(DataError) as caught:
        read_circles(tmp_path / "circles.nii.gz", a_stack(positions=(0.0, 3.0, 6.0)))
    assert caught.value.code == "GRID_MISMATCH"
    with pytest.raises(DataError) as caught:
        read_circles(tmp_path / "none.json", stack)
    assert caught.value.code == "IO_ERROR"
    (tmp_path / "large.json").write_bytes(b" " * (16 * 2**20 + 1))
    with pytest.raises(DataError) as caught:
        read_circles(tmp_path / "large.json", stack)
    assert caught.value.code == "TOO_LARGE"
