"""The annotation rule, voxel by voxel."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis.extra import numpy as hnp
from scipy import ndimage

from apatite.calcium.rule import CALCIUM_HU, annotate_calcium, drop_single_voxels

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
