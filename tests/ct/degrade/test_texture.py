"""Noise, kernel and offset: totals as by hand, SciPy as the oracle, padding left alone."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from apatite.calcium.measure import volume_mm3
from apatite.core.errors import ConfigError
from apatite.core.scan import PADDING_HU, Scan, SliceStack
from apatite.ct.degrade.degradation import degrade
from apatite.ct.degrade.pose import OffCentre
from apatite.ct.degrade.registry import DEGRADATIONS, parse_ladder, parse_ladders
from apatite.ct.degrade.texture import DETAIL_MM, Blur, Noise, Offset, Sharpen

SHAPE = (4, 40, 50)


def a_scan(voxels=None, is_padding=None) -> Scan:
    """Rows of 0.5 mm, columns of 0.8 mm."""
    stack = SliceStack(
        shape=SHAPE,
        origins_ras_mm=np.arange(4.0)[:, None] * np.array([0.0, 0.0, 2.0]),
        column_step_ras_mm=np.array([0.8, 0.0, 0.0]),
        row_step_ras_mm=np.array([0.0, 0.5, 0.0]),
        thickness_mm=np.full(4, 2.0),
    )
    voxels = np.full(SHAPE, 40, np.int16) if voxels is None else voxels
    return Scan(voxels_hu=voxels, stack=stack, is_padding=is_padding)


@pytest.mark.parametrize("grain_mm", [0.0, 0.45, 1.5])
def test_added_noise_has_its_standard_deviation_and_adds_in_squares(grain_mm):
    own = np.random.default_rng(1).normal(0, 6, SHAPE).astype(np.float32)
    noisy = degrade(a_scan(own), Noise(level=8.0, grain_mm=grain_mm), "case")
    added = noisy.voxels_hu - own
    assert added.std() == pytest.approx(8.0, rel=1e-4)
    assert noisy.voxels_hu.std() == pytest.approx(np.hypot(6, 8), rel=0.03)
    # The grain: neighbours 2 columns (1.6 mm) and 2 rows (1 mm) away are alike with a coarse grain only.
    apart = np.corrcoef(added[:, :-2].ravel(), added[:, 2:].ravel())[0, 1]
    assert apart == pytest.approx(np.exp(-((1.0 / max(grain_mm, 1e-3)) ** 2) / 4), abs=0.08)


def test_noise_is_a_function_of_seed_and_case_and_grows_with_the_level():
    scan = a_scan()
    five, ten = (degrade(scan, Noise(level=level), "case").voxels_hu - 40 for level in (5.0, 10.0))
    assert ten == pytest.approx(2 * five, abs=1e-3)
    assert np.array_equal(degrade(scan, Noise(level=5.0), "case").voxels_hu, five + 40)
    assert not np.array_equal(degrade(scan, Noise(level=5.0), "other").voxels_hu, five + 40)
    assert not np.array_equal(degrade(scan, Noise(level=5.0), "case", seed=1).voxels_hu, five + 40)


def test_a_blur_is_in_millimetres_and_within_the_slice():
    voxels = np.zeros(SHAPE, np.float32)
    voxels[1, 20, 25] = 1000
    soft = degrade(a_scan(voxels), Blur(level=1.0), "k").voxels_hu
    expected = ndimage.gaussian_filter(voxels[1], (1.0 / 0.5, 1.0 / 0.8))
    assert soft[1] == pytest.approx(expected, abs=1e-3)
    assert not soft[[0, 2, 3]].any()
    sharp = degrade(a_scan(voxels), Sharpen(level=0.5), "k").voxels_hu
    blurred = ndimage.gaussian_filter(voxels[1], (DETAIL_MM / 0.5, DETAIL_MM / 0.8))
    assert sharp[1] == pytest.approx(voxels[1] + 0.5 * (voxels[1] - blurred), abs=1e-3)


@pytest.mark.parametrize("degradation", [Blur(level=0.8), Sharpen(level=1.0), Noise(level=5.0), Offset(level=10.0)])
def test_padding_stays_and_does_not_leak(degradation):
    voxels = np.full(SHAPE, 40, np.int16)
    is_padding = np.zeros(SHAPE, dtype=bool)
    is_padding[:, :9, :13] = True
    voxels[is_padding] = -1024
    made = degrade(a_scan(voxels, is_padding), degradation, "k")
    assert np.array_equal(made.is_padding, is_padding)
    assert (made.voxels_hu[is_padding] == PADDING_HU).all()
    offset = degradation.level if isinstance(degradation, Offset) else 0
    tolerance = 25 if isinstance(degradation, Noise) else 1e-3
    assert made.voxels_hu[~is_padding] == pytest.approx(40 + offset, abs=tolerance)


def test_an_offset_shifts_the_volume_above_130_hu_as_by_hand():
    voxels = np.full(SHAPE, 40, np.int16)
    voxels[1, 10:13, 20:24] = 125
    voxels[2, 10:12, 20:25] = 140
    scan = a_scan(voxels)

    def volume(level):
        made = scan if level == 0 else degrade(scan, Offset(level=level), "k")
        return volume_mm3(made.voxels_hu >= 130, made.stack)

    # A pixel is 0.4 mm², a slice 2 mm: 12 and 10 pixels.
    assert volume(0) == pytest.approx(10 * 0.8)
    assert volume(10.0) == pytest.approx(22 * 0.8)
    assert volume(-11.0) == 0


@given(st.floats(0.1, 30), st.text(min_size=1, max_size=8))
def test_a_region_off_its_centre_is_so_many_millimetres_off_always_the_same_way(level, key):
    centre = np.array([3.0, -4.0, 50.0])
    moved = OffCentre(level=level).centre(centre, key, 0)
    assert np.linalg.norm(moved - centre) == pytest.approx(level)
    twice = OffCentre(level=level / 2 + 0.05).centre(centre, key, 0)
    cosine = (moved - centre) @ (twice - centre) / np.linalg.norm(moved - centre) / np.linalg.norm(twice - centre)
    assert cosine == pytest.approx(1)


def test_every_way_has_levels_that_make_sense():
    for name, kind in DEGRADATIONS.items():
        found, ladder = parse_ladder(name, DEGRADATIONS)
        assert found == name
        assert [step.level for step in ladder] == sorted(kind.levels) != []
        assert kind.what
        assert kind.axis != "level"
        assert kind.is_two_sided == any(level < 0 for level in kind.levels)


def test_levels_of_ones_own():
    ladders = parse_ladders(["noise=10,2.5", "offset=-5,5"], DEGRADATIONS)
    assert {name: [step.level for step in ladder] for name, ladder in ladders.items()} == {
        "noise": [2.5, 10.0],
        "offset": [-5.0, 5.0],
    }
    assert ladders["offset"][0].text == "−5"


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["nosie"], "nosie"),
        (["noise=loud"], "no levels"),
        (["noise="], "no levels"),
        (["noise=5,5"], "twice"),
        (["noise", "noise=4"], "given twice"),
        (["noise=-5"], "no degradation"),
        (["offset=0"], "no degradation"),
        (["blur=80"], "no degradation"),
        (["pose=nan"], "no degradation"),
        (["sharpen=inf"], "no degradation"),
    ],
)
def test_what_makes_no_sense_is_refused(texts, message):
    with pytest.raises(ConfigError, match=message):
        parse_ladders(texts, DEGRADATIONS)


def test_a_grain_without_sense_is_refused():
    with pytest.raises(ConfigError):
        Noise(level=5.0, grain_mm=9.0)
