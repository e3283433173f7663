"""Agreement against published tables, statsmodels and arithmetic by hand."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from statsmodels.stats.inter_rater import cohens_kappa

from apatite.metrics.agreement import (
    bland_altman,
    bland_altman_points,
    confusion,
    icc_2_1,
    icc_3_1,
    lin_ccc,
    quadratic_kappa,
)

SHROUT_FLEISS_1979 = np.array(
    [[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]], dtype=float
)
"""Table 2 of Shrout and Fleiss 1979: six targets, four judges."""


def test_icc_of_the_published_table() -> None:
    assert round(icc_2_1(SHROUT_FLEISS_1979), 2) == 0.29
    assert round(icc_3_1(SHROUT_FLEISS_1979), 2) == 0.71


def test_a_constant_bias_hurts_icc_2_1_and_not_icc_3_1() -> None:
    truth = np.array([3.0, 8.0, 1.0, 30.0, 12.0])
    biased = np.stack([truth, truth + 5], axis=1)
    assert icc_3_1(biased) == pytest.approx(1.0)
    assert icc_2_1(biased) < 0.95
    assert icc_2_1(np.stack([truth, truth], axis=1)) == pytest.approx(1.0)


@pytest.mark.parametrize("ratings", [np.ones((1, 2)), np.ones((4, 1)), np.full((4, 3), 2.0)])
def test_icc_without_spread_is_nan(ratings: np.ndarray) -> None:
    assert math.isnan(icc_2_1(ratings))
    assert math.isnan(icc_3_1(ratings))


def test_lin_ccc_by_hand() -> None:
    a, b = np.array([1.0, 2.0, 3.0]), np.array([2.0, 2.0, 5.0])
    # means 2 and 3; variances 2/3 and 2; covariance (1·1 + 0 + 1·2)/3 = 1
    assert lin_ccc(a, b) == pytest.approx(2 * 1 / (2 / 3 + 2 + 1))
    assert lin_ccc(a, a) == pytest.approx(1.0)
    assert lin_ccc(a, -a + 4) == pytest.approx(-1.0)
    assert math.isnan(lin_ccc(np.ones(3), np.ones(3)))


def test_raw_bland_altman_by_hand() -> None:
    found = bland_altman(np.array([12.0, 18.0, 33.0, 41.0]), np.array([10.0, 20.0, 30.0, 40.0]))
    # differences 2, −2, 3, 1: mean 1, squares about it 1 + 9 + 4 + 0, sd √(14/3)
    sd = math.sqrt(14 / 3)
    assert (found.bias, found.sd, found.n) == pytest.approx((1.0, sd, 4))
    assert (found.low_limit, found.high_limit) == pytest.approx((1 - 1.96 * sd, 1 + 1.96 * sd))
    assert found.bias_se == pytest.approx(sd / 2)
    assert found.limit_se == pytest.approx(sd * math.sqrt(1 / 4 + 1.96**2 / 6))
    with pytest.raises(ValueError, match="log scale"):
        _ = found.ratios


def test_standard_error_of_the_limits_is_the_spread_seen_in_repeats() -> None:
    differences = np.random.default_rng(2).normal(3, 7, (4000, 40))
    limits = [bland_altman(row, np.zeros(40)).high_limit for row in differences]
    assert np.std(limits) == pytest.approx(7 * math.sqrt(1 / 40 + 1.96**2 / (2 * 39)), rel=0.05)


@given(st.floats(0.2, 5.0), st.lists(st.floats(1.0, 1e4), min_size=2, max_size=8))
def test_a_constant_factor_is_the_ratio_of_the_log_scale(factor: float, volumes: list[float]) -> None:
    reference = np.array(volumes)
    found = bland_altman((reference + 1) * factor - 1 + 0.8, reference + 0.8 / factor, "log")
    assert found.ratios == pytest.approx((factor, factor, factor), rel=1e-6)


def test_log_scale_is_finite_for_empty_readings_and_refuses_negative_ones() -> None:
    means, differences = bland_altman_points(np.array([0.0, math.e - 1]), np.array([0.0, 0.0]), "log")
    assert means == pytest.approx([0.0, 0.5])
    assert differences == pytest.approx([0.0, 1.0])
    with pytest.raises(ValueError, match="negative"):
        bland_altman(np.array([-0.5, 1.0]), np.array([0.0, 1.0]), "log")


def test_one_case_has_a_bias_and_no_limits() -> None:
    found = bland_altman(np.array([3.0]), np.array([1.0]))
    assert found.bias == 2.0
    assert all(math.isnan(number) for number in (found.sd, found.low_limit, found.limit_se))
    with pytest.raises(ValueError, match="no cases"):
        bland_altman(np.array([]), np.array([]))


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("first_group", [0, 1])
def test_quadratic_kappa_equals_statsmodels(seed: int, first_group: int) -> None:
    rng = np.random.default_rng(seed)
    a = rng.integers(0, 5, 60)
    b = np.clip(a + rng.integers(-2, 3, 60), 0, 4)
    table = confusion(a + first_group, b + first_group, range(first_group, first_group + 5))
    expected = cohens_kappa(table, weights=np.arange(5), wt="quadratic", return_results=False)
    assert quadratic_kappa(a + first_group, b + first_group, 5) == pytest.approx(expected, abs=1e-12)


def test_kappa_at_its_ends() -> None:
    a = np.array([0, 1, 2, 3])
    assert quadratic_kappa(a, a, 4) == 1.0
    assert quadratic_kappa(a, a[::-1].copy(), 4) == pytest.approx(-1.0)
    assert math.isnan(quadratic_kappa(np.zeros(3, int), np.zeros(3, int), 4))
    assert math.isnan(quadratic_kappa(np.array([], int), np.array([], int), 4))
    with pytest.raises(ValueError, match="more than 3"):
        quadratic_kappa(a, a, 3)


def test_confusion_has_the_reference_in_its_rows() -> None:
    table = confusion(np.array([1, 1, 4]), np.array([2, 1, 4]), (1, 2, 3, 4))
    assert table[0].tolist() == [1, 1, 0, 0]
    assert table[3, 3] == 1
    assert table.sum() == 3
    with pytest.raises(ValueError, match=r"\[5\]"):
        confusion(np.array([5]), np.array([1]), (1, 2, 3, 4))
