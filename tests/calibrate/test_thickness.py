"""Groups of slice thickness, and what a case's thickness is."""

import math

import numpy as np

from apatite.calibrate.thickness import THICKNESS_EDGES_MM, THICKNESS_GROUPS, thickness_group, thickness_of
from apatite.core.scan import SliceStack
from apatite.io.case import Case

THIN, MIDDLE, THICK, _ = THICKNESS_GROUPS


def test_a_thickness_on_an_edge_is_thinner_and_nonsense_is_unknown():
    assert [thickness_group(edge) for edge in THICKNESS_EDGES_MM] == [THIN, MIDDLE, THICK]
    assert [thickness_group(value) for value in (0.6, 1.51, 3.6, 6.01)] == list(THICKNESS_GROUPS)
    assert {thickness_group(value) for value in (None, 0.0, -1.0, math.nan)} == {""}


def test_the_manifest_counts_then_most_of_the_slices():
    stack = SliceStack(
        shape=(5, 3, 4),
        origins_ras_mm=np.arange(5)[:, None] * np.array([0.0, 0.0, 4.0]),
        column_step_ras_mm=np.array([0.5, 0.0, 0.0]),
        row_step_ras_mm=np.array([0.0, 0.5, 0.0]),
        thickness_mm=np.array([4.0, 4.0001, 4.0, 8.0, 8.0]),
    )
    case = Case(case_id="a", patient_id="a", image="a.nii.gz", slice_thickness_mm=2.0)
    assert thickness_of(case, stack) == 2.0
    unstated = Case(case_id="a", patient_id="a", image="a.nii.gz")
    assert thickness_of(unstated, stack) == 4.0
