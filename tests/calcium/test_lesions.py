"""Components against scikit-image, volumes against counting."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis.extra import numpy as hnp
from skimage import measure as skimage_measure

from apatite.calcium.lesions import label_islands, label_lesions, lesion_volumes_mm3
from apatite.calcium.measure import volume_mm3

SHAPE = (3, 4, 6)


@given(hnp.arrays(bool, SHAPE))
def test_lesions_are_those_of_scikit_image(is_calcium):
    numbers, count = label_lesions(is_calcium)
    theirs, their_count = skimage_measure.label(is_calcium, connectivity=3, return_num=True)
    assert count == their_count
    assert len(set(zip(numbers.ravel(), theirs.ravel(), strict=True))) == count + int((~is_calcium).any())
    assert np.array_equal(numbers > 0, is_calcium)


@given(hnp.arrays(bool, SHAPE))
def test_islands_are_those_of_scikit_image_slice_by_slice(is_calcium):
    numbers, count = label_islands(is_calcium)
    assert count == sum(skimage_measure.label(plane, connectivity=2, return_num=True)[1] for plane in is_calcium)
    assert np.array_equal(numbers > 0, is_calcium)


@given(hnp.arrays(bool, SHAPE))
def test_volumes_of_lesions_add_up(make_stack, is_calcium):
    stack = make_stack([0, 2, 7], [2.0, 3.0, 4.0], pixels=SHAPE[1:])
    numbers, count = label_lesions(is_calcium)
    volumes = lesion_volumes_mm3(numbers, count, stack)
    assert volumes.sum() == pytest.approx(volume_mm3(is_calcium, stack))
    for number in range(1, count + 1):
        assert volumes[number - 1] == pytest.approx(volume_mm3(numbers == number, stack))
