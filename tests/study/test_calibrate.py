"""Calibration against volumes counted by brute force, and what it says when there is too little to count."""

from dataclasses import replace

import numpy as np
import pytest

from apatite.calcium.measure import volume_mm3
from apatite.calibrate.calibration import calibration_of
from apatite.calibrate.threshold import THRESHOLDS
from apatite.core.errors import DataError
from apatite.io.manifest import read_manifest
from apatite.io.model_package import copy_calibrated, read_package
from apatite.segment.predict import open_predictor
from apatite.study.calibrate import CalibrateConfig, _curve, calibrate, measure
from apatite.study.cases import predict_cases

QUICK = CalibrateConfig(resamples=50)


@pytest.fixture
def predictor(tuned, sees_hu):
    return open_predictor(tuned)


def development(study):
    manifest = read_manifest(study.manifest)
    return manifest, manifest.of_split("development")


def test_the_curve_is_a_count_on_the_original_slices(predictor, head_study):
    manifest, cases = development(head_study)
    for seen in predict_cases(predictor, manifest, cases[1:4], "looking"):
        # As if the region ended in the middle of the calcium: neither side counts what lies beyond.
        is_counted = seen.prediction.is_counted.copy()
        is_counted[..., int(np.argwhere(seen.reference)[:, 2].mean()) :] = False
        found = replace(seen, prediction=replace(seen.prediction, is_counted=is_counted))
        counted, hu, stack = found.prediction.is_counted, found.scan.voxels_hu, found.scan.stack
        for gate in (None, 130.0):
            curve, reference, patient = _curve(found, 0, 1, gate)
            for at in (20, 90, 150):
                is_calcium = counted & (found.prediction.probability[0].astype(float) >= THRESHOLDS[at])
                if gate is not None:
                    is_calcium &= hu >= 130
                assert curve[at] == pytest.approx(volume_mm3(is_calcium, stack), rel=1e-9)
            assert reference == pytest.approx(volume_mm3((found.reference == 1) & counted, stack), rel=1e-9)
            assert patient == found.case.patient_id


def test_it_brings_the_volumes_nearer_and_survives_the_package(predictor, head_study, tuned, tmp_path):
    manifest, cases = development(head_study)
    found = calibrate(predictor, manifest, cases, QUICK)
    assert (found.num_cases, found.domains, set(found.fits), set(found.fits[1])) == (
        7, ["phantom"], {1}, {"ungated", "gated"},
    )  # fmt: skip
    for fit in found.fits[1].values():
        # 1/2 lies at 300 HU, the rule at 130: the threshold has to fall.
        assert fit.threshold < 0.4
        assert fit.error_after_mm3 < 0.7 * fit.error_before_mm3
        assert fit.num_cases == 7
    volumes = {}
    for threshold in (0.5, found.threshold(1, "ungated")):
        differences = [
            volume_mm3(case.prediction.is_counted & (case.prediction.probability[0] >= threshold), case.scan.stack)
            - volume_mm3((case.reference == 1) & case.prediction.is_counted, case.scan.stack)
            for case in predict_cases(predictor, manifest, cases, "looking")
        ]
        volumes[threshold] = float(np.mean(np.abs(differences)))
    fit = found.fits[1]["ungated"]
    assert volumes == pytest.approx({0.5: fit.error_before_mm3, fit.threshold: fit.error_after_mm3}, rel=1e-6)
    assert set(found.burden) == {"ungated", "gated"}
    copy_calibrated(tuned / "model", tmp_path / "copy", found.to_dict(), found.domains, found.burden_dict())
    card = read_package(tmp_path / "copy").card
    assert calibration_of(card.calibration, card.burden, card.domains["calibration"]) == found
    assert read_package(tuned / "model").card.calibration is None


def test_empty_cases_are_left_out_when_asked(predictor, head_study):
    manifest, cases = development(head_study)
    found = calibrate(predictor, manifest, cases, replace(QUICK, drop_empty_cases=True))
    assert found.fits[1]["ungated"].num_cases == 6


def test_too_few_cases(predictor, head_study):
    manifest, cases = development(head_study)
    with pytest.raises(DataError) as caught:
        calibrate(predictor, manifest, cases[:4], QUICK)
    assert caught.value.code == "TOO_FEW_CASES"
    assert caught.value.fix
    with pytest.raises(DataError) as caught:
        calibrate(predictor, manifest, (), QUICK)
    assert caught.value.code == "EMPTY_SPLIT"
    # A label that was looked for in too few cases is left at 0.5; the other one is calibrated.
    names = {1: "calcium", 2: "liver"}
    few = tuple(replace(case, annotated_labels=(1, 2) if n < 3 else (1,)) for n, case in enumerate(cases))
    predictor.card = replace(predictor.card, label_names=names)
    predictor.predict_on_grid = both_planes(predictor.predict_on_grid)
    found = calibrate(predictor, replace(manifest, cases=few, label_names=names), few, QUICK)
    assert set(found.fits) == {1}
    assert found.threshold(2, "gated") == 0.5


def both_planes(predict_on_grid):
    return lambda volume: np.repeat(predict_on_grid(volume), 2, axis=0)


def test_only_calcium_is_gated(predictor, head_study):
    manifest, cases = development(head_study)
    names = {1: "liver", 2: "calcium"}
    predictor.card = replace(predictor.card, label_names=names)
    predictor.predict_on_grid = both_planes(predictor.predict_on_grid)
    curves = measure(predictor, replace(manifest, label_names=names), cases).curves
    np.testing.assert_array_equal(curves[1, "gated"].curves_mm3, curves[1, "ungated"].curves_mm3)
    lowest = {reading: curves[2, reading].curves_mm3[:, 0].sum() for reading in ("gated", "ungated")}
    assert lowest["gated"] < lowest["ungated"]
    found = calibrate(predictor, replace(manifest, label_names=names), cases, QUICK)
    assert found.fits[1]["gated"] == found.fits[1]["ungated"]


def test_without_detectable_volumes_there_are_no_groups(predictor, head_study):
    manifest, cases = development(head_study)
    positive = [case for case in cases if case.case_id != "head-09"]
    empty = next(case for case in cases if case.case_id == "head-09")
    alone = tuple(
        replace(empty, case_id=f"empty-{n}", patient_id=f"empty-{n}") for n in range(3)
    )  # three cases without, three with calcium
    found = calibrate(predictor, manifest, (*positive[:3], *alone), QUICK)
    assert found.burden == {}
    assert set(found.fits[1]) == {"ungated", "gated"}
