"""A model's rows: at 0.5 and at its own thresholds, gated and not, counted on the original slices."""

from dataclasses import replace

import numpy as np
import pytest

from apatite.calcium.measure import volume_mm3
from apatite.io.manifest import read_manifest
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
                assert (row.patient_id, row.vendor) == (found.case.patient_id, found.case.vendor)


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
