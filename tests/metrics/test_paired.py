"""Paired tests against published examples, against SciPy and statsmodels, and by what they promise under the null."""

import math
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.contingency_tables import mcnemar as sm_mcnemar
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.weightstats import ttost_paired

from apatite.core.errors import ConfigError
from apatite.metrics.bootstrap import mean, ratio_of_sums
from apatite.metrics.paired import cohen_dz, holm, mcnemar, one_sided, per_patient, signed_rank

DARWIN = np.array([49, -67, 8, 16, 6, 23, 28, 41, 14, 29, 56, 24, 75, 60, -48], dtype=float)
"""Cross- minus self-fertilised maize, in eighths of an inch (Darwin 1876; Fisher 1935): Wilcoxon's own kind of data."""
DEPRESSION = (
    np.array([1.83, 0.50, 1.62, 2.48, 1.68, 1.88, 1.55, 3.06, 1.30]),
    np.array([0.878, 0.647, 0.598, 2.05, 1.06, 1.29, 1.06, 3.14, 1.29]),
)
"""Hamilton factor IV before and after a tranquilizer (Hollander & Wolfe 1973): V = 40, one-sided p 0.01953."""
SLEEP = np.array([0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0]) - np.array(
    [1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4]
)
"""Extra sleep under two drugs (Student 1908): paired t = −4.0621 with 9 degrees of freedom."""


def test_wilcoxon_on_darwins_maize() -> None:
    found = signed_rank(DARWIN)
    assert (found.plus, found.minus, found.num_ranked) == (96.0, 24.0, 15)
    assert found.p_value == pytest.approx(0.041259765625)
    assert found.rank_biserial == pytest.approx(72 / 120)


def test_wilcoxon_on_the_depression_study() -> None:
    found = signed_rank(DEPRESSION[0] - DEPRESSION[1])
    assert (found.plus, found.minus) == (40.0, 5.0)
    assert found.p_value == pytest.approx(2 * 0.01953125)
    assert found.rank_biserial == pytest.approx(35 / 45)


def test_zeros_are_dropped_and_ties_share_their_rank() -> None:
    # |d|: 1 1 2 3 3 3 → ranks 1.5 1.5 3 5 5 5
    found = signed_rank(np.array([1.0, -1, 2, 0, 3, 3, -3, 0]))
    assert (found.plus, found.minus, found.num_ranked) == (14.5, 6.5, 6)
    assert found.rank_biserial == pytest.approx(8 / 21)
    # Exact with ties: all 2⁶ ways to sign six ranks.
    ranks = [1.5, 1.5, 3, 5, 5, 5]
    sums = [sum(rank * sign for rank, sign in zip(ranks, signs, strict=True)) for signs in product((0, 1), repeat=6)]
    p_value = 2 * np.mean(np.array(sums) >= 14.5)
    assert found.p_value == pytest.approx(p_value)


def test_arithmetic_noise_neither_breaks_ties_nor_makes_differences() -> None:
    clean = np.array([0.3, -0.3, 0.5, 0.0, 0.5, 0.7])
    noisy = clean + np.array([0, 5e-17, 1e-16, 1e-17, 0, 0])
    assert noisy[3] != 0
    assert signed_rank(noisy) == signed_rank(clean)


def test_who_equals_himself_does_not_differ() -> None:
    found = signed_rank(np.zeros(7))
    assert (found.num_ranked, found.p_value) == (0, 1.0)
    assert math.isnan(found.rank_biserial)
    assert math.isnan(signed_rank(np.array([])).p_value)
    with pytest.raises(ValueError, match="not a number"):
        signed_rank(np.array([1.0, math.nan]))


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(-40, 40), min_size=1, max_size=70))
def test_swapping_the_models_swaps_the_signs_and_keeps_p(values: list[int]) -> None:
    d = np.array(values, dtype=float)
    forward, backward = signed_rank(d), signed_rank(-d)
    assert (forward.plus, forward.minus) == (backward.minus, backward.plus)
    assert forward.p_value == pytest.approx(backward.p_value, rel=1e-9)
    assert forward.plus + forward.minus == pytest.approx(forward.num_ranked * (forward.num_ranked + 1) / 2)
    if forward.num_ranked:
        assert forward.rank_biserial == pytest.approx(-backward.rank_biserial)


def test_p_is_uniform_under_the_null() -> None:
    rng = np.random.default_rng(2)
    p = [signed_rank(rng.normal(size=30)).p_value for _ in range(600)]
    assert stats.kstest(p, "uniform").pvalue > 0.01
    assert np.mean(np.array(p) <= 0.05) == pytest.approx(0.05, abs=0.02)


def test_effect_size_by_hand() -> None:
    assert cohen_dz(np.array([1.0, 2, 3, 6])) == pytest.approx(3 / math.sqrt(14 / 3))
    assert cohen_dz(SLEEP) == pytest.approx(-4.0621 / math.sqrt(10), abs=1e-5)
    assert math.isnan(cohen_dz(np.array([2.0])))
    assert math.isnan(cohen_dz(np.full(5, 0.1)))


def test_equivalence_on_the_sleep_data() -> None:
    # t = −2.777 against −0.5 h and −5.348 against +0.5 h, as TOSTER's introduction has them.
    found = one_sided(SLEEP, 0.5)
    assert found.p_above == pytest.approx(0.989, abs=5e-4)
    assert found.p_below < 0.001
    assert found.p_equivalent == found.p_above
    assert found.p_above == pytest.approx(stats.t.sf(-2.777, 9), abs=1e-4)
    assert found.p_below == pytest.approx(stats.t.cdf(-5.348, 9), abs=1e-6)


@pytest.mark.parametrize("shift", [-0.3, 0.0, 0.02])
def test_two_one_sided_tests_equal_statsmodels(shift: float) -> None:
    rng = np.random.default_rng(4)
    a = rng.normal(size=23)
    b = a + shift + 0.1 * rng.normal(size=23)
    p_value, (_, p_above, _), (_, p_below, _) = ttost_paired(a, b, -0.05, 0.05)
    found = one_sided(a - b, 0.05)
    assert (found.p_above, found.p_below, found.p_equivalent) == pytest.approx((p_above, p_below, p_value))


def test_margins_without_sense_and_samples_without_spread() -> None:
    for margin in (0.0, -1.0, math.inf, math.nan):
        with pytest.raises(ConfigError, match="margin"):
            one_sided(DARWIN, margin)
    assert math.isnan(one_sided(np.array([1.0]), 2.0).p_equivalent)
    assert one_sided(np.full(4, 0.1), 0.2).p_equivalent == 0.0
    assert one_sided(np.full(4, -0.3), 0.2).p_above == 1.0


@pytest.mark.parametrize(
    ("table", "p_value"),
    [
        # Bentur 2009 and Cavo 2012, as worked in Fagerland, Lydersen & Laake 2013, Tables 1 and 2.
        ((1, 1, 7, 12), 0.0703125),
        ((59, 6, 16, 80), 0.0525),
    ],
)
def test_mcnemar_on_published_tables(table: tuple[int, int, int, int], p_value: float) -> None:
    both, only_first, only_second, neither = table
    first = np.array([True] * (both + only_first) + [False] * (only_second + neither))
    second = np.array([True] * both + [False] * only_first + [True] * only_second + [False] * neither)
    found = mcnemar(first, second)
    assert (found.only_first, found.only_second) == (only_first, only_second)
    assert found.p_value == pytest.approx(p_value, abs=5e-5)
    assert found.p_value == pytest.approx(sm_mcnemar([[both, only_first], [only_second, neither]], exact=True).pvalue)


def test_mcnemar_where_nobody_or_everybody_disagrees() -> None:
    same, other = np.array([True, False, True]), np.array([False, True, True])
    assert mcnemar(same, same).p_value == 1.0
    assert mcnemar(same, other).p_value == 1.0
    assert mcnemar(np.array([], dtype=bool), np.array([], dtype=bool)).p_value == 1.0
    assert mcnemar(np.ones(6, bool), np.zeros(6, bool)).p_value == pytest.approx(2 / 2**6)
    with pytest.raises((ValueError, TypeError), match=r"patients"):
        mcnemar(same, same[:2])


def test_holm_by_hand() -> None:
    # 4 · 0.005, 3 · 0.01, 2 · 0.03; the largest may not fall below the one before.
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.5]) == [1.0, 1.0]
    assert holm([]) == []
    with pytest.raises(ValueError, match="outside"):
        holm([0.2, 1.2])


def test_holm_equals_statsmodels() -> None:
    # One call: it collects garbage every time, which takes longer than all else here.
    rng = np.random.default_rng(5)
    p_values = np.concatenate([rng.random(20) ** 3, [0.0, 1.0, 0.02, 0.02]])
    assert holm(p_values.tolist()) == pytest.approx(multipletests(p_values, method="holm")[1], abs=1e-12)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_by_its_definition(p_values: list[float]) -> None:
    corrected, ordered = holm(p_values), sorted(p_values)
    for p_value, found in zip(p_values, corrected, strict=True):
        steps = [(len(ordered) - place) * other for place, other in enumerate(ordered) if other <= p_value]
        assert found == pytest.approx(min(1.0, max(steps)))
    with_gap = holm([*p_values, math.nan])
    assert with_gap[:-1] == corrected
    assert math.isnan(with_gap[-1])


def test_holm_keeps_the_chance_of_any_false_rejection() -> None:
    rng = np.random.default_rng(6)
    raw = corrected = 0
    for _ in range(200):
        common = rng.normal(size=(25, 1))
        p = [signed_rank(column).p_value for column in (common + rng.normal(size=(25, 6))).T]
        raw += min(p) <= 0.05
        corrected += min(holm(p)) <= 0.05
    assert raw / 200 > 0.1
    assert corrected / 200 < 0.08


def test_a_patient_is_one_number_whatever_his_cases() -> None:
    a, b = np.array([1.0, 5.0, 2.0, 9.0]), np.array([0.0, 1.0, 4.0, 3.0])
    first, second = per_patient(a, b, mean, ["x", "y", "x", "z"])
    assert first.tolist() == [1.5, 5.0, 9.0]
    assert second.tolist() == [2.0, 1.0, 3.0]
    pairs = np.array([[1.0, 2.0], [0.0, 0.0], [3.0, 4.0]])
    first, second = per_patient(pairs, pairs, ratio_of_sums, ["x", "y", "x"])
    assert first.tolist() == second.tolist() == [4 / 6]  # y has no lesion, so no ratio
    with pytest.raises((ValueError, TypeError), match=r"patients|cases"):
        per_patient(a, b[:3], mean, ["x"] * 4)


def test_repeated_series_do_not_make_a_difference_surer() -> None:
    rng = np.random.default_rng(8)
    a, b = rng.normal(1.0, 1, 12), np.zeros(12)
    patients = [f"p{n}" for n in range(12)]
    once = signed_rank(np.subtract(*per_patient(a, b, mean, patients)))
    five = np.subtract(*per_patient(np.repeat(a, 5), np.repeat(b, 5), mean, np.repeat(patients, 5).tolist()))
    assert signed_rank(five) == once
    assert signed_rank(np.repeat(a - b, 5)).p_value < once.p_value / 5
