"""The annotation rule, voxel by voxel."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage
from skimage import measure

from apatite.calcium.rule import (
    CALCIUM_HU,
    RULES,
    annotate_calcium,
    annotate_circles,
    count_calcium,
    drop_single_voxels,
    drop_small_islands,
)
from apatite.core.errors import DataError
from apatite.core.scan import Scan, SliceStack

SHAPE = (3, 4, 6)


@given(hnp.arrays(bool, SHAPE))
def test_single_voxels_are_the_components_of_size_one(is_calcium: np.ndarray) -> None:
    labels, _ = ndimage.label(is_calcium, structure=np.ones((3, 3, 3)))
    sizes = np.bincount(labels.ravel())
    assert np.array_equal(drop_single_voxels(is_calcium), is_calcium & (sizes[labels] >= 2))


@pytest.mark.parametrize("dtype", [np.int16, np.float32])
def test_130_counts_and_129_does_not(dtype: type) -> None:
    voxels_hu = np.zeros(SHAPE, dtype)
    voxels_hu[1, 2, 1:5] = [130, 129, 130, 131]
    is_calcium = annotate_calcium(voxels_hu, np.ones(SHAPE, bool))
    assert CALCIUM_HU == 130
    # The first is cut off from the others by the voxel of 129 HU, so it is alone and is dropped.
    assert [point.tolist() for point in np.argwhere(is_calcium)] == [[1, 2, 3], [1, 2, 4]]


def test_dense_voxels_outside_the_circles_neither_count_nor_keep_company() -> None:
    voxels_hu = np.full(SHAPE, 900, np.int16)
    is_circled = np.zeros(SHAPE, bool)
    is_circled[1, 1, 1] = True
    assert not annotate_calcium(voxels_hu, is_circled).any()
    is_circled[2, 2, 2] = True  # they share a corner
    assert annotate_calcium(voxels_hu, is_circled).sum() == 2


def test_full_neighbourhoods_do_not_overflow() -> None:
    assert drop_single_voxels(np.ones(SHAPE, bool)).all()


def scan_of(voxels_hu: np.ndarray, is_padding: np.ndarray | None = None) -> Scan:
    """Slices of 3 mm with pixels of 0.4×0.5 mm."""
    stack = SliceStack(
        shape=voxels_hu.shape,
        origins_ras_mm=np.array([[0.0, 0.0, 3.0 * k] for k in range(len(voxels_hu))]),
        column_step_ras_mm=np.array([0.5, 0.0, 0.0]),
        row_step_ras_mm=np.array([0.0, 0.4, 0.0]),
        thickness_mm=np.full(len(voxels_hu), 3.0),
    )
    return Scan(voxels_hu=voxels_hu, stack=stack, is_padding=is_padding)


@given(hnp.arrays(np.int16, SHAPE, elements=st.integers(0, 300)), hnp.arrays(bool, SHAPE))
def test_the_paper_s_rule_is_the_paper_s_annotation(voxels_hu: np.ndarray, is_circled: np.ndarray) -> None:
    counted = count_calcium(scan_of(voxels_hu), is_circled, RULES["paper"])
    assert np.array_equal(counted, annotate_calcium(voxels_hu, is_circled))
    assert np.array_equal(count_calcium(scan_of(voxels_hu), is_circled, RULES["marked"]), is_circled)


@given(hnp.arrays(bool, SHAPE))
def test_small_islands_are_the_components_of_less_than_1_mm2_in_a_slice(is_calcium: np.ndarray) -> None:
    kept = drop_small_islands(is_calcium, 0.2)
    for plane, plane_kept in zip(is_calcium, kept, strict=True):
        numbers = measure.label(plane, connectivity=2)
        sizes = np.bincount(np.asarray(numbers).ravel())
        assert np.array_equal(plane_kept, plane & (sizes[numbers] >= 5))


@given(hnp.arrays(np.int16, SHAPE, elements=st.integers(0, 300)), hnp.arrays(bool, SHAPE), st.integers(0, 200))
def test_less_at_a_higher_threshold_and_in_a_smaller_circle(
    voxels_hu: np.ndarray, is_smaller: np.ndarray, threshold_hu: int
) -> None:
    scan = scan_of(voxels_hu)
    for rule in RULES.values():
        inside, whole = (count_calcium(scan, circled, rule) for circled in (is_smaller, np.ones(SHAPE, bool)))
        assert not np.any(inside & ~whole)
        if rule.threshold_hu is not None:
            low, high = (
                count_calcium(scan, is_smaller, replace(rule, threshold_hu=hu))
                for hu in (float(threshold_hu), threshold_hu + 40.0)
            )
            assert not np.any(high & ~low)


def test_circles_keep_their_labels_and_padding_is_left_out() -> None:
    voxels_hu = np.full(SHAPE, 50, np.int16)
    voxels_hu[1, 1, 1:5] = 200
    circles = np.zeros(SHAPE, np.uint8)
    circles[1, :, :3], circles[1, :, 3:] = 1, 2
    assert annotate_circles(scan_of(voxels_hu), circles)[1, 1].tolist() == [0, 1, 1, 2, 2, 0]
    # One voxel on either side of the border: each keeps the other.
    voxels_hu[1, 1, [1, 4]] = 0
    assert annotate_circles(scan_of(voxels_hu), circles)[1, 1].tolist() == [0, 0, 1, 2, 0, 0]
    is_padding = np.zeros(SHAPE, bool)
    is_padding[1, 1, 3] = True
    assert not annotate_circles(scan_of(voxels_hu, is_padding), circles).any()


def test_marks_of_another_scan_and_voxels_that_are_no_numbers() -> None:
    with pytest.raises(ValueError, match="do not fit"):
        count_calcium(scan_of(np.zeros(SHAPE)), np.ones((3, 6, 4), bool), RULES["paper"])
    voxels_hu = np.zeros(SHAPE)
    voxels_hu[0, 0, 0] = np.nan
    with pytest.raises(DataError) as caught:
        count_calcium(scan_of(voxels_hu), np.ones(SHAPE, bool), RULES["paper"])
    assert caught.value.code == "NONFINITE"
    is_elsewhere = np.ones(SHAPE, bool)
    is_elsewhere[0, 0, 0] = False
    assert not count_calcium(scan_of(voxels_hu), is_elsewhere, RULES["paper"]).any()
