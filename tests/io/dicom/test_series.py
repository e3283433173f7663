"""What forms a stack, in which order, with which flags, and what is refused: by hand, and for random geometry."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apatite.io.dicom.header import Header
from apatite.io.dicom.limits import ReadLimits
from apatite.io.dicom.series import group_images, image_key, lay_out, shared_positions
from apatite.io.dicom.steps import missing_slices, step_flags

AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)


def image(number: int = 0, **changes) -> Header:
    """A CT image of 40 x 64 pixels of 5 x 4 mm, 2.5 mm thick and apart."""
    values = {
        "path": Path(f"{number:03d}.dcm"),
        "patient": "a",
        "study_uid": "1.2",
        "series_uid": "1.2.3",
        "sop_uid": f"1.2.3.{number}",
        "frame_of_reference_uid": "1.9",
        "transfer_syntax_uid": "1.2.840.10008.1.2.1",
        "modality": "CT",
        "image_type": ("ORIGINAL", "PRIMARY", "AXIAL"),
        "rows": 40,
        "columns": 64,
        "pixel_spacing_mm": (5.0, 4.0),
        "position_lps_mm": (-110.0, -90.0, 10 + 2.5 * number),
        "orientation_lps": AXIAL,
        "thickness_mm": 2.5,
        "slope": 1.0,
        "intercept": -1024.0,
        "bits_allocated": 16,
        "bits_stored": 16,
        "high_bit": 15,
        "photometric": "MONOCHROME2",
        "pixel_bytes": 40 * 64 * 2,
        "kvp": 120.0,
        "kernel": "H30s",
    }
    return Header(**{**values, **changes})


def at(*heights_mm: float, **changes) -> list[Header]:
    return [
        image(number, position_lps_mm=(-110.0, -90.0, height), **changes) for number, height in enumerate(heights_mm)
    ]


def code(headers) -> str:
    series = lay_out(headers)
    assert series.refusal is not None, series.flags
    assert series.stack is None
    assert "1.2.3" not in series.refusal.what
    return series.refusal.code


def test_an_even_stack():
    series = lay_out([image(number) for number in (3, 0, 2, 1, 4)])
    assert series.refusal is None
    assert series.flags == ()
    assert [one.path.name for one in series.headers] == ["000.dcm", "001.dcm", "002.dcm", "003.dcm", "004.dcm"]
    stack = series.stack
    assert stack is not None
    assert stack.shape == (5, 40, 64)
    np.testing.assert_allclose(np.diff(stack.positions_mm), 2.5)
    # LPS to RAS: x and y change their sign. Pixel (row 2, column 3) lies 3·4 mm along x and 2·5 mm along y.
    np.testing.assert_allclose(stack.to_ras(1, np.array([2.0, 3.0])), [110 - 12, 90 - 10, 12.5])
    np.testing.assert_array_equal(stack.thickness_mm, 2.5)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"modality": "MR"}, "NOT_CT"),
        ({"pixel_bytes": 0}, "NO_PIXELS"),
        ({"transfer_syntax_uid": "1.2.840.10008.1.2.4.50", "pixel_bytes": None}, "LOSSY_8BIT"),
        ({"transfer_syntax_uid": "1.2.840.10008.1.2.4.201", "pixel_bytes": None}, "SYNTAX_UNSUPPORTED"),
        ({"transfer_syntax_uid": "1.2.840.10008.1.2.4.90"}, "LENGTH_LIE"),
        ({"pixel_bytes": None}, "LENGTH_LIE"),
        ({"rows": 5000}, "TOO_LARGE"),
        ({"samples_per_pixel": 3}, "BAD_PIXELS"),
        ({"bits_allocated": 32}, "BAD_PIXELS"),
        ({"slope": None}, "NO_HU"),
        ({"has_lookup": True}, "NO_HU"),
        ({"rescale_type": "MGML"}, "NO_HU"),
        ({"slope": math.nan}, "BAD_RESCALE"),
        ({"intercept": math.inf}, "BAD_RESCALE"),
        ({"orientation_lps": None}, "NO_IOP"),
        ({"orientation_lps": (1.0, 0.0, 0.0, 0.0, 0.5, 0.0)}, "BAD_IOP"),
        ({"orientation_lps": (1.0, 0.0, 0.0, 0.01, 1.0, 0.0)}, "BAD_IOP"),
        ({"orientation_lps": (0.0,) * 6}, "BAD_IOP"),
        ({"orientation_lps": (math.nan,) * 6}, "BAD_IOP"),
        ({"position_lps_mm": None}, "NO_IPP"),
        ({"position_lps_mm": (0.0, 0.0, math.nan)}, "BAD_IPP"),
        ({"position_lps_mm": (0.0, 0.0, 1e9)}, "BAD_IPP"),
        ({"pixel_spacing_mm": None}, "NO_SPACING"),
        ({"pixel_spacing_mm": (0.0, 1.0)}, "BAD_SPACING"),
        ({"pixel_spacing_mm": (-0.5, 0.5)}, "BAD_SPACING"),
        ({"pixel_spacing_mm": (0.5, 1e-9)}, "BAD_SPACING"),
        ({"pixel_spacing_mm": (math.nan, 0.5)}, "BAD_SPACING"),
        ({"pixel_spacing_mm": (5.0, 4.1)}, "MIXED_SIZE"),
        ({"columns": 32, "rows": 80}, "MIXED_SIZE"),
        ({"frame_of_reference_uid": "1.8"}, "MIXED_SERIES"),
        ({"kernel": "H60s"}, "MIXED_SERIES"),
        ({"orientation_lps": (1.0, 0.0, 0.0, 0.0, 0.8, 0.6)}, "MIXED_IOP"),
        ({"position_lps_mm": (-110.0, -90.0, 10.0)}, "DUP_POS"),
        ({"position_lps_mm": (-110.0, -60.0, 15.0)}, "BAD_IPP"),
        ({"patient": "b"}, "MIXED_PATIENT"),
    ],
)
@pytest.mark.parametrize("which", [2, 5])
def test_one_bad_slice_is_the_reason(change, expected, which):
    """One slice of six differs: it is named, and does not drop out of its stack unseen."""
    if expected == "BAD_IPP" and change["position_lps_mm"][1] == -60.0 and which == 5:
        # Nothing lies behind the last slice to tell that it is beside the others.
        change = {"position_lps_mm": (-110.0, -90.0, -1e5)}
    headers = [image(number) for number in range(6)]
    headers[which] = replace(headers[which], **change)
    (group,) = (one for one in group_images(headers) if headers[0] in one)
    assert headers[which] in group
    assert code(group) == expected
    refusal = lay_out(group).refusal
    assert refusal is not None
    assert refusal.path == headers[which].path or expected == "DUP_POS"


def test_an_image_that_names_no_series_is_refused():
    groups = group_images([*[image(number) for number in range(3)], image(3, series_uid="")])
    assert [lay_out(group).refusal is None for group in groups] == [True, False]
    assert code(groups[1]) == "MIXED_SERIES"


def test_fewer_than_three_slices():
    assert code([image(0), image(1)]) == "LT3_SLICES"
    assert code([image(0)]) == "LT3_SLICES"


def test_limits_of_a_series():
    headers = [image(number) for number in range(4)]
    for limits in (ReadLimits(series_files=3), ReadLimits(series_voxels=4 * 40 * 64 - 1)):
        refusal = lay_out(headers, limits=limits).refusal
        assert refusal is not None
        assert refusal.code == "TOO_LARGE"


def test_copies_and_duplicates():
    headers = [image(number) for number in range(4)]
    copy = replace(headers[1], path=Path("zz.dcm"))
    series = lay_out([*headers, copy])
    assert series.refusal is None
    assert [(one.code, one.path.name) for one in series.left_out] == [("DUP_FILE", "zz.dcm")]
    other = replace(copy, sop_uid="9.9")
    assert code([*headers, other]) == "DUP_POS"
    assert shared_positions([*headers, other]) == [headers[1], other]
    equal = {image_key(headers[1]): "x", image_key(other): "x"}
    assert lay_out([*headers, other], equal).left_out[0].code == "DUP_FILE"
    differing = {image_key(headers[1]): "x", image_key(copy): "y"}
    refusal = lay_out([*headers, copy], differing).refusal
    assert refusal is not None
    assert refusal.code == "DUP_POS"
    near = replace(other, position_lps_mm=(-110.0, -90.0, 12.5 + 0.04))
    assert code([*headers, near]) == "DUP_POS"


def test_two_patients_under_one_series_are_both_refused():
    headers = [image(number, patient="ab"[number % 2]) for number in range(8)]
    (group,) = group_images(headers)
    assert code(group) == "MIXED_PATIENT"


def test_what_belongs_together():
    soft = [image(number) for number in range(4)]
    bone = [image(number, kernel="H60s", path=Path(f"b{number}")) for number in range(4)]
    other = [image(number, series_uid="1.2.4", path=Path(f"c{number}")) for number in range(4)]
    scout = image(0, orientation_lps=(0.0, 1.0, 0.0, 0.0, 0.0, -1.0), image_type=("ORIGINAL", "PRIMARY", "LOCALIZER"))
    scout = replace(scout, path=Path("scout"))
    groups = group_images([scout, *soft, *other, *bone])
    assert [set(group) for group in groups] == [{scout}, set(soft), set(other), set(bone)]


def test_acquisitions_are_split_where_positions_repeat():
    once = [image(number, acquisition_number=1) for number in range(4)]
    again = [image(number, acquisition_number=2, sop_uid=f"9.{number}", path=Path(f"b{number}")) for number in range(4)]
    assert [set(group) for group in group_images([*once, *again])] == [set(once), set(again)]
    table = [replace(one, acquisition_number=number) for number, one in enumerate(once)]
    assert [set(group) for group in group_images(table)] == [set(table)]


def test_every_slice_turned_otherwise_is_one_refused_series():
    headers = [
        image(number, orientation_lps=(1.0, 0.0, 0.0, 0.0, math.cos(number / 9), math.sin(number / 9)))
        for number in range(5)
    ]
    (group,) = group_images(headers)
    assert code(group) == "MIXED_IOP"


@pytest.mark.parametrize(
    ("heights", "expected"),
    [
        ((0, 5, 10, 20, 25, 30), "MISSING_SLICES"),
        ((0, 5, 10, 15, 25), "MISSING_SLICES"),
        ((0, 10, 15, 20), "MISSING_SLICES"),
        ((0, 5, 10, 20, 30, 35, 40), "MISSING_SLICES"),
        ((0, 5, 10, 25, 30, 35), "MISSING_SLICES"),
    ],
)
def test_a_hole_in_an_even_stack_is_refused(heights, expected):
    assert code(at(*heights, thickness_mm=5.0)) == expected


@pytest.mark.parametrize(
    ("heights", "flags"),
    [
        ((0, 4, 8, 12, 18, 24, 30), ("SPACING_VARIES",)),
        # Beyond twice the thickness a slice does not stand for what lies between: the volume is too small.
        ((0, 4, 8, 12, 19, 26, 33), ("SPACING_VARIES", "GAP")),
        ((0, 5, 10, 15, 25, 35), ("SPACING_VARIES", "GAP")),
        ((0, 7, 14, 21), ("GAP",)),
        ((0, 5, 10.2, 15.1, 20.3), ("SPACING_VARIES",)),
        ((0, 4, 8.5, 12, 30, 34), ("SPACING_VARIES", "GAP")),
        ((0, 2, 4, 6, 8), ("OVERLAP",)),
    ],
)
def test_uneven_stacks_are_flagged(heights, flags):
    thickness = 2.5 if "OVERLAP" in flags else 3.0
    series = lay_out(at(*heights, thickness_mm=thickness))
    assert series.refusal is None, series.refusal
    assert series.flags == flags


def test_steps_by_hand():
    assert missing_slices(np.array([5.0, 5.0, 10.0, 5.0])) == 2
    assert missing_slices(np.array([5.0, 5.1, 4.9, 5.0])) is None
    assert missing_slices(np.array([5.0])) is None
    assert step_flags(np.array([2.0, 2.0]), np.array([2.0, 2.0, 2.0])) == []


@pytest.mark.parametrize(
    ("changes", "flag"),
    [
        ({"thickness_mm": None}, "NO_THICKNESS"),
        ({"thickness_mm": -1.0}, "NO_THICKNESS"),
        ({"kvp": 70.0}, "KVP"),
        ({"tilt_deg": 12.0}, "TILT_TAG"),
        ({"pixel_spacing_mm": (2.0, 4.0)}, "SMALL_FIELD"),
        ({"lossy": True}, "LOSSY"),
        ({"transfer_syntax_uid": "1.2.840.10008.1.2.4.91", "pixel_bytes": None}, "LOSSY"),
    ],
)
def test_flags(changes, flag):
    series = lay_out([image(number, **changes) for number in range(4)])
    assert series.flags == (flag,)
    assert series.stack is not None
    np.testing.assert_allclose(series.stack.thickness_mm, 2.5)


def test_thickness_that_varies():
    series = lay_out([image(number, thickness_mm=2.5 - 0.5 * (number > 2)) for number in range(5)])
    assert series.flags == ("THICKNESS_VARIES",)


@pytest.mark.parametrize("tilt_deg", [-30.0, -18.5, 0.4, 0.6, 25.0])
def test_tilt_is_that_of_the_positions(tilt_deg):
    tilt = math.radians(tilt_deg)
    turned = (1.0, 0.0, 0.0, 0.0, math.cos(tilt), math.sin(tilt))
    headers = [image(number, orientation_lps=turned, tilt_deg=abs(tilt_deg), thickness_mm=2.0) for number in range(5)]
    series = lay_out(headers)
    assert series.flags == (("TILT",) if abs(tilt_deg) > 0.5 else ())
    assert series.stack is not None
    np.testing.assert_allclose(np.diff(series.stack.positions_mm), 2.5 * math.cos(tilt))


def test_positions_that_do_not_follow_the_orientation():
    turned = (1.0, 0.0, 0.0, 0.0, math.cos(1.0), math.sin(1.0))
    assert code([image(number, orientation_lps=turned) for number in range(5)]) == "BAD_IPP"


def directions():
    def turn(angles: tuple[float, float, float]) -> np.ndarray:
        a, b, c = angles
        about_z = np.array([[math.cos(a), -math.sin(a), 0], [math.sin(a), math.cos(a), 0], [0, 0, 1]])
        about_y = np.array([[math.cos(b), 0, math.sin(b)], [0, 1, 0], [-math.sin(b), 0, math.cos(b)]])
        about_x = np.array([[1, 0, 0], [0, math.cos(c), -math.sin(c)], [0, math.sin(c), math.cos(c)]])
        return about_z @ about_y @ about_x

    return st.tuples(*[st.floats(-3.1, 3.1)] * 3).map(turn)


@settings(max_examples=60, deadline=None)
@given(
    turn=directions(),
    steps=st.lists(st.floats(0.4, 9.0), min_size=2, max_size=7),
    shear=st.tuples(st.floats(-0.5, 0.5), st.floats(-0.5, 0.5)),
    spacing=st.tuples(st.floats(0.2, 4.9), st.floats(0.2, 4.9)),
    is_reversed=st.booleans(),
    seed=st.integers(0, 99),
)
def test_every_pixel_lies_where_the_standard_says(turn, steps, shear, spacing, is_reversed, seed):
    """PS3.3, equation C.7.6.2.1-1, for any orientation, tilt, spacing and order; and back again."""
    row, column, normal = turn.T
    way = normal + shear[0] * row + shear[1] * column
    way = -way if is_reversed else way
    heights = np.concatenate([[0.0], np.cumsum(steps)])
    corners = np.array([20.0, -30.0, 40.0]) + heights[:, None] * way
    headers = [
        image(number, position_lps_mm=tuple(corner.tolist()), orientation_lps=(*row.tolist(), *column.tolist()),
              pixel_spacing_mm=spacing)
        for number, corner in enumerate(corners)
    ]  # fmt: skip
    np.random.default_rng(seed).shuffle(headers)
    series = lay_out(headers)
    if series.refusal is not None:
        assert series.refusal.code == "MISSING_SLICES"
        return
    stack = series.stack
    assert stack is not None
    for index, header in enumerate(series.headers):
        points = np.array([[0.0, 0.0], [39.0, 0.0], [0.0, 63.0], [17.0, 5.0]])
        lps = header.position_lps_mm + points[:, :1] * spacing[0] * column + points[:, 1:] * spacing[1] * row
        ras = stack.to_ras(index, points)
        np.testing.assert_allclose(ras, lps * [-1, -1, 1], atol=1e-6)
        back = stack.to_slice_row_column(ras)
        np.testing.assert_allclose(back, np.insert(points, 0, index, axis=1), atol=1e-6)
    assert ("TILT" in series.flags) == (math.degrees(math.atan(math.hypot(*shear))) > 0.5)


AXES = [tuple(float(sign) if at == axis else 0.0 for at in range(3)) for axis in range(3) for sign in (1, -1)]


@pytest.mark.parametrize("is_reversed", [False, True])
def test_all_24_orientations_in_both_orders(is_reversed):
    """A point keeps its place, whatever way rows, columns and slices run."""
    count = 0
    for row in AXES:
        for column in AXES:
            if abs(np.dot(row, column)) > 0:
                continue
            normal = np.cross(row, column) * (-1 if is_reversed else 1)
            headers = [
                image(number, orientation_lps=row + column, position_lps_mm=tuple((normal * 2.5 * number).tolist()))
                for number in range(4)
            ]
            stack = lay_out(headers).stack
            assert stack is not None
            lps = 2 * 2.5 * normal + 7 * 4.0 * np.array(row) + 3 * 5.0 * np.array(column)
            found = stack.to_slice_row_column(lps * np.array([-1.0, -1.0, 1.0]))
            np.testing.assert_allclose(found[1:], [3, 7], atol=1e-9)
            np.testing.assert_allclose(stack.to_ras(round(float(found[0])), found[1:]), lps * [-1, -1, 1], atol=1e-9)
            count += 1
    assert count == 24
