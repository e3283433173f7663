"""A model's rows: at 0.5 and at its own thresholds, gated and not, counted on the original slices."""

from dataclasses import replace

import numpy as np
import pytest

from apatite.calcium.measure import slice_weights_mm, volume_mm3
from apatite.calibrate.interval import IntervalFitConfig, fit_interval
from apatite.io.manifest import read_manifest
from apatite.metrics.betti import betti_error
from apatite.metrics.surface import span_mm, surface_distances
from apatite.segment.predict import open_predictor
from apatite.study.calibrate import CalibrateConfig, calibrate
from apatite.study.cases import predict_cases
from apatite.study.judge import CALIBRATED, judge


@pytest.fixture
def predictor(tuned, sees_hu):
    return open_predictor(tuned)


def test_every_row_by_hand(predictor, head_study):
    manifest = read_manifest(head_study.manifest)
    calibration = calibrate(predictor, manifest, manifest.of_split("development"), CalibrateConfig(resamples=20))
    cases = manifest.of_split("test")
    seen = []
    rows = judge("hu", predictor, calibration, manifest, cases, see=seen.append)
    assert list(rows) == ["hu", f"hu{CALIBRATED}"]
    assert [found.case for found in seen] == list(cases)
    for found in predict_cases(predictor, manifest, cases, "looking"):
        is_true = (found.reference == 1) & found.prediction.is_counted
        for title, outcomes in rows.items():
            for reading, gate in (("ungated", None), ("gated", 130.0)):
                threshold = calibration.threshold(1, reading) if title != "hu" else 0.5
                is_calcium = (found.prediction.probability[0] >= threshold) & found.prediction.is_counted
                if gate is not None:
                    is_calcium &= found.scan.voxels_hu >= gate
                (row,) = [o for o in outcomes if o.case_id == found.case.case_id and o.hu_gate == gate]
                assert (row.true_positive, row.false_positive, row.false_negative) == (
                    np.count_nonzero(is_calcium & is_true),
                    np.count_nonzero(is_calcium & ~is_true),
                    np.count_nonzero(is_true & ~is_calcium),
                )
                assert row.predicted_mm3 == pytest.approx(volume_mm3(is_calcium, found.scan.stack))
                assert row.reference_mm3 == pytest.approx(volume_mm3(is_true, found.scan.stack))
                assert row.betti_error == betti_error(is_calcium, is_true)
                apart_mm = surface_distances(is_calcium, is_true, found.scan.stack).percentile_mm()
                if np.isinf(apart_mm):
                    apart_mm = span_mm(found.prediction.is_counted, found.scan.stack)
                assert row.hd95_mm == (None if np.isnan(apart_mm) else pytest.approx(apart_mm))
                assert (row.patient_id, row.vendor) == (found.case.patient_id, found.case.vendor)
                assert (row.soft_mm3 is None) == (title == "hu")
                assert row.low_mm3 is None


def test_without_a_calibration_there_is_one_reading_of_the_model(predictor, head_study):
    manifest = read_manifest(head_study.manifest)
    assert list(judge("hu", predictor, None, manifest, manifest.of_split("test")[:1])) == ["hu"]


def test_what_was_not_looked_for_makes_no_row_and_organs_are_not_gated(predictor, head_study):
    manifest = read_manifest(head_study.manifest)
    names = {1: "liver", 2: "calcium"}
    one, other = manifest.of_split("test")[1:3]
    cases = (replace(one, annotated_labels=(1,)), replace(other, annotated_labels=(1, 2)))
    predictor.card = replace(predictor.card, label_names=names)
    single = predictor.predict_on_grid
    predictor.predict_on_grid = lambda volume: np.concatenate([single(volume), 0.2 * single(volume)])
    rows = judge("hu", predictor, None, replace(manifest, cases=cases, label_names=names), cases)["hu"]
    assert [(row.case_id, row.label, row.hu_gate) for row in rows] == [
        (one.case_id, 1, None),
        (one.case_id, 1, 130.0),
        (other.case_id, 1, None),
        (other.case_id, 2, None),
        (other.case_id, 1, 130.0),
        (other.case_id, 2, 130.0),
    ]
    assert rows[0].predicted_mm3 == rows[1].predicted_mm3 > 0


def calibrated_by_hand(predictor, manifest):
    """A calibration with intervals for slices of 2.5 mm only."""
    found = calibrate(predictor, manifest, manifest.of_split("development"), CalibrateConfig(resamples=20))
    volumes = np.linspace(1.0, 60.0, 12)
    names, thin = [str(n) for n in range(12)], [2.5] * 12
    fit = fit_interval(volumes, 1.3 * volumes, names, thin, IntervalFitConfig())
    steep = replace(found.temperatures[1], slope=0.5, seen_mm=(2.0, 6.0))
    return replace(found, temperatures={1: steep}, intervals={"gated": fit})


def test_soft_volumes_and_intervals_by_hand(predictor, head_study):
    manifest = read_manifest(head_study.manifest)
    calibration = calibrated_by_hand(predictor, manifest)
    one, other = manifest.of_split("test")[1:3]
    cases = (replace(one, slice_thickness_mm=2.5), replace(other, slice_thickness_mm=5.0))
    rows = judge("hu", predictor, calibration, replace(manifest, cases=cases), cases)
    fit = calibration.temperatures[1]
    for found in predict_cases(predictor, manifest, cases, "looking"):
        probability, voxels_hu = found.prediction.probability[0].astype(np.float64), found.scan.voxels_hu
        odds = np.clip(probability, 1e-6, 1 - 1e-6) / (1 - np.clip(probability, 1e-6, 1 - 1e-6))
        temperature = fit.temperature * (found.case.slice_thickness_mm / 3) ** 0.5
        scaled = odds ** (1 / temperature) * np.exp(fit.offset)
        calibrated = scaled / (1 + scaled)
        weights_mm3 = (slice_weights_mm(found.scan.stack) * found.scan.stack.pixel_mm2)[:, None, None]
        for gate, is_part in ((130.0, voxels_hu >= 130), (None, (voxels_hu >= 100) | (probability >= 0.01))):
            (row,) = [o for o in rows[f"hu{CALIBRATED}"] if o.case_id == found.case.case_id and o.hu_gate == gate]
            expected = (calibrated * weights_mm3)[is_part & found.prediction.is_counted].sum()
            assert row.soft_mm3 == pytest.approx(expected, rel=1e-5)
            if gate is None or found.case.slice_thickness_mm == 5.0:
                # No interval was fitted for this reading, or no patient has such slices.
                assert (row.low_mm3, row.high_mm3) == (None, None)
            else:
                at = calibration.intervals["gated"].interval(row.predicted_mm3, 2.5)
                assert (row.low_mm3, row.high_mm3) == (at.low, at.high)
                assert row.low_mm3 < row.predicted_mm3 < row.high_mm3


def test_organs_have_no_interval(predictor, head_study):
    manifest = read_manifest(head_study.manifest)
    calibration = calibrated_by_hand(predictor, manifest)
    names = {1: "liver"}
    predictor.card = replace(predictor.card, label_names=names)
    cases = manifest.of_split("test")[1:2]
    (row,) = judge("hu", predictor, calibration, replace(manifest, label_names=names), cases)[f"hu{CALIBRATED}"]
    assert row.low_mm3 is None
    # No HU tells an organ: only what the model gives at least 1 % is summed.
    (found,) = predict_cases(predictor, manifest, cases, "looking")
    is_part = (found.prediction.probability[0] >= 0.01) & found.prediction.is_counted
    thickness_mm = cases[0].slice_thickness_mm
    calibrated = calibration.temperatures[1].calibrated(found.prediction.probability[0], thickness_mm)
    assert row.soft_mm3 == pytest.approx(volume_mm3(np.where(is_part, calibrated, 0.0), found.scan.stack), rel=1e-6)
