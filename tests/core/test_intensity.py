"""Images without Hounsfield units are measured against themselves."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from apatite.core.errors import DataError
from apatite.core.intensity import STEPS_PER_DEVIATION, in_intensity
from apatite.core.scan import PADDING_HU, Scan, SliceStack


def scan_of(voxels: np.ndarray) -> Scan:
    slices = voxels.shape[0]
    stack = SliceStack(
        shape=(slices, voxels.shape[1], voxels.shape[2]),
        origins_ras_mm=np.arange(slices)[:, None] * np.array([0.0, 0.0, 2.0]),
        column_step_ras_mm=np.array([1.0, 0.0, 0.0]),
        row_step_ras_mm=np.array([0.0, 1.0, 0.0]),
        thickness_mm=np.full(slices, 2.0),
    )
    return Scan(voxels_hu=voxels, stack=stack)


def test_hu_are_left_alone():
    scan = scan_of(np.arange(24, dtype=np.int16).reshape(2, 3, 4))
    assert in_intensity(scan, "hu") is scan


def test_by_hand():
    """Of 2, 4, 4, 4, 5, 5, 7, 9 the mean is 5 and the deviation 2; zeros do not count, and are mapped like the rest."""
    voxels = np.array([2, 4, 4, 4, 5, 5, 7, 9, 0, 0, 0, 0], dtype=np.int16).reshape(2, 2, 3)
    found = in_intensity(scan_of(voxels), "zscore").voxels_hu
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, ((voxels - 5) / 2 * 256).astype(np.float32))
    assert found[1, 1, 2] == -640


def test_what_is_darker_than_four_deviations_is_nothing():
    voxels = np.full((1, 20, 30), 100.0, dtype=np.float32)
    voxels[0, :10] = 102.0
    voxels[0, 0, 0] = -50.0
    found = in_intensity(scan_of(voxels), "zscore").voxels_hu
    assert found[0, 0, 0] == PADDING_HU
    assert found.min() == PADDING_HU
    assert PADDING_HU == -4 * STEPS_PER_DEVIATION


@given(gain=st.floats(0.1, 50.0), seed=st.integers(0, 99))
def test_the_scanners_gain_does_not_count(gain: float, seed: int):
    voxels = np.random.default_rng(seed).gamma(4.0, 20.0, (3, 4, 5)).astype(np.float32)
    plain, louder = (in_intensity(scan_of(v), "zscore").voxels_hu for v in (voxels, (gain * voxels).astype(np.float32)))
    np.testing.assert_allclose(louder, plain, atol=0.05)


@pytest.mark.parametrize("value", [0, 7])
def test_an_image_of_one_value_is_refused(value):
    with pytest.raises(DataError, match="c1: holds one value only") as caught:
        in_intensity(scan_of(np.full((2, 3, 4), value, dtype=np.int16)), "zscore", "c1")
    assert caught.value.code == "FLAT"
