"""Coverage by hand; its interval against statsmodels."""

import numpy as np
import pytest
from statsmodels.stats.proportion import proportion_confint

from apatite.study.coverage import interval_coverages


def test_by_hand(make_outcome):
    def case(name, low, high, thickness_mm, **changes):
        return make_outcome(name, 6, 2, 4, low_mm3=low, high_mm3=high, slice_thickness_mm=thickness_mm, **changes)

    # The reference of each is 5 mm³.
    rows = [
        case("a", 1.0, 9.0, 1.0),
        case("b", 5.0, 7.0, 1.2),
        case("c", 0.0, 4.9, 1.5),
        case("d", 5.1, 9.0, 5.0, patient_id="patient of a"),
        case("e", None, None, 8.0),
        case("f", None, None, None),
    ]
    found = interval_coverages(rows)
    assert [(c.group, c.num_cases, c.num_patients, c.num_without) for c in found] == [
        ("all", 4, 3, 2), ("≤ 1.5 mm", 3, 3, 0), ("3.5–6 mm", 1, 1, 0), ("> 6 mm", 0, 0, 1),
    ]  # fmt: skip
    assert [c.coverage.value for c in found[:3]] == pytest.approx([0.5, 2 / 3, 0.0])
    for cover, (hits, cases) in zip(found, ((2, 4), (2, 3), (0, 1)), strict=False):
        low, high = proportion_confint(hits, cases, 0.05, method="beta")
        assert (cover.coverage.low, cover.coverage.high) == pytest.approx(
            (np.nan_to_num(low), np.nan_to_num(high, nan=1))
        )
    assert found[0].width_mm3 == pytest.approx((8.0 + 2.0 + 4.9 + 3.9) / 4)
    assert found[0].ratio == pytest.approx(np.median([10 / 2, 8 / 6, 5.9, 10 / 6.1]))
    assert np.isnan(found[3].coverage.value)
    assert np.isnan(found[3].width_mm3)


def test_without_any_interval_there_is_nothing_to_say(four_cases):
    assert interval_coverages(four_cases) == []
    assert interval_coverages([]) == []
