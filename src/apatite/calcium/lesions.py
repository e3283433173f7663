"""Connected calcium: lesions of a whole scan, islands of one slice.

A lesion is a 26-connected component, an island an 8-connected one within its slice. Neighbours are neighbours by index,
as in the paper's code and in scoring tools: a tilted gantry shifts one slice against the next, which is not undone.

Source: Jin et al. 2025 (arXiv 2507.01744) for lesions; Agatston et al. 1990 for islands.
"""

from typing import cast

import numpy as np
from jaxtyping import Bool, Float, Integer
from scipy import ndimage

from apatite.calcium.measure import slice_weights_mm
from apatite.core.scan import SliceStack

IsMarked = Bool[np.ndarray, "slices rows columns"]
Numbers = Integer[np.ndarray, "slices rows columns"]

_ALL_26 = np.ones((3, 3, 3), dtype=bool)
_IN_SLICE = np.zeros((3, 3, 3), dtype=bool)
_IN_SLICE[1] = True


def label_lesions(is_calcium: IsMarked) -> tuple[Numbers, int]:
    """Number the lesions from 1; 0 is no calcium. Returns also how many there are."""
    numbers, count = cast(tuple[np.ndarray, int], ndimage.label(is_calcium, structure=_ALL_26))
    return numbers, int(count)


def label_islands(is_calcium: IsMarked) -> tuple[Numbers, int]:
    """Number the islands of all slices from 1; 0 is no calcium. Returns also how many there are."""
    numbers, count = cast(tuple[np.ndarray, int], ndimage.label(is_calcium, structure=_IN_SLICE))
    return numbers, int(count)


def lesion_volumes_mm3(numbers: Numbers, count: int, stack: SliceStack) -> Float[np.ndarray, "lesions"]:
    """Volume of each numbered lesion, with the weight of every slice as `measure.volume_mm3` has it."""
    weights_mm = slice_weights_mm(stack)
    volumes = np.zeros(count)
    for plane, weight_mm in zip(numbers, weights_mm, strict=True):
        volumes += np.bincount(plane[plane > 0] - 1, minlength=count) * weight_mm
    return volumes * stack.pixel_mm2
