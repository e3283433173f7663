from typing import Any

import numpy as np
import pytest

from apatite.core.errors import DataError
from apatite.metrics.bootstrap import mean, paired_difference
from apatite.study.paper.contrasts import RIGHT_QUARTILE, contrast, estimate, mean_over_runs, sample
from apatite.study.paper.results import Results
from apatite.study.quantities import QUANTITIES


def values(results: Results, name: str, reading: Any = "raw") -> np.ndarray:
    """Dice per positive case of one row, straight from its outcomes."""
    (record,) = [record for record in results.records if record.name == name]
    rows = [o for o in results.rows(record, reading) if o.is_positive]
    return np.array([o.overlap.dice for o in rows])


def test_runs_are_averaged_case_by_case_before_patients_are_resampled(sweep: Any):
    names = [sweep.add(sweep.noisy(0.6, seed), seed=seed).name for seed in range(3)]
    results = sweep.results()
    arm = results.arm("ViT", init="mae")
    by_run = np.stack([values(results, name) for name in names])
    found = sample(results, arm, "dice")
    assert found is not None
    assert np.allclose(found.values, by_run)
    value = estimate(results, arm, "dice")
    assert value is not None
    assert value.value == pytest.approx(by_run.mean())
    assert value.low < value.value < value.high


def test_a_contrast_of_two_is_the_paired_difference_of_their_means(sweep: Any):
    for seed in range(2):
        sweep.add(sweep.noisy(0.6, seed), seed=seed)
        sweep.add(sweep.noisy(0.5, 9, seed), seed=seed, init="scratch")
    results = sweep.results()
    first, second = results.arm("a", init="mae"), results.arm("b", init="scratch")
    found = contrast(results, [(1.0, first), (-1.0, second)], "dice")
    a, b = sample(results, first, "dice"), sample(results, second, "dice")
    assert found and a and b
    settings = results.view.intervals
    expected = paired_difference(
        a.values.mean(axis=0), b.values.mean(axis=0), mean, a.patients, resamples=settings.resamples, seed=settings.seed
    )
    assert (found.estimate.value, found.estimate.low, found.estimate.high) == pytest.approx(
        (expected.value, expected.low, expected.high), abs=1e-12
    )
    assert found.by_run == pytest.approx(
        {(0, seed): a.values[seed].mean() - b.values[seed].mean() for seed in range(2)}
    )
    assert found.num_cases == 16
    assert len(found.records) == 4


def test_only_runs_that_every_arm_has_take_part(sweep: Any):
    for seed, level in ((0, 0.6), (1, 0.9), (2, 0.6)):
        sweep.add(level, seed=seed)
    for seed in (0, 2):
        sweep.add(0.5, seed=seed, init="scratch")
    results = sweep.results()
    terms = [(1.0, results.arm("a", init="mae")), (-1.0, results.arm("b", init="scratch"))]
    found = contrast(results, terms, "dice")
    assert found is not None
    assert list(found.by_run) == [(0, 0), (0, 2)]
    assert found.estimate.value == pytest.approx(0.1, abs=0.01)
    assert contrast(results, [*terms, (1.0, results.arm("c", arm="nnunet"))], "dice") is None


def test_a_difference_of_differences(sweep: Any):
    for decoder, patch, level in (("mae", 4, 0.7), ("mae", 8, 0.4), ("upscale", 4, 0.6), ("upscale", 8, 0.5)):
        sweep.add(level, decoder=decoder, patch=patch)
    results = sweep.results()
    arms = [results.arm("", decoder=d, patch=p) for d in ("mae", "upscale") for p in (4, 8)]
    found = contrast(results, list(zip((1.0, -1.0, -1.0, 1.0), arms, strict=True)), "dice")
    assert found is not None
    assert found.estimate.value == pytest.approx(0.3 - 0.1, abs=0.01)


def test_a_subset_against_its_counterpart(sweep: Any):
    # Better by 0.2 in cases of even number, by nothing in odd ones; number 0 belongs to neither.
    sweep.add(lambda number: 0.7 if number % 2 == 0 else 0.5)
    sweep.add(0.5, init="scratch")
    results = sweep.results()
    terms = [(1.0, results.arm("a", init="mae")), (-1.0, results.arm("b", init="scratch"))]

    def is_even(case: Any) -> bool | None:
        number = int(case.case_id[-2:])
        return None if number == 0 else number % 2 == 0

    found = contrast(results, terms, "dice", is_even)
    assert found is not None
    assert found.num_cases == 15
    assert found.estimate.value == pytest.approx(0.2, abs=0.01)
    assert found.estimate.low > 0.15
    nobody = contrast(results, terms, "dice", lambda _: True)
    assert nobody is not None
    assert np.isnan(nobody.estimate.value)


def test_a_case_without_a_value_in_one_run_is_the_mean_of_the_others():
    table = np.array([[0.2, np.nan, np.nan], [0.4, 0.6, np.nan]])
    assert np.array_equal(mean_over_runs(table), [0.30000000000000004, 0.6, np.nan], equal_nan=True)


def test_the_right_quartile_by_hand(sweep: Any):
    # Twice the volume: of 16 cases in ascending order those stay right whose double is in the same quartile.
    sweep.add(0.5, share=2.0)
    results = sweep.results()
    found = sample(results, results.arm("a", init="mae"), RIGHT_QUARTILE)
    assert found is not None
    volumes = np.array([40.0 + 13 * number for number in range(16)])
    edges = np.quantile(volumes, [0.25, 0.5, 0.75])
    group = (volumes[:, None] > edges).sum(axis=1)
    doubled = (2 * volumes[:, None] > edges).sum(axis=1)
    assert found.values.tolist() == [(group == doubled).astype(float).tolist()]
    assert 0 < found.values.sum() < 16


def test_unlike_cases_are_refused(sweep: Any):
    sweep.add(0.6)
    sweep.add(0.5, init="scratch", cases=15)
    results = sweep.results()
    with pytest.raises(DataError, match="CASES_DIFFER"):
        contrast(results, [(1.0, results.arm("a", init="mae")), (-1.0, results.arm("b", init="scratch"))], "dice")
    sweep.add(0.5, seed=1, cases=15)
    results = sweep.results()
    with pytest.raises(DataError, match="CASES_DIFFER"):
        sample(results, results.arm("a", init="mae"), "dice")


def test_other_quantities_and_readings(sweep: Any):
    sweep.add(0.5, calibrated=0.7, share=0.8)
    results = sweep.results()
    raw, calibrated = (results.arm("a", reading, init="mae") for reading in ("raw", "calibrated"))
    dice = [estimate(results, arm, "dice") for arm in (raw, calibrated)]
    assert [round(value.value, 1) for value in dice if value] == [0.5, 0.7]
    error = estimate(results, raw, "volume_error_mm3")
    assert error is not None
    rows = [o for o in results.rows(results.records[0], "raw") if o.is_positive]
    assert error.value == pytest.approx(np.mean([QUANTITIES["volume_error_mm3"].of_case(o) for o in rows]))
    assert error.unit == "mm³"
    thin = estimate(results, raw, "volume_error_mm3", lambda case: case.slice_thickness_mm == 1.0)
    assert thin is not None
    expected = [abs(o.volume_difference_mm3) for o in rows if o.slice_thickness_mm == 1.0]
    assert thin.value == pytest.approx(np.mean(expected))
    assert estimate(results, results.arm("b", init="scratch"), "dice") is None
