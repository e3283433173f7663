"""The benchmark of coverage: its phantoms, its counting, and that nothing is measured twice."""

import json
import math

import numpy as np
import pytest

import interval_coverage
from apatite.calibrate.interval import IntervalFitConfig
from apatite.calibrate.thickness import THICKNESS_GROUPS, thickness_group
from apatite.calibrate.threshold import THRESHOLDS
from apatite.core.errors import ConfigError
from apatite.segment.predict import open_predictor
from interval_coverage import Plan, calibrated, measured, measured_all, summary_rows

PLAN = Plan(choosing=24, fitting=120, counted=150)
SPREAD = dict(zip(THICKNESS_GROUPS, (0.1, 0.2, 0.5, 0.9), strict=True))
THICKNESS = dict(zip(THICKNESS_GROUPS, (1.0, 2.5, 5.0, 8.0), strict=True))


def planted() -> list[dict]:
    """Volumes that are right at 0.5 but for a spread that grows with the slices; they fall with the threshold."""
    rng = np.random.default_rng(4)
    records = []
    for number in range(PLAN.total):
        for group in THICKNESS_GROUPS:
            reference = rng.lognormal(3.5, 1.0)
            at_half = math.expm1(max(0.0, math.log1p(reference) + rng.normal(0, SPREAD[group])))
            curve = at_half * (1.2 - 0.4 * THRESHOLDS)
            records.append(
                {
                    "patient": f"p{number:04d}",
                    "thickness_mm": THICKNESS[group],
                    "reference_mm3": float(reference),
                    "two_voxels_mm3": 0.5,
                    "curve_mm3": curve.tolist(),
                }
            )
    return records


def test_the_table_shows_that_grouping_is_needed():
    rows = {(row["interval"], row["slices"]): row for row in summary_rows(planted(), PLAN)}
    assert len(rows) == 16
    thin, coarse = THICKNESS_GROUPS[0], THICKNESS_GROUPS[-1]
    for group in THICKNESS_GROUPS:
        row = rows["by thickness", group]
        assert (row["fitted_on"], row["cases"]) == (120, 150)
        assert rows["one for all", group]["fitted_on"] == 120
        assert 0.82 < row["coverage"] < 0.97  # 0.9 give or take 0.037: 120 that fit, 150 that are counted
        assert row["set_coverage"] >= row["coverage"]
        assert row["one_group"] <= 1
    assert rows["one for all", coarse]["coverage"] < 0.8
    assert rows["one for all", thin]["coverage"] > 0.99
    assert rows["by thickness", coarse]["median_width_mm3"] > 3 * rows["by thickness", thin]["median_width_mm3"]


def test_choosing_fitting_and_counting_are_different_patients():
    records = planted()
    before = calibrated(records, PLAN, IntervalFitConfig())
    for record in records[PLAN.calibration * 4 :]:
        record["reference_mm3"] = 1e4
    assert calibrated(records, PLAN, IntervalFitConfig()) == before
    assert before[1].groups[THICKNESS_GROUPS[2]].num_cases == PLAN.fitting


def test_one_patient_in_every_thickness(tuned):
    predictor = open_predictor(tuned, "cpu")
    records = list(measured(predictor, 5, seed=11))
    assert [thickness_group(record["thickness_mm"]) for record in records] == list(THICKNESS_GROUPS)
    for record in records:
        curve = np.array(record["curve_mm3"])
        assert curve.shape == THRESHOLDS.shape
        assert np.all(np.diff(curve) <= 0)
        assert math.isfinite(record["reference_mm3"])
        assert record["reference_mm3"] >= 0
    assert any(record["reference_mm3"] > 0 for record in records)
    assert {record["patient"] for record in records} == {"p0005"}


def test_what_was_measured_is_read_again(tmp_path, monkeypatch):
    for first, last in ((0, 9), (10, 12)):
        content = [{"patient": number} for number in range(first, last + 1)]
        (tmp_path / f"patients-{first:05d}-{last:05d}.json").write_text(json.dumps(content))
    monkeypatch.setattr(interval_coverage, "write_measured", None)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    found = list(measured_all(tmp_path / "no model", tmp_path, 13, 0))
    assert [record["patient"] for record in found] == list(range(13))


def test_too_few_patients_are_an_error():
    with pytest.raises(ConfigError, match="too few for an interval"):
        calibrated(planted(), Plan(choosing=6, fitting=6, counted=5), IntervalFitConfig())
