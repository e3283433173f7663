"""Slices of unequal edges for the arithmetic of calcium."""

from collections.abc import Callable, Sequence

import numpy as np
import pytest

from apatite.core.scan import SliceStack


@pytest.fixture(scope="session")
def make_stack() -> Callable[..., SliceStack]:
    """Slices at positions along the table; by default 7 rows of 0.4 mm, 9 columns of 0.5 mm, so a pixel is 0.2 mm²."""

    def make(
        positions: Sequence[float],
        thickness: float | Sequence[float] = 3.0,
        *,
        pixels: tuple[int, int] = (7, 9),
        pixel_mm: tuple[float, float] = (0.4, 0.5),
        tilt_deg: float = 0.0,
    ) -> SliceStack:
        tilt = np.deg2rad(tilt_deg)
        return SliceStack(
            shape=(len(positions), *pixels),
            origins_ras_mm=np.array([[0.0, 0.0, float(z)] for z in positions]),
            column_step_ras_mm=np.array([pixel_mm[1], 0.0, 0.0]),
            row_step_ras_mm=pixel_mm[0] * np.array([0.0, np.cos(tilt), np.sin(tilt)]),
            thickness_mm=np.broadcast_to(np.asarray(thickness, dtype=float), len(positions)).copy(),
        )

    return make
