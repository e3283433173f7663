"""Burden groups: quartiles by hand, the two definitions apart, nothing shifted by one."""

import json
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from apatite.calcium.burden import BurdenCuts, assign_group, deployed_cuts, paper_cuts, quartile_cuts
from apatite.core.errors import ConfigError, DataError


def test_paper_groups_of_the_annotated_volumes_are_equal_in_size() -> None:
    volumes = np.random.default_rng(0).lognormal(4, 1.4, 208)
    cuts = paper_cuts(np.concatenate([volumes, np.zeros(27)]))
    sizes = np.bincount([cuts.assign(float(v)) for v in volumes], minlength=5)
    assert sizes.tolist() == [0, 52, 52, 52, 52]
    assert cuts.groups == (1, 2, 3, 4)
    assert cuts.assign(0.0) == 1  # the paper has no group for none
    assert "208" in cuts.source


def test_deployed_limit_is_the_larger_of_two_voxels_and_the_false_volume() -> None:
    volumes = np.array([0.0, 0.0, 3.0, 10.0, 20.0, 30.0, 40.0])
    false_mm3 = np.arange(21.0) / 4  # 95th percentile: 4.75
    cuts = deployed_cuts(volumes, false_mm3, 0.8)
    assert cuts.none_below_mm3 == pytest.approx(4.75)
    # 3 mm³ is below the limit, so it is no part of the quartiles of 10, 20, 30, 40.
    assert cuts.cuts_mm3 == pytest.approx((17.5, 25.0, 32.5))
    assert [cuts.assign(v) for v in (0.0, 4.7, 4.75, 17.5, 17.6, 25.1, 1e6)] == [0, 0, 1, 1, 2, 3, 4]
    assert deployed_cuts(volumes, np.array([]), 0.8).none_below_mm3 == 0.8
    assert deployed_cuts(volumes, np.zeros(9), 0.8).none_below_mm3 == 0.8


@given(st.lists(st.floats(0, 1e5), min_size=2, max_size=30))
def test_groups_never_fall_as_volume_grows(volumes: list[float]) -> None:
    cuts = BurdenCuts(definition="deployed", cuts_mm3=(5.0, 50.0, 500.0), none_below_mm3=2.0, source="by hand")
    groups = [cuts.assign(v) for v in sorted(volumes)]
    assert all(a <= b for a, b in pairwise(groups))
    assert set(groups) <= set(cuts.groups)


def test_json_round_trip() -> None:
    cuts = deployed_cuts(np.array([1.0, 2.0, 3.0, 4.5, 0.0]), np.array([0.1]), 0.4)
    assert BurdenCuts.from_dict(json.loads(json.dumps(cuts.to_dict(), allow_nan=False))) == cuts


@pytest.mark.parametrize("volumes", [[], [1.0, 2.0, 3.0]])
def test_too_few_volumes(volumes: list[float]) -> None:
    with pytest.raises(DataError) as caught:
        quartile_cuts(np.array(volumes))
    assert caught.value.code == "TOO_FEW_CASES"


def test_volumes_that_are_not_numbers() -> None:
    with pytest.raises(DataError) as caught:
        paper_cuts(np.array([1.0, 2.0, np.nan, 3.0, 4.0]))
    assert caught.value.code == "NONFINITE"
    with pytest.raises(DataError):
        deployed_cuts(np.array([1.0, 2.0, np.nan, 3.0, 4.0]), np.array([]), 0.5)
    for volume in (float("nan"), -1.0):
        with pytest.raises(DataError):
            assign_group(volume, (1.0, 2.0, 3.0), 0.5)


@pytest.mark.parametrize(
    ("definition", "cuts_mm3", "none_below_mm3"),
    [("deployed", (3.0, 2.0, 4.0), 1.0), ("paper", (1.0, 2.0, 3.0), 0.5), ("deployed", (1.0, 2.0, float("nan")), 0.0)],
)
def test_cuts_without_sense_are_refused(definition, cuts_mm3, none_below_mm3: float) -> None:
    with pytest.raises(ConfigError):
        BurdenCuts(definition=definition, cuts_mm3=cuts_mm3, none_below_mm3=none_below_mm3, source="")
