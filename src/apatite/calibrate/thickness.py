"""The groups of slice thickness in which everything is reported, and an interval is fitted, apart.

Partial volume alone moves a 130-HU volume by more than most models differ, so a mean over all thicknesses hides it.
"""

from typing import Final

import numpy as np

from apatite.core.scan import SliceStack
from apatite.io.case import Case

THICKNESS_EDGES_MM: Final = (1.5, 3.5, 6.0)
THICKNESS_GROUPS: Final = ("≤ 1.5 mm", "1.5–3.5 mm", "3.5–6 mm", "> 6 mm")
"""Thin slices first. A thickness equal to an edge belongs to the thinner group."""


def thickness_group(thickness_mm: float | None) -> str:
    """The group of a slice thickness; empty where it is unknown or no length."""
    if thickness_mm is None or not thickness_mm > 0:
        return ""
    return THICKNESS_GROUPS[sum(thickness_mm > edge for edge in THICKNESS_EDGES_MM)]


def thickness_of(case: Case, stack: SliceStack) -> float:
    """The slice thickness of a case in mm: as its manifest says, else that of most of its slices.

    A NIfTI states distances only, so without a manifest the distance between slices stands in, as it does in `index`.
    """
    if case.slice_thickness_mm is not None:
        return case.slice_thickness_mm
    return round(float(np.quantile(stack.thickness_mm, 0.5, method="lower")), 2)
