"""Predictions beside their references, one case at a time; what cannot be read is named."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest

from apatite.core.errors import DataError
from apatite.io.manifest import read_manifest
from apatite.io.nifti import read_label, read_scan
from apatite.segment.predict import open_predictor
from apatite.study.cases import predict_cases


@pytest.fixture
def predictor(tuned, sees_hu):
    return open_predictor(tuned)


def test_each_case_with_its_own_reference(predictor, head_study):
    manifest = read_manifest(head_study.manifest)
    cases = manifest.of_split("development")[:3]
    for case, found in zip(cases, predict_cases(predictor, manifest, cases, "looking"), strict=True):
        scan = read_scan(manifest.image_path(case))
        assert found.case == case
        np.testing.assert_array_equal(found.reference, read_label(manifest.label_path(case), scan.stack))
        np.testing.assert_array_equal(found.is_reference(1), found.reference == 1)
        expected = predictor.predict(scan, case.region_centre_ras_mm)
        np.testing.assert_array_equal(found.prediction.probability, expected.probability)
        assert (found.annotated, found.analytic_mm3) == ((1,), None)


def test_the_analytic_volume_is_that_inside_the_region(predictor, head_study, tmp_path):
    manifest = read_manifest(head_study.manifest)
    case = replace(manifest.of_split("test")[0], truth=str(tmp_path / "truth.json"))
    sides = {"left": {"inside": 3.5, "all": 9.0}, "right": {"inside": 1.25, "all": 7.0}}
    (tmp_path / "truth.json").write_text(json.dumps({"analytic_mm3": sides}))
    assert next(predict_cases(predictor, manifest, [case], "looking")).analytic_mm3 == 4.75
    for content in ("{", "{}", '{"analytic_mm3": {"left": 3}}'):
        (tmp_path / "truth.json").write_text(content)
        with pytest.raises(DataError) as caught:
            next(predict_cases(predictor, manifest, [case], "looking"))
        assert caught.value.where == case.case_id


def test_bad_cases_are_named(predictor, head_study, tmp_path):
    manifest = read_manifest(head_study.manifest)
    good, other = manifest.of_split("test")[:2]
    shutil.copy(manifest.image_path(good), tmp_path / "torn.nii.gz")
    (tmp_path / "torn.nii.gz").write_bytes((tmp_path / "torn.nii.gz").read_bytes()[:3000])
    bad = {
        "MISSING_FILE": replace(good, label=""),
        "GRID_MISMATCH": replace(good, label=other.label),
        "TRUNCATED": replace(good, image=str(tmp_path / "torn.nii.gz")),
        "ROI_ABSENT": replace(good, region_centre_ras_mm=(500.0, 0.0, 0.0)),
    }
    for code, case in bad.items():
        with pytest.raises(DataError) as caught:
            list(predict_cases(predictor, manifest, [case], "looking"))
        assert (caught.value.code, caught.value.where) == (code, good.case_id)
        assert caught.value.fix
