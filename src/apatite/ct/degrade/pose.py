"""The region put beside its place, as a registration does that errs; the scan stays as it is."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from apatite.core.rng import generator
from apatite.ct.degrade.degradation import Degradation, Point


@dataclass(frozen=True, kw_only=True)
class OffCentre(Degradation):
    """The region's centre `level` mm off, in a direction drawn for each scan and kept at every level."""

    what: ClassVar[str] = "the region off its centre (error of registration)"
    unit: ClassVar[str] = "mm"
    axis: ClassVar[str] = "region off its centre"
    levels: ClassVar[tuple[float, ...]] = (2.0, 4.0, 8.0)
    limits: ClassVar[tuple[float, float]] = (0.1, 30.0)

    def centre(self, centre_ras_mm: Point, key: str, seed: int) -> Point:
        """The centre, moved."""
        direction = generator(seed, "degrade", "pose", key).standard_normal(3)
        return np.asarray(centre_ras_mm, dtype=np.float64) + self.level * direction / np.linalg.norm(direction)
