"""HD95 as printed elsewhere, against its definition over all pairs of border voxels."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cdist

from apatite.metrics.published_hd95 import published_hd95_voxels


def border(is_marked: np.ndarray) -> np.ndarray:
    """Marked voxels that have a neighbour by a face which is not; none is beyond the volume."""
    padded = np.pad(is_marked, 1)
    is_inner = padded.copy()
    for axis in range(3):
        for way in (-1, 1):
            is_inner &= np.roll(padded, way, axis=axis)
    return np.argwhere((padded & ~is_inner)[1:-1, 1:-1, 1:-1])


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**31), st.sampled_from([0.02, 0.3, 0.8]))
def test_both_directions_are_pooled_over_border_voxels(seed: int, density: float) -> None:
    rng = np.random.default_rng(seed)
    a, b = (rng.random((5, 7, 9)) < density for _ in range(2))
    a[1, 2, 3] = b[4, 0, 8] = True
    distances = cdist(border(a), border(b))
    expected = np.percentile(np.concatenate([distances.min(axis=1), distances.min(axis=0)]), 95)
    assert published_hd95_voxels(a, b) == pytest.approx(expected)
    assert published_hd95_voxels(b, a) == pytest.approx(expected)


def test_a_shift_is_counted_in_voxels() -> None:
    a, b = np.zeros((6, 8, 12), bool), np.zeros((6, 8, 12), bool)
    a[1:4, 2:6, 1:5] = True
    b[1:4, 2:6, 4:8] = True
    assert published_hd95_voxels(a, b) == 3.0


def test_nothing_found_is_as_good_as_it_gets() -> None:
    a = np.zeros((3, 4, 5), bool)
    assert published_hd95_voxels(a, a) == published_hd95_voxels(a, ~a) == published_hd95_voxels(~a, a) == 0.0
