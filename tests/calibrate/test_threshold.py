"""The volume curve against counting at every threshold; the fit against searching by hand."""

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apatite.calibrate.threshold import THRESHOLDS, ThresholdFit, fit_threshold, volume_curve
from apatite.core.errors import DataError

HALF = 90


def a_case(seed: int, dtype: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    raw = rng.beta(0.4, 0.8, (4, 7, 9))
    is_whole = np.issubdtype(np.dtype(dtype), np.integer)
    probability = np.round(raw * np.iinfo(dtype).max).astype(dtype) if is_whole else raw.astype(dtype)
    return probability, rng.uniform(0.1, 3, 4), rng.random((4, 7, 9)) < 0.7


def test_the_grid_of_thresholds() -> None:
    assert len(THRESHOLDS) == 181
    assert THRESHOLDS[HALF] == 0.5
    assert (THRESHOLDS[0], THRESHOLDS[-1]) == pytest.approx((0.01, 0.99), rel=1e-12)
    steps = np.diff(np.log(THRESHOLDS / (1 - THRESHOLDS)))
    assert steps == pytest.approx(steps[0], rel=1e-9)
    with pytest.raises(ValueError, match="read-only"):
        THRESHOLDS[0] = 0.5


@settings(max_examples=30)
@given(st.integers(0, 2**31), st.sampled_from(["float32", "float64", "uint8", "uint16"]))
def test_equals_counting_at_every_threshold(seed: int, dtype: str) -> None:
    probability, weights, is_counted = a_case(seed, dtype)
    # Put some values exactly on thresholds: the comparison is ≥.
    if dtype == "float64":
        probability[0].flat[:] = THRESHOLDS[:63]
    scale = np.iinfo(dtype).max if np.issubdtype(np.dtype(dtype), np.integer) else 1
    value = probability.astype(np.float64) / scale
    brute = [((value >= tau) & is_counted).sum(axis=(1, 2)) @ weights for tau in THRESHOLDS]
    curve = volume_curve(probability, weights, is_counted)
    assert curve == pytest.approx(np.array(brute), rel=1e-12, abs=1e-12)
    assert np.all(np.diff(curve) <= 0)  # exactly, not to within rounding


def test_a_threshold_that_is_met_counts() -> None:
    probability = np.array([[[0.5, 0.25, 0.75]]])
    curve = volume_curve(probability, np.array([2.0]), np.ones((1, 1, 3), bool), np.array([0.25, 0.5, 0.8]))
    assert curve.tolist() == [6.0, 4.0, 0.0]


def test_nothing_counted_is_no_volume_anywhere() -> None:
    curve = volume_curve(np.ones((2, 3, 4)), np.ones(2), np.zeros((2, 3, 4), bool))
    assert curve.shape == THRESHOLDS.shape
    assert not curve.any()


def test_not_a_number_is_refused_where_it_counts() -> None:
    probability, is_counted = np.zeros((2, 3, 4)), np.ones((2, 3, 4), bool)
    probability[1, 2, 3] = np.nan
    with pytest.raises(DataError) as caught:
        volume_curve(probability, np.ones(2), is_counted)
    assert caught.value.code == "NONFINITE"
    is_counted[1, 2, 3] = False
    assert not volume_curve(probability, np.ones(2), is_counted).any()


def under_segmented_cases(num_cases: int = 40) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Curves V·exp(−1.2·(logit τ − logit 0.3)) with noise: unbiased at 0.3, too small at 0.5."""
    rng = np.random.default_rng(4)
    reference = rng.lognormal(4.5, 1.2, num_cases)
    logits = np.log(THRESHOLDS / (1 - THRESHOLDS))
    noise = np.exp(rng.normal(0, 0.15, num_cases))
    curves = (reference * noise)[:, None] * np.exp(-1.2 * (logits - math.log(0.3 / 0.7)))
    return curves, reference, [f"p{n}" for n in range(num_cases)]


@pytest.mark.parametrize("objective", ["mae", "bias0", "log_mae"])
def test_finds_what_a_search_by_hand_finds(objective) -> None:
    curves, reference, patients = under_segmented_cases()
    per_case = {
        "mae": np.abs(curves - reference[:, None]),
        "bias0": curves - reference[:, None],
        "log_mae": np.abs(np.log((curves + 1) / (reference[:, None] + 1))),
    }[objective]
    loss = np.abs(per_case.mean(axis=0))
    fit = fit_threshold(curves, reference, patients, objective, resamples=200)
    assert fit.threshold == THRESHOLDS[loss.argmin()]
    assert fit.threshold == pytest.approx(0.3, abs=0.03)
    assert (fit.objective_before, fit.objective_after) == pytest.approx((loss[HALF], loss.min()))
    error = np.abs(curves - reference[:, None]).mean(axis=0)
    assert (fit.error_before_mm3, fit.error_after_mm3) == pytest.approx((error[HALF], error[loss.argmin()]))
    assert fit.low <= fit.threshold <= fit.high
    assert len(fit.resampled_thresholds) == 200


def test_resampling_takes_patients_whole() -> None:
    curves, reference, _ = under_segmented_cases()
    independent = fit_threshold(curves, reference, [str(n) for n in range(40)], "log_mae")
    repeated = fit_threshold(
        np.repeat(curves, 6, 0), np.repeat(reference, 6), [str(n // 6) for n in range(240)], "log_mae"
    )
    split_up = fit_threshold(np.repeat(curves, 6, 0), np.repeat(reference, 6), [str(n) for n in range(240)], "log_mae")
    assert repeated.resampled_thresholds == independent.resampled_thresholds
    assert split_up.high - split_up.low < 0.7 * (repeated.high - repeated.low)


def test_ties_go_to_the_threshold_nearest_to_one_half() -> None:
    flat = np.full((6, len(THRESHOLDS)), 10.0)
    assert fit_threshold(flat, np.full(6, 4.0), list("abcdef"), resamples=5).threshold == 0.5
    stepped = np.where(THRESHOLDS < 0.3, 10.0, 0.0) * np.ones((6, 1))
    fit = fit_threshold(stepped, np.full(6, 10.0), list("abcdef"), resamples=5)
    assert fit.threshold == THRESHOLDS[THRESHOLDS < 0.3].max()
    assert set(fit.resampled_thresholds) == {fit.threshold}


def test_calcium_free_cases_pull_the_threshold_up() -> None:
    curves, reference, patients = under_segmented_cases()
    false_volume = 6000 * np.exp(-np.arange(len(THRESHOLDS)) / 30.0)
    more = np.concatenate([curves, np.tile(false_volume, (30, 1))])
    with_negatives = fit_threshold(more, np.append(reference, np.zeros(30)), [*patients, *(f"n{n}" for n in range(30))])
    assert with_negatives.threshold > fit_threshold(curves, reference, patients).threshold


def test_refit_is_the_same_and_survives_json() -> None:
    curves, reference, patients = under_segmented_cases()
    first, second = (fit_threshold(curves, reference, patients, resamples=50, seed=3) for _ in range(2))
    assert first == second
    text = json.dumps(first.to_dict(), allow_nan=False)
    assert ThresholdFit.from_dict({**json.loads(text), "domain": "phantom"}) == first
    assert (
        fit_threshold(curves, reference, patients, resamples=50, seed=4).resampled_thresholds
        != first.resampled_thresholds
    )


def test_refusals() -> None:
    curves, reference, patients = under_segmented_cases()
    with pytest.raises(DataError) as few:
        fit_threshold(curves[:4], reference[:4], patients[:4])
    assert few.value.code == "TOO_FEW_CASES"
    broken = curves.copy()
    broken[3, 7] = np.inf
    with pytest.raises(DataError) as nonfinite:
        fit_threshold(broken, reference, patients)
    assert nonfinite.value.code == "NONFINITE"
    with pytest.raises(ValueError, match="39 patients"):
        fit_threshold(curves, reference, patients[:-1])
