"""Group sets against every volume of the interval, tried one by one."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from apatite.calcium.burden import BurdenCuts
from apatite.calibrate.groups import group_set, group_words, judge_sets

CUTS = BurdenCuts(definition="deployed", cuts_mm3=(10.0, 20.0, 40.0), none_below_mm3=2.0, source="by hand")


def test_by_hand():
    assert group_set(0.0, 1.9, CUTS) == (0,)
    assert group_set(0.0, 2.0, CUTS) == (0, 1)
    assert group_set(10.0, 10.1, CUTS) == (1, 2)
    assert group_set(20.5, 39.0, CUTS) == (3,)
    assert group_set(15.0, math.inf, CUTS) == (2, 3, 4)
    assert group_set(0.0, math.inf, CUTS) == (0, 1, 2, 3, 4)
    assert [group_words(groups) for groups in ((2,), (2, 3, 4))] == ["2", "2 3 4"]
    with pytest.raises(ValueError, match="is no interval"):
        group_set(3.0, 2.0, CUTS)


@given(st.floats(0, 60), st.floats(0, 60), st.floats(0, 1))
def test_the_group_of_every_volume_inside_is_in_the_set_and_its_ends_are_needed(one, other, share):
    low, high = sorted((one, other))
    groups = group_set(low, high, CUTS)
    assert CUTS.assign(min(high, low + share * (high - low))) in groups
    assert {groups[0], groups[-1]} == {CUTS.assign(low), CUTS.assign(high)}


def test_quality_by_hand():
    found = judge_sets([(2,), (1, 2), (0,), (3, 4)], [15.0, 25.0, 0.0, 100.0], CUTS)
    assert found.coverage.value == 0.75
    assert found.singleton_rate.value == 0.5
    assert (found.num_cases, found.mean_size) == (4, 1.5)
    # Clopper and Pearson for 3 of 4, from tables: 0.194 to 0.994.
    assert (found.coverage.low, found.coverage.high) == (
        pytest.approx(0.1941, abs=1e-4),
        pytest.approx(0.9937, abs=1e-4),
    )
    with pytest.raises(ValueError, match="0 sets"):
        judge_sets([], [], CUTS)


def test_sets_cover_when_intervals_do():
    rng = np.random.default_rng(5)
    reference = rng.lognormal(2.5, 1.2, 300)
    low, high = reference * rng.uniform(0.3, 1.05, 300), reference * rng.uniform(0.95, 3, 300)
    sets = [group_set(min(a, b), max(a, b), CUTS) for a, b in zip(low.tolist(), high.tolist(), strict=True)]
    share_of_intervals = np.mean((low <= reference) & (reference <= high))
    assert judge_sets(sets, reference.tolist(), CUTS).coverage.value >= share_of_intervals
