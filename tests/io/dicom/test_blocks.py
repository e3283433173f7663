"""Base and vault become one stack; two acquisitions never do."""

from pathlib import Path

import numpy as np
import pytest

from apatite.io.dicom.blocks import join_blocks
from apatite.io.dicom.header import Header
from apatite.io.dicom.series import Series, lay_out


def block(start: float, step: float, count: int, *, tilt_deg: float = 15.0, **changes) -> Series:
    """Slices of a tilted gantry: the table moves along z, whatever the tilt; `start` and `step` along the normal."""
    name = changes.pop("name", f"{start}-{step}")
    tilt = np.deg2rad(tilt_deg)
    headers = []
    for index in range(count):
        z = (start + step * index) / np.cos(tilt)
        plain = {
            "path": Path(f"{name}-{index:02d}"),
            "modality": "CT",
            "patient": "p",
            "study_uid": "1",
            "series_uid": f"1.{name}",
            "sop_uid": f"1.{name}.{index}",
            "frame_of_reference_uid": "9",
            "rows": 12,
            "columns": 20,
            "pixel_spacing_mm": (0.5, 0.4),
            "orientation_lps": (1.0, 0.0, 0.0, 0.0, float(np.cos(tilt)), float(np.sin(tilt))),
            "position_lps_mm": (-4.0, -5.0, float(z)),
            "thickness_mm": step,
            "slope": 1.0,
            "intercept": -1024.0,
            "bits_allocated": 16,
            "bits_stored": 12,
            "high_bit": 11,
            "photometric": "MONOCHROME2",
            "pixel_bytes": 480,
            "transfer_syntax_uid": "1.2.840.10008.1.2.1",
            "kernel": "H30s",
        }
        headers.append(Header(**(plain | changes)))
    series = lay_out(headers)
    assert series.refusal is None, series.refusal
    return series


def positions(series: Series) -> list[float]:
    assert series.stack is not None
    return [round(value, 3) for value in (series.stack.positions_mm - series.stack.positions_mm[0]).tolist()]


def test_base_and_vault_are_one_stack_in_either_order():
    base, vault = block(0, 4, 5), block(21, 7, 4)
    for order in ([base, vault], [vault, base]):
        (joined,) = join_blocks(order)
        assert positions(joined) == [0, 4, 8, 12, 16, 21, 28, 35, 42]
        assert joined.stack is not None
        assert joined.stack.thickness_mm.tolist() == [4.0] * 5 + [7.0] * 4
        assert [header.path for header in joined.headers] == [header.path for header in base.headers + vault.headers]
        assert {"TILT", "SPACING_VARIES", "THICKNESS_VARIES"} <= set(joined.flags)
        assert joined.left_out == ()


def test_what_the_base_shows_already_is_left_out():
    base, vault = block(0, 4, 5), block(16, 7, 4)
    (joined,) = join_blocks([vault, base])
    assert positions(joined) == [0, 4, 8, 12, 16, 23, 30, 37]
    assert [(left.path, left.code) for left in joined.left_out] == [(Path("16-7-00"), "NOT_BEST")]
    every = [header.path for header in joined.headers] + [left.path for left in joined.left_out]
    assert sorted(every) == sorted(header.path for part in (base, vault) for header in part.headers)


def test_three_blocks():
    parts = [block(0, 2, 6), block(12, 4, 5), block(34, 8, 4)]
    (joined,) = join_blocks([parts[1], parts[2], parts[0]])
    assert positions(joined) == [0, 2, 4, 6, 8, 10, 12, 16, 20, 24, 28, 34, 42, 50, 58]


@pytest.mark.parametrize(
    ("start", "is_joined"), [(12.0, True), (11.0, False), (16.0, True), (21.0, True), (26.4, True), (26.6, False)]
)
def test_how_far_apart_and_how_much_overlap(start, is_joined):
    """The base ends at 16 mm; one slice of 4 mm may overlap, and 1.5 steps of 7 mm may be missing."""
    assert len(join_blocks([block(0, 4, 5), block(start, 7, 4)])) == (1 if is_joined else 2)


@pytest.mark.parametrize(
    "changes",
    [
        {"kernel": "H60s"},
        {"frame_of_reference_uid": "8"},
        {"frame_of_reference_uid": ""},
        {"patient": "q"},
        {"study_uid": "2"},
        {"rows": 16},
        {"pixel_spacing_mm": (0.5, 0.45)},
        {"tilt_deg": 14.0},
        {"kvp": 140.0},
    ],
)
def test_anything_that_differs_keeps_them_apart(changes):
    parts = [block(0, 4, 5), block(21, 7, 4, **changes)]
    assert join_blocks(parts) == parts


def test_a_second_acquisition_is_not_matched_by_guess():
    parts = [block(0, 4, 5), block(21, 7, 4), block(21, 7, 4, name="again")]
    assert join_blocks(parts) == parts
    parts = [block(0, 4, 5), block(0, 4, 5, name="again"), block(21, 7, 4)]
    assert join_blocks(parts) == parts


def test_the_same_place_twice_is_not_a_continuation():
    parts = [block(0, 4, 5), block(0, 5, 5)]
    assert join_blocks(parts) == parts
    assert join_blocks([]) == []


def test_a_hole_between_even_blocks_stays_a_hole():
    """Equal steps with 1.5 between: as one series it would be refused for missing slices, so it is not made one."""
    parts = [block(0, 4, 5), block(22, 4, 5)]
    assert join_blocks(parts) == parts
    (joined,) = join_blocks([block(0, 4, 5), block(20, 4, 5)])
    assert positions(joined) == [4.0 * index for index in range(10)]
