import json

import numpy as np
import pytest

from apatite.phantom.checks import check_case, summarise
from apatite.phantom.cohort import CohortConfig, make_patient


@pytest.fixture(scope="module")
def checks():
    config = CohortConfig(seed=4)
    cases = [check_case(series) for number in range(8) for series in make_patient(config, number)]
    return summarise(cases)


def test_simple_methods_fail(checks):
    assert checks["dice_threshold"]["value"] < 0.3 and checks["dice_threshold"]["holds"]
    assert checks["dice_filtered"]["value"] < 0.6 and checks["dice_filtered"]["holds"]


def test_who_knows_the_artery_does_better(checks):
    known = [v for kinds in checks["dice_oracle_no_bone"].values() for v in kinds.values() if v is not None]
    assert np.mean(known) > 2 * checks["dice_filtered"]["value"]


def test_tissues_are_near_those_of_a_head(checks):
    for row in checks["hu_fractions"]:
        low, high = row["real_head"]
        assert low - 0.04 <= row["value"] <= high + 0.05
    assert sum(row["value"] for row in checks["hu_fractions"]) == pytest.approx(1)


def test_noise_is_that_of_real_heads(checks):
    assert 3 < checks["noise_hu"]["3.5-6 mm"]["soft"] < 8


def test_checks_are_plain_json(checks):
    json.dumps(checks, allow_nan=False)
