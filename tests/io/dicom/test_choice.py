"""The rule by which one series of a study is chosen."""

from dataclasses import replace
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest

from apatite.core.scan import SliceStack
from apatite.io.dicom.choice import Candidate, choose_series, extent_mm, rank, thickness_of
from apatite.io.dicom.header import Header
from apatite.io.dicom.series import Series


def candidate(name: str, *, kernel: str = "soft", thickness: float = 5.0, extent: float = 150.0, step: float = 0.0):
    step = step or thickness
    depth = round((extent - thickness) / step) + 1
    stack = SliceStack(
        shape=(depth, 4, 6),
        origins_ras_mm=np.arange(depth)[:, None] * np.array([0.0, 0.0, step]),
        column_step_ras_mm=np.array([-0.5, 0.0, 0.0]),
        row_step_ras_mm=np.array([0.0, -0.4, 0.0]),
        thickness_mm=np.full(depth, thickness),
    )
    header = Header(path=Path(name), series_uid=f"1.{name}")
    return Candidate(case_id=name, series=Series(headers=(header,) * depth, stack=stack), kernel_class=kernel)


def test_extent_is_from_face_to_face():
    one = candidate("a", thickness=4.0, step=7.0, extent=151.0)
    stack = one.series.stack
    assert stack is not None
    assert stack.shape[0] == 22
    assert extent_mm(stack) == pytest.approx(21 * 7 + 4)
    assert thickness_of(replace(stack, thickness_mm=np.array([4.0] * 11 + [7.0] * 11))) == 4.0


WORSE = [
    candidate("thin-whole", thickness=0.5),
    candidate("one", thickness=1.0),
    candidate("three", thickness=3.0),
    candidate("four", thickness=4.0),
    candidate("five-overlap", thickness=5.0, step=2.5),
    candidate("five", thickness=5.0),
    candidate("very-thin", thickness=0.45),
    candidate("thinner", thickness=0.3),
    candidate("unknown", kernel="", thickness=1.0),
    candidate("bone", kernel="bone", thickness=1.0),
    candidate("base-soft", extent=60.0, thickness=1.0),
    candidate("base-bone", kernel="bone", extent=60.0, thickness=1.0),
    candidate("crumb", extent=32.0, thickness=1.0),
]
"""From best to worst: coverage, then kernel, then thickness, then slices."""


def test_the_order_of_the_rule():
    backwards = list(reversed(WORSE))
    assert [one.case_id for one in sorted(backwards, key=rank)] == [one.case_id for one in WORSE]


def test_the_choice_does_not_depend_on_the_order_and_says_why():
    three = [WORSE[1], WORSE[5], WORSE[9]]
    for order in permutations(three):
        choice = choose_series(order)
        assert choice.case_id == "one"
        assert choice.why == "shows the whole head (150 mm), soft kernel, 1 mm thick, 150 slices"
        assert dict(choice.others) == {
            "five": "thickness decided: shows the whole head (150 mm), soft kernel, 5 mm thick, 30 slices",
            "bone": "kernel decided: shows the whole head (150 mm), bone kernel, 1 mm thick, 150 slices",
        }


def test_equal_series_are_told_apart_by_uid():
    assert choose_series([candidate("b"), candidate("a")]).case_id == "a"


def test_a_refused_series_is_no_candidate():
    refused = Candidate(case_id="r", series=Series(headers=(Header(path=Path("r")),), stack=None), kernel_class="")
    with pytest.raises(ValueError, match="refused"):
        choose_series([refused])
