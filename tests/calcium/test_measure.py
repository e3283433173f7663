"""Volumes by hand for every kind of stack, and of spheres against 4/3·π·r³."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from apatite.calcium.measure import slice_weights_mm, volume_mm3
from apatite.core.scan import SliceStack


def a_stack(
    positions: list[float], thickness: float | list[float], pixels: tuple[int, int] = (7, 9), tilt_deg: float = 0.0
) -> SliceStack:
    """Slices at positions along the table; 0.5 mm columns, 0.4 mm rows."""
    tilt = np.deg2rad(tilt_deg)
    count = len(positions)
    return SliceStack(
        shape=(count, *pixels),
        origins_ras_mm=np.array([[0.0, 0.0, z] for z in positions]),
        column_step_ras_mm=np.array([0.5, 0.0, 0.0]),
        row_step_ras_mm=0.4 * np.array([0.0, np.cos(tilt), np.sin(tilt)]),
        thickness_mm=np.broadcast_to(np.asarray(thickness, dtype=float), count).copy(),
    )


@pytest.mark.parametrize(
    ("positions", "thickness", "weights"),
    [
        ([0, 3, 6, 9], 3.0, [3, 3, 3, 3]),
        ([0, 2, 4, 6], 4.0, [3, 2, 2, 3]),  # overlap: inner slices stand for their distance, not their thickness
        ([0, 5, 10, 15], 4.0, [4.5, 5, 5, 4.5]),  # small gaps: not more than twice the thickness
        ([0, 30, 60], 4.0, [8, 8, 8]),  # large gaps are not filled
        ([0, 4, 8, 16, 24], [4, 4, 8, 8, 8], [4, 4, 6, 8, 8]),  # 4 mm base, 8 mm vault
        ([0, 1.5, 7], 2.0, [1.75, 3.5, 3.75]),  # uneven
        ([5], 6.0, [6]),
    ],
)
def test_weights_by_hand(positions: list[float], thickness, weights: list[float]) -> None:
    assert slice_weights_mm(a_stack(positions, thickness)) == pytest.approx(weights)


def test_two_blocks_end_where_they_end() -> None:
    # The whole of a stack without gaps is its length plus half a thickness at each end.
    stack = a_stack([0, 4, 8, 16, 24], [4, 4, 8, 8, 8])
    assert slice_weights_mm(stack).sum() == pytest.approx(24 + 2 + 4)


def test_tilt_counts_the_distance_along_the_normal() -> None:
    upright, tilted = a_stack([0, 4.22, 8.44], 4.0), a_stack([0, 4.22, 8.44], 4.0, tilt_deg=18.5)
    is_calcium = np.ones(tilted.shape, bool)
    assert slice_weights_mm(tilted)[1] == pytest.approx(4.22 * np.cos(np.deg2rad(18.5)))  # 4.00
    assert tilted.pixel_mm2 == pytest.approx(0.2)
    assert volume_mm3(is_calcium, tilted) < volume_mm3(is_calcium, upright)


@given(st.integers(0, 2**31))
def test_volume_is_the_sum_over_slices(seed: int) -> None:
    rng = np.random.default_rng(seed)
    stack = a_stack(np.cumsum(rng.uniform(0.5, 8, 5)).tolist(), rng.uniform(0.5, 8, 5).tolist())
    is_calcium = rng.random(stack.shape) < 0.3
    by_hand = sum(slice_weights_mm(stack)[k] * 0.5 * 0.4 * int(is_calcium[k].sum()) for k in range(5))
    assert volume_mm3(is_calcium, stack) == pytest.approx(by_hand, rel=1e-12)
    assert volume_mm3(is_calcium.astype(np.uint8), stack) == volume_mm3(is_calcium, stack)
    assert volume_mm3(is_calcium * 0.5, stack) == pytest.approx(by_hand / 2, rel=1e-12)


@pytest.mark.parametrize("tilt_deg", [0.0, 20.0])
@pytest.mark.parametrize(("spacing", "thickness"), [(1.0, 1.0), (1.0, 2.0), (0.7, 1.5)])
def test_a_sphere_has_its_volume_however_it_is_sliced(tilt_deg: float, spacing: float, thickness: float) -> None:
    radius_mm, count = 9.0, int(30 / spacing)
    stack = a_stack([spacing * k for k in range(count)], thickness, (100, 90), tilt_deg)
    row_column = np.stack(np.meshgrid(np.arange(100.0), np.arange(90.0), indexing="ij"), axis=-1)
    points = np.stack([stack.to_ras(k, row_column) for k in range(count)])
    centre = points.reshape(-1, 3).mean(axis=0) + np.array([0.13, -0.21, 0.37])
    is_inside = np.linalg.norm(points - centre, axis=-1) <= radius_mm
    assert not is_inside[[0, -1]].any()
    assert volume_mm3(is_inside, stack) == pytest.approx(4 / 3 * np.pi * radius_mm**3, rel=0.01)


def test_half_the_spacing_is_not_twice_the_volume() -> None:
    # A 3 mm reconstruction every 1.5 mm covers the same patient as one every 3 mm.
    coarse, fine = a_stack([0, 3, 6, 9], 3.0), a_stack([1.5 * k for k in range(7)], 3.0)
    assert volume_mm3(np.ones(coarse.shape, bool), coarse) == pytest.approx(volume_mm3(np.ones(fine.shape, bool), fine))


def test_pixels_of_another_scan_are_refused() -> None:
    with pytest.raises(ValueError, match="do not fit"):
        volume_mm3(np.ones((3, 9, 7), bool), a_stack([0, 3, 6], 3.0))


def test_sums_are_exact_for_many_voxels() -> None:
    stack = a_stack([0.0, 1.0], 1.0, (2000, 2100))
    assert volume_mm3(np.ones(stack.shape, np.float32), stack) == pytest.approx(2 * 2000 * 2100 * 0.2, rel=1e-12)
