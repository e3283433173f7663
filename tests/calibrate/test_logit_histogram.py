"""The histogram keeps what counts: volumes exactly, logits to within a bin; patients weigh alike."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apatite.calibrate.logit_histogram import (
    CENTRES,
    MAX_LOGIT,
    NUM_BINS,
    could_be_label,
    lesion_band,
    logit_histogram,
    logit_of,
    pool,
)
from apatite.core.errors import DataError


@settings(max_examples=30)
@given(st.integers(0, 2**31), st.sampled_from(["float32", "float64"]))
def test_nothing_is_lost(seed: int, dtype: str) -> None:
    rng = np.random.default_rng(seed)
    probability = rng.beta(0.2, 0.3, 257).astype(dtype)
    probability[:3] = (0, 1, 0.5)
    is_reference, voxel_mm3 = rng.random(257) < 0.3, rng.uniform(0.1, 4, 257)
    found = logit_histogram(probability, is_reference, voxel_mm3)
    logits = logit_of(probability)
    for row, is_class in enumerate((~is_reference, is_reference)):
        assert found.weight_mm3[row].sum() == pytest.approx(voxel_mm3[is_class].sum())
        moment = (found.weight_mm3[row] * found.logit[row]).sum()
        assert moment == pytest.approx((voxel_mm3 * logits)[is_class].sum(), abs=1e-6)
    assert np.all(np.abs(found.logit - CENTRES) <= MAX_LOGIT / NUM_BINS + 1e-9)
    assert found.num_voxels == 257


def test_zero_and_one_are_finite_and_the_rest_is_a_logit() -> None:
    logits = logit_of(np.array([0.0, 1.0, 0.5, 0.8]))
    assert logits == pytest.approx([-MAX_LOGIT, MAX_LOGIT, 0.0, np.log(4)])
    with pytest.raises(DataError) as caught:
        logit_histogram(np.array([0.1, np.nan]), np.array([True, False]), np.ones(2))
    assert caught.value.code == "NONFINITE"


def test_the_band_by_hand() -> None:
    shape = (3, 6, 9)
    probability, voxels_hu = np.zeros(shape), np.full(shape, 30)
    is_reference, is_counted = np.zeros(shape, bool), np.ones(shape, bool)
    is_reference[0, 1, 1] = True
    voxels_hu[2, 5, 8] = 100
    voxels_hu[2, 5, 7] = 99
    probability[2, 0, 8] = 0.01
    probability[2, 0, 7] = 0.009
    is_counted[0, 0, 0] = False
    expected = np.zeros(shape, bool)
    expected[0:3, 0:4, 0:4] = True  # two voxels around the reference, cut off at the border
    expected[0, 0, 0] = False
    expected[2, 5, 8] = expected[2, 0, 8] = True
    np.testing.assert_array_equal(lesion_band(probability, is_reference, is_counted, voxels_hu), expected)
    expected[2, 5, 8] = False  # no HU tells an organ
    np.testing.assert_array_equal(lesion_band(probability, is_reference, is_counted, None), expected)
    assert np.argwhere(could_be_label(probability, voxels_hu)).tolist() == [[2, 0, 8], [2, 5, 8]]
    assert not lesion_band(probability * 0, is_reference & False, is_counted, None).any()


def test_every_patient_weighs_alike_and_empty_cases_not_at_all() -> None:
    def of(weight: float):
        return logit_histogram(np.array([0.2, 0.9]), np.array([False, True]), np.array([weight, 3 * weight]))

    nothing = logit_histogram(np.zeros(0), np.zeros(0, bool), np.zeros(0))
    pooled = pool([of(1.0), nothing, of(50.0), of(3.0)], ["a", "b", "c", "a"])
    assert (pooled.patients, pooled.rows.tolist(), pooled.num_patients) == (["a", "c", "a"], [0, 2, 3], 2)
    assert pooled.weight.sum(axis=(1, 2)) == pytest.approx([0.25, 1.0, 0.75])
    assert pooled.weight[1].sum(axis=1) == pytest.approx([0.25, 0.75])
    assert pool([nothing], ["b"]).num_patients == 0
    with pytest.raises(ValueError, match="1 histograms for 2 patients"):
        pool([nothing], ["a", "b"])
