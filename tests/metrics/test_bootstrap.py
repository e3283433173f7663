"""Intervals against `scipy.stats.bootstrap`, against a clustered resampling written out, and against the truth."""

import math
from itertools import pairwise

import numpy as np
import pytest
from jaxtyping import TypeCheckError
from scipy import stats

from apatite.core.errors import ConfigError
from apatite.core.rng import generator
from apatite.metrics.bootstrap import (
    bootstrap_interval,
    draw_patients,
    mean,
    median,
    paired_difference,
    ratio_of_sums,
    rows_by_patient,
)

SKEWED = np.random.default_rng(5).lognormal(3, 1, 37)
ONE_EACH = [f"p{n}" for n in range(37)]


def spread(values: np.ndarray) -> float:
    return float(np.std(values) / np.mean(values))


@pytest.mark.parametrize("method", ["bca", "percentile"])
@pytest.mark.parametrize("statistic", [mean, median, spread])
def test_equals_scipy_for_one_row_per_patient(method: str, statistic) -> None:
    ours = bootstrap_interval(
        SKEWED, statistic, ONE_EACH, resamples=500, method=method, seed=3, coverage=0.9, unit="mm³"
    )
    theirs = stats.bootstrap(
        (SKEWED,),
        statistic,
        n_resamples=500,
        method=method,
        confidence_level=0.9,
        vectorized=False,
        rng=generator(3, "bootstrap"),
    ).confidence_interval
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), rel=1e-12)
    assert (ours.value, ours.unit, ours.coverage) == (statistic(SKEWED), "mm³", 0.9)


def test_all_rows_of_a_drawn_patient_come_along() -> None:
    values, patients = np.array([1.0, 10.0, 2.0, 20.0, 3.0, 4.0]), ["a", "b", "a", "b", "a", "c"]
    ours = bootstrap_interval(values, mean, patients, resamples=400, method="percentile", seed=1)
    of = {"a": [1.0, 2.0, 3.0], "b": [10.0, 20.0], "c": [4.0]}
    by_hand = [np.mean([value for number in draw for value in of["abc"[number]]]) for draw in draw_patients(3, 400, 1)]
    assert (ours.low, ours.high) == pytest.approx(np.quantile(by_hand, [0.025, 0.975]), rel=1e-12)


@pytest.mark.parametrize("method", ["bca", "percentile"])
def test_the_fast_mean_equals_the_same_mean_resampled_one_by_one(method) -> None:
    values = SKEWED.copy()
    values[[3, 11]] = np.nan
    patients = [f"p{n // 2}" for n in range(37)]
    fast = bootstrap_interval(values, mean, patients, method=method)
    slow = bootstrap_interval(values, lambda rows: mean(rows), patients, method=method)
    assert (fast.value, fast.low, fast.high) == pytest.approx((slow.value, slow.low, slow.high), rel=1e-12)


def test_the_fast_ratio_equals_the_same_ratio_resampled_one_by_one() -> None:
    rows = np.random.default_rng(3).integers(0, 4, (20, 2)).astype(float)
    patients = [f"p{number // 2}" for number in range(20)]

    def slow(drawn: np.ndarray) -> float:
        return ratio_of_sums(drawn)

    fast = bootstrap_interval(rows, ratio_of_sums, patients, resamples=400, seed=5)
    assert fast == bootstrap_interval(rows, slow, patients, resamples=400, seed=5)
    nothing = np.stack([np.arange(6.0), np.zeros(6)], axis=1)
    assert math.isnan(bootstrap_interval(nothing, ratio_of_sums, list("abcdef")).value)


def test_rows_of_several_numbers() -> None:
    counts = np.random.default_rng(0).integers(1, 50, (20, 3)).astype(float)

    def pooled_dice(rows: np.ndarray) -> float:
        tp, fp, fn = rows.sum(axis=0)
        return float(2 * tp / (2 * tp + fp + fn))

    estimate = bootstrap_interval(counts, pooled_dice, [str(n) for n in range(20)], resamples=200)
    assert estimate.low < estimate.value < estimate.high


def test_bca_covers_a_skewed_mean_better_than_percentile() -> None:
    truth, hits = math.exp(0.5), {"bca": 0, "percentile": 0}
    for trial in range(300):
        sample = generator(7, "coverage", trial).lognormal(0, 1, 30)
        for method in hits:
            found = bootstrap_interval(sample, mean, ONE_EACH[:30], method=method, resamples=400, seed=trial)
            hits[method] += found.low <= truth <= found.high
    assert hits["bca"] > hits["percentile"]
    assert hits["bca"] / 300 > 0.86  # nominal 0.95; known to be short for 30 log-normal values


def test_clustering_widens_the_interval_of_repeated_rows() -> None:
    once = SKEWED[:12]
    repeated, patients = np.repeat(once, 5), [f"p{n // 5}" for n in range(60)]
    clustered = bootstrap_interval(repeated, mean, patients, method="percentile")
    as_if_independent = bootstrap_interval(repeated, mean, [str(n) for n in range(60)], method="percentile")
    assert clustered.high - clustered.low > 1.8 * (as_if_independent.high - as_if_independent.low)


def test_paired_difference_uses_one_resample_for_both() -> None:
    noise = np.random.default_rng(1).normal(0, 1, 37)
    better = SKEWED + 2 + 0.01 * noise
    estimate = paired_difference(better, SKEWED, mean, ONE_EACH, resamples=300)
    assert estimate.value == pytest.approx(np.mean(2 + 0.01 * noise))
    assert estimate.high - estimate.low < 0.02  # the spread of SKEWED itself (about 30) has cancelled
    same = bootstrap_interval(better - SKEWED, mean, ONE_EACH, resamples=300)
    assert (estimate.low, estimate.high) == pytest.approx((same.low, same.high), rel=1e-9)


def test_paired_difference_of_medians_equals_scipy_on_pairs() -> None:
    other = SKEWED[::-1].copy()
    ours = paired_difference(SKEWED, other, median, ONE_EACH, resamples=200, seed=2)
    theirs = stats.bootstrap(
        (SKEWED, other),
        lambda a, b: median(a) - median(b),
        paired=True,
        n_resamples=200,
        vectorized=False,
        rng=generator(2, "bootstrap"),
    ).confidence_interval
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), rel=1e-12)


def test_degenerate_samples() -> None:
    none = bootstrap_interval(np.array([]), mean, [])
    one_patient = bootstrap_interval(np.array([4.0, 6.0]), mean, ["a", "a"])
    all_nan = bootstrap_interval(np.full(3, np.nan), median, ["a", "b", "c"])
    assert all(math.isnan(number) for number in (none.value, none.low, none.high, all_nan.value, all_nan.low))
    assert one_patient.value == 5.0
    assert math.isnan(one_patient.low)
    assert math.isnan(one_patient.high)
    for method in ("bca", "percentile"):
        equal = bootstrap_interval(np.full(6, 2.5), mean, list("abcdef"), method=method)
        assert (equal.value, equal.low, equal.high) == (2.5, 2.5, 2.5)


def test_the_maximum_lies_outside_its_resamples_and_still_gets_an_interval() -> None:
    estimate = bootstrap_interval(SKEWED, lambda rows: float(rows.max()) + 1e-9, ONE_EACH, resamples=50)
    assert math.isfinite(estimate.low)
    assert estimate.low <= estimate.high


def test_resamples_without_any_known_row_are_left_out() -> None:
    values = np.array([1.0, np.nan, np.nan, 3.0])
    estimate = bootstrap_interval(values, mean, list("abcd"), resamples=300, method="percentile")
    assert (estimate.value, estimate.low, estimate.high) == (2.0, 1.0, 3.0)


def test_order_of_patients_is_first_appearance() -> None:
    assert [rows.tolist() for rows in rows_by_patient(["z", "a", "z", "b"])] == [[0, 2], [1], [3]]


def test_intervals_nest_with_coverage() -> None:
    widths = [
        (estimate.high - estimate.low)
        for estimate in (
            bootstrap_interval(SKEWED, mean, ONE_EACH, coverage=coverage) for coverage in (0.5, 0.8, 0.95, 0.99)
        )
    ]
    assert all(narrow < wide for narrow, wide in pairwise(widths))


@pytest.mark.parametrize("setting", [{"method": "bac"}, {"resamples": 0}, {"coverage": 1.0}])
def test_nonsense_is_refused(setting) -> None:
    with pytest.raises((ConfigError, TypeCheckError), match=r"interval|method"):
        bootstrap_interval(SKEWED, mean, ONE_EACH, **setting)


def test_rows_and_patients_must_match() -> None:
    with pytest.raises(ValueError, match="36 patients"):
        bootstrap_interval(SKEWED, mean, ONE_EACH[:-1])
